"""Genome-wide association of imaging latents.

``open_images`` -> ``fit`` -> ``encode_images`` -> ``open_genotypes`` -> ``read_latents`` ->
``read_covariates`` -> ``associate`` -> ``open_sumstats``.
Names are looked up on first use, so that importing imgwas is instant.
"""

from __future__ import annotations

import importlib
from typing import Any

from imgwas._version import __version__

#: public name -> module that defines it
_PUBLIC = {
    "ArrayImages": "imgwas.images.volumes",
    "Atlas": "imgwas.types",
    "BrainMap": "imgwas.types",
    "Catalogue": "imgwas.genetics.novelty",
    "Covariates": "imgwas.types",
    "FineMapping": "imgwas.genetics.finemapping",
    "Genes": "imgwas.genetics.genes",
    "Genotypes": "imgwas.types",
    "ImageList": "imgwas.images.listing",
    "Images": "imgwas.types",
    "ImgwasError": "imgwas.errors",
    "Latents": "imgwas.types",
    "LdSettings": "imgwas.genetics.ld",
    "Loci": "imgwas.genetics.loci_table",
    "Recipe": "imgwas.images.recipe",
    "SumStats": "imgwas.sumstats",
    "TrainSettings": "imgwas.encoders.train_settings",
    "VariantFilters": "imgwas.genotypes",
    "associate": "imgwas.association",
    "build_cache": "imgwas.images.cache",
    "check_scan": "imgwas.association",
    "compare_seeds": "imgwas.consensus",
    "condition_loci": "imgwas.genetics.conditional",
    "covariates_from_frame": "imgwas.tables",
    "create_encoder": "imgwas.encoders.catalogue",
    "encode_images": "imgwas.encoders.encoding",
    "export": "imgwas.sumstats",
    "find_images": "imgwas.images.sources",
    "find_loci": "imgwas.genetics.loci",
    "fine_map_loci": "imgwas.genetics.finemapping",
    "fit": "imgwas.encoders.fitting",
    "fit_folds": "imgwas.encoders.folds",
    "from_pandas_plink": "imgwas.genotypes",
    "latents_from_frame": "imgwas.tables",
    "load_encoder": "imgwas.encoders.checkpoints",
    "local_cluster": "imgwas.cluster",
    "neg_log10_p_value": "imgwas.sumstats",
    "mostest": "imgwas.sumstats.mostest",
    "omnibus": "imgwas.sumstats.omnibus_table",
    "omnibus_from_tables": "imgwas.sumstats.joint_tables",
    "open_genotypes": "imgwas.genotypes",
    "open_images": "imgwas.images.volumes",
    "open_sumstats": "imgwas.sumstats",
    "permute_latents": "imgwas.association.permutation",
    "permute_omnibus": "imgwas.association.permutation",
    "predict_targets": "imgwas.prediction",
    "prepare_images": "imgwas.images.prepare",
    "rank_normalize": "imgwas.latents",
    "read_atlas": "imgwas.brain.atlas",
    "read_catalogue": "imgwas.genetics.novelty",
    "read_covariates": "imgwas.tables",
    "read_genes": "imgwas.genetics.genes",
    "read_latents": "imgwas.tables",
    "read_loci": "imgwas.genetics.refine",
    "read_phenotypes": "imgwas.tables",
    "region_table": "imgwas.brain.regions",
    "select": "imgwas.association",
    "simulate_brains": "imgwas.simulate.brains",
    "simulate_cohort": "imgwas.simulate",
    "simulate_hearts": "imgwas.simulate",
    "simulate_image_arrays": "imgwas.simulate",
    "simulate_images": "imgwas.simulate",
    "study_wide_threshold": "imgwas.sumstats.effective_tests",
    "transform_latents": "imgwas.latents",
    "two_level_fdr": "imgwas.sumstats.two_level",
    "variance_explained": "imgwas.latents",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'imgwas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
