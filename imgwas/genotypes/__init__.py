"""Rack of genotype formats: ``open_genotypes`` and ``READERS``."""
