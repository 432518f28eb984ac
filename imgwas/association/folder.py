"""The folder of a run: lock, digest, what is finished, what may be resumed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgwas.association.parts import part_path, receipt_path
from imgwas.errors import InconsistentError, UsageError, WriteError, explain
from imgwas.files import publish_json, read_json, sha256_of, write_error
from imgwas.locks import sweep
from imgwas.sumstats.correlation import CORRELATION
from imgwas.sumstats.probes import PROBES

logger = logging.getLogger(__name__)

RUN, COMPLETE = "run.json", "RUN_COMPLETE.json"


def create(out: Path) -> None:
    """Make the folder of a run and show that it takes files."""
    if out.exists() and not out.is_dir():
        raise UsageError(explain(f"--out {out} is a file", expected="It must be a folder"))
    try:
        (out / "parts").mkdir(parents=True, exist_ok=True)
        (out / "private").mkdir(mode=0o700, exist_ok=True)
        ignore = out / "private" / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="ascii")
    except OSError as error:
        raise write_error(out / RUN, error) from error


def open_run(out: Path, description: Mapping[str, Any], *, overwrite: bool = False) -> list[int]:
    """Start or resume a run; return the parts that are finished.

    Raises
    ------
    InconsistentError
        If the folder holds a run whose inputs or settings differ; the differences are named.
    """
    sweep(out, out / "parts")
    if overwrite:
        clear(out)
    path = out / RUN
    if path.exists():
        before = _read_run(path)
        if before.get("digest") != description["digest"]:
            raise InconsistentError(_difference(out, before, description))
        return finished_parts(out, description["n_parts"], description["digest"])
    if any((out / "parts").iterdir()):
        raise InconsistentError(
            explain(
                f"{out} holds parts but no {RUN}",
                expected="A new run starts in an empty folder",
                do="Choose another --out or pass --overwrite",
            )
        )
    publish_json(path, description)
    return []


def _read_run(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise InconsistentError(
            explain(f"{path} is not readable as JSON", do="Pass --overwrite to start anew")
        ) from error
    return dict(content)


def clear(out: Path) -> None:
    """Remove the results of an earlier run, and nothing else in the folder."""
    files = (COMPLETE, RUN, CORRELATION, PROBES)
    for path in [*(out / name for name in files), *(out / "parts").glob("part-*")]:
        path.unlink(missing_ok=True)
    for name in ("task", "probes"):
        shutil.rmtree(out / "private" / name, ignore_errors=True)


def finished_parts(out: Path, n_parts: int, digest: str) -> list[int]:
    """Parts whose receipt and size agree; anything else is computed again."""
    finished = []
    for part in range(n_parts):
        receipt = read_receipt(out, part)
        path = part_path(out, part)
        if receipt is None or receipt.get("digest") != digest or not path.exists():
            continue
        if path.stat().st_size != receipt["bytes"] or sha256_of(path) != receipt["sha256"]:
            logger.warning("part %d is damaged on disk and is computed again", part)
            continue
        finished.append(part)
    return finished


def read_receipt(out: Path, part: int) -> dict[str, Any] | None:
    """Read the receipt of a part, or None if there is none that can be read."""
    path = receipt_path(out, part)
    try:
        return dict(read_json(path))
    except (OSError, ValueError):
        return None


def read_receipts(out: Path, n_parts: int) -> list[dict[str, Any]]:
    """Read the receipts of all parts, empty for those that have none."""
    return [read_receipt(out, part) or {} for part in range(n_parts)]


def complete(out: Path, n_parts: int, totals: Mapping[str, Any]) -> None:
    """Write the last file of a run: its parts with their digests."""
    receipts = [read_receipt(out, part) for part in range(n_parts)]
    missing = [part for part, receipt in enumerate(receipts) if receipt is None]
    if missing:
        raise WriteError(explain(f"{len(missing)} parts have no receipt (first: {missing[:3]})"))
    parts = [
        {key: receipt[key] for key in ("part", "sha256", "bytes", "rows")}
        for receipt in receipts
        if receipt is not None
    ]
    publish_json(out / COMPLETE, {"parts": parts, **totals})


def check_space(out: Path, n_bytes: int) -> None:
    """Refuse to start what cannot fit."""
    free = shutil.disk_usage(out).free
    if n_bytes > free:
        raise WriteError(
            explain(
                f"The results need about {n_bytes / 1e6:,.0f} MB and {out} has "
                f"{free / 1e6:,.0f} MB free",
                do="Free some space, or choose another --out",
            )
        )


def _difference(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = _flatten(before.get("identity", {})), _flatten(now.get("identity", {}))
    changed = [
        f"{key} was {old.get(key, 'absent')}, now {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    return explain(
        f"{out} holds a run with other inputs or settings",
        expected="A run resumes only when nothing that changes numbers has changed",
        where="; ".join(changed[:8]) or "the digests differ",
        do="Choose another --out, or pass --overwrite to start anew",
    )


def _flatten(content: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(content, Mapping):
        flat: dict[str, str] = {}
        for key, value in content.items():
            flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    text = json.dumps(content)
    return {prefix: text if len(text) <= 60 else text[:57] + "..."}
