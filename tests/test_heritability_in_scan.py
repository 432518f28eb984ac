"""Heritability whose pass over the genotypes is the scan's own."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import imgwas
from imgwas.association import build_design, probing
from imgwas.association.engines import run_part
from imgwas.association.progress import NoProgress
from imgwas.association.task import load_task
from imgwas.errors import DegenerateError, IncompleteError, MalformedError, UsageError
from imgwas.genotypes import ArrayGenotypes
from imgwas.genotypes.filters import VariantFilters
from imgwas.sumstats.probes import PROBES, StoredProbes, random_signs
from tests.cli_cohort import imgwas as command_line
from tests.genetic_models import polygenic_study

N, M = 300, 1200


@pytest.fixture(scope="module")
def study():
    return polygenic_study(N, M, 4, seed=1, missing=0.02)


def scan(study, out, **options):
    return imgwas.associate(
        study.genotypes, study.latents, study.covariates, out=out, heritability=True,
        **({"part_size": 500} | options),
    )  # fmt: skip


@pytest.fixture(scope="module")
def kept(study, tmp_path_factory):
    return scan(study, tmp_path_factory.mktemp("kept") / "results")


def awkward_study():
    """Sex chromosomes and XY in between, rare variants, missing calls, two groups of latents."""
    study = polygenic_study(N, M, 4, seed=2)
    rng = np.random.default_rng(0)
    dosage = study.dosage.copy()
    dosage[100:140] = rng.random((40, N)) < 0.01
    dosage[rng.random(dosage.shape) < 0.03] = np.nan
    dosage[200] = 1
    names = np.array(["1"] * M, object)
    names[300:320], names[1100:1150], names[1150:1180], names[1180:] = "XY", "X", "Y", "MT"
    variants = study.genotypes.variants.set_column(0, "chromosome", pa.array(list(names)))
    people = replace(study.genotypes.samples, sex=rng.integers(1, 3, N).astype(np.int8))
    values = study.latents.values.copy()
    values[:25, 2] = np.nan
    return replace(
        study,
        genotypes=ArrayGenotypes(dosage.astype(np.float32), variants, people),
        dosage=np.where(np.isin(names, ["1"])[:, None], dosage, np.nan),
        latents=replace(study.latents, values=values),
    )


def dense_oracle(study, blocks):
    """The definition with plain matrices: standard genotypes, ``G_c'G_c b`` of every block."""
    dosage = np.where(np.isnan(study.dosage), np.nanmean(study.dosage, 1)[:, None], study.dosage)
    model = np.column_stack([np.ones(N), study.covariates.values])
    projection = np.eye(N) - model @ np.linalg.pinv(model)
    standard = dosage.astype(float) @ projection
    standard /= np.linalg.norm(standard, axis=1)[:, None]
    vectors = projection @ random_signs(N, -(-20_000 // N), 0)
    sums = np.stack([standard[rows].T @ (standard[rows] @ vectors) for rows in blocks])
    return (np.einsum("cnp,dnp->pcd", sums, sums), np.einsum("np,cnp->pc", vectors, sums),
            np.square(vectors).sum(0), N - np.linalg.matrix_rank(model))  # fmt: skip


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("part_size", [137, 5000])
def test_sums_equal_plain_matrices(tmp_path, part_size):
    study = awkward_study()
    results = scan(study, tmp_path / "r", part_size=part_size)
    stored = StoredProbes.read(results.folder)
    autosomal = np.flatnonzero(np.isfinite(study.dosage).any(axis=1))
    edges = np.linspace(0, len(autosomal), 101).astype(int)
    everyone = [autosomal[a:b] for a, b in itertools.pairwise(edges)]
    at_least = study.dosage.copy()
    at_least[:, :25] = np.nan  # of the smaller group
    maf = [np.minimum(f, 1 - f) for f in (np.nanmean(d, 1) / 2 for d in (study.dosage, at_least))]
    good = (maf[0] > 0.01) & (maf[1] > 0.01) & (np.nanvar(study.dosage, axis=1) > 0)
    blocks = [rows[good[rows]] for rows in everyone]
    inner, linear, length, free = dense_oracle(study, blocks)
    assert stored.counts.tolist() == [len(rows) for rows in blocks]
    assert stored.counts.min() == 0
    assert stored.first_rows.tolist() == [rows[0] for rows in everyone]
    np.testing.assert_allclose(stored.sums.inner, inner, rtol=1e-4, atol=1e-5 * inner.max())
    np.testing.assert_allclose(stored.sums.linear, linear, rtol=1e-4, atol=1e-5 * linear.max())
    np.testing.assert_allclose(stored.sums.length, length, rtol=1e-10)
    assert stored.sums.n == free


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_parts_without_a_variant_that_counts(tmp_path):
    """Chromosome X is longer than a part, and comes last."""
    study = polygenic_study(N, M, 2, seed=3)
    names = ["1"] * (M - 150) + ["X"] * 150
    variants = study.genotypes.variants.set_column(0, "chromosome", pa.array(names))
    people = replace(study.genotypes.samples, sex=np.ones(N, np.int8))
    study = replace(study, genotypes=ArrayGenotypes(study.dosage, variants, people))
    found = [scan(study, tmp_path / f"{size}", part_size=size) for size in (70, M)]
    one, two = (StoredProbes.read(results.folder) for results in found)
    np.testing.assert_array_equal(one.counts, two.counts)
    assert one.counts.sum() <= M - 150


def test_equals_a_pass_of_its_own_where_variants_are_left_out(tmp_path):
    """Scale and estimates are the same; errors are over slightly other blocks."""
    study = awkward_study()
    results = scan(study, tmp_path / "r")
    found = imgwas.heritability_of_scan(results)
    own = imgwas.estimate_heritability(study.genotypes, study.design, sumstats=results)
    assert found.latents == own.latents
    assert found.n.tolist() == own.n.tolist() == [N, N, N, N - 25]
    assert found.n_variants == own.n_variants < 1080
    assert found.n_blocks < own.n_blocks == 100
    assert found.kappa == pytest.approx(own.kappa, rel=1e-5)
    np.testing.assert_allclose(found.covariance, own.covariance, atol=2e-5)
    np.testing.assert_allclose(found.phenotypic, own.phenotypic, atol=1e-12)
    ratio = found.heritability_error / own.heritability_error
    np.testing.assert_allclose(ratio, 1, atol=0.25)


def test_equals_a_pass_of_its_own(study, kept):
    """Where every variant counts, blocks are the same and so is everything."""
    found = imgwas.heritability_of_scan(kept)
    own = imgwas.estimate_heritability(study.genotypes, study.design, sumstats=kept)
    assert (found.n_variants, found.n_blocks) == (M, 100)
    for name in ("covariance", "covariance_error", "correlation", "kappa", "kappa_error"):
        one, other = getattr(found, name), getattr(own, name)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


def test_filters_of_the_scan(study, tmp_path):
    results = scan(study, tmp_path / "r", filters=VariantFilters(maf=0.2))
    found = imgwas.heritability_of_scan(results)
    own = imgwas.estimate_heritability(study.genotypes, study.design, sumstats=results)
    assert found.n_variants == own.n_variants < M
    np.testing.assert_allclose(found.covariance, own.covariance, rtol=1e-4, atol=2e-5)


def test_the_scan_is_the_same(study, kept, tmp_path):
    plain = imgwas.associate(
        study.genotypes, study.latents, study.covariates, out=tmp_path / "r", part_size=500
    )
    assert "heritability" not in plain.metadata["settings"]
    assert not (plain.folder / PROBES).exists()
    assert set(plain.columns_of("L00")) == set(kept.columns_of("L00"))
    for name in plain.latents:
        one, other = plain.latent(name), kept.latent(name)
        apart = (one["beta"] - other["beta"]).abs() / one["standard_error"]
        assert apart.max() < 1e-4
    with pytest.raises(IncompleteError, match="associate --heritability"):
        imgwas.heritability_of_scan(plain)


def test_double_precision(study, kept, tmp_path):
    double = StoredProbes.read(scan(study, tmp_path / "r", precision="double").folder)
    single = StoredProbes.read(kept.folder)
    np.testing.assert_allclose(double.sums.inner, single.sums.inner, rtol=1e-3, atol=1e-4)


def test_threads_change_no_byte(study, kept, tmp_path):
    for threads in (1, 3):
        other = scan(study, tmp_path / str(threads), threads=threads)
        assert (other.folder / PROBES).read_bytes() == (kept.folder / PROBES).read_bytes()
        assert other.digest() == kept.digest()


class Stop(Exception):
    """Stands in for the power cut."""


class Cut(NoProgress):
    """Fails when the second part is published."""

    n = 0

    def part_done(self, receipt):
        self.n += 1
        if self.n == 2:
            raise Stop


@pytest.mark.parametrize("lost", ["nothing", "sums", "a byte", "receipt"])
def test_resumes(study, kept, tmp_path, lost):
    out = tmp_path / "r"
    with pytest.raises(Stop):
        scan(study, out, threads=1, progress=Cut(), part_size=200)
    sums = sorted((out / "private" / "probes").iterdir())
    assert len(sums) >= 2
    assert sums[0].parent.stat().st_mode & 0o777 == 0o700
    if lost == "sums":
        sums[0].unlink()
    elif lost == "a byte":
        content = bytearray(sums[0].read_bytes())
        content[1000] ^= 1
        sums[0].write_bytes(content)
    elif lost == "receipt":
        (out / "parts" / "part-00000.ok.json").unlink()
    done = scan(study, out, part_size=200)
    whole = scan(study, tmp_path / "whole", part_size=200)
    assert (out / PROBES).read_bytes() == (whole.folder / PROBES).read_bytes()
    assert done.digest() == whole.digest()
    assert done.verify() == []
    assert not (out / "private" / "probes").exists()


@pytest.mark.parametrize("damage", ["gone", "flipped", "a part"])
def test_a_damaged_folder_is_healed(study, kept, tmp_path, damage):
    out = tmp_path / "r"
    shutil.copytree(kept.folder, out)
    path = out / PROBES
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(MalformedError, match="cannot be read"):
            imgwas.heritability_of_scan(imgwas.open_sumstats(out))
    else:
        (out / "parts" / "part-00001.parquet").write_bytes(b"")
    if damage != "a part":
        assert PROBES in imgwas.open_sumstats(out).verify()[0]
    scan(study, out)
    assert path.read_bytes() == (kept.folder / PROBES).read_bytes()
    assert imgwas.open_sumstats(out).verify() == []


def bytes_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_task_that_looks_while_another_finishes_undoes_nothing(
    study, kept, tmp_path, monkeypatch
):
    """It looked for the file of all sums before that was there, and for sums when they had gone."""
    out = shutil.copytree(kept.folder, tmp_path / "r")
    (out / "private" / "probes").mkdir()
    (out / "private" / "probes" / "part-00001.float32").touch()  # of the same task, given twice
    before = bytes_of(out / "parts")
    monkeypatch.setattr(probing.Gathering, "finished", lambda self, parts, receipts: [])
    scan(study, out, part=(1, 2))
    assert bytes_of(out / "parts") == before
    assert not (out / "private" / "probes").exists()


def test_sums_are_written_although_their_folder_goes(study, kept, tmp_path, monkeypatch):
    publish, gone = probing.publish, []

    @contextlib.contextmanager
    def disturbed(path):
        if len(gone) < 3:
            gone.append(shutil.rmtree(path.parent))
        with publish(path) as stream:
            yield stream

    monkeypatch.setattr(probing, "publish", disturbed)
    # one part, as the sums of others would go, too
    one = scan(study, tmp_path / "r", part_size=5000)
    assert len(gone) == 3
    monkeypatch.undo()
    assert one.digest() == scan(study, tmp_path / "s", part_size=5000).digest()
    assert (one.folder / PROBES).read_bytes() == (tmp_path / "s" / PROBES).read_bytes()


def test_sums_of_other_statistics_are_refused(study, kept, tmp_path):
    out = tmp_path / "r"
    scan(study, out, filters=VariantFilters(maf=0.2))
    shutil.copy(kept.folder / PROBES, out / PROBES)
    with pytest.raises(MalformedError, match="not of the statistics beside it"):
        imgwas.heritability_of_scan(imgwas.open_sumstats(out))


def test_refusals(study, tmp_path):
    with pytest.raises(UsageError, match="missing calls at the mean"):
        scan(study, tmp_path / "a", missing_genotype="drop")
    few = imgwas.select(study.genotypes)
    few = replace(few, rows=few.rows[:400])
    with pytest.raises(DegenerateError, match="400 autosomal variants"):
        scan(study, tmp_path / "b", selection=few)
    none = scan(study, tmp_path / "c", filters=VariantFilters(maf=0.45))
    with pytest.raises(DegenerateError, match="variants are left"):
        imgwas.heritability_of_scan(none)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    imgwas.simulate_cohort(
        home / "cohort", n_samples=301, n_variants=1500, n_latents=4, n_causal=3,
        missing_rate=0.02, missing_latents=0.1, seed=5,
    )  # fmt: skip
    return home


WORDS = ["associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet",
         "--covar", "cohort/covariates.tsv", "--part-size", "400"]  # fmt: skip


def test_parts_computed_elsewhere_are_the_same(cohort, tmp_path, monkeypatch):
    """What a worker of a cluster runs: the saved task, mapped, one part at a time."""
    from imgwas.association.task import save_task

    genotypes = imgwas.open_genotypes(cohort / "cohort/cohort")
    latents = imgwas.read_latents(cohort / "cohort/latents.parquet")
    here = imgwas.associate(genotypes, latents, out=tmp_path / "here", part_size=400,
                            heritability=True)  # fmt: skip
    calls = []

    def elsewhere(task, parts, *, digest, on_variants, on_receipt, **_):
        folder = task.out / "private" / "task"
        save_task(task, folder)
        for part in reversed(parts):
            calls.append(part)
            on_receipt(run_part(part, folder=folder, out=task.out, genotypes=task.genotypes,
                                digest=digest))  # fmt: skip
        load_task.cache_clear()

    monkeypatch.setattr("imgwas.association.launching.run_on_threads", elsewhere)
    there = imgwas.associate(genotypes, latents, out=tmp_path / "there", part_size=400,
                             heritability=True)  # fmt: skip
    assert len(calls) == 4
    assert (there.folder / PROBES).read_bytes() == (here.folder / PROBES).read_bytes()
    assert there.digest() == here.digest()


@pytest.fixture
def elsewhere(monkeypatch):
    """Parts are computed as by a worker that outlives runs."""
    from distributed.protocol.pickle import dumps

    from imgwas.association.engines import run_parts
    from imgwas.association.task import save_task

    def compute(task, parts, *, digest, on_receipt, **_):
        folder = task.out / "private" / "task"
        save_task(task, folder)
        for receipt in run_parts(list(parts), folder=folder, out=task.out, digest=digest,
                                 genotypes=dumps(task.genotypes)):  # fmt: skip
            assert "error" not in receipt, receipt
            on_receipt(receipt)

    return lambda: monkeypatch.setattr("imgwas.association.launching.run_on_threads", compute)


def test_a_worker_does_not_mix_runs_in_one_folder(cohort, tmp_path, elsewhere):
    genotypes = imgwas.open_genotypes(cohort / "cohort/cohort")
    latents = imgwas.read_latents(cohort / "cohort/latents.parquet")
    here = imgwas.associate(genotypes, latents, out=tmp_path / "here", rank_normal=True)
    elsewhere()
    first = imgwas.associate(genotypes, latents, out=tmp_path / "there")
    assert first.digest() != here.digest()
    again = imgwas.associate(genotypes, latents, out=tmp_path / "there", rank_normal=True,
                             overwrite=True)  # fmt: skip
    assert again.digest() == here.digest()


@pytest.mark.slow
def test_a_worker_makes_lost_sums_again(cohort, tmp_path, elsewhere):
    genotypes = imgwas.open_genotypes(cohort / "cohort/cohort")
    latents = imgwas.read_latents(cohort / "cohort/latents.parquet")
    here, there = tmp_path / "here", tmp_path / "there"
    imgwas.associate(genotypes, latents, out=here, heritability=True)
    shutil.copytree(here, there)
    (there / PROBES).unlink()
    elsewhere()
    imgwas.associate(genotypes, latents, out=there, heritability=True)
    assert (there / PROBES).read_bytes() == (here / PROBES).read_bytes()


def test_on_the_command_line(cohort, tmp_path):
    shutil.copytree(cohort, tmp_path / "home")
    home = tmp_path / "home"
    done = command_line(*WORDS, "--heritability", "--omnibus", "--out", "r", folder=home)
    assert done.code == 0, done.text
    own = command_line("heritability", "r", "--seed", "1", *WORDS[1:7], "--out", "own", folder=home)
    assert own.code == 0, own.text
    assert "the genotypes are read, because of --seed" in own.text
    shutil.rmtree(home / "cohort")
    done = command_line("heritability", "r", "--out", "h", folder=home)
    assert done.code == 0, done.text
    assert "no genotypes are read" in done.text
    one, other = (pd.read_csv(home / name / "heritability.tsv", sep="\t") for name in ("h", "own"))
    assert one["latent"].tolist() == other["latent"].tolist()
    np.testing.assert_allclose(one["heritability"], other["heritability"], rtol=0.1)
    assert one["n_variants"].tolist() == other["n_variants"].tolist()


def test_relatives_are_mentioned_by_the_scan(study, tmp_path, caplog):
    people = replace(study.genotypes.samples, family_ids=tuple(f"f{i // 2}" for i in range(N)))
    related = ArrayGenotypes(study.dosage, study.genotypes.variants, people)
    scan(replace(study, genotypes=related), tmp_path / "r")
    assert "share a family id" in caplog.text


def test_the_design_need_not_be_given(study, kept):
    """n of each latent comes from run.json."""
    design = build_design(study.genotypes.samples, study.latents, study.covariates)
    assert imgwas.heritability_of_scan(kept).n.tolist() == [g.n for g in design.groups] * 4
