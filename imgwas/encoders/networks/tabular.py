"""The autoencoder of seed 004 for tables of measured features."""

from __future__ import annotations

import torch
from torch import nn


class TabularAutoencoder(nn.Module):
    """Dense layers down to the latents and back, ReLU between them."""

    def __init__(self, n_features: int, latents: int = 80, hidden: int = 400) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, latents)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, n_features)
        )

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """(batch, features) to (batch, latents)."""
        out: torch.Tensor = self.encoder(rows)
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, features)."""
        out: torch.Tensor = self.decoder(latents)
        return out

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (reconstruction, latents)."""
        latents = self.encode(rows)
        return self.decode(latents), latents
