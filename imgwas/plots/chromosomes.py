"""Chromosomes by name: X, XY and 23 are one, contigs keep their own, and 10 comes after 9."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgwas.sumstats.effects import chromosome_code

if TYPE_CHECKING:
    import pandas as pd

_NAMES = {0: "other", 23: "X", 24: "Y", 25: "MT"}
#: Where more contigs than this occur, they are drawn together as "other".
MOST_CONTIGS = 40


def chromosome_name(value: str | float) -> str:
    """Name of a chromosome, however it is written: 23, ``"23"``, ``chrX``, ``XY`` are ``X``."""
    code = chromosome_code(value) if isinstance(value, str) else int(value)
    if code:
        return _NAMES.get(code, str(code))
    return str(value) if isinstance(value, str) and value not in ("0", "") else "other"


def chromosome_numbers(
    columns: Sequence[pd.Series],
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Number the chromosomes of several tables together, in the order of the genome.

    Parameters
    ----------
    columns : sequence of Series
        Names, or GWAS-SSF numbers (X is 23, Y 24, MT 25, any contig 0).

    Returns
    -------
    list of (rows,) int16 array
        The number of each row's chromosome.
    tuple of str
        Names by number: 1 to 22, X, Y, MT, then contigs; ``2L`` follows ``2``.
    """
    import pandas as pd

    factors = []
    for column in columns:
        codes, values = pd.factorize(column, use_na_sentinel=False)
        named = ["other" if pd.isna(v) else chromosome_name(v) for v in values.tolist()]
        factors.append((codes, named))
    found = {name for _, named in factors for name in named}
    contigs = {name for name in found if not chromosome_code(name)}
    pooled = contigs if len(contigs) > MOST_CONTIGS else set()
    names = tuple(sorted(found - pooled | ({"other"} if pooled else set()), key=_genome_order))
    number = {name: i for i, name in enumerate(names)}
    numbers = []
    for codes, named in factors:
        table = [number["other" if name in pooled else name] for name in named]
        numbers.append(np.array(table, np.int16)[codes])
    return numbers, names


def _genome_order(name: str) -> tuple[float, int, list[tuple[int, str]]]:
    """Numbers by value, X, Y and MT after them, contigs by the number they begin with, others."""
    if name == "other":
        return np.inf, 0, []
    begins = re.match(r"(?:chr)?(\d+)", name, re.IGNORECASE)
    code = chromosome_code(name)
    first = float(code or (int(begins[1]) if begins else 1e6))
    pieces = re.findall(r"(\d+)|(\D+)", name)
    return first, int(not code), [(int(digits or 0), text) for digits, text in pieces]
