"""The ``.bgi`` that bgenix writes beside a BGEN file, if it is of this file."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from imgwas.errors import InconsistentError, explain
from imgwas.genotypes.bgen_index import (
    BgenHeader,
    BgenIndex,
    Placed,
    VariantHead,
    gathered,
    read_at,
)

logger = logging.getLogger(__name__)


def read_bgi(descriptor: int, header: BgenHeader) -> BgenIndex | None:
    """Read the index that bgenix wrote beside the file; None where there is none, or it is stale.

    Raises
    ------
    InconsistentError
        If it belongs to this file but lists other variants.
    """
    path = header.path.with_name(header.path.name + ".bgi")
    if not path.exists():
        return None
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        database = sqlite3.connect(uri, uri=True)
        try:
            if not _is_fresh(database, descriptor, header):
                logger.warning("%s is of another %s: not used", path.name, header.path.name)
                return None
            index = gathered(_placed(database), path)
        finally:
            database.close()
    except (sqlite3.Error, OverflowError, TypeError, ValueError) as error:
        logger.warning("%s cannot be read (%s): not used", path.name, type(error).__name__)
        return None
    _check_bgi(path, header, index)
    return index


def _is_fresh(database: sqlite3.Connection, descriptor: int, header: BgenHeader) -> bool:
    """Whether size and first bytes of the file are those that were indexed."""
    query = "SELECT file_size, first_1000_bytes FROM Metadata"
    rows = list(database.execute(query).fetchmany(2))
    if len(rows) != 1:
        return False
    size, first = rows[0]
    return size == header.size and bytes(first) == read_at(descriptor, header.path, 0, 1000)


def _placed(database: sqlite3.Connection) -> Iterator[Placed]:
    for chromosome, position, name, n, first, second, start, size in _rows(database):
        alleles = (str(first), str(second), *[""] * (int(n) - 2))[: int(n)]
        head = VariantHead(str(chromosome), int(position), str(name) or ".", alleles, 0)
        yield int(start), int(start) + int(size), head


def _rows(database: sqlite3.Connection) -> Iterator[tuple]:
    return database.execute(
        "SELECT chromosome, position, rsid, min(number_of_alleles, 65535), allele1, allele2, "
        "file_start_position, size_in_bytes FROM Variant ORDER BY file_start_position"
    )


def _check_bgi(path: Path, header: BgenHeader, index: BgenIndex) -> None:
    fits = (
        index.table.num_rows == header.n_variants
        and index.edges[0] == header.first
        and index.edges[-1] == header.size
        and index.is_gapless
    )
    if not fits:
        raise InconsistentError(
            explain(
                f"{path} lists {index.table.num_rows:,} variants that do not fill "
                f"{header.path.name}, which has {header.n_variants:,}",
                do=f"Index it again: bgenix -index -clobber -g {header.path.name}; or remove the "
                ".bgi, and the file is scanned",
            )
        )
