"""A decoder as the maps need it: pictures, derivatives, finite steps, one row per person."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from imgwas.encoders.base import Encoder
from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.shapes import Bool, Float, Float32, Float64

logger = logging.getLogger(__name__)

#: Half of the distance of a finite difference, in SD of people along the move.
STEP = 0.05
#: Spacing of the pictures that rounding noise is measured from, in SD.
_NOISE_SPACING = 1e-4


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
    spread : (latents,) float array, optional
        SD of people in each latent; 1 by default. Finite differences step by a share of it.

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
        spread: Float64[np.ndarray, " k"] | None = None,
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
        sd = np.ones(self.n_latents) if spread is None else np.asarray(spread, np.float64)
        self.spread = np.where(sd > 0, sd, 1.0)
        self._is_steady = False

    @property
    def is_exact(self) -> bool:
        """Whether derivatives are exact; of pictures that come from many steps they are not."""
        return bool(getattr(self.encoder, "exact_derivative", True))

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
        """Return the derivative of every person's picture along a move.

        The Jacobian times ``move``. Where the encoder has an exact one, by forward-mode
        differentiation of the network [1]_; a linear decoder's is the difference of two pictures.
        Elsewhere (a diffusion model paints in many steps) by the symmetric difference
        ``(f(z + h v) - f(z - h v)) / 2h``, h being ``STEP`` SD of people along v: its error falls
        as h squared, and rounding adds :func:`decoding_noise` over h.

        References
        ----------
        .. [1] Griewank & Walther (2008), Evaluating Derivatives, SIAM.
        """
        where, step = np.asarray(latents, np.float32), np.asarray(move, np.float32)
        if not self.is_exact:
            return self._finite(where, step)
        if getattr(self.encoder, "network", None) is None:
            origin = np.zeros((2, self.n_latents), np.float32)
            origin[1] = step
            still, moved = self.decode(origin)
            return np.repeat((moved - still)[None], len(where), axis=0)
        return self._forward_mode(where, step)

    def _finite(self, where: np.ndarray, move: np.ndarray) -> np.ndarray:
        """Symmetric difference over ``STEP`` SD to either side."""
        if not np.any(move):
            return np.zeros((len(where), self.n_voxels), np.float32)
        if not self._is_steady:
            self._check_is_steady(where[:1])
        share = STEP / self.distance(move)
        return np.asarray(self.difference(where, share * move) / share, np.float32)

    def distance(self, move: Float[np.ndarray, " k"]) -> float:
        """Length of a move, each latent in SD of people."""
        return float(np.linalg.norm(np.asarray(move, np.float64) / self.spread))

    def _check_is_steady(self, where: np.ndarray) -> None:
        """Refuse a decoder that paints the same latents differently: differences would be noise."""
        first, second = self.decode(where), self.decode(where)
        if not np.array_equal(first, second):
            raise InconsistentError(
                explain(
                    f"{self.encoder.name} paints the same latents differently each time (by up to "
                    f"{np.abs(first - second).max():.3g})",
                    expected="A map needs one picture for one set of latents",
                    do="Use a device and settings under which the decoder repeats itself",
                )
            )
        self._is_steady = True

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


def decoding_noise(
    decoder: Decoder, latents: Float[np.ndarray, "1 k"], move: Float[np.ndarray, " k"]
) -> float:
    """Rounding noise of pictures: how much they jump between latents that hardly differ.

    Nine pictures 1e-4 SD apart along a move; their fourth differences cancel everything smooth and
    keep 70 times the variance of the noise [1]_. A derivative by finite differences with steps of h
    is as noisy as this over ``sqrt(2) h``.

    Parameters
    ----------
    decoder : Decoder
    latents : (1, k) float array
        One person.
    move : (k,) float array
        Direction of the nine.

    Returns
    -------
    float
        Standard deviation over voxels. Unit: intensity.

    References
    ----------
    .. [1] Moré & Wild (2011), SIAM J Sci Comput 33:1292.
    """
    length = decoder.distance(move)
    if not length:
        raise UsageError(explain("noise is measured along a move", expected="Not all zeros"))
    step = _NOISE_SPACING / length * np.asarray(move, np.float64)
    pictures = [decoder.decode((latents + k * step).astype(np.float32))[0] for k in range(9)]
    fourth = np.diff(np.asarray(pictures, np.float64), 4, axis=0)
    return float(np.sqrt(np.square(fourth).mean() / 70))


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
