"""Which variants and people go into a scan, decided before any statistic is computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import DegenerateError, InconsistentError, explain
from imgwas.genotypes import sample_missingness, select_rows
from imgwas.tables import IdList, read_id_list
from imgwas.types import Genotypes, Samples

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Rows and columns of the genotype matrix that go into a scan.

    Parameters
    ----------
    rows : (variants,) int64 array
        Rows of the genotype matrix, increasing.
    sample_columns : (samples,) int64 array or None
        Columns left by keep, remove and mind; None means all.
    report : dict
        What each option did, with counts.
    """

    rows: np.ndarray
    sample_columns: np.ndarray | None = None
    report: dict[str, Any] = field(default_factory=dict)


def select(
    genotypes: Genotypes,
    *,
    chromosomes: Sequence[str] = (),
    extract: Sequence[Path] = (),
    exclude: Sequence[Path] = (),
    keep: Sequence[Path] = (),
    remove: Sequence[Path] = (),
    mind: float | None = None,
) -> Selection:
    """Choose variants by chromosome and list, and people by list and missingness.

    Order and meaning are PLINK 2's: ``extract`` and ``exclude`` files name variants, one a line;
    ``keep`` and ``remove`` name people; ``mind`` then removes people with more than this share of
    missing calls among the chosen variants.

    Raises
    ------
    DegenerateError
        If no variant or no person is left.
    """
    rows, counts = select_rows(
        genotypes, chromosomes=chromosomes, extract=list(extract), exclude=list(exclude)
    )
    report: dict[str, Any] = {"variants": counts}
    for name, n in counts.items():
        logger.info("variants  %s: %s", name, n)
    if not len(rows):
        raise DegenerateError(
            explain("no variant is left", do="Loosen --chr, --extract or --exclude")
        )
    columns = np.arange(genotypes.n_samples)
    for option, paths, wanted in (("keep", keep, True), ("remove", remove, False)):
        if paths:
            listed = _listed(genotypes.samples, [read_id_list(path) for path in paths], option)
            columns = columns[listed[columns] == wanted]
            report[option] = {"files": [path.name for path in paths], "left": len(columns)}
            logger.info("samples   --%s leaves %s", option, f"{len(columns):,}")
    if mind is not None:
        missing = sample_missingness(genotypes, rows)[columns]
        columns = columns[missing <= mind]
        report["mind"] = {"value": mind, "removed": int((missing > mind).sum())}
        logger.info("samples   --mind %g removes %s", mind, f"{report['mind']['removed']:,}")
    if not len(columns):
        raise DegenerateError(explain("no sample is left", do="Loosen --keep, --remove or --mind"))
    chosen = columns if keep or remove or mind is not None else None
    return Selection(rows, chosen, report)


def _listed(samples: Samples, lists: Sequence[IdList], option: str) -> np.ndarray:
    """Mark the people that any of the lists names."""
    by_id: set[str] = set()
    by_both: set[tuple[str, str]] = set()
    for ids in lists:
        if ids.family_ids is None:
            by_id.update(ids.sample_ids)
        else:
            by_both.update(zip(ids.family_ids, ids.sample_ids, strict=True))
    found = np.array(
        [
            iid in by_id or (fid, iid) in by_both or ("0", iid) in by_both
            for fid, iid in zip(samples.family_ids, samples.sample_ids, strict=True)
        ],
        bool,
    )
    n_listed = len(by_id) + len(by_both)
    logger.info(
        "samples   --%s names %s, %s of them genotyped",
        option,
        f"{n_listed:,}",
        f"{int(found.sum()):,}",
    )
    if n_listed and not found.any() and option == "keep":
        raise InconsistentError(
            explain(
                f"none of the {n_listed:,} ids of --keep is in the genotype file",
                expected="One id a line: IID, or FID and IID",
                do="Compare the first lines of the list and of the .fam",
            )
        )
    return found
