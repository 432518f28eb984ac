"""Damaged copies of every kind of file, and what a reader may do with them.

A reader may refuse with an :class:`ImgwasError`, or read what an independent reading of the damaged
bytes gives; where a file is protected by a checksum, only the undamaged result. Anything else, a
hang, or more than a gigabyte, is a finding.

``python -m tests.fuzzing TARGET N SEED FOLDER`` runs one target under limits and writes JSON.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import ImgwasError

#: Bytes that readers stumble over, in text and elsewhere.
NASTY = [
    b"\0", b"\n", b"\r", b"\t", b" ", b",", b'"', b"'", b"-", b".", b"#", b"\xff", b"\xfe\xff",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x88\x92", b"NA", b"nan", b"inf", b"1e999", b"-9",
    b"9" * 40, b"../", b"{", b"}", b"[", b"null", b"\x1f\x8b", b"PAR1", b"\\u0000", b"1e-400",
]  # fmt: skip
#: A mutant may take this long and this much memory.
SECONDS, BYTES = 10, 1_000_000_000


def mutants(content: bytes, n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged copies and what was done to them; never the content itself."""
    rng = np.random.default_rng(seed)
    while n:
        name, changed = _mutate(content, rng)
        if changed != content:
            n -= 1
            yield name, changed


def _mutate(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    size = len(content)
    at = int(rng.integers(size))
    if rng.random() < 0.3:  # structure is denser at both ends
        at = (
            min(size - 1, int(rng.integers(64)))
            if rng.random() < 0.5
            else max(0, size - 1 - at % 64)
        )
    kind = str(rng.choice(["flip", "set", "insert", "nasty", "delete", "cut", "repeat", "swap"]))
    run = int(rng.choice([1, 1, 1, 2, 4, 16, 200]))
    if kind == "flip":
        changed = bytes([content[at] ^ 1 << int(rng.integers(8))])
        return f"{kind} {at}", content[:at] + changed + content[at + 1 :]
    if kind == "set":
        return f"{kind} {at}", content[:at] + rng.bytes(run) + content[at + run :]
    if kind == "insert":
        return f"{kind} {at}", content[:at] + rng.bytes(run) + content[at:]
    if kind == "nasty":
        word = NASTY[int(rng.integers(len(NASTY)))]
        over = len(word) if rng.random() < 0.5 else 0
        return f"{kind} {at} {word[:9]!r}", content[:at] + word + content[at + over :]
    if kind == "delete":
        return f"{kind} {at} {run}", content[:at] + content[at + run :]
    if kind == "cut":
        return f"{kind} {at}", content[:at]
    if kind == "repeat":
        return f"{kind} {at} {run}", content[: at + run] + content[at:]
    other = int(rng.integers(size))
    a, b = sorted((at, other))
    return f"{kind} {a} {b}", content[:a] + content[b : b + run] + content[a + run :]


@dataclass(frozen=True)
class Target:
    """Files, which of them is damaged, how they are read, and what must hold if they are.

    ``make`` fills a folder; ``read`` takes the folder and returns what was read; ``check`` takes
    what was read from the damaged folder, from the whole one, and the damaged file, and returns
    what is wrong or an empty string.
    """

    name: str
    victims: tuple[str, ...]
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    check: Callable[[Any, Any, Path], str]


def run_target(
    target: Target, folder: Path, n: int, seed: int, *, on: Callable[[str], None] | None = None
) -> list[str]:
    """Read ``n`` mutants of the files of a target; return the findings."""
    folder.mkdir(parents=True)
    target.make(folder)
    whole = target.read(folder)
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    findings = []
    for number, victim in enumerate(target.victims):
        share = n // len(target.victims) + (number < n % len(target.victims))
        path = folder / victim
        good = path.read_bytes()
        for name, content in mutants(good, share, seed + number):
            path.write_bytes(content)
            if on is not None:
                on(f"{target.name} {victim} {name}")
            wrong = _read_one(target, folder, whole, path)
            for file, before in kept.items():  # readers may remove what is damaged
                if not file.exists():
                    file.write_bytes(before)
            if wrong:
                findings.append(f"{target.name} {victim} {name}: {wrong}")
        path.write_bytes(good)
    assert target.check(target.read(folder), whole, folder / target.victims[0]) == "", "not stable"
    return findings


def _read_one(target: Target, folder: Path, whole: Any, path: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = target.read(folder)
    except ImgwasError as error:
        return "" if len(str(error)) > 12 else f"says only {error!s}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        where = traceback.extract_tb(error.__traceback__)
        ours = [f for f in where if "/imgwas/" in f.filename] or list(where)
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return f"{type(error).__name__} at {place}: {str(error)[:150]}"
    try:
        return target.check(found, whole, path)
    except Exception as error:  # noqa: BLE001 - the plain reading cannot read it at all
        return f"read what is unreadable ({type(error).__name__}: {str(error)[:100]})"


# --- what was read, as something that can be compared ------------------------------------------


def same(found: Any, whole: Any, path: Path) -> str:
    """For files with checksums: only the undamaged result."""
    return "" if equal(found, whole) else "read something else"


def anything(found: Any, whole: Any, path: Path) -> str:
    """For files whose every value is legal."""
    return ""


def equal(one: Any, other: Any) -> bool:
    """Whether two nested results are equal, NaN included."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(
            one, other, equal_nan=one.dtype.kind == "f"
        )
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(v, other[k]) for k, v in one.items())
    return bool(one == other)


def main() -> None:
    """Run one target under limits; write findings and peak memory as JSON."""
    from tests.fuzz_targets import TARGETS

    name, n, seed, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    logging.getLogger("imgwas").setLevel(logging.CRITICAL)
    target = TARGETS[name]
    shutil.rmtree(folder / name, ignore_errors=True)
    last = (folder / f"{name}.last").open("w")
    began = {"peak": 0}

    def on(what: str) -> None:
        if not began["peak"]:
            began["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            space = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (space + 2 * BYTES, space + 2 * BYTES))
        last.seek(0)
        last.write(what + "\n")
        last.truncate()
        last.flush()
        faulthandler.dump_traceback_later(SECONDS, exit=True)

    findings = run_target(target, folder / name, n, seed, on=on)
    faulthandler.cancel_dump_traceback_later()
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began["peak"])
    print(json.dumps({"target": name, "n": n, "grown": grown, "findings": findings}))


if __name__ == "__main__":
    main()
