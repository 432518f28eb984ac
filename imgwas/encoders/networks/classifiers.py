"""The supervised networks of seeds 001 and 004; each gives features before its last layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from imgwas.errors import UsageError, explain


class CentredBatchNorm(nn.Module):
    """Batch norm with a learned shift and no learned scale."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n, affine=False)
        self.shift = nn.Parameter(torch.zeros(n))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(batch, n) to the same."""
        out: torch.Tensor = self.norm(values) + self.shift
        return out


class Classifier(nn.Module):
    """A network with a body that gives features and a head that gives outputs."""

    body: nn.Module
    head: nn.Module

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, features), before the last layer."""
        out: torch.Tensor = self.body(image)
        return out

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, outputs): logits, or values of a regression."""
        out: torch.Tensor = self.head(self.features(image))
        return out


class WholeBrain(Classifier):
    """Seed 001's whole-image network: one wide convolution and two dense layers.

    Convolution 5 (32 channels), ReLU, pooling 2, convolution 1 (3 channels), ReLU, dense to the
    features, batch norm, sigmoid; then dense to the outputs, batch norm. At 155 x 155 x 95 with 100
    features and 3 classes Keras counts 75,942,343 numbers, of which 206 are running statistics.
    """

    def __init__(
        self, grid: Sequence[int], outputs: int, features: int = 100, dropout: float = 0.3
    ) -> None:
        super().__init__()
        pooled = [(n - 4) // 2 for n in grid]
        if min(pooled) < 1:
            text = "x".join(map(str, grid))
            raise UsageError(explain(f"the grid is {text}", expected="At least 6 voxels an axis"))
        self.body = nn.Sequential(
            nn.Conv3d(1, 32, 5), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(32, 3, 1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(dropout),
            nn.Linear(3 * pooled[0] * pooled[1] * pooled[2], features),
            CentredBatchNorm(features), nn.Sigmoid(),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, outputs), CentredBatchNorm(outputs)
        )


def stack(channels: Sequence[int], kernel: int) -> nn.Sequential:
    """Repeat convolution, ReLU, pooling 2 and batch norm; then the mean over the grid."""
    layers: list[nn.Module] = []
    for i, n_out in enumerate(channels):
        n_in = channels[i - 1] if i else 1
        layers += [
            nn.Conv3d(n_in, n_out, kernel),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.BatchNorm3d(n_out),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())


def check_stack(grid: Sequence[int], depth: int, kernel: int) -> None:
    """Refuse a grid that the poolings would use up."""
    smallest = 1
    for _ in range(depth):
        smallest = 2 * smallest + kernel - 1
    if min(grid) < smallest:
        text = "x".join(map(str, grid))
        raise UsageError(
            explain(
                f"a grid of {text} is too small for {depth} poolings",
                expected=f"At least {smallest} voxels an axis",
            )
        )


class SmallCNN(Classifier):
    """Seed 001's 3-D CNN: 64-64-128-256, dense 512, optionally a dense layer of features.

    Keras counts 1,353,923 numbers for 3 classes, 1,403,987 with 100 features.
    """

    def __init__(
        self, grid: Sequence[int], outputs: int, features: int = 0, dropout: float = 0.3
    ) -> None:
        super().__init__()
        check_stack(grid, 4, 3)
        layers: list[nn.Module] = [stack((64, 64, 128, 256), 3), nn.Linear(256, 512), nn.ReLU()]
        if features:
            layers += [nn.Dropout(dropout), nn.Linear(512, features), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features or 512, outputs))


class PatchNet(Classifier):
    """Seed 001's network of one patch: 8-8-32-64 (kernel 2), dense 128; 28,275 numbers."""

    def __init__(self, grid: Sequence[int], outputs: int, dropout: float = 0.3) -> None:
        super().__init__()
        check_stack(grid, 4, 2)
        self.body = nn.Sequential(stack((8, 8, 32, 64), 2), nn.Linear(64, 128), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(128, outputs))


class PatchFusion(Classifier):
    """Several branches, one per patch, concatenated and fused to a few features.

    ``corners`` are the first voxels of the patches, ``size`` their edges.
    """

    def __init__(
        self, corners: Sequence[tuple[int, ...]], size: Sequence[int], outputs: int,
        features: int = 10, dropout: float = 0.3,
    ) -> None:  # fmt: skip
        super().__init__()
        self.corners, self.size = tuple(corners), tuple(size)
        self.branches = nn.ModuleList(PatchNet(size, outputs, dropout).body for _ in self.corners)
        self.fuse = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(128 * len(self.corners), features), nn.ReLU()
        )
        self.head = nn.Linear(features, outputs)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Cut the patches, run each branch on its own, fuse."""
        parts = []
        for corner, branch in zip(self.corners, self.branches, strict=True):
            (a, b, c), (x, y, z) = corner, self.size
            parts.append(branch(image[:, :, a : a + x, b : b + y, c : c + z]))
        out: torch.Tensor = self.fuse(torch.cat(parts, dim=1))
        return out


class Residual(nn.Module):
    """Two convolutions around a shortcut; the batch norms are used, unlike the original's."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv3d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm3d(n_out), nn.ReLU(),
            nn.Conv3d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm3d(n_out),
        )  # fmt: skip
        same = n_in == n_out and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity() if same
            else nn.Sequential(nn.Conv3d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm3d(n_out))
        )  # fmt: skip
        self.act = nn.ReLU()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, n_in, ...) to (batch, n_out, ...)."""
        out: torch.Tensor = self.act(self.path(image) + self.shortcut(image))
        return out


class ResNet(Classifier):
    """Seed 004's sex classifier: residual blocks of 8, 16, 32, 64 channels and a dense layer."""

    def __init__(
        self, outputs: int, base: int = 8, features: int = 200, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [base * 2**i for i in range(4)]
        blocks: list[nn.Module] = [
            nn.Conv3d(1, base, 3, 1, 1, bias=False), nn.BatchNorm3d(base), nn.ReLU(),
        ]  # fmt: skip
        for i, width in enumerate(widths):
            n_in = widths[i - 1] if i else base
            blocks += [Residual(n_in, width, 2), Residual(width, width, 1)]
        self.body = nn.Sequential(
            *blocks,
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], features),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, outputs))
