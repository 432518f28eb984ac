"""GWAS-SSF, the GWAS Catalog's format: its metadata file, and a check of its rules.

References
----------
.. [1] Hayhurst et al. (2022), A community driven GWAS summary statistics standard, bioRxiv
   2022.07.15.500230; specification 1.0.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from imgwas._version import __version__
from imgwas.files import publish

if TYPE_CHECKING:
    from imgwas.sumstats.exports import Exported
    from imgwas.sumstats.store import SumStats

_LEADING = (
    "chromosome",
    "base_pair_location",
    "effect_allele",
    "other_allele",
    ("beta", "odds_ratio", "hazard_ratio"),
    "standard_error",
    "effect_allele_frequency",
    ("p_value", "neg_log_10_p_value"),
)
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_ALLELE = "[ACGTacgt]+|LONG_STRING"
#: column -> text of a legal cell
_CELLS = {
    "chromosome": "[1-9]|1[0-9]|2[0-5]",
    "base_pair_location": "0*[1-9][0-9]*",
    "effect_allele": _ALLELE,
    "other_allele": _ALLELE,
    "beta": _NUMBER,
    "odds_ratio": _NUMBER,
    "hazard_ratio": _NUMBER,
    "standard_error": _NUMBER,
    "effect_allele_frequency": _NUMBER,
    "p_value": r"[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?",
    "neg_log_10_p_value": _NUMBER,
    "variant_id": "[A-Za-z0-9_]+|#NA",
    "rsid": "rs[0-9]+|#NA",
    "ref_allele": "EA|OA|#NA",
    "info": f"{_NUMBER}|#NA",
    "n": "[0-9]+|#NA",
}
#: column -> range of the numbers in it
_RANGES = {
    "effect_allele_frequency": (0.0, 1.0),
    "neg_log_10_p_value": (0.0, np.inf),
    "p_value": (0.0, 1.0),
    "info": (0.0, 1.0),
    "odds_ratio": (0.0, np.inf),
    "hazard_ratio": (0.0, np.inf),
}


def write_metadata(table: Path, content: Mapping[str, Any]) -> Path:
    """Write the YAML file beside a table."""
    import yaml

    path = table.with_name(f"{table.name}-meta.yaml")
    with publish(path, "w") as stream:
        yaml.safe_dump(dict(content), stream, sort_keys=False, allow_unicode=True)
    return path


def metadata_of(
    sumstats: SumStats,
    table: Exported,
    *,
    build: str | None,
    ancestry: str | None,
    trait: str | None,
) -> dict[str, Any]:
    """Metadata of a table, nested as the Catalog's own model wants it; NR means not reported."""
    content: dict[str, Any] = {
        "date_metadata_last_modified": datetime.datetime.now(datetime.UTC).date(),
        "trait_description": [trait or f"imaging latent {table.latent}"],
        "genome_assembly": build or "NR",
        "coordinate_system": "1-based",
        "genotyping_technology": ["NR"],
        "samples": [
            {
                "sample_ancestry_category": [ancestry or "NR"],
                "sample_size": sumstats.entry(table.latent).n,
                "case_control_study": False,
            }
        ],
        "sex": "NR",
        "data_file_name": table.path.name,
        "file_type": "GWAS-SSF v1.0",
        "data_file_md5sum": table.md5,
        "analysis_software": f"imgwas {__version__}",
        "adjusted_covariates": list(sumstats.metadata.get("covariates", {}).get("names", [])),
        "is_harmonised": False,
        "is_sorted": True,
    }
    limit = _maf(sumstats)
    if limit is not None:
        content["minor_allele_freq_lower_limit"] = limit
    return content


def _maf(sumstats: SumStats) -> float | None:
    filters = sumstats.metadata["settings"].get("filters") or {}
    return filters.get("maf") if isinstance(filters, dict) else None


def validate_gwas_ssf(path: str | Path, *, minimum_rows: int = 100_000) -> list[str]:
    """Check a GWAS-SSF table against the rules of the standard.

    Parameters
    ----------
    path : path
        A ``.tsv`` or ``.tsv.gz``.
    minimum_rows : int
        The Catalog asks for 100,000.

    Returns
    -------
    list of str
        What is wrong, in sentences; empty if nothing is. The order of checks is the Catalog's:
        name, columns, chromosomes, number of rows, cells.

    Notes
    -----
    A whole genome means all of chromosomes 1 to 22, or only 23. A P value of zero is refused.
    """
    path = Path(path)
    if not path.name.endswith((".tsv", ".tsv.gz")):
        return [f"{path.name} ends neither in .tsv nor in .tsv.gz"]
    try:
        return _problems(path, minimum_rows)
    except (OSError, pa.ArrowException) as error:
        return [f"{path.name} is no table ({str(error).splitlines()[0][:120]})"]


def _problems(path: Path, minimum_rows: int) -> list[str]:
    n_rows, chromosomes, wrong = 0, set(), dict[str, tuple[int, str]]()
    for batch in _batches(path):
        if not n_rows and (problem := _header_problem(batch.schema.names)):
            return [problem]
        chromosomes |= set(pc.unique(batch["chromosome"]).to_pylist())
        for name in batch.schema.names:
            _check_cells(name, batch[name], n_rows, wrong)
        n_rows += batch.num_rows
    problems = [_coverage_problem(chromosomes)]
    if n_rows < minimum_rows:
        problems.append(f"{n_rows:,} rows; at least {minimum_rows:,} are needed")
    problems += [f"{name} is wrong in {n:,} rows (first: {first})" for name, (n, first) in
                 wrong.items()]  # fmt: skip
    return [problem for problem in problems if problem]


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Read the table as text, a few megabytes at a time; an empty table gives one empty batch."""
    with pa.input_stream(str(path)) as stream:
        names = stream.read(1 << 16).split(b"\n", 1)[0].decode("utf-8", "replace").split("\t")
    reader = pcsv.open_csv(
        path,
        read_options=pcsv.ReadOptions(block_size=1 << 24),
        parse_options=pcsv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pcsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader


def _header_problem(names: list[str]) -> str:
    for place, allowed in enumerate(_LEADING):
        legal = (allowed,) if isinstance(allowed, str) else allowed
        found = names[place] if place < len(names) else "absent"
        if found not in legal:
            return f"column {place + 1} is {found}, not {' or '.join(legal)}"
    return ""


def _coverage_problem(chromosomes: set[str]) -> str:
    absent = [str(i) for i in range(1, 23) if str(i) not in chromosomes]
    if not absent or chromosomes == {"23"}:
        return ""
    return f"chromosomes {', '.join(absent)} are missing"


def _check_cells(
    name: str, cells: pa.Array, before: int, wrong: dict[str, tuple[int, str]]
) -> None:
    if name not in _CELLS or not len(cells):
        return
    legal = pc.match_substring_regex(cells.fill_null(""), f"^({_CELLS[name]})$")
    bad = ~np.asarray(legal.to_numpy(zero_copy_only=False), bool)
    bad[~bad] = _out_of_range(name, cells.filter(legal))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        n, first = wrong.get(name, (0, f"line {before + row + 2}, {cells[row].as_py()!r}"))
        wrong[name] = n + int(bad.sum()), first


def _out_of_range(name: str, cells: pa.Array) -> np.ndarray:
    if name not in _RANGES:
        return np.zeros(len(cells), bool)
    low, high = _RANGES[name]
    numbers = pc.replace_substring(cells, "#NA", "0").cast(pa.float64()).to_numpy()
    outside = (numbers < low) | (numbers > high)
    if name != "p_value":
        return np.asarray(outside)
    # a P below the smallest double reads as 0; a mantissa of 0 is 0
    zero = pc.match_substring_regex(cells, r"^[+]?[0.]+([eE].*)?$")
    return np.asarray(outside | zero.to_numpy(zero_copy_only=False))
