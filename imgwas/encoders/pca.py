"""Principal components of images or tables: the baseline for every learned encoder.

Computed batch by batch (incremental singular value decomposition), so that neither the study nor
its covariance has to fit in memory: a state of k components meets a batch of b images in a
(k + b + 1)-square matrix of inner products. Tables are small: their rows are kept, standardised and
decomposed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from imgwas.encoders.base import Batch, Encoder, ImageSettings
from imgwas.errors import DegenerateError, InconsistentError, explain
from imgwas.shapes import Float32


@dataclass(frozen=True)
class PCASettings(ImageSettings):
    """Every voxel counts; ``extra`` components are carried along for accuracy and then dropped."""

    latents: int = 128
    mask: Literal["nonzero", "all"] = "all"
    extra: int = 32


class PCA(Encoder):
    """Principal components; latents are scores in units of the training spread."""

    name = "pca"
    paper = "Ross et al. (2008), IJCV 77:125 (incremental); Pearson (1901)"
    settings_type = PCASettings
    training: ClassVar[Mapping[str, object]] = {"batch": 64, "epochs": 1}

    def __init__(self, settings: PCASettings | None = None, *, affine: np.ndarray | None = None):
        super().__init__(settings, affine=affine)
        self.n_seen = 0
        self.mean = torch.zeros(0)
        self.components = torch.zeros(0, 0)
        self.singular = torch.zeros(0)
        self.shift, self.scale = torch.zeros(0), torch.zeros(0)
        self._table: list[torch.Tensor] = []

    def normalise(self, raw: torch.Tensor) -> Batch:
        """Scale prepared images as the settings say; standardise rows of a table."""
        from imgwas.encoders.inputs import image_batch

        if raw.ndim == 2:
            rows = (raw - self.shift) / self.scale if len(self.scale) else raw
            return Batch(rows, torch.ones_like(raw, dtype=torch.bool))
        return image_batch(raw, self.settings)

    def update(self, raw: torch.Tensor) -> None:
        """Take in a batch of images, or rows of a table, which wait until all are there.

        The columns of a table differ in unit: they are standardised, by the rows that were taken
        in, before :meth:`finish` decomposes them at once.
        """
        if raw.ndim == 2:
            self._table.append(raw.clone())
            return
        self._take(self.normalise(raw).image.flatten(1).double())

    def _take(self, rows: torch.Tensor) -> None:
        n_new, n_old = len(rows), self.n_seen
        new_mean = rows.mean(dim=0)
        if n_old == 0:
            stack = rows - new_mean
            self.mean = new_mean
        else:
            shift = (n_old * n_new / (n_old + n_new)) ** 0.5 * (self.mean - new_mean)
            weighted = self.components * self.singular[:, None]
            stack = torch.cat([weighted, rows - new_mean, shift[None]])
            self.mean = (n_old * self.mean + n_new * new_mean) / (n_old + n_new)
        self.n_seen += n_new
        self.singular, self.components = self._decompose(stack)

    def _decompose(self, stack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Singular values and right vectors of a wide matrix, from its small inner products."""
        keep = self.settings.latents + self.settings.extra
        if stack.shape[1] <= stack.shape[0]:
            _, singular, right = torch.linalg.svd(stack, full_matrices=False)
            usable = singular[:keep] > max(float(singular[0]) * 1e-6, 1e-30)
            return singular[:keep][usable], right[:keep][usable]
        values, vectors = torch.linalg.eigh(stack @ stack.T)
        values, vectors = values.flip(0)[:keep].clamp(min=0), vectors.flip(1)[:, :keep]
        singular = values.sqrt()
        usable = singular > max(float(singular[0]) * 1e-6, 1e-30)
        singular, vectors = singular[usable], vectors[:, usable]
        return singular, (vectors / singular).T @ stack

    def finish(self) -> None:
        """Keep the components asked for, each with its largest entry positive.

        Raises
        ------
        DegenerateError
            If the training images span fewer dimensions than latents were asked for.
        """
        if self._table:
            from imgwas.encoders.tabular import column_scale

            table = torch.cat(self._table)
            self._table = []
            self.shift, self.scale = column_scale(table)
            self._take(self.normalise(table).image.double())
        k = self.n_latents
        if len(self.singular) < k:
            raise DegenerateError(
                explain(
                    f"{self.n_seen:,} images span {len(self.singular)} dimensions",
                    expected=f"{k} components were asked for",
                    do=f"--set latents={max(1, len(self.singular))} or train on more images",
                )
            )
        components = self.components[:k]
        largest = components.abs().argmax(dim=1)
        sign = components[torch.arange(k), largest].sign()
        self.components = (components * sign[:, None]).float()
        self.mean, self.singular = self.mean.float(), self.singular[:k].float()

    @property
    def spread(self) -> torch.Tensor:
        """Standard deviation of each score over the training images."""
        spread: torch.Tensor = self.singular / max(1, self.n_seen - 1) ** 0.5
        return spread

    def encode(self, images: Float32[np.ndarray, "batch ..."]) -> Float32[np.ndarray, "batch k"]:
        """Return scores divided by their training spread."""
        raw = torch.from_numpy(np.ascontiguousarray(images, np.float32))
        if tuple(raw.shape[1:]) != self.grid:
            raise InconsistentError(
                explain(
                    f"images of grid {tuple(raw.shape[1:])} were given",
                    expected=f"the components were made for {self.grid}",
                )
            )
        rows = self.normalise(raw).image.flatten(1)
        scores = (rows - self.mean) @ self.components.T / self.spread
        out: np.ndarray = scores.numpy()
        return out

    def decode(self, latents: Float32[np.ndarray, "batch k"]) -> Float32[np.ndarray, "batch ..."]:
        """Return the image, on the scale of :meth:`normalise`, that scores stand for."""
        given = np.ascontiguousarray(latents, np.float32)
        if given.ndim != 2 or given.shape[1] != self.n_latents:
            raise InconsistentError(
                explain(
                    f"latents of shape {given.shape} were given",
                    expected=f"{self.name} has {self.n_latents} latents",
                )
            )
        scores = torch.from_numpy(given) * self.spread
        image: np.ndarray = (scores @ self.components + self.mean).numpy()
        return image.reshape(len(image), *self.grid)

    def state(self) -> dict[str, torch.Tensor]:
        """Return mean, components, singular values, number of images, and scale of a table."""
        return {
            "mean": self.mean.contiguous(),
            "components": self.components.contiguous(),
            "singular": self.singular.contiguous(),
            "n_seen": torch.tensor(self.n_seen),
            "shift": self.shift.contiguous(),
            "scale": self.scale.contiguous(),
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the numbers of :meth:`state`."""
        n_voxels = int(np.prod(self.grid))
        n_scaled = len(state["scale"]) and n_voxels if "scale" in state else 0
        wanted = {
            "mean": (n_voxels,), "components": (self.n_latents, n_voxels),
            "singular": (self.n_latents,), "n_seen": (), "shift": (n_scaled,),
            "scale": (n_scaled,),
        }  # fmt: skip
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if found != wanted:
            raise InconsistentError(
                explain("the stored components do not fit the settings",
                        expected=f"shapes {wanted}", where=f"found {found}")
            )  # fmt: skip
        self.mean, self.components = state["mean"], state["components"]
        self.singular, self.n_seen = state["singular"], int(state["n_seen"])
        self.shift, self.scale = state["shift"], state["scale"]

    def n_parameters(self) -> int:
        """Numbers of mean, components and spreads."""
        n_voxels = int(np.prod(self.grid))
        return n_voxels * (self.n_latents + 1) + self.n_latents
