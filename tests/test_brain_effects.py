"""Effect maps: equal to regressions of decoded voxels, calibrated under no effect."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from imgwas.brain.directions import (
    Direction,
    component_direction,
    latent_direction,
    probe_direction,
    regression_direction,
    residual_covariance,
    units_per_sd,
)
from imgwas.brain.effects import (
    Readout,
    Spread,
    chance_p,
    family_wise_threshold,
    shares,
    two_sided_p,
)
from imgwas.brain.mapping import joint_neg_log10_p
from imgwas.brain.volume_change import reader_of_measured
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    TooFewSamplesError,
    UsageError,
)
from imgwas.latents.ledger import mark_people
from imgwas.multiple_testing import false_discovery_rates
from imgwas.types import Atlas, Covariates, Latents

N, K, V = 300, 6, 40
IDS = tuple(f"p{i}" for i in range(N))


def people(seed=0, n=N, k=K):
    """Correlated latents, two covariates, a genotype correlated with the first covariate."""
    rng = np.random.default_rng(seed)
    c = rng.standard_normal((n, 2))
    z = rng.standard_normal((n, k)) @ rng.standard_normal((k, k)) + c @ rng.standard_normal((2, k))
    g = rng.binomial(2, 1 / (1 + np.exp(-c[:, 0]))).astype(float)
    ids = IDS[:n]
    latents = Latents(z, ids, tuple(f"L{i:03d}" for i in range(k)))
    return latents, Covariates(c, ids, ("a", "b")), g


def estimated(latents, covariates, g):
    return regression_direction(latents, g, "g", covariates=covariates, per="unit")


def test_z_and_joint_test_are_those_of_regressions_of_decoded_voxels():
    latents, covariates, g = people()
    jacobian = np.random.default_rng(1).standard_normal((K, V)).astype(np.float32)
    direction = estimated(latents, covariates, g)
    spread = Spread.of(residual_covariance(latents, covariates))
    readout = Readout(jacobian, spread)
    design = sm.add_constant(np.column_stack([covariates.values, g]))
    fits = [sm.OLS(latents.values @ jacobian[:, v], design).fit() for v in range(V)]
    slope = np.array([f.params[-1] for f in fits])
    t = np.array([f.tvalues[-1] for f in fits])
    dof = N - 4
    np.testing.assert_allclose(readout.effect(direction.vector), slope, rtol=1e-4, atol=1e-5)
    # the residual variance is taken before the variant's own share is, as under no effect
    r2 = t**2 / (t**2 + dof)
    z = readout.z(direction.vector, direction.variance)
    np.testing.assert_allclose(z, np.sign(t) * np.sqrt(r2 * dof), rtol=1e-4)
    assert (direction.dof, direction.n) == (dof, N)
    reverse = sm.OLS(g, sm.add_constant(np.hstack([covariates.values, latents.values]))).fit()
    contrast = np.eye(K + 3)[3:]
    wanted = -np.log10(float(reverse.f_test(contrast).pvalue))
    assert joint_neg_log10_p(direction, spread) == pytest.approx(wanted, rel=1e-6)


def test_joint_test_of_a_trait_that_few_people_have_is_that_of_their_regression():
    latents, covariates, g = people(2)
    g = np.where(np.arange(N) < 25, g, np.nan)
    direction = estimated(latents, covariates, g)
    spread = Spread.of(residual_covariance(latents, covariates, g))
    few = np.hstack([covariates.values, latents.values])[:25]
    reverse = sm.OLS(g[:25], sm.add_constant(few)).fit()
    wanted = -np.log10(float(reverse.f_test(np.eye(K + 3)[3:]).pvalue))
    assert joint_neg_log10_p(direction, spread) == pytest.approx(wanted, rel=1e-6)


def test_group_difference_and_units():
    latents, covariates, g = people(3)
    group = (g > 0).astype(float)
    found = regression_direction(latents, group, "carrier", per="group")
    yes, no = (latents.values[group == value].mean(axis=0) for value in (1, 0))
    np.testing.assert_allclose(found.vector, yes - no, atol=1e-10)
    per_sd = regression_direction(latents, g, "g", covariates=covariates)
    per_unit = regression_direction(latents, g, "g", covariates=covariates, per="unit")
    np.testing.assert_allclose(per_sd.vector, per_unit.vector * g.std())
    assert per_sd.variance == pytest.approx(per_unit.variance * g.var())


def test_one_latent_and_components():
    latents, _, _ = people(4)
    one = latent_direction(latents, "L002")
    assert one.vector[2] == pytest.approx(latents.values[:, 2].std())
    assert np.count_nonzero(one.vector) == 1
    covariance = np.cov(latents.values.T)
    assert units_per_sd(np.eye(K)[2], covariance) == pytest.approx(np.sqrt(covariance[2, 2]))
    first = component_direction(latents, 1).vector / latents.values.std(axis=0)
    values, vectors = np.linalg.eigh(np.corrcoef(latents.values.T))
    assert abs(first @ vectors[:, -1]) == pytest.approx(np.sqrt(values[-1]))
    assert np.linalg.norm(first) == pytest.approx(np.sqrt(values[-1]))


@pytest.mark.parametrize("model", ["linear", "logistic", "cox"])
def test_probes_raise_their_score_by_one_sd(model):
    rng = np.random.default_rng(6)
    latents, covariates, _ = people(6)
    weights = np.array([1.0, -0.5, 0, 0, 0.3, 0])
    sd = latents.values.std(axis=0)
    standard = (latents.values - latents.values.mean(axis=0)) / sd
    score = standard @ weights
    time = None
    y = score + rng.standard_normal(N)
    if model == "logistic":
        y = (rng.random(N) < 1 / (1 + np.exp(-score))).astype(float)
    if model == "cox":
        time = rng.exponential(np.exp(-score))
        y = (time < 2).astype(float)
        time = np.minimum(time, 2)
    found = probe_direction(latents, y, "trait", model=model, time=time, covariates=covariates)
    moved = found.vector / sd
    cosine = moved @ weights / np.linalg.norm(moved) / np.linalg.norm(weights)
    assert cosine > 0.7
    fitted = moved / np.linalg.norm(moved)
    assert np.linalg.norm(moved) == pytest.approx((standard @ fitted).std())


def null_effects(latents, covariates, n, seed):
    """Effects of genotypes that have nothing to do with the latents, by regression."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(N), covariates.values]))
    g = rng.binomial(2, 0.3, (n, N)).astype(float)
    g -= (g @ basis) @ basis.T
    z = latents.values - basis @ (basis.T @ latents.values)
    squares = (g * g).sum(axis=1)
    return g @ z / squares[:, None], 1 / squares


def test_family_wise_error_and_region_p_of_chance():
    latents, covariates, _ = people(8)
    rng = np.random.default_rng(9)
    jacobian = rng.standard_normal((K, V)).astype(np.float32)
    spread = Spread.of(residual_covariance(latents, covariates))
    readout = Readout(jacobian, spread)
    threshold = family_wise_threshold(readout.largest_null_z(1999, 1))
    b, variance = null_effects(latents, covariates, 600, 10)
    largest = [np.abs(readout.z(x, c)).max() for x, c in zip(b, variance, strict=True)]
    assert 0.025 <= np.mean(np.array(largest) > threshold) <= 0.08
    regions = np.repeat(np.eye(4), V // 4, axis=1) / (V // 4)

    def share(vectors):
        sizes = np.abs(vectors.astype(np.float32) @ jacobian)
        return shares(sizes @ regions.T, sizes.mean(axis=1))

    null = share(spread.draw(19999, 2))
    p = np.stack([chance_p(row, null) for row in share(b)])
    for region in range(4):
        assert stats.kstest(p[:, region], "uniform").pvalue > 1e-3
    q = np.stack([false_discovery_rates(row) for row in p])
    assert 0.02 <= np.mean(q.min(axis=1) < 0.05) <= 0.08


def test_threshold_is_the_order_statistic():
    largest = np.arange(1.0, 100.0)
    assert family_wise_threshold(largest) == 95
    assert family_wise_threshold(largest[:19]) == 19
    with pytest.raises(DegenerateError, match=r"18 draws cannot show a level of 0\.05"):
        family_wise_threshold(largest[:18])


def test_two_sided_p():
    np.testing.assert_allclose(two_sided_p(np.array([1.96])), 2 * stats.norm.sf(1.96))


def test_chance_p_is_never_zero_and_keeps_gaps():
    null = np.array([[1.0, 1], [2, 2], [3, 3]])
    np.testing.assert_allclose(chance_p(np.array([9.0, 2.0]), null), [0.25, 0.75])
    assert np.isnan(chance_p(np.array([np.nan, 2.0]), null)[0])


def test_redundant_latents_are_no_obstacle():
    latents, covariates, g = people(11)
    twice = Latents(
        np.hstack([latents.values, latents.values[:, :1]]), IDS, (*latents.names, "L006")
    )
    spread = Spread.of(residual_covariance(twice, covariates))
    assert spread.rank == K
    direction = estimated(twice, covariates, g)
    alone = joint_neg_log10_p(
        estimated(latents, covariates, g), Spread.of(residual_covariance(latents, covariates))
    )
    assert joint_neg_log10_p(direction, spread) == pytest.approx(alone, rel=1e-6)


def measured(seed=0, n=N, noise=0.2, seen=()):
    """Latents that carry most of a region's volume, a genotype that changes it by 5 %."""
    rng = np.random.default_rng(seed)
    g = rng.binomial(2, 0.4, n).astype(float)
    log_volume = 0.05 * g + 0.10 * rng.standard_normal((n, 2)).T
    z = rng.standard_normal((n, K))
    z[:, 0] += 10 * log_volume[0] / noise / 10
    z[:, 1] = 10 * log_volume[0] + noise * rng.standard_normal(n)
    source = {"people_seen": mark_people([IDS[i] for i in seen])} if len(seen) else {}
    latents = Latents(z, IDS[:n], tuple(f"L{i:03d}" for i in range(K)), source=source)
    volumes = Latents(np.exp(log_volume.T) * 3000, IDS[:n], ("Left Hippo", "unseen"))
    return latents, volumes, g


def atlas(*names):
    labels = np.zeros((4, 4, 4), np.int32)
    labels[0, 0, : len(names)] = range(1, len(names) + 1)
    numbered = dict(enumerate(names, start=1))
    return Atlas(labels, np.eye(4), numbered, dict.fromkeys(numbered, ""))


def test_volume_change_is_unbiased_where_latents_lose_some_of_it():
    regions = atlas("left_hippo", "unseen", "nobody")
    found = []
    for seed in range(60):
        latents, volumes, g = measured(seed, noise=0.5)
        direction = regression_direction(latents, g, "g", per="unit")
        reader = reader_of_measured(latents, volumes, regions)
        columns = reader.columns(direction, Spread.of(residual_covariance(latents)))
        found.append([columns[f"volume{x}"][0] for x in ("", "_low", "_high")])
        assert 0.6 < reader.share[0] < 0.98
        assert set(reader.reasons) == {1, 2}
        assert np.isnan(columns["volume"][1:]).all()
    value, low, high = np.array(found).T
    assert value.mean() == pytest.approx(0.05, abs=0.004)
    assert 0.85 <= np.mean((low <= 0.05) & (high >= 0.05)) <= 1


def test_volumes_are_learned_from_unseen_people_only():
    latents, volumes, _ = measured(seen=range(100))
    wild = volumes.values.copy()
    wild[:100] = 1e6
    changed = Latents(wild, volumes.sample_ids, volumes.names)
    one = reader_of_measured(latents, volumes, atlas("left_hippo"))
    other = reader_of_measured(latents, changed, atlas("left_hippo"))
    np.testing.assert_array_equal(one.weights, other.weights)


def test_refusals():
    latents, covariates, g = people(12)
    with pytest.raises(UsageError, match=r"no latent 'L00'.*Did you mean L00"):
        latent_direction(latents, "L00")
    with pytest.raises(UsageError, match="component is 7"):
        component_direction(latents, 7)
    with pytest.raises(UsageError, match=r"g has 3 values.*two"):
        regression_direction(latents, g, "g", per="group")
    with pytest.raises(DegenerateError, match="does not vary beyond the covariates"):
        regression_direction(latents, covariates.values[:, 0], "a", covariates=covariates)
    few = np.where(np.arange(N) < 4, g, np.nan)
    with pytest.raises(TooFewSamplesError, match="4 people have the trait"):
        regression_direction(latents, few, "g", covariates=covariates)
    with pytest.raises(UsageError, match="logistic needs 0, 1"):
        probe_direction(latents, g, "g", model="logistic")
    with pytest.raises(UsageError, match="a Cox model needs times"):
        probe_direction(latents, g, "g", model="cox")
    perfect = (latents.values[:, 0] > 0).astype(float)
    with pytest.raises(DegenerateError, match="logistic probe cannot be fitted"):
        probe_direction(latents, perfect, "x", model="logistic")
    with pytest.raises(UsageError, match="the trait has 3 values"):
        regression_direction(latents, np.zeros(3), "x")
    with pytest.raises(DegenerateError, match="do not vary together"):
        Spread.of(np.zeros((2, 2)))
    with pytest.raises(InconsistentError, match="the readout has 5 latents"):
        Readout(np.zeros((5, 2)), Spread.of(np.eye(4)))
    z, volumes, _ = measured()
    with pytest.raises(InconsistentError, match="no column of the volumes has the name"):
        reader_of_measured(z, volumes, atlas("putamen"))
    some = Latents(volumes.values[:11], IDS[:11], volumes.names)
    with pytest.raises(TooFewSamplesError, match="11 people whom the encoder has not seen"):
        reader_of_measured(z, some, atlas("left_hippo"))


def test_a_move_nobody_estimated_has_no_interval():
    latents, volumes, _ = measured()
    reader = reader_of_measured(latents, volumes, atlas("left_hippo"))
    columns = reader.columns(latent_direction(latents, "L001"), Spread.of(np.eye(K)))
    assert set(columns) == {"volume", "volume_share"}
    assert np.isnan(joint_neg_log10_p(Direction("x", np.ones(K), "SD", "latent"),
                                      Spread.of(np.eye(K))))  # fmt: skip
