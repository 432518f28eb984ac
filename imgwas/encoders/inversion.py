"""From scans to codes of a generator, and how much of a person comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from imgwas.encoders.base import Encoder
from imgwas.encoders.loading import batches, chunks
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.shapes import Bool, Float
from imgwas.types import Images

if TYPE_CHECKING:
    import pandas as pd

#: People that are told apart for a report.
MOST_COMPARED = 64
#: Voxels whose images are held at a time while people are told apart.
BLOCK = 2**22


def refine(
    generator: nn.Module,
    image: Float[torch.Tensor, "batch 1 x y z"],
    start: Float[torch.Tensor, "batch k"],
    *,
    steps: int,
    rate: float = 0.02,
    pull: float = 0.0,
    bounds: tuple[float, float] | None = None,
) -> Float[torch.Tensor, "batch k"]:
    r"""Improve codes so that the generator's pictures come closer to given images.

    Adam on each code's own :math:`\frac1V\sum (G(z)-x)^2 + \lambda\,\frac1k\sum z^2`, no step
    random. The best code of all steps is returned, the start included: nobody's picture becomes
    worse by that measure. A code does not depend on the other images of its batch.

    Parameters
    ----------
    generator : module
        In eval mode; its weights stay as they are.
    image : (batch, 1, x, y, z) tensor
        Normalised.
    start : (batch, k) tensor
        The inverter's answers.
    steps : int
    rate : float
        Of Adam.
    pull : float
        :math:`\lambda`, towards 0, the mean of a normal prior.
    bounds : pair of float, optional
        Limits that codes are put back into after each step, of a uniform prior.

    References
    ----------
    Zhu, Krähenbühl, Shechtman & Efros (2016), ECCV: inversion by optimisation from a predicted
    start.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(
        image.device.type, enabled=False
    ):  # fmt: skip
        goal = image.detach().clone().float()
        code = start.detach().clone().float()
        if bounds is not None:
            code = code.clamp(*bounds)
        code.requires_grad_()
        best, lowest = code.detach().clone(), torch.full((len(code),), float("inf"))
        lowest = lowest.to(code.device)
        optimizer = torch.optim.Adam([code], lr=rate)
        for step in range(steps + 1):
            error = ((generator(code) - goal) ** 2).flatten(1).mean(dim=1)
            error = error + pull * (code**2).mean(dim=1)
            with torch.no_grad():
                better = error < lowest
                lowest = torch.where(better, error, lowest)
                best[better] = code.detach()[better]
            if step == steps:
                break
            (code.grad,) = torch.autograd.grad(error.sum(), code)
            optimizer.step()
            if bounds is not None:
                with torch.no_grad():
                    code.clamp_(*bounds)
    return best


@dataclass(frozen=True)
class Likeness:
    """How much of people comes back from their latents, in voxels that count for all of them.

    Parameters
    ----------
    people : int
    error : float
        Mean squared difference of image and reconstruction, on the encoder's intensity scale.
    explained : float
        1 - squared error / squared difference from the mean image of these people: 0 for an
        encoder that gives everybody the mean.
    recognised : float
        Share of people whose reconstruction is nearer to their own image than to any other's.
    chance : float
        That share for reconstructions that say nothing: 1 / people.
    """

    people: int
    error: float
    explained: float
    recognised: float
    chance: float


def measure_likeness(
    encoder: Encoder, images: Images, rows: Sequence[int], *, batch: int = 8,
    inside: Bool[np.ndarray, " voxels"] | None = None,
) -> Likeness:  # fmt: skip
    """Encode and decode people, and see whether each is nearest to their own image.

    A decoder with a masked loss paints anything outside the mask, so only voxels that are in
    everybody's mask are compared.

    Parameters
    ----------
    encoder : Encoder
        One that decodes.
    images : Images
        On its grid.
    rows : sequence of int
        People to look at, best ones that no network has seen; all are held in memory.
    batch : int
        Images at a time.
    inside : (voxels,) bool array, optional
        Voxels to compare; by default those of :func:`shared_voxels`.

    Raises
    ------
    UsageError
        If the encoder does not decode, or fewer than two people were given.
    DegenerateError
        If the images of these people are all the same, or share no voxel.
    """
    if not encoder.can_decode or len(rows) < 2:
        raise UsageError(
            explain(
                f"{len(rows)} people and {encoder.name} were given",
                expected="At least two people, and an encoder that decodes",
            )
        )
    if inside is None:
        inside = shared_voxels(encoder, images, rows, batch=batch)
    real, made = [], []
    for _, raw in batches(images, chunks(list(rows), batch)):
        image = encoder.normalise(raw).image.flatten(1).numpy()  # type: ignore[attr-defined]
        decoded = encoder.decode(encoder.encode(raw.numpy()))
        real.append(image[:, inside])
        made.append(decoded.reshape(len(raw), -1)[:, inside])
    return _likeness(np.concatenate(real), np.concatenate(made))


def shared_voxels(
    encoder: Encoder, images: Images, rows: Sequence[int], *, batch: int = 8
) -> Bool[np.ndarray, " voxels"]:
    """Return which voxels count in the loss of every one of some people."""
    masks = (
        encoder.normalise(raw).mask.flatten(1).all(dim=0).numpy()  # type: ignore[attr-defined]
        for _, raw in batches(images, chunks(list(rows), batch))
    )
    return np.asarray(np.logical_and.reduce(list(masks)), bool)


def _likeness(real: np.ndarray, made: np.ndarray) -> Likeness:
    """Sums over voxels in blocks, in double precision."""
    n, n_voxels = real.shape
    distance = np.zeros((n, n))
    around_mean = 0.0
    step = max(1, BLOCK // n)
    for a in range(0, n_voxels, step):
        x, y = (v[:, a : a + step].astype(np.float64) for v in (real, made))
        around_mean += float(((x - x.mean(axis=0)) ** 2).sum())
        distance += (y**2).sum(axis=1)[:, None] + (x**2).sum(axis=1) - 2 * y @ x.T
    if not around_mean > 0:
        raise DegenerateError(
            explain("the images of these people are all the same, or share no voxel")
        )
    own = np.diag(distance)
    others = np.where(np.eye(n, dtype=bool), np.inf, distance).min(axis=1)
    return Likeness(
        people=n, error=float(own.mean() / n_voxels), explained=1 - float(own.sum()) / around_mean,
        recognised=float(np.mean(own < others)), chance=1 / n,
    )  # fmt: skip


def compare_likeness(
    encoders: Mapping[str, Encoder], images: Images, rows: Sequence[int], *, batch: int = 8
) -> pd.DataFrame:
    """Return one row an encoder with the fields of :class:`Likeness`, on the same people.

    All are compared in the same voxels, those that count for every encoder and person.
    ``error`` is on each encoder's own intensity scale; ``explained`` and ``recognised`` compare.
    """
    import pandas as pd

    inside = np.logical_and.reduce(
        [shared_voxels(one, images, rows, batch=batch) for one in encoders.values()]
    )
    found = {
        name: vars(measure_likeness(encoder, images, rows, batch=batch, inside=inside))
        for name, encoder in encoders.items()
    }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("encoder")
