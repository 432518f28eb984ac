"""Who is analysed: matched by id, told in numbers, refused where it smells."""

from __future__ import annotations

import re

import numpy as np
import pytest

from imgwas.association.alignment import align
from imgwas.association.design import build_design, restrict
from imgwas.association.projection import independent_columns
from imgwas.errors import InconsistentError
from imgwas.types import Covariates, Latents, Samples

N = 60
IDS = tuple(f"sub{1000 + i}" for i in range(N))


def samples_of(ids, families=None, sex=None):
    n = len(ids)
    sex = np.zeros(n, np.int8) if sex is None else np.asarray(sex, np.int8)
    return Samples(tuple(ids), tuple(families or ["0"] * n), sex, np.ones(n, bool))


def latents_of(ids, families=None, names=("z",), values=None):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((len(ids), len(names))) if values is None else values
    return Latents(values, tuple(ids), names, family_ids=families)


def covariates_of(ids, values=None):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((len(ids), 2)) if values is None else values
    return Covariates(values, tuple(ids), tuple(f"c{i}" for i in range(values.shape[1])))


def test_rows_follow_the_genotypes_whatever_the_order_of_the_tables():
    rng = np.random.default_rng(5)
    order = rng.permutation(N)
    latents = latents_of([IDS[i] for i in order])
    covariates = covariates_of([IDS[i] for i in order[::-1]])
    found = align(samples_of(IDS), latents, covariates)
    assert [latents.sample_ids[i] for i in found.latent_rows] == list(IDS)
    assert [covariates.sample_ids[i] for i in found.covariate_rows] == list(IDS)


def test_the_flow_counts_every_step():
    values = np.random.default_rng(1).standard_normal((50, 2))
    values[:3, 0] = np.nan
    found = align(
        samples_of(IDS),
        latents_of([*IDS[5:], "stranger"]),
        covariates_of(IDS[:50], values),
        keep=range(58),
    )
    assert found.flow.steps == [
        ("in genotypes", 60),
        ("after --keep, --remove and --mind", 58),
        ("in latents", 56),
        ("in covariates", 50),
        ("in genotypes and latents", 53),
        ("and in covariates", 45),
        ("with complete covariates", 45),
        ("kept", 45),
    ]
    assert len(found.flow.lines()) == 8


def test_an_iid_that_repeats_is_told_apart_by_its_family():
    ids, families = ["a", "b", "a", *IDS], ["f1", "f1", "f2", *["0"] * N]
    table = latents_of(["a", "a", "b", *IDS], ("f2", "f1", "f1", *["0"] * N))
    found = align(samples_of(ids, families), table)
    assert list(found.latent_rows[:3]) == [1, 2, 0]


@pytest.mark.parametrize(
    ("families", "why"),
    [(None, "latents carry no family id"), (("0",) * (N + 2), "FID and IID both repeat")],
)
def test_an_iid_that_repeats_without_families_is_refused(families, why):
    samples = samples_of([*IDS, IDS[0], IDS[1]], ["0"] * (N + 2))
    table = latents_of(IDS, None if families is None else ("0",) * N)
    with pytest.raises(InconsistentError, match=f"2 sample ids occur more than once.*{why}"):
        align(samples, table)


def test_family_ids_are_ignored_while_iids_are_unique():
    found = align(samples_of(IDS, IDS), latents_of(IDS, ("0",) * N))
    assert len(found.sample_columns) == N


@pytest.mark.parametrize(
    ("rule", "diagnosis"),
    [
        (lambda i: f"sub-{i}", "the prefix 'sub-' were removed"),
        (lambda i: f"00{i}", "leading zeros were ignored"),
        (lambda i: f"{i}.0", "a trailing '.0' were removed"),
        (lambda i: f"{i}_2_0", "a visit suffix such as '_2_0' were removed"),
        (lambda i: f"{i}_{i}", "'FID_IID' were split"),
        (str.upper, "upper and lower case were the same"),
        (lambda i: f"x{i}", "Check that the id column holds the IIDs"),
    ],
)
def test_ids_that_do_not_meet_are_diagnosed(rule, diagnosis):
    with pytest.raises(InconsistentError) as refusal:
        align(samples_of(IDS), latents_of([rule(i) for i in IDS]))
    text = str(refusal.value)
    assert diagnosis in text
    assert "0 of 60 samples of the latents are among the 60 genotyped samples" in text
    assert "--min-overlap" in text
    assert not any(i in text for i in IDS), "ids must be masked"
    assert len(re.findall("first:", text)) == 2


def test_the_least_overlap_can_be_chosen():
    table = latents_of([*IDS[:20], *(f"q{i}" for i in range(40))])
    with pytest.raises(InconsistentError, match="At least 50%"):
        align(samples_of(IDS), table)
    assert len(align(samples_of(IDS), table, min_overlap=0.3).sample_columns) == 20


def test_groups_are_patterns_of_missing_latents():
    values = np.random.default_rng(3).standard_normal((N, 6))
    values[:4, [1, 4]] = np.nan
    values[7, 5] = np.nan
    names = tuple(f"z{i}" for i in range(6))
    design = build_design(samples_of(IDS), latents_of(IDS, None, names, values))
    assert [(g.names, g.n) for g in design.groups] == [
        (("z0", "z2", "z3"), 60),
        (("z1", "z4"), 56),
        (("z5",), 59),
    ]


def test_traits_are_what_least_squares_leaves():
    values = np.random.default_rng(3).standard_normal((N, 3)) * [1, 1e6, 1e-9] + 5
    covariates = covariates_of(IDS)
    names = ("a", "b", "c")
    design = build_design(samples_of(IDS), latents_of(IDS, None, names, values), covariates)
    (group,) = design.groups
    model = np.column_stack([np.ones(N), covariates.values])
    residual = values - model @ np.linalg.lstsq(model, values, rcond=None)[0]
    np.testing.assert_allclose(group.traits * group.scale, residual, rtol=1e-8, atol=1e-6)
    assert group.rank == 3
    assert group.dof == N - 4
    np.testing.assert_allclose(group.basis.T @ group.basis, np.eye(2), atol=1e-14)
    np.testing.assert_allclose(group.basis.sum(axis=0), 0, atol=1e-13)


@pytest.mark.parametrize(
    ("column", "relation"),
    [
        (lambda v: 2 * v[:, 0] - v[:, 1] + 4, "equals"),
        (lambda v: np.full(len(v), 3.0), "constant among the analysed samples"),
        (lambda v: v[:, 1] * 1e-9, "equals"),
        (lambda v: v[:, 0] + 1e-4 * np.sin(np.arange(len(v))), None),
        (lambda v: v[:, 0] + 1e6, "equals"),
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
        assert dropped["c"].startswith(relation)


def test_age_and_its_square_and_a_site_of_one_person_are_independent():
    """A test on unscaled columns calls these collinear (ages squared reach 6,000)."""
    age = np.random.default_rng(0).uniform(45, 80, 5000)
    site = np.zeros(5000)
    site[17] = 1
    kept, _ = independent_columns(np.column_stack([age, age**2, age**3, site]), list("abcd"))
    assert kept == [0, 1, 2, 3]


def test_sex_chromosomes_restrict_people_and_add_a_covariate():
    sex = np.tile([0, 1, 2], N // 3)
    design = build_design(samples_of(IDS, sex=sex), latents_of(IDS), covariates_of(IDS))
    on_x = restrict(design, sex > 0, extra=(sex == 1).astype(float)).groups[0]
    assert (on_x.n, on_x.rank) == (40, 4)
    assert not on_x.traits[sex == 0].any()
    model = np.column_stack([np.ones(N), covariates_of(IDS).values, sex == 1])[sex > 0]
    y = latents_of(IDS).values[sex > 0]
    residual = y - model @ np.linalg.lstsq(model, y, rcond=None)[0]
    np.testing.assert_allclose((on_x.traits * on_x.scale)[sex > 0], residual, atol=1e-12)
    nobody = restrict(design, np.zeros(N, bool)).groups[0]
    assert nobody.n == 0
    assert not nobody.traits.any()
