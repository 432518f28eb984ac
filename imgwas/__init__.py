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
    "Decoder": "imgwas.brain.decoding",
    "Direction": "imgwas.brain.directions",
    "EffectMap": "imgwas.brain.mapping",
    "FineMapping": "imgwas.genetics.finemapping",
    "Genes": "imgwas.genetics.genes",
    "GeneticCovariance": "imgwas.genetics.heritability",
    "GenotypeComponents": "imgwas.genetics.components",
    "GenotypeQuality": "imgwas.genetics.quality",
    "Genotypes": "imgwas.types",
    "ImageList": "imgwas.images.listing",
    "Images": "imgwas.types",
    "ImgwasError": "imgwas.errors",
    "Latents": "imgwas.types",
    "LdPruning": "imgwas.genetics.pruning",
    "LdScores": "imgwas.genetics.ld_scores",
    "LdSettings": "imgwas.genetics.ld",
    "Loci": "imgwas.genetics.loci_table",
    "MapSettings": "imgwas.brain.mapping",
    "Mapper": "imgwas.brain.mapping",
    "PolygenicScores": "imgwas.genetics.polygenic",
    "Recipe": "imgwas.images.recipe",
    "SumStats": "imgwas.sumstats",
    "TrainSettings": "imgwas.encoders.train_settings",
    "Trait": "imgwas.traits",
    "VariantFilters": "imgwas.genotypes",
    "apply_scores": "imgwas.genetics.polygenic_apply",
    "associate": "imgwas.association",
    "associate_traits": "imgwas.traits",
    "average_start": "imgwas.brain.traversal",
    "build_cache": "imgwas.images.cache",
    "check_inputs": "imgwas.association.checking",
    "check_scan": "imgwas.association",
    "clump_scores": "imgwas.genetics.polygenic_fit",
    "combine_scores": "imgwas.genetics.polygenic",
    "compare_seeds": "imgwas.consensus",
    "compute_ld_scores": "imgwas.genetics.ld_scores",
    "condition_loci": "imgwas.genetics.conditional",
    "correlate_with": "imgwas.genetics.ldsc",
    "covariates_from_frame": "imgwas.tables",
    "create_encoder": "imgwas.encoders.catalogue",
    "define_cases": "imgwas.traits",
    "encode_images": "imgwas.encoders.encoding",
    "estimate_greml": "imgwas.genetics.greml",
    "estimate_heritability": "imgwas.genetics.heritability",
    "estimate_ldsc": "imgwas.genetics.ldsc",
    "evaluate_scores": "imgwas.traits",
    "export": "imgwas.sumstats",
    "find_images": "imgwas.images.sources",
    "find_interactions": "imgwas.genetics.interaction",
    "find_loci": "imgwas.genetics.loci",
    "fine_map_loci": "imgwas.genetics.finemapping",
    "fit": "imgwas.encoders.fitting",
    "fit_folds": "imgwas.encoders.folds",
    "follow_up": "imgwas.traits",
    "from_pandas_plink": "imgwas.genotypes",
    "genotype_components": "imgwas.genetics.components",
    "genotype_quality": "imgwas.genetics.quality",
    "harmonise_alleles": "imgwas.genetics.harmonise",
    "heritability_of_scan": "imgwas.genetics.scanned",
    "latents_from_frame": "imgwas.tables",
    "load_encoder": "imgwas.encoders.checkpoints",
    "local_cluster": "imgwas.cluster",
    "map_to_brain": "imgwas.brain.to_brain",
    "measure_heart": "imgwas.brain.heart_function",
    "mostest": "imgwas.sumstats.mostest",
    "neg_log10_p_value": "imgwas.sumstats",
    "omnibus": "imgwas.sumstats.omnibus_table",
    "omnibus_from_tables": "imgwas.sumstats.joint_tables",
    "open_genotypes": "imgwas.genotypes",
    "open_images": "imgwas.images.volumes",
    "open_sumstats": "imgwas.sumstats",
    "permute_latents": "imgwas.association.permutation",
    "permute_omnibus": "imgwas.association.permutation",
    "perturb_latents": "imgwas.brain.perturb",
    "plan": "imgwas.association.planning",
    "predict_targets": "imgwas.prediction",
    "prepare_images": "imgwas.images.prepare",
    "project_components": "imgwas.genetics.component_files",
    "prune_variants": "imgwas.genetics.pruning",
    "rank_normalize": "imgwas.latents",
    "read_atlas": "imgwas.brain.atlas",
    "read_catalogue": "imgwas.genetics.novelty",
    "read_covariates": "imgwas.tables",
    "read_genes": "imgwas.genetics.genes",
    "read_latents": "imgwas.tables",
    "read_ld_scores": "imgwas.genetics.ld_scores",
    "read_loadings": "imgwas.genetics.component_files",
    "read_loci": "imgwas.genetics.refine",
    "read_phenotypes": "imgwas.tables",
    "read_scores": "imgwas.genetics.polygenic_files",
    "read_statistics": "imgwas.genetics.external",
    "read_traits": "imgwas.traits",
    "region_table": "imgwas.brain.regions",
    "regression_direction": "imgwas.brain.directions",
    "replicate": "imgwas.genetics.replication",
    "ridge_scores": "imgwas.genetics.polygenic_fit",
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
    "walk_along": "imgwas.brain.traversal",
    "write_components": "imgwas.genetics.component_files",
    "write_heritability": "imgwas.genetics.heritability_files",
    "write_ld_scores": "imgwas.genetics.ld_scores",
    "write_pgs_catalog": "imgwas.genetics.polygenic_files",
    "write_report": "imgwas.report",
    "write_scores": "imgwas.genetics.polygenic_files",
    "write_traversals": "imgwas.report.traverse",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'imgwas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
