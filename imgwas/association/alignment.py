"""Who is in the analysis: genotypes, latents and covariates matched by sample id."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgwas.checks import check_range, duplicates
from imgwas.errors import DegenerateError, InconsistentError, explain, first_ids
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

    Ids are compared as exact strings: IID alone, or FID and IID together where an IID occurs twice
    in the genotype file or in a table that carries family ids.

    Parameters
    ----------
    samples : Samples
        People of the genotype file.
    latents : Latents
        Whoever has a row belongs, whatever is missing in it.
    covariates : Covariates, optional
        People with a missing covariate are left out.
    keep : collection of int, optional
        Columns of the genotype file to choose from.
    min_overlap : float, default 0.5
        Share of the smaller file, genotypes or table, whose people must be in the other.

    Returns
    -------
    Alignment
        Rows of each table, people in the order of the genotype file.

    Raises
    ------
    InconsistentError
        If ids are ambiguous or too few of them meet.
    DegenerateError
        If a covariate is missing for almost everyone.
    """
    check_range("min_overlap", min_overlap, low=0, high=1)
    tables: list[tuple[str, Latents | Covariates]] = [("latents", latents)]
    if covariates is not None:
        tables.append(("covariates", covariates))
    need_family = _need_family(samples, tables)
    columns = np.arange(len(samples)) if keep is None else np.array(sorted(keep), np.int64)
    flow = SampleFlow()
    flow.add("in genotypes", len(samples))
    if keep is not None:
        flow.add("after --keep, --remove and --mind", len(columns))
    rows: dict[str, np.ndarray] = {}
    for name, table in tables:
        flow.add(f"in {name}", len(table.sample_ids))
        rows[name] = find_people(
            name, samples, table, columns, min_overlap=min_overlap, need_family=need_family
        )
    return _intersect(columns, rows, covariates, flow)


def find_people(
    name: str,
    samples: Samples,
    table: Latents | Covariates,
    columns: np.ndarray,
    *,
    min_overlap: float = 0.5,
    need_family: bool = False,
) -> Int64[np.ndarray, " samples"]:
    """Find the row of a table for some columns of the genotype file, -1 where it has none.

    Raises
    ------
    InconsistentError
        If an id repeats, or too few are found.
    """
    use_family = need_family or bool(table.family_ids and duplicates(table.sample_ids))
    table_keys = _keys(table.sample_ids, table.family_ids, use_family)
    keys = _keys(samples.sample_ids, samples.family_ids, use_family)
    found = _find(table_keys, [keys[i] for i in columns])
    n_shared, smaller = int((found >= 0).sum()), min(len(columns), len(table_keys))
    if not smaller or n_shared < max(1, min_overlap * smaller):
        do = _exchanged(samples, table, n_shared) or _diagnosis(keys, table_keys, n_shared)
        shares = (n_shared, len(columns), min_overlap)
        raise InconsistentError(_too_few(name, keys, table_keys, *shares, do=do))
    return found


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
        if not present.any():
            raise InconsistentError(
                explain(
                    "nobody is in the genotypes, the latents and the covariates at once",
                    do="Check that both tables are of the same people",
                )
            )
        missing = np.isnan(covariates.values[covariate_rows[present]])
        _check_missing(missing, covariates.names)
        present[present] = ~missing.any(axis=1)
        flow.add("with complete covariates", int(present.sum()))
    flow.add("kept", int(present.sum()))
    return Alignment(columns[present], rows["latents"][present], covariate_rows[present], flow)


#: A covariate that is missing for more of the people is refused.
MOST_MISSING = 0.95


def _check_missing(missing: np.ndarray, names: Sequence[str]) -> None:
    """Say which covariate costs people; refuse one that costs almost all of them."""
    share = missing.mean(axis=0)
    if not share.any():
        return
    worst = int(share.argmax())
    lost = int(missing[:, worst].sum())
    others = missing[:, np.arange(len(names)) != worst].any(axis=1)
    alone = int((missing[:, worst] & ~others).sum())
    what = f"covariate {names[worst]} is missing for {lost:,} of {len(missing):,} samples"
    if share[worst] > MOST_MISSING:
        where = f"{alone:,} samples have every other covariate and would be lost because of it"
        raise DegenerateError(
            explain(what, where=where, do="Leave that covariate out, or complete it")
        )
    if missing.any(axis=1).all():
        raise DegenerateError(
            explain(
                "no sample has a value for every covariate",
                where=what,
                do="Leave covariates out, or complete them",
            )
        )
    logger.info("%s, who are left out", what)


def _need_family(samples: Samples, tables: list[tuple[str, Latents | Covariates]]) -> bool:
    """Whether the genotype file holds an IID twice, so that every table must carry families."""
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


def _too_few(
    name: str,
    genotype_keys: list[str],
    table_keys: list[str],
    n_shared: int,
    n_columns: int,
    min_overlap: float,
    *,
    do: str,
) -> str:
    known = set(genotype_keys)
    strangers = [key for key in table_keys if key not in known]
    return explain(
        f"{n_shared:,} of {len(table_keys):,} samples of the {name} are among the "
        f"{n_columns:,} genotyped samples",
        expected=f"At least {min_overlap:.0%} of the smaller file must match (--min-overlap)",
        where=f"genotypes {first_ids(genotype_keys)}; {name} not found there "
        f"{first_ids(strangers)}",
        do=do,
    )


#: Repairs that a person might have to make to the ids, tried only to say which would help.
_REPAIRS: dict[str, Callable[[str], str]] = {
    "the prefix 'sub-' were removed": lambda key: key.removeprefix("sub-"),
    "leading zeros were ignored": lambda key: key.lstrip("0"),
    "a trailing '.0' were removed": lambda key: key.removesuffix(".0"),
    "a visit suffix such as '_2_0' were removed": lambda key: re.sub(r"(_\d+){1,3}$", "", key),
    "'FID_IID' were split": lambda key: key.rpartition("_")[2],
    "upper and lower case were the same": str.lower,
    "the quotation marks were removed (in R: quote=FALSE)": lambda key: key.strip("\"'"),
}


def _diagnosis(genotype_keys: list[str], table_keys: list[str], n_shared: int) -> str:
    """Name the repair that would make most ids meet, or what else to look at."""
    rounded = sum(bool(re.fullmatch(r"\d(\.\d+)?[eE]\+?\d+", key)) for key in table_keys)
    if rounded > len(table_keys) / 2:
        return (
            f"{rounded:,} ids are written as 1.00002E+06: a spreadsheet rounded them, "
            "so export the table again with the ids as text"
        )
    matches: dict[str, int] = {}
    for what, repair in _REPAIRS.items():
        repaired = {repair(key) for key in genotype_keys}
        matches[what] = sum(repair(key) in repaired for key in table_keys)
    best = max(matches, key=lambda what: matches[what])
    if matches[best] > max(2 * n_shared, 1):
        return f"{matches[best]:,} would match if {best}: rewrite the ids that way"
    return "Check that the id column holds the IIDs of the .fam (see --id-column)"


def _exchanged(samples: Samples, table: Latents | Covariates, n_shared: int) -> str:
    """Say so if family ids stand where sample ids should, in either file."""
    people, families = set(samples.sample_ids), set(samples.family_ids) - {"0"}
    n_table = sum(family in people for family in table.family_ids or ())
    n_fam = sum(sample in families for sample in table.sample_ids)
    n = max(n_table, n_fam)
    if n <= max(2 * n_shared, 1):
        return ""
    where = "in this table" if n_table >= n_fam else "in the .fam"
    return f"{n:,} would match if FID and IID were exchanged {where}"
