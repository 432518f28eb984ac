"""How much the volume of a region changes when the picture changes by a little.

The change of a picture is read as motion: where an edge moves by u, the picture changes by -grad I
. u, and a region whose border moves grows by the flux of u through its border. Of all motions that
explain a change of the picture, the likeliest smooth one is taken; changes of brightness that vary
slowly are explained away. All of it is linear, so that the answer is one row of weights per region,
made once and applied to any number of maps, and standard errors follow from those of the maps.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, InconsistentError, explain
from imgwas.shapes import Bool, Float, Float32, Float64
from imgwas.types import Atlas

if TYPE_CHECKING:
    from scipy import sparse

logger = logging.getLogger(__name__)

#: Smoothing of labels, in voxels, that makes a border of a staircase.
BORDER = 0.6
#: Smoothing, in voxels, of the growth that calibrates a region's weights.
GROWTH = 1.0
#: Brightness is alike within about this many voxels: a box of this width, taken twice.
SHADE_WIDTH = 14.0
#: Weights reach this many lengths beyond a region.
REACH = 3
#: Below this share of weight voxels are left out of the matrix.
NEGLIGIBLE = 1e-5
ITERATIONS, TOLERANCE = 60, 5e-3
#: Steps of sharpening a blurred picture.
SHARPEN = 10


@dataclass(frozen=True)
class VolumeReadout:
    """Weights that turn a change of the picture into changes of volumes.

    Parameters
    ----------
    matrix : (regions, voxels) sparse matrix
        mm^3 per unit of intensity, float64. Rows of regions that cannot be read are not to be
        used.
    numbers : tuple of int
        Regions, as in the atlas.
    names : tuple of str
    volumes : (regions,) float array
        Volume of each region in mm^3, counted on the grid.
    visible : (regions,) float array
        Share, 0 to 1, of the variance of a region's volume change that its picture shows.
    reasons : mapping of int to str
        Why the volume of a region cannot be read.
    """

    matrix: sparse.csr_matrix
    numbers: tuple[int, ...]
    names: tuple[str, ...]
    volumes: Float64[np.ndarray, " regions"]
    visible: Float64[np.ndarray, " regions"]
    reasons: dict[int, str]

    def change(self, maps: Float[np.ndarray, "maps voxels"]) -> Float64[np.ndarray, "maps regions"]:
        """Change of each region's volume in mm^3; NaN for a region that cannot be read."""
        if maps.shape[1] != self.matrix.shape[1]:
            raise InconsistentError(
                explain(
                    f"the maps have {maps.shape[1]:,} voxels",
                    expected=f"The readout was made for {self.matrix.shape[1]:,}",
                )
            )
        found = np.asarray((self.matrix @ maps.T).T, np.float64)
        found[:, [n in self.reasons for n in self.numbers]] = np.nan
        return found

    def relative(
        self, maps: Float[np.ndarray, "maps voxels"]
    ) -> Float64[np.ndarray, "maps regions"]:
        """Change of each region's volume as a share of its volume: 0.01 is one per cent."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.change(maps) / self.volumes)


@dataclass(frozen=True)
class _Settings:
    """Lengths in voxels of each axis, and what counts as noise."""

    zooms: tuple[float, ...]
    smooth: tuple[float, ...]
    shade: tuple[int, ...]
    noise: float
    shade_share: float
    blur: tuple[float, ...]
    pad: tuple[int, ...]


def volume_readout(
    image: Float32[np.ndarray, " *grid"],
    atlas: Atlas,
    *,
    mask: Bool[np.ndarray, " x y z"] | None = None,
    smoothness: float | None = None,
    noise: float = 0.3,
    shade: float = 0.03,
    blur: float = 0.0,
    least_visible: float = 0.5,
) -> VolumeReadout:
    """Find the weights that read changes of volumes off small changes of a picture.

    With gradient images g of the picture and a Gaussian field of motion u of covariance K, a change
    of the picture is d = -g.u + shade + noise. A region's change of volume is f.u, the flux of u
    through its border. The best linear guess is w.d with w = (g K g' + shade + noise)^-1 g K f,
    found by conjugate gradients in a box about the region. Each row is then scaled so that growth
    of the region by the same depth everywhere is read without bias.

    Parameters
    ----------
    image : (x, y, z) float array
        The average picture.
    atlas : Atlas
        On its grid.
    mask : (x, y, z) bool array, optional
        Voxels of the maps, in the order of ``values[mask]``; the whole grid by default.
    smoothness : float, optional
        Length in mm over which motion is alike; 1.5 voxels by default.
    noise : float
        Noise of a change, as a share of what motion does to the picture.
    shade : float
        Variance of slow changes of brightness, as a share of what motion does to the picture. With
        0 a region that becomes brighter is read as one that grows or shrinks.
    blur : float
        Standard deviation, in mm, by which ``image`` and the maps are softer than the anatomy that
        moves, e.g. by averaging people whose borders lie apart. It is undone before the gradient
        is taken, and done again after each motion.
    least_visible : float
        A region of which less is visible is not read: NaN, with the reason.

    Returns
    -------
    VolumeReadout
        ``readout.change(maps)`` in mm^3, ``readout.relative(maps)`` as a share.

    Raises
    ------
    InconsistentError
        If picture, atlas and mask have different grids.
    DegenerateError
        If the picture is constant or not finite.

    References
    ----------
    .. [1] Freeborough & Fox (1997), IEEE Trans. Med. Imaging 16:623, the boundary shift integral.
    .. [2] Horn & Schunck (1981), Artificial Intelligence 17:185, for -grad I . u.
    """
    _check(image, atlas, mask)
    settings = _settings(atlas.affine, smoothness, noise, shade, blur)
    inside = np.ones(atlas.grid, bool) if mask is None else mask
    index = np.full(atlas.grid, -1, np.int64)
    index[inside] = np.arange(int(inside.sum()))
    gradients = [-g * inside for g in np.gradient(_sharp(image, settings), *settings.zooms)]
    voxel = float(np.prod(settings.zooms))
    labels = np.where(inside, atlas.labels, 0)
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    visible = np.full(len(atlas.numbers), np.nan)
    n = np.bincount(labels.ravel(), minlength=max(atlas.numbers) + 1)
    reasons: dict[int, str] = {}
    boxes = _boxes(labels, atlas.numbers, settings)
    for i, number in enumerate(atlas.numbers):
        box = boxes[i]
        if box is None:
            reasons[number] = "no voxel in the mask"
            rows.append((np.zeros(0, np.int64), np.zeros(0)))
            continue
        weights, visible[i], scale = _weights(
            [g[box] for g in gradients], labels[box] == number, inside[box], settings
        )
        if not (visible[i] >= least_visible and scale > least_visible / 2):
            reasons[number] = f"only {max(visible[i], 0):.0%} of its change would show"
        rows.append(_row(weights / scale if scale > 0 else weights, index[box]))
    _report(reasons, atlas)
    return VolumeReadout(
        _matrix(rows, int(inside.sum())),
        atlas.numbers,
        tuple(atlas.names[k] for k in atlas.numbers),
        n[list(atlas.numbers)] * voxel,
        visible,
        reasons,
    )


def _check(image: np.ndarray, atlas: Atlas, mask: np.ndarray | None) -> None:
    shapes = {"picture": image.shape, "atlas": atlas.grid}
    if mask is not None:
        shapes["mask"] = mask.shape
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in shapes.items())
        raise InconsistentError(
            explain(f"the grids differ: {found}", do="Read the atlas with space=map")
        )
    if not np.isfinite(image).all() or float(np.ptp(image)) == 0:
        raise DegenerateError(
            explain("the picture is constant or not finite", expected="The average image is needed")
        )


def _settings(
    affine: np.ndarray, smoothness: float | None, noise: float, shade: float, blur: float
) -> _Settings:
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    voxel = float(zooms.mean())
    length = 1.5 * voxel if smoothness is None else smoothness
    check_range("smoothness", length, low=0.5 * voxel, high=10 * voxel, unit="mm")
    check_range("noise", noise, low=0.01, high=10)
    check_range("shade", shade, low=0, high=10)
    check_range("blur", blur, low=0, high=3 * voxel, unit="mm")
    smooth = length / zooms
    pad = np.ceil(REACH * smooth).astype(int) + 2
    return _Settings(
        tuple(zooms.tolist()),
        tuple(smooth.tolist()),
        tuple((np.rint(SHADE_WIDTH * voxel / zooms / 2).astype(int) * 2 + 1).tolist()),
        noise,
        shade,
        tuple((blur / zooms).tolist()),
        tuple(pad.tolist()),
    )


def _boxes(
    labels: np.ndarray, numbers: Sequence[int], settings: _Settings
) -> list[tuple[slice, ...] | None]:
    """Box of each region with a margin, or None."""
    from scipy import ndimage

    found = ndimage.find_objects(labels, max_label=max(numbers))
    boxes: list[tuple[slice, ...] | None] = []
    for number in numbers:
        box = found[number - 1]
        boxes.append(
            None
            if box is None
            else tuple(
                slice(max(0, s.start - p), min(n, s.stop + p))
                for s, p, n in zip(box, settings.pad, labels.shape, strict=True)
            )
        )
    return boxes


def _sharp(image: np.ndarray, settings: _Settings) -> np.ndarray:
    """The picture before it was blurred, by van Cittert's iteration."""
    from scipy import ndimage

    picture = image.astype(np.float64)
    if not any(settings.blur):
        return picture
    found = picture
    for _ in range(SHARPEN):
        found = found + picture - ndimage.gaussian_filter(found, settings.blur, mode="nearest")
    return found


def _weights(
    gradients: list[np.ndarray], region: np.ndarray, seen: np.ndarray, settings: _Settings
) -> tuple[np.ndarray, float, float]:
    """Weights of one region in its box, the visible share, and what unit growth is read as."""
    from scipy import ndimage

    smoothed: Any = ndimage.gaussian_filter

    def motion(values: np.ndarray) -> np.ndarray:
        return np.asarray(smoothed(values, settings.smooth, mode="constant", truncate=REACH))

    def shade(values: np.ndarray) -> np.ndarray:
        box: Any = ndimage.uniform_filter
        once = box(values, settings.shade, mode="constant")
        return np.asarray(box(once, settings.shade, mode="constant"))

    def soften(values: np.ndarray) -> np.ndarray:
        if not any(settings.blur):
            return values
        return np.asarray(smoothed(values, settings.blur, mode="constant"))

    soft = smoothed(region.astype(np.float64), BORDER)
    voxel = float(np.prod(settings.zooms))
    flux = [-g * voxel for g in np.gradient(soft, *settings.zooms)]
    border = sum(np.abs(f) for f in flux)
    power = float((sum(g * g for g in gradients) * border).sum() / border.sum())
    if power <= 0:
        return np.zeros(region.shape), 0.0, 0.0
    peak = 1 / ((2 * np.pi) ** 1.5 * np.prod(settings.smooth))
    floor = settings.noise**2 * power * peak
    shading = settings.shade_share * power * peak * float(np.prod(settings.shade))

    def covariance(values: np.ndarray) -> np.ndarray:
        before = soften(values)
        moved = soften(np.asarray(sum(g * motion(g * before) for g in gradients)))
        return np.asarray(moved + shading * seen * shade(values) + floor * values)

    target = soften(np.asarray(sum(g * motion(f) for g, f in zip(gradients, flux, strict=True))))
    weights = _solve(covariance, target)
    variance = float(sum((f * motion(f)).sum() for f in flux))
    visible = float((weights * target).sum()) / variance
    growth = [-g for g in np.gradient(smoothed(region.astype(np.float64), GROWTH), *settings.zooms)]
    shown = soften(np.asarray(sum(g * v for g, v in zip(gradients, growth, strict=True))))
    grown = float(sum((f * v).sum() for f, v in zip(flux, growth, strict=True)))
    return weights, visible, float((weights * shown).sum()) / grown


def _solve(covariance: Any, target: np.ndarray) -> np.ndarray:
    """Conjugate gradients."""
    found = np.zeros_like(target)
    rest = target.copy()
    step = rest.copy()
    size = first = float((rest * rest).sum())
    for _ in range(ITERATIONS):
        if size <= TOLERANCE**2 * first:
            break
        image = covariance(step)
        length = size / float((step * image).sum())
        found += length * step
        rest -= length * image
        before, size = size, float((rest * rest).sum())
        step = rest + size / before * step
    return found


def _row(weights: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = (index >= 0) & (np.abs(weights) > NEGLIGIBLE * np.abs(weights).max())
    return index[keep], weights[keep]


def _matrix(rows: list[tuple[np.ndarray, np.ndarray]], n_voxels: int) -> sparse.csr_matrix:
    from scipy import sparse

    starts = np.concatenate([[0], np.cumsum([len(where) for where, _ in rows])])
    where = np.concatenate([where for where, _ in rows])
    weights = np.concatenate([weights for _, weights in rows])
    return sparse.csr_matrix((weights, where, starts), shape=(len(rows), n_voxels))


def _report(reasons: dict[int, str], atlas: Atlas) -> None:
    if reasons:
        first = "; ".join(f"{atlas.names[k]}: {why}" for k, why in list(reasons.items())[:3])
        logger.warning("the volumes of %d of %d regions cannot be read (first: %s)",
                       len(reasons), len(atlas.numbers), first)  # fmt: skip
