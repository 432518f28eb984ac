"""A run looked at from outside: how far it is, and whether its files are what they were."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from imgwas.association import attempts
from imgwas.association.folder import COMPLETE, missing_parts, ranges, read_receipt
from imgwas.association.parts import receipt_path
from imgwas.errors import ImgwasError, MalformedError, explain
from imgwas.locks import holder_of, others
from imgwas.sumstats.folder import Part, other_files, problems_of_files, read_run

#: Receipts that the present speed is taken from.
RECENT = 50


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes
    ----------
    n_parts : int
        Parts of the whole run.
    missing : list of int
        Parts without a receipt.
    complete : bool
        Whether the run is finished and may be read.
    n_bytes : int
        Size of the parts so far.
    parts_per_s : float
        Speed of late, 0 where it cannot be told.
    last_s : float
        Seconds since a part was finished; infinite if none is.
    working : list of str
        Processes that hold or share the folder, as far as they can be seen from here.
    troubled : dict of int to int
        Parts that were begun several times on workers and not finished.
    """

    n_parts: int
    missing: list[int]
    complete: bool
    n_bytes: int
    parts_per_s: float
    last_s: float
    working: list[str]
    troubled: dict[int, int]

    @property
    def n_done(self) -> int:
        """Parts that are finished."""
        return self.n_parts - len(self.missing)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for programs."""
        last = None if self.last_s == float("inf") else round(self.last_s, 1)
        return vars(self) | {"n_done": self.n_done, "last_s": last}

    def lines(self) -> list[str]:
        """The state for people."""
        share = self.n_done / self.n_parts
        found = [
            f"parts     {self.n_done:,} of {self.n_parts:,} done ({share:.0%}), "
            f"{self.n_bytes / 1e6:,.1f} MB",
        ]
        if self.missing:
            found.append(f"missing   {ranges(self.missing)}")
        if self.missing and self.parts_per_s:
            left = len(self.missing) / self.parts_per_s
            found.append(
                f"speed     {60 * self.parts_per_s:,.1f} parts a minute, {left:,.0f} s left"
            )
        if self.missing and self.last_s < float("inf"):
            found.append(f"last      a part was finished {self.last_s:,.0f} s ago")
        found += [f"working   process {one}" for one in self.working]
        found += [f"trouble   part {p} was begun {n} times" for p, n in self.troubled.items()]
        if not self.missing:
            found.append("complete" if self.complete else "not finished: run with --finish")
        return found


def look(out: Path) -> RunState:
    """Say how far a run is, without reading its parts.

    Raises
    ------
    OpenError
        If there is no scan in the folder.
    """
    n_parts = int(read_run(out)["n_parts"])
    receipts = [path.stat().st_mtime for path in (out / "parts").glob("*.ok.json")]
    times = sorted(receipts)[-RECENT:]
    span = times[-1] - times[0] if len(times) > 1 else 0.0
    holder = holder_of(out)
    missing = missing_parts(out, n_parts)
    begun = {part: attempts.count(out, part) for part in missing if _was_begun(out)}
    return RunState(
        n_parts=n_parts,
        missing=missing,
        complete=(out / COMPLETE).exists(),
        n_bytes=sum(path.stat().st_size for path in (out / "parts").glob("part-*.parquet")),
        parts_per_s=(len(times) - 1) / span if span > 0 else 0.0,
        last_s=max(0.0, time.time() - times[-1]) if times else float("inf"),
        working=[*([holder] if holder else []), *others(out)],
        troubled={part: n for part, n in begun.items() if n > 1},
    )


def _was_begun(out: Path) -> bool:
    return (out / "private" / "attempts").is_dir()


@dataclass(frozen=True)
class Damage:
    """Something in a run that is not as it was written.

    Attributes
    ----------
    what : str
        A sentence that names the file.
    part : int or None
        The part to compute again.
    """

    what: str
    part: int | None = None


def find_damage(
    out: Path, *, deep: bool = True, on_part: Callable[[int], object] = lambda _: None
) -> list[Damage]:
    """Compare every file of a run with what was recorded when it was written.

    Parameters
    ----------
    out : Path
        Folder of the run, finished or not.
    deep : bool
        Compare the content too, not sizes alone.
    on_part : callable
        Told of the size of every part that was read.

    Returns
    -------
    list of Damage
        Parts in order, then files beside them; empty if the run is whole.
    """
    n_parts = int(read_run(out)["n_parts"])
    recorded, damage = _recorded(out)
    if recorded is not None and set(recorded) != set(range(n_parts)):
        damage.append(Damage(f"{COMPLETE} lists {len(recorded):,} parts of {n_parts:,}"))
    for part in range(n_parts):
        receipt = read_receipt(out, part)
        known = (recorded or {}).get(part)
        damage += _of_part(out, part, receipt, known, deep=deep)
        on_part(int((known or receipt or {}).get("bytes", 0)))
    with contextlib.suppress(ImgwasError):  # an unreadable last file is told above
        damage += [Damage(problem) for problem in problems_of_files(out, deep=deep)]
    return damage


def _recorded(out: Path) -> tuple[dict[int, dict[str, Any]] | None, list[Damage]]:
    """Parts by number as the last file lists them, None for an unfinished run."""
    from imgwas.files import read_json

    path = out / COMPLETE
    if not path.exists():
        return None, []
    try:
        other_files(out)
        return {int(entry["part"]): dict(entry) for entry in read_json(path)["parts"]}, []
    except (ImgwasError, OSError, ValueError, KeyError, TypeError):
        return None, [Damage(f"{COMPLETE} cannot be read")]


def _of_part(
    out: Path,
    part: int,
    receipt: Mapping[str, Any] | None,
    known: Mapping[str, Any] | None,
    *,
    deep: bool,
) -> Iterator[Damage]:
    name = receipt_path(out, part).name
    if known is None and receipt is None:
        if receipt_path(out, part).exists():
            yield Damage(f"{name} cannot be read", part)
        return
    if receipt is None:
        yield Damage(f"{name} is missing or cannot be read", part)
    elif known is not None and any(receipt.get(key) != known[key] for key in known):
        yield Damage(f"{name} does not say what {COMPLETE} says", part)
    try:
        file = Part.from_json(out, known or receipt or {})
    except (KeyError, TypeError, ValueError):
        yield Damage(f"{name} lacks what a receipt says", part)
        return
    problem = file.problem(deep=deep)
    if problem:
        columns = damaged_columns(file.path) if deep else []
        where = f": {', '.join(columns[:3])}" if columns else ""
        more = ", ..." if len(columns) > 3 else ""
        yield Damage(f"{problem}{where}{more}", part)


def damaged_columns(path: Path) -> list[str]:
    """Columns of a part whose page checksums fail, as far as the file can be opened."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return [name for name in file.schema_arrow.names if not _reads(file, name)]
    except (OSError, ValueError):
        return []


def _reads(file: pq.ParquetFile, name: str) -> bool:
    try:
        file.read([name])
    except (OSError, ValueError):
        return False
    return True


def forget(out: Path, damage: list[Damage]) -> list[int]:
    """Make damaged parts undone, so that the command of the scan computes them again.

    Returns
    -------
    list of int
        The parts.
    """
    parts = sorted({one.part for one in damage if one.part is not None})
    if damage:
        (out / COMPLETE).unlink(missing_ok=True)
    for part in parts:
        receipt_path(out, part).unlink(missing_ok=True)
    return parts


def refuse(out: Path, damage: list[Damage], n_parts: int) -> None:
    """Raise the error that lists what is damaged.

    Raises
    ------
    MalformedError
        If anything is.
    """
    parts = {one.part for one in damage if one.part is not None}
    if damage:
        raise MalformedError(
            explain(
                f"{len(parts):,} of {n_parts:,} parts and "
                f"{sum(one.part is None for one in damage)} other files in {out} are damaged",
                do=f"imgwas repair {out} computes them anew",
            )
        )
