"""A decoder as the maps need it: pictures, exact derivatives, finite steps, one row per person."""

from __future__ import annotations

from typing import Any

import numpy as np

from imgwas.encoders.base import Encoder
from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.shapes import Bool, Float, Float32, Float64


class Decoder:
    """The way from latents to voxels inside a mask.

    Parameters
    ----------
    encoder : Encoder
        With a decoder; its network stays where it is.
    mask : (x, y, z) bool array, optional
        Voxels to keep; all by default. A masked loss leaves the others undefined.
    affine : (4, 4) float array, optional
        Voxel indices to millimetres; that of the encoder by default.

    Raises
    ------
    UsageError
        If the encoder has no decoder.
    InconsistentError
        If the mask is not on the encoder's grid, or is empty.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        mask: Bool[np.ndarray, " *grid"] | None = None,
        affine: Float64[np.ndarray, "4 4"] | None = None,
    ) -> None:
        check_decodes(encoder)
        self.encoder = encoder
        self.grid = encoder.grid
        self.mask = np.ones(self.grid, bool) if mask is None else np.asarray(mask, bool)
        if self.mask.shape != self.grid or not self.mask.any():
            raise InconsistentError(
                explain(
                    f"the mask has grid {'x'.join(map(str, self.mask.shape))} and "
                    f"{int(self.mask.sum()):,} voxels",
                    expected=f"Voxels on the encoder's grid {'x'.join(map(str, self.grid))}",
                )
            )
        own = encoder.affine if affine is None else affine
        self.affine = np.eye(4) if own is None else np.asarray(own, np.float64)
        self._inside = np.flatnonzero(self.mask.ravel())

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return self.encoder.n_latents

    @property
    def n_voxels(self) -> int:
        """Number of voxels inside the mask."""
        return len(self._inside)

    def decode(self, latents: Float[np.ndarray, "batch k"]) -> Float32[np.ndarray, "batch voxels"]:
        """Return the voxels inside the mask of the pictures of some latents."""
        pictures = self.encoder.decode(np.asarray(latents, np.float32))
        return np.ascontiguousarray(pictures.reshape(len(pictures), -1)[:, self._inside])

    def derivative(
        self, latents: Float[np.ndarray, "batch k"], move: Float[np.ndarray, " k"]
    ) -> Float32[np.ndarray, "batch voxels"]:
        """Return the exact derivative of every person's picture along a move.

        The derivative is the Jacobian times ``move``, by forward-mode differentiation of the
        network [1]_; a linear decoder's is the difference of two pictures.

        References
        ----------
        .. [1] Griewank & Walther (2008), Evaluating Derivatives, SIAM.
        """
        where, step = np.asarray(latents, np.float32), np.asarray(move, np.float32)
        if getattr(self.encoder, "network", None) is None:
            origin = np.zeros((2, self.n_latents), np.float32)
            origin[1] = step
            still, moved = self.decode(origin)
            return np.repeat((moved - still)[None], len(where), axis=0)
        return self._forward_mode(where, step)

    def _forward_mode(self, where: np.ndarray, step: np.ndarray) -> np.ndarray:
        import torch

        encoder: Any = self.encoder
        encoder.network.eval()
        points = torch.from_numpy(np.ascontiguousarray(where)).to(encoder.device)
        tangent = torch.from_numpy(step).to(encoder.device).expand_as(points).contiguous()
        with torch.no_grad():
            slope = torch.func.jvp(encoder.network.decode, (points,), (tangent,))[1]
        flat: np.ndarray = slope.float().reshape(len(where), -1).cpu().numpy()
        return np.ascontiguousarray(flat[:, self._inside])

    def difference(
        self, latents: Float[np.ndarray, "batch k"], move: Float[np.ndarray, " k"]
    ) -> Float32[np.ndarray, "batch voxels"]:
        """Return half the change from ``-move`` to ``+move`` of every person's picture."""
        where = np.asarray(latents, np.float64)
        after = self.decode((where + move).astype(np.float32))
        before = self.decode((where - move).astype(np.float32))
        return np.asarray((after - before) / 2)

    def to_grid(self, values: Float[np.ndarray, " voxels"]) -> Float32[np.ndarray, " *grid"]:
        """Put values of the mask's voxels back on the grid, 0 elsewhere."""
        full = np.zeros(self.mask.size, np.float32)
        full[self._inside] = values
        return full.reshape(self.grid)


def check_decodes(encoder: Encoder) -> None:
    """Refuse an encoder that only goes from images to latents, or that reads tables."""
    if not encoder.can_decode:
        raise UsageError(
            explain(
                f"{encoder.name} has no decoder: it goes from images to latents only",
                expected="Maps need an encoder that turns latents into pictures",
                do="Train an autoencoder: imgwas train --encoder udip (imgwas encoders lists all)",
            )
        )
    if len(encoder.grid) < 2:
        raise UsageError(
            explain(f"{encoder.name} was made for tables", expected="A map needs an image")
        )
