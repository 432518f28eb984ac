"""Images on servers that stall, vanish and come back, or are written while they are read."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

import imgwas
from imgwas.encoders.encoding import encode_images
from imgwas.encoders.fitting import fit
from imgwas.errors import MalformedError, OpenError, ReadError
from imgwas.images import nifti, steadily
from imgwas.images.listing import ImageFile
from imgwas.images.nifti import Volume, read_volume, write_volume
from imgwas.images.volumes import VolumeImages
from imgwas.simulate.brains import simulate_brains

GRID = (6, 7, 8)


@pytest.fixture
def waits(monkeypatch):
    """How long each wait was, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(steadily.time, "sleep", waited.append)
    return waited


@pytest.fixture
def file(tmp_path):
    values = np.random.default_rng(0).standard_normal(GRID).astype(np.float32)
    write_volume(tmp_path / "p1.nii.gz", Volume(values, np.eye(4)))
    return ImageFile("p1", tmp_path / "p1.nii.gz")


def failing(monkeypatch, times: int, error: OSError) -> list[int]:
    """Let the first openings fail as a file server does."""
    real, seen = nifti._Opened._packed, []

    def packed(self):
        seen.append(1)
        if len(seen) <= times:
            raise error
        return real(self)

    monkeypatch.setattr(nifti._Opened, "_packed", packed)
    return seen


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOENT])
def test_a_server_that_stalls_costs_nothing_but_time(file, waits, monkeypatch, number):
    whole = read_volume(file).values
    seen = failing(monkeypatch, 3, OSError(number, os.strerror(number)))
    np.testing.assert_array_equal(read_volume(file).values, whole)
    assert len(seen) == 4
    assert waits == list(steadily.WAITS_S)


def test_after_four_tries_it_is_an_error(file, waits, monkeypatch, caplog):
    seen = failing(monkeypatch, 99, OSError(errno.EIO, os.strerror(errno.EIO)))
    with caplog.at_level("INFO", "imgwas"), pytest.raises(ReadError, match="cannot be read") as one:
        read_volume(file)
    assert (len(seen), one.value.exit_code) == (4, 4)
    assert caplog.text.count("could not be read (ReadError): again in") == 3
    assert "p1" not in caplog.text, "ids are not logged"


def test_a_file_that_vanished_and_one_that_is_damaged(file, waits):
    content = file.path.read_bytes()
    file.path.write_bytes(content[:-9])
    with pytest.raises(MalformedError, match="damaged or cut short"):
        read_volume(file)
    assert waits == [], "reading it again would not help"
    file.path.unlink()
    with pytest.raises(OpenError, match="does not exist"):
        read_volume(file)
    assert len(waits) == 3


@pytest.mark.parametrize("times", [1, 99])
def test_a_file_that_is_written_meanwhile_is_read_again(file, waits, monkeypatch, times):
    """What was read in between may be half of one and half of the other."""
    new = Volume(np.ones(GRID, np.float32), np.eye(4))
    real, seen = nifti._voxels, []

    def voxels(stream, header, name):
        found = real(stream, header, name)
        seen.append(1)
        if len(seen) <= times:
            write_volume(file.path, new)
        return found

    monkeypatch.setattr(nifti, "_voxels", voxels)
    if times == 1:
        np.testing.assert_array_equal(read_volume(file).values, new.values)
        return
    with pytest.raises(ReadError, match="changes while it is read"):
        read_volume(file)


def test_the_encoding_goes_on_without_the_image(tmp_path, waits, monkeypatch):
    """A server that stalls changes no latent; an image that stays away is named and left out."""
    brains = simulate_brains(12, grid=(8, 9, 8), seed=1)
    files = []
    for one, values in zip(brains.sample_ids, brains.values, strict=True):
        write_volume(tmp_path / f"{one}.nii.gz", Volume(values, brains.affine))
        files.append(ImageFile(one, tmp_path / f"{one}.nii.gz"))
    images = VolumeImages(files)
    run = fit("pca", images, out=tmp_path / "pca", settings={"latents": 2}, device="cpu")

    def encoded(name):
        out = tmp_path / name
        done = encode_images(images, run.encoder, out, digest=run.digest, max_failures=0.1)
        return done.failures, imgwas.read_latents(out)

    failures, whole = encoded("a.parquet")
    assert (failures, waits) == ((), [])
    failing(monkeypatch, 2, OSError(errno.ESTALE, os.strerror(errno.ESTALE)))
    failures, again = encoded("b.parquet")
    assert (failures, len(waits)) == ((), 2)
    np.testing.assert_array_equal(again.values, whole.values)
    files[3].path.unlink()
    failures, left = encoded("c.parquet")
    assert [row for row, _ in failures] == [3]
    assert "does not exist" in failures[0][1]
    np.testing.assert_allclose(left.values, np.delete(whole.values, 3, axis=0), atol=1e-5)
