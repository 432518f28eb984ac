"""From images to the scan: latents do not depend on stops, batches or companions."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import imgwas
from imgwas.association.seen import without_training_people
from imgwas.encoders.checkpoints import load_encoder
from imgwas.encoders.encoding import encode_images, read_footer
from imgwas.encoders.fitting import fit
from imgwas.encoders.runs import Run
from imgwas.encoders.splits import Split
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    RefusedError,
    TooFewSamplesError,
)  # fmt: skip
from imgwas.images.volumes import ArrayImages, SubsetImages
from imgwas.latents import open_latents, transform_latents, write_latents
from imgwas.simulate.brains import simulate_brains

GRID = (12, 14, 12)


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    brains = simulate_brains(60, grid=GRID, seed=0)
    return ArrayImages(brains.values, brains.sample_ids, brains.affine)


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    split = Split(tuple(range(20)), tuple(range(20, 28)))
    return fit("udip", images, out=out, settings={"latents": 3, "levels": 1, "width": 2},
               train={"epochs": 2, "batch": 6}, split=split, device="cpu")  # fmt: skip


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr("imgwas.encoders.encoding.PART", 16)


def encode(images, run, out, **options):
    return encode_images(images, run.encoder, out, digest=run.digest,
                         people_seen=Run(run.folder).people_seen(), **options)  # fmt: skip


def test_the_table_is_what_the_encoder_says(images, run, tmp_path):
    out = tmp_path / "latents.parquet"
    done = encode(images, run, out)
    assert (done.n_samples, done.failures) == (60, ())
    latents = imgwas.read_latents(out)
    assert latents.names == ("L000", "L001", "L002")
    assert latents.sample_ids == images.sample_ids
    direct = run.encoder.encode(images.values)
    np.testing.assert_allclose(latents.values, direct, atol=1e-4)
    errors = pq.read_table(out)["reconstruction_error"].to_numpy()
    batch = run.encoder.normalise(torch.from_numpy(images.values))
    decoded = run.encoder.decode(direct)
    for i in range(60):
        mask = batch.mask[i, 0].numpy()
        expected = np.mean((batch.image[i, 0].numpy() - decoded[i])[mask] ** 2)
        assert errors[i] == pytest.approx(expected, rel=1e-3)
    footer = read_footer(out)
    assert footer["weights_sha256"] == run.digest
    assert not any(one in str(footer) for one in images.sample_ids)
    assert not out.with_name("latents.parquet.parts").exists()


class Stop(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("after", [5, 20, 47])
def test_an_interrupted_encoding_ends_in_the_same_bytes(images, run, tmp_path, after, monkeypatch):
    monkeypatch.setattr("os.urandom", lambda n: bytes(n))  # the salt of the ledger
    whole = tmp_path / "whole.parquet"
    encode(images, run, whole, batch=4)
    out = tmp_path / "latents.parquet"
    n = [0]

    def stop(k: int) -> None:
        n[0] += k
        if n[0] >= after:
            raise Stop

    with pytest.raises(Stop):
        encode(images, run, out, batch=4, progress=stop)
    assert not out.exists()
    done = encode(images, run, out, batch=4)
    assert done.n_resumed == after // 16 * 16
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_latents_do_not_depend_on_the_batch(images, run, tmp_path, batch):
    encode(images, run, tmp_path / "a.parquet", batch=batch)
    values = imgwas.read_latents(tmp_path / "a.parquet").values
    np.testing.assert_allclose(values, run.encoder.encode(images.values), atol=1e-4)


def test_parts_of_another_encoding_are_not_mixed_in(images, run, tmp_path):
    def stop(_: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        encode(images, run, tmp_path / "a.parquet", progress=stop)
    some = SubsetImages(images, range(40))
    with pytest.raises(InconsistentError, match=r"parts of another encoding.*images_sha256"):
        encode(some, run, tmp_path / "a.parquet")


class Damaged(ArrayImages):
    """Image 30 cannot be read, image 31 is blank."""

    def read(self, index: int) -> np.ndarray:
        if index == 30:
            raise MalformedError("p30.nii.gz is cut short")
        return super().read(index) * (index != 31)


def test_images_that_fail_are_missing_and_named(images, run, tmp_path):
    damaged = Damaged(images.values, images.sample_ids, images.affine)
    out = tmp_path / "a.parquet"
    done = encode(damaged, run, out, max_failures=0.05)
    assert [row for row, _ in done.failures] == [30, 31]
    assert "is cut short" in done.failures[0][1]
    assert "are blank" in done.failures[1][1]
    latents = imgwas.read_latents(out)
    assert len(latents.sample_ids) == 58
    kept = [i for i in range(60) if i not in (30, 31)]
    np.testing.assert_allclose(latents.values, run.encoder.encode(images.values)[kept], atol=1e-4)
    with pytest.raises(DegenerateError, match=r"2 of 60 images could not be encoded.*At most 1.0%"):
        encode(damaged, run, tmp_path / "b.parquet")
    assert not (tmp_path / "b.parquet").exists()


def test_images_of_another_place_are_refused(images, run, tmp_path):
    shifted = ArrayImages(images.values, images.sample_ids, images.affine + np.eye(4)[:, ::-1] * 3)
    with pytest.raises(InconsistentError, match=r"mm from where the encoder's training images lay"):
        encode(shifted, run, tmp_path / "a.parquet")
    small = ArrayImages(images.values[:, :8, :8, :8], images.sample_ids, images.affine)
    with pytest.raises(InconsistentError, match=r"grid of 8x8x8. The encoder was made for 12x14"):
        encode(small, run, tmp_path / "a.parquet")


def test_the_scan_knows_who_trained_the_encoder(images, run, tmp_path, caplog):
    """28 of 60 people trained or judged it: refused, left out, or kept aloud; never in silence."""
    out = tmp_path / "latents.parquet"
    encode(images, run, out)
    latents = imgwas.read_latents(out)
    with pytest.raises(RefusedError, match=r"28 of 60 people of these latents trained the encoder"):
        without_training_people(latents, "refuse")
    kept = without_training_people(latents, "exclude")
    assert kept.sample_ids == images.sample_ids[28:]
    np.testing.assert_array_equal(kept.values, latents.values[28:])
    assert without_training_people(latents, "allow") is latents
    assert "28 of 60 people trained the encoder: kept, as asked" in caplog.text
    held = SubsetImages(images, range(28, 60))
    encode(held, run, tmp_path / "held.parquet")
    clean = imgwas.read_latents(tmp_path / "held.parquet")
    assert without_training_people(clean, "refuse") is clean
    trained = SubsetImages(images, range(28))
    encode(trained, run, tmp_path / "trained.parquet")
    with pytest.raises(TooFewSamplesError, match=r"everyone of these latents"):
        without_training_people(imgwas.read_latents(tmp_path / "trained.parquet"), "exclude")


def test_transformed_latents_keep_the_ledger(images, run, tmp_path):
    encode(images, run, tmp_path / "a.parquet")
    latents, columns = open_latents(tmp_path / "a.parquet")
    assert latents.names == ("L000", "L001", "L002")
    changed, _ = transform_latents(latents, ["rank-normal"])
    write_latents(changed, tmp_path / "b.parquet", history={"x": 1}, id_columns=columns)
    with pytest.raises(RefusedError, match=r"28 of 60 people"):
        without_training_people(imgwas.read_latents(tmp_path / "b.parquet"), "refuse")


def test_latents_whose_encoder_has_no_ledger_are_scanned_with_a_warning(
    images, run, tmp_path, caplog
):
    encode_images(images, run.encoder, tmp_path / "a.parquet", digest=run.digest)
    latents = imgwas.read_latents(tmp_path / "a.parquet")
    assert without_training_people(latents, "refuse") is latents
    assert "it is not known whom the encoder" in caplog.text


def test_principal_components_take_the_same_way(images, tmp_path):
    made = fit("pca", images, out=tmp_path / "pca", settings={"latents": 4}, device="cpu")
    encode_images(images, made.encoder, tmp_path / "a.parquet", digest=made.digest)
    values = imgwas.read_latents(tmp_path / "a.parquet").values
    again = load_encoder(tmp_path / "pca").encoder
    np.testing.assert_allclose(values, again.encode(images.values), atol=1e-5)
