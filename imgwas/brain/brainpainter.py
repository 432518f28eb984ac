"""Tables that BrainPainter colours brains from: 82 regions, values from 0 to 3.

BrainPainter draws the Desikan-Killiany cortex and subcortical structures. Its table has a row per
picture: an id, 35 right and 35 left cortical regions (one of them ``unknown``, the medial wall) and
12 subcortical ones, which it draws once for both sides.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain.atlas_tables import split_side
from imgwas.checks import check_option, did_you_mean
from imgwas.errors import InconsistentError, MalformedError, UsageError, explain
from imgwas.files import publish_bytes

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

CORTEX = (
    "bankssts", "caudalanteriorcingulate", "caudalmiddlefrontal", "cuneus", "entorhinal",
    "frontalpole", "fusiform", "inferiorparietal", "inferiortemporal", "insula",
    "isthmuscingulate", "lateraloccipital", "lateralorbitofrontal", "lingual",
    "medialorbitofrontal", "middletemporal", "paracentral", "parahippocampal",
    "parsopercularis", "parsorbitalis", "parstriangularis", "pericalcarine", "postcentral",
    "posteriorcingulate", "precentral", "precuneus", "rostralanteriorcingulate",
    "rostralmiddlefrontal", "superiorfrontal", "superiorparietal", "superiortemporal",
    "supramarginal", "temporalpole", "transversetemporal", "unknown",
)  # fmt: skip
SUBCORTEX = (
    "Accumbens-area", "Caudate", "Cerebellum-White-Matter", "Inf-Lat-Vent", "Pallidum",
    "Thalamus-Proper", "Amygdala", "Cerebellum-Cortex", "Hippocampus", "Lateral-Ventricle",
    "Putamen", "VentralDC",
)  # fmt: skip
ID = "Image-name-unique"
#: The columns after the id, in BrainPainter's order.
REGIONS = (
    *(f"Right-{name}" for name in CORTEX),
    *(f"Left-{name}" for name in CORTEX),
    *SUBCORTEX,
)
#: Value of a region that an atlas does not have, and the range that has colours.
UNKNOWN, LOW, HIGH = 0.5, 0.0, 3.0
#: Other atlases' words for the same region, squeezed.
SYNONYMS = {
    "bankssuperiortemporalsulcus": "bankssts", "bankssuperiortemporal": "bankssts",
    "accumbens": "accumbensarea", "thalamus": "thalamusproper",
    "cerebellumwm": "cerebellumwhitematter", "cerebellumexterior": "cerebellumcortex",
    "inferiorlateralventricle": "inflatvent", "cerebellarcortex": "cerebellumcortex",
    "nucleusaccumbens": "accumbensarea", "ventraldiencephalon": "ventraldc",
}  # fmt: skip


def brainpainter_values(table: pd.DataFrame, column: str, *, signed: str = "size") -> pd.Series:
    """Values of the 82 regions from a table of regions of a Desikan-like atlas.

    Names are matched without case, marks and the words gyrus, cortex, lobule; the side is told by
    the column ``hemisphere``. A subcortical structure gets the mean of its two sides. Regions of
    the atlas that BrainPainter does not draw, and regions that the atlas does not have, are logged;
    the latter get 0.5, as ``unknown`` does.

    Parameters
    ----------
    table : DataFrame
        As :func:`imgwas.region_table` gives it: ``region``, ``hemisphere`` and ``column``.
    column : str
        What to show, e.g. ``mean_absolute``.
    signed : {"size", "as_is"}
        ``size`` scales absolute values so that the largest is 3; ``as_is`` takes values that are
        within 0 and 3 already.

    Returns
    -------
    Series
        Indexed by the 82 names.

    Raises
    ------
    UsageError
        If the table lacks the column.
    InconsistentError
        If no region has a name of BrainPainter's, or two have the same.
    """
    check_option("signed", signed, ("as_is", "size"))
    missing = [c for c in ("region", "hemisphere", column) if c not in table.columns]
    if missing:
        do = did_you_mean(missing[0], [str(c) for c in table.columns])
        raise UsageError(explain(f"the table has no column {missing[0]!r}", do=do))
    values = table[column].to_numpy(np.float64)
    values = np.abs(values) if signed == "size" else values
    found, unmatched = _matched(table, values)
    if not found:
        first = ", ".join(unmatched[:3])
        raise InconsistentError(
            explain(
                f"none of the {len(table):,} regions is one of BrainPainter's (first: {first})",
                expected="A Desikan-Killiany atlas is needed",
            )
        )
    return _filled(found, unmatched, signed)


def _matched(table: pd.DataFrame, values: np.ndarray) -> tuple[dict[str, list[float]], list[str]]:
    """Values by BrainPainter's name, and names that it does not know."""
    known = {(_squeezed(name), ""): name for name in SUBCORTEX}
    for side in ("Left", "Right"):
        known |= {(_squeezed(name), side[0]): f"{side}-{name}" for name in CORTEX}
    found: dict[str, list[float]] = {}
    owners: dict[tuple[str, str], str] = {}
    unmatched = []
    for name, side, value in zip(table["region"], table["hemisphere"], values, strict=True):
        word = _squeezed(split_side(name)[0])
        word = SYNONYMS.get(word, word)
        target = known.get((word, side)) or known.get((word, ""))
        if target is None:
            unmatched.append(str(name))
            continue
        if (target, side) in owners:
            what = f"{owners[target, side]!r} and {name!r} are both BrainPainter's {target}"
            raise InconsistentError(explain(what, do="Leave one of them out"))
        owners[target, side] = str(name)
        found.setdefault(target, []).append(float(value))
    return found, unmatched


def _filled(found: Mapping[str, list[float]], unmatched: list[str], signed: str) -> pd.Series:
    import pandas as pd

    means = {name: float(np.mean(values)) for name, values in found.items()}
    largest = max(means.values())
    if not np.isfinite(list(means.values())).all():
        bad = [n for n, v in means.items() if not np.isfinite(v)]
        what = f"{len(bad):,} regions have no value (first: {', '.join(bad[:3])})"
        raise InconsistentError(explain(what, do="Leave them out of the table"))
    scale = HIGH / largest if signed == "size" and largest > 0 else 1.0
    if unmatched:
        logger.warning("BrainPainter does not draw %d regions of the atlas (first: %s)",
                       len(unmatched), ", ".join(unmatched[:3]))  # fmt: skip
    absent = [n for n in REGIONS if n not in means and not n.endswith("-unknown")]
    if absent:
        logger.warning("the atlas lacks %d of BrainPainter's 82 regions, which get %g (first: %s)",
                       len(absent), UNKNOWN, ", ".join(absent[:3]))  # fmt: skip
    values = [means[name] * scale if name in means else UNKNOWN for name in REGIONS]
    return pd.Series(values, index=list(REGIONS), name=ID)


def write_brainpainter(
    path: Path | str, rows: Mapping[str, Mapping[str, float] | pd.Series]
) -> None:
    """Write BrainPainter's table.

    Parameters
    ----------
    path : path
        A ``.csv``.
    rows : mapping
        Name of each picture to the values of its 82 regions. ``Left-unknown`` and
        ``Right-unknown`` may be left out and are 0.5.

    Raises
    ------
    UsageError
        If there is no row, or a name that cannot be a file's.
    MalformedError
        If a region is missing or unknown, or a value is not from 0 to 3.
    """
    if not rows:
        raise UsageError(explain("there is nothing to write", expected="At least one picture"))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([ID, *REGIONS])
    for name, values in rows.items():
        if not re.fullmatch(r"[\w.\-+ ]+", name):
            what = f"a picture is called {name!r}"
            raise UsageError(explain(what, expected="BrainPainter makes a file of this name"))
        row = {"Right-unknown": UNKNOWN, "Left-unknown": UNKNOWN, **dict(values)}
        _check_row(name, row)
        writer.writerow([name, *(f"{float(row[region]):.6g}" for region in REGIONS)])
    publish_bytes(Path(path), out.getvalue().encode())


def _check_row(name: str, row: Mapping[str, float]) -> None:
    missing = [region for region in REGIONS if region not in row]
    extra = [region for region in row if region not in REGIONS]
    if missing or extra:
        what, which = ("lacks", missing) if missing else ("has the unknown", extra)
        do = did_you_mean(extra[0], REGIONS) if extra else ""
        raise MalformedError(
            explain(
                f"{name} {what} {len(which):,} regions (first: {', '.join(which[:3])})",
                expected=f"BrainPainter's {len(REGIONS)} regions are needed",
                do=do,
            )
        )
    wrong = [region for region in REGIONS if not LOW <= float(row[region]) <= HIGH]
    if wrong:
        first = ", ".join(f"{region} {float(row[region]):g}" for region in wrong[:3])
        raise MalformedError(
            explain(
                f"{name} has {len(wrong):,} values outside 0 to 3 (first: {first})",
                expected="BrainPainter colours 0 to 3, from white to red",
                do="Use brainpainter_values, which scales them",
            )
        )


def _squeezed(name: str) -> str:
    """Letters only, without the words that atlases add."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    dropped = {"cortex", "gyrus", "lobule", "ctx", "of", "the"}
    kept = [w for w in words if w not in dropped]
    return "".join(kept) or "".join(words)
