"""Where the heart is: the part of a cine that moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.errors import DegenerateError, UsageError, explain

#: Structures of the published pipeline, in pixels.
CLOSING, OPENING, MEDIAN = 10, 5, 5
#: Share of the mean temporal variance above which a pixel moves.
THRESHOLD = 0.5
#: A box larger than this share of the picture is noise, or the picture is all heart.
LARGEST_SHARE = 0.5
#: Successive frames of a beating heart resemble each other; white noise has a correlation near 0.
SMOOTHEST_NOISE = 0.2
_FEWEST_FRAMES = 8


@dataclass(frozen=True)
class Heart:
    """A moving region.

    Parameters
    ----------
    centre : tuple of float
        Centre of its bounding box. Unit: pixels along x and y, from 0.
    box : tuple of int
        First and last pixel along x, then along y.
    share : float
        Share of the picture that its bounding box takes.
    smoothness : float
        Correlation of successive frames within it, from about 0 (noise) to 1.
    """

    centre: tuple[float, float]
    box: tuple[int, int, int, int]
    share: float
    smoothness: float


def locate_heart(cine: np.ndarray) -> Heart:
    """Find the largest region that moves.

    A pixel moves if its variance over time exceeds half the mean of that variance over the picture.
    The mask is closed by 10 x 10 pixels, opened by 5 x 5, smoothed by a median of 5 x 5; the
    largest connected component is the heart.

    Parameters
    ----------
    cine : (x, y, frames) array
        One slice over one heart beat.

    Returns
    -------
    Heart
        Its centre is that of the bounding box.

    Raises
    ------
    DegenerateError
        If nothing moves, nearly everything does, or what changes is noise: then the centre would
        mean nothing.

    References
    ----------
    .. [1] Ometto, Chatterjee et al. (2026), Nature Communications, s41467-026-74575-y.
    """
    from scipy import ndimage

    variance = _variance(cine)
    moving = variance > THRESHOLD * variance.mean()
    margin = CLOSING  # at the border the outside is neither heart nor background
    padded = np.pad(moving, margin)
    closed = ndimage.binary_closing(padded, np.ones((CLOSING, CLOSING), np.bool_))
    opened = ndimage.binary_opening(closed, np.ones((OPENING, OPENING), np.bool_))
    smooth = ndimage.median_filter(opened.astype(np.uint8), MEDIAN)[margin:-margin, margin:-margin]
    labels, n_regions = ndimage.label(smooth)
    if not n_regions:
        raise DegenerateError(
            explain("what moves is smaller than 5 x 5 pixels", expected="A beating heart")
        )
    sizes = np.bincount(labels.ravel())[1:]
    region = labels == int(sizes.argmax()) + 1
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    box = (int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1]))
    share = (box[1] - box[0] + 1) * (box[3] - box[2] + 1) / region.size
    smoothness = _smoothness(cine, region)
    _check_is_heart(share, smoothness)
    return Heart(((box[0] + box[1]) / 2, (box[2] + box[3]) / 2), box, share, smoothness)


def _variance(cine: np.ndarray) -> np.ndarray:
    """Variance over time of every pixel; refused where there is none."""
    if cine.ndim != 3 or cine.shape[2] < _FEWEST_FRAMES:
        raise DegenerateError(
            explain(
                f"the cine has shape {cine.shape}",
                expected=f"(x, y, frames) with at least {_FEWEST_FRAMES} frames",
            )
        )
    if not np.isfinite(cine).all():
        raise DegenerateError(explain("the cine holds values that are not finite"))
    variance: np.ndarray = np.var(cine, axis=2, dtype=np.float64)
    if not variance.max() > 0:
        raise DegenerateError(
            explain(
                f"nothing moves in {cine.shape[2]} frames",
                expected="A beating heart",
                do="Check that the frames differ: the same picture may have been stored each time",
            )
        )
    return variance


def _smoothness(cine: np.ndarray, region: np.ndarray) -> float:
    """Correlation between successive frames, over the pixels of a region and all times."""
    inside = cine[region].astype(np.float64)
    inside -= inside.mean(axis=1, keepdims=True)
    following = np.roll(inside, -1, axis=1)  # a heart beat is a circle
    total = float((inside**2).sum())
    return float((inside * following).sum() / total) if total else 0.0


def _check_is_heart(share: float, smoothness: float) -> None:
    if share > LARGEST_SHARE:
        raise DegenerateError(
            explain(
                f"what moves spans {share:.0%} of the picture",
                expected=f"A heart spans at most {LARGEST_SHARE:.0%}",
                do="This is noise, or a picture cropped before: leave the step out for those",
            )
        )
    if smoothness < SMOOTHEST_NOISE:
        raise DegenerateError(
            explain(
                f"what changes does so at random: successive frames correlate at {smoothness:.2f}",
                expected=f"Motion, at least {SMOOTHEST_NOISE}",
                do="Check the order of the frames, and that this is a cine",
            )
        )


def crop_around(
    cine: np.ndarray,
    centre: tuple[float, float],
    size: tuple[int, int] = (128, 128),
) -> np.ndarray:
    """Cut a window around a centre; what lies outside the picture is zero.

    Parameters
    ----------
    cine : (x, y, ...) array
        Any number of further axes.
    centre : tuple of float
        Pixel that comes to lie at ``size // 2``, rounded.
    size : tuple of int, default (128, 128)
        Width and height of the window.

    Returns
    -------
    (width, height, ...) array
        A copy.
    """
    if min(size) < 1:
        raise UsageError(explain(f"the window is {size}", expected="At least one pixel a side"))
    window = np.zeros((*size, *cine.shape[2:]), cine.dtype)
    source, target = [], []
    for middle, width, length in zip(centre, size, cine.shape[:2], strict=True):
        start = int(np.floor(middle + 0.5)) - width // 2
        first, last = max(start, 0), min(start + width, length)
        last = max(first, last)
        source.append(slice(first, last))
        target.append(slice(first - start, last - start))
    window[tuple(target)] = cine[tuple(source)]
    return window


def crop_to_heart(cine: np.ndarray, size: tuple[int, int] = (128, 128)) -> tuple[np.ndarray, Heart]:
    """Cut a window around the heart of a (x, y, frames) array: the window, and where it was.

    See :func:`locate_heart` and :func:`crop_around`.
    """
    heart = locate_heart(cine)
    return crop_around(cine, heart.centre, size), heart
