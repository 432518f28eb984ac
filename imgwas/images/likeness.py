"""Which of many images is unlike the others, by thumbnails: one pass, a few kilobytes an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product

import numpy as np

from imgwas.shapes import Float64

#: Blocks along each axis of a thumbnail.
BLOCKS = 12
#: Median absolute deviations below the median at which a resemblance is called low.
UNLIKE = 6.0
#: Fewer images than this are not compared with one another.
FEW = 10


@dataclass(frozen=True)
class Likeness:
    """How much one image resembles the others.

    Parameters
    ----------
    whole : float
        Correlation of its thumbnail with the mean of the others.
    inside : float
        The same over the blocks where the mean of all is above average: the head.
    kind : {"", "turned", "unlike"}
        What follows from it.
    text : str
        The same as a sentence.
    """

    whole: float
    inside: float
    kind: str = ""
    text: str = ""


def thumbnail(values: np.ndarray) -> np.ndarray:
    """Return means of at most 12 x 12 x 12 blocks, standardised, in half precision.

    Frames of a cine are averaged; a constant image gives zeros.
    """
    small = np.asarray(values if values.ndim == 3 else values.mean(axis=3), np.float32)
    for _ in range(3):  # each turn shortens the first axis and moves it to the end
        weights = _overlaps(small.shape[0]).astype(small.dtype)
        small = np.tensordot(small, weights, axes=(0, 1)).astype(np.float64)
    sd = small.std()
    return np.asarray((small - small.mean()) / sd if sd else small * 0, np.float16)


def _overlaps(n: int) -> Float64[np.ndarray, "blocks n"]:
    """Share of each block that each of n voxels has; the same seen from either end."""
    edges = np.linspace(0, n, min(BLOCKS, n) + 1)
    voxel = np.arange(n)
    high = np.minimum(edges[1:, None], voxel + 1)
    low = np.maximum(edges[:-1, None], voxel)
    return np.asarray(np.maximum(high - low, 0) / np.diff(edges)[:, None])


def compare(thumbnails: Sequence[np.ndarray]) -> list[Likeness]:
    """Compare each thumbnail with the mean of the others.

    An image is unlike the others if its correlation with their mean, over everything or inside the
    head, lies six scaled median absolute deviations (at least 0.01 each) below the median. Half as
    low, it is turned in all ways that keep the grid; if a turn brings both correlations half of the
    way back to their medians, and above those limits, the header is wrong rather than the image.
    Left and right are too alike for that.

    Parameters
    ----------
    thumbnails : sequence of arrays
        Of :func:`thumbnail`, of images on one grid, none of them constant.

    Returns
    -------
    list of Likeness
        Empty if there are fewer than ten: too few to know what is usual.
    """
    if len(thumbnails) < FEW:
        return []
    total = np.zeros(thumbnails[0].size)
    for small in thumbnails:
        total += _flat(small)
    head = total > 0

    def pair(small: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
        one = _flat(small)
        rest = total - one
        one = one if places is None else one[places]
        return np.array([correlation(one, rest), correlation(one[head], rest[head])])

    pairs = [pair(small) for small in thumbnails]
    usual, spread = _middle(np.array(pairs))
    turns = list(_turns(thumbnails[0].shape))
    found = []
    for small, now in zip(thumbnails, pairs, strict=True):
        whole, inside = (float(value) for value in now)
        depth = float(((usual - now) / spread).max())
        kind, text = "", ""
        if depth > UNLIKE / 2:
            text = _turned(partial(pair, small), turns, usual, spread)
            kind = "turned" if text else ""
        if depth > UNLIKE and not kind:
            kind = "unlike"
            text = (
                f"Unlike the others: r {whole:.2f} with their mean (usual {usual[0]:.2f}), "
                f"{inside:.2f} inside the head (usual {usual[1]:.2f})."
            )
        found.append(Likeness(whole, inside, kind, text))
    return found


def _flat(small: np.ndarray) -> Float64[np.ndarray, " blocks"]:
    return np.asarray(small, np.float64).ravel()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; 0 where one side is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def _middle(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and spread of both correlations."""
    usual = np.median(pairs, axis=0)
    spread = 1.4826 * np.median(np.abs(pairs - usual), axis=0)
    return usual, np.maximum(spread, 0.01)


def _turns(shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every way to swap and reverse axes that keeps the shape, in words and as an index."""
    places = np.arange(int(np.prod(shape))).reshape(shape)
    for order in permutations(range(3)):
        for steps in product((1, -1), repeat=3):
            turned = places.transpose(order)[tuple(slice(None, None, step) for step in steps)]
            swapped = [str(axis + 1) for axis in range(3) if order[axis] != axis]
            back = [str(axis + 1) for axis in range(3) if steps[axis] < 0]
            words = [f"axes {_and(swapped)} swapped"] if swapped else []
            if back:
                words.append(f"{'axes' if len(back) > 1 else 'axis'} {_and(back)} reversed")
            if words and turned.shape == shape:
                yield ", ".join(words), turned.ravel()


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _turned(
    pair: Callable[[np.ndarray], np.ndarray], turns: Sequence[tuple[str, np.ndarray]],
    usual: np.ndarray, spread: np.ndarray,
) -> str:  # fmt: skip
    """Say which turn makes both correlations usual again; empty if none does."""
    if not turns:
        return ""
    now = pair(np.arange(len(turns[0][1])))
    found = [pair(places) for _, places in turns]
    best = max(range(len(turns)), key=lambda k: float(found[k].sum()))
    limit = np.maximum(usual - UNLIKE * spread, (now + usual) / 2)
    if (found[best] < limit).any():
        return ""
    return (
        f"Looks turned: with {turns[best][0]} it would resemble the others by r "
        f"{found[best][0]:.2f} instead of {now[0]:.2f}."
    )
