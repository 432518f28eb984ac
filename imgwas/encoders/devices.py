"""Which device computes, chosen aloud."""

from __future__ import annotations

import logging

import torch

from imgwas.errors import DeviceError, explain

logger = logging.getLogger(__name__)


def choose_device(name: str = "auto") -> torch.device:
    """Turn a name into a device that exists.

    Parameters
    ----------
    name : str
        ``auto`` (a GPU if there is one, said in the log), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    DeviceError
        If the device that was asked for is not there.
    """
    if name == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("device   %s", chosen)
        return torch.device(chosen)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            explain(f"there is no device {name!r}", expected="auto, cpu, cuda, cuda:0 or mps")
        ) from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        n = torch.cuda.device_count()
        raise DeviceError(
            explain(
                f"the device {name} is not here",
                expected=f"{n} CUDA devices are visible" if n else "No GPU is visible",
                do="Pass --device cpu, or make the GPU visible (CUDA_VISIBLE_DEVICES)",
            )
        )
    return device
