"""Small maps and heads in millimetres, and where their colours are in a picture."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from imgwas.images.nifti import Volume
from imgwas.images.space import reorient
from imgwas.types import BrainMap

GRID, ZOOMS = (25, 31, 21), (3.0, 2.0, 4.0)
MARK = (-18.0, 14.0, 8.0)


def affine_of(grid=GRID, zooms=ZOOMS) -> np.ndarray:
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = -np.asarray(zooms) * (np.asarray(grid) - 1) / 2
    return affine


def places(affine=None, grid=GRID) -> np.ndarray:
    """Millimetres of every voxel, (x, y, z, 3)."""
    affine = affine_of() if affine is None else affine
    indices = np.moveaxis(np.indices(grid), 0, -1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def head(affine=None, grid=GRID) -> np.ndarray:
    """Mask of an ellipsoid in millimetres."""
    return ((places(affine, grid) / (30, 26, 34)) ** 2).sum(axis=-1) < 1


def map_of(values, affine=None, mask=None, **change) -> BrainMap:
    affine = affine_of() if affine is None else affine
    fields = {"statistic": "z", "unit": "z", "name": "rs1", "direction": np.zeros(2)} | change
    return BrainMap(values.astype(np.float32), head(affine, values.shape) if mask is None else mask,
                    affine, **fields)  # fmt: skip


def marked(affine=None, grid=GRID, height=5.0) -> BrainMap:
    """Zero but for a ball around a mark on the left, in front, above the middle."""
    distance = np.linalg.norm(places(affine, grid) - MARK, axis=-1)
    return map_of(np.where(distance < 7, height - 0.2 * distance, 0.0), affine)


def turned(brain_map: BrainMap, axes: str) -> BrainMap:
    """The same map with other axes."""
    values = reorient(Volume(brain_map.values, brain_map.affine), axes)
    mask = reorient(Volume(brain_map.mask.astype(np.float32), brain_map.affine), axes)
    return map_of(values.values, values.affine, mask.values > 0)


def raster(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def colour_at(ax, x, y, picture) -> np.ndarray:
    column, row = ax.transData.transform((x, y))
    return picture[picture.shape[0] - 1 - int(row), int(column)]


def is_red(colour) -> bool:
    return colour[0] > colour[2] + 60


def letters(ax) -> dict[str, float]:
    """Letters of the sides and where they stand, in pixels."""
    return {t.get_text(): t.get_window_extent().x0 for t in ax.texts if len(t.get_text()) == 1}


def oblique() -> np.ndarray:
    turn = nib.eulerangles.euler2mat(z=0.3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(ZOOMS)
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(GRID) - 1) / 2
    return affine


def colours_of(figure):
    """Signed images of a figure: those whose limits are not 0 and 1."""
    return [im for ax in figure.axes for im in ax.images if im.get_clim()[0] < 0]


def grown(amount: float) -> np.ndarray:
    """A head whose marked ball is brighter by the amount."""
    ball = np.linalg.norm(places() - MARK, axis=-1) < 8
    return np.where(head(), 2.0 + places()[..., 2] / 40 + amount * ball, 0).astype(np.float32)
