"""Encoders of tables of measured features: morphometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from imgwas.encoders.base import Batch, NeuralEncoder, Ratio
from imgwas.encoders.networks.tabular import TabularAutoencoder


@dataclass(frozen=True)
class MorphometrySettings:
    """``grid`` is (number of features,), taken from the table unless given."""

    grid: tuple[int, ...] = ()
    latents: int = 80
    hidden: int = 400


def column_scale(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every column; 1 for a column that does not vary."""
    exact = rows.double()
    mean, spread = exact.mean(dim=0), exact.std(dim=0, correction=0)
    varies = spread > 1e-6 * mean.abs()
    return mean.float(), torch.where(varies, spread, torch.ones_like(spread)).float()


class StandardisedAutoencoder(nn.Module):
    """An autoencoder of standardised features; mean and spread are part of its weights."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, n_features: int, latents: int, hidden: int) -> None:
        super().__init__()
        self.inner = TabularAutoencoder(n_features, latents, hidden)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))

    def fit_scale(self, rows: torch.Tensor) -> None:
        """Take mean and standard deviation of training rows; a constant feature keeps spread 1.

        In double precision: a constant column of large numbers has a spread of exactly its
        rounding otherwise.
        """
        mean, spread = column_scale(rows)
        self.mean.copy_(mean)
        self.spread.copy_(spread)

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """(batch, features) of standardised rows to (batch, latents)."""
        return self.inner.encode(rows)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, features) in the units of the table."""
        return self.inner.decode(latents) * self.spread + self.mean

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (standardised reconstruction, latents)."""
        out: tuple[torch.Tensor, torch.Tensor] = self.inner(rows)
        return out


class Morphometry(NeuralEncoder):
    """Autoencoder of a table of regional measures: 935 features to 80 latents."""

    name = "morphometry"
    paper = "Generative models for brain aging: morphometry autoencoder (935 to 80)"
    settings_type = MorphometrySettings
    takes_tables = True
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3, "batch": 64, "epochs": 100}

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        return StandardisedAutoencoder(s.grid[0], s.latents, s.hidden)

    def normalise(self, raw: torch.Tensor) -> Batch:
        """Standardise by the training table's mean and spread."""
        network = self.network
        assert isinstance(network, StandardisedAutoencoder)
        rows = (raw - network.mean.to(raw.device)) / network.spread.to(raw.device)
        return Batch(rows, torch.ones_like(rows, dtype=torch.bool))

    def losses(self, outputs: Any, batch: Batch) -> dict[str, Ratio]:
        """Squared error of the standardised features."""
        from imgwas.encoders.autoencoders import masked_mse

        return {"error": masked_mse(batch.image, outputs[0], batch.mask)}
