"""The result store of a scan, and its exports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from imgwas.sumstats.pvalues import neg_log10_p_value, p_value_text, t_from_neg_log10_p
from imgwas.sumstats.reasons import REASONS
from imgwas.sumstats.store import SumStats, open_sumstats

if TYPE_CHECKING:
    from imgwas.sumstats.exports import Exported, export
    from imgwas.sumstats.gwas_ssf import validate_gwas_ssf

__all__ = [
    "REASONS",
    "Exported",
    "SumStats",
    "export",
    "neg_log10_p_value",
    "open_sumstats",
    "p_value_text",
    "t_from_neg_log10_p",
    "validate_gwas_ssf",
]

#: names that a scan does not need, and where they are
_LATER = {"Exported": "exports", "export": "exports", "validate_gwas_ssf": "gwas_ssf"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
