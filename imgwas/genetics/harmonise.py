"""Putting the effects of two tables on the same allele, and counting what happened to each variant.

Variants are found by id, or by chromosome and position. Alleles then decide the sign::

    ours  theirs   what                sign
    A/G   A/G      same                 +
    A/G   G/A      swapped              -
    A/G   T/C      strand               +      the other strand of the helix
    A/G   C/T      strand, swapped      -
    A/T   any      palindromic          by allele frequency, and dropped above 0.42
    A/G   A/C      other alleles        dropped
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import InconsistentError, explain
from imgwas.shapes import Float64, Int64

#: A palindromic variant whose rarer allele is more frequent than this is dropped: its frequency
#: does not tell the strand.
AMBIGUOUS_MAF = 0.42
#: With positions as ids, more variants than this with other alleles mean another genome build.
OTHER_ALLELES = 0.2

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


@dataclass(frozen=True)
class VariantTable:
    """Identity of variants, one row each.

    Parameters
    ----------
    variant_id, effect_allele, other_allele : sequence of str
        Names and alleles.
    chromosome : sequence of str, optional
        Without ``chr``.
    position : (variants,) int array, optional
        1-based.
    frequency : (variants,) float array, optional
        Of the effect allele; NaN where unknown.
    genome_build : str, optional
        Such as GRCh37.
    """

    variant_id: Sequence[str]
    effect_allele: Sequence[str]
    other_allele: Sequence[str]
    chromosome: Sequence[str] | None = None
    position: Int64[np.ndarray, " variants"] | None = None
    frequency: Float64[np.ndarray, " variants"] | None = None
    genome_build: str | None = None

    def __len__(self) -> int:
        return len(self.variant_id)

    def keys(self, by: str) -> list[str]:
        """Ids, or chromosome:position; the empty key is found nowhere."""
        if by == "id":
            return ["" if one in (".", "") else one for one in self.variant_id]
        if self.chromosome is None or self.position is None:
            return [""] * len(self)
        names = [bare_chromosome(one) for one in self.chromosome]
        return [f"{c}:{p}" if p > 0 else "" for c, p in zip(names, self.position, strict=True)]


@dataclass(frozen=True)
class Harmonised:
    """Pairs of variants on the same allele.

    Parameters
    ----------
    ours, theirs : (pairs,) int array
        Rows of the two tables, ``ours`` increasing.
    sign : (pairs,) float array
        What their effect is multiplied with to be one of our effect allele.
    counts : dict
        How many of our variants were ``same``, ``swapped``, ``strand``, ``strand_swapped``,
        ``palindromic_same``, ``palindromic_swapped``, ``palindromic_dropped``, ``other_alleles``,
        ``duplicated``, ``not_found``.
    by : str
        How they were found, ``id`` or ``position``.
    """

    ours: Int64[np.ndarray, " pairs"]
    theirs: Int64[np.ndarray, " pairs"]
    sign: Float64[np.ndarray, " pairs"]
    counts: dict[str, int] = field(default_factory=dict)
    by: str = "id"


def harmonise_alleles(
    ours: VariantTable, theirs: VariantTable, *, by: str = "auto", names: tuple[str, str] = ("", "")
) -> Harmonised:
    """Find the variants of one table in another, and the sign that puts effects on our allele.

    Parameters
    ----------
    ours, theirs : VariantTable
        Two tables; signs refer to the effect allele of ``ours``.
    by : {"auto", "id", "position"}
        ``auto`` takes whichever finds more.
    names : (str, str)
        What to call the two in messages.

    Returns
    -------
    Harmonised
        An id that occurs twice in either table is left out, so is a palindromic variant without
        frequencies or with a minor allele frequency above 0.42 in either.

    Raises
    ------
    InconsistentError
        If no variant is in both, the genome builds differ, or the alleles show that they do.
    """
    check_option("by", by, ["auto", "id", "position"])
    ours_name, theirs_name = names[0] or "the first table", names[1] or "the second table"
    ways = ("id", "position") if by == "auto" else (by,)
    found = {way: _find(ours.keys(way), theirs.keys(way)) for way in ways}
    best = max(ways, key=lambda way: int((found[way][0] >= 0).sum()))
    row, n_duplicated = found[best]
    if not (row >= 0).any():
        raise InconsistentError(_no_overlap(ours, theirs, ours_name, theirs_name))
    if best == "position":
        _check_builds(ours, theirs, ours_name, theirs_name)
    sign, counts = _signs(ours, theirs, row)
    counts |= {"duplicated": n_duplicated, "not_found": int((row < 0).sum()) - n_duplicated}
    n_found = int((row >= 0).sum())
    if best == "position" and counts["other_alleles"] > OTHER_ALLELES * n_found:
        raise InconsistentError(
            explain(
                f"{counts['other_alleles']:,} of {n_found:,} variants at the same position have "
                f"other alleles in {theirs_name}",
                expected="Positions of one genome build",
                do=f"Bring {theirs_name} to the build of {ours_name}, or match by rs number",
            )
        )
    keep = np.flatnonzero(sign != 0)
    if not len(keep):
        raise InconsistentError(
            explain(
                f"none of the {n_found:,} variants found in both has alleles that agree",
                where=", ".join(f"{name} {n:,}" for name, n in counts.items() if n),
                do=f"Check which columns of {theirs_name} hold the alleles",
            )
        )
    return Harmonised(keep, row[keep], sign[keep], counts, best)


def bare_chromosome(name: str) -> str:
    """Write a chromosome as ``1`` ... ``22``, ``X``, ``Y``, ``MT``."""
    bare = name[3:] if name.lower().startswith("chr") else name
    bare = bare.removesuffix(".0").lstrip("0").upper()
    return {"23": "X", "24": "Y", "25": "XY", "26": "MT", "M": "MT"}.get(bare, bare)


def _find(ours: list[str], theirs: list[str]) -> tuple[np.ndarray, int]:
    """Row in their table of each of ours, -1 if absent or not unique; how many were not unique."""
    place: dict[str, int] = {}
    twice: set[str] = set()
    for row, key in enumerate(theirs):
        if key in place:
            twice.add(key)
        place[key] = row
    seen: set[str] = set()
    twice_here = {key for key in ours if key in seen or seen.add(key)}  # type: ignore[func-returns-value]
    bad = {key for key in twice | twice_here if key}
    place.pop("", None)
    n_bad = sum(key in bad and key in place for key in ours)
    rows = [-1 if key in bad else place.get(key, -1) for key in ours]
    return np.array(rows, np.int64), n_bad


def _signs(
    ours: VariantTable, theirs: VariantTable, row: np.ndarray
) -> tuple[np.ndarray, dict[str, int]]:
    names = ("same", "swapped", "strand", "strand_swapped", "palindromic_same",
             "palindromic_swapped", "palindromic_dropped", "other_alleles")  # fmt: skip
    counts = dict.fromkeys(names, 0)
    sign = np.zeros(len(row))
    for at in np.flatnonzero(row >= 0):
        there = int(row[at])
        mine = ours.effect_allele[at].upper(), ours.other_allele[at].upper()
        yours = theirs.effect_allele[there].upper(), theirs.other_allele[there].upper()
        what = compare_alleles(mine, yours)
        if what == "palindromic":
            what = _palindromic(_at(ours.frequency, at), _at(theirs.frequency, there))
        counts[what] += 1
        if what not in ("palindromic_dropped", "other_alleles"):
            sign[at] = -1.0 if what.endswith("swapped") else 1.0
    return sign, counts


def compare_alleles(ours: tuple[str, str], theirs: tuple[str, str]) -> str:
    """Say how two pairs of alleles (effect, other) relate, as in the module's table."""
    flipped = theirs[0].translate(_COMPLEMENT), theirs[1].translate(_COMPLEMENT)
    if ours[0].translate(_COMPLEMENT) == ours[1] and set(ours) == set(theirs):
        return "palindromic"
    if ours == theirs:
        return "same"
    if ours == theirs[::-1]:
        return "swapped"
    if ours == flipped:
        return "strand"
    return "strand_swapped" if ours == flipped[::-1] else "other_alleles"


def _at(values: np.ndarray | None, row: int) -> float:
    return float("nan") if values is None else float(values[row])


def _palindromic(ours: float, theirs: float) -> str:
    """Decide by frequency: alleles on the same side of one half are the same allele."""
    if not max(min(ours, 1 - ours), min(theirs, 1 - theirs)) <= AMBIGUOUS_MAF:
        return "palindromic_dropped"
    if np.isnan(ours) or np.isnan(theirs):
        return "palindromic_dropped"
    return "palindromic_same" if (ours < 0.5) == (theirs < 0.5) else "palindromic_swapped"


def _check_builds(
    ours: VariantTable, theirs: VariantTable, ours_name: str, theirs_name: str
) -> None:
    builds = ours.genome_build, theirs.genome_build
    if None not in builds and builds[0] != builds[1]:
        raise InconsistentError(
            explain(
                f"{ours_name} has positions of {builds[0]} and {theirs_name} of {builds[1]}",
                expected="Positions of one genome build",
                do="Lift one of them over, or match by rs number",
            )
        )


def _no_overlap(ours: VariantTable, theirs: VariantTable, ours_name: str, theirs_name: str) -> str:
    def first(table: VariantTable) -> str:
        three = list(table.variant_id[:3])
        if table.chromosome is None or table.position is None:
            return ", ".join(three)
        places = zip(three, table.chromosome, table.position, strict=False)
        return ", ".join(f"{one} at {c}:{p}" for one, c, p in places)

    return explain(
        f"none of the {len(ours):,} variants of {ours_name} is in {theirs_name}, neither by id nor "
        "by position",
        where=f"{ours_name} begins with {first(ours)}; {theirs_name} with {first(theirs)}",
        do="Give both the same kind of id (imgwas export --rsid-map names rs numbers), or "
        "positions of one genome build",
    )
