"""The tables of heritability and genetic correlation on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas._version import __version__
from imgwas.checks import check_option
from imgwas.files import publish, publish_json
from imgwas.genetics.heritability import GeneticCovariance

if TYPE_CHECKING:
    import pandas as pd

#: Square matrices that are written, and the field each is.
MATRICES = {
    "genetic_covariance": "covariance",
    "genetic_covariance_error": "covariance_error",
    "genetic_correlation": "correlation",
    "genetic_correlation_error": "correlation_error",
    "phenotypic_correlation": "phenotypic",
}


def write_heritability(
    folder: str | Path,
    found: GeneticCovariance,
    *,
    matrices: str = "parquet",
    settings: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write heritabilities, pairs and matrices into a folder, which is made.

    Parameters
    ----------
    folder : path
        Gets ``heritability.tsv``, ``genetic_correlation_pairs.tsv``, one file per matrix and
        ``heritability.json``.
    found : GeneticCovariance
        What to write.
    matrices : {"parquet", "tsv"}
        Format of the matrices; their first column ``latent`` names the rows.
    settings : mapping, optional
        More for the JSON file.
    """
    check_option("matrices", matrices, ["parquet", "tsv"])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        write_tsv(found.table(), folder / "heritability.tsv"),
        write_tsv(found.pairs(), folder / "genetic_correlation_pairs.tsv"),
    ]
    for name, field in MATRICES.items():
        frame = found.matrix(field).rename_axis("latent").reset_index()
        path = folder / f"{name}.{matrices}"
        written.append(write_tsv(frame, path) if matrices == "tsv" else _write_parquet(frame, path))
    numbers = ("n_variants", "n_blocks", "kappa", "kappa_error")
    described = {name: getattr(found, name) for name in numbers}
    publish_json(
        folder / "heritability.json",
        {"imgwas_version": __version__, "method": "he", **described, **(settings or {})},
    )
    return [*written, folder / "heritability.json"]


def write_tsv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as tab-separated text, six digits, ``NA`` where there is no number."""
    with publish(path, "w") as stream:
        stream.write(frame.to_csv(sep="\t", index=False, float_format="%.6g", na_rep="NA"))
    return path


def _write_parquet(frame: pd.DataFrame, path: Path) -> Path:
    with publish(path) as stream:
        stream.write(frame.to_parquet(index=False))
    return path
