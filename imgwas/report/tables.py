"""Tables of the page: sortable, with numbers that can be read, and whole as a file to keep."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.report.markup import Child, Html, tag

if TYPE_CHECKING:
    import pandas as pd

#: Rows that a page shows; the file below the table has all.
MOST_ROWS = 1000
#: From this number of rows on there is a box to search in.
SEARCHABLE = 12
#: Texts up to this length stay on one line.
SHORT = 22
#: Facts beyond this length have a line of their own.
WIDE = 120


@dataclass(frozen=True)
class Column:
    """A column of a table on the page.

    Parameters
    ----------
    name : str
        In the DataFrame.
    title : str
        On the page.
    help : str
        What it means, shown when the pointer rests on the title.
    show : callable, optional
        Turns a value into what is shown.
    """

    name: str
    title: str
    help: str = ""
    show: Callable[[Any], Child] | None = None


@dataclass
class Downloads:
    """Files that the page carries, in the order of their tables."""

    files: dict[str, tuple[str, Html]] = field(default_factory=dict)

    def add(self, name: str, table: pd.DataFrame, about: str) -> Html:
        """Keep a table as tab-separated text and return a link that saves it."""
        text = table.to_csv(sep="\t", index=False, na_rep="NA", float_format="%.8g")
        packed = base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")
        address = f"data:text/tab-separated-values;base64,{packed}"
        self.files[name] = (about, tag("a", name, href=address, download=name))
        return tag("a", f"{name} ({len(table):,} rows)", href="#downloads", data_file=name)


def number(value: Any, digits: int = 3) -> str:
    """Write a number with some significant digits; nothing where there is none."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not np.isfinite(value):
        return ""
    if isinstance(value, int | np.integer) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    size = abs(float(value))
    if 1e-3 <= size < 1e5:
        return f"{value:,.{max(0, digits - 1 - int(np.floor(np.log10(size))))}f}"
    return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")


def fixed(digits: int) -> Callable[[Any], str]:
    """Write numbers with so many decimals."""

    def show(value: Any) -> str:
        return "" if value is None or not np.isfinite(value) else f"{value:z,.{digits}f}"

    return show


def p_text(neg_log10_p: Any) -> str:
    """Write -log10 P as a P value, however small."""
    from imgwas.sumstats.pvalues import p_value_text

    if neg_log10_p is None or not np.isfinite(neg_log10_p):
        return ""
    if neg_log10_p < 4:
        return f"{10.0**-neg_log10_p:.2g}"
    mantissa, _, exponent = p_value_text(float(neg_log10_p))[0].partition("e")
    return f"{float(mantissa):.1f}e{int(exponent)}"


def table_block(
    table: pd.DataFrame,
    columns: Sequence[Column],
    *,
    caption: Child,
    name: str,
    row_ids: Mapping[int, str] | None = None,
) -> Html:
    """Make a table that sorts by a click on a title.

    Parameters
    ----------
    table : DataFrame
        Columns that it lacks, or that are empty, are left out.
    columns : sequence of Column
        What to show, in order.
    caption : text or element
        Above the table; also what readers of screens hear.
    name : str
        Anchor.
    row_ids : mapping of int to str, optional
        Anchor of the panel that a row opens.
    """
    shown = [
        column
        for column in columns
        if column.name in table and (table[column.name].notna().any() or not len(table))
    ]
    numeric = {c.name for c in shown if _is_numeric(table[c.name])}
    head = [_title(column, column.name in numeric) for column in shown]
    values = [table[column.name].tolist() for column in shown]
    body = [
        tag(
            "tr",
            [
                _cell(c, column[row], c.name in numeric)
                for c, column in zip(shown, values, strict=True)
            ],
            data_panel=row_ids.get(row) if row_ids else None,
        )
        for row in range(min(len(table), MOST_ROWS))
    ]
    inner = tag("table", tag("thead", tag("tr", head)), tag("tbody", body), class_="sortable")
    return tag(
        "div",
        tag("p", caption, class_="caption", id=f"{name}-caption"),
        _search(name) if len(table) >= SEARCHABLE else None,
        tag("div", inner, class_="scroll", tabindex="0", role="region",
            aria_labelledby=f"{name}-caption"),
        _rest(len(table)),
        class_="table", id=name,
    )  # fmt: skip


def _search(name: str) -> Html:
    box = tag("input", type="search", class_="filter", id=f"{name}-filter",
              aria_label="Show only rows with this text", placeholder="filter rows")  # fmt: skip
    return tag("p", box, tag("span", class_="count", aria_live="polite"), class_="tools")


def _rest(n: int) -> Html | None:
    if n <= MOST_ROWS:
        return None
    return tag("p", f"The first {MOST_ROWS:,} of {n:,} rows; the file has all.", class_="note")


def _is_numeric(values: pd.Series) -> bool:
    from pandas.api.types import is_numeric_dtype

    return bool(is_numeric_dtype(values) and values.dtype != bool)


def _title(column: Column, is_number: bool) -> Html:
    button = tag("button", column.title, type="button", title=column.help or None)
    return tag("th", button, scope="col", aria_sort="none", class_="n" if is_number else None)


def _cell(column: Column, value: Any, is_number: bool) -> Html:
    missing = value is None or value != value
    shown = "" if missing else column.show(value) if column.show else number(value)
    key = None
    if is_number:
        key = "" if missing else repr(float(value))
    kind = "n" if is_number else "s" if len(str(value)) <= SHORT else None
    return tag("td", shown, class_=kind, data_v=key)


def facts(rows: Sequence[tuple[str, Child]]) -> Html:
    """List names and values; what has no value is left out."""
    pairs = [
        tag(
            "div",
            tag("dt", name),
            tag("dd", value),
            class_="wide" if len(str(value)) > WIDE else None,
        )
        for name, value in rows
        if value
    ]
    return tag("dl", pairs, class_="facts")
