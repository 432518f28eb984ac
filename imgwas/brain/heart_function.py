"""How a heart in a cine pumps: the pool of blood over the beat, ejection fraction, wall.

These are proxies read off a long-axis picture, to say what a direction of latent space does to a
rendered heart. They are no substitute for contours drawn by a reader.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain
from imgwas.shapes import Bool, Float, Float64, Int32

#: Fewest frames of one beat; fewest pixels of a pool of blood that is never empty.
FEWEST_FRAMES, SMALLEST_POOL = 8, 4
#: Between muscle (0) and blood (1): what counts as blood when pools are told apart.
BLOOD = 0.6
#: A ventricle loses at least this share of its picture; what loses less does not beat.
LEAST_LOSS = 0.08
#: A part of a pool is one of its own if it is at least this share of it.
SMALLEST_SHARE = 0.15
#: A gap wider than this share of the ventricle's length is no septum, or the picture is blurred.
THICKEST = 0.25
#: Variance along its axis of half an ellipse, over the square of its length.
_HALF_ELLIPSE = 0.25 - 16 / (9 * np.pi**2)


@dataclass(frozen=True)
class Chambers:
    """Which pools of blood a cine shows, and which of them are the ventricles.

    Parameters
    ----------
    cores : (x, y) int32 array
        Number of the pool of each pixel that is blood in every frame, 0 elsewhere.
    left, right : int
        Numbers of the ventricles; 0 where no right one was found.
    muscle, blood : float
        Intensities.
    """

    cores: Int32[np.ndarray, "x y"]
    left: int
    right: int
    muscle: float
    blood: float

    def share(self, picture: np.ndarray) -> np.ndarray:
        """Scale intensities so that muscle is 0 and blood 1."""
        scaled = (np.asarray(picture, np.float64) - self.muscle) / (self.blood - self.muscle)
        return np.asarray(scaled)


@dataclass(frozen=True)
class HeartFunction:
    """What one beat looks like.

    Parameters
    ----------
    area : (frames,) float array
        Of the left ventricle's blood in the picture. Unit: square mm.
    volume : (frames,) float array
        By area and length, ``8 A^2 / (3 pi L)``. Unit: ml.
    diastole, systole : int
        Frames of most and of least blood, from 0.
    ejection_fraction : float
        ``1 - least / most`` of the volume.
    wall : float
        Thickness of the septum at the end of diastole, in mm; NaN where no right ventricle shows.
    """

    area: Float64[np.ndarray, " frames"]
    volume: Float64[np.ndarray, " frames"]
    diastole: int
    systole: int
    ejection_fraction: float
    wall: float


def as_cine(picture: np.ndarray) -> Float[np.ndarray, "x y frames"]:
    """Take the middle slice of (x, y, slices, frames), or (x, y, frames) as it is.

    Raises
    ------
    UsageError
        If it is neither, or has too few frames for a beat.
    DegenerateError
        If values are not finite.
    """
    if picture.ndim == 4:
        picture = picture[:, :, picture.shape[2] // 2]
    if picture.ndim != 3 or picture.shape[2] < FEWEST_FRAMES:
        raise UsageError(
            explain(f"the cine has shape {picture.shape}",
                    expected=f"(x, y, frames) or (x, y, slices, frames), {FEWEST_FRAMES} frames or "
                    "more")
        )  # fmt: skip
    if not np.isfinite(picture).all():
        raise DegenerateError(explain("the cine holds values that are not finite"))
    return np.asarray(picture)


def find_chambers(picture: np.ndarray, *, left: Bool[np.ndarray, "x y"] | None = None) -> Chambers:
    """Find the ventricles in a cine, best in the average of many people.

    Blood is what is brighter than muscle, told apart by Otsu's threshold [1]_ within what moves.
    Pools are connected pixels that are blood in every frame; each frame is divided among them by
    the watershed. The left ventricle is the pool whose picture loses most; the right one is the
    largest other pool that empties with it, its size weighed by the correlation of both curves.

    Parameters
    ----------
    picture : (x, y, frames) or (x, y, slices, frames) array
    left : (x, y) bool array, optional
        The left ventricle, where it is known (own labels).

    Raises
    ------
    DegenerateError
        If nothing beats, or no pool of blood empties.
    InconsistentError
        If ``left`` is of another grid, or no pool lies in it.

    References
    ----------
    .. [1] Otsu (1979), IEEE Trans Syst Man Cybern 9:62.
    """
    cine = as_cine(picture)
    muscle, blood = _levels(cine)
    whole = Chambers(np.zeros(cine.shape[:2], np.int32), 0, 0, muscle, blood)
    cores = _cores(whole.share(cine))
    if left is not None:
        number = _pool_in(cores, left)
        return Chambers(cores, number, _right(cine, cores, number, whole), muscle, blood)
    areas = _areas(cine, cores, whole)
    number = 1 + int(np.argmax(np.ptp(areas, axis=1)))
    if np.ptp(areas[number - 1]) < LEAST_LOSS * areas[number - 1].max():
        raise DegenerateError(
            explain("no pool of blood empties", expected="A beating heart: bright blood that loses "
                    f"{LEAST_LOSS:.0%} of its picture", do="Name the ventricle by a label image")
        )  # fmt: skip
    return Chambers(cores, number, _right(cine, cores, number, whole, areas), muscle, blood)


def measure_heart(
    picture: np.ndarray,
    pixel_mm: float,
    *,
    like: Chambers | None = None,
    left: Bool[np.ndarray, "x y"] | None = None,
) -> HeartFunction:
    """Measure how the left ventricle of a cine empties, and how thick its wall is.

    Parameters
    ----------
    picture : (x, y, frames) or (x, y, slices, frames) array
        One beat of a long-axis view.
    pixel_mm : float
        Edge of a pixel.
    like : Chambers, optional
        Of the average: says which pool is the left ventricle, and how bright blood is.
    left : (x, y) bool array, optional
        The left ventricle, where it is known.

    Raises
    ------
    UsageError, DegenerateError, InconsistentError
        As :func:`find_chambers`.
    """
    check_range("the edge of a pixel", pixel_mm, low=1e-3, high=100, unit="mm")
    cine = as_cine(picture)
    found = find_chambers(cine, left=left) if like is None else _found_again(cine, like)
    shares = found.share(cine)
    n_frames = cine.shape[2]
    area, length = np.zeros(n_frames), np.zeros(n_frames)
    axis: np.ndarray | None = None
    for frame in range(n_frames):
        pool = _pool(shares[..., frame], found)
        area[frame] = pool.sum() * pixel_mm**2
        if axis is None:
            axis = _axis(pool)
        length[frame] = _length(pool, axis) * pixel_mm
    volume = 8 * area**2 / (3 * np.pi * np.maximum(length, pixel_mm)) / 1000
    diastole, systole = int(volume.argmax()), int(volume.argmin())
    if not volume[diastole] > 0:
        raise DegenerateError(explain("the left ventricle holds no blood in any frame"))
    return HeartFunction(
        area, volume, diastole, systole, float(1 - volume[systole] / volume[diastole]),
        _septum(shares[..., diastole], found) * pixel_mm,
    )  # fmt: skip


def _levels(cine: np.ndarray) -> tuple[float, float]:
    """Intensities of muscle and blood: the two classes of Otsu where something moves."""
    from scipy import ndimage

    variance = np.var(cine, axis=2, dtype=np.float64)
    if not variance.max() > 1e-12 * max(1.0, float(np.abs(cine).max()) ** 2):
        raise DegenerateError(
            explain(f"nothing moves in {cine.shape[2]} frames", expected="A beating heart")
        )
    moving = ndimage.binary_dilation(variance > variance.mean(), iterations=1)
    values = np.sort(np.asarray(cine, np.float64)[moving].ravel())
    below = np.arange(1, len(values))
    sums = np.cumsum(values)[:-1]
    total = values.sum()
    means = sums / below, (total - sums) / below[::-1]
    between = below * below[::-1] * (means[1] - means[0]) ** 2
    best = int(between.argmax())
    return float(means[0][best]), float(means[1][best])


def _cores(shares: np.ndarray) -> np.ndarray:
    """Connected pixels that are blood in every frame, numbered; pools that touch are parted.

    Two chambers that a blurred valve joins come apart where blood is asked to be brighter, as long
    as both parts are large against the whole: noise makes small ones.
    """
    from scipy import ndimage

    least = ndimage.gaussian_filter(shares.min(axis=2), 0.7)
    pools = _parts(least > BLOOD)
    for level in np.arange(BLOOD + 0.05, 1.0, 0.05):
        again = []
        for pool in pools:
            kept = pool & (least > level)
            parts = [one for one in _parts(kept) if one.sum() >= SMALLEST_SHARE * pool.sum()]
            again += parts if len(parts) > 1 else [pool]
        pools = again
    if not pools:
        raise DegenerateError(
            explain("no pixel is blood in every frame", expected="Bright pools of blood",
                    do="Look at the cine: is it one beat of a long-axis view?")
        )  # fmt: skip
    cores = np.zeros(least.shape, np.int32)
    for number, pool in enumerate(pools, start=1):
        cores[pool] = number
    return cores


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """Connected parts of a mask that are no specks."""
    from scipy import ndimage

    labels, n = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=n + 1)
    return [labels == k for k in range(1, n + 1) if sizes[k] >= SMALLEST_POOL]


def _basins(share: np.ndarray, cores: np.ndarray) -> np.ndarray:
    """Divide one frame among the pools: borders run where it is darkest between them."""
    from scipy import ndimage

    depth = np.asarray(255 * (1 - np.clip(share, 0, 1)), np.uint8)
    return np.asarray(ndimage.watershed_ift(depth, cores.astype(np.int16)))


def _areas(cine: np.ndarray, cores: np.ndarray, levels: Chambers) -> np.ndarray:
    """Pixels of every pool in every frame."""
    n = int(cores.max())
    areas = np.zeros((n, cine.shape[2]))
    for frame in range(cine.shape[2]):
        share = levels.share(cine[..., frame])
        basins = _basins(share, cores)
        for number in range(1, n + 1):
            areas[number - 1, frame] = _soft(share, basins == number, cores == number).sum()
    return areas


def _soft(share: np.ndarray, basin: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Share of blood of each pixel in the part of a basin that hangs together with its core."""
    from scipy import ndimage

    labels, _ = ndimage.label((share > 0.5) & basin | core)
    own = np.isin(labels, np.unique(labels[core]))
    rim = ndimage.binary_dilation(own, iterations=1) & basin
    return np.where(rim, np.clip(share, 0, 1), 0.0)


def _pool(share: np.ndarray, found: Chambers) -> np.ndarray:
    core = found.cores == found.left
    return _soft(share, _basins(share, found.cores) == found.left, core)


def _right(
    cine: np.ndarray, cores: np.ndarray, left: int, levels: Chambers,
    areas: np.ndarray | None = None,
) -> int:  # fmt: skip
    """The large other pool that empties with the left ventricle; 0 if there is none."""
    areas = _areas(cine, cores, levels) if areas is None else areas
    best, size = 0, 0.0
    for number, curve in enumerate(areas, start=1):
        spread = curve.std() * areas[left - 1].std()
        if number == left or not spread or np.ptp(curve) < LEAST_LOSS * curve.max():
            continue
        r = np.mean((curve - curve.mean()) * (areas[left - 1] - areas[left - 1].mean())) / spread
        if r > 0.1 and r * curve.max() > size:
            best, size = number, float(r * curve.max())
    return best


def _pool_in(cores: np.ndarray, left: np.ndarray) -> int:
    """Number of the pool that a mask covers most of."""
    if left.shape != cores.shape:
        raise InconsistentError(
            explain(f"the ventricle's mask has shape {left.shape}",
                    expected=f"{cores.shape}, as the pictures")
        )  # fmt: skip
    counts = np.bincount(cores[left], minlength=int(cores.max()) + 1)
    counts[0] = 0
    if not counts.any():
        raise InconsistentError(explain("no pool of blood lies where the left ventricle should be"))
    return int(counts.argmax())


def _found_again(cine: np.ndarray, like: Chambers) -> Chambers:
    """Chambers of another cine of the same kind: which pools are where the known ones were."""
    if cine.shape[:2] != like.cores.shape:
        raise InconsistentError(
            explain(f"the cine has {cine.shape[:2]} pixels", expected=f"{like.cores.shape}")
        )
    always = like.share(cine).min(axis=2) > BLOOD
    cores = np.where(always, like.cores, 0).astype(np.int32)
    if (cores == like.left).sum() < SMALLEST_POOL:
        raise DegenerateError(
            explain("the left ventricle is not where it was", expected="A heart like the first")
        )
    right = like.right if (cores == like.right).any() else 0
    return Chambers(cores, like.left, right, like.muscle, like.blood)


def _axis(pool: np.ndarray) -> np.ndarray:
    """Direction in which a pool is longest."""
    _, covariance = _moments(pool)
    return np.asarray(np.linalg.eigh(covariance)[1][:, -1])


def _length(pool: np.ndarray, axis: np.ndarray) -> float:
    """Length of the half ellipse with the pool's variance along an axis, in pixels."""
    _, covariance = _moments(pool)
    return float(np.sqrt(max(axis @ covariance @ axis, 0.0) / _HALF_ELLIPSE))


def _moments(pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and covariance of the pixels of a pool."""
    total = pool.sum()
    if not total:
        return np.zeros(2), np.zeros((2, 2))
    places = np.indices(pool.shape).reshape(2, -1)
    weights = pool.ravel() / total
    centre = places @ weights
    apart = places - centre[:, None]
    return centre, np.asarray((apart * weights) @ apart.T)


def _septum(share: np.ndarray, found: Chambers) -> float:
    """Width of the dark gap between both ventricles across the axis, in pixels; NaN without any.

    Lines across the middle third of the left ventricle; along each, what lacks to blood between
    both pools is summed, so that the sharpness of the picture does not matter.
    """
    from scipy import ndimage

    if not found.right:
        return float("nan")
    pool = _pool(share, found)
    centre, _ = _moments(pool)
    axis = _axis(pool)
    across = np.array([-axis[1], axis[0]])
    other = np.argwhere(found.cores == found.right).mean(axis=0)
    across = across if across @ (other - centre) > 0 else -across
    length = _length(pool, axis)
    reach = np.arange(0, float(np.linalg.norm(share.shape)) / 2, 0.1)
    widths = []
    for offset in np.linspace(-0.15, 0.15, 13) * length:
        line = (centre + offset * axis)[:, None] + across[:, None] * reach
        values = ndimage.map_coordinates(share, line, order=1, mode="constant", cval=0.0)
        width = _gap(values, reach)
        if width < THICKEST * length:
            widths.append(width)
    return float(np.median(widths)) if len(widths) >= 4 else float("nan")


def _gap(values: np.ndarray, reach: np.ndarray) -> float:
    """Integral of what lacks to blood between the first fall and the next rise through a half."""
    dark = values < 0.5
    start = int(dark.argmax())
    rest = ~dark[start:]
    if not dark.any() or dark[0] or not rest.any():
        return float("nan")
    stop = start + int(rest.argmax())
    step = reach[1] - reach[0]
    pad = round(1.0 / step)
    lacking = 1 - values[max(start - pad, 0) : stop + pad]
    return float(lacking.sum() * step)
