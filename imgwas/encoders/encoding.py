"""Images to a table of latents: batched, resumable, streamed to Parquet.

Parts of a few hundred people are published as they are finished; when the last one is there they
become one file whose footer says which encoder made it, from what, and whom the encoder has seen.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from imgwas._version import __version__
from imgwas.encoders.base import Encoder, NeuralEncoder
from imgwas.encoders.loading import batches, chunks
from imgwas.errors import (
    DegenerateError,
    ImgwasError,
    InconsistentError,
    RefusedError,
    UsageError,
    explain,
)
from imgwas.files import publish, publish_json, read_json, write_error
from imgwas.latents.ledger import mark_people
from imgwas.locks import empty, locked, sweep
from imgwas.types import Images

logger = logging.getLogger(__name__)

#: People to a part.
PART = 512
FOOTER = b"imgwas"


@dataclass(frozen=True)
class Encoded:
    """A table of latents on disk: how many people it has, and who is missing and why."""

    path: Path
    n_samples: int
    n_resumed: int
    failures: tuple[tuple[int, str], ...]


def encode_images(
    images: Images,
    encoder: Encoder,
    out: str | Path,
    *,
    digest: str,
    batch: int = 8,
    threads: int = 2,
    precision: str = "fp32",
    people_seen: Sequence[str] | None = None,
    in_sample: bool = False,
    reconstruction_error: bool = True,
    max_failures: float = 0.01,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Encoded:
    """Write the latents of people to a Parquet table that ``associate`` takes unchanged.

    Parameters
    ----------
    images : Images
        Prepared as the training images were; the grid and the place are checked.
    encoder : Encoder
        Trained; its network stays where it is.
    out : path
        ``latents.parquet``. A run that was stopped goes on in ``latents.parquet.parts``.
    digest : str
        SHA-256 of the encoder's weights.
    batch : int
        Images at a time; the latents do not depend on it beyond rounding.
    threads : int
        Images read at a time.
    precision : {"fp32", "bf16"}
        Of activations, for GPUs.
    people_seen : sequence of str, optional
        Ledger of the encoder; None where it is not known.
    in_sample : bool
        Encode people although a supervised network was trained on their labels.
    reconstruction_error : bool
        Also decode, and note how well each image came back; about twice the work. Not for
        ``diffae``, whose pictures take a hundred times the work.
    max_failures : float
        Largest share of unreadable images.
    about : mapping, optional
        More for the footer.
    progress : callable, optional
        Called with the number of images after each batch.

    Returns
    -------
    Encoded
        Columns ``IID``, one per latent, and ``reconstruction_error`` where the encoder decodes.

    Raises
    ------
    RefusedError
        If a supervised encoder has seen these people's labels.
    InconsistentError
        If the images are not on the encoder's grid, or the parts belong to another encoding.
    DegenerateError
        If too many images failed.
    """
    out = Path(out)
    _check(images, encoder, people_seen, in_sample=in_sample)
    parts = out.with_name(out.name + ".parts")
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(parts, error) from error
    identity = _identity(images, encoder, digest, precision)
    identity["reconstruction_error"] = reconstruction_error
    with locked(parts, temporary=True):
        sweep(parts)
        _check_parts(parts, identity)
        ranges = [range(a, min(a + PART, len(images))) for a in range(0, len(images), PART)]
        n_resumed = 0
        for number, rows in enumerate(ranges):
            if _part(parts, number).exists():
                n_resumed += len(rows)
                continue
            part = _Part(images, encoder, batch, threads, precision, reconstruction_error)
            part.fill(rows, progress)
            part.publish(_part(parts, number))
        footer = {
            **identity, **(about or {}), "imgwas": __version__,
            "latent_columns": list(encoder.latent_names),
            "people_seen": None if people_seen is None else mark_people(people_seen),
            "in_sample": in_sample,
        }  # fmt: skip
        return _join(out, parts, len(ranges), footer, n_resumed, max_failures)


def _check(
    images: Images, encoder: Encoder, people_seen: Sequence[str] | None, *, in_sample: bool
) -> None:
    if images.grid != encoder.grid:
        raise InconsistentError(
            explain(
                f"the images have a grid of {'x'.join(map(str, images.grid))}",
                expected=f"The encoder was made for {'x'.join(map(str, encoder.grid))}",
                do="Prepare them with the recipe stored in encoder.json",
            )
        )
    if encoder.affine is not None and images.affine.shape == np.shape(encoder.affine):
        apart = float(np.abs(images.affine - encoder.affine).max())
        if apart > 1e-2:
            raise InconsistentError(
                explain(
                    f"the images lie {apart:.3g} mm from where the encoder's training images lay",
                    do="Prepare them with the same template and voxel size",
                )
            )
    if encoder.is_supervised and not in_sample:
        seen = set(people_seen or ())
        overlap = sum(one in seen for one in images.sample_ids)
        if people_seen is None or overlap:
            known = (
                "it is not known whom this network was trained on"
                if people_seen is None
                else f"{overlap:,} of {len(images):,} people trained this network with their labels"
            )
            raise RefusedError(
                explain(
                    f"{known}: their features know the label, and a scan of them finds it again",
                    do="Use imgwas train --folds 5, which encodes everyone out of fold, encode "
                    "other people, or pass --in-sample to do it all the same",
                )
            )


def _identity(images: Images, encoder: Encoder, digest: str, precision: str) -> dict[str, Any]:
    fingerprint = json.dumps(images.fingerprint(), sort_keys=True, default=str).encode()
    return {
        "encoder": encoder.name,
        "weights_sha256": digest,
        "images_sha256": hashlib.sha256(fingerprint).hexdigest(),
        "precision": precision,
    }


def _check_parts(parts: Path, identity: Mapping[str, Any]) -> None:
    path = parts / "encoding.json"
    if path.exists():
        before = read_json(path)
        differing = [key for key in identity if before.get(key) != identity[key]]
        if differing:
            raise InconsistentError(
                explain(
                    f"{parts} holds parts of another encoding (differing: {', '.join(differing)})",
                    do="Remove that folder, or choose another --out",
                )
            )
    else:
        publish_json(path, identity)


def _part(parts: Path, number: int) -> Path:
    return parts / f"part-{number:05d}.parquet"


class _Part:
    """Latents of a few hundred people."""

    def __init__(
        self, images: Images, encoder: Encoder, batch: int, threads: int, precision: str,
        reconstruction_error: bool,
    ) -> None:  # fmt: skip
        self.images, self.encoder, self.batch = images, encoder, batch
        self.threads, self.precision = threads, precision
        # pictures painted in many steps cost a hundred times the latents
        self.decodes = reconstruction_error and encoder.can_decode and encoder.exact_derivative
        self.rows: list[int] = []
        self.latents: list[np.ndarray] = []
        self.errors: list[np.ndarray] = []
        self.failures: list[tuple[int, str]] = []

    def fill(self, rows: Sequence[int], progress: Callable[[int], object] | None) -> None:
        """Encode rows; images that cannot be read or are blank become failures."""
        pending = chunks(list(rows), self.batch)
        while pending:
            n_done = 0
            try:
                for chosen, raw in batches(self.images, pending, threads=self.threads):
                    self._take(chosen, raw)
                    n_done += 1
                    if progress is not None:
                        progress(len(chosen))
                return
            except (ImgwasError, OSError):
                self._one_by_one(pending[n_done])
                if progress is not None:
                    progress(len(pending[n_done]))
            pending = pending[n_done + 1 :]

    def _one_by_one(self, chosen: Sequence[int]) -> None:
        for row in chosen:
            try:
                for read, raw in batches(self.images, [[row]], threads=1):
                    self._take(read, raw)
            except (ImgwasError, OSError) as error:
                self.failures.append((row, str(error)))

    def _take(self, rows: Sequence[int], raw: torch.Tensor) -> None:
        latents, errors = encode_batch(
            self.encoder, raw, precision=self.precision, decode=self.decodes
        )
        if not np.isfinite(latents).all():
            raise DegenerateError(explain("the encoder gave latents that are not finite"))
        self.rows += list(rows)
        self.latents.append(latents)
        self.errors.append(errors)

    def publish(self, path: Path) -> None:
        """Write the part whole."""
        values = np.concatenate(self.latents) if self.latents else None
        errors = np.concatenate(self.errors) if self.errors else np.zeros(0)
        table = {"IID": pa.array([self.images.sample_ids[i] for i in self.rows], pa.string())}
        for k, name in enumerate(self.encoder.latent_names):
            column = values[:, k] if values is not None else np.zeros(0)
            table[name] = pa.array(column, pa.float32())
        if self.decodes:
            table["reconstruction_error"] = pa.array(errors, pa.float32())
        made = pa.table(table).replace_schema_metadata({b"failures": json.dumps(self.failures)})
        with publish(path) as stream:
            pq.write_table(made, stream, write_page_checksum=True)


@torch.inference_mode()
def encode_batch(
    encoder: Encoder, raw: torch.Tensor, *, precision: str = "fp32", decode: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Encode one batch of prepared images and measure its reconstruction.

    Returns
    -------
    latents : (batch, latents) float32 array
    error : (batch,) float32 array
        Mean squared error inside each image's mask; NaN if the encoder does not decode.
    """
    if not isinstance(encoder, NeuralEncoder):
        values = encoder.encode(raw.numpy())
        batch = encoder.normalise(raw)  # type: ignore[attr-defined]
        decoded = torch.from_numpy(encoder.decode(values)).reshape(batch.image.shape)
        return values, _errors(batch.image, decoded, batch.mask)
    network = encoder.network.eval()
    device = encoder.device
    batch = encoder.normalise(raw.to(device, non_blocking=True))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        latents = encoder.latents_of(network, batch.image)
        errors = np.full(len(raw), np.nan, np.float32)
        if decode and encoder.can_decode:
            decoded = network.decode(latents)  # type: ignore[operator]
            if encoder.takes_tables:
                decoded = encoder.normalise(decoded).image
            errors = _errors(batch.image, decoded.float(), batch.mask)
    return latents.float().cpu().numpy(), errors


def _errors(image: torch.Tensor, decoded: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    axes = tuple(range(1, image.ndim))
    squared = torch.where(mask, image - decoded.reshape(image.shape), 0) ** 2
    ratio = squared.sum(axes) / mask.sum(axes).clamp(min=1)
    return np.asarray(ratio.float().cpu().numpy())


def _join(
    out: Path, parts: Path, n_parts: int, footer: Mapping[str, Any], n_resumed: int,
    max_failures: float,
) -> Encoded:  # fmt: skip
    """Make one file of the parts, then remove them."""
    failures, n_samples = _tally(parts, n_parts)
    n = n_samples + len(failures)
    if len(failures) > max_failures * n or not n_samples:
        raise DegenerateError(
            explain(
                f"{len(failures):,} of {n:,} images could not be encoded",
                expected=f"At most {max_failures:.1%} may (--max-failures)",
                where=f"first: {failures[0][1]}",
                do=f"Mend or leave out those images and remove {parts}",
            )
        )
    metadata = {FOOTER: json.dumps(dict(footer), sort_keys=True).encode()}
    with publish(out) as stream:
        writer: pq.ParquetWriter | None = None
        for number in range(n_parts):
            table = pq.ParquetFile(_part(parts, number), page_checksum_verification=True).read()
            table = table.replace_schema_metadata(metadata)
            writer = writer or pq.ParquetWriter(stream, table.schema, write_page_checksum=True)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    empty(parts)
    return Encoded(out, n_samples, n_resumed, tuple(failures))


def _tally(parts: Path, n_parts: int) -> tuple[list[tuple[int, str]], int]:
    """Return failures and number of people of all parts, from their footers."""
    failures: list[tuple[int, str]] = []
    n_samples = 0
    for number in range(n_parts):
        stored = pq.ParquetFile(_part(parts, number))
        listed = (stored.schema_arrow.metadata or {}).get(b"failures", b"[]")
        failures += [(int(row), str(why)) for row, why in json.loads(listed)]
        n_samples += stored.metadata.num_rows
    return failures, n_samples


def read_footer(path: str | Path) -> dict[str, Any]:
    """Return what a table of latents says of its making; empty for a table of other origin."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise UsageError(explain(f"{path} is no Parquet file")) from error
    return dict(json.loads(metadata.get(FOOTER, b"{}")))
