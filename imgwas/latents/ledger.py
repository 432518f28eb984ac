"""The ledger of everyone a network has ever seen, pretraining included.

A latent of a person whose image trained the network is not a measurement of that person as others
are: it was fitted. The ledger travels with the latents, as salted digests rather than ids, and the
scan compares it with its own people: overlap is refused, or left out by a flag, never silent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from imgwas.errors import MalformedError, explain
from imgwas.files import publish

FILE = "people_seen.tsv"


def write_ledger(path: Path, people: Iterable[str]) -> None:
    """Publish the ids of everyone seen; the file is private."""
    with publish(path, "w") as stream:
        stream.write("sample_id\n")
        stream.writelines(f"{one}\n" for one in sorted(set(people)))
    path.chmod(0o600)


def read_ledger(path: Path) -> list[str]:
    """Read the ids of everyone seen."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    if not lines or lines[0] != "sample_id":
        raise MalformedError(explain(f"{path} is no ledger", expected="A column sample_id"))
    return [line for line in lines[1:] if line]


def mark_people(people: Sequence[str], salt: str | None = None) -> dict[str, object]:
    """Turn ids into salted digests that can be compared but not read.

    Returns
    -------
    dict
        ``salt`` and ``digests``, sorted. Short ids can still be guessed by trying all of them: the
        file stays as private as the latents it travels with.
    """
    salt = salt or os.urandom(16).hex()
    return {"salt": salt, "digests": sorted({_mark(one, salt) for one in people})}


def _mark(sample_id: str, salt: str) -> str:
    text = f"{salt}\t{sample_id}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:20]


def who_was_seen(marks: dict[str, object], people: Sequence[str]) -> np.ndarray:
    """Return a bool for every id: whether it is in a ledger of digests."""
    salt, digests = str(marks["salt"]), set(marks["digests"])  # type: ignore[call-overload]
    return np.array([_mark(one, salt) in digests for one in people], bool)
