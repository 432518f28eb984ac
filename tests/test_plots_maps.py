"""Pages of maps: where they look, and which regions they name."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from imgwas.images.nifti import Volume
from imgwas.plots.map_figures import map_page, place_of, save_map_figures
from imgwas.plots.matrix import shortened
from imgwas.types import Atlas, BrainMap

AFFINE = np.array([[-4.0, 0, 0, 40], [0, 4, 0, -40], [0, 0, 4, -30], [0, 0, 0, 1]])


@dataclass(frozen=True)
class OneMap:
    effect: BrainMap
    regions: pd.DataFrame
    z: BrainMap | None = None
    is_finding: bool = True
    summary: dict[str, object] = field(default_factory=lambda: {"name": "age", "per": "SD"})


def atlas() -> Atlas:
    labels = np.zeros((20, 20, 16), np.int32)
    labels[4:8, 8:12, 6:10], labels[12:16, 8:12, 6:10] = 1, 2
    names = {1: "AnteriorLimbInternalCapsule_R", 2: "AnteriorLimbInternalCapsule_L"}
    return Atlas(labels, AFFINE, names, {1: "R", 2: "L"})


def one_map(first: int = 1, n_regions: int = 2) -> OneMap:
    """A voxel at the edge changes most, a voxel of region 2 by itself, and all of region 1."""
    values = np.zeros((20, 20, 16), np.float32)
    values[2, 10, 8] = 9
    values[4:8, 8:12, 6:10] = -1
    values[13, 9, 7] = 0.5
    mask = np.zeros(values.shape, bool)
    mask[2:18, 2:18, 2:14] = True
    effect = BrainMap(
        values=values, mask=mask, affine=AFFINE, statistic="effect", unit="intensity per SD",
        name="age", direction=np.ones(3),
    )  # fmt: skip
    order = [first, 3 - first]
    regions = pd.DataFrame({
        "region": [atlas().names[n] for n in order], "label": order,
        "hemisphere": [atlas().hemispheres[n] for n in order],
        "effect": [-1.0, 0.1], "volume": [np.nan, 0.02],
    })  # fmt: skip
    return OneMap(effect, regions.head(n_regions))


def test_planes_go_through_the_region_that_stands_out():
    at = place_of(one_map(), atlas())
    index = np.rint(np.linalg.inv(AFFINE) @ [*at, 1])[:3].astype(int)
    assert atlas().labels[tuple(index)] == 1
    at = place_of(one_map(first=2), atlas())
    np.testing.assert_allclose(at, (AFFINE @ [13, 9, 7, 1])[:3])


def test_without_an_atlas_the_planes_go_through_what_changes_over_many_voxels():
    quiet = one_map(n_regions=0)
    quiet.effect.values[2, 10, 8] = 3  # more than the region, but alone
    index = np.rint(np.linalg.inv(AFFINE) @ [*place_of(quiet), 1])[:3].astype(int)
    assert atlas().labels[tuple(index)] == 1


@pytest.mark.parametrize("n_regions", [0, 2])
def test_a_page_names_regions_with_their_side(n_regions):
    one = one_map(n_regions=n_regions)
    background = Volume(np.abs(one.effect.values) + 1, AFFINE)
    page = map_page(one, background, atlas() if n_regions else None)
    page.canvas.draw()
    words = [t.get_text() for ax in page.findobj(Axes)
             for t in ax.get_yticklabels()]  # fmt: skip
    assert any(word.endswith("_L") for word in words) == bool(n_regions)
    assert any("x = " in t.get_text() for t in page.findobj(Text))


def test_names_are_cut_where_no_side_is_lost():
    both = {shortened(name) for name in atlas().names.values()}
    assert len(both) == 2
    assert all(len(name) == 24 for name in both)
    assert shortened("Caudate_R") == "Caudate_R"


def test_figures_of_several_maps_come_with_a_heatmap(tmp_path):
    maps = [one_map(), one_map(first=2)]
    maps[1].summary["name"] = "sex"
    background = Volume(np.abs(maps[0].effect.values) + 1, AFFINE)
    steps: list[int] = []
    stems = {"age": "age", "sex": "sex"}
    written = save_map_figures(
        tmp_path / "f", maps, background, atlas(), stems=stems, progress=steps.append
    )
    assert [path.name for path in written] == ["age.png", "sex.png", "regions.png"]
    assert len(steps) == 2
