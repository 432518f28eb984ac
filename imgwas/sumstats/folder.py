"""The folder of a scan as readers see it: what it is, whether it is finished and whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgwas.errors import IncompleteError, MalformedError, OpenError, explain
from imgwas.files import read_json, sha256_of

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
_REPAIR = "Run the same imgwas associate command again: it computes what is missing or damaged"


@dataclass(frozen=True)
class Part:
    """One file of statistics as its receipt records it."""

    path: Path
    rows: int
    n_bytes: int
    sha256: str

    @classmethod
    def from_json(cls, folder: Path, receipt: Mapping[str, Any]) -> Part:
        """Read a receipt, or an element of ``RUN_COMPLETE.json``'s ``parts``."""
        path = folder / "parts" / f"part-{receipt['part']:05d}.parquet"
        return cls(path, int(receipt["rows"]), int(receipt["bytes"]), str(receipt["sha256"]))

    def problem(self, *, deep: bool = False) -> str:
        """What is wrong with the file, or an empty string."""
        if not self.path.exists():
            return f"{self.path.name} is missing"
        n_bytes = self.path.stat().st_size
        if n_bytes != self.n_bytes:
            return f"{self.path.name} has {n_bytes:,} bytes, not the {self.n_bytes:,} recorded"
        if deep and sha256_of(self.path) != self.sha256:
            return f"{self.path.name} does not match its recorded SHA-256"
        return ""


def open_folder(
    folder: Path, *, allow_partial: bool = False
) -> tuple[dict[str, Any], list[Part], bool]:
    """Read ``run.json`` and the list of parts, and refuse what is not whole.

    Returns
    -------
    tuple
        Content of ``run.json``, the finished parts in order, and whether some are missing.
    """
    metadata = read_run(folder)
    complete = folder / "RUN_COMPLETE.json"
    if complete.exists():
        receipts = _json(complete).get("parts", [])
        parts = [_part(folder, receipt, complete) for receipt in receipts]
        _check_present(folder, parts)
        return metadata, parts, False
    parts = _finished(folder, metadata)
    if not allow_partial:
        raise IncompleteError(
            explain(
                f"the run in {folder} is not finished: {len(parts)} of {metadata['n_parts']} parts "
                "done",
                do="Run the same command again to resume",
            )
        )
    if not parts:
        raise IncompleteError(
            explain(f"the run in {folder} has no finished part", do="Run the same command again")
        )
    return metadata, parts, len(parts) < metadata["n_parts"]


def other_files(folder: Path) -> list[dict[str, Any]]:
    """Files beside the parts that a finished run recorded: path, bytes and SHA-256 of each."""
    path = folder / "RUN_COMPLETE.json"
    if not path.exists():
        return []
    try:
        return [dict(entry) for entry in _json(path).get("files", [])]
    except (MalformedError, TypeError, ValueError):
        logger.warning("%s is damaged", path)  # the same scan run again writes it again
        return []


def problems_of_files(folder: Path, *, deep: bool = True) -> list[str]:
    """What is wrong with the files beside the parts, in sentences."""
    try:
        parts = [
            Part(folder / str(entry["path"]), 0, entry["bytes"], entry["sha256"])
            for entry in other_files(folder)
        ]
    except KeyError as error:
        return [f"RUN_COMPLETE.json describes a file without {error}"]
    return [problem for part in parts if (problem := part.problem(deep=deep))]


def read_run(folder: Path) -> dict[str, Any]:
    """Read ``run.json``, after making sure that this is the folder of a scan we understand."""
    path = folder / "run.json"
    if not path.exists():
        raise OpenError(
            explain(
                f"{folder} is not the folder of a scan"
                + (" (it has no run.json)" if folder.is_dir() else " (there is no such folder)"),
                do="Give the --out folder of imgwas associate",
            )
        )
    metadata = _json(path)
    if metadata.get("format") != "imgwas-scan":
        raise MalformedError(
            explain(
                f"{path} was not written by imgwas associate",
                do="Give the --out folder of imgwas associate",
            )
        )
    if int(metadata.get("format_version", 0)) > FORMAT_VERSION:
        raise MalformedError(
            explain(
                f"{folder} was made by a newer imgwas ({metadata.get('imgwas_version')})",
                expected=f"This one reads formats up to {FORMAT_VERSION}",
                do="Upgrade: pip install --upgrade imgwas",
            )
        )
    _check_settings(metadata, path)
    lacking = {"latents", "quarantined", "settings", "samples", "n_parts"} - metadata.keys()
    if lacking:
        raise MalformedError(
            explain(f"{path} lacks {', '.join(sorted(lacking))}", do="Run the scan again")
        )
    return metadata


def _check_settings(metadata: Mapping[str, Any], path: Path) -> None:
    """Refuse a ``run.json`` without what every reader needs."""
    settings, latents = metadata.get("settings", {}), metadata.get("latents", [])
    good = isinstance(settings, dict) and isinstance(latents, list)
    if good and all(isinstance(one, dict) and {"name", "group", "scale"} <= one.keys()
                    for one in latents) and "missing_genotype" in settings:  # fmt: skip
        return
    if good and not {"settings", "latents"} <= metadata.keys():
        return  # told by name
    raise MalformedError(explain(f"{path} is damaged", do="Run the same scan again"))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise MalformedError(
            explain(f"{path} is not readable as JSON ({error})", do=_REPAIR)
        ) from error
    if not isinstance(content, dict):
        raise MalformedError(explain(f"{path} holds no JSON object", do=_REPAIR))
    return content


def _part(folder: Path, receipt: Mapping[str, Any], source: Path) -> Part:
    try:
        return Part.from_json(folder, receipt)
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedError(
            explain(f"{source} describes a part without {error}", do=_REPAIR)
        ) from error


def _check_present(folder: Path, parts: list[Part]) -> None:
    if not parts:
        raise MalformedError(explain(f"{folder} lists no part", do=_REPAIR))
    problems = [problem for part in parts if (problem := part.problem())]
    if problems:
        raise MalformedError(
            explain(
                f"{len(problems):,} of {len(parts):,} parts in {folder} are damaged",
                where=problems[0],
                do=_REPAIR,
            )
        )


def _finished(folder: Path, metadata: Mapping[str, Any]) -> list[Part]:
    """Parts of an unfinished run whose receipt belongs to this run and whose size is right."""
    parts = []
    for path in sorted((folder / "parts").glob("part-*.ok.json")):
        receipt = _json(path)
        if receipt.get("digest") == metadata.get("digest"):
            part = _part(folder, receipt, path)
            if not part.problem():
                parts.append(part)
    return parts
