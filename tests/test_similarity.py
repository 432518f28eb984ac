"""SSIM, MS-SSIM and the Fréchet distance against loops and a root of a matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imgwas.encoders.similarity import SCALES, frechet_distance, ms_ssim, n_scales, ssim
from imgwas.errors import DegenerateError, InconsistentError, UsageError


def slow_terms(a, b, data_range, window=11, sigma=1.5):
    """Luminance times contrast-structure, and the latter alone, place by place, as Wang 2004."""
    lengths = [min(window, n if n % 2 else n - 1) for n in a.shape]
    axes = [np.exp(-((np.arange(k) - (k - 1) / 2) ** 2) / (2 * sigma**2)) for k in lengths]
    weights = np.einsum("i,j,k->ijk", *(w / w.sum() for w in axes))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    both, contrast = [], []
    for corner in np.ndindex(*(n - k + 1 for n, k in zip(a.shape, lengths, strict=True))):
        here = tuple(slice(i, i + k) for i, k in zip(corner, lengths, strict=True))
        x, y = a[here], b[here]
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        cxy = (weights * (x - mx) * (y - my)).sum()
        cs = (2 * cxy + c2) / (vx + vy + c2)
        contrast.append(cs)
        both.append((2 * mx * my + c1) / (mx**2 + my**2 + c1) * cs)
    return float(np.mean(both)), float(np.mean(contrast))


def pair(shape, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=shape) + offset
    b = 0.7 * a + 0.5 * rng.normal(size=shape) + 0.1
    return a, b


def tensor(values):
    return torch.from_numpy(values.astype(np.float32))[None, None]


@pytest.mark.parametrize(
    ("shape", "offset"), [((13, 12, 14), 0.0), ((8, 13, 3), 0.0), ((12, 12, 12), 50.0)]
)
def test_ssim_is_that_of_a_loop(shape, offset):
    """Also where an axis is shorter than the window, and where values lie far from 0."""
    a, b = pair(shape, offset=offset)
    found = float(ssim(tensor(a), tensor(b), data_range=4.0))
    assert found == pytest.approx(slow_terms(a, b, 4.0)[0], abs=2e-5)


def test_ms_ssim_is_that_of_a_loop():
    a, b = pair((20, 24, 17), seed=1, offset=0.5)
    product, total = 1.0, sum(SCALES[:2])
    assert n_scales(a.shape) == 2
    both, contrast = slow_terms(a, b, 4.0)
    product *= contrast ** (SCALES[0] / total)
    half = [v[:20, :24, :16].reshape(10, 2, 12, 2, 8, 2).mean(axis=(1, 3, 5)) for v in (a, b)]
    both, _ = slow_terms(*half, 4.0)
    product *= both ** (SCALES[1] / total)
    assert float(ms_ssim(tensor(a), tensor(b), data_range=4.0)) == pytest.approx(product, abs=2e-5)


def test_equal_pictures_are_one_and_order_does_not_matter():
    a, b = pair((16, 16, 16), seed=2)
    x, y = tensor(a), tensor(b)
    for function in (ssim, ms_ssim):
        assert float(function(x, x, data_range=2.0)) == pytest.approx(1, abs=1e-6)
        there, back = function(x, y, data_range=2.0), function(y, x, data_range=2.0)
        assert float(there) == pytest.approx(float(back), abs=1e-5)
        assert float(there) < 0.95
    # one at a time or together
    both = ssim(torch.cat([x, y]), torch.cat([y, y]), data_range=2.0)
    assert both.tolist() == pytest.approx([float(ssim(x, y, data_range=2.0)), 1.0], abs=1e-5)
    opposite = ms_ssim(x, -x, data_range=2.0)
    assert float(opposite) == 0  # negative structure counts as none, and not as nan


def test_ssim_has_a_gradient_that_improves_it():
    a, b = pair((12, 12, 12), seed=3)
    target, moved = tensor(a), tensor(b).requires_grad_()
    before = ssim(target, moved, data_range=4.0).sum()
    before.backward()
    assert moved.grad is not None
    after = ssim(target, moved.detach() + moved.grad, data_range=4.0)
    assert float(after) > float(before.detach())


def sqrtm_distance(a, b):
    from scipy.linalg import sqrtm

    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(ca @ cb))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * root)


def test_frechet_distance_is_that_of_matrix_roots():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 1
    b = rng.normal(size=(90, 6)) @ rng.normal(size=(6, 6))
    assert frechet_distance(a, b) == pytest.approx(sqrtm_distance(a, b), rel=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a + 2, a) == pytest.approx(4 * 6, rel=1e-9)  # a shift alone


def test_frechet_distance_with_fewer_rows_than_features():
    """Singular covariances: the eigenvalues of the other, symmetric, form of the root agree."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(5, 12)), rng.normal(size=(7, 12)) * 2
    b[:, 3] = 1.0  # a constant feature
    values, vectors = np.linalg.eigh(np.cov(a, rowvar=False))
    half = vectors * np.sqrt(values.clip(0)) @ vectors.T
    middle = np.linalg.eigvalsh(half @ np.cov(b, rowvar=False) @ half).clip(0)
    within = np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False))
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + within - 2 * np.sqrt(middle).sum()
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-6)


def test_bad_inputs_are_named():
    x = torch.zeros(2, 1, 8, 8, 8)
    with pytest.raises(InconsistentError, match=r"\(2, 1, 8, 8, 8\) and \(1, 1, 8, 8, 8\)"):
        ssim(x, x[:1], data_range=1.0)
    with pytest.raises(UsageError, match="data_range is 0"):
        ssim(x, x, data_range=0.0)
    with pytest.raises(UsageError, match="window is 10"):
        ms_ssim(x, x, data_range=1.0, window=10)
    with pytest.raises(InconsistentError, match="3 and 4 features"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 4)))
    with pytest.raises(DegenerateError, match="sets of 1 and 5"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
