"""``imgwas traverse``: a page, films and curves from a run, and every refusal on the way."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from imgwas_cli.main import COMMANDS

from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction
from imgwas.brain.traversal import (
    AMOUNTS,
    Start,
    average_start,
    heart_table,
    hearts_along,
    most_varying,
    sample_start,
    walk_along,
)
from imgwas.encoders.checkpoints import load_encoder
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MissingLibraryError,
    RefusedError,
    UsageError,
)
from imgwas.images.nifti import Volume, write_volume
from imgwas.latents.ledger import mark_people
from imgwas.plots import cine_ends, films
from imgwas.report.traverse import write_traversals
from imgwas.report.traverse_pictures import draw_walk
from imgwas.simulate import simulate_hearts
from imgwas.simulate.heart import Heart, draw_heart
from imgwas.tables import read_latents
from imgwas.types import Latents
from tests.cli_cohort import imgwas


def data_of(page):
    """What the page's script is given."""
    found = re.search(r'<script type="application/json" id="walks">(.*?)</script>', page, re.DOTALL)
    return json.loads(found.group(1))


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    """Cines of simulated hearts up to latents, and the page of two latents with films."""
    folder = tmp_path_factory.mktemp("hearts")
    simulate_hearts(folder, n_samples=70, n_variants=50, grid=32, n_frames=8, seed=3,
                    train_share=0.25, noise=0.02)  # fmt: skip
    for words in (
        ("train", "pca", "images.tsv", "--keep", "train.txt", "--set", "latents=3", "--out", "run"),
        ("encode", "images.tsv", "run", "--keep", "scan.txt", "--out", "latents.parquet"),
        ("traverse", "run", "--latents", "latents.parquet", "--latent", "L000,L001", "--steps", "1",
         "--reach", "2", "--gif", "--out", "page.html"),
    ):  # fmt: skip
        done = imgwas(*words, folder=folder)
        assert done.code == 0, done.text
    return folder, done.text


def test_page_films_and_curves_of_hearts(hearts):
    folder, said = hearts
    assert "page.html" in said
    page = (folder / "page.html").read_text()
    data = data_of(page)
    assert data["amounts"] == [-2, 0, 2]
    assert [walk["name"] for walk in data["walks"]] == ["L000", "L001"]
    assert data["cine"]
    for walk in data["walks"]:
        assert (walk["frames"], len(walk["plain"]), len(walk["changes"])) == (8, 3, 3)
        assert all(one.startswith("data:image/webp;base64,") for one in walk["plain"])
        assert walk["hearts"][1]["volume"]
    latents = read_latents(folder / "latents.parquet")
    n = len(latents.sample_ids)
    assert f"from the average of {n:,} people" in page
    assert not any(one in page for one in latents.sample_ids)
    table = pd.read_csv(folder / "page_hearts.tsv", sep="\t", comment="#")
    assert list(table["amount"]) == [-2, 0, 2] * 2
    assert table["ejection_fraction"].between(0.3, 0.9).sum() >= 4
    for name in ("L000.gif", "L001.gif", "L000_ends.png"):
        assert (folder / "page_films" / name).stat().st_size > 1000


def test_walks_are_the_decoder_at_moved_latents(hearts):
    folder, _ = hearts
    loaded, latents = load_encoder(folder / "run"), read_latents(folder / "latents.parquet")
    decoder = Decoder(loaded.encoder)
    start = average_start(latents)
    np.testing.assert_allclose(start.latents, latents.values.mean(axis=0))
    covariance = np.cov(latents.values.T)
    direction = Direction("tilt", np.array([0.3, 0.0, -0.1]), "SD", "trait")
    walk = walk_along(decoder, start, direction, covariance, (-1.0, 0.0, 2.0), pixel_mm=6.0)
    unit = direction.vector / np.linalg.norm(direction.vector)
    sd = np.sqrt(unit @ covariance @ unit)
    moved = (start.latents + 2 * sd * unit).astype(np.float32)
    np.testing.assert_allclose(walk.images[2], loaded.encoder.decode(moved[None])[0], atol=1e-4)
    assert (walk.middle, len(walk.hearts)) == (1, 3)
    table = heart_table([walk])
    assert table["name"].eq("tilt").all()
    np.testing.assert_allclose(table["ejection_fraction"][1], walk.hearts[1].ejection_fraction)


def test_the_ejection_fraction_of_the_pictures_follows_the_direction():
    """Cines drawn with another fraction each stand for a decoder that moves it."""
    fractions = (0.45, 0.6, 0.72)
    images = np.stack([
        draw_heart(Heart(9.0, 148.0, one, 0.75, (12.0, -24.0)), grid=64, n_frames=16)[0][:, :, None]
        for one in fractions
    ])  # fmt: skip
    found = hearts_along(images, 1, 3.75)
    np.testing.assert_allclose([one.ejection_fraction for one in found], fractions, atol=0.06)
    blank = np.stack([images[0], images[1], 0 * images[2]])
    assert hearts_along(blank, 1, 3.75)[2] is None
    assert hearts_along(0 * images, 1, 3.75) == ()


def test_the_start_is_the_average_of_many():
    rng = np.random.default_rng(0)
    ids = tuple(f"person{i}" for i in range(80))
    values = rng.standard_normal((80, 3)) * [1, 3, 2]
    values[:5, 0] = np.nan
    table = Latents(values, ids, ("a", "b", "c"))
    assert most_varying(table, 2) == ["b", "c"]
    start = average_start(table)
    assert start.n_people == 75
    np.testing.assert_allclose(start.latents, values[5:].mean(axis=0))
    seen = Latents(values, ids, ("a", "b", "c"), source={"people_seen": mark_people(ids[:20])})
    assert average_start(seen).n_people == 60
    most = Latents(values, ids, ("a", "b", "c"), source={"people_seen": mark_people(ids[:60])})
    assert average_start(most).n_people == 75
    with pytest.raises(RefusedError, match=r"75 people.*average of 76 or more shows nobody"):
        average_start(table, fewest=76)
    assert sample_start(table, "person7").n_people == 1
    for absent in ("nobody77", "person2"):
        with pytest.raises(InconsistentError, match="no latents of the sample") as error:
            sample_start(table, absent)
        assert absent not in str(error.value)


def test_walks_that_cannot_be(hearts):
    folder, _ = hearts
    decoder = Decoder(load_encoder(folder / "run").encoder)
    start, direction = Start(np.zeros(3), 60), Direction("x", np.ones(3), "SD", "latent")
    for amounts in ((-1.0, 1.0), (0.0, -1.0), (0.0, 0.0)):
        with pytest.raises(UsageError, match="Increasing, and 0 among them"):
            walk_along(decoder, start, direction, np.eye(3), amounts)
    with pytest.raises(DegenerateError, match="nobody varies along x"):
        walk_along(decoder, start, direction, np.zeros((3, 3)))
    with pytest.raises(UsageError, match="nothing to walk along"):
        write_traversals(folder / "no.html", [], decoder, start)
    assert AMOUNTS[3] == 0


@pytest.mark.slow
def test_a_page_that_would_be_too_large_is_coarser_or_refused(hearts, monkeypatch):
    from imgwas.report import traverse

    folder, _ = hearts
    decoder = Decoder(load_encoder(folder / "run").encoder)
    start, direction = Start(np.zeros(3), 60), Direction("x", np.eye(3)[0], "SD", "latent")
    walk = walk_along(decoder, start, direction, np.eye(3), (-1.0, 0.0, 1.0))
    path = folder / "size.html"
    fine = write_traversals(path, [walk], decoder, start, is_cine=True).stat().st_size
    monkeypatch.setattr(traverse, "MOST_BYTES", int(0.9 * fine))
    assert write_traversals(path, [walk], decoder, start, is_cine=True).stat().st_size < 0.9 * fine
    monkeypatch.setattr(traverse, "MOST_BYTES", 20_000)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="fewer directions or --steps"):
        write_traversals(path, [walk], decoder, start, is_cine=True)
    assert path.read_bytes() == before


def test_slices_of_a_brain_lie_where_it_changes_and_left_is_left():
    from imgwas.brain.traversal import Walk

    images = np.zeros((3, 20, 24, 16), np.float32)
    images[:, 4:16, 4:20, 3:13] = 0.5
    images[2, 13:15, 8:10, 5:7] = 1.0  # at the right, behind and below the middle
    images[0] = images[1]
    mask = images[1] > 0
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for turned, place in ((affine, (26, 16, 10)), (np.diag([-2.0, 2, 2, 1]), (-26, 16, 10))):
        walk = Walk(Direction("x", np.ones(1), "SD", "latent"), (-1.0, 0.0, 1.0), images)
        drawn = draw_walk(walk, turned, mask, is_cine=False)
        found = [float(v) for v in re.findall(r"= (-?\d+)", drawn.place.replace("−", "-"))]
        assert np.abs(np.subtract(found, place)).max() <= 2
        assert drawn.limit == pytest.approx(0.5)
        change = drawn.changes[2].astype(int)
        red = (change[..., 0] - change[..., 2]) > 60
        # the last plane is axial: the change lies on its right half where x runs to the right
        axial = red[:, -round(red.shape[1] * 20 / 64) :]
        columns = np.flatnonzero(axial.any(axis=0)) / axial.shape[1]
        assert (columns.mean() > 0.5) == (turned[0, 0] > 0)
        still = drawn.changes[0].astype(int)
        assert (np.abs(still[..., 0] - still[..., 2]) < 10).all()


def test_hostile_names_stay_text(hearts):
    folder, _ = hearts
    decoder = Decoder(load_encoder(folder / "run").encoder)
    name = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&$x_1$"
    direction = Direction(name, np.eye(3)[0], "SD", "latent")
    start = Start(np.zeros(3), 1)
    walk = walk_along(decoder, start, direction, np.eye(3), (-1.0, 0.0, 1.0))
    path = write_traversals(folder / "hostile.html", [walk], decoder, start, title=name,
                            is_cine=True, about={"Encoder": name})  # fmt: skip
    page = path.read_text()
    assert page.count("<script") == 2
    assert "<img src=x" not in page
    assert data_of(page)["walks"][0]["name"] == name
    assert "Pictures of one person" in page
    assert "default-src &#x27;none&#x27;" in page


def write_tables(folder):
    latents = ["L000", "L001", "L002"]
    tables = {
        "good": pd.DataFrame({"latent": latents, "tilt": [1.0, 0, -1], "<b>bold</b>": [0, 0.5, 0]}),
        "bare": pd.DataFrame({"weight": [1.0]}),
        "unknown": pd.DataFrame({"latent": ["L000", "L999"], "x": [1.0, 2]}),
        "twice": pd.DataFrame({"latent": ["L000", "L000"], "x": [1.0, 2]}),
        "words": pd.DataFrame({"latent": latents, "x": ["a", "b", "c"]}),
        "clash": pd.DataFrame({"latent": latents, "L001": [1.0, 0, 0]}),
        "zeros": pd.DataFrame({"latent": latents, "x": [0.0, 0, 0]}),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    write_volume(folder / "left.nii.gz", Volume(np.ones((8, 8, 1), np.float32), np.eye(4)))


BASIC = ("traverse", "run", "--latents", "latents.parquet")
REFUSED = [
    (("--out", "page.pdf"), 8, "is no page"),
    (("--latent", "L9", "--out", "no.html"), 8, "there is no latent 'L9'"),
    (("--variant", "rs1", "--out", "no.html"), 8, "variants need the scan"),
    (("--component", "9", "--out", "no.html"), 8, "component"),
    (("--min-people", "900", "--out", "no.html"), 21, "average of 900 or more shows nobody"),
    (("--sample", "missing99", "--out", "no.html"), 7, "no latents of the sample"),
    (("--steps", "0", "--out", "no.html"), 8, "--steps"),
    (("--reach", "0", "--out", "no.html"), 8, "--reach"),
    (("--directions", "bare.tsv", "--out", "no.html"), 6, "expected: latent"),
    (("--directions", "unknown.tsv", "--out", "no.html"), 7, "1 latents that are not in the table"),
    (("--directions", "twice.tsv", "--out", "no.html"), 7, "or one twice"),
    (("--directions", "words.tsv", "--out", "no.html"), 6, "is no number"),
    (("--directions", "zeros.tsv", "--out", "no.html"), 13, "only zeros"),
    (
        ("--directions", "clash.tsv", "--latent", "L001", "--out", "no.html"),
        7,
        "1 repeated names (first: L001)",
    ),
    (("--ventricle", "left.nii.gz", "--out", "no.html"), 7, "8 x 8 pixels"),
    (("--trait", "volumes.tsv", "--trait-name", "nose", "--out", "no.html"), 8, "nose"),
]


@pytest.mark.parametrize(("words", "code", "text"), REFUSED, ids=lambda v: str(v)[:40])
def test_refusals(hearts, words, code, text):
    folder, _ = hearts
    write_tables(folder)
    done = imgwas(*BASIC, *words, folder=folder)
    assert done.code == code, done.text
    assert text.replace("expected: ", "") in done.text, done.text
    assert not (folder / "no.html").exists()


def test_directions_of_a_table_and_a_single_person(hearts):
    folder, _ = hearts
    write_tables(folder)
    sample = read_latents(folder / "latents.parquet").sample_ids[4]
    done = imgwas(*BASIC, "--directions", "good.tsv", "--sample", sample, "--steps", "1", "--out",
                  "one.html", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    assert "ONE PERSON" in done.text
    page = (folder / "one.html").read_text()
    assert [walk["name"] for walk in data_of(page)["walks"]] == ["tilt", "<b>bold</b>"]
    assert "do not pass this page on" in page
    assert sample not in page


@pytest.mark.slow
def test_another_encoder_and_no_place_of_the_brain(hearts, tmp_path):
    folder, _ = hearts
    shutil.copytree(folder / "run", tmp_path / "run")
    frame = pd.read_parquet(folder / "latents.parquet")
    frame.iloc[:, :2].to_parquet(tmp_path / "few.parquet")
    done = imgwas("traverse", "run", "--latents", "few.parquet", "--out", "no.html",
                  folder=tmp_path)  # fmt: skip
    assert (done.code, "lacks 2 of the encoder's 3 latents" in done.text) == (7, True), done.text


def test_mp4_without_ffmpeg_is_refused_before_the_work(hearts, monkeypatch):
    folder, _ = hearts
    monkeypatch.setattr(films.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'imgwas\[film\]'"):
        films.find_ffmpeg()
    done = imgwas(*BASIC, "--mp4", "--out", "no.html", folder=folder)
    assert "needs the program ffmpeg" in done.text
    assert not (folder / "no.html").exists()


@pytest.mark.slow
def test_mp4_by_the_library_where_ffmpeg_is_not_installed(tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(films.shutil, "which", lambda name: None)
    cine = np.random.default_rng(0).random((20, 20, 1, 4))
    path = films.cine_film(tmp_path / "film.mp4", cine, 1 - cine, dpi=60)
    assert path.read_bytes()[4:8] == b"ftyp"


def test_ends_of_the_beat():
    images = np.stack([
        draw_heart(Heart(9.0, v, 0.6, 0.75, (12.0, -24.0)), grid=32, n_frames=8)[0]
        for v in (120.0, 148.0, 170.0)
    ])  # fmt: skip
    figure = cine_ends(images, (-1, 0, 1), [(0, 3)] * 3, title="volume")
    assert len(figure.axes) == 13
    middle = figure.axes[2 * 3 + 1].images[0].get_array()
    assert np.abs(np.asarray(middle)).max() == 0
    assert np.abs(np.asarray(figure.axes[2 * 3].images[0].get_array())).max() > 0.3
    with pytest.raises(InconsistentError, match="2 pairs of frames"):
        cine_ends(images, (-1, 0, 1), [(0, 3)] * 2)
    with pytest.raises(UsageError, match="no image is at amount 0"):
        cine_ends(images, (-1, 1, 2), [(0, 3)] * 3)


def test_the_command_is_listed():
    assert "traverse" in COMMANDS


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_dicom_to_a_page_and_films(tmp_path):
    """The commands of the page on traversals: series, store, crop, diffae, latents, page."""
    pytest.importorskip("pydicom")
    pytest.importorskip("h5py")
    from tests.dicoms import cine_files, write_zip

    rng = np.random.default_rng(0)
    bulk = tmp_path / "bulk"
    bulk.mkdir()
    for number in range(9):
        heart = Heart(rng.normal(9, 1.2), float(np.exp(rng.normal(5, 0.18))), rng.normal(0.6, 0.05),
                      0.75, (12.0, -24.0))  # fmt: skip
        cine = draw_heart(heart, grid=96, n_frames=49 if number == 8 else 50)[0]
        cine = np.clip(1000 * (cine + 0.03 * rng.standard_normal(cine.shape)), 0, 4000)
        write_zip(bulk / f"100000{number}_20208_2_0.zip",
                  cine_files(cine.astype(np.uint16), PixelSpacing=[2.5, 2.5]))  # fmt: skip
    small = ("latents=3", "base=4", "multipliers=1,2", "encoder_multipliers=1,2", "attention=9",
             "blocks=1", "time_width=8", "render_steps=10", "invert_steps=10", "times=100",
             "dropout=0")  # fmt: skip
    train = ("epochs=1", "epoch_share=1", "score_epochs=0", "batch=4")
    for words in (
        ("images", "to-store", "bulk", "--view", "4Ch", "--max-failures", "0.2", "--out",
         "hearts.h5"),
        ("images", "list", "hearts.h5", "--view", "4Ch", "--out", "images.tsv"),
        ("preprocess", "images.tsv", "--steps", "heart-crop", "--set", "heart-crop.size=32",
         "--out", "prepared"),
        ("train", "diffae", "prepared", *[w for s in small for w in ("--set", s)],
         *[w for s in train for w in ("--train", s)], "--out", "run"),
        ("encode", "prepared", "run", "--no-reconstruction-error", "--out", "latents.parquet"),
        ("traverse", "run", "--latents", "latents.parquet", "--n-latents", "1", "--steps", "1",
         "--min-people", "8", "--gif", "--mp4", "--out", "page.html"),
    ):  # fmt: skip
        done = imgwas(*words, folder=tmp_path)
        assert done.code == 0, done.text
    failures = (tmp_path / "hearts.h5.failures.tsv").read_text()
    assert "has 49 frames" in failures
    data = data_of((tmp_path / "page.html").read_text())
    assert data["walks"][0]["frames"] == 50
    for kind in ("gif", "mp4"):
        assert (tmp_path / "page_films" / f"L00{data['walks'][0]['name'][-1]}.{kind}").exists()


def test_volumes_are_not_measured_on_pixels_that_are_no_squares(hearts):
    from imgwas_cli.traverse import _walks

    loaded, latents = load_encoder(hearts[0] / "run"), read_latents(hearts[0] / "latents.parquet")
    decoder = Decoder(loaded.encoder, affine=np.diag([1.5, 3.0, 8.0, 1.0]))
    given = {"reach": 1.0, "steps": 1, "quiet": True, "ventricle": None}
    with pytest.raises(UsageError, match=r"1\.5 x 3 mm"):
        next(_walks(decoder, average_start(latents), [], [], True, given))
