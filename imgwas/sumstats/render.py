"""One latent in one block as text: which rows have a line, and the lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from imgwas.arrow import to_numpy
from imgwas.sumstats import bgzf
from imgwas.sumstats.formats import Format
from imgwas.sumstats.reasons import REASONS
from imgwas.sumstats.store import SumStats
from imgwas.sumstats.text import StatisticText, VariantText, lines

_NOT_STRICT = "ALLELES_OR_CHROMOSOME_NOT_IN_FORMAT"
_NO_ERROR = "NO_STANDARD_ERROR"
_NO_RSID = "NO_RS_NUMBER"


@dataclass(frozen=True)
class Piece:
    """Text of one latent in one block."""

    content: bytes | memoryview
    n_rows: int
    n_read: int
    left_out: dict[str, int]


@dataclass(frozen=True)
class Render:
    """A piece of work: one latent in one block."""

    sumstats: SumStats
    layout: Format
    block: pa.Table
    variants: VariantText
    latent: str
    compress: bool

    def __call__(self) -> Piece:
        """Make the text; runs in any thread."""
        group = self.sumstats.entry(self.latent).group
        effects = self.sumstats.effects(self.block, self.latent)
        reason = to_numpy(self.block[f"reason.{group}"])
        rows, left_out = self._choose(reason, effects.standard_error)
        n_rows = int(rows.sum())
        if not n_rows:
            return Piece(b"", 0, len(reason), left_out)
        statistics = StatisticText(
            effects,
            {
                "n": to_numpy(self.block[f"n.{group}"]),
                "frequency": to_numpy(self.block[f"effect_allele_frequency.{group}"]),
                "reason": reason,
            },
            rows=None if n_rows == len(rows) else rows,
            missing=self.layout.missing,
            is_single=self.sumstats.metadata["settings"].get("precision") != "double",
        )
        text = lines(self.variants, statistics, self.layout)
        content = bgzf.compress(text) if self.compress else text
        return Piece(content, n_rows, len(reason), left_out)

    def _choose(
        self, reason: np.ndarray, standard_error: np.ndarray
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Rows to write, and why the others are left out."""
        if self.layout.keeps_untested:
            return np.ones(len(reason), bool), {}
        tested = reason == 0
        codes, numbers = np.unique(reason[~tested], return_counts=True)
        left_out = {REASONS[c]: n for c, n in zip(codes.tolist(), numbers.tolist(), strict=True)}
        rows = tested & np.isfinite(standard_error)
        left_out[_NO_ERROR] = int(tested.sum() - rows.sum())
        if self.layout.is_strict:
            legal = rows & self.variants.is_strict
            left_out[_NOT_STRICT] = int(rows.sum() - legal.sum())
            rows = legal
        if self.layout.needs_rsid:
            named = rows & to_numpy(self.variants.rsids.is_valid())
            left_out[_NO_RSID] = int(rows.sum() - named.sum())
            rows = named
        return rows, left_out
