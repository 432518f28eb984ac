"""Lists of people: the files of ``--keep`` and ``--remove``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from imgwas.errors import MalformedError, explain
from imgwas.tables.delimited import read_text

logger = logging.getLogger(__name__)

_HEADERS = ("#FID", "FID", "#IID", "IID", "sample_id")


@dataclass(frozen=True)
class IdList:
    """People named by a ``--keep`` or ``--remove`` file."""

    sample_ids: tuple[str, ...]
    family_ids: tuple[str, ...] | None
    header: str


def read_id_list(path: str | Path) -> IdList:
    """Read people, one a line: IID, or FID and IID; a PLINK header is recognised.

    Lines may carry more columns, which are ignored. A single column, or the header ``#IID``,
    ``IID`` or ``sample_id``, means sample ids alone.

    Raises
    ------
    MalformedError
        If the file names nobody, or a line lacks the IID that the others have.
    """
    path = Path(path)
    lines = read_text(path).decode("utf-8").split("\n")
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    header = " ".join(rows.pop(0)[1]) if rows[0][1][0] in _HEADERS else ""
    if not rows:
        raise MalformedError(explain(f"{path} has the header {header!r} and no ids"))
    only_iid = header.startswith(("#IID", "IID", "sample_id"))
    only_iid |= not header and all(len(fields) == 1 for _, fields in rows)
    needed = 1 if only_iid else 2
    for number, fields in rows:
        if len(fields) < needed:
            raise MalformedError(
                explain(
                    f"{path}:{number} has one field", expected="FID and IID, like the other lines"
                )
            )
    logger.info("read %s: header %r, %s ids", path.name, header or "none", f"{len(rows):,}")
    ids = tuple(fields[needed - 1] for _, fields in rows)
    families = None if only_iid else tuple(fields[0] for _, fields in rows)
    return IdList(ids, families, header)
