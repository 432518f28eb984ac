"""Designs equal least squares: projections, degrees of freedom, groups, what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from imgwas.association.design import Design, TraitGroup, build_design, restrict
from imgwas.association.projection import independent_columns
from imgwas.errors import DegenerateError, TooFewSamplesError
from tests.people import IDS, N, covariates_of, latents_of, samples_of

RNG = np.random.default_rng(3)
TRAITS = RNG.standard_normal((N, 6)) + RNG.standard_normal((N, 1))
COVARIATES = np.column_stack([RNG.uniform(45, 80, N), RNG.integers(0, 2, N), RNG.normal(0, 1e4, N)])
NAMES = tuple(f"z{i}" for i in range(6))


def design_of(traits=TRAITS, covariates=COVARIATES, **options) -> Design:
    names = tuple(f"z{i}" for i in range(traits.shape[1]))
    table = None if covariates is None else covariates_of(IDS, covariates)
    return build_design(samples_of(IDS), latents_of(IDS, None, names, traits), table, **options)


def residual_of(traits: np.ndarray, *covariates: np.ndarray) -> np.ndarray:
    """What least squares with an intercept leaves, column scales evened out."""
    model = np.column_stack([np.ones(len(traits)), *covariates])
    model = model / np.linalg.norm(model, axis=0)
    return traits - model @ np.linalg.lstsq(model, traits, rcond=1e-10)[0]


def assert_solves(group: TraitGroup, traits: np.ndarray, *covariates: np.ndarray) -> None:
    """Traits, scales, basis and rank are those of least squares on the people used."""
    used = group.used
    model = [np.asarray(c, float)[used] for c in covariates]
    expected = residual_of(traits[used], *model)
    np.testing.assert_allclose((group.traits * group.scale)[used], expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(group.traits, axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(group.basis.T @ group.basis, np.eye(group.rank - 1), atol=1e-13)
    np.testing.assert_allclose(group.basis.sum(axis=0), 0, atol=1e-12)
    assert not group.traits[~used].any()
    assert not group.basis[~used].any()
    full = np.column_stack([np.ones(used.sum()), *model])
    assert group.rank == np.linalg.matrix_rank(full / np.linalg.norm(full, axis=0))
    assert group.dof == used.sum() - group.rank - 1


def test_traits_are_what_least_squares_leaves():
    (group,) = design_of().groups
    assert_solves(group, TRAITS, COVARIATES)
    assert (group.n, group.rank, group.dof) == (N, 4, N - 5)
    np.testing.assert_allclose(group.mean, TRAITS.mean(axis=0))
    np.testing.assert_allclose(group.sd, TRAITS.std(axis=0, ddof=1))


def test_without_covariates_only_the_mean_is_removed():
    (group,) = design_of(covariates=None).groups
    assert_solves(group, TRAITS)
    assert (group.rank, group.dof) == (1, N - 2)


@pytest.mark.parametrize("unit", [1e-25, 1e-9, 1e25])
@pytest.mark.parametrize("shift", [0, 1e3])
def test_units_change_nothing_but_the_scale(unit, shift):
    (plain,) = design_of().groups
    (group,) = design_of((TRAITS + shift) * unit, COVARIATES / unit).groups
    np.testing.assert_allclose(group.traits, plain.traits, atol=1e-11)
    np.testing.assert_allclose(group.scale, plain.scale * unit, rtol=1e-10)
    assert group.rank == plain.rank


def shuffled(table, seed):
    order = np.random.default_rng(seed).permutation(len(table.sample_ids))
    return replace(
        table, values=table.values[order], sample_ids=tuple(table.sample_ids[i] for i in order)
    )


def test_order_of_rows_changes_nothing_at_all():
    traits, nuisance = TRAITS.copy(), COVARIATES.copy()
    traits[:4, 2] = nuisance[7, 1] = np.nan
    latents, covariates = latents_of(IDS, None, NAMES, traits), covariates_of(IDS, nuisance)
    one = build_design(samples_of(IDS), latents, covariates)
    other = build_design(samples_of(IDS), shuffled(latents, 1), shuffled(covariates, 2))
    assert one.sample_ids == other.sample_ids
    assert len(one.groups) == len(other.groups) == 2
    for a, b in zip(one.groups, other.groups, strict=True):
        for name in ("columns", "used", "basis", "traits", "scale", "mean", "sd"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_order_of_genotypes_is_followed():
    order = np.random.default_rng(1).permutation(N)
    latents, covariates = latents_of(IDS, None, NAMES, TRAITS), covariates_of(IDS, COVARIATES)
    one = build_design(samples_of(IDS), latents, covariates)
    other = build_design(samples_of([IDS[i] for i in order]), latents, covariates)
    assert other.sample_ids == tuple(IDS[i] for i in order)
    np.testing.assert_allclose(other.groups[0].traits, one.groups[0].traits[order], atol=1e-14)


# --- groups


def test_groups_are_patterns_of_missing_latents():
    traits = TRAITS.copy()
    traits[:4, [1, 4]] = np.nan
    traits[7, 5] = np.nan
    design = design_of(traits)
    assert [(g.names, g.n, g.columns.tolist()) for g in design.groups] == [
        (("z0", "z2", "z3"), 60, [0, 2, 3]),
        (("z1", "z4"), 56, [1, 4]),
        (("z5",), 59, [5]),
    ]
    for group in design.groups:
        assert_solves(group, traits[:, group.columns], COVARIATES)
    assert repr(design) == "Design(60 samples, 6 latents in 3 groups, 3 covariates)"


def test_a_trait_does_not_depend_on_its_companions():
    traits = TRAITS.copy()
    traits[RNG.random(traits.shape) < 0.1] = np.nan
    together = {n: (g, i) for g in design_of(traits).groups for i, n in enumerate(g.names)}
    for column, name in enumerate(NAMES):
        (alone,) = design_of(traits[:, [column]]).groups
        group, index = together[name]
        np.testing.assert_array_equal(group.used, alone.used)
        np.testing.assert_allclose(group.traits[:, index], alone.traits[:, 0], atol=1e-14)
        np.testing.assert_allclose(group.scale[index], alone.scale[0], rtol=1e-13)
        assert (group.rank, group.dof) == (alone.rank, alone.dof)


def test_rank_is_that_of_the_people_of_the_group():
    """A centre whose only person lacks the latent is no covariate for that latent."""
    traits, centre = TRAITS[:, :2].copy(), np.zeros((N, 1))
    centre[5] = 1
    traits[5, 1] = np.nan
    first, second = design_of(traits, centre).groups
    assert (first.n, first.rank, first.dof) == (60, 2, 57)
    assert (second.n, second.rank, second.dof) == (59, 1, 57)


# --- covariates left out


@pytest.mark.parametrize(
    ("column", "relation"),
    [
        (lambda v: 2 * v[:, 0] - v[:, 1] + 4, "equals 4 +2·a -1·b"),
        (lambda v: -v[:, 0], "equals -1·a"),
        (lambda v: 1 - v[:, 0], "equals 1 -1·a"),
        (lambda v: np.full(len(v), 3.0), "constant among the analysed samples"),
        (lambda v: np.zeros(len(v)), "constant among the analysed samples"),
        (lambda v: np.full(len(v), 0.1) + 1e-17, "constant among the analysed samples"),
        (lambda v: v[:, 1] * 1e-9, "equals 1e-09·b"),
        (lambda v: v[:, 0] + 1e6, "equals 1e+06 +1·a"),
        (lambda v: v[:, 0].astype(np.float32), "equals 1·a"),
        (lambda v: v[:, 0].astype(np.float16), None),
        (lambda v: v[:, 0] + 1e-4 * np.sin(np.arange(len(v))), None),
        (lambda v: v[:, 0] ** 2, None),
        (lambda v: np.arange(len(v)) == 17, None),
    ],
)
def test_redundant_columns_are_found_on_any_scale(column, relation):
    values = np.random.default_rng(3).standard_normal((N, 2)) * [1, 50]
    values = np.column_stack([values, column(values)])
    kept, dropped = independent_columns(values, ["a", "b", "c"])
    if relation is None:
        assert kept == [0, 1, 2]
    else:
        assert kept == [0, 1]
        assert dropped == {"c": relation}


def test_age_and_its_square_and_a_site_of_one_person_are_independent():
    """A test on unscaled columns calls these collinear (ages squared reach 6,000)."""
    age = np.random.default_rng(0).uniform(45, 80, 5000)
    site = np.zeros(5000)
    site[17] = 1
    kept, _ = independent_columns(np.column_stack([age, age**2, age**3, site]), list("abcd"))
    assert kept == [0, 1, 2, 3]


def test_collinear_covariates_change_nothing_but_are_named(caplog):
    dummies = np.eye(3)[RNG.integers(0, 3, N)]
    full = np.column_stack([COVARIATES, dummies, COVARIATES[:, 0] / 10, np.full(N, 7.0)])
    design = design_of(covariates=full)
    assert design.dropped == {
        "c5": "equals 1 -1·c3 -1·c4",
        "c6": "equals 0.1·c0",
        "c7": "constant among the analysed samples",
    }
    assert design.covariate_names == ("c0", "c1", "c2", "c3", "c4")
    assert "covariate c5 left out: equals 1 -1·c3 -1·c4" in caplog.text
    (group,) = design.groups
    (plain,) = design_of(covariates=full[:, :5]).groups
    np.testing.assert_array_equal(group.traits, plain.traits)
    assert group.dof == plain.dof == N - 7
    assert_solves(group, TRAITS, full)


def test_levels_that_nobody_analysed_has_are_left_out():
    """The reference level, and another, belong to people without latents."""
    centre = np.array(["a"] * 10 + ["b"] * 10 + ["c"] * 20 + ["d"] * 20)
    indicators = np.column_stack([centre == level for level in "bcd"]).astype(float)
    design = build_design(
        samples_of(IDS), latents_of(IDS[20:]), covariates_of(IDS, indicators), min_overlap=0.1
    )
    assert design.dropped == {
        "c0": "constant among the analysed samples",
        "c2": "equals 1 -1·c1",
    }
    assert design.groups[0].rank == 2


# --- latents left out


def test_latents_that_cannot_be_tested_are_put_aside(caplog):
    traits = np.column_stack(
        [
            TRAITS[:, 0],
            np.full(N, 2.5),
            2 * COVARIATES[:, 0] - 3 * COVARIATES[:, 1] + 1,
            (COVARIATES[:, 0] / 3).astype(np.float32),
            np.full(N, np.nan),
            np.where(np.arange(N) < 5, TRAITS[:, 1], np.nan),
            np.where(np.arange(N) < 20, 1.5, np.nan),
            TRAITS[:, 1] * 1e-30,
        ]
    )
    design = design_of(traits)
    assert design.quarantined == {
        "z1": "constant among the analysed samples",
        "z2": "explained by the covariates",
        "z3": "explained by the covariates",
        "z4": "every value is missing",
        "z5": "only 5 samples have a value, for 4 covariate dimensions",
        "z6": "constant among the analysed samples",
    }
    assert [group.names for group in design.groups] == [("z0", "z7")]
    assert_solves(design.groups[0], traits[:, [0, 7]], COVARIATES)
    assert "latent z3 is not tested: explained by the covariates" in caplog.text


def test_an_outlier_is_mentioned_unless_ranks_are_used(caplog):
    traits = TRAITS.copy()
    traits[11, 2] = 1e8
    traits[:, 3] = traits[:, 4]
    design_of(traits)
    assert "latent z2: one sample carries 98% of the variance" in caplog.text
    assert "latent z4: equal to z3" in caplog.text
    assert "--rank-normal" in caplog.text
    caplog.clear()
    design_of(traits, rank_normal=True)
    assert not caplog.text


def test_many_odd_latents_are_counted(caplog):
    traits = np.eye(N)[:, :25] + 1e-3 * RNG.standard_normal((N, 25))
    design_of(traits)
    assert caplog.text.count("one sample carries") == 10
    assert "15 more like these" in caplog.text


def test_a_trait_that_varies_among_others_only_is_constant():
    traits = np.r_[np.ones(40), RNG.standard_normal(20)][:, None]
    with pytest.raises(DegenerateError, match=r"none of the 1 latents can be .*z0: constant among"):
        build_design(
            samples_of(IDS), latents_of(IDS, None, ("z0",), traits), covariates_of(IDS[:40])
        )


def test_one_degree_of_freedom_is_enough_and_none_is_not():
    many = RNG.standard_normal((N, N - 2))
    (group,) = design_of(TRAITS[:, :1], many[:, :-1]).groups
    assert (group.rank, group.dof) == (N - 2, 1)
    with pytest.raises(TooFewSamplesError, match=r"60 samples are left for a model of 59 .* 61 "):
        design_of(TRAITS[:, :1], many)


# --- transforms


@pytest.mark.parametrize("missing", [False, True])
def test_rank_normal_is_taken_among_the_people_used(missing):
    traits = np.exp(TRAITS[:, :2])
    if missing:
        traits[:9] = np.nan
    nuisance = COVARIATES.copy()
    nuisance[50:, 0] = np.nan
    (group,) = design_of(traits, nuisance, rank_normal=True).groups
    used = np.arange(N)[9 if missing else 0 : 50]
    ranks = stats.rankdata(traits[used], axis=0)
    z = stats.norm.ppf((ranks - 0.375) / (len(used) + 0.25))
    expected = residual_of(z, COVARIATES[used])
    np.testing.assert_allclose((group.traits * group.scale)[group.used], expected, atol=1e-10)
    np.testing.assert_allclose(group.sd, z.std(axis=0, ddof=1))
    assert group.n == len(used)


def test_two_step_model_removes_covariates_from_the_trait_alone():
    (group,) = design_of(residualize_first=True).groups
    (one_step,) = design_of().groups
    np.testing.assert_array_equal(group.traits, one_step.traits)
    assert (group.rank, group.dof, group.basis.shape) == (1, N - 2, (N, 0))


# --- sex chromosomes

SEX = np.tile([0, 1, 2], N // 3)


def test_sex_is_a_covariate_among_people_of_known_sex():
    traits = TRAITS.copy()
    traits[:9, 1] = np.nan
    design = design_of(traits)
    on_x = restrict(design, SEX > 0, extra=(SEX == 1).astype(float))
    assert on_x.sample_columns is design.sample_columns
    for group, original in zip(on_x.groups, design.groups, strict=True):
        assert group.names == original.names
        np.testing.assert_array_equal(group.used, original.used & (SEX > 0))
        assert_solves(group, traits[:, group.columns], COVARIATES, SEX == 1)
    assert on_x.groups[0].rank == 5


def test_sex_that_is_a_covariate_already_adds_nothing():
    nuisance = np.column_stack([COVARIATES, SEX == 1])
    males = restrict(design_of(covariates=nuisance), SEX == 1)
    on_x = restrict(design_of(covariates=nuisance), SEX > 0, extra=(SEX == 1).astype(float))
    assert_solves(on_x.groups[0], TRAITS, nuisance)
    assert on_x.groups[0].rank == 5
    assert males.groups[0].rank == 4
    used = SEX == 1
    expected = residual_of(TRAITS[used], COVARIATES[used])
    np.testing.assert_allclose(
        (males.groups[0].traits * males.groups[0].scale)[used], expected, atol=1e-9
    )


@pytest.mark.parametrize("unit", [1e-200, 1e-25, 1e25])
def test_restricting_works_in_any_unit(unit):
    plain = restrict(design_of(), SEX == 1).groups[0]
    group = restrict(design_of(TRAITS * unit), SEX == 1).groups[0]
    np.testing.assert_allclose(group.traits, plain.traits, atol=1e-12)
    np.testing.assert_allclose(group.scale, plain.scale * unit, rtol=1e-10)


def test_a_trait_that_does_not_vary_there_keeps_its_place():
    traits = TRAITS[:, :3].copy()
    traits[SEX == 1, 1] = 4.0
    males = restrict(design_of(traits, covariates=None), SEX == 1).groups[0]
    assert males.names == ("z0", "z1", "z2")
    assert not males.traits[:, 1].any()
    np.testing.assert_allclose(np.linalg.norm(males.traits[:, [0, 2]], axis=0), 1)


def test_nobody_left_is_no_error():
    nobody = restrict(design_of(), np.zeros(N, bool), extra=np.zeros(N)).groups[0]
    assert (nobody.n, nobody.rank) == (0, 0)
    assert nobody.dof < 1
    assert not nobody.traits.any()
    assert not nobody.scale.any()


def test_fewer_people_than_covariates_leave_nothing_to_test():
    three = restrict(design_of(), np.arange(N) < 3).groups[0]
    assert (three.n, three.rank, three.dof) == (3, 3, -1)
    assert not three.traits.any()
