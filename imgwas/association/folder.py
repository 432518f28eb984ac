"""The folder of a run: lock, digest, what is finished, what may be resumed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgwas.association.parts import part_path, receipt_path
from imgwas.errors import (
    IncompleteError,
    InconsistentError,
    RefusedError,
    UsageError,
    WriteError,
    explain,
)
from imgwas.files import (
    publish_json,
    publish_once,
    read_json,
    sealed,
    sha256_of,
    write_error,
)
from imgwas.locks import alone, sweep
from imgwas.sumstats.correlation import CORRELATION
from imgwas.sumstats.probes import PROBES

logger = logging.getLogger(__name__)

RUN, COMPLETE = "run.json", "RUN_COMPLETE.json"


def create(out: Path) -> None:
    """Make the folder of a run and show that it takes files."""
    if out.exists() and not out.is_dir():
        raise UsageError(explain(f"--out {out} is a file", expected="It must be a folder"))
    for name in ("parts", "private"):
        if (out / name).is_symlink():
            raise RefusedError(
                explain(
                    f"{out / name} is a link to another place",
                    expected="What is of single people stays in the folder of the run",
                    do="Remove the link, or link the whole folder of results instead",
                )
            )
    try:
        (out / "parts").mkdir(parents=True, exist_ok=True)
        (out / "private").mkdir(mode=0o700, exist_ok=True)
        ignore = out / "private" / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="ascii")
    except OSError as error:
        raise write_error(out / RUN, error) from error


def open_run(
    out: Path, description: Mapping[str, Any], *, overwrite: bool = False, break_lock: bool = False
) -> None:
    """Start a run, or make sure that the one in the folder is the same.

    Any number of processes may do this at once: the first publishes ``run.json``, the others
    compare.

    Raises
    ------
    InconsistentError
        If the folder holds a run whose inputs or settings differ; the differences are named. Or if
        it is to be cleared while tasks of an array work in it.
    """
    sweep(out, out / "parts")
    if overwrite:
        with alone(out) as working:
            _refuse_to_clear(out, [] if break_lock else working)
            clear(out)
    path = out / RUN
    strays = any((out / "parts").iterdir())  # before looking for run.json, which comes first
    if strays and not path.exists():
        raise InconsistentError(
            explain(
                f"{out} holds parts but no {RUN}",
                expected="A new run starts in an empty folder",
                do="Choose another --out or pass --overwrite",
            )
        )
    if publish_once(path, sealed(description)):
        return
    before = _read_run(path, description)
    if before.get("digest") != description["digest"]:
        raise InconsistentError(difference(out, before, description))


def _refuse_to_clear(out: Path, working: Sequence[str]) -> None:
    if working:
        raise InconsistentError(
            explain(
                f"{len(working)} tasks of an array work in {out} (first: process {working[0]})",
                expected="A folder in use is not cleared",
                do="Wait for them or cancel them, or pass --break-lock if they are gone",
            )
        )


def _read_run(path: Path, description: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``run.json``; a damaged one is written again if every receipt is of this run."""
    try:
        return dict(read_json(path))
    except (ValueError, TypeError) as error:
        receipts = [r for r in read_receipts(path.parent, description["n_parts"]) if r]
        if receipts and all(r.get("digest") == description["digest"] for r in receipts):
            logger.warning("%s is damaged and is written again", path)
            publish_json(path, sealed(description))
            return dict(description)
        raise InconsistentError(
            explain(f"{path} is damaged ({error})", do="Pass --overwrite to start anew")
        ) from error


def clear(out: Path) -> None:
    """Remove the results of an earlier run, and nothing else in the folder."""
    files = (COMPLETE, RUN, CORRELATION, PROBES)
    for path in [*(out / name for name in files), *(out / "parts").glob("part-*")]:
        path.unlink(missing_ok=True)
    for name in ("task", "probes", "attempts"):
        shutil.rmtree(out / "private" / name, ignore_errors=True)


def finished_parts(
    out: Path, n_parts: int, digest: str, *, among: Iterable[int] | None = None
) -> list[int]:
    """Parts whose file is what the receipt says, byte for byte; damaged ones lose the receipt."""
    finished = []
    for part in range(n_parts) if among is None else among:
        receipt = read_receipt(out, part)
        if receipt is None or receipt.get("digest") != digest:
            continue
        if is_whole(out, part, receipt):
            finished.append(part)
            continue
        logger.warning("part %d is damaged on disk and is computed again", part)
        receipt_path(out, part).unlink(missing_ok=True)
    return finished


def is_whole(out: Path, part: int, receipt: Mapping[str, Any], *, deep: bool = True) -> bool:
    """Whether a part is there as its receipt records it."""
    path = part_path(out, part)
    try:
        if path.stat().st_size != receipt["bytes"]:
            return False
        return not deep or sha256_of(path) == receipt["sha256"]
    except (OSError, KeyError):
        return False


def missing_parts(out: Path, n_parts: int) -> list[int]:
    """Parts without a receipt, by one look at the folder."""
    there = {path.name for path in (out / "parts").glob("*.ok.json")}
    return [part for part in range(n_parts) if receipt_path(out, part).name not in there]


def read_receipt(out: Path, part: int) -> dict[str, Any] | None:
    """Read the receipt of a part, or None if there is none that can be read."""
    path = receipt_path(out, part)
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError):
        return None


def read_receipts(out: Path, n_parts: int) -> list[dict[str, Any]]:
    """Read the receipts of all parts, empty for those that have none."""
    return [read_receipt(out, part) or {} for part in range(n_parts)]


def complete(out: Path, n_parts: int, digest: str, totals: Mapping[str, Any]) -> None:
    """Write the last file of a run: its parts with their digests."""
    receipts = read_receipts(out, n_parts)
    missing = [part for part, receipt in enumerate(receipts) if receipt.get("digest") != digest]
    if missing:
        raise incomplete(out, n_parts, missing)
    parts = [_record(receipt) for receipt in receipts]
    publish_json(out / COMPLETE, sealed({"parts": parts, **totals}))
    sweep(out, out / "parts")


def _record(receipt: Mapping[str, Any]) -> dict[str, Any]:
    return {key: receipt.get(key) for key in ("part", "sha256", "bytes", "rows")}


def is_recorded(out: Path, n_parts: int) -> bool:
    """Whether the last file is there and lists every part as its receipt does."""
    try:
        parts = read_json(out / COMPLETE)["parts"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(parts == [_record(receipt) for receipt in read_receipts(out, n_parts)])


def incomplete(out: Path, n_parts: int, missing: Sequence[int]) -> IncompleteError:
    """Say which parts of a run are missing."""
    return IncompleteError(
        explain(
            f"{len(missing):,} of {n_parts:,} parts in {out} are missing: {ranges(missing)}",
            do="Run their tasks again, or the same command without --part, which computes them",
        )
    )


def ranges(numbers: Sequence[int], limit: int = 8) -> str:
    """Write increasing numbers in short: ``0-3, 7, 9-12``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:limit]]
    return ", ".join([*shown, *(["..."] if len(runs) > limit else [])])


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


def difference(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in what two descriptions of a run differ, so that one cannot continue the other."""
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
