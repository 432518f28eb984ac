"""Hits back to anatomy: decoder perturbations, effect maps of variants, and region scores."""
