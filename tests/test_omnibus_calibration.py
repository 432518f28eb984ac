"""Calibration and power of the tests of all latents, with latents as encoders make them.

The tables of ``docs/heritability.md`` are printed by these tests: ``pytest -m slow -s``.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from imgwas.association.permutation import permute_omnibus
from imgwas.genotypes.memory import ArrayGenotypes
from imgwas.sumstats.effective_tests import METHODS, effective_tests
from imgwas.sumstats.joint import OmnibusTest
from imgwas.sumstats.mostest import mostest
from imgwas.sumstats.omnibus_null import OmnibusNull, simulate_null
from imgwas.sumstats.pvalues import neg_log10_p_value
from imgwas.types import Covariates, Latents
from tests.test_scan import genotypes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

K, RANK = 128, 40
TESTS = ("combined", "joint", "chi2", "minp", "acat")


def loadings(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Forty shared causes of 128 latents, of equal weight or quickly falling."""
    made = rng.standard_normal((RANK, K)) / np.sqrt(RANK)
    return made if kind == "flat" else made * (0.9 ** np.arange(RANK))[:, None] * 3


def latent_like(n: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """(people, latents) values: shared causes, and a fifth (flat) or more of noise."""
    return rng.standard_normal((n, RANK)) @ loadings(kind, rng) + 0.5 * rng.standard_normal((n, K))


def t_of(genotypes: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """t of every variant and latent by centred products; an intercept is the only covariate."""
    g = genotypes - genotypes.mean(axis=1, keepdims=True)
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    y = latents - latents.mean(axis=0)
    r = g @ (y / np.linalg.norm(y, axis=0))
    return r * np.sqrt((len(y) - 2) / (1 - r * r))


def draw(n: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """Genotypes in equilibrium, minor-allele frequencies of 5 to 50 %."""
    return rng.binomial(2, rng.uniform(0.05, 0.5, (m, 1)), (m, n)).astype(np.float32)


def report(capsys, title: str, rows: dict[str, list[float]]) -> None:
    with capsys.disabled():
        print(f"\n{title}")
        for name, values in rows.items():
            print(f"{name:>20} " + " ".join(f"{value:8.3f}" for value in values))


@pytest.mark.parametrize(
    ("n", "m", "kind"),
    [(500, 60_000, "flat"), (2000, 60_000, "flat"), (20_000, 20_000, "flat"),
     (2000, 60_000, "steep")],
)  # fmt: skip
def test_share_below_one_per_cent(n, m, kind, capsys):
    """No effect anywhere; observed over nominal share below 0.01, for ours and for others."""
    rng = np.random.default_rng(n)
    y = latent_like(n, kind, rng)
    t = np.concatenate([t_of(draw(n, 2000, rng), y) for _ in range(m // 2000)])
    permuted = np.concatenate([t_of(draw(n, 2000, rng), y) for _ in range(m // 2000)])
    correlation = np.corrcoef(y - y.mean(axis=0), rowvar=False)
    test = OmnibusTest(correlation, [0] * K, n=n, dof=n - 2, single=False)
    found = test.columns(t.astype(np.float64), np.full((len(t), 1), n - 2), TESTS)
    drawn = simulate_null(test, n_draws=400_000, seed=1, tests=["combined"])
    found["calibrated"] = drawn.calibrated(found["combined"])
    best = neg_log10_p_value(np.abs(t).max(axis=1), n - 2)
    for method in ("li_ji", "nyholt"):
        found[f"minp {method}"] = best - np.log10(effective_tests(correlation, method))
    published = mostest(t.astype(np.float64), permuted.astype(np.float64))
    found["mostest"] = published["most"].to_numpy()
    found["most minp"] = published["minp"].to_numpy()
    levels = [0.05, 0.01, 1e-3]
    rows = {
        name: [np.mean(values > -np.log10(p)) / p for p in levels] for name, values in found.items()
    }
    report(capsys, f"N {n:,}, {m:,} variants, {kind}: share below 0.05, 0.01, 0.001", rows)
    error = np.sqrt(0.99 / 0.01 / m)
    assert abs(rows["joint"][1] - 1) < 3 * error
    assert abs(rows["calibrated"][1] - 1) < 3 * error
    assert rows["combined"][1] < 1 + 3 * error
    if kind == "flat":
        assert abs(rows["combined"][1] - 1) < 0.1 + 3 * error


@pytest.mark.parametrize(
    ("n", "m", "permutations"), [(500, 20_000, 100), (2000, 20_000, 50), (20_000, 5000, 100)]
)
def test_shares_under_permutation(n, m, permutations, capsys):
    """The scan's own code, rows of residual latents shuffled, covariates that follow genotypes."""
    rng = np.random.default_rng(n + 1)
    dosage = draw(n, m, rng)
    genotypes: ArrayGenotypes = genotypes_of(dosage)
    ids = genotypes.samples.sample_ids
    nuisance = rng.standard_normal((n, 3))
    nuisance[:, 0] += dosage[:5].sum(axis=0)
    del dosage
    values = latent_like(n, "flat", rng) + nuisance[:, :1]
    latents = Latents(values, ids, tuple(f"z{k}" for k in range(K)))
    covariates = Covariates(nuisance, ids, ("a", "b", "c"))
    null = permute_omnibus(
        genotypes, latents, covariates, n_permutations=permutations, seed=1, threads=1
    )
    levels = [0.05, 0.01, 1e-3, 1e-4]
    shares = null.shares(levels)
    n_tests = null.tests["joint"].size
    error = np.sqrt(1e4 / n_tests)
    report(
        capsys,
        f"N {n:,}, {n_tests:,} permuted tests: share below 0.05 ... 1e-4 over nominal "
        f"(standard error at 1e-4 {error:.3f})",
        {name: shares[name].tolist() for name in shares},
    )
    half = permutations // 2  # permutation P: half of the permutations judge the other half
    first = OmnibusNull({name: values[:half] for name, values in null.tests.items()})
    judged = first.neg_log10_p(null.tests["combined"][half:].ravel())
    own = [np.mean(judged > -np.log10(p)) / p for p in levels]
    report(capsys, "combined, by permutation P of the other half", {"combined": own})
    for name in ("joint", "combined"):
        assert abs(shares.loc[0.01, name] - 1) < 0.1
        assert abs(shares.loc[1e-4, name] - 1) < 0.1 + 3 * error
    assert abs(own[3] - 1) < 3 * 2 * error


SCENARIOS = ["one latent", "five latents", "all latents", "first component", "small component"]


@pytest.mark.parametrize("kind", ["independent", "latent-like"])
def test_power(kind, capsys):
    """Share of effects found at 5e-8: minp for sparse, F for spread, combined near the better."""
    rng = np.random.default_rng(3)
    n, draws = 5000, 4000
    correlation = np.eye(K)
    if kind == "latent-like":
        shared = loadings("flat", rng)
        covariance = shared.T @ shared + 0.25 * np.eye(K)
        scale = np.sqrt(np.diag(covariance))
        correlation = covariance / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(correlation)
    root = np.linalg.cholesky(correlation)
    test = OmnibusTest(correlation, [0] * K, n=n, dof=n - 2, single=False)
    rows, powers = {}, {}
    for scenario in SCENARIOS:
        effect = np.zeros((draws, K))
        if scenario == "one latent":
            effect[:, 0] = 6.5
        elif scenario == "five latents":
            effect[:, :5] = 5.0 * rng.choice([-1, 1], (draws, 5))
        elif scenario == "all latents":
            effect = 0.9 * rng.standard_normal((draws, K))
        elif scenario == "first component":
            effect += 8.5 * vectors[:, -1] * np.sqrt(values[-1])
        else:
            effect += 12 * vectors[:, 0] * np.sqrt(values[0])
        r = (effect + rng.standard_normal((draws, K)) @ root.T) / np.sqrt(n)
        t = r * np.sqrt((n - 2) / (1 - r * r))
        found = test.columns(t, np.full((draws, 1), n - 2), TESTS)
        powers[scenario] = {name: np.mean(v > -np.log10(5e-8)) for name, v in found.items()}
        rows[scenario[:10]] = list(powers[scenario].values())
    report(capsys, f"power at 5e-8, {kind} latents: {' '.join(TESTS)}", rows)
    for scenario, power in powers.items():
        assert power["combined"] > max(power["joint"], power["minp"]) - 0.08, scenario
    assert powers["one latent"]["minp"] > 0.4
    assert powers["all latents"]["joint"] > powers["all latents"]["minp"] + 0.1
    assert powers["small component"]["joint"] > 0.9


def rank_forty() -> np.ndarray:
    """The correlation that latent_like gives."""
    shared = loadings("flat", np.random.default_rng(5))
    covariance = shared.T @ shared + 0.25 * np.eye(K)
    scale = np.sqrt(np.diag(covariance))
    return covariance / np.outer(scale, scale)


CORRELATIONS = {
    "independent": lambda: np.eye(K),
    "all 0.3": lambda: 0.7 * np.eye(K) + 0.3,
    "all 0.8": lambda: 0.2 * np.eye(K) + 0.8,
    "16 blocks of 8, 0.8": lambda: np.kron(np.eye(16), 0.2 * np.eye(8) + 0.8),
    "rank 40, 20 % noise": rank_forty,
    "AR(0.9)": lambda: 0.9 ** np.abs(np.subtract.outer(np.arange(K), np.arange(K))),
}


def test_effective_numbers_against_simulation(capsys):
    """Number of tests for a family-wise 1e-3 by simulation, and the formulas beside it."""
    rng = np.random.default_rng(9)
    rows = {}
    for name, make in CORRELATIONS.items():
        correlation = make()
        root = np.linalg.cholesky(correlation)
        largest = np.concatenate(
            [np.abs(rng.standard_normal((20_000, K)) @ root.T).max(axis=1) for _ in range(20)]
        )
        each = 2 * stats.norm.sf(np.quantile(largest, 0.999))
        truth = np.log1p(-1e-3) / np.log1p(-each)
        rows[name] = [truth, *(effective_tests(correlation, method) for method in METHODS)]
    report(capsys, f"effective tests at 1e-3: simulated {' '.join(METHODS)}", rows)
    for name, (truth, _, nyholt, li_ji, _, _) in rows.items():
        assert nyholt > 0.8 * truth, name
        if name not in ("independent", "all 0.8"):
            assert li_ji < 0.85 * truth, name


def test_the_published_null_from_few_permuted_variants(capsys):
    """MOSTest's gamma null lets through too much while K^2 is not small against the variants."""
    rng = np.random.default_rng(4)
    root = np.linalg.cholesky(rank_forty())
    z = rng.standard_normal((100_000, K)) @ root.T
    rows = {}
    for m in (2000, 4000, 20_000, 100_000):
        permuted = rng.standard_normal((m, K)) @ root.T
        most = mostest(z, permuted)["most"].to_numpy()
        rows[f"{m:,} permuted"] = [np.mean(most > -np.log10(p)) / p for p in (0.05, 0.01, 1e-3)]
    report(capsys, "MOSTest, many people: share below 0.05, 0.01, 0.001", rows)
    assert rows["4,000 permuted"][1] > 1.3
    assert abs(rows["100,000 permuted"][1] - 1) < 0.15
