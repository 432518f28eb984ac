"""The stored correlation of the latents: what it is, who may see it, and when it is refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm

import imgwas
from imgwas.association.correlation import null_correlation
from imgwas.errors import IncompleteError, MalformedError
from imgwas.types import Covariates, Latents
from tests.store_fixture import random_fixture, write
from tests.test_scan import genotypes_of

N, K = 130, 5
NAMES = tuple(f"z{i}" for i in range(K))


@pytest.fixture(scope="module")
def tables():
    """Correlated latents, two of them with missing values, and covariates that move them."""
    rng = np.random.default_rng(2)
    dosage = rng.binomial(2, 0.4, (30, N)).astype(float)
    covariates = rng.standard_normal((N, 2))
    values = rng.standard_normal((N, K)) + rng.standard_normal((N, 1)) + 2 * covariates[:, :1]
    values[rng.random(N) < 0.2, 3] = np.nan
    values[rng.random(N) < 0.1, 1] = np.nan
    genotypes = genotypes_of(dosage)
    ids = genotypes.samples.sample_ids
    return genotypes, Latents(values, ids, NAMES), Covariates(covariates, ids, ("age", "motion"))


@pytest.fixture(scope="module")
def results(tables, tmp_path_factory):
    return imgwas.associate(*tables, out=tmp_path_factory.mktemp("scan") / "out")


def slow_correlation(latents, covariates):
    """Residuals by statsmodels, one latent at a time; products one pair at a time."""
    residuals = np.zeros(latents.values.shape)
    for k in range(K):
        has = np.isfinite(latents.values[:, k])
        model = sm.add_constant(covariates.values[has])
        residuals[has, k] = sm.OLS(latents.values[has, k], model).fit().resid
        residuals[:, k] /= np.sqrt(np.sum(residuals[:, k] ** 2))
    return np.array([[np.sum(residuals[:, i] * residuals[:, j]) for j in range(K)]
                     for i in range(K)])  # fmt: skip


def test_is_the_partial_correlation_with_zeros_for_missing_people(tables, results):
    frame = results.latent_correlation()
    assert list(frame.index) == list(frame.columns) == list(results.latents)
    expected = slow_correlation(*tables[1:])
    np.testing.assert_allclose(frame.loc[list(NAMES), list(NAMES)], expected, atol=1e-12)
    assert (np.diag(frame) == 1).all()
    assert np.abs(frame.to_numpy() - np.eye(K)).max() > 0.2


def test_is_the_correlation_of_t_under_the_null(tables, tmp_path):
    """Thousands of variants without effect: their t statistics correlate as stored."""
    rng = np.random.default_rng(7)
    genotypes = genotypes_of(rng.binomial(2, 0.4, (6000, N)).astype(float))
    found = imgwas.associate(genotypes, *tables[1:], out=tmp_path / "out")
    columns = [f"t.{name}" for name in found.latents]
    blocks = [block.to_pandas().to_numpy() for block in found.iter_blocks(columns)]
    t = np.concatenate(blocks)
    apart = np.abs(np.corrcoef(t.T) - found.latent_correlation().to_numpy())
    assert apart.max() < 5 / np.sqrt(6000)


def test_more_people_than_a_slab_change_nothing():
    traits = np.random.default_rng(0).standard_normal((9000, 3))
    traits /= np.linalg.norm(traits, axis=0)
    found = null_correlation([traits[:, :2], traits[:, 2:]])
    np.testing.assert_allclose(found, traits.T @ traits, atol=1e-14)


def test_holds_a_digest_and_no_id(tables, results):
    path = results.folder / "latent_correlation.parquet"
    content = path.read_bytes()
    assert not any(one.encode() in content for one in tables[0].samples.sample_ids)
    footer = json.loads(pq.read_schema(path).metadata[b"imgwas"])
    assert footer == {"samples_sha256": results.metadata["identity"]["samples"]}


def test_verify_looks_at_it(tables, tmp_path):
    found = imgwas.associate(*tables, out=tmp_path / "out")
    assert found.verify() == []
    path = found.folder / "latent_correlation.parquet"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    assert found.verify(deep=False) == []
    assert found.verify() == ["latent_correlation.parquet does not match its recorded SHA-256"]
    with pytest.raises(MalformedError, match="same imgwas associate command"):
        found.latent_correlation()
    again = imgwas.associate(*tables, out=tmp_path / "out")
    assert again.verify() == []


def test_an_old_folder_says_what_to_do_and_running_again_adds_it(tables, tmp_path):
    found = imgwas.associate(*tables, out=tmp_path / "out")
    complete = found.folder / "RUN_COMPLETE.json"
    content = json.loads(complete.read_text())
    del content["files"]
    complete.write_text(json.dumps(content))
    before = found.latent_correlation()
    (found.folder / "latent_correlation.parquet").unlink()
    parts = {part: part.stat().st_mtime_ns for part in found.parts}
    with pytest.raises(IncompleteError, match="same imgwas associate command"):
        found.latent_correlation()
    again = imgwas.associate(*tables, out=tmp_path / "out")
    assert {part: part.stat().st_mtime_ns for part in found.parts} == parts
    assert before.equals(again.latent_correlation())
    assert again.verify() == []


def test_another_scans_file_is_refused(results, tmp_path):
    made = random_fixture(tmp_path / "res")
    write(made)
    (made.folder / "latent_correlation.parquet").write_bytes(
        (results.folder / "latent_correlation.parquet").read_bytes()
    )
    with pytest.raises(MalformedError, match="5 columns for 3 latents"):
        imgwas.open_sumstats(made.folder).latent_correlation()
