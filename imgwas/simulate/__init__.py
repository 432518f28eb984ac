"""Simulated cohorts that know their truth."""
