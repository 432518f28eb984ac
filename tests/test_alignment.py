"""Who is analysed: matched by id, told in numbers, refused where it smells."""

from __future__ import annotations

import re

import numpy as np
import pytest

from imgwas.association.alignment import align
from imgwas.errors import DegenerateError, InconsistentError, UsageError
from tests.people import IDS, N, covariates_of, latents_of, samples_of


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
        (lambda i: i.replace("0", "O"), "Check that the id column holds the IIDs"),
        (str.upper, "upper and lower case were the same"),
        (lambda i: f'"{i}"', "the quotation marks were removed (in R: quote=FALSE)"),
        (lambda i: f"{int(i[3:]):.1E}{i[3:]}", "a spreadsheet rounded them"),
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
    assert not any(i[3:] in text for i in IDS), "ids must be masked"
    assert len(re.findall("first:", text)) == 2


def test_the_least_overlap_can_be_chosen():
    table = latents_of([*IDS[:20], *(f"q{i}" for i in range(40))])
    with pytest.raises(InconsistentError, match="At least 50%"):
        align(samples_of(IDS), table)
    assert len(align(samples_of(IDS), table, min_overlap=0.3).sample_columns) == 20


def test_family_and_sample_ids_that_are_exchanged():
    others = [f"x{i}" for i in IDS]
    with pytest.raises(
        InconsistentError, match=r"60 would .* FID and IID were exchanged in this ta"
    ):
        align(samples_of(IDS), latents_of(others, IDS))
    with pytest.raises(
        InconsistentError, match=r"60 would .* FID and IID were exchanged in the .f"
    ):
        align(samples_of(others, IDS), latents_of(IDS))


def test_the_repair_that_helps_most_is_named():
    ids = [f"sub-{i}" for i in IDS[:10]] + [f"{i}.0" for i in IDS[10:]]
    with pytest.raises(InconsistentError, match=r"50 would match if a trailing '.0'"):
        align(samples_of(IDS), latents_of(ids))


def test_a_repair_that_helps_few_is_not_named():
    ids = [*IDS[:20], *(f"{i}.0" for i in IDS[20:25]), *(f"q{i}" for i in range(35))]
    with pytest.raises(InconsistentError, match=r"20 of 60 samples.*Check that the id column"):
        align(samples_of(IDS), latents_of(ids))


@pytest.mark.parametrize(
    ("n_genotyped", "n_table", "n_shared", "is_enough"),
    [(60, 60, 30, True), (60, 60, 29, False), (60, 10, 5, True), (60, 10, 4, False),
     (10, 60, 5, True), (10, 60, 4, False), (60, 1, 1, True), (1, 60, 0, False)],
)  # fmt: skip
def test_half_of_the_smaller_file_must_match(n_genotyped, n_table, n_shared, is_enough):
    genotyped = [f"g{i}" for i in range(n_genotyped)]
    table = latents_of([*genotyped[:n_shared], *(f"t{i}" for i in range(n_table - n_shared))])
    if is_enough:
        assert len(align(samples_of(genotyped), table).sample_columns) == n_shared
    else:
        with pytest.raises(InconsistentError, match=f"{n_shared} of {n_table} samples of the lat"):
            align(samples_of(genotyped), table)


def test_covariates_must_match_too():
    with pytest.raises(InconsistentError, match="0 of 60 samples of the covariates are among"):
        align(samples_of(IDS), latents_of(IDS), covariates_of([f"q{i}" for i in IDS]))


def test_tables_of_different_people_leave_nobody():
    with pytest.raises(InconsistentError, match="nobody is in the genotypes, the latents and"):
        align(samples_of(IDS), latents_of(IDS[:30]), covariates_of(IDS[30:]))


@pytest.mark.parametrize("min_overlap", [-0.1, 1.1, np.nan])
def test_an_overlap_is_a_share(min_overlap):
    with pytest.raises(UsageError, match=r"min_overlap is .*from 0 to 1"):
        align(samples_of(IDS), latents_of(IDS), min_overlap=min_overlap)


def test_no_overlap_at_all_is_refused_even_on_request():
    with pytest.raises(InconsistentError, match="0 of 60"):
        align(samples_of(IDS), latents_of([f"q{i}" for i in IDS]), min_overlap=0)


def test_people_left_by_keep_are_the_genotyped_ones():
    found = align(samples_of(IDS), latents_of(IDS[::-1]), keep={7, 3, 59})
    assert found.sample_columns.tolist() == [3, 7, 59]
    assert found.latent_rows.tolist() == [56, 52, 0]
    with pytest.raises(InconsistentError, match=r"0 of 60 samples .* the 0 genotyped"):
        align(samples_of(IDS), latents_of(IDS), keep=[])


def test_an_iid_that_repeats_in_a_table_is_told_apart_by_its_family():
    """The genotypes hold one of the two people, the other table no families at all."""
    table = latents_of([*IDS, IDS[0]], ("f2", *["0"] * (N - 1), "f1"))
    samples = samples_of(IDS, ["f1", *["0"] * (N - 1)])
    found = align(samples, table, covariates_of(IDS))
    assert found.latent_rows[0] == N
    assert found.latent_rows[1:].tolist() == list(range(1, N))


def test_ids_are_compared_as_text():
    ids = ["7", "007", "7.0", "1e5", "100000", "a", "A", "NA", "nan"]
    found = align(samples_of(ids), latents_of(ids[::-1]))
    assert found.latent_rows.tolist() == list(range(8, -1, -1))


@pytest.mark.parametrize("n_missing", [0, 1, 56, 57])
def test_a_covariate_may_cost_many_people_and_says_so(n_missing, caplog):
    values = np.random.default_rng(1).standard_normal((N, 2))
    values[:n_missing, 1] = np.nan
    with caplog.at_level("INFO"):
        found = align(samples_of(IDS), latents_of(IDS), covariates_of(IDS, values))
    assert len(found.sample_columns) == N - n_missing
    said = f"covariate c1 is missing for {n_missing} of 60 samples, who are left out"
    assert (said in caplog.text) == (n_missing > 0)


def test_a_covariate_that_costs_almost_everyone_is_refused():
    values = np.random.default_rng(1).standard_normal((N, 2))
    values[:58, 1] = np.nan
    values[:10, 0] = np.nan
    with pytest.raises(DegenerateError) as refusal:
        align(samples_of(IDS), latents_of(IDS), covariates_of(IDS, values))
    assert "covariate c1 is missing for 58 of 60 samples" in str(refusal.value)
    assert "48 samples have every other covariate" in str(refusal.value)
    assert "Leave that covariate out" in str(refusal.value)


def test_covariates_that_together_cost_everyone_are_refused():
    values = np.random.default_rng(1).standard_normal((N, 2))
    values[:30, 0] = values[30:, 1] = np.nan
    with pytest.raises(DegenerateError, match=r"no sample has a value for every covariate.*c0 is"):
        align(samples_of(IDS), latents_of(IDS), covariates_of(IDS, values))


def test_missing_covariates_of_other_people_do_not_count():
    values = np.random.default_rng(1).standard_normal((N + 900, 2))
    values[N:, 1] = np.nan
    ids = [*IDS, *(f"q{i}" for i in range(900))]
    assert len(align(samples_of(IDS), latents_of(IDS), covariates_of(ids, values)).latent_rows) == N
