"""Scores of regions: each against a slow, obvious loop; BrainPainter's table."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.brain.atlas import read_atlas
from imgwas.brain.brainpainter import CORTEX, REGIONS, brainpainter_values, write_brainpainter
from imgwas.brain.regions import RegionScorer, ks_running_sum, laterality, region_table, stars
from imgwas.errors import DegenerateError, InconsistentError, MalformedError, UsageError
from imgwas.types import Atlas, BrainMap
from tests.data import data_file

AFFINE = np.array([[-2.0, 0, 0, 12], [0, 2, 0, -8], [0, 0, 3, -5], [0, 0, 0, 1]])


def atlas_of(labels: np.ndarray, affine: np.ndarray = AFFINE) -> Atlas:
    numbers = [int(n) for n in np.unique(labels) if n]
    return Atlas(
        labels.astype(np.int32), affine, {n: f"r{n}" for n in numbers}, dict.fromkeys(numbers, "")
    )


def map_of(values: np.ndarray, mask: np.ndarray, affine: np.ndarray = AFFINE) -> BrainMap:
    filled = np.where(mask, values, 0).astype(np.float32)
    return BrainMap(filled, mask, affine, "effect", "intensity per allele", "rs1", np.ones(2))


@pytest.fixture(params=[0, 1, 2], ids=["smooth", "ties", "constant"])
def case(request):
    """Regions of 1 to 60 voxels, one of them outside the mask, and a map with or without ties."""
    rng = np.random.default_rng(request.param)
    grid = (9, 8, 7)
    labels = rng.choice([0, 0, 2, 3, 7, 11], size=grid)
    labels[labels == 11] = 0
    labels[4, 4, 4] = 11  # one voxel
    mask = rng.random(grid) < 0.8
    mask[4, 4, 4] = True
    labels[0, 0, 0], mask[0, 0, 0] = 13, False  # no voxel in the mask
    values = rng.standard_normal(grid).astype(np.float32)
    if request.param == 1:
        values = np.round(values)
    if request.param == 2:
        values = np.full(grid, -2.0, np.float32)
    return atlas_of(labels), map_of(values, mask)


def slow_ks(sizes: list[float], inside: list[bool]) -> float:
    """The published walk, one voxel at a time; equal sizes are one step."""
    n, total = sum(inside), len(sizes)
    order = sorted(range(total), key=lambda i: -sizes[i])
    run, best = 0.0, 0.0
    for step, i in enumerate(order):
        run += (1 / n if inside[i] else 0) - 1 / total
        tied = step + 1 < total and sizes[order[step + 1]] == sizes[i]
        if not tied:
            best = max(best, run)
    return best


def voxels(atlas: Atlas, brain_map: BrainMap) -> list[tuple[int, float, tuple[int, ...]]]:
    return [
        (int(atlas.labels[index]), float(brain_map.values[index]), index)
        for index in np.ndindex(*atlas.grid)
        if brain_map.mask[index]
    ]


def test_table_is_the_slow_loop(case):
    atlas, brain_map = case
    table = region_table(brain_map, atlas).set_index("number")
    inside = voxels(atlas, brain_map)
    labelled = [v for v in inside if v[0]]
    n_top = max(1, round(0.01 * len(inside)))
    limit = sorted((abs(v[1]) for v in inside), reverse=True)[n_top - 1]
    assert list(table.index) == sorted(atlas.names)
    for number, row in table.iterrows():
        mine = [v for v in inside if v[0] == number]
        assert row.n_voxels == len(mine)
        if not mine:
            assert number == 13
            assert table.loc[13, ["mean", "peak", "peak_x", "ks", "top_share"]].isna().all()
            continue
        sizes = [abs(v[1]) for v in mine]
        assert row["mean"] == pytest.approx(sum(v[1] for v in mine) / len(mine), rel=1e-6, abs=1e-9)
        assert row.mean_absolute == pytest.approx(sum(sizes) / len(mine), rel=1e-6)
        peak = mine[sizes.index(max(sizes))]
        assert row.peak == pytest.approx(peak[1])
        world = AFFINE @ [*peak[2], 1]
        assert [row.peak_x, row.peak_y, row.peak_z] == pytest.approx(list(world[:3]))
        score = slow_ks([abs(v[1]) for v in labelled], [v[0] == number for v in labelled])
        assert row.ks == pytest.approx(score, abs=1e-9)
        share = sum(s >= limit for s in sizes) / len(mine) - 0.01
        assert row.top_share == pytest.approx(share)
        assert row.stars == stars(share)
    assert table.attrs["unit"] == "intensity per allele"


def test_scores_of_many_maps_are_those_of_each(case):
    atlas, brain_map = case
    scorer = RegionScorer(atlas, brain_map.mask)
    rng = np.random.default_rng(5)
    one = brain_map.values[brain_map.mask]
    maps = np.stack([one, rng.permutation(one), -one]).astype(np.float32)
    for name in ("mean_signed", "mean_absolute", "ks", "top_share"):
        together = getattr(scorer, name)(maps)
        assert together.shape == (3, len(atlas.names))
        for row, values in zip(together, maps, strict=True):
            np.testing.assert_array_equal(row, getattr(scorer, name)(values[None])[0])
        if name != "mean_signed":
            np.testing.assert_array_equal(together[0], together[2])
    assert scorer.numbers == atlas.numbers
    assert scorer.n_voxels.tolist() == region_table(brain_map, atlas).n_voxels.tolist()


def test_ks_does_not_depend_on_the_order_of_tied_voxels():
    labels = np.repeat([1, 2], 50).reshape(10, 10, 1)
    atlas, mask = atlas_of(labels), np.ones(labels.shape, bool)
    scorer = RegionScorer(atlas, mask)
    assert scorer.ks(np.ones((1, 100))).tolist() == [[0.0, 0.0]]
    first = np.where(labels[mask] == 2, 5.0, np.linspace(0, 1, 100))
    np.testing.assert_allclose(scorer.ks(first[None]), [[0.0, 0.5]], atol=1e-12)


def test_a_region_on_top_scores_one_minus_its_share_and_noise_scores_little():
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat([1, 2, 3, 4], [2000, 200, 5000, 12800])).reshape(40, 50, 10)
    atlas, mask = atlas_of(labels), np.ones(labels.shape, bool)
    values = np.where(labels == 2, 10, 0) + rng.random(labels.shape)
    table = region_table(map_of(values, mask), atlas).set_index("number")
    assert table.ks[2] == pytest.approx(1 - 200 / 20_000)
    assert table.top_share[2] == pytest.approx(0.99)
    assert table.stars[2] == "***"
    noise = region_table(map_of(rng.random(labels.shape), mask), atlas)
    assert noise.ks.max() < 0.08  # 95 % of a one-sided K-S of 200 is 0.086
    assert noise.top_share.abs().max() < 0.02


def test_curves_are_the_running_sum(case):
    atlas, brain_map = case
    inside = [v for v in voxels(atlas, brain_map) if v[0]]
    curves = ks_running_sum(brain_map, atlas, points=len(inside) + 1)
    order = sorted(range(len(inside)), key=lambda i: -abs(inside[i][1]))
    sizes = [abs(inside[i][1]) for i in order]
    assert curves.names == ("r2", "r3", "r7", "r11")
    for name, sums, score in zip(curves.names, curves.sums, curves.score, strict=True):
        number = int(name[1:])
        n, run = sum(v[0] == number for v in inside), [0.0]
        for i in order:
            run.append(run[-1] + (inside[i][0] == number) / n - 1 / len(inside))
        for k in range(len(sizes)):
            ends = k + 1 == len(sizes) or sizes[k + 1] != sizes[k]
            if ends:
                at = np.flatnonzero(np.isclose(curves.share, (k + 1) / len(inside)))[0]
                assert sums[at] == pytest.approx(run[k + 1], abs=1e-9)
        assert sums[0] == sums[-1] == 0
        assert score == pytest.approx(max(0, sums.max()))
    short = ks_running_sum(brain_map, atlas, points=5)
    assert short.sums.shape == (4, 5)
    np.testing.assert_array_equal(short.score, curves.score)
    with pytest.raises(UsageError, match="At least 2"):
        ks_running_sum(brain_map, atlas, points=1)


def test_laterality_is_of_pairs_alone():
    names = {1: "L_cuneus", 2: "R_cuneus", 3: "Putamen_L", 4: "brainstem", 5: "x_L", 6: "x_R"}
    sides = {1: "L", 2: "R", 3: "L", 4: "", 5: "L", 6: "R"}
    atlas = Atlas(np.arange(7, dtype=np.int32).reshape(7, 1, 1), np.eye(4), names, sides)
    index = laterality(atlas, np.array([3.0, 1.0, 2.0, 2.0, 0.0, 0.0]))
    np.testing.assert_array_equal(index, [0.5, 0.5, np.nan, np.nan, np.nan, np.nan])


def test_stars():
    assert [stars(s) for s in (0.0199, 0.02, 0.0499, 0.05, 0.0999, 0.1, float("nan"))] == [
        "", "*", "*", "**", "**", "***", "",
    ]  # fmt: skip


def test_what_cannot_be_scored_is_refused(case):
    atlas, brain_map = case
    scorer = RegionScorer(atlas, brain_map.mask)
    n = int(brain_map.mask.sum())
    broken = np.ones((1, n))
    broken[0, 3] = np.nan
    for name in ("mean_signed", "mean_absolute", "ks", "top_share", "peak"):
        with pytest.raises(DegenerateError, match=r"1 values that are not finite"):
            getattr(scorer, name)(broken)
        with pytest.raises(InconsistentError, match=r"have 5 voxels.*values\[mask\]"):
            getattr(scorer, name)(np.ones((1, 5)))
    with pytest.raises(InconsistentError, match=r"grid 9x8x7 and the mask 9x8x6.*space=map"):
        RegionScorer(atlas, brain_map.mask[..., :6])
    with pytest.raises(InconsistentError, match="no region of the atlas has a voxel"):
        RegionScorer(atlas, np.zeros(atlas.grid, bool))
    moved = map_of(brain_map.values, brain_map.mask, AFFINE + np.diag([0, 0, 0, 0]))
    region_table(moved, atlas)
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] += 4
    with pytest.raises(InconsistentError, match="4 mm elsewhere"):
        region_table(map_of(brain_map.values, brain_map.mask, elsewhere), atlas)


def test_the_name_is_public():
    assert imgwas.region_table is region_table
    assert imgwas.read_atlas is read_atlas


# BrainPainter


def test_header_is_brainpainters(tmp_path):
    assert len(CORTEX) == 35
    assert len(REGIONS) == 82
    row = dict.fromkeys(REGIONS, 1.25)
    del row["Left-unknown"], row["Right-unknown"]
    write_brainpainter(tmp_path / "b.csv", {"rs1 step 2": row, "rs2": {**row, "Putamen": 3}})
    with (tmp_path / "b.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    header = lines[0]
    assert header[:3] == ["Image-name-unique", "Right-bankssts", "Right-caudalanteriorcingulate"]
    assert header[35:37] == ["Right-unknown", "Left-bankssts"]
    assert header[70:] == ["Left-unknown", "Accumbens-area", "Caudate", "Cerebellum-White-Matter",
                           "Inf-Lat-Vent", "Pallidum", "Thalamus-Proper", "Amygdala",
                           "Cerebellum-Cortex", "Hippocampus", "Lateral-Ventricle", "Putamen",
                           "VentralDC"]  # fmt: skip
    values = dict(zip(header, lines[2], strict=True))
    assert lines[1][0] == "rs1 step 2"
    assert (values["Putamen"], values["Left-unknown"], values["Left-cuneus"]) == (
        "3",
        "0.5",
        "1.25",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Putamen": 3.01}, r"1 values outside 0 to 3 \(first: Putamen 3.01\)"),
        ({"Putamen": -0.1}, r"outside 0 to 3"),
        ({"Putamen": float("nan")}, r"Putamen nan"),
        ({"Putamen": None}, r"lacks 1 regions \(first: Putamen\)"),
        ({"Left-cuneos": 1.0}, r"unknown 1 regions.*Did you mean Left-cuneus"),
    ],
)
def test_rows_that_brainpainter_would_draw_wrongly_are_refused(tmp_path, change, message):
    row = {k: v for k, v in (dict.fromkeys(REGIONS, 1.0) | change).items() if v is not None}
    with pytest.raises(MalformedError, match=message):
        write_brainpainter(tmp_path / "b.csv", {"rs1": row})
    assert not (tmp_path / "b.csv").exists()


def test_pictures_need_names_of_files(tmp_path):
    with pytest.raises(UsageError, match="makes a file"):
        write_brainpainter(tmp_path / "b.csv", {"../rs1": dict.fromkeys(REGIONS, 1.0)})
    with pytest.raises(UsageError, match="nothing to write"):
        write_brainpainter(tmp_path / "b.csv", {})


def test_values_come_from_a_table_by_name(caplog):
    table = pd.DataFrame(
        {
            "region": ["L_Banks_superior_temporal_sulcus", "R_cuneus_cortex", "Thalamus_L",
                       "Thalamus_R", "brainstem"],
            "hemisphere": ["L", "R", "L", "R", ""],
            "mean": [-4.0, 1.0, 1.0, 3.0, 9.0],
        }
    )  # fmt: skip
    values = brainpainter_values(table, "mean")
    assert values["Left-bankssts"] == 3
    assert values["Right-cuneus"] == 0.75
    assert values["Thalamus-Proper"] == 1.5  # mean of both sides
    assert values["Left-cuneus"] == values["Left-unknown"] == 0.5
    assert len(values) == 82
    assert "does not draw 1 regions of the atlas (first: brainstem)" in caplog.text
    assert "lacks 77 of BrainPainter's 82 regions" in caplog.text
    twice = pd.concat([table, table.iloc[:1].assign(region="bankssts_L")])
    with pytest.raises(InconsistentError, match="are both BrainPainter's Left-bankssts"):
        brainpainter_values(twice, "mean")
    with pytest.raises(UsageError, match=r"no column 'means'\. Did you mean mean"):
        brainpainter_values(table, "means")
    with pytest.raises(InconsistentError, match="none of the 1 regions"):
        brainpainter_values(table.iloc[4:], "mean")
    with pytest.raises(InconsistentError, match="1 regions have no value"):
        brainpainter_values(table.assign(mean=[np.nan, 1, 1, 1, 1]), "mean")


@pytest.mark.parametrize(
    ("image", "names", "n_unmatched", "n_absent"),
    [
        ("Desikan_space-MNI152NLin6_res-2x2x2.nii.gz", "label_centres/Desikan.csv", 4, 14),
        ("atlas-desikankilliany.nii.gz", "atlas-desikankilliany.csv", 1, 5),
    ],
)
def test_real_desikan_atlases_fill_brainpainters_table(
    tmp_path, caplog, image, names, n_unmatched, n_absent
):
    atlas = read_atlas(data_file(f"atlases/{image}"), data_file(f"atlases/{names}"))
    numbers = atlas.numbers
    table = pd.DataFrame(
        {
            "region": [atlas.names[n] for n in numbers],
            "hemisphere": [atlas.hemispheres[n] for n in numbers],
            "mean": np.linspace(1, 2, len(numbers)),
        }
    )
    values = brainpainter_values(table, "mean")
    assert f"does not draw {n_unmatched} regions" in caplog.text
    assert f"lacks {n_absent} of" in caplog.text
    write_brainpainter(tmp_path / "b.csv", {"effect": values})
