"""A training step of the diffusion autoencoder at full size, against MONAI's stock blocks.

The other model has the same levels, channels, attention and halving of the plane, built from
``DiffusionUNetResnetBlock`` and ``SpatialAttentionBlock``; the code is added to the time, because
the stock block has no scale of its own. Needs a CUDA device and MONAI; skipped, saying so, without.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.networks.semantic import PLANE
from imgwas.encoders.networks.unet import BLOCKS, MULTIPLIERS, sines

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

ABSENT = "MONAI is not installed"
GRID, BASE, N_CODE, BATCH = (128, 128, 50), 32, 128, 2


class Stock(nn.Module):
    """The U-Net of MONAI's blocks."""

    def __init__(self) -> None:
        super().__init__()
        blocks = pytest.importorskip("monai.networks.blocks", reason=ABSENT)
        unets = pytest.importorskip("monai.networks.nets.diffusion_model_unet", reason=ABSENT)

        def block(n_in: int, n_out: int, **resample: nn.Module) -> nn.Module:
            made = unets.DiffusionUNetResnetBlock(3, n_in, N_CODE, n_out)
            for name, module in resample.items():
                setattr(made, name, module)
            return made

        def attention(n: int) -> nn.Module:
            return blocks.SpatialAttentionBlock(3, n, use_flash_attention=True)

        self.time = nn.Sequential(nn.Linear(BASE, 128), nn.SiLU(), nn.Linear(128, 128))
        self.code = nn.Linear(N_CODE, 128)
        now, stacks = BASE, [[] for _ in MULTIPLIERS]
        self.first = nn.Conv3d(1, now, 3, padding=1)
        stacks[0].append(now)
        self.down = nn.ModuleList()
        for level, multiplier in enumerate(MULTIPLIERS):
            for _ in range(BLOCKS):
                layers = [block(now, BASE * multiplier)]
                now = BASE * multiplier
                layers += [attention(now)] if level == 3 else []
                self.down.append(nn.ModuleList(layers))
                stacks[level].append(now)
            if level < len(MULTIPLIERS) - 1:
                self.down.append(nn.ModuleList([block(now, now, downsample=nn.AvgPool3d(PLANE))]))
                stacks[level + 1].append(now)
        self.middle = nn.ModuleList([block(now, now), attention(now), block(now, now)])
        self.up = nn.ModuleList()
        for level in reversed(range(len(MULTIPLIERS))):
            for i in range(BLOCKS + 1):
                layers = [block(now + stacks[level].pop(), BASE * MULTIPLIERS[level])]
                now = BASE * MULTIPLIERS[level]
                layers += [attention(now)] if level == 3 else []
                if level and i == BLOCKS:
                    layers.append(block(now, now, upsample=nn.Upsample(scale_factor=PLANE)))
                self.up.append(nn.ModuleList(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, now), nn.SiLU(), nn.Conv3d(now, 1, 3, padding=1))

    def forward(self, x: torch.Tensor, times: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        told = self.time(sines(times, BASE)) + self.code(code)

        def through(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
            for layer in layers:
                x = layer(x, told) if "Resnet" in type(layer).__name__ else layer(x)
            return x

        x = self.first(x)
        kept = [x]
        for layers in self.down:
            x = through(layers, x)
            kept.append(x)
        x = through(self.middle, x)
        for layers in self.up:
            x = through(layers, torch.cat([x, kept.pop()], dim=1))
        return self.out(x)


def step_of(network: nn.Module, n_steps: int) -> tuple[float, float]:
    """Median seconds of a step in bf16, and peak GB of the device."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    image = torch.rand(BATCH, 1, *GRID, device="cuda") * 2 - 1
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(n_steps):
        torch.cuda.synchronize()
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            guessed, added = network(image)
        (guessed.float() - added).square().mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[n_steps // 3 :]), torch.cuda.max_memory_allocated() / 1e9


@pytest.mark.parametrize("recompute", [False, True])
def test_training_step(recompute):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is visible")
    settings = {"grid": GRID, "recompute": recompute}
    ours = create_encoder("diffae", settings).network.cuda().train()
    stock = create_encoder("diffae", settings).network
    stock.unet = Stock()
    stock = stock.cuda().train()
    found = {}
    for name in ("ours", "stock", "ours again"):
        network = stock if name == "stock" else ours
        torch.cuda.empty_cache()
        found[name] = step_of(network, 15)
        network.zero_grad(set_to_none=True)
    ratio = min(found["ours"][0], found["ours again"][0]) / found["stock"][0]
    line = (
        f"recompute={recompute}: ours {found['ours'][0]:.3f} s, {found['ours'][1]:.1f} GB; "
        f"MONAI's blocks {found['stock'][0]:.3f} s, {found['stock'][1]:.1f} GB; ratio {ratio:.2f}"
    )
    print(line)
    if "IMGWAS_BENCHMARK_OUT" in os.environ:
        with Path(os.environ["IMGWAS_BENCHMARK_OUT"]).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
