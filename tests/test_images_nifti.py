"""Volumes: what nibabel reads is read alike, and what is damaged is named."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgwas.errors import ImgwasError, MalformedError, OpenError, UsageError
from imgwas.images.listing import ImageFile
from imgwas.images.nifti import Volume, read_header, read_volume, write_volume
from tests.data import data_file
from tests.volumes import blob, write_nifti

AFFINE = np.array([[0, 0, 2.0, -8], [-2, 0, 0, 10], [0, 3, 0, -7], [0, 0, 0, 1]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64, np.uint16])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_reads_what_nibabel_reads(tmp_path, dtype, name):
    path = write_nifti(tmp_path / name, blob().astype(dtype), AFFINE)
    volume = read_volume(path)
    image = nib.load(path)
    np.testing.assert_array_equal(volume.values, np.asarray(image.dataobj, np.float32))
    np.testing.assert_array_equal(volume.affine, image.affine)
    assert volume.values.dtype == np.float32
    assert volume.values.flags.c_contiguous


def test_big_endian_nifti2_and_scaling(tmp_path):
    values = blob().astype(np.int16)
    big = nib.Nifti1Image(values, AFFINE, nib.Nifti1Header(endianness=">"))
    second = nib.Nifti2Image(values, AFFINE)
    for image, name in ((big, "big.nii"), (second, "second.nii.gz")):
        nib.save(image, tmp_path / name)
        np.testing.assert_array_equal(read_volume(tmp_path / name).values, values)
    path = write_nifti(tmp_path / "s.nii", values, scl_slope=0.5, scl_inter=-3)
    np.testing.assert_allclose(read_volume(path).values, values * 0.5 - 3)


def test_trailing_axes_of_one_are_no_axes(tmp_path):
    path = write_nifti(tmp_path / "a.nii", blob()[..., None, None])
    assert read_volume(path).grid == (10, 12, 9)
    cine = write_nifti(tmp_path / "c.nii", np.ones((4, 5, 1, 6), np.float32))
    assert read_volume(cine, dimensions=(3, 4)).grid == (4, 5, 1, 6)


def test_member_of_a_zip(tmp_path):
    write_nifti(tmp_path / "T1.nii.gz", blob())
    with zipfile.ZipFile(tmp_path / "1_20252_2_0.zip", "w") as archive:
        archive.write(tmp_path / "T1.nii.gz", "T1/T1.nii.gz")
    image = ImageFile("1", tmp_path / "1_20252_2_0.zip", member="T1/T1.nii.gz")
    np.testing.assert_array_equal(read_volume(image).values, blob())
    with pytest.raises(MalformedError, match=r"T1/none.nii.gz is not in the archive"):
        read_volume(ImageFile("1", image.path, member="T1/none.nii.gz"))
    with pytest.raises(MalformedError, match=r"is a zip archive. Name the member"):
        read_volume(image.path)


WHOLE = len(nib.Nifti1Image(blob(), np.eye(4)).to_bytes())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b[: WHOLE - 7], "is cut short: 4,313 of 4,320 bytes of voxels"),
        (lambda b: b[:200], "ends inside its header"),
        (lambda _: b"", "is empty. A .nii or .nii.gz file is needed"),
        (lambda _: b"<!DOCTYPE html><html>", "is a web page. A NIfTI file is needed"),
        (lambda _: b"version https://git-lfs", "is a pointer of Git LFS"),
        (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(90), "is an HDF5 file"),
        (lambda _: bytes(400), "is no NIfTI file"),
        (lambda b: b[:344] + b"ni1\0" + b[348:], "is an Analyze pair"),
    ],
)
def test_damaged_files_are_named(tmp_path, change, words):
    path = write_nifti(tmp_path / "a.nii", blob())
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(MalformedError) as error:
        read_volume(path)
    assert words in str(error.value)
    assert "a.nii" in str(error.value)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_truncated_gzip(tmp_path, keep):
    path = write_nifti(tmp_path / "a.nii.gz", blob((30, 30, 30)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(MalformedError, match=r"is damaged or cut short after|is cut short"):
        read_volume(path)


def test_damaged_checksum_of_gzip(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", blob())
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(MalformedError, match=r"damaged"):
        read_volume(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "claims 30000x30000x30000 voxels"),
        ({"dim": [3, 600, 600, 600, 1, 1, 1, 1]}, "and the file has"),
        ({"dim": [3, 10, -12, 9, 1, 1, 1, 1]}, "has axes of lengths"),
        ({"dim": [0, 10, 12, 9, 1, 1, 1, 1]}, "has axes of lengths"),
        ({"dim": [4, 5, 2, 12, 9, 1, 1, 1]}, "has 4 axes (5x2x12x9). 3 axes are needed"),
        ({"datatype": 999}, "has voxels of unknown type 999"),
        ({"datatype": 32, "bitpix": 64}, "has complex voxels"),
        ({"datatype": 128, "bitpix": 24}, "has colour (RGB) voxels"),
        ({"scl_slope": np.inf}, "scales its values by inf"),
        ({"vox_offset": -5}, "starts its voxels at byte -5"),
        ({"vox_offset": np.nan}, "starts its voxels at byte nan"),
        ({"pixdim": [1, 0, 2, 2, 1, 1, 1, 1]}, "has voxel sizes [0.0, 2.0, 2.0]"),
        ({"pixdim": [1, np.nan, 2, 2, 1, 1, 1, 1]}, "has voxel sizes"),
        ({"srow_x": [0, 0, 0, 0]}, "affine that cannot be inverted"),
    ],
)
def test_absurd_headers_are_refused(tmp_path, header, words):
    path = write_nifti(tmp_path / "a.nii", blob(), **header)
    with pytest.raises(MalformedError) as error:
        read_volume(path)
    assert words in str(error.value)


def test_values_that_are_not_finite(tmp_path):
    values = blob()
    values[0, 0, :2] = np.nan, np.inf
    path = write_nifti(tmp_path / "a.nii", values)
    with pytest.raises(MalformedError, match=r"holds 2 values that are not finite"):
        read_volume(path)


def test_absent_file(tmp_path):
    with pytest.raises(OpenError, match=r"none.nii does not exist"):
        read_volume(tmp_path / "none.nii")
    (tmp_path / "a.mgz").write_bytes(bytes(400))
    with pytest.raises(MalformedError, match=r"mri_convert in.mgz out.nii.gz"):
        read_volume(tmp_path / "a.mgz")


def test_a_small_file_cannot_fill_the_memory(tmp_path):
    """2 GB of zeros pack to 2 MB: refused from the header, before anything is unpacked."""
    path = write_nifti(tmp_path / "a.nii.gz", blob(), dim=[3, 800, 800, 760, 1, 1, 1, 1])
    assert path.stat().st_size < 10_000
    with pytest.raises(MalformedError, match=r"claims .* bytes and the file has"):
        read_volume(path)


def test_orientation_of_qform_and_sform(tmp_path):
    image = nib.Nifti1Image(blob(), AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] += 5
    image.set_sform(AFFINE, 2)
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "a.nii")
    header = read_header(tmp_path / "a.nii")
    assert header.codes == (1, 2)
    assert header.disagreement == pytest.approx(5, abs=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_labels_are_written_as_whole_numbers(tmp_path, dtype):
    labels = (np.arange(60).reshape(3, 4, 5) % 27).astype(np.float32)
    write_volume(tmp_path / "labels.nii.gz", Volume(labels, AFFINE), dtype=dtype)
    np.testing.assert_array_equal(read_volume(tmp_path / "labels.nii.gz").values, labels)


@pytest.mark.parametrize(("dtype", "close"), [("float32", 0), ("int16", 0.003)])
def test_written_volumes_come_back(tmp_path, dtype, close):
    volume = Volume(blob(), AFFINE)
    digest = write_volume(tmp_path / "a.nii.gz", volume, dtype=dtype)
    back = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(back.values, volume.values, atol=close)
    np.testing.assert_allclose(back.affine, AFFINE)
    assert write_volume(tmp_path / "b.nii.gz", volume, dtype=dtype) == digest
    assert nib.load(tmp_path / "a.nii.gz").header["descrip"] == b""
    with pytest.raises(UsageError, match=r"float32, int16 or uint8"):
        write_volume(tmp_path / "c.nii", volume, dtype="complex64")


@given(at=st.integers(0, 351), value=st.integers(0, 255))
def test_any_byte_of_a_header(tmp_path_factory, at, value):
    """A header with one byte changed is read or refused by name, never a crash."""
    path = tmp_path_factory.mktemp("fuzz") / "a.nii"
    write_nifti(path, blob((4, 5, 6)))
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(bytes(content))
    try:
        volume = read_volume(path)
    except ImgwasError as error:
        assert "a.nii" in str(error)  # noqa: PT017 - either way is right
    else:
        assert np.isfinite(volume.values).all()
        assert np.isfinite(volume.affine).all()


def test_real_brains_are_read_as_nibabel_reads_them():
    folder: Path = data_file("ixi40/t1")
    for path in sorted(folder.glob("*.nii.gz"))[:3]:
        volume, image = read_volume(path), nib.load(path)
        np.testing.assert_allclose(volume.values, image.get_fdata(), rtol=1e-6)
        assert nib.aff2axcodes(volume.affine) == ("P", "S", "R")


def test_gzip_is_told_by_its_bytes(tmp_path):
    path = write_nifti(tmp_path / "a.nii", blob())
    path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_volume(path).values, blob())
