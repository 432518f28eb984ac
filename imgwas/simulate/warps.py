"""Warps that give every region of a brain the volume it is asked to have.

The image of a person is ``T(y + u(y))``: the template read at displaced points. ``u`` is a smooth
nuisance field plus one field per region. The field of region k with share S_k solves

    u_k = -grad p,   laplace p = S_k * (G_a - G_b)

for Gaussians of widths a < b, so that it expands the region, squeezes a shell around it, and
vanishes beyond. The amounts of all fields are found by Newton's method on the logarithms of the
volumes as the image shows them, so that one region grows and the others keep their volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Float32, Float64, Int64
from imgwas.simulate.template import BrainTemplate

#: Widths of the Gaussians that blur a region and its surroundings. Unit: mm; at least so many
#: voxels, so that a field is smooth on any grid.
INNER, OUTER = 3.0, 13.0
INNER_VOXELS, OUTER_VOXELS = 0.75, 2.5
#: Volumes are met to this relative error; Newton's steps until they are.
TOLERANCE, STEPS = 0.001, 8
#: A Jacobian determinant below this is no warp that a brain could have.
SMALLEST_JACOBIAN = 0.05


@dataclass(frozen=True)
class Warps:
    """The fields of a template's regions, and where they are evaluated.

    Parameters
    ----------
    template : BrainTemplate
    voxels : (voxels,) int array
        Voxels in and near the brain, in C order: only these are displaced.
    points : (3, points) float32 array
        Their indices along x, y, z, and again with 0.5 added: volumes are sums over both lattices,
        which are a body-centred one, because sums over voxels alone miss the volumes of small
        regions by up to 10 %.
    fields : (regions, 3 points) sparse array
        Displacements in voxels per unit.
    response : (regions, regions) float array
        Change of each log-volume per unit of each field, and how to undo it.
    """

    template: BrainTemplate
    voxels: Int64[np.ndarray, " voxels"]
    points: Float32[np.ndarray, "3 points"]
    fields: Any
    response: Float64[np.ndarray, "regions regions"]

    @property
    def base(self) -> Float64[np.ndarray, " regions"]:
        """Volumes of the template's regions. Unit: voxels."""
        return np.asarray(self.template.shares.sum(axis=1)).ravel()


@dataclass(frozen=True)
class Warp:
    """Where one person's voxels are read in the template.

    ``corners`` (8, voxels) are voxels of the template, ``weights`` how much of each is read;
    ``volumes`` (regions,) are in voxels; ``smallest_jacobian`` is below 0 where the warp folds.
    """

    where: Float32[np.ndarray, "3 voxels"]
    corners: Int64[np.ndarray, "8 voxels"]
    weights: Float32[np.ndarray, "8 voxels"]
    volumes: Float64[np.ndarray, " regions"]
    smallest_jacobian: float


def make_warps(template: BrainTemplate) -> Warps:
    """Compute the fields of all regions and how volumes answer to them."""
    from scipy import ndimage, sparse

    near = ndimage.binary_dilation(template.mask, iterations=3)
    voxels = np.flatnonzero(near)
    points = np.array(np.unravel_index(voxels, template.grid), np.float32)
    points = np.concatenate([points, points + np.float32(0.5)], axis=1)
    rows = [_field(template, k, voxels) for k in range(len(template.regions))]
    fields = sparse.csr_array(np.array(rows, np.float32))
    plain = Warps(template, voxels, points, fields, np.eye(len(rows)))
    return Warps(template, voxels, points, fields, _response(plain))


def _field(
    template: BrainTemplate, row: int, voxels: Int64[np.ndarray, " voxels"]
) -> Float32[np.ndarray, " displacements"]:
    """Displacement of one region's field at both lattices."""
    from scipy import fft

    share = np.asarray(template.shares[[row]].todense()).reshape(template.grid)
    inner = max(INNER / template.zoom, INNER_VOXELS)
    outer = max(OUTER / template.zoom, OUTER_VOXELS)
    shape = [fft.next_fast_len(n + int(np.ceil(3 * outer)), real=True) for n in template.grid]
    q = [2 * np.pi * np.fft.fftfreq(n) for n in shape[:2]] + [2 * np.pi * np.fft.rfftfreq(shape[2])]
    q = np.meshgrid(*q, indexing="ij", sparse=True)
    square = sum(k**2 for k in q)
    blur = np.exp(-square * inner**2 / 2) - np.exp(-square * outer**2 / 2)
    potential = fft.rfftn(share, shape) * blur / np.maximum(square, 1e-12)
    inside = tuple(slice(n) for n in template.grid)
    parts: list[np.ndarray] = []
    for along in q:
        here = 1j * along * potential
        both = (here, here * np.exp(0.5j * sum(q)))  # the second lattice is half a voxel on
        parts += [fft.irfftn(one, shape)[inside].ravel()[voxels] for one in both]
    flat = np.array(parts, np.float32).ravel()
    flat[np.abs(flat) < 1e-4 * np.abs(flat).max()] = 0
    return flat


def _response(warps: Warps) -> np.ndarray:
    """Derivative of log-volumes by the amounts, from small steps to both sides."""
    step = 0.02
    columns = []
    for k in range(len(warps.base)):
        unit = np.zeros(len(warps.base))
        unit[k] = step
        up = np.log(_measure(warps, _move(warps, unit, None))[2])
        down = np.log(_measure(warps, _move(warps, -unit, None))[2])
        columns.append((up - down) / (2 * step))
    return np.column_stack(columns)


def _move(
    warps: Warps, amounts: np.ndarray, nuisance: np.ndarray | None
) -> Float32[np.ndarray, "3 points"]:
    shift = np.asarray(warps.fields.T @ amounts.astype(np.float32)).reshape(3, -1)
    return np.asarray(warps.points + (shift if nuisance is None else shift + nuisance))


def _measure(
    warps: Warps, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Float64[np.ndarray, " regions"]]:
    """Corners and weights of linear interpolation, and the volumes after the warp."""
    corners, weights = _corners(where, warps.template.grid)
    n = int(np.prod(warps.template.grid))
    density = np.bincount(corners.ravel(), weights.ravel(), minlength=n) / 2
    return corners, weights, np.asarray(warps.template.shares @ density)


def _corners(
    where: np.ndarray, grid: tuple[int, ...]
) -> tuple[Int64[np.ndarray, "8 points"], Float32[np.ndarray, "8 points"]]:
    limit = np.array(grid, np.float32)[:, None] - 1.001
    inside = np.clip(where, 0, limit)
    low = inside.astype(np.int64)
    part = inside - low
    strides = (grid[1] * grid[2], grid[2], 1)
    first = low[0] * strides[0] + low[1] * strides[1] + low[2]
    corners = np.empty((8, where.shape[1]), np.int64)
    weights = np.empty((8, where.shape[1]), np.float32)
    for corner in range(8):
        bits = (corner >> 2 & 1, corner >> 1 & 1, corner & 1)
        corners[corner] = first + sum(b * s for b, s in zip(bits, strides, strict=True))
        x, y, z = (p if bit else 1 - p for bit, p in zip(bits, part, strict=True))
        np.multiply(x * y, z, out=weights[corner])
    return corners, weights


def solve_warp(
    warps: Warps,
    log_volumes: Float64[np.ndarray, " regions"],
    nuisance: Float32[np.ndarray, "3 points"] | None = None,
) -> Warp:
    """Find the warp after which the regions have the volumes asked for.

    Parameters
    ----------
    warps : Warps
    log_volumes : (regions,) float array
        Logarithm of each volume over the template's.
    nuisance : (3, points) float32 array, optional
        Displacement of the points for other reasons, in voxels.

    Returns
    -------
    Warp
        Of the voxels; its volumes are those of both lattices.

    Raises
    ------
    DegenerateError
        If no invertible warp of this kind does it.
    """
    wanted = log_volumes + np.log(warps.base)
    amounts = np.zeros(len(wanted))
    for _ in range(STEPS):
        where = _move(warps, amounts, nuisance)
        corners, weights, volumes = _measure(warps, where)
        error = wanted - np.log(np.maximum(volumes, 1e-6))
        if np.abs(error).max() < TOLERANCE:
            break
        amounts = amounts + np.linalg.solve(warps.response, np.clip(error, -0.5, 0.5))
    n = len(warps.voxels)
    smallest = smallest_jacobian(warps, where[:, :n])
    if smallest < SMALLEST_JACOBIAN or np.abs(error).max() > 10 * TOLERANCE:
        raise _folds(warps, log_volumes, smallest, error)
    return Warp(where[:, :n], corners[:, :n], weights[:, :n], volumes, smallest)


def smallest_jacobian(warps: Warps, where: np.ndarray) -> float:
    """Smallest determinant of the derivative of the map, over the voxels of the brain."""
    x, y, z = warps.template.grid
    full = np.indices((x, y, z), np.float32).reshape(3, -1)
    full[:, warps.voxels] = where
    d = [np.gradient(part.reshape(x, y, z)) for part in full]
    determinant = (
        d[0][0] * (d[1][1] * d[2][2] - d[1][2] * d[2][1])
        - d[0][1] * (d[1][0] * d[2][2] - d[1][2] * d[2][0])
        + d[0][2] * (d[1][0] * d[2][1] - d[1][1] * d[2][0])
    )
    return float(determinant[warps.template.mask].min())


def _folds(warps: Warps, wanted: np.ndarray, smallest: float, error: np.ndarray) -> DegenerateError:
    worst = int(np.abs(wanted).argmax())
    return DegenerateError(
        explain(
            f"{warps.template.regions[worst]} would change its log-volume by {wanted[worst]:+.2f}, "
            "and no invertible warp does that",
            expected=f"A Jacobian above {SMALLEST_JACOBIAN} everywhere; it falls to "
            f"{smallest:.2f}, and volumes miss by {np.abs(error).max():.1%}",
            do="Choose smaller effects (--effects, column amount) or less variation (--region-sd)",
        )
    )
