"""Bad images, checkpoints and settings through the real command line.

Every case ends with its own exit code, says what would help, shows no traceback and leaves nothing
half-written under a final name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from tests.cli_cohort import Result, edit, edit_line, imgwas, people, replaced, write_cohort
from tests.volumes import blob, write_nifti

GRID = (12, 14, 10)
FEW, ALL = people()[:12], people()[:36]
#: the third person of the lists, whose image is harmed
THIRD = people()[2]
UDIP = "--set levels=1 --set width=2 --set latents=2 --device cpu"
TRAIN = f"train udip prepared --out new {UDIP} --train epochs=1"
PREPARE = "preprocess few.tsv --out out --steps reorient --threads 1 --max-failures 0.05"
ENCODE = "encode prepared run --out latents.parquet --device cpu"
#: a list says nothing of a recipe, so that only grid and place are compared
LISTED = ENCODE.replace("prepared", "prepared/images.tsv")
CONVERT = "weights convert --from imgwas net.pt --out net --set grid=12,14,10 " + UDIP.replace(
    " --device cpu", ""
)
MADE = (
    "preprocess few.tsv --out prepared --steps reorient --threads 1",
    "preprocess all.tsv --out all --steps reorient --threads 1",
    f"train udip prepared --out run {UDIP} --train epochs=1 --train batch=6",
    "train cnn prepared --folds 1 --out labelled --targets labels.tsv --target sex --device cpu "
    "--train epochs=1 --set latents=4",
    "encode all run --out seen.parquet --device cpu",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Images of 36 people, 12 of whom trained two tiny networks."""
    folder = tmp_path_factory.mktemp("made")
    write_cohort(folder)
    (folder / "raw").mkdir()
    for seed, one in enumerate(ALL):
        write_nifti(folder / f"raw/{one}.nii.gz", blob(GRID, seed=seed))
    for name, some in (("few.tsv", FEW), ("all.tsv", ALL)):
        rows = "".join(f"{one}\t\traw/{one}.nii.gz\n" for one in some)
        (folder / name).write_text("sample_id\tvisit\tpath\n" + rows)
    rows = "".join(f"{one}\t{'mf'[i % 2]}\tone\n" for i, one in enumerate(ALL))
    (folder / "labels.tsv").write_text("IID\tsex\tsite\n" + rows)
    torch.manual_seed(0)
    for words in MADE:
        done = imgwas(*shlex.split(words), folder=folder)
        assert done.code == 0, done.text
    return folder


@pytest.fixture
def study(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "study"))


@dataclass(frozen=True)
class Case:
    """What is done to the study, the command, its exit code, words it must say, what must not be.

    ``absent`` are paths that must not exist afterwards.
    """

    harm: Callable[[Path], object]
    command: str
    code: int
    words: tuple[str, ...]
    absent: tuple[str, ...] = ()


def check(done: Result, folder: Path, case: Case) -> None:
    assert done.code == case.code, done.text
    for word in case.words:
        assert word in " ".join(done.text.split()), done.text
    assert "Traceback" not in done.text
    assert "internal error" not in done.text
    assert not [one for one in ALL if one in done.text], "an id was shown"
    for name in case.absent:
        assert not (folder / name).exists(), name
    left = [p.name for p in folder.rglob("*") if p.name.startswith(".") and p.name.endswith("tmp")]
    assert not left


def nothing(folder: Path) -> None:
    """Harm nothing: the command itself is wrong."""


# --- images -----------------------------------------------------------------------------------


def third(folder: Path) -> Path:
    return folder / f"raw/{THIRD}.nii.gz"


def content(new: bytes) -> Callable[[Path], object]:
    return lambda folder: third(folder).write_bytes(new)


def plain(folder: Path, path: Path) -> None:
    """Make the third row of the list name another file."""
    edit(folder / "few.tsv", f"raw/{THIRD}.nii.gz", str(path.relative_to(folder)))


def cut_gzip(folder: Path) -> None:
    whole = third(folder).read_bytes()
    third(folder).write_bytes(whole[: len(whole) // 2])


def cut_plain(folder: Path) -> None:
    path = write_nifti(folder / "raw/cut.nii", blob(GRID))
    path.write_bytes(path.read_bytes()[:-400])
    plain(folder, path)


def header(**fields: object) -> Callable[[Path], object]:
    return lambda folder: write_nifti(third(folder), blob(GRID), **fields)


def sizes(*lengths: int) -> np.ndarray:
    return np.array([len(lengths), *lengths, *[1] * (7 - len(lengths))])


def values(array: np.ndarray, affine: np.ndarray | None = None) -> Callable[[Path], object]:
    return lambda folder: write_nifti(third(folder), array, affine)


def colours(folder: Path) -> None:
    voxels = np.zeros(GRID, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), third(folder))


def holed() -> np.ndarray:
    array = blob(GRID)
    array[5, 6, 5] = np.nan
    return array


def freesurfer(folder: Path) -> None:
    path = folder / "raw/brain.mgz"
    nib.save(nib.MGHImage(blob(GRID), np.eye(4)), path)
    plain(folder, path)


def analyze(folder: Path) -> None:
    nib.save(nib.Nifti1Pair(blob(GRID), np.eye(4)), folder / "raw/pair.img")
    plain(folder, folder / "raw/pair.hdr")


def one_zip(folder: Path) -> None:
    shutil.make_archive(str(folder / "raw/bulk"), "zip", folder / "raw", f"{THIRD}.nii.gz")
    plain(folder, folder / "raw/bulk.zip")


IMAGES = {
    "E1 gzip cut short": Case(cut_gzip, PREPARE, 13, ("cut short", "Copy the file again")),
    "E1 plain file cut short": Case(cut_plain, PREPARE, 13, ("is cut short", "bytes of voxels")),
    "E2 empty": Case(content(b""), PREPARE, 13, ("is empty",)),
    "E2 web page": Case(content(b"<!DOCTYPE html>"), PREPARE, 13, ("is a web page",)),
    "E2 Git LFS": Case(
        content(b"version https://git-lfs.github.com/spec/v1\n"), PREPARE, 13, ("git lfs pull",)
    ),
    "E2 noise": Case(content(bytes(range(200)) * 9), PREPARE, 13, ("is no NIfTI file",)),
    "E3 absurd sizes": Case(
        header(dim=sizes(32767, 32767, 32767)), PREPARE, 13, ("claims 32767x32767x32767 voxels",)
    ),
    "E3 more than a file can hold": Case(
        header(dim=sizes(800, 800, 700)), PREPARE, 13, ("claims 1,792,000,352 bytes", "trust")
    ),
    "E4 a cine among volumes": Case(
        values(blob(GRID)[..., None].repeat(3, -1)),
        "images qc few.tsv --out qc --fail-on-problems", 7, ("another number of axes",),
    ),
    "E4 colours": Case(colours, PREPARE, 13, ("colour (RGB) voxels", "One real number")),
    "E4 complex": Case(
        values(blob(GRID).astype(np.complex64)), PREPARE, 13, ("has complex voxels",)
    ),
    "E4 endless scale": Case(
        header(scl_slope=np.inf, scl_inter=0.0), PREPARE, 13, ("scales its values by inf",)
    ),
    "E5 flat affine": Case(
        header(srow_z=[0, 0, 0, 0]), PREPARE, 13, ("affine that cannot be inverted",)
    ),
    "E6 blank": Case(
        values(blob(GRID) * 0), PREPARE.replace("reorient", "reorient,zscore"), 13,
        ("1 of 12 images failed", "zscore:"),
    ),
    "E6 NaN": Case(values(holed()), PREPARE, 13, ("1 values that are not finite",)),
    "E8 absent": Case(
        lambda f: third(f).unlink(), PREPARE, 13, ("1 of 12 images failed", "does not exist")
    ),
    "E8 no path": Case(
        lambda f: edit(f / "few.tsv", f"raw/{THIRD}.nii.gz", "NA"), PREPARE, 6,
        ("1 rows have no path (first: row 4)",), ("out/images.tsv",),
    ),
    "E8 one file for two people": Case(
        lambda f: edit(f / "few.tsv", f"raw/{THIRD}.nii.gz", f"raw/{FEW[0]}.nii.gz"), PREPARE, 6,
        ("2 rows name a file that another row names too", "first rows: 2, 4"), ("out/images.tsv",),
    ),
    "E8 one person twice": Case(
        lambda f: edit_line(f / "few.tsv", 4, f"{FEW[0]}\t\traw/{THIRD}.nii.gz"), PREPARE, 7,
        ("several images of one visit",), ("out/images.tsv",),
    ),
    "E8 no list": Case(
        nothing, "preprocess none.tsv --out out --steps reorient", 3, ("none.tsv",),
        ("out/images.tsv",),
    ),
    "E9 FreeSurfer": Case(freesurfer, PREPARE, 13, ("mri_convert in.mgz out.nii.gz",)),
    "E9 Analyze pair": Case(analyze, PREPARE, 13, ("fslchfiletype NIFTI_GZ",)),
    "E9 zip without a member": Case(one_zip, PREPARE, 13, ("is a zip archive", "Name the member")),
    "E9 DICOM": Case(
        lambda f: (f / "scans").mkdir() or (f / "scans/a.dcm").write_bytes(b"\0" * 200),
        "images list scans --out l.tsv", 8, ("imgwas images to-store",), ("l.tsv",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_bad_images(study, name):
    case = IMAGES[name]
    case.harm(study)
    done = imgwas(*shlex.split(case.command), folder=study)
    check(done, study, case)
    if case.code == 13:
        # the others were prepared, the bad one is listed and has no volume
        listed = (study / "out/failures.tsv").read_text().splitlines()[1:]
        assert len(listed) == 1
        assert listed[0].startswith(f"{THIRD}\t")
        assert len(list((study / "out/volumes").glob("*.nii.gz"))) == 11
        assert not (study / f"out/volumes/{THIRD}.nii.gz").exists()


def test_one_bad_image_does_not_fail_a_run_that_may_lose_some(study):
    cut_gzip(study)
    words = replaced(shlex.split(PREPARE), "--max-failures", "0.1")
    done = imgwas(*words, folder=study)
    assert done.code == 0, done.text
    assert "prepared 11 images (0 were there), 1 failed" in done.text


def test_names_in_headers_are_never_copied(study):
    write_nifti(third(study), blob(GRID), descrip=b"DOE^JANE 1961-02-03", aux_file=b"DOE^JANE")
    assert b"DOE^JANE" in gzip.decompress(third(study).read_bytes())
    for words in (PREPARE, "images qc few.tsv --out qc", TRAIN.replace("prepared", "out")):
        done = imgwas(*shlex.split(words), folder=study)
        assert done.code == 0, done.text
        assert "DOE" not in done.text
    for path in (p for o in ("out", "qc", "new") for p in (study / o).rglob("*") if p.is_file()):
        whole = path.read_bytes()
        assert b"DOE" not in (gzip.decompress(whole) if path.suffix == ".gz" else whole), path


# --- images and encoders that do not belong together --------------------------------------------


def elsewhere(folder: Path) -> None:
    for one in FEW:
        affine = np.diag([2.0, 2, 2, 1])
        affine[:3, 3] = 5
        write_nifti(folder / f"raw/{one}.nii.gz", blob(GRID), affine)
    prepare_again(folder, "reorient")


def prepare_again(folder: Path, steps: str, *more: str) -> None:
    shutil.rmtree(folder / "prepared")
    words = shlex.split(PREPARE.replace("--out out", "--out prepared").replace("reorient", steps))
    done = imgwas(*words, *more, folder=folder)
    assert done.code == 0, done.text


def recipe(steps: str, *more: str) -> Callable[[Path], object]:
    return lambda folder: prepare_again(folder, steps, *more)


def prepared(array: np.ndarray) -> Callable[[Path], object]:
    return lambda folder: write_nifti(folder / f"prepared/volumes/{THIRD}.nii.gz", array)


def column(name: str, value: str) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        head, *rows = (folder / "labels.tsv").read_text().splitlines()
        at = head.split("\t").index(name)
        cells = [row.split("\t") for row in rows]
        for row in cells:
            row[at] = value
        lines = ["\t".join(row) for row in cells]
        (folder / "labels.tsv").write_text("\n".join([head, *lines]) + "\n")

    return harm


ONCE = "train cnn prepared --folds 1 --out new --device cpu --train epochs=1"
LABELS = ONCE + " --targets labels.tsv --target "
TOGETHER = {
    "E5 another grid": Case(
        recipe("reorient,crop-or-pad", "--set", "crop-or-pad.grid=12,12,12"), LISTED, 7,
        ("grid of 12x12x12", "The encoder was made for 12x14x10"), ("latents.parquet",),
    ),
    "E5 another place": Case(
        elsewhere, ENCODE, 7, ("lie 5 mm from where the encoder's training images lay",),
        ("latents.parquet",),
    ),
    "E5 one image on another grid": Case(
        prepared(blob((9, 9, 9))), TRAIN, 7,
        ("its grid is 9x9x9, not 12x14x10",), ("new/encoder",),
    ),
    "E4 one cine": Case(
        prepared(blob(GRID)[..., None].repeat(2, -1)), TRAIN, 6, ("has 4 axes (12x14x10x2)",),
        ("new/encoder",),
    ),
    "E6 blank image trained on": Case(
        prepared(blob(GRID) * 0), TRAIN, 13, ("images are blank or hold one value", "qc"),
        ("new/encoder",),
    ),
    "E6 blank image encoded": Case(
        prepared(blob(GRID) * 0), ENCODE, 13, ("1 of 12 images could not be encoded",),
        ("latents.parquet",),
    ),
    "another recipe": Case(
        recipe("reorient,clip"), ENCODE, 7,
        ("prepared by another recipe: reorient, clip; the encoder's were prepared by reorient",),
        ("latents.parquet",),
    ),
    "the same recipe in other words": Case(
        recipe("reorient", "--set", "reorient.axes=RAS"), ENCODE, 0, ("encoded 12 people",),
    ),
    "shifted background": Case(
        recipe("reorient,zscore"), TRAIN, 8, ("background=shift", "--set zscore.background=zero"),
        ("new/encoder", "new/run.json"),
    ),
    "not prepared": Case(
        lambda f: (f / "prepared/images.tsv").unlink(), TRAIN, 3,
        ("holds no images.tsv", "preprocess"), ("new/run.json",),
    ),
    "folder of another recipe": Case(
        nothing, "preprocess few.tsv --out prepared --steps reorient,clip", 7,
        ("holds images of another recipe (reorient)", "--overwrite"),
    ),
    "folder of another run": Case(
        nothing, TRAIN.replace("--out new", "--out run") + " --train seed=4", 7,
        ("holds another run", "--overwrite"),
    ),
    "no GPU": Case(
        lambda _: pytest.skip("a GPU is here") if torch.cuda.is_available() else None,
        ENCODE.replace("--device cpu", "--device cuda"), 16,
        ("No GPU is visible", "--device cpu"), ("latents.parquet",),
    ),
    "no such device": Case(
        nothing, ENCODE.replace("--device cpu", "--device gpu"), 16,
        ("there is no device 'gpu'", "auto, cpu, cuda"), ("latents.parquet",),
    ),
    "labels missing for people": Case(
        lambda f: edit_line(f / "labels.tsv", 4, "someone\tm\tone"), LABELS + "sex", 7,
        ("1 of 12 people with images have no row in labels.tsv",), ("new/run.json",),
    ),
    "label missing": Case(
        lambda f: edit_line(f / "labels.tsv", 4, f"{THIRD}\tNA\tone"), LABELS + "sex", 7,
        ("have no sex",), ("new/run.json",),
    ),
    "one label for all": Case(
        nothing, LABELS + "site", 13, ("site is 'one' for everybody",), ("new/run.json",),
    ),
    "one number for all": Case(
        column("sex", "1.5"), LABELS + "sex", 13, ("sex has one value for everybody",),
        ("new/run.json",),
    ),
    "no such label": Case(
        nothing, LABELS + "sec", 8, ("has no column 'sec'", "sex"), ("new/run.json",)
    ),
    "labels for an autoencoder": Case(
        nothing, LABELS.replace("cnn", "udip") + "sex", 8, ("is not trained on labels",),
        ("new/run.json",),
    ),
    "no labels for a classifier": Case(nothing, ONCE, 8, ("--target",), ("new/run.json",)),
    "features of training people": Case(
        nothing, "encode all labelled --out latents.parquet --device cpu", 21,
        ("12 of 36 people trained this network with their labels", "--folds 5"),
        ("latents.parquet",),
    ),
    "a supervised network without its ledger": Case(
        lambda f: shutil.rmtree(f / "labelled/private"),
        "encode all labelled --out latents.parquet --device cpu", 21,
        ("it is not known whom this network was trained on",), ("latents.parquet",),
    ),
    "training people in a scan": Case(
        nothing, "associate --bfile cohort --latents seen.parquet --out gwas", 21,
        ("12 of 36 people of these latents trained the encoder", "--training-people exclude"),
        ("gwas/sumstats", "gwas/RUN_COMPLETE.json"),
    ),
    "training people left out of a scan": Case(
        nothing,
        "associate --bfile cohort --latents seen.parquet --out gwas --training-people exclude", 0,
        ("12 of 36 people trained the encoder: left out", "samples kept 24"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOGETHER)
def test_what_does_not_belong_together(study, name):
    case = TOGETHER[name]
    case.harm(study)
    check(imgwas(*shlex.split(case.command), folder=study), study, case)


# --- checkpoints --------------------------------------------------------------------------------


class Trap:
    """A pickle that would make a file when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("sprung"),)


def weights(folder: Path) -> Path:
    return folder / "run/encoder/encoder.safetensors"


def about(folder: Path, **changed: object) -> None:
    path = folder / "run/encoder/encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the weights and their digest, so that only the weights themselves are wrong."""
    state = load_file(weights(folder))
    change(state)
    whole = save(state)
    weights(folder).write_bytes(whole)
    about(folder, weights_sha256=hashlib.sha256(whole).hexdigest())


def cut_weights(folder: Path) -> None:
    weights(folder).write_bytes(weights(folder).read_bytes()[:-100])


def long_header(folder: Path) -> None:
    whole = weights(folder).read_bytes()
    weights(folder).write_bytes((2**40).to_bytes(8, "little") + whole[8:])


def many_tensors(folder: Path) -> None:
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    head = json.dumps({f"{i:050d}": one for i in range(100_000)}).encode()
    weights(folder).write_bytes(len(head).to_bytes(8, "little") + head)


def not_finite(state: dict[str, torch.Tensor]) -> None:
    name = next(iter(state))
    state[name] = state[name] * torch.nan


def flip_a_byte(folder: Path) -> None:
    whole = bytearray(weights(folder).read_bytes())
    whole[-3] ^= 1
    weights(folder).write_bytes(bytes(whole))


def only_pickle(folder: Path) -> None:
    shutil.rmtree(folder / "run")
    (folder / "run").mkdir()
    torch.save({}, folder / "run/model.pt")


def published(
    change: Callable[[dict[str, torch.Tensor]], object] = lambda _: None, prefix: str = ""
) -> Callable[[Path], object]:
    """Write net.pt with the tensors of the trained network, changed."""

    def harm(folder: Path) -> None:
        state = dict(load_file(weights(folder)))
        change(state)
        torch.save({prefix + name: tensor for name, tensor in state.items()}, folder / "net.pt")

    return harm


def trap(folder: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "hook": Trap()}, folder / "net.pt")


def old_trap(folder: Path) -> None:
    (folder / "net.pt").write_bytes(pickle.dumps(Trap()))


def spread(state: dict[str, torch.Tensor]) -> None:
    """One number on disk that claims to be ten million."""
    state[next(iter(state))] = torch.zeros(1).expand(10_000_000)


def halve(state: dict[str, torch.Tensor]) -> None:
    for name, tensor in state.items():
        state[name] = tensor.bfloat16() if tensor.is_floating_point() else tensor


CHECKPOINTS = {
    "F1 pickle with code": Case(
        trap, CONVERT, 21, ("holds more than tensors", "run code that somebody put there"),
        ("net", "sprung"),
    ),
    "F1 old pickle with code": Case(
        old_trap, CONVERT, 21, ("holds more than tensors",), ("net", "sprung")
    ),
    "F1 only a pickle": Case(
        only_pickle, ENCODE, 3, ("Convert it first: imgwas weights convert run/model.pt",),
        ("latents.parquet",),
    ),
    "F2 no checkpoint": Case(
        lambda f: (f / "net.pt").write_bytes(b"hello"), CONVERT, 6,
        ("net.pt is no checkpoint of torch",), ("net",),
    ),
    "F2 absent": Case(nothing, CONVERT, 3, ("net.pt does not exist",), ("net",)),
    "F2 no tensors": Case(
        lambda f: torch.save({"epoch": 3}, f / "net.pt"), CONVERT, 6,
        ("holds no tensor", "keys: epoch"), ("net",),
    ),
    "F3 missing and unknown": Case(
        published(lambda s: s.update(strange=s.pop("to_latent.weight"))), CONVERT, 7,
        ("1 missing (to_latent.weight)", "1 unknown (strange)"), ("net",),
    ),
    "F3 shapes": Case(
        published(lambda s: s.update({"to_latent.bias": torch.zeros(7)})), CONVERT, 7,
        ("to_latent.bias (7,) for (2,)",), ("net",),
    ),
    "F3 shapes of our own": Case(
        lambda f: rewrite(f, lambda s: s.update({"to_latent.bias": torch.zeros(7)})), ENCODE, 7,
        ("1 of other shape (to_latent.bias (7,) for (2,))",), ("latents.parquet",),
    ),
    "F4 cut short": Case(cut_weights, ENCODE, 6, ("Copy it again",), ("latents.parquet",)),
    "F4 header longer than the file": Case(
        long_header, ENCODE, 6, ("no whole safetensors file",), ("latents.parquet",)
    ),
    "F4 a hundred thousand tensors": Case(
        many_tensors, ENCODE, 6, ("no whole safetensors file",), ("latents.parquet",)
    ),
    "F4 more weights than bytes": Case(
        published(spread), CONVERT, 6, ("bytes and claims", "Do not trust it"), ("net",)
    ),
    "F5 NaN weights": Case(
        lambda f: rewrite(f, not_finite), ENCODE, 13, ("weights that are not finite",),
        ("latents.parquet",),
    ),
    "F5 NaN weights to convert": Case(
        published(not_finite), CONVERT, 13, ("weights that are not finite",), ("net",)
    ),
    "F6 another file": Case(
        flip_a_byte, ENCODE, 7, ("is not the file that encoder.json describes", "SHA-256"),
        ("latents.parquet",),
    ),
    "F8 DataParallel": Case(published(prefix="module."), CONVERT, 0, ("wrote net",)),
    "F8 compiled": Case(published(prefix="_orig_mod.module."), CONVERT, 0, ("wrote net",)),
    "F8 half precision": Case(
        published(halve),
        CONVERT, 0, ("wrote net",),
    ),
    "F9 newer format": Case(
        lambda f: about(f, format=2, imgwas="9.9"), ENCODE, 6,
        ("was made by imgwas 9.9", "pip install --upgrade imgwas"), ("latents.parquet",),
    ),
    "encoder.json cut short": Case(
        lambda f: (f / "run/encoder/encoder.json").write_text('{"format": 1,'), ENCODE, 6,
        ("encoder.json is damaged",), ("latents.parquet",),
    ),
    "encoder.json of an unknown encoder": Case(
        lambda f: about(f, encoder="os.system"), ENCODE, 6,
        ("names the encoder 'os.system'",), ("latents.parquet",),
    ),
    "encoder.json with an unknown setting": Case(
        lambda f: about(f, settings={"depht": 3}), ENCODE, 6, ("no setting 'depht'",),
        ("latents.parquet",),
    ),
    "no encoder": Case(
        lambda f: shutil.rmtree(f / "run"), ENCODE, 3, ("run holds no encoder.json",),
        ("latents.parquet",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_bad_checkpoints(study, name):
    case = CHECKPOINTS[name]
    case.harm(study)
    check(imgwas(*shlex.split(case.command), folder=study), study, case)


@pytest.mark.parametrize("name", [name for name, case in CHECKPOINTS.items() if not case.code])
def test_weights_with_prefixes_are_the_same_weights(study, name):
    CHECKPOINTS[name].harm(study)
    imgwas(*shlex.split(CONVERT), folder=study)
    mine, theirs = load_file(study / "net/encoder.safetensors"), load_file(weights(study))
    tolerance = 1e-2 if "half" in name else 0
    assert {n for n in mine if "num_batches" not in n} == {
        n for n in theirs if "num_batches" not in n
    }
    for key in (n for n in mine if "num_batches" not in n):
        torch.testing.assert_close(mine[key], theirs[key], rtol=tolerance, atol=0)


# --- settings -----------------------------------------------------------------------------------


def yaml(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "c.yaml").write_text(text)


CONFIG = TRAIN + " --config c.yaml"
NEW = ("new/run.json", "new/encoder")
SETTINGS = {
    "H1 unknown setting": (
        nothing, TRAIN + " --set latent=3", ("no setting 'latent'", "Did you mean latents")
    ),
    "H1 unknown training setting": (nothing, TRAIN + " --train epoch=3", ("'epoch'", "epochs?")),
    "H1 unknown encoder": (nothing, TRAIN.replace("udip", "udib"), ("no encoder 'udib'", "udip?")),
    "H1 unknown option": (nothing, TRAIN + " --epoch 3", ("No such option",)),
    "H1 no value": (nothing, TRAIN + " --set grid", ("'grid' is no setting", "key=value")),
    "H1 given twice": (nothing, TRAIN + " --set levels=2", ("levels is given twice",)),
    "H1 unknown in YAML": (yaml("encoder:\n  latent: 3\n"), CONFIG, ("no setting 'latent'",)),
    "H1 unknown section": (yaml("trian:\n  epochs: 3\n"), CONFIG, ("section 'trian'", "train?")),
    "H1 unknown step": (nothing, PREPARE.replace("reorient", "reorent"), ("reorent", "reorient?")),
    "H1 step twice": (nothing, PREPARE.replace("reorient", "clip,clip"), ("clip is named twice",)),
    "H1 setting of no step": (
        nothing, PREPARE + " --set zscore.background=zero", ("no step for the setting zscore",)
    ),
    "H1 no template": (nothing, PREPARE.replace("reorient", "register"), ("register.template",)),
    "H2 repeated key": (
        yaml("train:\n  epochs: 3\n  epochs: 4\n"), CONFIG, ("line 3 gives epochs a second time",)
    ),
    "H2 tag": (
        yaml("train:\n  epochs: !!python/object/apply:os.getcwd []\n"), CONFIG,
        ("line 2 has a tag",),
    ),
    "H2 reference": (
        yaml("train: &a\n  epochs: 3\nencoder: *a\n"), CONFIG, ("line 3 has a reference",)
    ),
    "H2 no YAML": (yaml("train: [1\n"), CONFIG, ("c.yaml is no YAML",)),
    "H2 no mapping": (yaml("- 1\n- 2\n"), CONFIG, ("c.yaml",)),
    "H2 word for a number": (yaml("train:\n  patience: no\n"), CONFIG, ("patience is 'no'",)),
    "H2 1e5 is no whole number": (yaml("train:\n  batch: 1e5\n"), CONFIG, ("batch is '1e5'",)),
    "H3 no epochs": (nothing, TRAIN.replace("epochs=1", "epochs=0"), ("epochs is 0", "At least 1")),
    "H3 negative rate": (
        nothing, TRAIN + " --train learning_rate=-1", ("learning_rate is -1", "Above 0")
    ),
    "H3 not a number": (nothing, TRAIN + " --train learning_rate=nan", ("learning_rate is nan",)),
    "H3 average that forgets nothing": (nothing, TRAIN + " --train ema=1", ("ema is 1",)),
    "H3 factor": (nothing, TRAIN + " --train factor=7", ("factor is 7", "below 1")),
    "H3 seed": (nothing, TRAIN + " --train seed=-1", ("seed is -1",)),
    "H3 noise": (nothing, TRAIN + " --train noise=-1", ("noise is -1",)),
    "H3 no latents": (nothing, TRAIN.replace("latents=2", "latents=0"), ("latents is 0",)),
    "H3 no width": (nothing, TRAIN.replace("width=2", "width=0"), ("width is 0",)),
    "H3 too deep": (nothing, TRAIN.replace("levels=1", "levels=9"), ("cannot be halved 9 times",)),
    "H3 a choice that is none": (
        nothing, TRAIN + " --train schedule=platau", ("schedule", "plateau?")
    ),
    "H3 everyone held out": (nothing, TRAIN + " --validation 2", ("--validation",)),
    "H3 no threads": (nothing, PREPARE + " --threads 0", ("--threads",)),
    "H3 voxels of no size": (
        nothing, PREPARE.replace("reorient", "resample") + " --set resample.voxel_mm=-2",
        ("voxel",),
    ),
    "H1 nothing to do": (nothing, "preprocess few.tsv --out out", ("--steps a,b,c",)),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_bad_settings(study, name):
    harm, command, words = SETTINGS[name]
    case = Case(harm, command, 8, words, (*NEW, "out/images.tsv"))
    case.harm(study)
    check(imgwas(*shlex.split(case.command), folder=study), study, case)


def test_an_absent_file_of_settings(study):
    case = Case(nothing, CONFIG, 3, ("c.yaml",), NEW)
    check(imgwas(*shlex.split(CONFIG), folder=study), study, case)
