"""DICOM cine: files written by pydicom are read back exactly; what is no cine is refused."""

from __future__ import annotations

import sys
import zipfile
from functools import cache, partial

import numpy as np
import pydicom
import pytest

from imgwas.errors import (
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    OpenError,
    RefusedError,
    UsageError,
)
from imgwas.images.dicom import find_cines, read_dicom_cine, view_of
from imgwas.images.listing import ImageFile
from imgwas.images.store import StoreImages, images_from_store
from imgwas.images.store_writing import write_store
from tests.dicoms import SECRET, cine_files, encoded, frame, moving_disc, write_zip


@pytest.fixture
def disc():
    return moving_disc()


@cache
def plain_files():
    return tuple(cine_files(moving_disc()))


@pytest.fixture
def zipped(tmp_path):
    return write_zip(tmp_path / "1000017_20208_2_0.zip", plain_files())


def read(path, *words, **choices):
    return read_dicom_cine(ImageFile("1000017", path, visit="2"), *words, **choices)


def altered(tmp_path, disc, change=None, **tags):
    return write_zip(tmp_path / "1000017_20208_2_0.zip", cine_files(disc, change, **tags))


def test_a_zip_gives_back_the_pixels_in_the_order_of_time(zipped, disc):
    cine = read(zipped)
    assert cine.values.shape == (40, 36, 1, 50)
    assert cine.values.dtype == np.uint16
    assert np.array_equal(cine.values[:, :, 0], disc)
    assert cine.spacing == (1.25, 1.5, 6.0)  # along columns, along rows, thickness
    assert cine.frame_times == tuple(20.0 * n for n in range(50))
    assert len(cine.series) == 16


def test_a_folder_is_read_as_its_zip(tmp_path, zipped, disc):
    folder = tmp_path / "1000017"
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(folder)
    assert np.array_equal(read(folder).values, read(zipped).values)


def test_nothing_is_unpacked(tmp_path, zipped):
    read(zipped)
    assert [p.name for p in tmp_path.iterdir()] == [zipped.name]


def test_without_trigger_times_the_instance_numbers_count(tmp_path, disc):
    path = altered(tmp_path, disc, TriggerTime=None)
    cine = read(path)
    assert np.array_equal(cine.values[:, :, 0], disc)
    assert cine.frame_times == ()


def test_trigger_time_comes_before_instance_number(tmp_path, disc):
    path = altered(tmp_path, disc, lambda n, d: setattr(d, "InstanceNumber", 50 - n))
    assert np.array_equal(read(path).values[:, :, 0], disc)


def test_one_file_of_fifty_frames(tmp_path, disc):
    dataset = frame(disc[..., 0], 0, NumberOfFrames=50)
    dataset.PixelData = disc.transpose(2, 1, 0).tobytes()
    cine = read(write_zip(tmp_path / "a.zip", [encoded(dataset)]))
    assert np.array_equal(cine.values[:, :, 0], disc)


def test_pixels_are_rescaled_where_the_file_says_so(tmp_path, disc):
    path = altered(tmp_path, disc, RescaleSlope=0.5, RescaleIntercept=-3)
    values = read(path).values
    assert values.dtype == np.float32
    assert np.array_equal(values[:, :, 0], disc * np.float32(0.5) - 3)


@pytest.mark.parametrize(
    ("description", "view"),
    [
        ("CINE_segmented_LAX_4Ch", "4Ch"),
        ("CINE_segmented_LAX_2Ch", "2Ch"),
        ("lax 3 CH", "3Ch"),
        ("cine 4-chamber", "4Ch"),
        ("CINE_segmented_SAX_b1", ""),
        ("14Ch", ""),
    ],
)
def test_views_by_description(description, view):
    assert view_of(description) == view


def test_the_view_asked_for_among_others(tmp_path, disc):
    other = disc[::-1]
    files = cine_files(other, view="2Ch", series="1.2.2") + cine_files(disc)
    path = write_zip(tmp_path / "a.zip", files)
    assert np.array_equal(read(path).values[:, :, 0], disc)
    assert np.array_equal(read(path, "2Ch").values[:, :, 0], other)
    with pytest.raises(MalformedError, match=r"no 3Ch series\. It holds 2Ch \(50 files\), 4Ch"):
        read(path, "3Ch")


def test_a_view_acquired_twice_needs_a_choice(tmp_path, disc):
    second = disc[:, ::-1]
    files = cine_files(disc) + cine_files(second, series="1.2.4", SeriesNumber=12)
    path = write_zip(tmp_path / "a.zip", files)
    with pytest.raises(MalformedError, match=r"2 series of the view 4Ch.*--series last"):
        read(path)
    assert np.array_equal(read(path, series="last").values[:, :, 0], second)
    assert np.array_equal(read(path, series="first").values[:, :, 0], disc)


@pytest.mark.parametrize("n", [49, 51])
def test_fifty_frames_exactly(tmp_path, n):
    path = altered(tmp_path, moving_disc(n_frames=n))
    with pytest.raises(MalformedError, match=rf"{n} frames\. It must have 50\."):
        read(path)
    assert read(path, n_frames=n).values.shape[3] == n


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"PhotometricInterpretation": "RGB"}, "holds RGB pixels. Grey ones"),
        ({"SamplesPerPixel": 3}, "Grey ones, MONOCHROME2"),
        ({"BitsAllocated": 12}, "pixels of 12 bits"),
        ({"Rows": 0}, "frames of 0 x 40 pixels"),
        ({"Rows": 60_000, "Columns": 60_000}, r"claims 360,000,000,000 bytes of pixels"),
        ({"Rows": 37}, "a frame of .* is cut short: 2,880 bytes. Its size asks for 2,960"),
        ({"RescaleSlope": 0}, "a factor that is no number"),
        ({"TriggerTime": 5.0, "InstanceNumber": 1}, "49 frames .* the time and number of another"),
        ({"TriggerTime": None, "InstanceNumber": None}, "neither trigger time nor instance number"),
    ],
)
def test_series_that_cannot_be_a_cine(tmp_path, disc, tags, message):
    with pytest.raises(MalformedError, match=message):
        read(altered(tmp_path, disc, **tags))


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("PixelSpacing", [1.5, 1.3], r"2 pixel spacings \(1.5, 1.25\), \(1.5, 1.3\)"),
        ("ImagePositionPatient", [1, 2, 11], "2 planes. One slice that moves"),
        ("ImageOrientationPatient", [0, 1, 0, 0, 0, 1], "2 planes"),
        ("Rows", 35, r"2 sizes \(rows, columns\) \(35, 40\), \(36, 40\)"),
    ],
)
def test_frames_that_differ(tmp_path, disc, tag, value, message):
    path = altered(tmp_path, disc, lambda n, d: n == 30 and setattr(d, tag, value))
    with pytest.raises(MalformedError, match=message):
        read(path)


def test_compression_is_refused_by_its_name_unless_it_can_be_decoded(tmp_path, disc):
    def film(_, dataset):
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
        dataset.PixelData = pydicom.encaps.encapsulate([b"film"])
        dataset["PixelData"].VR = "OB"

    path = altered(tmp_path, disc, film)
    with pytest.raises(MalformedError, match=r"compressed as MPEG2 Main Profile.*gdcmconv"):
        read(path)
    made_up = frame(disc[..., 0], 0)
    made_up.file_meta.TransferSyntaxUID = "1.2.3.4"
    with pytest.raises(MalformedError, match="compressed as something without a name"):
        read(write_zip(tmp_path / "b.zip", [encoded(made_up)]), n_frames=1)


def test_a_compression_that_pydicom_decodes(tmp_path, disc):
    path = altered(tmp_path, disc, lambda _, d: d.compress(pydicom.uid.RLELossless))
    assert np.array_equal(read(path).values[:, :, 0], disc)


def test_damaged_and_empty_archives(tmp_path, zipped, disc):
    files = list(plain_files())
    cut = write_zip(tmp_path / "cut.zip", [*files[:-1], files[-1][:-100]])
    with pytest.raises(MalformedError, match=r"a frame of cut.z\*\* is cut short: 2,780 bytes"):
        read(cut)
    header = write_zip(tmp_path / "header.zip", [*files[:-1], files[-1][:500]])
    with pytest.raises(MalformedError, match=r"has 49 frames"):
        read(header)
    rows = b"\x28\x00\x10\x00US"
    files[7] = files[7].replace(rows + b"\x02", rows + b"\x01")
    with pytest.raises(MalformedError, match=r"a DICOM file is damaged \(\w+\)\. Copy it again"):
        read(write_zip(tmp_path / "damaged.zip", files))
    zipped.write_bytes(zipped.read_bytes()[:-300])
    with pytest.raises(MalformedError, match=r"#######_#####_#_#.zip is no whole zip archive"):
        read(zipped)
    empty = write_zip(tmp_path / "empty.zip", [])
    with pytest.raises(MalformedError, match="holds no DICOM file"):
        read(empty)
    with pytest.raises(OpenError, match="does not exist"):
        read(tmp_path / "absent")


def test_a_zip_that_climbs_is_refused(tmp_path, disc):
    path = write_zip(tmp_path / "evil.zip", cine_files(disc))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil.dcm", b"x")
    with pytest.raises(RefusedError, match="leads out of it"):
        read(path)


def test_without_pydicom(zipped, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'imgwas\[dicom\]'"):
        read(zipped)


def test_people_are_found_by_the_names_of_zips_and_folders(tmp_path, zipped):
    found = find_cines(tmp_path)
    assert [(f.sample_id, f.visit, f.path) for f in found] == [("1000017", "2", zipped)]
    with pytest.raises(UsageError, match="20209"):
        find_cines(tmp_path, field="20209")
    (tmp_path / "p1" / "v2").mkdir(parents=True)
    (tmp_path / "p1" / "v3").mkdir()
    (tmp_path / "p1" / "notes.txt").write_text("x")
    found = find_cines(tmp_path, pattern="{id}/{visit}")
    assert [(f.sample_id, f.visit) for f in found] == [("p1", "v2"), ("p1", "v3")]
    assert [(d.reason, d.n) for d in found.dropped] == [("neither a folder nor a zip", 1)]
    with pytest.raises(UsageError, match="names files, not folders"):
        find_cines(tmp_path / "p1", pattern="{id}.txt")


def test_from_zips_to_a_store_without_names(tmp_path, disc):
    write_zip(tmp_path / "1000017_20208_2_0.zip", cine_files(disc))
    write_zip(tmp_path / "1000023_20208_2_0.zip", cine_files(disc[:, ::-1]))
    write_zip(tmp_path / "1000041_20208_3_0.zip", cine_files(moving_disc(n_frames=49)))
    report = write_store(
        tmp_path / "hearts.h5",
        find_cines(tmp_path),
        partial(read_dicom_cine, n_frames=50),
        settings={"n_frames": 50},
        max_failures=0.5,
    )
    assert (report.n_written, report.n_present, len(report.failures)) == (2, 0, 1)
    assert "49 frames" in report.failures[0].reason
    images = StoreImages(images_from_store(tmp_path / "hearts.h5"))
    assert images.sample_ids == ("1000017", "1000023")
    assert images.grid == (40, 36, 1, 50)
    assert np.array_equal(images.read(0)[:, :, 0], disc)
    assert np.array_equal(images.affine, np.diag([1.25, 1.5, 6, 1]))
    content = (tmp_path / "hearts.h5").read_bytes()
    for word in (SECRET, "Jane", "1950", "SCANNER", "1.2.3"):
        assert word.encode() not in content


def test_a_store_is_read_in_one_way(tmp_path, zipped):
    store = tmp_path / "hearts.h5"
    reader = partial(read_dicom_cine, n_frames=50)
    write_store(store, find_cines(tmp_path), reader, settings={"n_frames": 50})
    with pytest.raises(InconsistentError, match=r'settings \{"n_frames": 50\}'):
        write_store(store, find_cines(tmp_path), reader, settings={"n_frames": 40})
