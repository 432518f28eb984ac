"""The result store: numbers against plain loops, folders that must be refused."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from imgwas.errors import (
    DegenerateError,
    IncompleteError,
    MalformedError,
    OpenError,
    UsageError,
)
from imgwas.sumstats import REASONS, open_sumstats
from imgwas.sumstats.reasons import MEANINGS
from imgwas.sumstats.reduce import median_chi2
from tests.store_fixture import random_fixture, write

COLUMNS = [
    "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error",
    "effect_allele_frequency", "neg_log_10_p_value", "variant_id", "n", "reason",
]  # fmt: skip


@pytest.fixture
def fixture(tmp_path):
    made = random_fixture(
        tmp_path / "res", group_of=[0, 1, 0], dof=(4978, 40), chromosomes=("1", "2", "X", "MT")
    )
    made.reason[5, 0], made.reason[9, 1], made.t[7, 0] = 1, 3, 0.0
    return made


@pytest.fixture
def sumstats(fixture):
    write(fixture)
    return open_sumstats(fixture.folder)


def brute_beta(fixture, row, latent):
    """beta and standard error by the two formulas of the data model, one row at a time."""
    g = fixture.group_of[latent]
    t, dof = float(fixture.t[row, latent]), float(fixture.dof[row, g])
    kind = fixture.chromosome[row] if fixture.chromosome[row] == "X" else "autosome"
    ratio = fixture.trait_scale[latent][kind] / fixture.scale[row, g]
    r = t / math.sqrt(t * t + dof)
    return r * ratio, ratio * math.sqrt((1 - r * r) / dof)


def test_latent_has_the_columns_of_gwas_ssf(sumstats):
    assert list(sumstats.latent("L0").columns) == COLUMNS


def test_beta_and_error_follow_the_data_model(fixture, sumstats):
    for latent, name in enumerate(fixture.names):
        frame = sumstats.latent(name)
        for row in (0, 7, 130, 160, 299):
            beta, error = brute_beta(fixture, row, latent)
            assert frame["beta"][row] == pytest.approx(beta, rel=1e-13, abs=1e-300)
            assert frame["standard_error"][row] == pytest.approx(error, rel=1e-13)


def test_p_counts_degrees_of_freedom_of_the_group(fixture, sumstats):
    frame = sumstats.latent("L1")
    t = float(fixture.t[3, 1])
    assert frame["neg_log_10_p_value"][3] == pytest.approx(-np.log10(2 * stats.t.sf(abs(t), 40)))


def test_chromosomes_are_numbers(sumstats):
    frame = sumstats.latent("L0")
    assert list(dict.fromkeys(frame["chromosome"])) == [1, 2, 23, 25]
    assert sumstats.variants()["chromosome"].iloc[-1] == "MT"


def test_untested_variants_say_why(sumstats):
    frame = sumstats.latent("L0")
    assert frame["reason"][5] == "MONOMORPHIC"
    assert frame.loc[5, ["beta", "standard_error", "neg_log_10_p_value"]].isna().all()
    assert (frame["reason"].drop(5) == "").all()
    assert sumstats.latent("L1")["reason"][9] == "EXPLAINED_BY_COVARIATES"
    assert REASONS.keys() == MEANINGS.keys()


def test_dropped_genotypes_read_the_stored_beta(tmp_path):
    made = random_fixture(tmp_path / "res", n_variants=20)
    made.beta = made.t.astype(np.float64) * 0.25
    made.t[3, 0] = made.beta[3, 0] = 0.0
    write(made)
    frame = open_sumstats(made.folder).latent("L0")
    assert frame["standard_error"].drop(3).to_numpy() == pytest.approx(0.25)
    assert math.isnan(frame["standard_error"][3])
    assert frame["beta"][3] == 0
    assert frame["neg_log_10_p_value"][3] == 0


def test_names_that_begin_another_name_stay_apart(tmp_path):
    made = random_fixture(tmp_path / "res", names=("a", "a.b", "t.a"), n_variants=30)
    write(made)
    sumstats = open_sumstats(made.folder)
    for i, name in enumerate(made.names):
        block = next(sumstats.iter_blocks([f"t.{name}"]))
        assert block.column_names == [f"t.{name}"]
        assert block.column(0).to_numpy() == pytest.approx(made.t[:, i])


def test_region_is_what_a_filter_of_everything_gives(sumstats):
    whole = sumstats.latent("L2")
    for chromosome in ("X", 23, "chrX"):
        found = sumstats.region(chromosome, 2000, 3000, latents=["L2"])
        wanted = whole[
            (whole["chromosome"] == 23) & whole["base_pair_location"].between(2000, 3000)
        ]
        assert len(found) == len(wanted) > 5
        assert found["beta"].to_numpy() == pytest.approx(wanted["beta"].to_numpy())
    assert set(sumstats.region("1", 1000, 1000)["latent"]) == {"L0", "L1", "L2"}


def test_region_without_variants_is_an_empty_table(sumstats):
    found = sumstats.region("22", 1, 10**9)
    assert list(found.columns) == ["latent", *COLUMNS]
    assert found.empty


def test_region_of_a_contig(tmp_path):
    made = random_fixture(tmp_path / "res", chromosomes=("1", "scaffold_9"), n_variants=40)
    write(made)
    sumstats = open_sumstats(made.folder)
    assert len(sumstats.region("scaffold_9", 1, 10**9, latents=["L0"])) == 20
    assert sumstats.region("scaffold_8", 1, 10**9).empty


def test_top_is_what_a_filter_of_everything_gives(sumstats):
    limit = 1.5
    found = sumstats.top(neg_log10_p=limit)
    wanted = {
        (name, row["variant_id"])
        for name in sumstats.latents
        for _, row in sumstats.latent(name).iterrows()
        if row["neg_log_10_p_value"] >= limit
    }
    assert set(zip(found["latent"], found["variant_id"], strict=True)) == wanted
    assert len(wanted) > 10
    assert found["neg_log_10_p_value"].is_monotonic_decreasing
    assert sumstats.top(neg_log10_p=1e6).empty


def test_best_latent_is_the_largest_of_all(sumstats):
    columns = np.column_stack([sumstats.neg_log10_p(name) for name in sumstats.latents])
    best = sumstats.best_latent()
    assert best["neg_log_10_p_value"].to_numpy() == pytest.approx(np.nanmax(columns, axis=1))
    names = np.array(sumstats.latents)[np.nanargmax(columns, axis=1)]
    assert (best["latent"] == names).all()


def test_best_latent_where_none_was_tested(tmp_path):
    made = random_fixture(tmp_path / "res", n_variants=6)
    made.reason[2, 0] = 1
    write(made)
    best = open_sumstats(made.folder).best_latent()
    assert math.isnan(best["neg_log_10_p_value"][2])
    assert best["latent"][2] == ""


def naive_lambda(t, dof):
    p = np.array([2 * stats.t.sf(abs(x), d) for x, d in zip(t, dof, strict=True)])
    return np.median(stats.chi2.isf(p, 1)) / stats.chi2.median(1)


def test_lambda_is_the_median_over_its_expectation(fixture, sumstats):
    values = sumstats.lambda_gc()
    for i, name in enumerate(fixture.names):
        g = fixture.group_of[i]
        tested = fixture.reason[:, g] == 0
        wanted = naive_lambda(fixture.t[tested, i].astype(float), fixture.dof[tested, g])
        assert values[name] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 501, 800])
def test_median_where_degrees_of_freedom_differ(n):
    rng = np.random.default_rng(n)
    dof = rng.integers(1, 40, n)
    t = np.abs(rng.standard_t(dof)).astype(np.float32)
    wanted = naive_lambda(t.astype(float), dof) * stats.chi2.median(1)
    assert median_chi2(t, dof) == pytest.approx(wanted, rel=1e-6)


def test_few_degrees_of_freedom_are_not_inflation(tmp_path):
    t = np.random.default_rng(3).standard_t(3, (4000, 1)).astype(np.float32)
    made = random_fixture(tmp_path / "res", n_variants=4000, names=("L0",), dof=(3,), t=t)
    write(made, part_size=4000)
    assert open_sumstats(made.folder).lambda_gc()["L0"] == pytest.approx(1, abs=0.1)
    assert np.median(t**2) / stats.chi2.median(1) > 1.2  # what counting t as z would say


def test_lambda_of_an_untested_latent_is_missing(tmp_path):
    made = random_fixture(tmp_path / "res", n_variants=5)
    made.reason[:] = 4
    write(made)
    assert open_sumstats(made.folder).lambda_gc().isna().all()


def test_selected_columns_of_variants(sumstats):
    assert list(sumstats.variants(["row", "n_missing"]).columns) == ["row", "n_missing"]
    with pytest.raises(UsageError, match=r"no column 'n_mising'. Did you mean n_missing"):
        sumstats.variants(["n_mising"])


def test_unknown_and_quarantined_latents(sumstats):
    with pytest.raises(UsageError, match=r"no latent 'L_0'.* Did you mean L0"):
        sumstats.latent("L_0")
    with pytest.raises(DegenerateError, match="flat was not tested: constant among"):
        sumstats.latent("flat")
    with pytest.raises(UsageError, match=r"no latent 'zzz'.* It has L0, L1, L2"):
        sumstats.top(latents=["L0", "zzz"])


def test_travels_to_another_process(sumstats):
    copy = pickle.loads(pickle.dumps(sumstats))
    assert copy.latents == sumstats.latents
    assert repr(copy) == "SumStats(300 variants x 3 latents)"
    assert copy.samples["kept"] == 5000


def test_a_part_without_rows(tmp_path):
    made = random_fixture(tmp_path / "res", n_variants=0)
    write(made)
    sumstats = open_sumstats(made.folder)
    assert list(sumstats.latent("L0").columns) == COLUMNS
    assert sumstats.top().empty
    assert sumstats.lambda_gc().isna().all()


def test_parts_of_versions_that_tell_otherwise_what_may_be_null(fixture):
    """Parts of one folder are joined whether or not each says that a column has no nulls."""
    write(fixture)
    sumstats = open_sumstats(fixture.folder)
    before = sumstats.variants()
    path = sumstats.parts[1]
    table = pq.read_table(path)
    fields = [field.with_nullable(table[field.name].null_count > 0) for field in table.schema]
    pq.write_table(pa.table(table.columns, schema=pa.schema(fields)), path)
    assert sumstats.variants().equals(before)
    assert sumstats.latent("L0").notna().any().any()


# --- folders that must be refused ---------------------------------------------------------------


def test_no_folder(tmp_path):
    with pytest.raises(OpenError, match=r"there is no such folder.* Give the --out folder"):
        open_sumstats(tmp_path / "absent")
    with pytest.raises(OpenError, match=r"it has no run.json"):
        open_sumstats(tmp_path)


def test_unfinished_run(fixture):
    write(fixture, complete=False, only_parts=[0, 2])
    with pytest.raises(IncompleteError, match=r"2 of 3 parts done.*same command again to resume"):
        open_sumstats(fixture.folder)
    partial = open_sumstats(fixture.folder, allow_partial=True)
    assert partial.is_partial
    assert partial.n_variants == 128 + 44
    assert "not finished" in repr(partial)


def test_part_of_another_run_does_not_count(fixture):
    write(fixture, complete=False)
    receipt = fixture.folder / "parts" / "part-00001.ok.json"
    receipt.write_text(receipt.read_text().replace('"d1"', '"d2"'))
    assert len(open_sumstats(fixture.folder, allow_partial=True).parts) == 2


def test_unfinished_run_without_any_part(fixture):
    write(fixture, complete=False, only_parts=[])
    with pytest.raises(IncompleteError, match="no finished part"):
        open_sumstats(fixture.folder, allow_partial=True)


def test_made_by_a_newer_imgwas(fixture):
    write(fixture, format_version=2, imgwas_version="9.1")
    with pytest.raises(MalformedError, match=r"newer imgwas \(9.1\).*pip install --upgrade imgwas"):
        open_sumstats(fixture.folder)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("{", "is not readable as JSON"),
        ("[1]", "holds no JSON object"),
        ('{"format": "other"}', "was not written by imgwas associate"),
        ('{"format": "imgwas-scan", "format_version": 1, "latents": []}', "lacks n_parts"),
    ],
)
def test_damaged_run_json(fixture, content, fragment):
    write(fixture)
    (fixture.folder / "run.json").write_text(content)
    with pytest.raises(MalformedError, match=fragment):
        open_sumstats(fixture.folder)


def test_missing_and_shortened_parts(fixture):
    write(fixture)
    part = fixture.folder / "parts" / "part-00001.parquet"
    content = part.read_bytes()
    part.unlink()
    with pytest.raises(MalformedError, match=r"1 of 3 parts.* part-00001.parquet is missing"):
        open_sumstats(fixture.folder)
    part.write_bytes(content[:-10])
    with pytest.raises(MalformedError, match=r"part-00001.parquet has .* bytes, not the"):
        open_sumstats(fixture.folder)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)


def test_a_flipped_byte_is_noticed(fixture):
    write(fixture)
    sumstats = open_sumstats(fixture.folder)
    assert sumstats.verify() == []
    flip_a_byte(sumstats.parts[2])
    assert sumstats.verify(deep=False) == []
    assert sumstats.verify() == ["part-00002.parquet does not match its recorded SHA-256"]
    with pytest.raises(MalformedError, match=r"part-00002.parquet cannot be read.*Delete it"):
        sumstats.variants()


def test_a_part_without_a_column(fixture):
    write(fixture)
    sumstats = open_sumstats(fixture.folder)
    with pytest.raises(MalformedError, match=r"has no column 't.nothing'"):
        list(sumstats.iter_blocks(["t.nothing"]))


def test_digest_follows_the_numbers(fixture, tmp_path):
    write(fixture)
    first = open_sumstats(fixture.folder).digest()
    fixture.folder = tmp_path / "again"
    write(fixture)
    assert open_sumstats(fixture.folder).digest() == first
    fixture.folder, fixture.t[0, 0] = tmp_path / "other", 3.5
    write(fixture)
    assert open_sumstats(fixture.folder).digest() != first
