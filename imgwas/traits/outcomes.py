"""Traits that latents are tested against: numbers, cases and controls, times to an event."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import InconsistentError, MalformedError, explain
from imgwas.shapes import Float64
from imgwas.tables import read_phenotypes

logger = logging.getLogger(__name__)

KINDS = ("number", "binary", "survival")


@dataclass(frozen=True)
class Trait:
    """One trait of people.

    Parameters
    ----------
    name : str
        What tables and figures call it.
    kind : {"number", "binary", "survival"}
        A quantity; cases (1) and controls (0); events (1) and censored people (0) with times.
    values : (samples,) float array
        NaN is missing: such a person is neither case nor control.
    sample_ids : tuple of str
        IID of each person, unique.
    time : (samples,) float array, optional
        Survival: years from imaging to the event or to censoring, above zero; NaN where ``values``
        is.
    counts : mapping of str to int
        How many people each rule of the definition took or left out.
    """

    name: str
    kind: str
    values: Float64[np.ndarray, " samples"]
    sample_ids: tuple[str, ...]
    time: Float64[np.ndarray, " samples"] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_option(f"the kind of {self.name}", self.kind, KINDS)
        if len(self.values) != len(self.sample_ids):
            raise InconsistentError(
                explain(f"{self.name} has {len(self.values):,} values",
                        expected=f"{len(self.sample_ids):,}, one per sample id")
            )  # fmt: skip
        if len(set(self.sample_ids)) != len(self.sample_ids):
            raise InconsistentError(
                explain(f"{self.name} has people who come twice", expected="One row per person")
            )
        if self.kind != "number":
            _check_binary(self.name, self.values)
        if (self.kind == "survival") != (self.time is not None):
            raise InconsistentError(
                explain(f"{self.name} is {self.kind!r}", expected="Times belong to survival only")
            )
        if self.time is not None:
            _check_time(self.name, self.values, self.time)

    def __repr__(self) -> str:
        if self.kind == "number":
            return f"Trait({self.name}, a number, {self.n:,} people)"
        what = "cases" if self.kind == "binary" else "events"
        return f"Trait({self.name}, {self.n_cases:,} {what} of {self.n:,} people)"

    @property
    def n(self) -> int:
        """People with a value."""
        return int(np.isfinite(self.values).sum())

    @property
    def n_cases(self) -> int:
        """Cases, or events; 0 for a number."""
        return 0 if self.kind == "number" else int(np.nansum(self.values))


def _check_binary(name: str, values: np.ndarray) -> None:
    odd = np.unique(values[np.isfinite(values) & ~np.isin(values, (0.0, 1.0))])
    if len(odd) or np.isinf(values).any():
        shown = ", ".join(f"{value:g}" for value in odd[:5]) or "an infinite value"
        raise MalformedError(
            explain(f"{name} holds {shown}", expected="1 for cases, 0 for controls, NA for neither")
        )


def _check_time(name: str, values: np.ndarray, time: np.ndarray) -> None:
    if time.shape != values.shape:
        raise InconsistentError(explain(f"{name} has {len(time):,} times and {len(values):,} rows"))
    here = np.isfinite(values)
    bad = int((~(time[here] > 0) | np.isinf(time[here])).sum())
    if bad:
        raise MalformedError(
            explain(
                f"{name}: {bad:,} people have no time, or one that is not above zero",
                expected="Years from imaging to event or censoring",
                do="Leave out people whose event came before imaging: they are prevalent cases",
            )
        )


def read_traits(
    path: str | Path,
    *,
    numbers: Sequence[str] = (),
    binary: Sequence[str] = (),
    id_column: str | None = None,
    neg9: str = "plink",
) -> list[Trait]:
    """Read traits that are columns of a table.

    Parameters
    ----------
    path : path
        Parquet, CSV, TSV or whitespace-separated text with an id column.
    numbers, binary : sequence of str
        Columns of quantities, and of cases: 1 and 0, or PLINK's 2 and 1.
    id_column : str, optional
        Column of the sample ids.
    neg9 : {"plink", "missing", "value"}
        How -9 is read.

    Raises
    ------
    MalformedError
        If a column of cases holds anything else.
    """
    traits = []
    for names, kind in ((numbers, "number"), (binary, "binary")):
        if not names:
            continue
        table = read_phenotypes(path, id_column=id_column, names=names, neg9=neg9)
        for column, name in enumerate(table.names):
            values = np.array(table.values[:, column])
            if kind == "binary":
                values = _without_plink_codes(name, values)
            traits.append(Trait(name, kind, values, table.sample_ids))
    return traits


def _without_plink_codes(name: str, values: np.ndarray) -> np.ndarray:
    """PLINK writes 1 for controls and 2 for cases."""
    if set(np.unique(values[np.isfinite(values)])) == {1.0, 2.0}:
        logger.info("%s: 2 is read as a case and 1 as a control, as PLINK writes them", name)
        return values - 1
    return values
