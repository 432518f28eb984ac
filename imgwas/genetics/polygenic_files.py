"""Files of polygenic scores: all in one Parquet, or one PGS Catalog scoring file each.

The Parquet file is private: it carries salted digests of the people the weights were fitted on, so
that nobody is scored with weights that know them. A PGS Catalog file is made to be published. It
says how many people there were and no more; who reads it back must know that they are others.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imgwas.errors import MalformedError, OpenError, UsageError, explain
from imgwas.filenames import file_names
from imgwas.files import publish, publish_bytes
from imgwas.genetics.polygenic import VARIANT_COLUMNS, PolygenicScores
from imgwas.tables import read_latents
from imgwas.tables.recognise import interpreted
from imgwas.tables.source import stored_footer
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

FORMAT, SCORED = "imgwas-scores", "imgwas-scored"
#: Column of the PGS Catalog -> ours.
_PGS = {
    "rsID": "variant_id",
    "chr_name": "chromosome",
    "chr_position": "base_pair_location",
    "effect_allele": "effect_allele",
    "other_allele": "other_allele",
    "effect_weight": "weight",
    "allelefrequency_effect": "effect_allele_frequency",
}
_NOT_ADDITIVE = ("is_interaction", "is_dominant", "is_recessive", "is_haplotype", "is_diplotype")


def write_scores(scores: PolygenicScores, path: str | Path) -> str:
    """Publish all scores in one Parquet file and return its SHA-256; see :func:`read_scores`."""
    path = Path(path)
    table = pa.Table.from_pandas(scores.variants[list(VARIANT_COLUMNS)], preserve_index=False)
    for k, name in enumerate(scores.names):
        table = table.append_column(f"weight.{name}", pa.array(scores.weights[:, k]))
    footer = {
        "format": FORMAT,
        "format_version": 1,
        "names": list(scores.names),
        "intercepts": scores.intercepts.tolist(),
        "fitted_on": None if scores.fitted_on is None else [dict(o) for o in scores.fitted_on],
        "source": dict(scores.source),
        "genome_build": scores.genome_build,
    }
    table = table.replace_schema_metadata({b"imgwas": json.dumps(footer).encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    digest = publish_bytes(path, sink.getvalue())
    path.chmod(0o600)
    return digest


def read_scores(path: str | Path) -> PolygenicScores:
    """Read scores: what :func:`write_scores` wrote, or a scoring file of the PGS Catalog.

    Raises
    ------
    OpenError
        If there is no such file.
    MalformedError
        If it is neither.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise OpenError(explain(f"there is no file {path}"))
    with interpreted(path):
        footer = stored_footer(path)
        if footer.get("format") != FORMAT:
            return read_pgs_catalog(path)
        return _stored(path, footer)


def _stored(path: Path, footer: dict[str, Any]) -> PolygenicScores:
    table = pq.ParquetFile(path, page_checksum_verification=True).read()
    names = tuple(footer["names"])
    weights = [np.asarray(table[f"weight.{name}"], np.float64) for name in names]
    known = footer["fitted_on"]
    return PolygenicScores(
        variants=table.select(list(VARIANT_COLUMNS)).to_pandas(),
        weights=np.stack(weights, axis=1),
        names=names,
        intercepts=np.array(footer["intercepts"], np.float64),
        fitted_on=None if known is None else tuple(known),
        source=footer["source"],
        genome_build=footer["genome_build"],
    )


def write_scored(table: Latents, path: str | Path) -> str:
    """Publish scores of people as Parquet, with whom the weights were fitted on; private."""
    path = Path(path)
    columns = {"IID": pa.array(table.sample_ids, pa.string())}
    for k, name in enumerate(table.names):
        columns[name] = pa.array(np.take(table.values, k, axis=1))
    footer = {"format": SCORED, "latent_columns": list(table.names), **dict(table.source)}
    content = pa.table(columns).replace_schema_metadata({b"imgwas": json.dumps(footer).encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink, compression="zstd", write_page_checksum=True)
    digest = publish_bytes(path, sink.getvalue())
    path.chmod(0o600)
    return digest


def read_scored(
    path: str | Path, *, id_column: str | None = None, names: Sequence[str] | None = None
) -> Latents:
    """Read what :func:`write_scored` wrote, the refusal of evaluation included.

    Any other table of scores is taken for one whose weights were fitted on people unknown.
    """
    path = Path(path).expanduser()
    table = read_latents(path, id_column=id_column, names=names)
    footer = stored_footer(path)
    known = footer.get("fitted_on") if footer.get("format") == SCORED else None
    return replace(table, source={**table.source, "polygenic": True, "fitted_on": known})


def write_pgs_catalog(
    scores: PolygenicScores,
    folder: str | Path,
    *,
    trait: str = "imaging latent {name}",
    citation: str = "",
) -> dict[str, Path]:
    """Write one scoring file of the PGS Catalog, version 2.0, for each score.

    Parameters
    ----------
    scores : PolygenicScores
        Weights; variants without one are left out of a file.
    folder : path
        Made if absent.
    trait : str
        ``trait_reported``; ``{name}`` stands for the score.
    citation : str
        Of the paper.

    Returns
    -------
    dict
        File of each score, ``NAME.pgs.txt.gz``.

    Raises
    ------
    UsageError
        If the genome build is not known.

    References
    ----------
    .. [1] Lambert et al. (2021), Nat Genet 53:420.
    """
    if not scores.genome_build:
        raise UsageError(
            explain("the genome build of the scores is not known",
                    do="Say which (--build GRCh37 or GRCh38)")
        )  # fmt: skip
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for k, name in enumerate(scores.names):
        path = folder / f"{file_names(scores.names)[name]}.pgs.txt.gz"
        text = _pgs_text(scores, k, trait.replace("{name}", name), citation)
        with publish(path) as stream:
            stream.write(gzip.compress(text.encode(), mtime=0))
        written[name] = path
    return written


def _pgs_text(scores: PolygenicScores, k: int, trait: str, citation: str) -> str:
    rows = np.flatnonzero(scores.weights[:, k])
    n = None if scores.fitted_on is None else len(
        {one for marks in scores.fitted_on for one in marks["digests"]}
    )  # fmt: skip
    header = [
        "###PGS CATALOG SCORING FILE - see https://www.pgscatalog.org/downloads/#dl_ftp_scoring",
        "#format_version=2.0",
        "##POLYGENIC SCORE (PGS) INFORMATION",
        "#pgs_id=",
        f"#pgs_name={scores.names[k]}",
        f"#trait_reported={trait}",
        f"#genome_build={scores.genome_build}",
        f"#variants_number={len(rows)}",
        "#weight_type=beta",
        f"#imgwas_intercept={float(scores.intercepts[k])!r}",
        f"#imgwas_people_fitted_on={'unknown' if n is None else n}",
        "##SOURCE INFORMATION",
        f"#citation={citation}",
        "\t".join(_PGS),
    ]
    table = scores.variants.iloc[rows]
    columns = [table[ours].tolist() for ours in _PGS.values() if ours in table]
    columns.insert(5, [repr(float(w)) for w in scores.weights[rows, k]])
    columns[6] = ["" if np.isnan(f) else repr(float(f)) for f in columns[6]]
    lines = ["\t".join(map(str, line)) for line in zip(*columns, strict=True)]
    return "\n".join([*header, *lines, ""])


def read_pgs_catalog(path: str | Path) -> PolygenicScores:
    """Read a scoring file of the PGS Catalog, version 2.0, plain or gzip.

    Whom it was fitted on is not known, so that :func:`imgwas.evaluate_scores` wants to be told that
    they are others. Harmonised positions (``hm_chr``, ``hm_pos``) are used where they are.

    Raises
    ------
    MalformedError
        If it is none, lacks a column, a weight is no number, or effects are not additive.
    """
    path = Path(path).expanduser()
    with interpreted(path):
        return _pgs_catalog(path)


def _pgs_catalog(path: Path) -> PolygenicScores:
    opened = gzip.open if path.read_bytes()[:2] == b"\x1f\x8b" else open
    with opened(path, "rt", encoding="utf-8") as stream:
        lines = stream.read().split("\n")
    header = dict(line[1:].split("=", 1) for line in lines if line.startswith("#") and "=" in line)
    body = [line for line in lines if line and not line.startswith("#")]
    if not lines[0].startswith("###PGS CATALOG SCORING FILE") or len(body) < 2:
        raise MalformedError(
            explain(f"{path} holds no polygenic score",
                    expected="A file of imgwas score fit, or a scoring file of the PGS Catalog")
        )  # fmt: skip
    frame = _pgs_frame(path, body)
    weights = frame.pop("weight").to_numpy(np.float64)
    return PolygenicScores(
        variants=frame[list(VARIANT_COLUMNS)],
        weights=weights[:, None],
        names=(header.get("pgs_id") or header.get("pgs_name") or path.name.split(".")[0],),
        intercepts=np.array([float(header.get("imgwas_intercept", 0.0))]),
        fitted_on=None,
        source={"method": "PGS Catalog", "file": path.name, "header": _known(header)},
        genome_build=header.get("HmPOS_build") or header.get("genome_build"),
    )


def _known(header: dict[str, str]) -> dict[str, Any]:
    names = ("pgs_id", "pgs_name", "trait_reported", "weight_type", "citation")
    return {name: header[name] for name in names if name in header}


def _pgs_frame(path: Path, body: list[str]) -> pd.DataFrame:
    import pandas as pd

    names = body[0].split("\t")
    rows = [line.split("\t") for line in body[1:]]
    bad = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if bad is not None:
        raise MalformedError(
            explain(f"row {bad + 1} of {path} has {len(rows[bad])} fields",
                    expected=f"{len(names)}")
        )  # fmt: skip
    table = pd.DataFrame(rows, columns=names)
    strange = [c for c in _NOT_ADDITIVE if c in table and (table[c].str.lower() == "true").any()]
    if strange:
        raise MalformedError(
            explain(f"{path} has effects that are not additive ({strange[0]})",
                    expected="A weight per copy of the effect allele")
        )  # fmt: skip
    if {"hm_chr", "hm_pos"} <= set(names):
        table["chr_name"], table["chr_position"] = table["hm_chr"], table["hm_pos"]
        if "other_allele" not in table and "hm_inferOtherAllele" in table:
            table["other_allele"] = table["hm_inferOtherAllele"]
    return _typed(path, table)


def _typed(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Columns of ours, numbers as numbers; rows without a place, alleles or weight are refused."""
    import pandas as pd

    lacking = [name for name in ("effect_allele", "other_allele", "effect_weight")
               if name not in table]  # fmt: skip
    if lacking:
        raise MalformedError(explain(f"{path} has no column {', '.join(lacking)}"))
    frame = pd.DataFrame({ours: table.get(theirs, "") for theirs, ours in _PGS.items()})
    for name, missing in (("weight", None), ("base_pair_location", 0),
                          ("effect_allele_frequency", np.nan)):  # fmt: skip
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if missing is None and numbers.isna().any():
            row = int(np.flatnonzero(numbers.isna())[0])
            raise MalformedError(
                explain(f"{path} has {str(frame[name][row])[:20]!r} as a weight in row {row + 1}",
                        expected="A number")
            )  # fmt: skip
        frame[name] = numbers.fillna(missing) if missing is not None else numbers
    frame["base_pair_location"] = frame["base_pair_location"].astype(np.int64)
    return frame
