"""Genome-wide association of imaging latents.

``open_genotypes`` -> ``read_latents`` -> ``read_covariates`` -> ``associate`` -> ``open_sumstats``.
Names are looked up on first use, so that importing imgwas is instant.
"""

from __future__ import annotations

import importlib
from typing import Any

from imgwas._version import __version__

#: public name -> module that defines it
_PUBLIC = {
    "Covariates": "imgwas.types",
    "Genotypes": "imgwas.types",
    "ImgwasError": "imgwas.errors",
    "Latents": "imgwas.types",
    "SumStats": "imgwas.sumstats",
    "VariantFilters": "imgwas.genotypes",
    "associate": "imgwas.association",
    "check_scan": "imgwas.association",
    "covariates_from_frame": "imgwas.tables",
    "export": "imgwas.sumstats",
    "from_pandas_plink": "imgwas.genotypes",
    "latents_from_frame": "imgwas.tables",
    "local_cluster": "imgwas.cluster",
    "neg_log10_p_value": "imgwas.sumstats",
    "open_genotypes": "imgwas.genotypes",
    "open_sumstats": "imgwas.sumstats",
    "rank_normalize": "imgwas.latents",
    "read_covariates": "imgwas.tables",
    "read_latents": "imgwas.tables",
    "read_phenotypes": "imgwas.tables",
    "select": "imgwas.association",
    "simulate_cohort": "imgwas.simulate",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'imgwas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
