"""Which devices a scan runs on; torch is asked only where a GPU may be meant."""

from __future__ import annotations

import logging
import re

from imgwas.errors import DeviceError, UsageError, explain

logger = logging.getLogger(__name__)

#: Variants that a device takes at once; halved, and halved again, where they do not fit.
BLOCK_SIZE = 4096


def choose_devices(name: str) -> tuple[str, ...]:
    """Devices of torch that a scan runs on; ``("cpu",)`` stands for the kernel without torch.

    Parameters
    ----------
    name : str
        ``cpu``; ``cuda`` for every GPU that is visible, ``cuda:1`` for one; ``auto`` for every GPU,
        or the CPU where there is none.

    Raises
    ------
    UsageError
        If it is none of these.
    DeviceError
        If a GPU was asked for that cannot be used.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(
            explain(f"device {name!r}", expected="One of auto, cpu, cuda, cuda:0, cuda:1, ...")
        )
    if name == "cpu":
        return ("cpu",)
    n, why = visible_gpus()
    if name == "auto" and not n:
        logger.info("device  cpu (%s)", why)
        return ("cpu",)
    if not n:
        raise DeviceError(
            explain(
                f"device {name} was asked for, and {why}",
                do="Use --device cpu, or --device auto to take a GPU where there is one",
            )
        )
    every = tuple(f"cuda:{i}" for i in range(n))
    if name in ("auto", "cuda"):
        return every
    if name not in every:
        raise DeviceError(
            explain(
                f"device {name} was asked for, and the last of the {n} is {every[-1]}",
                do="Name one that exists, or all of them by --device cuda",
            )
        )
    return (name,)


def visible_gpus() -> tuple[int, str]:
    """Count the GPUs that torch can use, and say why there is none."""
    try:
        import torch
    except ImportError:
        return 0, "torch is not installed"
    if torch.version.cuda is None and torch.version.hip is None:
        return 0, f"torch {torch.__version__} is built for the CPU alone"
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return n, "torch sees no GPU"
