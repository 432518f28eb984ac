"""Parts of a game that are not turns: penalties of slopes, and batch norm measured anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from imgwas.encoders.base import Ratio

#: Pictures to scores.
Critic = Callable[[torch.Tensor], torch.Tensor]


def gradient_penalty(discriminator: Critic, real: torch.Tensor, fake: torch.Tensor) -> Ratio:
    r"""Return :math:`(|\nabla D(x)| - 1)^2` at random places between real and fake pictures.

    Gulrajani et al. (2017). In single precision, whatever the rest is in.
    """
    share = torch.rand(len(real), 1, 1, 1, 1, device=real.device)
    between = (share * real.float() + (1 - share) * fake.float()).detach().requires_grad_()
    norms = _slopes(discriminator, between).flatten(1).norm(dim=1)
    return Ratio(((norms - 1) ** 2).sum(), _count(norms))


def r1_penalty(discriminator: Critic, real: torch.Tensor) -> Ratio:
    r"""Return :math:`\tfrac12|\nabla D(x)|^2` at real pictures (Mescheder et al. 2018)."""
    at = real.float().detach().requires_grad_()
    slopes = _slopes(discriminator, at).flatten(1)
    return Ratio(0.5 * (slopes**2).sum(), _count(slopes))


def return_error(real: torch.Tensor, back: torch.Tensor) -> Ratio:
    """Squared error of images that were encoded and came back, in variances of an image."""
    return Ratio(((back.float() - real) ** 2).sum(), ((real - real.mean()) ** 2).sum())


def _slopes(discriminator: Critic, at: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad(), torch.autocast(at.device.type, enabled=False):
        scores = discriminator(at)
        (slopes,) = torch.autograd.grad(scores.sum(), at, create_graph=True)
    return slopes


def _count(rows: torch.Tensor) -> torch.Tensor:
    return torch.tensor(float(len(rows)), device=rows.device)


@contextlib.contextmanager
def measured_anew(network: nn.Module) -> Iterator[bool]:
    """Let batch norm average over what passes in this block; yield whether there is any."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    network.train()
    try:
        yield bool(norms)
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
        network.eval()
