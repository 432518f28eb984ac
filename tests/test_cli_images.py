"""``imgwas images``: lists and stores from the command line, with what is refused and how."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
from imgwas_cli import main

from imgwas.images.manifest import read_image_list
from imgwas.images.store import StoreImages, images_from_store
from tests.cli_cohort import imgwas
from tests.data import data_file
from tests.dicoms import SECRET, cine_files, moving_disc, write_zip
from tests.test_images_sources import bids, bulk, touch, write


@pytest.fixture(autouse=True)
def command(monkeypatch):
    monkeypatch.setitem(main.COMMANDS, "images", ("imgwas_cli.images", "images"))


def listed(path):
    return [(f.sample_id, f.visit) for f in read_image_list(path)]


def report(path):
    content = json.loads(path.with_name(path.name + ".report.json").read_text())
    return content, {note["reason"]: note["n"] for note in content["dropped"]}


def test_the_real_brains_become_a_list(tmp_path):
    folder = data_file("ixi40/t1")
    ids = [path.name.removesuffix("_T1.nii.gz") for path in folder.iterdir()]
    people = write(tmp_path / "c.fam", *(f"0 {i} 0 0 1 -9" for i in [*ids[5:], "extra1"]))
    done = imgwas("images", "list", folder, "--pattern", "{id}_T1.nii.gz", "--match", people,
                  "--out", "images.tsv", folder=tmp_path)  # fmt: skip
    assert done.code == 0, done.text
    images = read_image_list(tmp_path / "images.tsv")
    assert sorted(images.sample_ids) == sorted(ids[5:])
    assert all(f.path.is_file() for f in images)
    content, dropped = report(tmp_path / "images.tsv")
    assert (content["images"], content["people"]) == (35, 35)
    assert content["match"] == {
        "images_and_genotypes": 35, "only_images": 5, "only_genotypes": 1}  # fmt: skip
    assert dropped == {"no genotypes": 5}
    assert "found 40 images of 40 people (folder)" in done.text
    assert "left out 5: no genotypes" in done.text
    assert "kept 35 images of 35 people" in done.text
    assert not any(i in done.text or i in json.dumps(content) for i in ids)


@pytest.fixture
def biobank(tmp_path):
    """Four people in bulk zips; one of them twice."""
    for name in ("1000017_20252_2", "1000017_20252_3", "1000023_20252_3", "1000041_20252_2",
                 "1000059_20252_2"):  # fmt: skip
        bulk(tmp_path / "bulk" / f"{name}_0.zip")
    write(tmp_path / "bridge.tsv", "eid\tIID", "1000017\tG1", "1000023\tG2", "1000041\tG3")
    write(tmp_path / "w.csv", "1000041")
    write(tmp_path / "c.fam", "0 G1 0 0 1 -9", "0 G2 0 0 1 -9", "0 G9 0 0 1 -9")
    return tmp_path


def test_everything_about_people_in_its_order(biobank):
    words = ["images", "list", "bulk", "--out", "l.tsv", "--bridge", "bridge.tsv", "--match",
             "c.fam", "--withdrawn", "w.csv"]  # fmt: skip
    refused = imgwas(*words, folder=biobank)
    assert refused.code == 21
    assert "error: 1 people with images withdrew from the study" in refused.text
    assert not (biobank / "l.tsv").exists()
    done = imgwas(*words, "--drop-withdrawn", folder=biobank)
    assert done.code == 0, done.text
    assert listed(biobank / "l.tsv") == [("G1", "2"), ("G2", "3")]
    assert report(biobank / "l.tsv")[1] == {
        "withdrew from the study": 1,
        "not in the bridge table": 1,
        "not the first visit": 1,
    }
    assert "1000041" not in done.text
    member = read_image_list(biobank / "l.tsv").files[0].member
    assert member == "T1/T1_unbiased_brain.nii.gz"


@pytest.mark.parametrize(
    ("visit", "expected"),
    [
        ("last", [("1000017", "3"), ("1000023", "3"), ("1000041", "2"), ("1000059", "2")]),
        ("2", [("1000017", "2"), ("1000041", "2"), ("1000059", "2")]),
        ("2,3", [("1000017", "2"), ("1000023", "3"), ("1000041", "2"), ("1000059", "2")]),
    ],
)
def test_visits(biobank, visit, expected):
    done = imgwas("images", "list", "bulk", "--visit", visit, "--out", "l.tsv", folder=biobank)
    assert done.code == 0, done.text
    assert listed(biobank / "l.tsv") == expected


def test_all_visits_are_kept_for_averaging(biobank):
    done = imgwas("images", "list", "bulk", "--visit", "average", "--out", "l.tsv", folder=biobank)
    assert done.code == 0
    assert len(listed(biobank / "l.tsv")) == 5


def test_bids_with_its_choices(tmp_path):
    bids(tmp_path / "b", "sub-1_acq-x_run-1_T1w.nii.gz", "sub-1_acq-x_run-2_T1w.nii.gz",
         "sub-1_acq-y_T1w.nii.gz", "sub-2_acq-x_T1w.nii.gz")  # fmt: skip
    words = ["images", "list", "b", "--entity", "acq=x", "--out", "l.tsv"]
    done = imgwas(*words, folder=tmp_path)
    assert done.code == 7
    assert "Choose: --run last" in done.text
    done = imgwas(*words, "--run", "last", folder=tmp_path)
    assert done.code == 0, done.text
    assert listed(tmp_path / "l.tsv") == [("1", ""), ("2", "")]


def refusals(folder):
    """Command line after ``images list``, its exit code and what it says."""
    touch(folder, "a.nii.gz", "b.nii.gz", "f/x_T1.nii.gz")
    write(folder / "absent.tsv", "IID\tpath", "ann17\ta.nii.gz", "bob18\tgone.nii.gz")
    write(folder / "twice.tsv", "IID\tpath", "ann17\ta.nii.gz", "bob18\ta.nii.gz")
    write(folder / "mgz.tsv", "IID\tpath", "ann17\ta.mgz")
    write(folder / "good.tsv", "IID\tpath", "ann17\ta.nii.gz", "bob18\tb.nii.gz")
    write(folder / "ids.fam", "0 zoe1 0 0 1 -9", "0 zac2 0 0 1 -9")
    write(folder / "bad.tsv", "eid\tIID", "ann17\tG1", "bob18\tG1")
    return [
        ("absent.tsv", 3, "1 of 2 entries have no image file. row 2 (gone.***.**)"),
        ("twice.tsv", 7, "1 entries have the file of another entry"),
        ("mgz.tsv", 6, "a FreeSurfer volume: mri_convert"),
        ("good.tsv --match ids.fam", 7, "0 of 2 people with images are among the 2 genotyped"),
        ("good.tsv --bridge bad.tsv", 7, "1 genotype ids belong to several image ids"),
        ("good.tsv --visit 3", 8, "no image is of visit 3"),
        ("good.tsv --space MNI", 8, "a source of kind table has no choice 'space'"),
        ("good.tsv --entity acq", 8, "--entity 'acq' is no pair"),
        ("good.tsv --drop-withdrawn", 8, "needs --withdrawn FILE"),
        ("good.tsv --bridge-columns a,b", 8, "needs --bridge FILE"),
        ("good.tsv --bridge bad.tsv --bridge-columns a", 8, "takes two names"),
        ("f", 8, "Say how ids stand in the names: --pattern"),
        ("nowhere", 3, "nowhere does not exist"),
    ]


@pytest.mark.parametrize("number", range(13))
def test_what_list_refuses(tmp_path, number):
    words, code, message = refusals(tmp_path)[number]
    done = imgwas("images", "list", *words.split(), "--out", "l.tsv", folder=tmp_path)
    assert (done.code, message in done.text) == (code, True), done.text
    assert "ann17" not in done.text
    assert "bob18" not in done.text
    assert not (tmp_path / "l.tsv").exists()


def test_missing_files_can_be_left_out(tmp_path):
    refusals(tmp_path)
    done = imgwas("images", "list", "absent.tsv", "--missing", "drop", "--out", "l.tsv",
                  folder=tmp_path)  # fmt: skip
    assert done.code == 0
    assert listed(tmp_path / "l.tsv") == [("ann17", "")]


@cache
def two_views():
    disc = moving_disc()
    return cine_files(disc) + cine_files(disc[::-1], view="2Ch", series="1.2.2")


@pytest.fixture
def hearts(tmp_path):
    for eid in (1000017, 1000023, 1000041):
        write_zip(tmp_path / "bulk" / f"{eid}_20208_2_0.zip", two_views())
    return tmp_path


@pytest.fixture(autouse=True)
def bulk_folder(tmp_path):
    (tmp_path / "bulk").mkdir(exist_ok=True)


def test_zips_become_a_store_and_a_list_of_it(hearts):
    words = ["images", "to-store", "bulk", "--view", "2Ch,4Ch", "--out", "hearts.h5"]
    done = imgwas(*words, folder=hearts)
    assert done.code == 0, done.text
    assert "stored 6 series in hearts.h5: 6 new, 0 failed" in done.text
    images = StoreImages(images_from_store(hearts / "hearts.h5", view="2Ch"))
    assert np.array_equal(images.read(2)[:, :, 0], moving_disc()[::-1])
    assert SECRET.encode() not in (hearts / "hearts.h5").read_bytes()
    again = imgwas(*words, folder=hearts)
    assert "stored 6 series in hearts.h5: 0 new, 0 failed" in again.text
    done = imgwas("images", "list", "hearts.h5", "--view", "4Ch", "--out", "l.tsv", folder=hearts)
    assert done.code == 0, done.text
    files = read_image_list(hearts / "l.tsv").files
    assert files == images_from_store(hearts / "hearts.h5", view="4Ch").files


def test_bad_series_and_withdrawn_people(hearts):
    write_zip(hearts / "bulk" / "1000059_20208_2_0.zip", cine_files(moving_disc(n_frames=49)))
    write(hearts / "w.csv", "1000017")
    words = ["images", "to-store", "bulk", "--out", "hearts.h5"]
    refused = imgwas(*words, "--withdrawn", "w.csv", folder=hearts)
    assert refused.code == 21
    words += ["--withdrawn", "w.csv", "--drop-withdrawn"]
    done = imgwas(*words, folder=hearts)
    assert done.code == 13
    assert "1 of 3 series could not be stored" in done.text
    assert "hearts.h5.failures.tsv" in done.text
    assert "1000059" not in done.text
    assert images_from_store(hearts / "hearts.h5").sample_ids == ("1000023", "1000041")
    done = imgwas(*words, "--max-failures", "0.5", folder=hearts)
    assert done.code == 0, done.text
    assert "stored 2 series in hearts.h5: 0 new, 1 failed" in done.text
    other = imgwas(*words, "--frames", "49", folder=hearts)
    assert other.code == 7
    assert "was written with the settings" in other.text


def test_an_interrupted_store_is_continued(hearts):
    command = [sys.executable, "-c", (
        "import signal, sys, time; import imgwas_cli.main as m; import imgwas.images.dicom as d\n"
        "m.COMMANDS['images'] = ('imgwas_cli.images', 'images')\n"
        "read, n, heard = d.read_dicom_cine, [], []\n"
        "def slow(*a, **k):\n"  # one series; another one when the signal has come; no more
        " n.append(1)\n"
        " while len(n) > 1 and not heard: time.sleep(0.01)\n"
        " assert len(n) < 3\n"
        " return read(*a, **k)\n"
        "def hear(number, frame):\n heard.append(1)\n raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGINT, hear)\n"  # some jobs start their programs deaf to it
        "d.read_dicom_cine = slow\n"
        "m.app(sys.argv[1:])"
    ), "images", "to-store", "bulk", "--out", "hearts.h5"]  # fmt: skip
    process = subprocess.Popen(command, cwd=hearts, stderr=subprocess.PIPE, env=os.environ)
    parts = hearts / "hearts.h5.parts"
    while not list(parts.glob("[0-9a-f]*.h5")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert not (hearts / "hearts.h5").exists()
    n_whole = len(list(parts.glob("[0-9a-f]*.h5")))
    assert n_whole in (1, 2)
    done = imgwas("images", "to-store", "bulk", "--out", "hearts.h5", folder=hearts)
    assert done.code == 0, done.text
    assert f"stored 3 series in hearts.h5: {3 - n_whole} new, 0 failed" in done.text


def test_help_names_every_group_of_options(tmp_path):
    text = imgwas("images", "list", "--help", folder=tmp_path).text
    for title in ("What", "Table", "Folder", "BIDS", "UK Biobank and stores", "People", "Example"):
        assert f"{title}:" in text
    assert "--max-failures" in imgwas("images", "to-store", "--help", folder=tmp_path).text


def test_without_the_libraries(hearts, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    done = imgwas("images", "to-store", "bulk", "--out", "hearts.h5", folder=hearts)
    assert done.code == 9
    assert "pip install 'imgwas[dicom]'" in done.text
