"""Who is in the analysis: genotypes, latents and covariates matched by sample id."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgwas.checks import duplicates
from imgwas.errors import InconsistentError, explain, first_ids
from imgwas.shapes import Int64
from imgwas.types import Covariates, Latents, Samples

logger = logging.getLogger(__name__)

Key = tuple[str, ...]


@dataclass
class SampleFlow:
    """How many people each step left, in order."""

    steps: list[tuple[str, int]] = field(default_factory=list)

    def add(self, step: str, n: int) -> None:
        """Note that ``n`` people are left after ``step``."""
        self.steps.append((step, n))

    def lines(self) -> list[str]:
        """Return the table as text, one step a line."""
        width = max((len(step) for step, _ in self.steps), default=0)
        return [f"{step:<{width}}  {n:>9,}" for step, n in self.steps]


@dataclass(frozen=True)
class Alignment:
    """Rows of each table that belong to the analysed people, in genotype order."""

    sample_columns: Int64[np.ndarray, " samples"]
    latent_rows: Int64[np.ndarray, " samples"]
    covariate_rows: Int64[np.ndarray, " samples"]
    flow: SampleFlow


def align(
    samples: Samples,
    latents: Latents,
    covariates: Covariates | None = None,
    *,
    keep: Collection[int] | None = None,
    min_overlap: float = 0.5,
) -> Alignment:
    """Match the three sources by id.

    Ids are compared as exact strings: IID alone, or FID and IID together where the genotype file
    holds an IID twice and the tables carry family ids.

    Raises
    ------
    InconsistentError
        If ids are ambiguous or too few of them meet.
    """
    tables: list[tuple[str, Latents | Covariates]] = [("latents", latents)]
    if covariates is not None:
        tables.append(("covariates", covariates))
    use_family = _needs_family(samples, tables)
    keys = _keys(samples.sample_ids, samples.family_ids, use_family)
    columns = np.arange(len(samples)) if keep is None else np.array(sorted(keep), np.int64)
    flow = SampleFlow()
    flow.add("in genotypes", len(samples))
    if keep is not None:
        flow.add("after --keep, --remove and --mind", len(columns))
    rows: dict[str, np.ndarray] = {}
    for name, table in tables:
        table_keys = _keys(table.sample_ids, table.family_ids, use_family)
        flow.add(f"in {name}", len(table_keys))
        found = _find(table_keys, [keys[i] for i in columns])
        _check_overlap(name, keys, table_keys, int((found >= 0).sum()), len(columns), min_overlap)
        rows[name] = found
    return _intersect(columns, rows, covariates, flow)


def _intersect(
    columns: np.ndarray,
    rows: dict[str, np.ndarray],
    covariates: Covariates | None,
    flow: SampleFlow,
) -> Alignment:
    present = rows["latents"] >= 0
    flow.add("in genotypes and latents", int(present.sum()))
    covariate_rows = rows.get("covariates", np.zeros(len(columns), np.int64))
    if covariates is not None:
        present &= covariate_rows >= 0
        flow.add("and in covariates", int(present.sum()))
        complete = np.isfinite(covariates.values).all(axis=1)
        present[present] = complete[covariate_rows[present]]
        flow.add("with complete covariates", int(present.sum()))
        if not present.any():
            raise InconsistentError(_no_complete(covariates))
    flow.add("kept", int(present.sum()))
    return Alignment(columns[present], rows["latents"][present], covariate_rows[present], flow)


def _no_complete(covariates: Covariates) -> str:
    missing = np.isnan(covariates.values).mean(axis=0)
    worst = int(missing.argmax())
    return explain(
        "no sample has a value for every covariate",
        where=f"{covariates.names[worst]} is missing for {missing[worst]:.0%} of its file",
        do="Leave that covariate out, or complete it",
    )


def _needs_family(samples: Samples, tables: list[tuple[str, Latents | Covariates]]) -> bool:
    repeated = duplicates(samples.sample_ids)
    if not repeated:
        return False
    without = [name for name, table in tables if table.family_ids is None]
    both = list(zip(samples.family_ids, samples.sample_ids, strict=True))
    if without or len(set(both)) != len(both):
        where = f"{', '.join(without)} carry no family id" if without else "FID and IID both repeat"
        raise InconsistentError(
            explain(
                f"{len(repeated):,} sample ids occur more than once in the genotype file "
                f"({first_ids(repeated)})",
                expected="Ids must tell people apart",
                where=where,
                do="Give the tables FID and IID columns, or make the ids of the .fam unique",
            )
        )
    logger.info("sample ids repeat in the genotype file: matching on family id and sample id")
    return True


def _keys(ids: Sequence[str], families: Sequence[str] | None, use_family: bool) -> list[str]:
    if not use_family or families is None:
        return list(ids)
    return [f"{f}\t{i}" for f, i in zip(families, ids, strict=True)]


def _find(table_keys: list[str], wanted: list[str]) -> np.ndarray:
    """Row of each wanted key in a table, or -1."""
    row_of = {key: row for row, key in enumerate(table_keys)}
    if len(row_of) != len(table_keys):
        raise InconsistentError(
            explain(
                f"{len(table_keys) - len(row_of):,} rows of a table repeat a sample id",
                expected="One row per person is needed",
            )
        )
    return np.array([row_of.get(key, -1) for key in wanted], np.int64).reshape(len(wanted))


def _check_overlap(
    name: str,
    genotype_keys: list[str],
    table_keys: list[str],
    n_shared: int,
    n_columns: int,
    min_overlap: float,
) -> None:
    smaller = min(n_columns, len(table_keys))
    if smaller and n_shared >= max(1, min_overlap * smaller):
        return
    known = set(genotype_keys)
    strangers = [key for key in table_keys if key not in known]
    raise InconsistentError(
        explain(
            f"{n_shared:,} of {len(table_keys):,} samples of the {name} are among the "
            f"{n_columns:,} genotyped samples",
            expected=f"At least {min_overlap:.0%} of the smaller file must match (--min-overlap)",
            where=f"genotypes {first_ids(genotype_keys)}; {name} not found there "
            f"{first_ids(strangers)}",
            do=_diagnosis(genotype_keys, table_keys, n_shared),
        )
    )


#: Repairs that a person might have to make to the ids, tried only to say which would help.
_REPAIRS: dict[str, Callable[[str], str]] = {
    "the prefix 'sub-' were removed": lambda key: key.removeprefix("sub-"),
    "leading zeros were ignored": lambda key: key.lstrip("0"),
    "a trailing '.0' were removed": lambda key: key.removesuffix(".0"),
    "a visit suffix such as '_2_0' were removed": lambda key: re.sub(r"(_\d+){1,3}$", "", key),
    "'FID_IID' were split": lambda key: key.rpartition("_")[2],
    "upper and lower case were the same": str.lower,
}


def _diagnosis(genotype_keys: list[str], table_keys: list[str], n_shared: int) -> str:
    for what, repair in _REPAIRS.items():
        repaired = {repair(key) for key in genotype_keys}
        n = sum(repair(key) in repaired for key in table_keys)
        if n > max(2 * n_shared, 1):
            return f"{n:,} would match if {what}: rewrite the ids that way"
    return "Check that the id column holds the IIDs of the .fam (see --id-column)"
