"""What every encoder is: settings, a network, latents in and out, and one way to be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.shapes import Float32

if TYPE_CHECKING:
    import torch
    from torch import nn

    from imgwas.encoders.loop import Loop


#: Lowest and highest intensity under each scaling that has any.
SPANS: Mapping[str, tuple[float, float]] = {"symmetric": (-1.0, 1.0), "minmax": (0.0, 1.0)}


@dataclass(frozen=True)
class ImageSettings:
    """Settings that all encoders of images share.

    ``grid`` is that of the training images unless given. ``intensity`` is applied to every image
    before the network sees it: ``zscore`` over the voxels that are not zero, ``minmax`` to 0..1,
    ``symmetric`` to -1..1, or ``none``. ``background`` says what zero voxels become under zscore.
    ``mask`` says which voxels count in the loss.
    """

    grid: tuple[int, ...] = ()
    latents: int = 128
    intensity: Literal["zscore", "minmax", "symmetric", "none"] = "zscore"
    background: Literal["shift", "zero"] = "shift"
    mask: Literal["nonzero", "all"] = "nonzero"

    #: whole numbers that may be 0
    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ("extra",)

    def __post_init__(self) -> None:
        """Refuse numbers that no network can be built from; every setting passes here."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool):
                check_range(
                    field.name, value, low=0 if field.name in self.MAY_BE_ZERO else 1, high=1e9
                )
            elif isinstance(value, float):
                # a share of units; weights and scales of any other size
                low, high = (0.0, 0.999) if field.name == "dropout" else (-1e30, 1e30)
                check_range(field.name, value, low=low, high=high)
        for n in self.grid:
            check_range("grid", n, low=1)


@dataclass(frozen=True)
class Batch:
    """What a network is trained on.

    Parameters
    ----------
    image : (batch, 1, x, y, z) or (batch, features) tensor
        Intensities as the network wants them.
    mask : same shape, bool
        Voxels that count in the loss.
    target : (batch, ...) tensor, optional
        Class numbers or values of a supervised network.
    """

    image: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor | None = None


@dataclass(frozen=True)
class Ratio:
    """A loss as a sum and what it is divided by, so that it can be pooled over batches."""

    total: torch.Tensor
    weight: torch.Tensor


class Encoder(ABC):
    """Images (or rows of a table) to latents, and back where the encoder can.

    Attributes
    ----------
    name : str
        Its key in ``ENCODERS``.
    paper : str
        Where it was published.
    settings
        Its typed settings.
    affine : (4, 4) float array or None
        Voxel indices to millimetres of the images it was made for.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    settings_type: ClassVar[type]
    is_supervised: ClassVar[bool] = False
    can_decode: ClassVar[bool] = True
    is_trainable: ClassVar[bool] = True
    takes_tables: ClassVar[bool] = False
    #: False where pictures come from many steps: maps then use finite differences
    exact_derivative: ClassVar[bool] = True
    #: training settings that differ from the defaults, as published
    training: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, settings: Any = None, *, affine: np.ndarray | None = None) -> None:
        self.settings = self.settings_type() if settings is None else settings
        if not isinstance(self.settings, self.settings_type):
            raise UsageError(
                explain(
                    f"{self.name} was given settings of type {type(self.settings).__name__}",
                    expected=f"{self.settings_type.__name__} is needed",
                )
            )
        self.affine = affine

    @property
    def grid(self) -> tuple[int, ...]:
        """Voxels along each axis (or the number of features of a table)."""
        return tuple(self.settings.grid)

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return int(self.settings.latents)

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Names of the latents: L000, L001, ..."""
        width = max(3, len(str(self.n_latents - 1)))
        return tuple(f"L{i:0{width}d}" for i in range(self.n_latents))

    @abstractmethod
    def encode(self, images: Float32[np.ndarray, "batch ..."]) -> Float32[np.ndarray, "batch k"]:
        """Return the latents of prepared images; the same image gives the same latents."""

    @abstractmethod
    def decode(self, latents: Float32[np.ndarray, "batch k"]) -> Float32[np.ndarray, "batch ..."]:
        """Return images from latents, on the intensity scale of the network."""

    def reconstruct(
        self, images: Float32[np.ndarray, "batch ..."]
    ) -> Float32[np.ndarray, "batch ..."]:
        """Return what encoding and decoding make of prepared images."""
        return self.decode(self.encode(images))

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Return every number that makes this encoder what it is."""

    @abstractmethod
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the numbers of :meth:`state`; names, shapes and types must agree."""

    def __repr__(self) -> str:
        grid = "x".join(map(str, self.grid)) or "any grid"
        return f"{type(self).__name__}({self.n_latents} latents, {grid})"


class NeuralEncoder(Encoder):
    """An encoder that is a torch network.

    Subclasses say how to build the network, what its loss is, and which output is the latent.
    """

    @classmethod
    def loop_type(cls) -> type[Loop]:
        """Return the class of the training loop."""
        from imgwas.encoders.loop import Loop

        return Loop

    @abstractmethod
    def build(self) -> nn.Module:
        """Make the network from the settings, with fresh weights."""

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> dict[str, Ratio]:
        """Return the terms of the loss; the first is the one that early stopping watches."""

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of each term in the loss that is minimised; 1 by default."""
        return {}

    def latents_of(self, network: nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Return (batch, latents) of normalised images."""
        out: torch.Tensor = network.encode(image)  # type: ignore[operator]
        return out

    @cached_property
    def network(self) -> nn.Module:
        """The network, built when first asked for."""
        if not self.grid:
            raise UsageError(
                explain(
                    f"{self.name} has no grid yet",
                    do="Set it: --set grid=91,109,91, or fit the encoder to images",
                )
            )
        return self.build()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def normalise(self, raw: torch.Tensor) -> Batch:
        """Scale prepared images as the settings say."""
        from imgwas.encoders.inputs import image_batch

        return image_batch(raw, self.settings)

    def encode(self, images: Float32[np.ndarray, "batch ..."]) -> Float32[np.ndarray, "batch k"]:
        """Return the latents of prepared images, (batch, x, y, z) to (batch, latents)."""
        import torch

        raw = torch.from_numpy(self._checked(images)).to(self.device)
        self.network.eval()
        with torch.inference_mode():
            latents = self.latents_of(self.network, self.normalise(raw).image)
        return latents.float().cpu().numpy()

    def decode(self, latents: Float32[np.ndarray, "batch k"]) -> Float32[np.ndarray, "batch ..."]:
        """Return images from latents, (batch, latents) to (batch, x, y, z)."""
        import torch

        if not self.can_decode:
            raise UsageError(
                explain(
                    f"{self.name} has no decoder: it goes from images to latents only",
                    do="Choose an autoencoder (imgwas encoders) where images are needed",
                )
            )
        values = np.ascontiguousarray(latents, np.float32)
        if values.ndim != 2 or values.shape[1] != self.n_latents:
            raise InconsistentError(
                explain(
                    f"latents of shape {values.shape} were given",
                    expected=f"{self.name} has {self.n_latents} latents",
                )
            )
        self.network.eval()
        with torch.inference_mode():
            image = self.network.decode(  # type: ignore[operator]
                torch.from_numpy(values).to(self.device)
            )
        out: np.ndarray = image.float().cpu().numpy().reshape(len(values), *self.grid)
        return out

    def _checked(self, images: np.ndarray) -> np.ndarray:
        _ = self.network  # an encoder without a grid says so
        values = np.ascontiguousarray(images, np.float32)
        if values.shape[1:] != self.grid:
            raise InconsistentError(
                explain(
                    f"images of grid {'x'.join(map(str, values.shape[1:]))} were given",
                    expected=f"{self.name} was made for {'x'.join(map(str, self.grid))}",
                    do="Prepare them with the recipe of the training images",
                )
            )
        return values

    def state(self) -> dict[str, torch.Tensor]:
        """Return weights and running statistics."""
        return {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take weights and running statistics; they must be exactly those of the network."""
        self.network.load_state_dict(dict(state), strict=True)

    def n_parameters(self) -> int:
        """Count trainable numbers, without allocating the network."""
        return sum(p.numel() for p in self.skeleton().parameters())

    def n_statistics(self) -> int:
        """Count running means and variances, which Keras counts as parameters too."""
        buffers = self.skeleton().named_buffers()
        return sum(b.numel() for name, b in buffers if "running" in name)

    def skeleton(self) -> nn.Module:
        """Return the network without memory for its numbers."""
        import torch

        with torch.device("meta"):
            return self.build()
