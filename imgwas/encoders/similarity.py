"""How alike pictures are: SSIM and MS-SSIM of volumes, Fréchet distance of sets of features.

A cine is a volume of (x, y, frames). All functions of torch tensors can be differentiated.

References
----------
Wang, Bovik, Sheikh & Simoncelli (2004), IEEE Trans Image Process 13:600 (SSIM).
Wang, Simoncelli & Bovik (2003), Asilomar Conference (MS-SSIM).
Dowson & Landau (1982), J Multivar Anal 12:450; Heusel et al. (2017), NeurIPS (FID).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain
from imgwas.shapes import Float, Float64

#: Constants of Wang et al. (2004), as shares of the dynamic range.
K1, K2 = 0.01, 0.03
#: Standard deviation of the Gaussian window in voxels, and its length.
SIGMA, WINDOW = 1.5, 11
#: Weights of the scales of Wang et al. (2003), finest first.
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: A scale with an axis shorter than this is left out.
SHORTEST = 8


def ssim(
    a: Float[torch.Tensor, "batch 1 x y z"],
    b: torch.Tensor,
    *,
    data_range: float,
    window: int = WINDOW,
    sigma: float = SIGMA,
) -> Float[torch.Tensor, " batch"]:
    r"""Return the structural similarity of pairs of volumes, 1 where they are equal.

    With Gaussian-weighted local means :math:`\mu`, variances and covariance,

    .. math::

        \frac{(2\mu_a\mu_b + c_1)(2\sigma_{ab} + c_2)}
             {(\mu_a^2+\mu_b^2+c_1)(\sigma_a^2+\sigma_b^2+c_2)},
        \qquad c_i = (K_i L)^2,

    averaged over every place where the window lies within the volume. Along an axis shorter than
    ``window`` the window has the largest odd length that fits.

    Parameters
    ----------
    a, b : (batch, 1, x, y, z) tensors
    data_range : float
        L, largest minus smallest possible intensity: 2 for images in -1..1.
    window : int
        Odd length of the Gaussian window.
    sigma : float
        Its standard deviation in voxels.

    Raises
    ------
    InconsistentError
        If the shapes differ.
    UsageError
        If the range is not positive or the window is even.
    """
    luminance, contrast = _maps(a, b, data_range, window, sigma)
    return (luminance * contrast).mean(dim=(1, 2, 3, 4))


def ms_ssim(
    a: Float[torch.Tensor, "batch 1 x y z"],
    b: torch.Tensor,
    *,
    data_range: float,
    weights: Sequence[float] = SCALES,
    window: int = WINDOW,
    sigma: float = SIGMA,
) -> Float[torch.Tensor, " batch"]:
    """Return the multi-scale structural similarity of pairs of volumes, 1 where they are equal.

    Contrast and structure at every scale, luminance at the coarsest; each scale is the one before,
    averaged over 2 x 2 x 2 voxels. Scales with an axis below 8 voxels are left out and the
    remaining weights made to sum to 1: 128 x 128 x 50 has three. A negative factor counts as 0.

    Parameters
    ----------
    a, b : (batch, 1, x, y, z) tensors
    data_range : float
        Largest minus smallest possible intensity.
    weights : sequence of float
        Exponents of the scales, finest first.
    window, sigma
        As in :func:`ssim`.

    Raises
    ------
    InconsistentError, UsageError
        As :func:`ssim`.
    """
    used = np.asarray(weights[: n_scales(tuple(a.shape[2:]), len(weights))], np.float64)
    used /= used.sum()
    product = torch.ones(len(a), device=a.device, dtype=a.dtype)
    for scale, weight in enumerate(used.tolist()):
        luminance, contrast = _maps(a, b, data_range, window, sigma)
        last = scale == len(used) - 1
        factor = (luminance * contrast if last else contrast).mean(dim=(1, 2, 3, 4))
        product = product * factor.clamp(min=0) ** weight
        if not last:
            a, b = functional.avg_pool3d(a, 2), functional.avg_pool3d(b, 2)
    return product


def n_scales(grid: Sequence[int], most: int = len(SCALES)) -> int:
    """Count the scales that a grid has room for; at least one.

    >>> n_scales((128, 128, 50)), n_scales((64, 64, 64)), n_scales((6, 6, 6))
    (3, 4, 1)
    """
    shortest, n = min(grid), 1
    while n < most and shortest // 2 >= SHORTEST:
        shortest, n = shortest // 2, n + 1
    return n


def _maps(
    a: torch.Tensor, b: torch.Tensor, data_range: float, window: int, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return luminance, and contrast times structure, at every place of the window."""
    _check_pair(a, b, data_range, window, sigma)
    a, b = a.float(), b.float()
    kernels = [_gaussian(n, window, sigma, a.device) for n in a.shape[2:]]
    # variances of values near 0 keep their digits; the shift changes no variance
    shift = a.mean()
    stacked = torch.cat([a - shift, b - shift, (a - shift) ** 2, (b - shift) ** 2,
                         (a - shift) * (b - shift)])  # fmt: skip
    mean_a, mean_b, square_a, square_b, product = _blur(stacked, kernels).chunk(5)
    variances = (square_a - mean_a**2) + (square_b - mean_b**2)
    covariance = product - mean_a * mean_b
    mean_a, mean_b = mean_a + shift, mean_b + shift
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _gaussian(n: int, window: int, sigma: float, device: torch.device) -> torch.Tensor:
    """A Gaussian of odd length within n voxels, summing to 1."""
    length = min(window, n if n % 2 else n - 1)
    at = torch.arange(length, device=device, dtype=torch.float32) - (length - 1) / 2
    weights = torch.exp(-(at**2) / (2 * sigma**2))
    return weights / weights.sum()


def _blur(values: torch.Tensor, kernels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weighted means along each axis in turn, where the window fits."""
    for axis, kernel in enumerate(kernels):
        shape = [1, 1, 1, 1, 1]
        shape[axis + 2] = len(kernel)
        values = functional.conv3d(values, kernel.reshape(shape))
    return values


def _check_pair(
    a: torch.Tensor, b: torch.Tensor, data_range: float, window: int, sigma: float
) -> None:
    if a.shape != b.shape:
        raise InconsistentError(
            explain(
                f"pictures of shape {tuple(a.shape)} and {tuple(b.shape)} were given",
                expected="Both must have one shape, (batch, 1, x, y, z)",
            )
        )
    if not 0 < data_range < float("inf"):
        raise UsageError(
            explain(f"data_range is {data_range:g}", expected="Above 0: 2 for images in -1..1")
        )
    if window < 1 or window % 2 == 0 or not sigma > 0:
        raise UsageError(
            explain(f"window is {window}, sigma {sigma:g}",
                    expected="An odd number of voxels and a width above 0, e.g. 11 and 1.5")
        )  # fmt: skip


def frechet_distance(a: Float64[np.ndarray, "n features"], b: Float64[np.ndarray, "m _"]) -> float:
    r"""Return the squared Fréchet distance of Gaussians fitted to two sets of feature rows.

    :math:`|\mu_a-\mu_b|^2 + \mathrm{tr}\,(C_a + C_b - 2\,(C_a C_b)^{1/2})`, covariances with
    divisor n - 1. The trace of the root is the sum of singular values of :math:`X_a X_b^\top`,
    rows centred and scaled: no root of a matrix is taken, so fewer rows than features, or constant
    features, do no harm. With fewer rows than a few times the features it is biased upwards.

    Parameters
    ----------
    a : (n, features) array
    b : (m, features) array

    Raises
    ------
    InconsistentError
        If the numbers of features differ.
    DegenerateError
        If a set has fewer than two rows, or values that are not finite.
    """
    if a.shape[1] != b.shape[1]:
        raise InconsistentError(
            explain(f"{a.shape[1]} and {b.shape[1]} features were given",
                    expected="Both sets need the same features")
        )  # fmt: skip
    if min(len(a), len(b)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DegenerateError(
            explain(f"sets of {len(a)} and {len(b)} feature rows were given",
                    expected="At least two rows each, all values finite")
        )  # fmt: skip
    roots: list[np.ndarray] = [
        np.asarray(np.linalg.qr(_centred(rows), mode="r")) for rows in (a, b)
    ]
    overlap = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    between = float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum())
    within = sum(float((root**2).sum()) for root in roots)
    return max(0.0, between + within - 2 * float(overlap))


def _centred(rows: np.ndarray) -> np.ndarray:
    """Rows whose cross product is their covariance."""
    out: np.ndarray = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return out
