"""The people of a BGEN file: its ``.sample`` file, the ids inside it, and whether they agree."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from imgwas.arrow import from_strings
from imgwas.errors import InconsistentError, MalformedError, explain, first_ids
from imgwas.genotypes.bgen_index import BgenHeader
from imgwas.genotypes.text import decoded, read_bytes, what_it_is
from imgwas.genotypes.variant_table import samples_of
from imgwas.types import Samples

logger = logging.getLogger(__name__)

_TYPES = {"0", "D", "C", "P", "B"}
_TWO_IDS = {("id_1", "id_2"), ("id1", "id2"), ("fid", "iid")}
_ONE_ID = ("id", "iid")
#: What writers put where they have no ids.
_ANONYMOUS = ("anonymous_sample_", "(anonymous_sample", "unknown_sample", "(unknown_sample")


def bgen_samples(header: BgenHeader, sample: Path | None) -> tuple[Samples, str]:
    """People of a BGEN file, and a digest of where they were read.

    Raises
    ------
    InconsistentError
        If nothing names them, or the ``.sample`` has other people or another order.
    """
    embedded = header.sample_ids
    if sample is None:
        return _embedded(header), "embedded"
    table, digest = read_sample_file(sample, header.n_samples)
    if table.num_rows != header.n_samples:
        raise InconsistentError(
            explain(
                f"{sample} has {table.num_rows:,} people, {header.path.name} has "
                f"{header.n_samples:,}",
                do="Use the .sample file that came with this .bgen",
            )
        )
    people = samples_of(table)
    if embedded is not None and not _is_anonymous(embedded):
        _check_order(header.path, sample, embedded, people)
    return people, digest


def _embedded(header: BgenHeader) -> Samples:
    ids = header.sample_ids
    if ids is None or _is_anonymous(ids):
        raise InconsistentError(
            explain(
                f"{header.path} has no ids of its {header.n_samples:,} people",
                do="Name its .sample file: --sample FILE (sample=...)",
            )
        )
    n = len(ids)
    return Samples(ids, ("0",) * n, np.zeros(n, np.int8), np.ones(n, bool))


def _is_anonymous(ids: tuple[str, ...]) -> bool:
    return all(name.startswith(_ANONYMOUS) for name in ids)


def _check_order(path: Path, sample: Path, embedded: tuple[str, ...], people: Samples) -> None:
    """Refuse a ``.sample`` in another order; other spellings of ids are only told."""
    pairs = list(zip(people.family_ids, people.sample_ids, strict=True))
    spellings = [
        [iid for _, iid in pairs],
        [fid for fid, _ in pairs],
        [f"{fid}_{iid}" for fid, iid in pairs],
    ]
    if any(list(embedded) == ids for ids in spellings):
        return
    best = max(spellings, key=lambda ids: len(set(ids) & set(embedded)))
    known = set(best)
    rows = [i for i, name in enumerate(embedded) if name != best[i]]
    moved = [i for i in rows if embedded[i] in known]
    if moved:
        raise InconsistentError(
            explain(
                f"{sample} has people in another order than {path.name}: {len(moved):,} ids of the "
                ".bgen stand in another row",
                where=f"row {moved[0] + 1:,}, {first_ids([embedded[moved[0]], best[moved[0]]])}",
                do="Use the .sample file that came with this .bgen",
            )
        )
    logger.warning(
        "%s of %s ids inside %s are not in %s; its order cannot be checked for them",
        f"{len(rows):,}",
        f"{len(embedded):,}",
        path.name,
        sample.name,
    )


def read_sample_file(path: Path, n_samples: int) -> tuple[pa.Table, str]:
    """Read an Oxford ``.sample`` file as the columns of a ``.fam``.

    The first line names columns. A second line of types (``0 0 0 D``) may be there or not: it is
    taken for types when every field is one and a person would be too many with it.

    Parameters
    ----------
    path : Path
        The file.
    n_samples : int
        People of the genotype file.

    Raises
    ------
    MalformedError
        With the line that is wrong.
    """
    content = read_bytes(path)
    meaning = what_it_is(content[:32])
    if meaning:
        raise MalformedError(explain(f"{path} is {meaning}"))
    lines = decoded(path, content).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    rows = [line.split() for line in lines]
    if len(rows) < 2:
        raise MalformedError(explain(f"{path} has {len(rows)} lines, and no person"))
    names = [name.lower() for name in rows[0]]
    two = len(names) > 1 and (names[0], names[1]) in _TWO_IDS
    if not two and names[0] not in _ONE_ID:
        raise MalformedError(
            explain(
                f"{path}:1 begins with {rows[0][0][:40]!a}",
                expected="A .sample file begins with a line of names: ID_1 ID_2 missing",
                do="Add that line",
            )
        )
    _check_widths(path, rows)
    people = rows[1:]
    if set(people[0]) <= _TYPES and people[0][0] == "0" and len(people) != n_samples:
        people = people[1:]
    columns = dict(zip(names, zip(*people, strict=True), strict=False)) if people else {}
    n = len(people)
    table = {
        "family_id": [row[0] for row in people] if two else ["0"] * n,
        "sample_id": [row[int(two)] for row in people],
        "father": list(columns.get("father", ["0"] * n)),
        "mother": list(columns.get("mother", ["0"] * n)),
        "sex": list(columns.get("sex", ["0"] * n)),
    }
    arrays = {name: from_strings(values) for name, values in table.items()}
    return pa.table(arrays), hashlib.sha256(content).hexdigest()


def _check_widths(path: Path, rows: list[list[str]]) -> None:
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if wrong is not None:
        raise MalformedError(
            explain(
                f"{path}:{wrong + 1} has {len(rows[wrong])} fields",
                expected=f"The first line has {len(rows[0])}",
                do="Complete or remove that line",
            )
        )
