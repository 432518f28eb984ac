"""Augmentation of prepared images, in the units of the images."""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Float32

#: Angles of seed 001, in degrees.
ANGLES = (-20, -10, -5, 5, 10, 20)


def augment(
    values: Float32[np.ndarray, " *grid"], how: str, rng: np.random.Generator
) -> Float32[np.ndarray, " *grid"]:
    """Change an image at random.

    ``flip`` mirrors the first axis (left-right in RAS) with probability 1/2. ``rotate`` turns the
    image about one random axis by one of +-5, +-10, +-20 degrees, trilinear; values stay within
    the range of the image, and what comes from outside is zero.
    """
    if how == "flip":
        return np.ascontiguousarray(values[::-1]) if rng.random() < 0.5 else values
    from scipy.ndimage import rotate

    plane = ((0, 1), (0, 2), (1, 2))[int(rng.integers(3))]
    angle = float(ANGLES[int(rng.integers(len(ANGLES)))])
    turned = rotate(values, angle, axes=plane, reshape=False, order=1, mode="constant", cval=0)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return np.asarray(np.clip(turned, low, high), np.float32)
