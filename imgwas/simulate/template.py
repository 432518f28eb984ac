"""The average brain that simulated people are warped from, on the grid of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    OpenError,
    UsageError,
    explain,
)
from imgwas.files import publish_bytes
from imgwas.shapes import Bool, Float32, Float64, Int16
from imgwas.simulate.anatomy import draw_anatomy

#: Empty voxels around the brain, for people whose heads are larger.
MARGIN = 3
#: A region below this many voxels of the grid cannot be warped by a known amount.
FEWEST_VOXELS = 1.0
_LABEL_COLUMNS = ("label", "index", "id", "value", "number")
_NAME_COLUMNS = ("region", "name", "label_name", "structure", "abbreviation")


@dataclass(frozen=True)
class BrainTemplate:
    """A T1 image and its regions on one grid.

    Parameters
    ----------
    values : (x, y, z) float32 array
        Intensities, white matter about 1; 0 outside the brain.
    shares : (regions, voxels) sparse array
        How much of each voxel belongs to each region, voxels in C order.
    labels : (x, y, z) int16 array
        Number of the region that takes most of a voxel; 0 where none does.
    names : mapping of int to str
        Name of every number.
    hemispheres : mapping of int to str
        ``"L"``, ``"R"`` or ``""``, told by where the voxels lie.
    affine : (4, 4) float array
        Voxel indices to millimetres, RAS+.
    """

    values: Float32[np.ndarray, "x y z"]
    shares: Any
    labels: Int16[np.ndarray, "x y z"]
    names: Mapping[int, str]
    hemispheres: Mapping[int, str]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.values.shape
        return x, y, z

    @property
    def regions(self) -> tuple[str, ...]:
        """Names in the order of their numbers, which is the order of ``shares``."""
        return tuple(self.names[n] for n in sorted(self.names))

    @property
    def zoom(self) -> float:
        """Edge of a voxel. Unit: mm."""
        return float(self.affine[0, 0])

    @property
    def mask(self) -> Bool[np.ndarray, "x y z"]:
        """Voxels of the brain."""
        return np.asarray(self.values > 0)


@lru_cache(maxsize=4)
def builtin_template(grid_mm: float = 4.0) -> BrainTemplate:
    """Return the built-in brain of 26 regions on a grid of ``grid_mm`` millimetres.

    References
    ----------
    None: it is drawn by formulae (:mod:`imgwas.simulate.anatomy`).
    """
    drawn = draw_anatomy()
    names = dict(enumerate(drawn.names, start=1))
    return make_template(drawn.values, drawn.labels, drawn.affine, names, grid_mm=grid_mm)


def read_template(
    t1: str | Path, labels: str | Path, names: str | Path, *, grid_mm: float = 4.0
) -> BrainTemplate:
    """Make a template of a T1 image without skull, a label image, and the names of its labels.

    Parameters
    ----------
    t1, labels : path
        NIfTI images on the same grid.
    names : path
        Table with a number (``label``, ``index``, ``id``) and a name (``region``, ``name``) per
        row. Rows without a name are left out.
    grid_mm : float
        Voxel size of the study. Unit: mm.

    Raises
    ------
    OpenError, MalformedError
        If a file is absent or no image or table of this kind.
    InconsistentError
        If the two images do not lie on the same grid, or no label has a name.
    """
    values, affine = _read(Path(t1))
    numbers, other = _read(Path(labels))
    if values.shape != numbers.shape or np.abs(affine - other).max() > 1e-3:
        raise InconsistentError(
            explain(
                f"{t1} has {_grid(values)} voxels of {_zooms(affine)} mm and {labels} has "
                f"{_grid(numbers)} of {_zooms(other)} mm",
                expected="Both on one grid, with the same affine",
                do=f"Resample the labels with nearest neighbour: mri_vol2vol --nearest, or "
                f"flirt -in {labels} -ref {t1} -interp nearestneighbour -applyxfm -usesqform",
            )
        )
    named = _read_names(Path(names), numbers)
    return make_template(values, np.rint(numbers).astype(np.int32), affine, named, grid_mm=grid_mm)


def make_template(
    values: np.ndarray,
    labels: np.ndarray,
    affine: Float64[np.ndarray, "4 4"],
    names: Mapping[int, str],
    *,
    grid_mm: float = 4.0,
) -> BrainTemplate:
    """Average a T1 and its labels over the voxels of a coarser grid, RAS+, around the brain.

    Each voxel of the grid is sampled at the spacing of the source; a region's share of it is the
    fraction of samples with that label.

    Parameters
    ----------
    values : (x, y, z) array
        T1 without skull, 0 outside the brain.
    labels : (x, y, z) integer array
    affine : (4, 4) float array
        Voxel indices to millimetres.
    names : mapping of int to str
        Labels to keep.
    grid_mm : float
        Unit: mm.

    Raises
    ------
    DegenerateError
        If a region would have less than one voxel, or nothing is outside the brain.
    """
    check_range("the voxel size (--grid-mm)", grid_mm, low=1.0, high=12.0, unit="mm")
    brain = values > 0
    if brain.mean() > 0.95:
        raise DegenerateError(
            explain(
                f"{brain.mean():.0%} of the template's voxels are above 0",
                expected="A T1 without skull: 0 outside the brain",
                do="Take the brain-extracted template",
            )
        )
    white = float(np.percentile(values[brain], 90))
    zoom = float(np.abs(np.linalg.det(affine[:3, :3])) ** (1 / 3))
    grid, target = _around(brain, affine, grid_mm)
    fine = max(1, int(np.ceil(grid_mm / zoom - 0.01)))
    numbers = np.array(sorted(names))
    mean, share = _average(values / white, labels, affine, grid, target, fine, numbers)
    sizes = np.asarray(share.sum(axis=1)).ravel()
    if (sizes < FEWEST_VOXELS).any():
        small = [f"{names[int(n)]} ({s:.1f})" for n, s in zip(numbers, sizes, strict=True)
                 if s < FEWEST_VOXELS]  # fmt: skip
        raise DegenerateError(
            explain(
                f"{len(small)} regions have less than {FEWEST_VOXELS:g} voxel of {grid_mm:g} mm",
                where=f"first: {', '.join(small[:3])}",
                do="Choose a smaller --grid-mm, or leave them out of the table of names",
            )
        )
    hard, total = _hard_labels(share, numbers, grid)
    mean[(mean < 0.05) & (total < 0.5)] = 0
    sides = _sides(share, numbers, grid, target)
    kept = {int(n): str(names[int(n)]) for n in numbers}
    return BrainTemplate(mean.astype(np.float32), share, hard, kept, sides, target)


def _around(
    brain: np.ndarray, affine: np.ndarray, grid_mm: float
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Grid and affine of a box around the brain, the world's origin on a voxel's corner."""
    where = np.argwhere(brain)
    corners = np.array(np.meshgrid(*zip(where.min(0), where.max(0), strict=True))).reshape(3, -1)
    world = affine[:3, :3] @ corners + affine[:3, 3:]
    low = np.floor(world.min(axis=1) / grid_mm) - MARGIN
    high = np.ceil(world.max(axis=1) / grid_mm) + MARGIN
    target = np.diag([grid_mm, grid_mm, grid_mm, 1.0])
    target[:3, 3] = (low + 0.5) * grid_mm
    x, y, z = (int(n) for n in high - low)
    return (x, y, z), target


def _average(
    values: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    grid: tuple[int, int, int],
    target: np.ndarray,
    fine: int,
    numbers: np.ndarray,
) -> tuple[np.ndarray, Any]:
    """Mean intensity of every voxel, and the regions' shares of it."""
    from scipy import ndimage, sparse

    n = int(np.prod(grid))
    mean = np.zeros(n)
    share: Any = sparse.csr_array((len(numbers), n))
    row_of = np.full(int(max(labels.max(), numbers.max())) + 1, -1)
    row_of[numbers] = np.arange(len(numbers))
    to_source = np.linalg.inv(affine) @ target
    steps = (np.arange(fine) + 0.5) / fine - 0.5
    for shift in np.array(np.meshgrid(steps, steps, steps)).reshape(3, -1).T:
        points = np.indices(grid).reshape(3, -1) + shift[:, None]
        source = to_source[:3, :3] @ points + to_source[:3, 3:]
        mean += ndimage.map_coordinates(values, source, order=1, mode="constant")
        nearest = ndimage.map_coordinates(labels, source, order=0, mode="constant")
        row = row_of[np.maximum(nearest, 0)]
        inside = np.flatnonzero(row >= 0)
        ones = np.ones(len(inside))
        share = share + sparse.csr_array((ones, (row[inside], inside)), shape=share.shape)
    return (mean / fine**3).reshape(grid), sparse.csr_array(share / fine**3)


def _hard_labels(
    share: Any, numbers: np.ndarray, grid: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Label of the largest share where regions take most of a voxel, and their total."""
    total = np.asarray(share.sum(axis=0)).ravel()
    best = np.asarray(share.tocsc().argmax(axis=0)).ravel()
    hard = np.where(total >= 0.5, numbers[best], 0).astype(np.int16)
    return hard.reshape(grid), total.reshape(grid)


def _sides(
    share: Any, numbers: np.ndarray, grid: tuple[int, int, int], target: np.ndarray
) -> dict[int, str]:
    x = np.broadcast_to(
        (target[0, 0] * np.arange(grid[0]) + target[0, 3])[:, None, None], grid
    ).ravel()
    left = np.asarray(share @ (x < 0)) / np.asarray(share.sum(axis=1)).ravel()
    return {int(n): "L" if f > 0.8 else "R" if f < 0.2 else "" for n, f in zip(numbers, left,
            strict=True)}  # fmt: skip


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a NIfTI image of three axes."""
    import nibabel

    if not path.is_file():
        raise OpenError(explain(f"{path} does not exist", expected="A NIfTI image"))
    try:
        image: Any = nibabel.nifti1.load(path)
        values = np.asarray(image.dataobj, np.float32)
    except Exception as error:  # nibabel raises what its parts raise
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise MalformedError(explain(f"{path} is no whole NIfTI image ({reason})")) from error
    if values.ndim != 3 or not np.isfinite(values).all():
        what = f"{path} has {values.ndim} axes" if values.ndim != 3 else f"{path} holds NaN"
        raise MalformedError(explain(what, expected="Finite values on three axes"))
    return values, np.asarray(image.affine, np.float64)


def _read_names(path: Path, labels: np.ndarray) -> dict[int, str]:
    """Names of the labels that occur, unique."""
    from imgwas.tables.source import read_table

    table = read_table(path)
    lower = {name.lower(): name for name in table.column_names}
    name_column = next((lower[n] for n in _NAME_COLUMNS if n in lower), None)
    number_column = next((lower[n] for n in _LABEL_COLUMNS if n in lower), None)
    if name_column is None and number_column == lower.get("label") and "id" in lower:
        number_column, name_column = lower["id"], lower["label"]
    if name_column is None or number_column is None:
        raise MalformedError(
            explain(
                f"{path} has the columns {', '.join(table.column_names[:6])}",
                expected=f"A number ({', '.join(_LABEL_COLUMNS)}) and a name "
                f"({', '.join(_NAME_COLUMNS)})",
            )
        )
    numbers = [int(float(str(v))) for v in table[number_column].to_pylist()]
    found = {int(n) for n in np.unique(np.rint(labels))} - {0}
    rows = zip(numbers, table[name_column].to_pylist(), strict=True)
    named = {n: str(name).strip() for n, name in rows if n in found and name}
    if not named:
        raise InconsistentError(
            explain(
                f"none of the {len(numbers):,} numbers in {path} occurs in the label image",
                where=f"labels: {', '.join(map(str, sorted(found)[:5]))}",
            )
        )
    repeated = {n for n in named.values() if list(named.values()).count(n) > 1}
    return {n: f"{name}_{n}" if name in repeated else name for n, name in named.items()}


def find_region(template: BrainTemplate, name: str) -> int:
    """Row of a region.

    Raises
    ------
    UsageError
        If the template has no region of that name.
    """
    from imgwas.checks import did_you_mean

    if name in template.regions:
        return template.regions.index(name)
    raise UsageError(
        explain(
            f"the labels have no region {name!r}",
            expected=f"{len(template.regions)} regions, e.g. {', '.join(template.regions[:4])}",
            do=did_you_mean(name, template.regions) or "See regions.tsv for all names",
        )
    )


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray, dtype: str = "float32") -> None:
    """Write an image; the same values give the same bytes."""
    import gzip

    import nibabel

    image = nibabel.nifti1.Nifti1Image(np.asarray(values).astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=0)
    publish_bytes(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def _grid(values: np.ndarray) -> str:
    return "x".join(map(str, values.shape))


def _zooms(affine: np.ndarray) -> str:
    sizes: Sequence[float] = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return "x".join(f"{z:g}" for z in sizes)
