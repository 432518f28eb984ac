"""Checkpoints of the cardiac diffusion autoencoder, ImLatent: their names turned into ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from imgwas.errors import InconsistentError, explain

logger = logging.getLogger(__name__)

_TIME = "time_embed.time_embed."


def diffusion_autoencoder_in(
    tensors: Mapping[str, torch.Tensor], source: Path
) -> dict[str, torch.Tensor]:
    """Take encoder and U-Net out of a checkpoint of the cardiac diffusion autoencoder.

    Its U-Net has the names of the published diffusion autoencoders: ``input_blocks``,
    ``middle_block``, ``output_blocks``, ``out`` and ``time_embed.time_embed``.

    Raises
    ------
    InconsistentError
        If the checkpoint holds no averaged weights, which made the published latents and pictures.
    """
    whole = "ema_net."
    part = {n.removeprefix(whole): t for n, t in tensors.items() if n.startswith(whole)}
    if not part:
        raise InconsistentError(
            explain(
                f"{source} holds no averaged weights",
                expected="Names that begin with ema_net.",
                where=f"found {', '.join(list(tensors)[:3])}",
                do="Convert the encoder alone (leave encoder=diffae out), or find the full file",
            )
        )
    return {
        n if n.startswith("encoder.") else f"unet.{n.replace(_TIME, 'time_embed.')}": tensor
        for n, tensor in part.items()
    }


def cine_encoder_in(tensors: Mapping[str, torch.Tensor], source: Path) -> dict[str, torch.Tensor]:
    """Take the semantic encoder out of a checkpoint of the cardiac diffusion autoencoder.

    The averaged weights (``ema_net.encoder``) made the published latents; the others are second
    choice. What belongs to the diffusion decoder is left out and counted in the log.

    Raises
    ------
    InconsistentError
        If the checkpoint holds no encoder.
    """
    for prefix in ("ema_net.encoder.", "net.encoder.", "encoder."):
        part = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if part:
            logger.info("took %d tensors of %s, left %d", len(part), prefix[:-1],
                        len(tensors) - len(part))  # fmt: skip
            return part
    raise InconsistentError(
        explain(
            f"{source} holds no semantic encoder",
            expected="Names that begin with ema_net.encoder. or net.encoder.",
            where=f"found {', '.join(list(tensors)[:3])}",
        )
    )
