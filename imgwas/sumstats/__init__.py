"""The result store of a scan, and its exports."""

from imgwas.sumstats.pvalues import neg_log10_p_value, p_value_text, t_from_neg_log10_p
from imgwas.sumstats.reasons import REASONS
from imgwas.sumstats.store import SumStats, open_sumstats

__all__ = [
    "REASONS",
    "SumStats",
    "neg_log10_p_value",
    "open_sumstats",
    "p_value_text",
    "t_from_neg_log10_p",
]
