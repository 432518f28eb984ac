"""Left and right of an atlas, told by where its voxels lie and never by its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from imgwas.brain.atlas_tables import split_side
from imgwas.checks import duplicates
from imgwas.errors import InconsistentError, explain
from imgwas.shapes import Float64

#: A region lies on one side if at least this share of its voxels does.
ONE_SIDE = 0.9
#: A region further than this, in mm, from the middle lies clearly on one side.
CLEARLY = 2.0


@dataclass(frozen=True)
class Places:
    """Where each number lies: centre in mm, voxels, and share of voxels left of ``middle``."""

    numbers: tuple[int, ...]
    centres: Float64[np.ndarray, "regions 3"]
    left: Float64[np.ndarray, " regions"]
    middle: float

    def side(self, i: int) -> str:
        """``L``, ``R``, or an empty string where a region lies on both sides."""
        if self.left[i] >= ONE_SIDE:
            return "L"
        return "R" if self.left[i] <= 1 - ONE_SIDE else ""


def find_places(labels: np.ndarray, affine: np.ndarray, named: Mapping[int, str]) -> Places:
    """Look where each number's voxels lie, in RAS+ mm."""
    numbers = tuple(sorted(named))
    where = np.nonzero(labels)
    codes = np.searchsorted(numbers, labels[where])
    n = np.bincount(codes, minlength=len(numbers))
    index = [np.bincount(codes, axis, len(numbers)) / n for axis in where]
    centres = np.stack(index, axis=1) @ affine[:3, :3].T + affine[:3, 3]
    by_stem = _pairs(named)
    at = {number: i for i, number in enumerate(numbers)}
    mids = [centres[[at[a], at[b]], 0].mean() for a, b in by_stem]
    middle = float(np.median(mids)) if len(mids) >= 3 else 0.0
    x = affine[0, 3] + sum(affine[0, k] * where[k] for k in range(3))
    left = np.bincount(codes, x < middle, len(numbers)) / n
    return Places(numbers, centres, left, middle)


def _pairs(named: Mapping[int, str]) -> list[tuple[int, int]]:
    """(left, right) numbers of regions whose names differ by the side alone."""
    found: dict[str, dict[str, list[int]]] = {}
    for number, name in named.items():
        stem, side = split_side(name)
        found.setdefault(stem.lower(), {}).setdefault(side, []).append(number)
    sides = [(f.get("L", []), f.get("R", [])) for f in found.values()]
    return [(a[0], b[0]) for a, b in sides if len(a) == 1 and len(b) == 1]


def told_apart(named: dict[int, str], places: Places, source: str) -> dict[int, str]:
    """Give a name that two regions on opposite sides share its side; refuse other repeats."""
    at = {number: i for i, number in enumerate(places.numbers)}
    apart = dict(named)
    for name in duplicates(named.values()):
        numbers = [n for n, text in named.items() if text == name]
        sides = [places.side(at[n]) for n in numbers]
        if sorted(sides) != ["L", "R"]:
            raise InconsistentError(
                explain(
                    f"{len(numbers)} regions of {source} are called {name!r} "
                    f"(numbers {first_numbers(numbers)})",
                    expected="Names must be unique, or shared by one region left and one right",
                    do="Correct the table of names",
                )
            )
        apart |= {n: f"{name}_{side}" for n, side in zip(numbers, sides, strict=True)}
    return apart


def find_sides(named: Mapping[int, str], places: Places, source: str) -> dict[int, str]:
    """Side of each region by its voxels; names that say otherwise are refused."""
    at = {number: i for i, number in enumerate(places.numbers)}
    x = places.centres[:, 0]
    sides = {n: places.side(i) for n, i in at.items()}
    wrong: list[int] = []
    said = 0
    pairs = _pairs(named)
    for left, right in pairs:
        said += 2
        if x[at[left]] >= x[at[right]]:
            wrong += [left, right]
        sides[left], sides[right] = "L", "R"
    alone = set(named) - {n for pair in pairs for n in pair}
    for number in sorted(alone):
        side = split_side(named[number])[1]
        off = x[at[number]] - places.middle
        if side and (pairs or _spelled_out(named[number])) and abs(off) > CLEARLY:
            said += 1
            if side != ("L" if off < 0 else "R"):
                wrong.append(number)
    if wrong:
        raise _flipped(wrong, said, named, source)
    return sides


def _spelled_out(name: str) -> bool:
    return any(word in name.lower() for word in ("left", "right", "lh", "rh"))


def _flipped(
    wrong: list[int], said: int, named: Mapping[int, str], source: str
) -> InconsistentError:
    names = ", ".join(named[n] for n in wrong[:3])
    what = (
        f"{len(wrong):,} of the {said:,} regions of {source} whose names say left or right lie on "
        f"the other side (first: {names})"
    )
    if 2 * len(wrong) > said:
        expected = "The image is flipped: in RAS+ millimetres x grows to the right"
        do = "Get the atlas anew, or correct its affine; do not swap the names"
    else:
        expected, do = "Names and voxels must agree", "Correct these names in the table"
    return InconsistentError(explain(what, expected=expected, do=do))


def first_numbers(numbers: list[int]) -> str:
    """The first three of a list of region numbers."""
    return ", ".join(map(str, numbers[:3])) + (", ..." if len(numbers) > 3 else "")
