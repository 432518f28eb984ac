"""The HDF5 store: layout, round trip, resuming after a kill, damage, links, many processes."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest

from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    OpenError,
    RefusedError,
    UsageError,
    WriteError,
)
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.sources import find_images
from imgwas.images.store import Cine, StoreImages, images_from_store, read_cine, series_name
from imgwas.images.store_writing import write_store

KEY = "10/20208/2/primary_LAX_4Ch_transverse_0"


def cine_of(file, view="4Ch", *, shape=(9, 7, 1, 5), dtype=np.uint16, spacing=(1.5, 1.5, 6.0)):
    """A cine that everybody can compute from the id."""
    rng = np.random.default_rng(list(f"{file.sample_id}@{file.visit}{view}".encode()))
    values = rng.integers(0, 4000, shape).astype(dtype)
    times = tuple(20.0 * n for n in range(shape[3]))
    return Cine(values, spacing, view, "0123456789abcdef", times)


def people(*ids, visit="2"):
    return ImageList(tuple(ImageFile(str(i), Path("nowhere"), visit=visit) for i in ids))


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "hearts.h5"
    write_store(path, people(10, 11, "007"), cine_of)
    return path


def test_the_layout_is_the_published_one(store):
    with h5py.File(store) as file:
        assert sorted(file) == ["007", "10", "11"]
        dataset = file["10"]["20208"]["2"]["primary_LAX_4Ch_transverse_0"]
        cine = cine_of(ImageFile("10", Path("x"), visit="2"))
        assert dataset.shape == (1, 5, 1, 9, 7)  # channel, time, slice, x, y
        assert np.array_equal(dataset[0, 3, 0], cine.values[:, :, 0, 3])
        assert dataset.attrs["min"] == cine.values.min()
        assert dataset.attrs["max"] == cine.values.max()
        assert dataset.attrs["series_id"] == "0123456789abcdef"
        assert file.attrs["axes"] == "channel,time,slice,x,y"
        kept = {"min", "max", "series_id", "view", "spacing", "frame_times", "sha256"}
        assert set(dataset.attrs) == kept


def test_everyone_is_read_back_lazily_as_float32(store):
    images = StoreImages(images_from_store(store))
    assert images.sample_ids == ("007", "10", "11")
    assert images.grid == (9, 7, 1, 5)
    np.testing.assert_array_equal(images.affine, np.diag([1.5, 1.5, 6, 1]))
    for index, sample_id in enumerate(images.sample_ids):
        values = images.read(index)
        assert values.dtype == np.float32
        assert np.array_equal(values, cine_of(ImageFile(sample_id, Path("x"), visit="2")).values)
    cine = read_cine(images.files[1])
    assert (cine.view, cine.spacing, cine.frame_times[-1]) == ("4Ch", (1.5, 1.5, 6.0), 80.0)
    assert repr(images) == "StoreImages(3 people, grid (9, 7, 1, 5))"


def test_a_store_is_a_source_like_the_others(store):
    assert find_images(store) == images_from_store(store)
    assert find_images(store).files[0].visit == "2"


def test_volumes_without_time_and_numbers_of_every_kind(tmp_path):
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        path = tmp_path / f"{np.dtype(dtype).name}.h5"
        write_store(path, people(1), partial(cine_of, shape=(4, 5, 6, 1), dtype=dtype))
        images = StoreImages(images_from_store(path))
        assert images.grid == (4, 5, 6)
        expected = cine_of(images.files[0], shape=(4, 5, 6, 1), dtype=dtype)
        assert np.array_equal(images.read(0), expected.values[..., 0])


def test_views_visits_and_fields_are_told_apart(tmp_path):
    path = tmp_path / "hearts.h5"
    both = ImageList((*people(1, 2), *people(1, visit="3")))
    write_store(path, both, cine_of, views=("2Ch", "4Ch"))
    with pytest.raises(UsageError, match=r"several kinds of series.*2Ch_transverse_0 \(3\)"):
        images_from_store(path)
    found = images_from_store(path, view="2Ch")
    assert found.row_ids == ("1@2", "1@3", "2@2")
    expected = cine_of(ImageFile("1", Path("x"), visit="3"), "2Ch")
    assert np.array_equal(StoreImages(found).read(1), expected.values)
    with pytest.raises(UsageError, match="no such series"):
        images_from_store(path, view="3Ch")
    assert len(images_from_store(path, series=series_name("4Ch"), field="20208")) == 3


# --- resuming -----------------------------------------------------------------------------------


def test_what_is_stored_is_not_read_again(store):
    read_ids = []

    def read(file, view):
        read_ids.append(file.sample_id)
        return cine_of(file, view)

    before = hashlib.sha256(store.read_bytes()).hexdigest()
    report = write_store(store, people(10, 11, "007"), read)
    assert (report.n_written, report.n_present, read_ids) == (0, 3, [])
    assert hashlib.sha256(store.read_bytes()).hexdigest() == before
    report = write_store(store, people(10, 12), read)
    assert (report.n_written, report.n_present, read_ids) == (1, 1, ["12"])
    images = StoreImages(images_from_store(store))
    assert images.sample_ids == ("007", "10", "11", "12")
    assert np.array_equal(images.read(3), cine_of(ImageFile("12", Path("x"), visit="2")).values)
    assert not store.with_name("hearts.h5.parts").exists()


WRITER = """
    import sys, time
    from pathlib import Path
    from tests.test_images_store import cine_of, people
    from imgwas.images.store_writing import write_store

    n = []

    def read(file, view):
        n.append(file)
        time.sleep(0.01 if len(n) < 60 else 600)  # not over before it is killed
        return cine_of(file, view, shape=(64, 64, 1, 50))

    write_store(Path(sys.argv[1]), people(*range(200)), read)
"""


def test_a_killed_run_leaves_whole_people_and_is_continued(tmp_path):
    path = tmp_path / "hearts.h5"
    parts = tmp_path / "hearts.h5.parts"
    for n_before in (5, 15):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path)])
        while len(list(parts.glob("[0-9a-f]*.h5"))) < n_before and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not path.exists()
    whole = list(parts.glob("[0-9a-f]*.h5"))
    assert 15 <= len(whole) < 200
    shape = (64, 64, 1, 50)
    for part in whole:
        (file,) = images_from_store(part)
        assert np.array_equal(read_cine(file).values, cine_of(file, shape=shape).values)
    read = partial(cine_of, shape=shape)
    report = write_store(path, people(*range(40)), read)
    assert report.n_written + report.n_present == 40
    assert report.n_present >= 15
    images = StoreImages(images_from_store(path))
    assert len(images) == 40
    for index in (0, 17, 39):
        assert np.array_equal(images.read(index), read(images.files[index]).values)
    assert not parts.exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    path = tmp_path / "hearts.h5"
    code = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        from functools import partial
        from tests.test_images_store import cine_of, people
        from imgwas.images.store_writing import write_store
        import sys
        from pathlib import Path
        from imgwas.errors import WriteError
        try:
            write_store(Path(sys.argv[1]), people(1), partial(cine_of, shape=(64, 64, 1, 50)))
        except WriteError as error:
            sys.exit(str(error)[:200])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert not path.exists()
    assert list((tmp_path / "hearts.h5.parts").iterdir()) == []


def test_workers_of_a_cluster_write_the_same_store(tmp_path):
    from distributed import Client, LocalCluster

    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    write_store(one, people(*range(8)), cine_of)
    ticks = []
    quiet = {"dashboard_address": None, "silence_logs": 50}
    with LocalCluster(2, processes=False, **quiet) as cluster, Client(cluster) as client:
        report = write_store(two, people(*range(8)), cine_of, client=client, progress=ticks.append)
    assert report.n_written == len(ticks) == 8
    first, second = (StoreImages(images_from_store(path)) for path in (one, two))
    assert first.fingerprint()["series"] == second.fingerprint()["series"]


def test_two_runs_may_not_write_one_store(store):
    parts = store.with_name("hearts.h5.parts")
    parts.mkdir()
    holder = {"host": "elsewhere", "pid": 1, "start": 0}
    (parts / ".lock").write_text(json.dumps(holder))
    with pytest.raises(InconsistentError, match="in use by process 1 on elsewhere"):
        write_store(store, people(12), cine_of)


def failing(file, view):
    if file.sample_id in ("11", "12"):
        raise MalformedError("it has 49 frames.")
    if file.sample_id == "13":
        return Cine(np.full((2, 2, 1, 2), np.nan))
    if file.sample_id == "14":
        return Cine(np.ones((2, 2, 1)))
    if file.sample_id == "15":
        return Cine(np.ones((2, 2, 1, 2), np.complex64))
    return cine_of(file, view)


def test_bad_series_are_listed_and_stop_nobody(tmp_path, caplog):
    path = tmp_path / "hearts.h5"
    with pytest.raises(DegenerateError, match=r"5 of 6 series could not be stored.*49 frames"):
        write_store(path, people(*range(10, 16)), failing)
    report = write_store(path, people(*range(10, 16)), failing, max_failures=1)
    assert (report.n_written, report.n_present, len(report.failures)) == (0, 1, 5)
    table = (tmp_path / "hearts.h5.failures.tsv").read_text().splitlines()
    assert table[0] == "IID\tvisit\tview\treason"
    assert table[1] == "11\t2\t4Ch\tit has 49 frames."
    assert "not finite" in table[3]
    assert "shape (2, 2, 1)" in table[4]
    assert "complex64" in table[5]
    assert "2 series not stored: it has 49 frames." in caplog.text
    write_store(path, people(10), cine_of)
    assert not (tmp_path / "hearts.h5.failures.tsv").exists()


@pytest.mark.parametrize("sample_id", ["a/b", "..", "."])
def test_ids_that_would_be_two_levels_are_refused(tmp_path, sample_id):
    with pytest.raises(MalformedError, match="cannot be a key of a store"):
        write_store(tmp_path / "x.h5", people(sample_id), cine_of)


def test_writing_where_nothing_can_be_written(tmp_path):
    with pytest.raises(WriteError):
        write_store(tmp_path / "absent" / "x.h5", people(1), cine_of)


def test_without_h5py(tmp_path, store, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'imgwas\[hdf5\]'"):
        write_store(tmp_path / "x.h5", people(1), cine_of)
    with pytest.raises(MissingLibraryError):
        images_from_store(store)


# --- reading ------------------------------------------------------------------------------------


def _sum(images, index):
    return float(images.read(index).sum()), os.getpid()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_open_the_store_themselves(store, method):
    images = StoreImages(images_from_store(store))
    expected = [float(images.read(i).sum()) for i in range(3)]
    copy = pickle.loads(pickle.dumps(images))
    assert copy.read(0).sum() == expected[0]
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        there = list(pool.map(_sum, [images] * 3, range(3)))
    assert [value for value, _ in there] == expected
    assert os.getpid() not in {pid for _, pid in there}


def test_a_forked_process_does_not_share_the_open_file(store):
    images = StoreImages(images_from_store(store))
    images.read(0)
    handle = images._handles[store]
    assert images._store(store) is handle
    images._pid = -1  # as it would be in a child
    assert images._store(store) is not handle


def test_the_fingerprint_follows_the_content(store, tmp_path):
    def fingerprint():
        return StoreImages(images_from_store(store)).fingerprint()

    before = fingerprint()
    assert before == fingerprint()
    assert before["n_series"] == 3
    assert set(before) == {"stores", "n_series", "series"}  # and nobody's id
    assert set(before["stores"][0]) == {"file", "bytes", "modified"}
    with h5py.File(store, "a") as file:
        file[KEY].attrs["sha256"] = "other"
    assert fingerprint()["series"] != before["series"]


def test_a_store_cut_short_or_of_another_kind(store, tmp_path):
    content = store.read_bytes()
    store.write_bytes(content[: len(content) // 2])
    with pytest.raises(MalformedError, match=r"was cut short\. Copy it again"):
        images_from_store(store)
    store.write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    with pytest.raises(MalformedError, match=r"no HDF5 file, or damaged"):
        images_from_store(store)
    with pytest.raises(OpenError, match="does not exist"):
        images_from_store(tmp_path / "absent.h5")


def test_flipped_bytes_of_a_frame_are_noticed(store):
    with h5py.File(store) as file:
        place = file[KEY].id.get_chunk_info(0)
    content = bytearray(store.read_bytes())
    content[place.byte_offset + place.size // 2] ^= 0xFF
    store.write_bytes(content)
    fresh = StoreImages(images_from_store(store))
    with pytest.raises(MalformedError, match=r"hearts.h5:10/20208/2/.* is damaged in the store"):
        fresh.read(1)
    assert fresh.read(0).shape == (9, 7, 1, 5)


def _replaced(store, value, **choices):
    with h5py.File(store, "a") as file:
        del file[KEY]
        file.create_dataset(KEY, data=value, **choices)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((5, 9, 7)), r"has shape \(5, 9, 7\)\. \(channel, time, slice, x, y\)"),
        (np.zeros((2, 5, 1, 9, 7)), "has 2 channels"),
        (np.zeros((1, 5, 1, 9, 7), np.complex64), "complex values. Real numbers"),
        (np.zeros((1, 0, 1, 9, 7)), r"has shape \(1, 0, 1, 9, 7\)"),
        (np.full((1, 5, 1, 9, 7), b"x"), "values of type"),
    ],
)
def test_series_of_another_kind(store, value, message):
    _replaced(store, value)
    with pytest.raises(MalformedError, match=message):
        StoreImages(images_from_store(store))


def test_values_that_are_not_finite(store):
    value = np.zeros((1, 5, 1, 9, 7), np.float32)
    value[0, 2, 0, 3, 3] = np.inf
    _replaced(store, value)
    with h5py.File(store, "a") as file:
        file[KEY].attrs["spacing"] = [1.5, 1.5, 6.0]
    with pytest.raises(MalformedError, match="not finite"):
        StoreImages(images_from_store(store)).read(1)


def test_a_claim_of_more_than_memory_holds(store):
    with h5py.File(store, "a") as file:
        del file[KEY]
        file.create_dataset(KEY, shape=(1, 50, 1, 60_000, 60_000), dtype="u2", chunks=True)
    with pytest.raises(MalformedError, match=r"claims \(1, 50, 1, 60000, 60000\) voxels"):
        StoreImages(images_from_store(store))


def test_a_series_that_vanished(store):
    images = StoreImages(images_from_store(store))
    images._handles.clear()
    with h5py.File(store, "a") as file:
        del file[KEY]
    with pytest.raises(MalformedError, match="no longer in the store"):
        images.read(1)


@pytest.mark.parametrize("kind", ["external", "soft", "raw", "virtual"])
def test_stores_that_lead_to_other_files_are_refused(store, tmp_path, kind):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.zeros((1, 5, 1, 9, 7))
    (tmp_path / "passwd").write_bytes(bytes(2000))
    with h5py.File(store, "a") as file:
        del file[KEY]
        _, name = KEY.rsplit("/", 1)
        if kind == "external":
            file[KEY] = h5py.ExternalLink(str(other), "/secret")
        elif kind == "soft":
            file[KEY] = h5py.SoftLink("/11/20208/2/" + name)
        elif kind == "raw":
            file.create_dataset(KEY, (1, 5, 1, 9, 7), "u2",
                                external=[(str(tmp_path / "passwd"), 0, 630)])  # fmt: skip
        else:
            layout = h5py.VirtualLayout((1, 5, 1, 9, 7), "f8")
            layout[...] = h5py.VirtualSource(other, "secret", shape=(1, 5, 1, 9, 7))
            file.create_virtual_dataset(KEY, layout)
    with pytest.raises(RefusedError, match=r"links elsewhere|lie in another file") as raised:
        StoreImages(images_from_store(store))
    assert raised.value.exit_code == 21


def test_other_layouts(tmp_path):
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["a/b"] = np.zeros(3)
    with pytest.raises(MalformedError, match="another layout"):
        images_from_store(tmp_path / "flat.h5")
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file["a/b/c/d/e"] = np.zeros(3)
    with pytest.raises(MalformedError, match="another layout"):
        images_from_store(tmp_path / "deep.h5")
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(MalformedError, match="holds no series"):
        images_from_store(tmp_path / "empty.h5")


def test_grids_and_voxel_sizes_must_be_one(store):
    write_store(store, people(20, 21), partial(cine_of, shape=(8, 7, 1, 5)))
    found = images_from_store(store)
    with pytest.raises(InconsistentError, match=r"2 grids .*\(9, 7, 1, 5\) \(3\).*preprocess"):
        StoreImages(found)
    assert StoreImages(found.take([0, 1, 2])).grid == (9, 7, 1, 5)
    write_store(store, people(30), partial(cine_of, spacing=(1.6, 1.5, 6.0)))
    chosen = images_from_store(store)
    rows = [i for i, f in enumerate(chosen) if f.sample_id not in ("20", "21")]
    with pytest.raises(InconsistentError, match=r"1 series have other voxel sizes than \(1.5, 1.5"):
        StoreImages(chosen.take(rows))
    with pytest.raises(InconsistentError, match="names no series"):
        StoreImages(chosen.take([]))


def test_voxel_sizes_that_nobody_knows(tmp_path):
    write_store(tmp_path / "x.h5", people(1), partial(cine_of, spacing=(0.0, 0.0, 0.0)))
    images = StoreImages(images_from_store(tmp_path / "x.h5"))
    np.testing.assert_array_equal(images.affine, np.eye(4))
