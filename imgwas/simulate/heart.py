"""A beating heart with two chambers, whose wall and pump follow planted effects.

The left ventricle is half an ellipsoid of length L and radius a at the valve, seen along its long
axis; its volume is ``2/3 pi a^2 L``. The wall keeps its volume while it beats, so that it thickens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imgwas.shapes import Float32, Float64

#: Edge of the square picture. Unit: mm.
FIELD_OF_VIEW = 240.0
#: Length over radius of the cavity at the end of diastole; its shortening per ejected share.
_ELONGATION, _SHORTENING = 3.3, 0.25
#: Intensities of bright-blood cine pictures.
_BLOOD, _MUSCLE, _LUNG, _FAT, _LIVER = 1.0, 0.38, 0.07, 0.75, 0.48


@dataclass(frozen=True)
class Heart:
    """One person's heart.

    Parameters
    ----------
    wall_thickness : float
        Of the left ventricle at the end of diastole. Unit: mm.
    end_diastolic_volume : float
        Unit: ml.
    ejection_fraction : float
    angle, centre : float, (float, float)
        Direction of the axis, in radians, and place of the valve, in mm from the picture's centre.
    """

    wall_thickness: float
    end_diastolic_volume: float
    ejection_fraction: float
    angle: float = 0.6
    centre: tuple[float, float] = (0.0, 0.0)

    @property
    def end_systolic_volume(self) -> float:
        """Unit: ml."""
        return self.end_diastolic_volume * (1 - self.ejection_fraction)


def contraction(n_frames: int) -> Float64[np.ndarray, " frames"]:
    """How far the ventricle has emptied in each frame: 0 at the end of diastole, 1 of systole.

    It empties in 36 % of the beat, fills to three quarters by 60 %, rests, and is filled by the
    atrium from 82 %.
    """
    time = np.arange(n_frames) / n_frames
    knots = np.array([0.0, 0.36, 0.60, 0.82, 1.0])
    levels = np.array([0.0, 1.0, 0.25, 0.22, 0.0])
    part = np.clip(np.searchsorted(knots, time, side="right") - 1, 0, 3)
    share = (time - knots[part]) / (knots[part + 1] - knots[part])
    smooth = (1 - np.cos(np.pi * share)) / 2
    emptied: np.ndarray = levels[part] + (levels[part + 1] - levels[part]) * smooth
    return np.asarray(emptied / emptied.max())


def shape_over_time(
    heart: Heart, n_frames: int
) -> tuple[Float64[np.ndarray, "3 frames"], Float64[np.ndarray, " frames"]]:
    """Radius, length and wall of the left ventricle in each frame, in mm, and its volume in ml."""
    emptied = contraction(n_frames)
    ejected = heart.ejection_fraction * emptied
    volume = 1000 * heart.end_diastolic_volume * (1 - ejected)
    radius = (1.5 * volume[0] / (np.pi * _ELONGATION)) ** (1 / 3)
    length = _ELONGATION * radius * (1 - _SHORTENING * ejected)
    radii = np.sqrt(1.5 * volume / (np.pi * length))
    wall = np.full(n_frames, heart.wall_thickness)
    muscle = _shell(radii[0], length[0], heart.wall_thickness)
    for _ in range(20):  # Newton's method on the volume of the wall, which stays
        slope = (_shell(radii, length, wall + 1e-4) - _shell(radii, length, wall)) / 1e-4
        wall = wall + (muscle - _shell(radii, length, wall)) / slope
    return np.stack([radii, length, wall]), volume / 1000


def _shell(radius: Any, length: Any, wall: Any) -> Any:
    """Volume of the wall. Unit: cubic millimetres."""
    return 2 / 3 * np.pi * ((radius + wall) ** 2 * (length + wall) - radius**2 * length)


def draw_heart(
    heart: Heart, *, grid: int = 96, n_frames: int = 50
) -> tuple[Float32[np.ndarray, "x y frames"], Float32[np.ndarray, "parts x y frames"]]:
    """Draw a cine without noise.

    Parameters
    ----------
    heart : Heart
    grid : int
        Pixels along both edges of the picture, which is 240 mm wide.
    n_frames : int
        One beat.

    Returns
    -------
    values : (x, y, frames) float32 array
    shares : (3, x, y, frames) float32 array
        How much of each pixel is cavity and wall of the left ventricle, and right ventricle.
    """
    pixel = FIELD_OF_VIEW / grid
    axis = ((np.arange(grid) + 0.5 - grid / 2) * pixel).astype(np.float32)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    x, y = -x[:, :, None], y[:, :, None]  # the apex points to the left of the person
    u, v = x + heart.centre[0], y - heart.centre[1]
    radius, length, wall = shape_over_time(heart, n_frames)[0].astype(np.float32)
    emptied = contraction(n_frames).astype(np.float32)
    # the valve's plane moves towards the apex, which stays
    down = np.cos(heart.angle) * u + np.sin(heart.angle) * v - (length[0] - length)
    across = np.sin(heart.angle) * u - np.cos(heart.angle) * v
    cavity = _half(down, across, length, radius, pixel)
    outer = _half(down, across, length + wall, radius + wall, pixel)
    muscle = np.maximum(outer - cavity, 0)
    right = _right(down, across, length, radius + wall, emptied, pixel) * (1 - outer)
    values = _background(x, y, pixel)
    sac = _ellipse(down - 0.32 * length[0], across + 22, 82.0, 68.0, pixel)
    values = values * (1 - 0.55 * sac) + 0.55 * sac * 0.30
    for share, level in _atria(down, across, radius, wall, emptied, pixel):
        values = values * (1 - share) + level * share
    rim = _right(down, across, length, radius + wall, emptied, pixel, 3.5)
    for share, level in ((rim * (1 - outer), _MUSCLE), (right, _BLOOD * 0.96),
                         (muscle, _MUSCLE), (cavity, _BLOOD)):  # fmt: skip
        values = values * (1 - share) + level * share
    shares = np.stack([cavity, muscle, right])
    return values.astype(np.float32), shares.astype(np.float32)


def _soft(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Share of a pixel inside a surface at that distance, positive inside."""
    return np.asarray(np.clip(0.5 + distance / pixel, 0, 1))


def _ellipse(u: Any, v: Any, a: Any, b: Any, pixel: float) -> np.ndarray:
    radius = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    slope = np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2)
    return _soft(radius * (1 - radius) / np.maximum(slope, 1e-4), pixel)


def _half(down: Any, across: Any, length: Any, radius: Any, pixel: float) -> np.ndarray:
    """Half an ellipse below the plane of the valve."""
    return np.asarray(_ellipse(down, across, length, radius, pixel) * _soft(down, pixel))


def _right(
    down: Any, across: Any, length: Any, left: Any, emptied: Any, pixel: float, rim: float = 0.0
) -> np.ndarray:
    """The right ventricle: a crescent at the septum, which empties with the left one."""
    width = 34 * (1 - 0.30 * emptied) + rim
    shape = _half(down + rim, across + left[0] + 4, 0.86 * length + rim, width + 8, pixel)
    return np.asarray(shape * _soft(-across, pixel))


def _atria(
    down: Any, across: Any, radius: Any, wall: Any, emptied: Any, pixel: float
) -> list[tuple[np.ndarray, float]]:
    """Walls and blood of both atria, which fill while the ventricles empty."""
    size = 19 + 5 * emptied
    parts = []
    for middle in (0.0, -(2.0 * radius[0] + wall[0]) * 0.95):
        where = (down + size + 5.0, across - middle)
        parts.append((_ellipse(*where, size + 2.5, 1.12 * size + 2.5, pixel), _MUSCLE))
        parts.append((_ellipse(*where, size, 1.12 * size, pixel), 0.93 * _BLOOD))
    return parts


def _background(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Chest: fat, muscle, lungs, liver, spine and the descending aorta, which do not move."""
    values = 0.02 + 0 * x + 0 * y
    for u, v, a, b, level in (
        (x, y, 116, 100, _FAT), (x, y, 108, 91, 0.30), (x, y, 100, 84, _LUNG),
        (x - 8, y + 62, 62, 34, 0.25), (x + 70, y - 24, 40, 52, _LIVER),
        (x + 6, y + 74, 17, 15, 0.42), (x - 26, y + 58, 10, 10, 0.9 * _BLOOD),
    ):  # fmt: skip
        share = _ellipse(u, v, float(a), float(b), pixel)
        values = values * (1 - share) + level * share
    return np.asarray(values)
