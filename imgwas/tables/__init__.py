"""Phenotype, latent and covariate tables by sample id, and lists of ids."""

from imgwas.tables.covariates import covariates_from_frame, read_covariates
from imgwas.tables.id_lists import IdList, read_id_list
from imgwas.tables.latents import latents_from_frame, read_latents, read_phenotypes

__all__ = [
    "IdList",
    "covariates_from_frame",
    "latents_from_frame",
    "read_covariates",
    "read_id_list",
    "read_latents",
    "read_phenotypes",
]
