"""Scores of regions: what a map does inside each region of an atlas.

All regions are scored at once, so that 150 regions of a million voxels take about as long as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain.atlas_tables import split_side
from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain
from imgwas.images.space import Space, check_space
from imgwas.shapes import Bool, Float, Float64, Int32, Int64
from imgwas.types import Atlas, BrainMap

if TYPE_CHECKING:
    import pandas as pd

#: The share of voxels that counts as the top, and the scores that earn stars (UDIP-FA).
TOP = 0.01
STARS = ((0.10, "***"), (0.05, "**"), (0.02, "*"))


class RegionScorer:
    """Scores of all regions of an atlas, for many maps at once.

    Regions without a voxel in the mask get NaN.

    Parameters
    ----------
    atlas : Atlas
        On the grid of the maps.
    mask : (x, y, z) bool array
        Voxels that the maps hold, in the order of ``values[mask]``.

    Attributes
    ----------
    numbers : tuple of int
        Region of each column, ascending.
    n_voxels : (regions,) int array
        Voxels of each region in the mask.

    Raises
    ------
    InconsistentError
        If atlas and mask have different grids, or no region has a voxel in the mask.
    """

    def __init__(self, atlas: Atlas, mask: Bool[np.ndarray, " *grid"]) -> None:
        if atlas.grid != mask.shape:
            found, wanted = ("x".join(map(str, g)) for g in (atlas.grid, mask.shape))
            raise InconsistentError(
                explain(
                    f"the atlas has the grid {found} and the mask {wanted}",
                    do="Read the atlas with space=map",
                )
            )
        self.numbers = atlas.numbers
        labels = atlas.labels[mask]
        at = np.searchsorted(self.numbers, labels)
        at = np.minimum(at, len(self.numbers) - 1)
        known = np.asarray(self.numbers)[at] == labels
        #: column of each voxel, -1 outside every region
        self.column: Int32[np.ndarray, " voxels"] = np.where(known, at, -1).astype(np.int32)
        inside = np.flatnonzero(known)
        self.n_voxels: Int64[np.ndarray, " regions"] = np.bincount(
            self.column[inside], minlength=len(self.numbers)
        ).astype(np.int64)
        if not len(inside):
            raise InconsistentError(
                explain("no region of the atlas has a voxel in the mask",
                        do="Check that atlas and map are in the same space")
            )  # fmt: skip
        # voxels region by region, and where each region starts
        self._grouped = inside[np.argsort(self.column[inside], kind="stable")]
        self._inside = inside
        self._present = np.flatnonzero(self.n_voxels)
        self._starts = np.concatenate([[0], np.cumsum(self.n_voxels[self._present])[:-1]])

    def mean_signed(
        self, maps: Float[np.ndarray, "maps voxels"]
    ) -> Float64[np.ndarray, "maps regions"]:
        """Mean of each region."""
        return self._each(maps, lambda values: self._mean(values))

    def mean_absolute(
        self, maps: Float[np.ndarray, "maps voxels"]
    ) -> Float64[np.ndarray, "maps regions"]:
        """Mean absolute value of each region."""
        return self._each(maps, lambda values: self._mean(np.abs(values)))

    def ks(self, maps: Float[np.ndarray, "maps voxels"]) -> Float64[np.ndarray, "maps regions"]:
        """Running-sum score of each region, as :func:`ks_running_sum` has it."""
        return self._each(maps, self._ks)

    def top_share(
        self, maps: Float[np.ndarray, "maps voxels"], *, top: float = TOP
    ) -> Float64[np.ndarray, "maps regions"]:
        """Share of each region among the top voxels of the mask, minus ``top``."""
        return self._each(maps, lambda values: self._top_share(values, top))

    def peak(
        self, maps: Float[np.ndarray, "maps voxels"]
    ) -> tuple[Float64[np.ndarray, "maps regions"], Int64[np.ndarray, "maps regions"]]:
        """Value of largest size of each region, signed, and the voxel of the mask it is in.

        Of equal ones the first counts; -1 where a region has no voxel.
        """
        self._check(maps)
        value = np.full((len(maps), len(self.numbers)), np.nan)
        voxel = np.full(value.shape, -1, np.int64)
        for i, row in enumerate(maps):
            size = np.abs(row[self._grouped])
            largest = np.maximum.reduceat(size, self._starts)
            hit = np.flatnonzero(size == np.repeat(largest, self.n_voxels[self._present]))
            first = hit[np.searchsorted(hit, self._starts)]
            voxel[i, self._present] = self._grouped[first]
            value[i, self._present] = row[voxel[i, self._present]]
        return value, voxel

    def _each(
        self, maps: np.ndarray, score: Callable[[np.ndarray], np.ndarray]
    ) -> Float64[np.ndarray, "maps regions"]:
        self._check(maps)
        scores = np.full((len(maps), len(self.numbers)), np.nan)
        for i, row in enumerate(maps):
            scores[i, self._present] = score(row)[self._present]
        return scores

    def _check(self, maps: np.ndarray) -> None:
        if maps.shape[1] != len(self.column):
            raise InconsistentError(
                explain(
                    f"the maps have {maps.shape[1]:,} voxels",
                    expected=f"The mask has {len(self.column):,}",
                    do="Give values[mask]",
                )
            )
        n_bad = maps.size - int(np.isfinite(maps).sum())
        if n_bad:
            raise DegenerateError(
                explain(
                    f"the map holds {n_bad:,} values that are not finite",
                    expected="Every voxel of the mask must have a value",
                    do="Leave such voxels out of the mask",
                )
            )

    def _mean(self, values: np.ndarray) -> np.ndarray:
        total = np.bincount(self.column[self._inside], values[self._inside], len(self.numbers))
        return np.asarray(total / np.maximum(self.n_voxels, 1))

    def _ranks(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns of the labelled voxels, largest first, and the rank at which their ties end."""
        size = np.abs(values[self._inside])
        order = np.argsort(-size, kind="stable")
        size = size[order]
        last = np.append(size[1:] != size[:-1], True)
        ends = np.flatnonzero(last) + 1
        rank = ends[np.cumsum(last) - last]
        return self.column[self._inside][order], rank

    def _ks(self, values: np.ndarray) -> np.ndarray:
        column, rank = self._ranks(values)
        by_region = np.argsort(column.astype(_narrow(len(self.numbers))), kind="stable")
        n = self.n_voxels[self._present]
        taken = np.arange(1, len(column) + 1) - np.repeat(self._starts, n)
        height = taken / np.repeat(n, n) - rank[by_region] / len(column)
        scores = np.zeros(len(self.numbers))
        scores[self._present] = np.maximum(np.maximum.reduceat(height, self._starts), 0)
        return scores

    def _top_share(self, values: np.ndarray, top: float) -> np.ndarray:
        size = np.abs(values)
        n_top = max(1, round(top * size.size))
        limit = np.partition(size, size.size - n_top)[size.size - n_top]
        hits = self._inside[size[self._inside] >= limit]
        n = np.bincount(self.column[hits], minlength=len(self.numbers))
        return np.asarray(n / np.maximum(self.n_voxels, 1) - top)


def _narrow(n: int) -> type:
    """Smallest type of numbers below n: NumPy sorts 16 bits by radix, which is linear."""
    return np.int16 if n < 2**15 else np.int32


@dataclass(frozen=True)
class RunningSums:
    """Running sums of regions along the voxels, the largest values first.

    Parameters
    ----------
    share : (points,) float array
        Share of the labelled voxels that were walked.
    sums : (regions, points) float array
        Running sum of each region there; 0 at both ends.
    score : (regions,) float array
        Largest running sum of each region, over all voxels and not the points alone.
    names : tuple of str
        Regions that have voxels in the mask.
    """

    share: Float64[np.ndarray, " points"]
    sums: Float64[np.ndarray, "regions points"]
    score: Float64[np.ndarray, " regions"]
    names: tuple[str, ...]


def ks_running_sum(brain_map: BrainMap, atlas: Atlas, *, points: int = 501) -> RunningSums:
    """Walk the labelled voxels by the size of their values and score where regions lie.

    At a voxel of the region the sum grows by 1/N_region - 1/N_total, at every other labelled voxel
    it falls by 1/N_total. The score is the largest value that it takes: 1 - N_region/N_total if the
    whole region comes first, about 0 if it is scattered. Voxels of one size are one step, so that
    the score does not depend on the order of the voxels. The score has no P value of its own.

    Parameters
    ----------
    brain_map : BrainMap
    atlas : Atlas
        On the grid of the map.
    points : int
        Where the curves are read off, evenly spaced; for figures.

    References
    ----------
    .. [1] Patel et al. (2024), Communications Biology 7:414 (PerDI).
    .. [2] Subramanian et al. (2005), PNAS 102:15545, for the running sum.
    """
    if points < 2:
        raise UsageError(explain(f"points is {points}", expected="At least 2"))
    scorer = _scorer(brain_map, atlas)
    values = _voxels(brain_map)
    scores = scorer.ks(values[None])[0]
    column, rank = scorer._ranks(values)
    at = np.rint(np.linspace(0, len(column), points)).astype(int)
    sums = np.zeros((len(scorer._present), points))
    # a point inside a run of ties is read at the end of the run before it
    done = np.concatenate([[0], np.where(rank == np.arange(1, len(rank) + 1), rank, 0)])
    at = np.maximum.accumulate(done)[at]
    by_region = np.argsort(column, kind="stable")
    ends = np.append(scorer._starts[1:], len(column))
    for i, (start, end) in enumerate(zip(scorer._starts, ends, strict=True)):
        taken = np.searchsorted(by_region[start:end], at)
        sums[i] = taken / (end - start) - at / len(column)
    names = tuple(atlas.names[scorer.numbers[i]] for i in scorer._present)
    return RunningSums(at / len(column), sums, scores[scorer._present], names)


def region_table(brain_map: BrainMap, atlas: Atlas, *, top: float = TOP) -> pd.DataFrame:
    """Score every region of an atlas.

    Parameters
    ----------
    brain_map : BrainMap
        Its values are read inside its mask.
    atlas : Atlas
        On the grid of the map: ``read_atlas(..., space=brain_map)``.
    top : float
        Share of the voxels of the mask that counts as the top.

    Returns
    -------
    DataFrame
        One row per region in the order of the numbers: ``number``, ``region``, ``hemisphere``,
        ``n_voxels`` in the mask, ``mean``, ``mean_absolute``, ``peak`` (signed) at ``peak_x``,
        ``peak_y``, ``peak_z`` in mm, ``ks`` (:func:`imgwas.brain.regions.ks_running_sum`),
        ``top_share`` with ``stars``, and ``laterality``: (L - R) / (L + R) of ``mean_absolute`` for
        regions that come in pairs. Values have the map's unit. NaN where a region has no voxel.

    Raises
    ------
    InconsistentError
        If the atlas is on another grid.
    DegenerateError
        If the map holds values that are not finite inside its mask.
    """
    import pandas as pd

    scorer = _scorer(brain_map, atlas)
    maps = _voxels(brain_map)[None]
    absolute = scorer.mean_absolute(maps)[0]
    peak, voxel = (v[0] for v in scorer.peak(maps))
    where = np.argwhere(brain_map.mask)[voxel] @ brain_map.affine[:3, :3].T
    where = np.where(voxel[:, None] >= 0, where + brain_map.affine[:3, 3], np.nan)
    share = scorer.top_share(maps, top=top)[0]
    table = pd.DataFrame(
        {
            "number": scorer.numbers,
            "region": [atlas.names[n] for n in scorer.numbers],
            "hemisphere": [atlas.hemispheres.get(n, "") for n in scorer.numbers],
            "n_voxels": scorer.n_voxels,
            "mean": scorer.mean_signed(maps)[0],
            "mean_absolute": absolute,
            "peak": peak,
            "peak_x": where[:, 0],
            "peak_y": where[:, 1],
            "peak_z": where[:, 2],
            "ks": scorer.ks(maps)[0],
            "top_share": share,
            "stars": [stars(s) for s in share],
            "laterality": laterality(atlas, absolute),
        }
    )
    table.attrs = {"map": brain_map.name, "statistic": brain_map.statistic, "unit": brain_map.unit}
    return table


def stars(top_share: float) -> str:
    """Stars of a top share: ``*`` from 0.02, ``**`` from 0.05, ``***`` from 0.10."""
    return next((mark for limit, mark in STARS if top_share >= limit), "")


def laterality(
    atlas: Atlas, values: Float64[np.ndarray, " regions"]
) -> Float64[np.ndarray, " regions"]:
    """(L - R) / (L + R) of regions that come in pairs, the same for both; else NaN.

    Parameters
    ----------
    atlas : Atlas
    values : (regions,) float array
        Not negative, in the order of ``atlas.numbers``.
    """
    index = np.full(len(values), np.nan)
    sides: dict[str, dict[str, list[int]]] = {}
    for i, number in enumerate(atlas.numbers):
        stem, said = split_side(atlas.names[number])
        if said and atlas.hemispheres.get(number) == said:
            sides.setdefault(stem.lower(), {}).setdefault(said, []).append(i)
    for found in sides.values():
        if len(found.get("L", ())) == len(found.get("R", ())) == 1:
            left, right = found["L"][0], found["R"][0]
            total = values[left] + values[right]
            if total > 0:
                index[[left, right]] = (values[left] - values[right]) / total
    return index


def _voxels(brain_map: BrainMap) -> np.ndarray:
    return np.asarray(brain_map.values[brain_map.mask])  # noqa: PD011


def _scorer(brain_map: BrainMap, atlas: Atlas) -> RegionScorer:
    wanted = Space(brain_map.grid, brain_map.affine)
    check_space(Space(atlas.grid, atlas.affine), wanted, "the atlas")
    return RegionScorer(atlas, brain_map.mask)
