"""A vision-transformer autoencoder: patches in, the mean of their embeddings out.

The latent of a person is the mean over the patches of the last layer's embeddings. The decoder
starts every patch from the latent and the patch's place, so that nothing but the latent carries
the image. Attention is written out, because the fused kernel has no forward derivative and maps
of a latent's effect need one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from imgwas.errors import UsageError, explain


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, width) to the same."""
        n, length, width = tokens.shape
        parts = self.project_in(tokens).reshape(n, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weight = (query @ key.transpose(-1, -2)) * (width // self.heads) ** -0.5
        mixed = (weight.softmax(dim=-1) @ value).transpose(1, 2).reshape(n, length, width)
        out: torch.Tensor = self.project_out(mixed)
        return out


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each after a layer norm and around a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, width) to the same."""
        tokens = tokens + self.attention(self.norm1(tokens))
        out: torch.Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class ViTAutoencoder(nn.Module):
    """Transformer over patches; the latent is their mean embedding.

    Parameters
    ----------
    grid : sequence of int
        Voxels along x, y, z; padded with zeros to whole patches inside.
    latents : int
        Width of the embeddings, hence of the latent.
    patch : int
        Voxels along an edge of a patch.
    depth, heads : int
        Of the encoder; the decoder has half the depth.

    References
    ----------
    .. [1] Dosovitskiy et al. (2021), ICLR; He et al. (2022), CVPR (the light decoder).
    """

    def __init__(
        self, grid: Sequence[int], latents: int = 128, patch: int = 16, depth: int = 6,
        heads: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        if latents % heads:
            raise UsageError(
                explain(f"{latents} latents do not divide by {heads} heads", do="--set heads=4")
            )
        self.grid = tuple(grid)
        self.counts = tuple(-(-n // patch) for n in grid)
        n_tokens = self.counts[0] * self.counts[1] * self.counts[2]
        self.patch = patch
        self.embed = nn.Conv3d(1, latents, patch, patch)
        self.place = nn.Parameter(0.02 * torch.randn(1, n_tokens, latents))
        self.layers = nn.Sequential(*(Layer(latents, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(latents)
        self.place_out = nn.Parameter(0.02 * torch.randn(1, n_tokens, latents))
        self.layers_out = nn.Sequential(*(Layer(latents, heads) for _ in range(max(1, depth // 2))))
        self.to_patch = nn.Sequential(nn.LayerNorm(latents), nn.Linear(latents, patch**3))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, latents)."""
        pads = [c * self.patch - n for c, n in zip(self.counts, self.grid, strict=True)]
        padded = functional.pad(image, (0, pads[2], 0, pads[1], 0, pads[0]))
        tokens = self.embed(padded).flatten(2).transpose(1, 2) + self.place
        out: torch.Tensor = self.norm(self.layers(tokens)).mean(dim=1)
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, 1, x, y, z)."""
        tokens = self.layers_out(latents[:, None, :] + self.place_out)
        cubes = self.to_patch(tokens).reshape(-1, *self.counts, *(self.patch,) * 3)
        whole = cubes.permute(0, 1, 4, 2, 5, 3, 6).reshape(
            -1, 1, *(c * self.patch for c in self.counts)
        )
        x, y, z = self.grid
        out: torch.Tensor = whole[:, :, :x, :y, :z]
        return out

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (reconstruction, latents)."""
        latents = self.encode(image)
        return self.decode(latents), latents
