"""Atlases: names from every kind of file, sides from the voxels, and every refusal."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from imgwas.brain.atlas import read_atlas
from imgwas.brain.atlas_tables import read_names, split_side
from imgwas.errors import InconsistentError, MalformedError, OpenError, UsageError
from imgwas.images.space import Space
from imgwas.types import BrainMap
from tests.data import data_file
from tests.volumes import write_nifti

GRID = (20, 12, 10)
#: LAS, as MNI templates of FSL are: x falls along the first axis
LAS = np.array([[-2.0, 0, 0, 19], [0, 2, 0, -11], [0, 0, 2, -9], [0, 0, 0, 1]])
NAMES = {1: "L_cuneus", 2: "R_cuneus", 3: "L_insula", 4: "R_insula", 5: "brainstem", 7: "L_pole"}


def blocks() -> np.ndarray:
    """Six regions, three pairs but for one; the first axis falls from right to left."""
    labels = np.zeros(GRID, np.uint8)
    labels[11:18, 1:5], labels[2:9, 1:5] = 1, 2
    labels[12:16, 6:8], labels[4:8, 6:8] = 3, 4
    labels[8:12, 9:11, 2:8] = 5
    labels[18, 10, 9] = 7
    return labels


@pytest.fixture
def image(tmp_path) -> Path:
    return write_nifti(tmp_path / "atlas.nii.gz", blocks(), LAS)


def fsl_xml(kind: str, shift: int) -> str:
    rows = "".join(
        f'<label index="{n - shift}" x="1" y="2" z="3">{text} &amp; co</label>'
        for n, text in NAMES.items()
    )
    head = f'<?xml version="1.0" encoding="ISO-8859-1"?><atlas version="1.0"><header><type>{kind}'
    return f"{head}</type><name>toy</name></header><data>{rows}</data></atlas>"


ROWS = list(NAMES.items())
FILES = {
    "fsl.xml": fsl_xml("Probabilistic", 1).replace(" &amp; co", ""),
    "jhu.xml": fsl_xml("Label", 0).replace(" &amp; co", ""),
    "plain.csv": "".join(f"{n},{t}\n" for n, t in ROWS),
    "turned.csv": "".join(f"{t},{n}\n" for n, t in ROWS),
    "dlmuse.csv": "label,name,nvox,x\n" + "".join(f"{n},{t},12,-0.4\n" for n, t in ROWS),
    "dseg.tsv": "index\tname\tcolor\n0\tBackground\t#0\n"
    + "".join(f"{n}\t{t}\t#ff0\n" for n, t in ROWS),
    "semicolon.csv": "id;region\n" + "".join(f"{n};{t}\n" for n, t in ROWS),
    "lut.txt": "# colours\n0 Unknown 0 0 0 0\n" + "".join(f"{n} {t} 7 8 9 0\n" for n, t in ROWS),
    "rois.json": json.dumps(
        {"MetaData": {"AtlasName": "toy"},
         "rois": {"0": {"label": "empty", "x": None}} | {str(n): {"label": t} for n, t in ROWS}}
    ),
    "plain.json": json.dumps({str(n): t for n, t in ROWS}),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_names_from_every_file(image, tmp_path, name):
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    atlas = read_atlas(image, path)
    assert dict(atlas.names) == NAMES
    assert dict(atlas.hemispheres) == {1: "L", 2: "R", 3: "L", 4: "R", 5: "", 7: "L"}
    assert atlas.numbers == (1, 2, 3, 4, 5, 7)
    np.testing.assert_array_equal(atlas.labels, blocks())
    np.testing.assert_array_equal(atlas.affine, LAS)


def test_names_from_objects(image):
    listed = ["Background", *(NAMES.get(n, f"none {n}") for n in range(1, 8))]
    frame = pd.DataFrame({"index": [0, *NAMES], "name": ["Background", *NAMES.values()]})
    given = [NAMES, listed, listed[1:], np.array(listed), [t.encode() for t in listed], frame]
    for names in given:
        assert dict(read_atlas(image, names).names) == NAMES
    with pytest.raises(UsageError, match=r"holds 3 names and the image's largest number is 7"):
        read_atlas(image, listed[:3])
    with pytest.raises(UsageError, match="names is a int"):
        read_atlas(image, 3)


def test_bunches_bring_their_names(image):
    listed = ["Background", *(NAMES.get(n, f"none {n}") for n in range(1, 8))]
    volume = nib.Nifti1Image(blocks(), LAS)
    frame = pd.DataFrame({"index": list(NAMES), "name": list(NAMES.values())})
    indices = [str(n) for n in NAMES]
    bunches = [
        SimpleNamespace(maps=str(image), labels=listed),
        {"maps": volume, "labels": [t.encode() for t in listed[1:]]},
        SimpleNamespace(maps=[volume], labels=list(NAMES.values()), indices=indices),
        SimpleNamespace(maps=volume, labels=["?"], lut=frame),
    ]
    for bunch in bunches:
        assert dict(read_atlas(bunch).names) == NAMES
    assert read_atlas(SimpleNamespace(maps=volume)).names[7] == "region 7"
    assert read_atlas(volume, NAMES).names[7] == "L_pole"
    with pytest.raises(UsageError, match="the atlas is a list"):
        read_atlas([1, 2])


def test_a_hemisphere_column_tells_names_apart(image, tmp_path):
    (tmp_path / "a.csv").write_text(
        "id,label,hemisphere,structure\n1,cuneus,L,cortex\n2,cuneus,R,cortex\n3,insula,left,cortex\n"
        "4,insula,rh,cortex\n5,brainstem,B,other\n7,pole,L,cortex\n"
    )
    assert list(read_atlas(image, tmp_path / "a.csv").names.values()) == [
        "cuneus_L", "cuneus_R", "insula_L", "insula_R", "brainstem", "pole_L",
    ]  # fmt: skip
    # without it, the voxels do
    same = {1: "cuneus", 2: "cuneus", 3: "a", 4: "b", 5: "c", 7: "d"}
    atlas = read_atlas(image, same)
    assert (atlas.names[1], atlas.names[2]) == ("cuneus_L", "cuneus_R")
    with pytest.raises(
        InconsistentError, match=r"2 regions .* are called 'cuneus' \(numbers 1, 3\)"
    ):
        read_atlas(image, {**NAMES, 1: "cuneus", 3: "cuneus"})


def test_missing_names_and_missing_voxels_are_reported(image, caplog):
    with caplog.at_level(logging.WARNING):
        atlas = read_atlas(image)
    assert atlas.names[7] == "region 7"
    assert "no names were given; its 6 regions" in caplog.text
    caplog.clear()
    names = {k: v for k, v in NAMES.items() if k != 5} | {9: "R_pole", 12: "dust"}
    atlas = read_atlas(image, names)
    assert atlas.names[5] == "region 5"
    assert 9 not in atlas.names
    assert "1 numbers have no name" in caplog.text
    assert "2 names of the mapping of names have no voxels (first: R_pole, dust)" in caplog.text
    with pytest.raises(InconsistentError, match=r"names 1 of the 6 numbers.*same atlas"):
        read_atlas(image, {1: "L_cuneus", 77: "x"})
    with pytest.raises(InconsistentError, match=r"All its names are empty.*Leave the names out"):
        read_atlas(image, dict.fromkeys(range(1, 8), ""))


def test_a_flipped_image_is_refused(tmp_path):
    flipped = write_nifti(tmp_path / "flipped.nii.gz", blocks()[::-1].copy(), LAS)
    with pytest.raises(
        InconsistentError, match=r"5 of the 5 regions of flipped\.nii\.gz .* lie on the other side "
        r"\(first: L_cuneus, R_cuneus, L_insula\).*The image is flipped",
    ):  # fmt: skip
        read_atlas(flipped, NAMES)
    assert read_atlas(flipped).hemispheres[1] == "R"  # no names, nothing to contradict
    # the same voxels with the affine that tells the truth are fine
    ras = LAS.copy()
    ras[0] = [2, 0, 0, -19]
    right = write_nifti(tmp_path / "right.nii.gz", blocks()[::-1].copy(), ras)
    assert dict(read_atlas(right, NAMES).hemispheres) == {
        1: "L",
        2: "R",
        3: "L",
        4: "R",
        5: "",
        7: "L",
    }


def test_two_names_swapped_are_refused_as_names(image):
    swapped = {**NAMES, 3: "R_insula", 4: "L_insula"}
    with pytest.raises(InconsistentError, match=r"2 of the 5 .*Correct these names"):
        read_atlas(image, swapped)


def test_sides_do_not_need_the_middle_at_zero(tmp_path):
    """In a scanner's space both sides may have x above 0: pairs tell the middle."""
    away = LAS.copy()
    away[0, 3] += 300
    image = write_nifti(tmp_path / "a.nii.gz", blocks(), away)
    names = {**NAMES, 8: "L_x", 9: "R_x"}
    labels = blocks()
    labels[11, 6, 0], labels[8, 6, 0] = 8, 9
    image = write_nifti(tmp_path / "a.nii.gz", labels, away)
    atlas = read_atlas(image, names)
    assert [atlas.hemispheres[n] for n in (1, 2, 5, 7)] == ["L", "R", "", "L"]


def test_hemispheres_merge_by_name(image, caplog):
    atlas = read_atlas(image, NAMES, merge_hemispheres=True)
    assert dict(atlas.names) == {1: "cuneus", 3: "insula", 5: "brainstem", 7: "pole"}
    assert dict(atlas.hemispheres) == {1: "", 3: "", 5: "", 7: "L"}
    labels = blocks()
    assert ((atlas.labels == 1) == np.isin(labels, [1, 2])).all()
    assert ((atlas.labels == 3) == np.isin(labels, [3, 4])).all()
    with pytest.raises(UsageError, match="has no names"):
        read_atlas(image, merge_hemispheres=True)
    read_atlas(image, dict(zip(NAMES, "abcdef", strict=True)), merge_hemispheres=True)
    assert "nothing was merged" in caplog.text


@pytest.mark.parametrize(
    ("name", "stem", "side"),
    [
        ("L_cuneus", "cuneus", "L"),
        ("Cuneus_R", "Cuneus", "R"),
        ("Left-Putamen", "Putamen", "L"),
        ("Right Thalamus", "Thalamus", "R"),
        ("ctx-lh-cuneus", "ctx-cuneus", "L"),
        ("7Networks_RH_Vis_1", "7Networks_Vis_1", "R"),
        ("Putamen (left)", "Putamen", "L"),
        ("lh.bankssts", "bankssts", "L"),
        ("leftHippocampus", "Hippocampus", "L"),
        ("Lingual Gyrus", "Lingual Gyrus", ""),
        ("Rolandic", "Rolandic", ""),
        ("brainstem", "brainstem", ""),
        ("right", "right", ""),
    ],
)
def test_sides_in_names(name, stem, side):
    assert split_side(name) == (stem, side)


def brain(grid=GRID, affine=LAS, **kw) -> BrainMap:
    mask = np.ones(grid, bool)
    return BrainMap(np.zeros(grid, np.float32), mask, affine, "effect", "x", "x", np.ones(1), **kw)


def test_resampling_takes_the_nearest_voxel_and_reports_what_is_lost(image, caplog):
    affine = np.diag([5.0, 4, 4, 1])
    affine[:3, 3] = -18, -10, -8
    space = Space((8, 6, 5), affine)
    atlas = read_atlas(image, NAMES, space=space)
    labels = blocks()
    for index in np.ndindex(*space.grid):
        at = np.linalg.inv(LAS) @ affine @ [*index, 1]
        nearest = np.floor(at[:3] + 0.5).astype(int)
        inside = all(0 <= i < n for i, n in zip(nearest, GRID, strict=True))
        if np.abs(at[:3] - np.rint(at[:3])).max() < 0.49:  # no ties between two voxels
            assert atlas.labels[index] == (labels[tuple(nearest)] if inside else 0)
    assert atlas.labels.dtype == np.int32
    np.testing.assert_array_equal(atlas.affine, affine)
    assert 7 not in atlas.names
    assert set(np.unique(atlas.labels)) - {0} == set(atlas.names) == set(atlas.hemispheres)
    assert "1 of 6 regions have no voxel on the grid 8x6x5 (first: L_pole)" in caplog.text
    assert atlas.source == "atlas.nii.gz, nearest neighbour to 8x6x5, 1 regions lost"


def test_an_atlas_elsewhere_is_refused(image, caplog):
    away = LAS.copy()
    away[:3, 3] += [0, 30, 40]
    with pytest.raises(
        InconsistentError, match=r"in another space: 0% of it lies in the brain of the map, and "
        r"their centres are 5\d mm apart.*preprocess",
    ):  # fmt: skip
        read_atlas(image, NAMES, space=brain(affine=away))
    with pytest.raises(InconsistentError, match="in the grid of the map"):
        read_atlas(image, NAMES, space=Space(GRID, away))
    assert read_atlas(image, NAMES, space=brain()).grid == GRID
    mask = brain()
    mask.mask[:, :2] = False
    read_atlas(image, NAMES, space=mask)
    assert "% of it lies in the brain of the map" in caplog.text
    mask.mask[:] = False
    mask.mask[9:11] = True
    with pytest.raises(InconsistentError, match="another space"):
        read_atlas(image, NAMES, space=mask)


def test_when_every_region_vanishes(tmp_path):
    labels = np.zeros(GRID, np.uint8)
    labels[9, 5, 5] = 1
    image = write_nifti(tmp_path / "dot.nii.gz", labels, LAS)
    coarse = Space((4, 4, 4), np.diag([10.0, 8, 8, 1]) @ np.diag([1, 1, 1, 1.0]))
    coarse.affine[:3, 3] = -16, -13, -13
    with pytest.raises(InconsistentError, match="no region of dot"):
        read_atlas(image, {1: "dot"}, space=coarse)


# files that are no atlases


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.where(blocks() == 1, 1.5, blocks()).astype(np.float32),
            r"no region numbers \(first: 1.5\)",
        ),
        (-blocks().astype(np.int16), r"no region numbers \(first: -\d\)"),
        (np.where(blocks() == 1, 2.0**25, 0).astype(np.float32), r"first: 3.35544e\+07"),
        (np.zeros(GRID, np.uint8), "is 0 everywhere"),
        (np.random.default_rng(0).integers(1, 255, GRID).astype(np.uint8), "looks like a picture"),
    ],
    ids=["half", "negative", "huge", "empty", "picture"],
)
def test_images_that_are_no_atlas(tmp_path, values, message):
    with pytest.raises(MalformedError, match=message):
        read_atlas(write_nifti(tmp_path / "a.nii.gz", values, LAS))


def test_an_image_that_lies_nowhere_or_in_two_places(tmp_path):
    nowhere = write_nifti(tmp_path / "a.nii.gz", blocks(), LAS, sform_code=0, qform_code=0)
    with pytest.raises(MalformedError, match="does not say how it lies in space"):
        read_atlas(nowhere, NAMES)
    two = nib.Nifti1Image(blocks(), LAS)
    other = LAS.copy()
    other[0] = [2, 0, 0, -19]
    two.set_sform(LAS, 4)
    two.set_qform(other, 1)
    nib.save(two, tmp_path / "two.nii.gz")
    with pytest.raises(MalformedError, match=r"qform and sform .* are 38.0 mm apart"):
        read_atlas(tmp_path / "two.nii.gz", NAMES)
    with pytest.raises(OpenError, match="does not exist"):
        read_atlas(tmp_path / "none.nii.gz")


def test_probabilistic_atlases_need_a_threshold(tmp_path):
    labels = blocks()
    shares = np.stack([np.where(labels == n, 60 + n, 5 * n) for n in range(1, 8)], axis=3)
    shares[labels == 0] = 0
    image = write_nifti(tmp_path / "p.nii.gz", shares.astype(np.uint8), LAS)
    with pytest.raises(UsageError, match=r"7 volumes: a probabilistic atlas.*threshold=0.25"):
        read_atlas(image, NAMES)
    np.testing.assert_array_equal(
        read_atlas(image, threshold=0.62).labels,
        np.where(labels == 1, 0, labels),  # 61 % falls short
    )
    assert 1 not in read_atlas(image, threshold=0.62).names
    with pytest.raises(UsageError, match=r"no voxel of p\.nii\.gz reaches"):
        read_atlas(image, threshold=0.9)
    with pytest.raises(UsageError, match="from 0 to 1"):
        read_atlas(image, threshold=25)


BOMB = "<!DOCTYPE a [<!ENTITY b 'bb'>]><atlas><label index='0'>&b;</label></atlas>"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", BOMB, "declares a document type"),
        ("a.xml", "<atlas><label index='0'>x</label>", "is no XML"),
        ("a.xml", "<atlas></atlas>", "no <label index"),
        ("a.xml", "<atlas><label index='one'>x</label></atlas>", "'one' where a region's number"),
        ("a.json", "{", "is no JSON"),
        ("a.json", '{"rois": {"a": 1}}', "no numbers with names"),
        ("a.csv", "", "is empty"),
        ("a.csv", "x,y\n1,2\n", r"has the columns x, y.*A column of numbers"),
        ("a.csv", "id,name\n1,a\n2\n", "line 3 of a.csv has 1 fields"),
        ("a.csv", "1,a\n1,b\n", r"has 1 numbers twice \(first: 1\)"),
        ("a.csv", "1\n2\n", "has one field"),
        ("a.csv", "1,a\ntwo,b\n", "'two' where a region's number"),
        ("a.csv", "\x1f\x8b\x08\x00\x00", "is no text file"),
    ],
)
def test_damaged_tables_of_names(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(MalformedError, match=message):
        read_names(tmp_path / name, 7)


def test_absent_tables_of_names(tmp_path):
    with pytest.raises(OpenError, match="cannot be opened"):
        read_names(tmp_path / "none.csv", 7)


# real atlases

REAL = {
    "desikan": ("Desikan_space-MNI152NLin6_res-2x2x2.nii.gz",
                "Desikan_space-MNI152NLin6_res-2x2x2.json", 70, 35, 35),
    "desikan_csv": ("Desikan_space-MNI152NLin6_res-2x2x2.nii.gz", "label_centres/Desikan.csv",
                    70, 35, 35),
    "dk83": ("atlas-desikankilliany.nii.gz", "atlas-desikankilliany.csv", 83, 41, 42),
    "dlmuse": ("ixi_dlmuse_majority_mni2mm.nii.gz", "ixi_dlmuse_labels.csv", 146, 68, 78),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_atlases_read_and_merge(name):
    image, names, n_regions, n_left, n_merged = REAL[name]
    files = data_file(f"atlases/{image}"), data_file(f"atlases/{names}")
    atlas = read_atlas(*files)
    assert len(atlas.names) == n_regions
    sides = list(atlas.hemispheres.values())
    assert sides.count("L") == n_left
    assert len(read_atlas(*files, merge_hemispheres=True).names) == n_merged


@pytest.mark.parametrize("name", ["desikan", "dk83", "dlmuse"])
def test_a_flipped_copy_of_a_real_atlas_is_refused(tmp_path, name):
    image, names, *_ = REAL[name]
    there = nib.load(data_file(f"atlases/{image}"))
    values = np.asarray(there.dataobj).astype(np.uint8)[::-1].copy()
    flipped = write_nifti(tmp_path / "f.nii", values, there.affine)
    with pytest.raises(InconsistentError, match="The image is flipped"):
        read_atlas(flipped, data_file(f"atlases/{names}"))


def test_real_atlases_come_to_one_grid():
    template = nib.load(data_file("atlases/MNI152NLin6_res-2x2x2_T1w_descr-brain.nii.gz"))
    mask = np.asarray(template.dataobj) > 0
    target = BrainMap(
        np.zeros(mask.shape, np.float32), mask, template.affine, "effect", "x", "x", np.ones(1)
    )
    image, names, *_ = REAL["dk83"]
    atlas = read_atlas(data_file(f"atlases/{image}"), data_file(f"atlases/{names}"), space=target)
    assert atlas.grid == (91, 109, 91)
    assert len(atlas.names) == 83
    schaefer = data_file("atlases/Schaefer200_space-MNI152NLin6_res-2x2x2.nii.gz")
    assert len(read_atlas(schaefer, space=target).names) == 200
    with pytest.raises(InconsistentError, match="All its names are empty"):
        read_atlas(schaefer, schaefer.with_name(schaefer.name.replace(".nii.gz", ".json")))
    with pytest.raises(MalformedError, match="looks like a picture"):
        read_atlas(data_file("atlases/MNI152NLin6_res-2x2x2_T1w.nii.gz"))
