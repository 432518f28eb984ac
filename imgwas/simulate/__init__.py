"""Simulated cohorts that know their truth."""

from imgwas.simulate.cohort import Cohort, simulate_cohort
from imgwas.simulate.effects import PlantedEffect, read_effects
from imgwas.simulate.genotypes import GenotypeModel, HaplotypeSource
from imgwas.simulate.heart import draw_heart
from imgwas.simulate.heart_images import simulate_hearts
from imgwas.simulate.images import (
    ImageArrays,
    ImageCohort,
    simulate_image_arrays,
    simulate_images,
)
from imgwas.simulate.rendering import ImageModel
from imgwas.simulate.template import BrainTemplate, builtin_template, make_template, read_template

__all__ = [
    "BrainTemplate",
    "Cohort",
    "GenotypeModel",
    "HaplotypeSource",
    "ImageArrays",
    "ImageCohort",
    "ImageModel",
    "PlantedEffect",
    "builtin_template",
    "draw_heart",
    "make_template",
    "read_effects",
    "read_template",
    "simulate_cohort",
    "simulate_hearts",
    "simulate_image_arrays",
    "simulate_images",
]
