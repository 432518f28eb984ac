"""Simulated cohorts that know their truth."""

from imgwas.simulate.cohort import Cohort, simulate_cohort
from imgwas.simulate.genotypes import GenotypeModel, HaplotypeSource

__all__ = ["Cohort", "GenotypeModel", "HaplotypeSource", "simulate_cohort"]
