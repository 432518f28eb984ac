"""Atlases: numbers in an image, their names, and which side they lie on.

Nothing is believed that can be looked up: left and right are told by where the voxels lie in
millimetres, and an atlas whose names say otherwise is refused as flipped; an atlas that lies
elsewhere than the brain of the map is refused as being in another space.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.brain.atlas_sides import find_places, find_sides, first_numbers, told_apart
from imgwas.brain.atlas_tables import NameTable, read_names, split_side
from imgwas.checks import check_range
from imgwas.errors import InconsistentError, MalformedError, UsageError, explain
from imgwas.images.nifti import Volume, read_header, read_volume
from imgwas.images.space import Space, resample, same_space
from imgwas.shapes import Int32
from imgwas.types import Atlas, BrainMap

logger = logging.getLogger(__name__)

#: float32 holds whole numbers up to here.
LARGEST = 2**24
#: Qform and sform may put a corner this far apart, in mm.
APART = 2.0
#: Neighbouring voxels of a picture, unlike those of an atlas, seldom hold the same number.
ALIKE, MANY = 0.2, 50
#: Share of the atlas that must lie in the brain of the map; below the second, a warning.
IN_BRAIN, MOSTLY = 0.7, 0.9


def read_atlas(
    image: Any,
    names: Any = None,
    *,
    space: Space | BrainMap | None = None,
    merge_hemispheres: bool = False,
    threshold: float | None = None,
) -> Atlas:
    """Read an atlas, check it, and bring it to the voxels of a map.

    Parameters
    ----------
    image : path, nibabel image, or nilearn bunch
        Whole numbers in space, 0 for no region. A bunch (``maps`` and ``labels``) brings its names.
    names : path, mapping, list or DataFrame, optional
        FSL XML, CSV, TSV, JSON, BIDS ``dseg.tsv``, or numbers to names. Without any, regions are
        called ``region 17``.
    space : Space or BrainMap, optional
        Voxels to bring the atlas to, by nearest neighbour. With a map, the atlas must lie in its
        mask.
    merge_hemispheres : bool
        Make one region of ``L_cuneus`` and ``R_cuneus``.
    threshold : float, optional
        For a 4-D probabilistic atlas: each voxel gets the most probable region whose probability,
        0 to 1, is at least this.

    Returns
    -------
    Atlas
        With the side of each region as its voxels tell it.

    Raises
    ------
    OpenError, ReadError
        If a file is absent or cannot be read.
    MalformedError
        If the image holds no whole numbers, does not say where it lies, or is a picture; if the
        table of names is damaged.
    InconsistentError
        If names and image do not belong together, the image is flipped, or the atlas lies
        elsewhere than the map.
    UsageError
        If a 4-D atlas comes without ``threshold``, or hemispheres cannot be merged.

    Examples
    --------
    >>> atlas = imgwas.read_atlas("desikan.nii.gz", "desikan.csv", space=map)  # doctest: +SKIP
    """
    volume, source, brought = _open(image)
    labels = _numbers(volume, source, threshold)
    names = brought if names is None else names
    table = None if names is None else read_names(names, int(labels.max()))
    named = _match(labels, table, source)
    places = find_places(labels, volume.affine, named)
    named = told_apart(named, places, source)
    sides = find_sides(named, places, source)
    atlas = Atlas(labels, volume.affine, named, sides, source)
    if merge_hemispheres:
        atlas = _merged(atlas, table)
    return atlas if space is None else _brought(atlas, space)


def _open(image: Any) -> tuple[Volume, str, Any]:
    """Voxels, what to call them, and the names that a bunch brings."""
    if isinstance(image, str | Path):
        header = read_header(image)
        name = Path(image).name
        if max(header.codes) <= 0:
            what = f"{name} does not say how it lies in space (qform and sform codes are 0)"
            raise MalformedError(
                explain(what, expected="Left and right could not be told",
                        do="Copy the template's: fslcpgeom template.nii.gz atlas.nii.gz")
            )  # fmt: skip
        if header.disagreement > APART:
            what = f"qform and sform of {name} are {header.disagreement:.1f} mm apart"
            do = "Set both to the right one, e.g. fslorient -copysform2qform"
            raise MalformedError(explain(what, expected="One place is needed", do=do))
        return read_volume(image, dimensions=(3, 4)), name, None

    def get(key: str) -> Any:
        return image.get(key) if isinstance(image, Mapping) else getattr(image, key, None)

    if get("maps") is not None:
        maps = get("maps")
        volume, source, _ = _open(maps[0] if isinstance(maps, list | tuple) else maps)
        return volume, source, _names_of_bunch(get)
    if hasattr(image, "affine") and hasattr(image, "dataobj"):
        affine = np.asarray(image.affine, np.float64)
        return Volume(np.asarray(image.dataobj, np.float32), affine), "the image", None
    raise UsageError(
        explain(
            f"the atlas is a {type(image).__name__}",
            expected="A NIfTI file, a nibabel image, or a bunch with maps and labels is needed",
        )
    )


def _names_of_bunch(get: Any) -> Any:
    """A look-up table where the bunch has one, else labels with their indices, else labels."""
    lut, labels, indices = get("lut"), get("labels"), get("indices")
    if lut is not None:
        return lut
    if labels is None:
        return None
    labels = list(labels)
    if indices is not None and len(indices) == len(labels):
        return {int(i): label for i, label in zip(indices, labels, strict=True)}
    return labels


def _numbers(volume: Volume, name: str, threshold: float | None) -> np.ndarray:
    """Region numbers of a volume, checked to be an atlas."""
    values = volume.values
    if values.ndim == 4:
        return _most_probable(values, name, threshold)
    rounded = np.rint(values)
    off = np.abs(values - rounded) > 1e-3
    if off.any() or values.min() < 0 or values.max() >= LARGEST:
        bad = values[off] if off.any() else values[(values < 0) | (values >= LARGEST)]
        raise MalformedError(
            explain(
                f"{name} holds {bad.size:,} values that are no region numbers (first: {bad[0]:g})",
                expected=f"Whole numbers from 0 to {LARGEST - 1:,} are needed",
                do="Give the label image, and resample labels with nearest neighbour only",
            )
        )
    labels: np.ndarray = rounded.astype(np.int32)
    if not labels.any():
        raise MalformedError(explain(f"{name} is 0 everywhere", expected="An atlas has regions"))
    _check_no_picture(labels, name)
    return labels


def _occurring(labels: np.ndarray) -> list[int]:
    """Numbers of an image, ascending; counting is quicker than sorting."""
    return [int(n) for n in np.flatnonzero(np.bincount(labels.ravel()))]


def _check_no_picture(labels: np.ndarray, name: str) -> None:
    a, b = labels[1:], labels[:-1]
    both = (a > 0) & (b > 0)
    numbers = _occurring(labels)
    if len(numbers) > MANY and both.any() and (a == b)[both].mean() < ALIKE:
        raise MalformedError(
            explain(
                f"{name} looks like a picture: {len(numbers):,} numbers, and only "
                f"{(a == b)[both].mean():.0%} of neighbouring voxels hold the same one",
                do="Give the label image of the atlas",
            )
        )


def _most_probable(values: np.ndarray, name: str, threshold: float | None) -> np.ndarray:
    if threshold is None:
        raise UsageError(
            explain(
                f"{name} has {values.shape[3]} volumes: a probabilistic atlas",
                expected="One number per voxel is needed",
                do="Give its maximum-probability image, or threshold=0.25 to take the most "
                "probable region of each voxel",
            )
        )
    check_range("threshold", threshold, low=0, high=1)
    share = values / (100 if values.max() > 1.5 else 1)
    best = share.max(axis=3)
    labels = np.where((best >= threshold) & (best > 0), share.argmax(axis=3) + 1, 0)
    if not labels.any():
        raise UsageError(explain(f"no voxel of {name} reaches the threshold {threshold:g}"))
    return labels.astype(np.int32)


def _match(labels: np.ndarray, table: NameTable | None, source: str) -> dict[int, str]:
    """Name every number of the image; report what has no name and what has no voxels."""
    numbers = [n for n in _occurring(labels) if n]
    if table is None:
        logger.warning("%s: no names were given; its %d regions are called 'region 1' and so on",
                       source, len(numbers))  # fmt: skip
        return {n: f"region {n}" for n in numbers}
    unnamed = [n for n in numbers if not table.names.get(n)]
    if 2 * len(unnamed) > len(numbers):
        empty = not any(table.names.values())
        raise InconsistentError(
            explain(
                f"{table.source} names {len(numbers) - len(unnamed):,} of the {len(numbers):,} "
                f"numbers in {source} (without a name: {first_numbers(unnamed)})",
                expected="All its names are empty"
                if empty
                else "Names and image must be of the same atlas",
                do="Leave the names out to get 'region 1' and so on" if empty else "",
            )
        )
    if unnamed:
        logger.warning("%s: %d numbers have no name in %s and are called by their number (%s)",
                       source, len(unnamed), table.source, first_numbers(unnamed))  # fmt: skip
    present = set(numbers)
    absent = [text for n, text in table.names.items() if n not in present]
    if absent:
        logger.warning("%s: %d names of %s have no voxels (first: %s)", source, len(absent),
                       table.source, ", ".join(absent[:3]))  # fmt: skip
    return {n: table.names.get(n) or f"region {n}" for n in numbers}


def _merged(atlas: Atlas, table: NameTable | None) -> Atlas:
    """One region per name without its side; the lowest number stays."""
    if table is None:
        raise UsageError(
            explain("hemispheres cannot be merged: the atlas has no names", do="Give names=...")
        )
    keep: dict[str, int] = {}
    becomes: dict[int, int] = {}
    names: dict[int, str] = {}
    for number in atlas.numbers:
        stem, side = split_side(atlas.names[number])
        stem = stem if side else atlas.names[number]
        becomes[number] = keep.setdefault(stem.lower(), number)
        names.setdefault(becomes[number], stem)
    if len(names) == len(atlas.names):
        logger.warning("%s: no two names differ by left and right; nothing was merged",
                       atlas.source)  # fmt: skip
    look_up = np.zeros(max(atlas.numbers) + 1, np.int32)
    look_up[list(becomes)] = list(becomes.values())
    merged = {n: sum(v == n for v in becomes.values()) > 1 for n in names}
    sides = {n: "" if merged[n] else atlas.hemispheres[n] for n in names}
    source = f"{atlas.source}, left and right merged"
    return Atlas(look_up[atlas.labels], atlas.affine, names, sides, source)


def _brought(atlas: Atlas, wanted: Space | BrainMap) -> Atlas:
    """The atlas on the voxels of a map; regions that vanish are reported."""
    mask = wanted.mask if isinstance(wanted, BrainMap) else None
    space = Space(wanted.grid, wanted.affine)
    _check_overlap(atlas, space, mask)
    if same_space(Space(atlas.grid, atlas.affine), space):
        return atlas
    volume = Volume(atlas.labels.astype(np.float32), atlas.affine)
    moved: Int32[np.ndarray, " *grid"] = resample(volume, space, order=0).values.astype(np.int32)
    left = set(_occurring(moved))
    lost = [atlas.names[n] for n in atlas.numbers if n not in left]
    grid = "x".join(map(str, space.grid))
    if lost:
        logger.warning(
            "%s: %d of %d regions have no voxel on the grid %s (first: %s)", atlas.source,
            len(lost), len(atlas.names), grid, ", ".join(lost[:3]),
        )  # fmt: skip
    names = {n: t for n, t in atlas.names.items() if n in left}
    if not names:
        what = f"no region of {atlas.source} has a voxel on the grid {grid}"
        raise InconsistentError(explain(what, do="Use an atlas of larger regions or a finer map"))
    sides = {n: atlas.hemispheres[n] for n in names}
    source = f"{atlas.source}, nearest neighbour to {grid}, {len(lost)} regions lost"
    return Atlas(moved, np.asarray(space.affine, np.float64), names, sides, source)


def _check_overlap(atlas: Atlas, space: Space, mask: np.ndarray | None) -> None:
    """Refuse an atlas that lies elsewhere than the brain of the map."""
    where = np.argwhere(atlas.labels)
    where = where[:: max(1, len(where) // 200_000)]
    world = where @ atlas.affine[:3, :3].T + atlas.affine[:3, 3]
    to_voxels = np.linalg.inv(space.affine)
    index = np.rint(world @ to_voxels[:3, :3].T + to_voxels[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < space.grid[:3])).all(axis=1)
    if mask is not None:
        inside[inside] = mask[tuple(index[inside].T)]
    share = float(inside.mean())
    brain = np.argwhere(mask) if mask is not None else (np.array([space.grid[:3]]) - 1) / 2
    centre = brain.mean(axis=0) @ space.affine[:3, :3].T + space.affine[:3, 3]
    apart = float(np.linalg.norm(world.mean(axis=0) - centre))
    place = "brain" if mask is not None else "grid"
    if share < IN_BRAIN:
        raise InconsistentError(
            explain(
                f"{atlas.source} is in another space: {share:.0%} of it lies in the {place} of "
                f"the map, and their centres are {apart:.0f} mm apart",
                expected="Atlas and map must be in one space, such as MNI152",
                do="Give the atlas in the space of the images, or preprocess the images to the "
                "space of the atlas",
            )
        )
    if share < MOSTLY:
        logger.warning("%s: only %.0f %% of it lies in the %s of the map (centres %.0f mm apart)",
                       atlas.source, 100 * share, place, apart)  # fmt: skip
