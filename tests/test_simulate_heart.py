"""Simulated hearts: volumes measured on the picture, planted effects, files, refusals."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.errors import DegenerateError, UsageError
from imgwas.images.heart import locate_heart
from imgwas.simulate import PlantedEffect, draw_heart
from imgwas.simulate.heart import FIELD_OF_VIEW, Heart, contraction, shape_over_time
from tests.cli_cohort import imgwas as command_line


def area_length_volume(cavity: np.ndarray, angle: float, pixel: float) -> float:
    """Volume in ml from a long-axis picture, as readers measure it: 8 A^2 / (3 pi L)."""
    x, y = np.nonzero(cavity > 0.5)
    along = np.cos(angle) * -x + np.sin(angle) * y
    length = (along.max() - along.min() + 1) * pixel
    area = cavity.sum() * pixel**2
    return 8 * area**2 / (3 * np.pi * length) / 1000


@pytest.mark.parametrize(("volume", "fraction"), [(150.0, 0.6), (110.0, 0.7), (230.0, 0.35)])
def test_the_picture_has_the_volumes_of_the_truth(volume, fraction):
    heart = Heart(9.0, volume, fraction, angle=0.8, centre=(12.0, -24.0))
    _, shares = draw_heart(heart, grid=128)
    pixel = FIELD_OF_VIEW / 128
    found = [area_length_volume(one, 0.8, pixel) for one in np.moveaxis(shares[0], -1, 0)]
    assert max(found) == pytest.approx(volume, rel=0.05)
    assert min(found) == pytest.approx(heart.end_systolic_volume, rel=0.08)
    assert 1 - min(found) / max(found) == pytest.approx(fraction, abs=0.03)
    assert int(np.argmax(found)) in (0, 49)
    assert int(np.argmin(found)) == pytest.approx(18, abs=1)


def test_the_wall_keeps_its_volume_and_thickens():
    heart = Heart(9.0, 150.0, 0.6)
    (radius, length, wall), volume = shape_over_time(heart, 50)
    muscle = (radius + wall) ** 2 * (length + wall) - radius**2 * length
    assert muscle == pytest.approx(np.full(50, muscle[0]), rel=1e-6)
    assert wall[0] == pytest.approx(9.0)
    assert 1.25 < wall.max() / wall[0] < 1.7, "systolic thickening of healthy people"
    assert volume.max() / volume.min() == pytest.approx(1 / (1 - 0.6))
    _, shares = draw_heart(heart, grid=128)
    across = shares[1].sum(axis=(0, 1)) * (FIELD_OF_VIEW / 128) ** 2
    outline = np.pi / 2 * ((radius + wall) * (length + wall) - radius * length)
    assert across == pytest.approx(outline, rel=0.03)


def test_the_beat_is_a_circle():
    emptied = contraction(50)
    assert emptied[0] == 0
    assert emptied.max() == 1
    assert np.abs(np.diff(np.append(emptied, 0))).max() < 0.15


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    effects = [
        PlantedEffect("wall_thickness", 0.8),
        PlantedEffect("ejection_fraction", -0.03),
        PlantedEffect("log_volume", 0.1),
    ]
    folder = tmp_path_factory.mktemp("hearts")
    return effects, imgwas.simulate_hearts(
        folder, n_samples=60, n_variants=300, effects=effects, n_null=2, grid=32, n_frames=12,
        seed=2,
    )  # fmt: skip


def test_tables_agree_with_each_other_and_with_the_effects(study):
    effects, made = study
    table = made.volumes
    ratio = 1 - table["end_systolic_volume"] / table["end_diastolic_volume"]
    assert table["ejection_fraction"].to_numpy() == pytest.approx(ratio, abs=1e-4)
    truth = made.truth
    assert truth["amount"].tolist() == [*[e.amount for e in effects], 0, 0]
    assert truth["role"].tolist() == ["planted"] * 3 + ["control"] * 2
    off = (truth["realised_slope"] - truth["amount"]) / truth["realised_slope_error"]
    assert off[:3].abs().max() < 3.5
    genotypes = imgwas.open_genotypes(made.bfile)
    names = genotypes.variants["variant_id"].to_pylist()
    row = names.index(truth["variant_id"][0])
    dosage = genotypes.read_dosages(np.array([row]))[0]
    assert dosage.mean() / 2 == pytest.approx(truth["effect_allele_frequency"][0])
    assert np.corrcoef(dosage, table["wall_thickness"])[0, 1] > 0.1


def test_cines_open_beat_and_move_where_the_heart_is(study):
    _, made = study
    images = imgwas.open_images(made.images)
    assert images.grid == (32, 32, 1, 12)
    whole = images.read(0)
    assert whole.min() >= 0
    table = pd.read_csv(made.folder / "regions.tsv", sep="\t")
    assert table["region"].tolist() == ["lv_cavity", "lv_wall", "rv_cavity"]
    values, shares = draw_heart(Heart(9.0, 150.0, 0.6, 0.75, (12.0, -24.0)), grid=96)
    found = locate_heart(values)
    middle = np.argwhere(shares.max(axis=(0, -1)) > 0.5).mean(axis=0)
    assert np.abs(np.subtract(found.centre, middle)).max() < 12


def test_blood_brightens_where_the_truth_says_the_cavity_is_larger(study):
    """The picture follows the table: larger ventricles have more bright pixels."""
    _, made = study
    images = imgwas.open_images(made.images)
    bright = [(one[:, :, 0, 0] > 0.75 * np.percentile(one, 99)).sum()
              for one in map(images.read, range(60))]  # fmt: skip
    assert np.corrcoef(bright, made.volumes["end_diastolic_volume"])[0, 1] > 0.6


def test_the_seed_decides_every_byte(tmp_path):
    def make(name: str, threads: int) -> list[str]:
        imgwas.simulate_hearts(tmp_path / name, n_samples=20, n_variants=200, grid=32, n_frames=8,
                               seed=1, threads=threads)  # fmt: skip
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        return [hashlib.sha256(p.read_bytes()).hexdigest() for p in files]

    assert make("a", 1) == make("b", 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"effects": [PlantedEffect("wall")]}, UsageError,
         r"a heart has no 'wall'.*wall_thickness, ejection_fraction, log_volume"),
        ({"effects": [PlantedEffect("log_volume", 0.1, "intensity")]}, UsageError, "intensity"),
        ({"effects": [PlantedEffect("ejection_fraction", 0.2)]}, DegenerateError,
         r"\+0.2 per allele on ejection_fraction is too large.*At most 0.05"),
        ({"grid": 16}, UsageError, "grid is 16.*from 32 to 256 pixels"),
        ({"n_frames": 2}, UsageError, "number of frames is 2"),
    ],
)  # fmt: skip
def test_impossible_hearts_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        imgwas.simulate_hearts(tmp_path / "h", n_samples=20, n_variants=200, **options)
    assert not (tmp_path / "h").exists()


def test_hearts_on_the_command_line(tmp_path):
    done = command_line(
        *("simulate", "h", "--images", "heart", "--samples", 20, "--variants", 200),
        *("--pixels", 32, "--frames", 8, "--planted", 2, "--null", 1),
        folder=tmp_path,
    )
    assert done.code == 0, done.text
    assert "2 planted effects and 1 variants without one" in done.text
    assert "imgwas images qc h/images.tsv" in done.text
