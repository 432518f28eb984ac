"""Images are found in tables, folders, BIDS and bulk zips; every fault is named, with its rows."""

from __future__ import annotations

import logging
import os
import time
import zipfile

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgwas.errors import (
    InconsistentError,
    MalformedError,
    OpenError,
    RefusedError,
    UsageError,
)
from imgwas.images.bids import images_from_bids, parse_bids_name
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.manifest import read_image_list, write_image_list
from imgwas.images.sources import FINDERS, find_images, kind_of
from imgwas.images.zips import check_member_name, find_member, list_members, read_member
from tests.data import data_file

BRAIN = ["T1/T1.nii.gz", "T1/T1_unbiased_brain.nii.gz", "T1/T1_brain_mask.nii.gz"]
MATRIX = "T1/transforms/T1_to_MNI_linear.mat"


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def bulk(path, members=(*BRAIN, MATRIX)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, f"{path.name} {member}")
    return path


def found(images):
    return [(f.sample_id, f.visit, f.path.name) for f in images]


def notes(images):
    return {note.reason: note.n for note in images.dropped}


# --- tables -------------------------------------------------------------------------------------


def test_ids_of_a_table_are_the_text_they_are(tmp_path):
    ids = ["007", "1e5", "NA", "9007199254740993", "True"]
    touch(tmp_path, *(f"img/{i}.nii.gz" for i in range(5)))
    table = write(
        tmp_path / "t.csv", "EID,T1_unbiased_linear",
        *(f"{eid},img/{i}.nii.gz" for i, eid in enumerate(ids)),
    )  # fmt: skip
    images = find_images(table)
    assert images.sample_ids == tuple(ids)
    assert [f.path for f in images] == [tmp_path / f"img/{i}.nii.gz" for i in range(5)]


def test_the_table_of_two_contrasts_needs_a_choice(tmp_path):
    touch(tmp_path, "a1.nii.gz", "a2.nii.gz")
    lines = ["EID,T1_unbiased_linear,T2_unbiased_linear", "a,a1.nii.gz,a2.nii.gz"]
    table = write(tmp_path / "t.csv", *lines)
    with pytest.raises(
        UsageError, match=r"2 columns: T1_\w+, T2_\w+\..*--image T1_unbiased_linear"
    ):
        find_images(table)
    assert found(find_images(table, image="T2_unbiased_linear")) == [("a", "", "a2.nii.gz")]
    with pytest.raises(UsageError, match=r"no column 'T3'\."):
        find_images(table, image="T3")


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_every_kind_of_table_with_all_its_columns(tmp_path, ending):
    touch(tmp_path, "a.nii.gz", "b.nii", "m/a.nii.gz", "m/b.nii.gz", "x.mat")
    frame = pd.DataFrame(
        {
            "eid": ["1", "1"],
            "scan": ["a.nii.gz", str(tmp_path / "b.nii")],
            "instance": ["2", "3"],
            "brain": ["m/a.nii.gz", "m/b.nii.gz"],
            "flirt": ["x.mat", None],
        }
    )
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="," if ending == "csv" else "\t", index=False)
    columns = {"visit_column": "instance", "mask_column": "brain", "matrix_column": "flirt"}
    images = find_images(path, **columns, image="scan")
    assert images.files == (
        ImageFile("1", tmp_path / "a.nii.gz", "", "2", tmp_path / "m/a.nii.gz", tmp_path / "x.mat"),
        ImageFile("1", tmp_path / "b.nii", "", "3", tmp_path / "m/b.nii.gz"),
    )
    assert images.row_ids == ("1@2", "1@3")


def test_rows_without_an_image_and_repeated_rows_are_counted(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    table = write(tmp_path / "t.tsv", "IID\tpath", "a\ta.nii.gz", "c\t", "d\tNA", "b\tb.nii.gz",
                  "a\ta.nii.gz")  # fmt: skip
    images = find_images(table)
    assert images.sample_ids == ("a", "b")
    assert notes(images) == {"the table names no image": 2, "the row repeats an earlier one": 1}


def test_missing_files_are_looked_for_at_once_and_decided_by_rule(tmp_path, caplog):
    touch(tmp_path, *(f"{i}.nii.gz" for i in range(40)))
    rows = [f"person{i:03}\t{i}.nii.gz" for i in range(100)]
    table = write(tmp_path / "t.tsv", "IID\tpath", *rows)
    with pytest.raises(OpenError) as raised:
        find_images(table)
    message = str(raised.value)
    assert message.startswith(
        "60 of 100 entries have no image file. row 41 (#0.nii.g*)".replace("#0", "##")
    )
    assert message.count("row ") == 50
    assert "and 10 more" in message
    assert "--missing drop" in message
    assert "person" not in message
    caplog.set_level(logging.WARNING, "imgwas")
    images = find_images(table, missing="drop")
    assert len(images) == 40
    assert notes(images) == {"the file is missing": 60}
    assert sum("left out" in record.message for record in caplog.records) == 50


def test_missing_masks_are_named_as_such(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz", "mask.nii.gz")
    table = write(tmp_path / "t.tsv", "IID\tpath\tmask", "a\ta.nii.gz\tmask.nii.gz",
                  "b\tb.nii.gz\tgone.nii.gz")  # fmt: skip
    with pytest.raises(OpenError, match=r"^1 of 2 entries have no mask file\. row 2 \(b\.nii"):
        find_images(table)


def test_when_every_file_is_missing_dropping_is_refused(tmp_path):
    table = write(tmp_path / "t.tsv", "IID\tpath", "a\ta.nii.gz", "b\tb.nii.gz")
    with pytest.raises(OpenError, match="2 of 2 entries have no image"):
        find_images(table, missing="drop")


@pytest.mark.parametrize("how", ["same", "spelling", "link", "hardlink"])
def test_one_file_for_two_people_is_refused_however_it_is_spelt(tmp_path, how):
    touch(tmp_path, "img/a.nii.gz", "img/b.nii.gz")
    other = {"same": "img/a.nii.gz", "spelling": "img/../img/a.nii.gz", "link": "c.nii.gz",
             "hardlink": "c.nii.gz"}[how]  # fmt: skip
    if how == "link":
        (tmp_path / "c.nii.gz").symlink_to(tmp_path / "img/a.nii.gz")
    if how == "hardlink":
        os.link(tmp_path / "img/a.nii.gz", tmp_path / "c.nii.gz")
    rows = ["ann\timg/a.nii.gz", "bob\timg/b.nii.gz", f"cid\t{other}"]
    table = write(tmp_path / "t.tsv", "IID\tpath", *rows)
    with pytest.raises(InconsistentError, match=r"^1 entries have the file.*row 1 .* and row 3 "):
        find_images(table)


def test_two_images_of_one_visit_are_refused(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    table = write(tmp_path / "t.tsv", "IID\tpath", "ann12\ta.nii.gz", "ann12\tb.nii.gz")
    with pytest.raises(
        InconsistentError, match=r"1 people have several images of one visit.*ann12"
    ):
        find_images(table)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.mgz", "FreeSurfer volume: mri_convert"),
        ("a.img", "Analyze or NIfTI pair"),
        ("a.dcm", "imgwas images to-store"),
        ("a.tar", r"files ending in '\.tar'"),
        ("a.zip", r"end in \.zip and name no member"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(tmp_path, name, message):
    touch(tmp_path, name)
    table = write(tmp_path / "t.tsv", "IID\tpath", f"ann\t{name}")
    with pytest.raises(MalformedError, match=message):
        find_images(table)


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (["IID\tage", "a\t50"], MalformedError, r"no column of images \(IID, age\)"),
        (["IID\tpath", "a\tNA"], MalformedError, "the column path names no image"),
        (["IID\tpath", "a\ts3://bucket/a.nii.gz"], MalformedError, "row 1 names an address"),
        (["scan\tsex", "a.nii.gz\t1"], MalformedError, "no id column"),
        (["IID\tpath\tvisit", "a\ta.nii.gz\tv@1"], MalformedError, "row 1 holds a @ in the visit"),
        (["IID\tpath\tmember", "a\ta.zip\t../T1.nii.gz"], RefusedError, "leads out of it"),
    ],
)
def test_tables_that_are_no_lists(tmp_path, lines, error, message):
    touch(tmp_path, "a.nii.gz", "a.zip")
    with pytest.raises(error, match=message):
        find_images(write(tmp_path / "t.tsv", *lines))


# --- folders ------------------------------------------------------------------------------------


def test_the_real_brains(tmp_path):
    folder = data_file("ixi40/t1")
    images = find_images(folder, pattern="{id}_T1.nii.gz")
    assert len(images) == 40
    assert images.sample_ids[0] == "IXI132-HH-1415"
    assert list(images.sample_ids) == sorted(images.sample_ids)
    masks = "../dlmuse_seg/{id}_T1_DLMUSE.nii.gz"
    with pytest.raises(UsageError, match=r"'\.' or '\.\.'"):
        find_images(folder, pattern="{id}_T1.nii.gz", mask=masks)
    both = find_images(folder.parent, pattern="t1/{id}_T1.nii.gz",
                       mask="dlmuse_seg/{id}_T1_DLMUSE.nii.gz")  # fmt: skip
    assert all(f.mask.is_file() and f.sample_id in f.mask.name for f in both)
    write_image_list(tmp_path / "list.tsv", both)
    assert read_image_list(tmp_path / "list.tsv") == both
    assert find_images(tmp_path / "list.tsv") == both


def test_levels_visits_and_stars(tmp_path):
    touch(tmp_path, "sub-a_1/x9/T1_2.nii.gz", "sub-a_1/x8/T1_3.nii.gz", "sub-b/x/T1_2.nii.gz",
          "sub-b/x/T2_2.nii.gz", "readme.txt")  # fmt: skip
    images = find_images(tmp_path, pattern="sub-{id}/x*/T1_{visit}.nii.gz")
    assert found(images) == [
        ("a_1", "2", "T1_2.nii.gz"), ("a_1", "3", "T1_3.nii.gz"), ("b", "2", "T1_2.nii.gz"),
    ]  # fmt: skip
    assert notes(images) == {"the name is not the pattern's": 1}


def test_an_id_on_two_levels_is_one_id(tmp_path):
    touch(tmp_path, "a/a_T1.nii.gz", "b/a_T1.nii.gz", "b/b_T1.nii.gz")
    images = find_images(tmp_path, pattern="{id}/{id}_T1.nii.gz")
    assert [str(f.path.relative_to(tmp_path)) for f in images] == ["a/a_T1.nii.gz", "b/b_T1.nii.gz"]
    assert notes(images) == {"the name is not the pattern's": 1}


@given(st.lists(st.from_regex(r"[A-Za-z0-9.-]{1,12}", fullmatch=True), min_size=1, unique=True))
def test_ids_come_back_from_the_names_they_made(tmp_path_factory, ids):
    folder = touch(tmp_path_factory.mktemp("f"), *(f"s-{i}_T1_2.nii.gz" for i in ids))
    images = find_images(folder, pattern="s-{id}_T1_{visit}.nii.gz")
    assert found(images) == [(i, "2", f"s-{i}_T1_2.nii.gz") for i in sorted(ids)]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("T1.nii.gz", r"holds no \{id\}"),
        ("{id}{visit}.nii.gz", "two placeholders side by side"),
        ("{subject}.nii.gz", r"holds \{subject\}"),
        ("../{id}.nii.gz", "'.' or '..'"),
        ("/{id}.nii.gz", "empty level"),
        (
            "{id}_T2.nii.gz",
            r"nothing below .* is called.*2 other names there, first: a_T#.ni\*.\*\*,",
        ),
    ],
)
def test_patterns_that_cannot_be(tmp_path, pattern, message):
    touch(tmp_path, "a_T1.nii.gz", "b_T1.nii.gz")
    with pytest.raises(UsageError, match=message):
        find_images(tmp_path, pattern=pattern)


def test_names_with_hidden_characters(tmp_path):
    touch(tmp_path, "a\u200bb.nii.gz")
    with pytest.raises(MalformedError, match=r"zero-width space \(U\+200B\) in the id"):
        find_images(tmp_path, pattern="{id}.nii.gz")


def test_names_that_are_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"a\xffb.nii.gz")).write_bytes(b"")
    with pytest.raises(MalformedError, match="no UTF-8 text in the id"):
        find_images(tmp_path, pattern="{id}.nii.gz")


# --- BIDS ---------------------------------------------------------------------------------------


def bids(folder, *names):
    for name in names:
        words = name.split("_")
        session = [w for w in words if w.startswith("ses-")]
        touch(folder, "/".join([words[0], *session, "anat", name]))
    return folder


def test_bids_names():
    name = parse_bids_name("sub-01_ses-2_acq-x_run-01_T1w.nii.gz")
    assert dict(name.entities) == {"sub": "01", "ses": "2", "acq": "x", "run": "01"}
    assert (name.suffix, name.get("space")) == ("T1w", "none")
    for other in ("sub-01_T1w.json", "T1w.nii.gz", "sub-01_sub-02_T1w.nii.gz", "sub-01T1w.nii.gz"):
        assert parse_bids_name(other) is None


def test_a_raw_dataset(tmp_path, caplog):
    bids(tmp_path, "sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz", "sub-002_ses-B_T1w.nii",
         "sub-002_ses-A_T1w.nii.gz")  # fmt: skip
    touch(tmp_path, "dataset_description.json", "sub-03/anat/sub-99_T1w.nii.gz")
    write(tmp_path / "participants.tsv", "participant_id\tage", "sub-01\t50", "sub-9\t51")
    caplog.set_level(logging.WARNING, "imgwas")
    images = find_images(tmp_path)
    assert found(images) == [
        ("002", "A", "sub-002_ses-A_T1w.nii.gz"), ("002", "B", "sub-002_ses-B_T1w.nii"),
        ("01", "", "sub-01_T1w.nii.gz"),
    ]  # fmt: skip
    assert notes(images) == {"in participants.tsv, and no image": 1}
    assert "1 people with an image are not in participants.tsv" in caplog.text
    assert found(find_images(tmp_path, session="B")) == [("002", "B", "sub-002_ses-B_T1w.nii")]
    assert found(find_images(tmp_path, suffix="T2w")) == [("01", "", "sub-01_T2w.nii.gz")]


MNI, ASYM = "space-MNI152NLin6Asym", "space-MNI152NLin2009cAsym"


def test_spaces_are_never_mixed(tmp_path):
    bids(tmp_path, f"sub-1_{MNI}_desc-preproc_T1w.nii.gz", "sub-1_desc-preproc_T1w.nii.gz",
         f"sub-2_{ASYM}_desc-preproc_T1w.nii.gz")  # fmt: skip
    with pytest.raises(
        InconsistentError, match=r"space is .*\(1 files\), none \(1 files\).*--space"
    ):
        find_images(tmp_path)
    assert found(find_images(tmp_path, space="none")) == [
        ("1", "", "sub-1_desc-preproc_T1w.nii.gz")
    ]
    assert find_images(tmp_path, space="MNI152NLin6Asym").sample_ids == ("1",)
    with pytest.raises(
        UsageError, match=r"with space-MNI .* There are 3 T1w images: space is MNI152"
    ):
        find_images(tmp_path, space="MNI")


def test_resolutions_and_descriptions_are_never_mixed(tmp_path):
    bids(tmp_path, f"sub-1_{MNI}_res-1_T1w.nii.gz", f"sub-2_{MNI}_res-2_T1w.nii.gz")
    with pytest.raises(InconsistentError, match=r"res is .*--entity res=1"):
        find_images(tmp_path)
    assert find_images(tmp_path, entities={"res": "2"}).sample_ids == ("2",)


def test_runs(tmp_path):
    bids(tmp_path, "sub-1_run-01_T1w.nii.gz", "sub-1_run-02_T1w.nii.gz", "sub-1_run-10_T1w.nii.gz",
         "sub-2_run-1_T1w.nii.gz", "sub-3_T1w.nii.gz")  # fmt: skip
    with pytest.raises(
        InconsistentError, match=r"1 sessions .* differ in run \(01, 02, 10\).*--run"
    ):
        find_images(tmp_path)
    assert [f.path.name for f in find_images(tmp_path, run="last")] == [
        "sub-1_run-10_T1w.nii.gz", "sub-2_run-1_T1w.nii.gz", "sub-3_T1w.nii.gz"]  # fmt: skip
    assert [f.path.name for f in find_images(tmp_path, run="1")] == [
        "sub-1_run-01_T1w.nii.gz", "sub-2_run-1_T1w.nii.gz"]  # fmt: skip


def test_other_entities_are_chosen_where_they_leave_a_choice(tmp_path):
    bids(tmp_path, "sub-1_acq-a_T1w.nii.gz", "sub-1_acq-b_T1w.nii.gz", "sub-2_acq-c_T1w.nii.gz")
    with pytest.raises(InconsistentError, match=r"differ in acq \(a, b\).*--entity acq=b"):
        find_images(tmp_path)
    assert found(find_images(tmp_path, entities={"acq": "a"})) == [
        ("1", "", "sub-1_acq-a_T1w.nii.gz")
    ]
    bids(tmp_path, "sub-4_acq-a_T1w.nii.gz", "sub-4_acq-a_T1w.nii")
    with pytest.raises(InconsistentError, match=r"Keep one of \.nii and \.nii\.gz"):
        find_images(tmp_path, entities={"acq": "a"})


def test_masks_beside_bids_images(tmp_path):
    bids(tmp_path, *(f"sub-{i}_{MNI}_desc-preproc_T1w.nii.gz" for i in (1, 2)))
    bids(tmp_path, f"sub-1_{MNI}_desc-brain_mask.nii.gz", f"sub-2_{ASYM}_desc-brain_mask.nii.gz")
    with pytest.raises(OpenError, match=r"1 of 2 entries have no mask file\. sub-"):
        find_images(tmp_path, mask="brain")
    images = find_images(tmp_path, mask="brain", missing="drop")
    assert [f.mask.name for f in images] == [f"sub-1_{MNI}_desc-brain_mask.nii.gz"]


def test_bids_where_there_is_none(tmp_path):
    with pytest.raises(UsageError, match=r"no sub-\*/anat"):
        images_from_bids(tmp_path)
    bids(tmp_path, "sub-1_T2w.nii.gz")
    with pytest.raises(UsageError, match=r"no T1w image below .* There are T2w \(1\)"):
        images_from_bids(tmp_path)


@pytest.mark.slow
def test_thousands_of_subjects_take_seconds_not_minutes(tmp_path):
    for i in range(3_000):
        (tmp_path / f"sub-{i}" / "anat").mkdir(parents=True)
        (tmp_path / f"sub-{i}" / "anat" / f"sub-{i}_T1w.nii.gz").touch()
    start = time.process_time()
    images = find_images(tmp_path)
    assert len(images) == 3_000
    assert time.process_time() - start < 15  # 631 s for 963 subjects are reported of an indexer


# --- UK Biobank ---------------------------------------------------------------------------------


def test_bulk_zips_are_read_in_place(tmp_path):
    bulk(tmp_path / "1000017_20252_2_0.zip")
    bulk(tmp_path / "1000017_20252_3_0.zip")
    bulk(tmp_path / "1000023_20252_2_0.zip", ["release2/T1_unbiased_brain.nii.gz"])
    bulk(tmp_path / "1000023_20252_2_1.zip")
    touch(tmp_path, "notes.txt")
    images = find_images(tmp_path)
    assert [(f.sample_id, f.visit, f.member) for f in images] == [
        ("1000017", "2", BRAIN[1]), ("1000017", "3", BRAIN[1]),
        ("1000023", "2", "release2/T1_unbiased_brain.nii.gz"),
    ]  # fmt: skip
    assert [str(images.files[0].mask), str(images.files[0].matrix)] == [BRAIN[2], MATRIX]
    assert images.files[2].mask is None
    assert notes(images) == {"the name is not eid_field_instance_array.zip": 1,
                             "the array index is not 0": 1}  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 5  # nothing was unpacked
    assert read_member(images.files[0].path, images.files[0].member) == (
        f"1000017_20252_2_0.zip {BRAIN[1]}".encode())  # fmt: skip
    write_image_list(tmp_path / "list.tsv", images)
    assert read_image_list(tmp_path / "list.tsv").files == images.files
    assert find_images(tmp_path / "list.tsv").files == images.files


def test_zips_in_folders_of_the_platform_and_two_fields(tmp_path):
    bulk(tmp_path / "10" / "1000017_20252_2_0.zip")
    bulk(tmp_path / "10" / "1000017_20253_2_0.zip", ["T2_FLAIR/T2_FLAIR_unbiased_brain.nii.gz"])
    with pytest.raises(UsageError, match=r"holds fields 20252, 20253.*--field 20252"):
        find_images(tmp_path)
    images = find_images(tmp_path, field="20253")
    assert [f.member for f in images] == ["T2_FLAIR/T2_FLAIR_unbiased_brain.nii.gz"]
    with pytest.raises(UsageError, match=r"Fields there: 20252, 20253"):
        find_images(tmp_path, field="20250")
    with pytest.raises(UsageError, match="no zip of array index 3"):
        find_images(tmp_path, field="20253", array="3")


def test_a_member_that_is_not_there(tmp_path):
    bulk(tmp_path / "1000017_20252_2_0.zip")
    bulk(tmp_path / "1000023_20252_2_0.zip", ["T1/unusable/T1_unbiased_brain.nii.gz"])
    bulk(tmp_path / "1000041_20252_2_0.zip", ["a/T1_unbiased_brain.nii.gz",
                                             "b/T1_unbiased_brain.nii.gz"])  # fmt: skip
    (tmp_path / "1000049_20252_2_0.zip").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(MalformedError) as raised:
        find_images(tmp_path)
    message = str(raised.value)
    assert message.startswith("3 of 4 zips cannot be used. ")
    assert "1: the zip has no T1_unbiased_brain.nii.gz (first: #####23)" in message
    assert "1: 2 folders of the zip hold T1_unbiased_brain.nii.gz (first: #####41)" in message
    assert "is no whole zip archive" in message
    assert "100" not in message
    images = find_images(tmp_path, missing="drop")
    assert images.sample_ids == ("1000017",)
    assert sum(notes(images).values()) == 3
    with pytest.raises(MalformedError, match=r"has no brain\.mat"):
        find_images(tmp_path, matrix="brain.mat", missing="drop")
    other = tmp_path / "other"
    bulk(other / "1_20250_2_0.zip")
    with pytest.raises(UsageError, match="image of field 20250 has no usual name"):
        find_images(other)


@pytest.mark.parametrize("name", ["../evil.nii.gz", "/etc/passwd", "a/../../b", "..\\b", "C:\\b"])
def test_members_that_lead_out_of_their_zip_are_refused(tmp_path, name):
    bulk(tmp_path / "1000017_20252_2_0.zip")
    path = bulk(tmp_path / "1000023_20252_2_0.zip", [*BRAIN, "x"])
    path.write_bytes(path.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(RefusedError, match=r"1 of 2 zips are refused\. #######_.*leads out of it"):
        find_images(tmp_path, missing="drop")
    with pytest.raises(RefusedError):
        check_member_name(name, "x")
    assert RefusedError.exit_code == 21


def test_links_bombs_and_doubles_in_zips(tmp_path):
    link = zipfile.ZipInfo("T1/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(RefusedError, match="symbolic link"):
        list_members(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("bomb", bytes(60_000_000))
    with pytest.raises(RefusedError, match="unpacks to 60,000,000 bytes"):
        list_members(tmp_path / "b.zip")
    bulk(tmp_path / "c.zip", ["x"])
    archive = zipfile.ZipFile(tmp_path / "c.zip", "a")
    with archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x", "2")
    with pytest.raises(MalformedError, match="two members of one name"):
        list_members(tmp_path / "c.zip")


def test_reading_members(tmp_path):
    path = bulk(tmp_path / "a.zip", ["d/T1.nii.gz"])
    assert find_member(list_members(path), "T1.nii.gz") == "d/T1.nii.gz"
    assert find_member(list_members(path), "T2.nii.gz") == ""
    with pytest.raises(MalformedError, match="not in the archive"):
        read_member(path, "T2.nii.gz")
    with pytest.raises(MalformedError, match="more than 5 bytes"):
        read_member(path, "d/T1.nii.gz", limit=5)
    content = bytearray(path.read_bytes())
    content[content.index(b"a.zip d/T1")] ^= 1
    path.write_bytes(content)
    with pytest.raises(MalformedError, match="damaged"):
        read_member(path, "d/T1.nii.gz")


# --- the door -----------------------------------------------------------------------------------


def test_kinds_of_sources(tmp_path):
    assert kind_of(write(tmp_path / "t.csv", "a,b")) == "table"
    assert kind_of(touch(tmp_path / "b", "sub-1/x").absolute()) == "bids"
    assert kind_of(touch(tmp_path / "z", "1_20252_2_0.zip")) == "ukb"
    assert kind_of(touch(tmp_path / "s", "10/1_20252_2_0.zip")) == "ukb"
    assert kind_of(tmp_path, has_pattern=True) == "folder"
    (tmp_path / "h").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert kind_of(tmp_path / "h") == "store"
    assert set(FINDERS) == {"table", "bids", "ukb", "folder", "store"}


def test_sources_that_are_nothing(tmp_path):
    with pytest.raises(OpenError, match="does not exist"):
        find_images(tmp_path / "absent")
    touch(tmp_path / "f", "a.nii.gz")
    with pytest.raises(UsageError, match=r"neither BIDS nor.*there: \.gz\..*--pattern"):
        find_images(tmp_path / "f")
    touch(tmp_path / "d", "a.dcm")
    with pytest.raises(UsageError, match="imgwas images to-store"):
        find_images(tmp_path / "d")
    with pytest.raises(UsageError, match=r"is one zip\. Name the folder"):
        find_images(bulk(tmp_path / "1_20252_2_0.zip"))
    with pytest.raises(UsageError, match="kind is 'caps'"):
        find_images(tmp_path / "f", kind="caps")
    with pytest.raises(UsageError, match="needs pattern"):
        find_images(tmp_path / "f", kind="folder")
    with pytest.raises(UsageError, match="kind bids has no choice 'patern'"):
        find_images(tmp_path / "f", kind="bids", patern="x")
    with pytest.raises(OpenError, match="is a file"):
        find_images(write(tmp_path / "t.csv", "a"), kind="folder", pattern="{id}")


def test_what_was_left_out_is_logged_without_ids(tmp_path, caplog):
    caplog.set_level(logging.INFO, "imgwas")
    touch(tmp_path, "person17.nii.gz", "person18.txt")
    find_images(tmp_path, pattern="{id}.nii.gz")
    assert "found 1 images of 1 people (folder)" in caplog.text
    assert "left out 1: the name is not the pattern's (first: pers**" in caplog.text
    assert "person" not in caplog.text


def test_lists_are_named_by_person_and_visit_only_where_they_must(tmp_path):
    one = ImageList((ImageFile("a", tmp_path, visit="2"), ImageFile("b", tmp_path, visit="2")))
    assert one.row_ids == ("a", "b")
    assert one.without([1], "why").dropped[0].n == 1
    assert one.without([], "why") is one
