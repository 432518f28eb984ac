"""r² of two variants from their 3 x 3 table of genotype counts: by haplotypes, or by dosages.

A table holds, for every pair, how many people carry 0, 1, 2 copies at the one variant (rows) and at
the other (columns). People without both calls are in no table.
"""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Float64

_COPIES = np.arange(3.0)


def dosage_r2(tables: Float64[np.ndarray, "pairs 3 3"]) -> Float64[np.ndarray, " pairs"]:
    """Squared Pearson correlation of the two counts of alleles; NaN where one does not vary.

    This is the r² of PLINK 2's ``--clump-unphased`` and of PLINK 1.9's ``--r2``.
    """
    n = tables.sum(axis=(1, 2))
    x, y = tables.sum(axis=2), tables.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = x @ _COPIES / n, y @ _COPIES / n
        var_x = x @ _COPIES**2 / n - mean_x**2
        var_y = y @ _COPIES**2 / n - mean_y**2
        both = np.einsum("pij,i,j->p", tables, _COPIES, _COPIES) / n - mean_x * mean_y
        varies = (var_x > 1e-12) & (var_y > 1e-12)
        return np.asarray(np.where(varies, both**2 / (var_x * var_y), np.nan))


def haplotype_r2(
    tables: Float64[np.ndarray, "pairs 3 3"],
    haploid: Float64[np.ndarray, "pairs 3 3"] | None = None,
) -> Float64[np.ndarray, " pairs"]:
    """Squared correlation of alleles on one haplotype, frequencies by maximum likelihood.

    Only the phase of double heterozygotes is unknown. Under random union of haplotypes the
    likelihood of the frequency of one haplotype has its extremes at the roots of a cubic; among
    those inside the possible range the likeliest is taken. This is the r² of PLINK's ``--clump``.

    Parameters
    ----------
    tables : (pairs, 3, 3) float array
        Diploid people.
    haploid : (pairs, 3, 3) float array, optional
        People with one haplotype (men on X), in the rows and columns 0 and 2; the middle ones are
        left out.

    Returns
    -------
    (pairs,) float array
        NaN where a variant does not vary among the people of the table.

    References
    ----------
    .. [1] Hill (1974), Heredity 33:229.
    """
    known = np.stack(
        [
            2 * tables[:, 2, 2] + tables[:, 2, 1] + tables[:, 1, 2],
            2 * tables[:, 2, 0] + tables[:, 2, 1] + tables[:, 1, 0],
            2 * tables[:, 0, 2] + tables[:, 0, 1] + tables[:, 1, 2],
            2 * tables[:, 0, 0] + tables[:, 0, 1] + tables[:, 1, 0],
        ]
    )
    if haploid is not None:
        known = known + np.stack([haploid[:, i, j] for i in (2, 0) for j in (2, 0)])
    double = tables[:, 1, 1]
    total = known.sum(axis=0) + 2 * double
    with np.errstate(invalid="ignore", divide="ignore"):
        known, double = known / total, double / total
        p = known[0] + known[1] + double
        q = known[0] + known[2] + double
        both = _likeliest(known, double, p, q)
        varies = (p * (1 - p) > 1e-12) & (q * (1 - q) > 1e-12)
        r2 = (both - p * q) ** 2 / (p * (1 - p) * q * (1 - q))
        return np.asarray(np.where(varies, np.minimum(r2, 1.0), np.nan))


def _likeliest(known: np.ndarray, double: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Frequency of the haplotype of both counted alleles."""
    low, high = known[0], known[0] + double
    roots = _cubic_roots(
        1 - 2 * p - 2 * q - 2 * low - double,
        p * q - low * (1 - 2 * p - 2 * q) - double * (1 - p - q),
        -low * p * q,
    )
    candidates = np.clip(np.vstack([roots, low, high]), low, high)
    candidates = np.where(np.isnan(candidates), low, candidates)
    best = _log_likelihood(candidates, known, double, p, q).argmax(axis=0)
    return np.asarray(np.take_along_axis(candidates, best[None], axis=0)[0])


def _log_likelihood(
    both: np.ndarray, known: np.ndarray, double: np.ndarray, p: np.ndarray, q: np.ndarray
) -> np.ndarray:
    frequencies = np.stack([both, p - both, q - both, 1 - p - q + both]).clip(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(known[:, None] > 0, known[:, None] * np.log(frequencies), 0)
        phase = frequencies[0] * frequencies[3] + frequencies[1] * frequencies[2]
        value = logs.sum(axis=0) + np.where(double > 0, double * np.log(phase), 0)
    return np.asarray(np.where(np.isnan(value), -np.inf, value))


def _cubic_roots(b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Real roots of 2 y³ + b y² + c y + d, three rows, NaN where there are fewer."""
    b, c, d = b / 2, c / 2, d / 2
    shift = b / 3
    u = (b * b - 3 * c) / 9
    v = (2 * b**3 - 9 * b * c + 27 * d) / 54
    three = v * v < u**3
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = np.arccos(np.clip(v / np.sqrt(u**3), -1, 1))
        turns = np.stack([angle, angle + 2 * np.pi, angle - 2 * np.pi]) / 3
        many = -2 * np.sqrt(u) * np.cos(turns) - shift
        cube = -np.sign(v) * np.cbrt(np.abs(v) + np.sqrt(np.maximum(v * v - u**3, 0)))
        one = cube + np.where(cube != 0, u / np.where(cube != 0, cube, 1), 0) - shift
    lone = np.stack([one, np.full_like(one, np.nan), np.full_like(one, np.nan)])
    return np.asarray(_polish(np.where(three, many, lone), b, c, d))


def _polish(y: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Two Newton steps, which remove the rounding of the closed form."""
    for _ in range(2):
        slope = (3 * y + 2 * b) * y + c
        value = ((y + b) * y + c) * y + d
        y = y - np.where(np.abs(slope) > 1e-12, value / np.where(slope == 0, 1, slope), 0)
    return y
