"""From an encoder and its latents to what a mapper needs, checked against each other.

The average Jacobian is the only slow part: it is kept beside the maps and used again when the
encoder, the people and the mask are the same.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain.decoding import STEP, Decoder, decoding_noise
from imgwas.brain.jacobian import AverageJacobian, average_jacobian
from imgwas.errors import InconsistentError, MalformedError, TooFewSamplesError, explain
from imgwas.files import publish_bytes
from imgwas.latents.ledger import who_was_seen
from imgwas.shapes import Float64
from imgwas.types import Latents

if TYPE_CHECKING:
    from imgwas.encoders.base import Encoder
    from imgwas.encoders.checkpoints import Loaded

logger = logging.getLogger(__name__)

CACHE = "jacobian.safetensors"


def check_same_encoder(latents: Latents, loaded: Loaded) -> Latents:
    """Refuse latents that another encoder made, and bring them into the encoder's order.

    Raises
    ------
    InconsistentError
        If the table carries the hash of other weights, was transformed, or lacks latents.
    """
    steps = [str(one.get("step")) for one in latents.source.get("steps", ())]
    if steps:
        raise InconsistentError(
            explain(
                f"these latents were transformed ({', '.join(steps)})",
                expected="A decoder takes latents as the encoder gave them",
                do="Give the table of imgwas encode; a scan of transformed ones may stay",
            )
        )
    made_by = latents.source.get("weights_sha256")
    if made_by is None:
        logger.warning("the table of latents does not say which encoder made it: names must do")
    elif made_by != loaded.digest:
        raise InconsistentError(
            explain(
                "these latents were made by another encoder",
                expected=f"weights {loaded.digest[:12]}",
                where=f"the table says {str(made_by)[:12]} ({latents.source.get('encoder', '?')})",
                do="Name the run that encoded this table, or encode again",
            )
        )
    names = loaded.encoder.latent_names
    lost = [name for name in names if name not in latents.names]
    if lost:
        raise InconsistentError(
            explain(
                f"the table lacks {len(lost)} of the encoder's {len(names)} latents",
                where=f"first: {', '.join(lost[:3])}; it has {', '.join(latents.names[:3])}",
                do="Give the table of imgwas encode itself; components cannot be decoded",
            )
        )
    if tuple(latents.names) == tuple(names):
        return latents
    columns = [latents.names.index(name) for name in names]
    return Latents(
        values=latents.values[:, columns],
        sample_ids=latents.sample_ids,
        names=tuple(names),
        family_ids=latents.family_ids,
        source=latents.source,
    )


def choose_people(
    latents: Latents, n: int, *, seed: int = 0
) -> Float64[np.ndarray, "people latents"]:
    """Latents of a few people at random, whom the encoder has not seen where that is known.

    Raises
    ------
    TooFewSamplesError
        If nobody has all latents.
    """
    complete = np.isfinite(latents.values).all(axis=1)
    marks = latents.source.get("people_seen")
    if marks:
        unseen = complete & ~who_was_seen(marks, latents.sample_ids)
        if unseen.any():
            complete = unseen
        else:
            logger.warning("the encoder has seen everyone here: maps are of its own people")
    rows = np.flatnonzero(complete)
    if not len(rows):
        raise TooFewSamplesError(explain("nobody has a value of every latent"))
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(rows)[:n])
    return np.asarray(latents.values[chosen], np.float64)


def differentiate(
    encoder: Encoder,
    digest: str,
    people: Float64[np.ndarray, "people latents"],
    *,
    mask: np.ndarray,
    affine: np.ndarray,
    cache: Path | None = None,
    batch: int = 4,
    progress: Callable[[int], object] | None = None,
) -> tuple[Decoder, AverageJacobian]:
    """Differentiate the decoder, or take the derivative that an earlier run left.

    Parameters
    ----------
    encoder : Encoder
        With a decoder.
    digest : str
        Of its weights.
    people : (people, latents) float array
        Where to differentiate.
    mask : (x, y, z) bool array
    affine : (4, 4) float array
    cache : Path, optional
        Folder that keeps the derivative.
    batch : int
        People decoded together.
    progress : callable, optional
        Called with 1 for each latent.
    """
    decoder = Decoder(encoder, mask=mask, affine=affine, spread=people.std(axis=0))
    key = _key(digest if decoder.is_exact else f"{digest} {STEP}", people, mask)
    jacobian = _read(cache / CACHE, key) if cache is not None else None
    if jacobian is None:
        if not decoder.is_exact:
            _say_steps(decoder, people)
        jacobian = average_jacobian(decoder, people, batch=batch, progress=progress)
        if cache is not None:
            _write(cache / CACHE, key, jacobian)
    elif progress is not None:
        progress(decoder.n_latents)
    return decoder, jacobian


def _say_steps(decoder: Decoder, people: np.ndarray) -> None:
    """Log that derivatives are finite differences, and how noisy these are for one person."""
    move = decoder.spread / np.sqrt(decoder.n_latents)
    noise = decoding_noise(decoder, people[:1], move) / (np.sqrt(2) * STEP)
    slope = float(np.sqrt(np.square(decoder.derivative(people[:1], move)).mean()))
    share = noise / slope if slope else np.nan
    logger.info(
        "%s has no exact derivative: differences over %g SD to either side; rounding is %.2g of "
        "the slope", decoder.encoder.name, STEP, share,
    )  # fmt: skip


def _key(digest: str, people: np.ndarray, mask: np.ndarray) -> str:
    sha = hashlib.sha256(digest.encode())
    sha.update(np.ascontiguousarray(people, np.float64).tobytes())
    sha.update(np.packbits(mask).tobytes())
    return sha.hexdigest()


def _write(path: Path, key: str, jacobian: AverageJacobian) -> None:
    from safetensors.numpy import save

    arrays = {
        "mean": jacobian.mean, "picture": jacobian.picture, "agreement": jacobian.agreement,
    }  # fmt: skip
    metadata = {"key": key, "n_people": str(jacobian.n_people)}
    publish_bytes(path, save(arrays, metadata))


def _read(path: Path, key: str) -> AverageJacobian | None:
    """Return what an earlier run left, if it is of the same encoder, people and mask."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as stored:
            metadata = stored.metadata() or {}
            if metadata.get("key") != key:
                logger.info("%s is of another encoder, mask or people: made anew", path)
                return None
            arrays = {name: stored.get_tensor(name) for name in ("mean", "picture", "agreement")}
    except (SafetensorError, OSError, ValueError) as error:
        raise MalformedError(
            explain(f"{path} is damaged ({error})", do="Delete it and run again")
        ) from error
    logger.info("the decoder's derivative is taken from %s", path)
    return AverageJacobian(**arrays, n_people=int(metadata["n_people"]))
