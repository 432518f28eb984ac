"""What a report is made of: a scan, and the folders of whatever was done with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas.errors import InconsistentError, MalformedError, OpenError, explain
from imgwas.files import read_json
from imgwas.report.privacy import Mask
from imgwas.sumstats import SumStats, open_sumstats
from imgwas.types import Genotypes

if TYPE_CHECKING:
    import pandas as pd

    from imgwas.genetics.loci_table import Loci

logger = logging.getLogger(__name__)

#: What is looked for in a folder, and which command writes it.
EXPECTED = {
    "maps": ("maps.tsv", "imgwas map"),
    "heritability": ("heritability.tsv", "imgwas heritability"),
    "traits": ("associations.tsv", "imgwas traits"),
    "replication": ("replication.tsv", "imgwas replicate"),
    "encoder": ("encoder/encoder.json", "imgwas train"),
}
#: A column that a file must have, and which command writes it.
EXPECTED_FILES = {
    "signals": ("joint_beta", "imgwas condition"),
    "credible": ("credible_set", "imgwas finemap"),
}


@dataclass
class Sources:
    """Everything a section may show.

    Parameters
    ----------
    sumstats : SumStats
        The scan.
    loci : Loci
        Given, or found by distance.
    found_here : bool
        True where the loci were found by distance for this report.
    folders : mapping of str to Path
        Folders given, by the keys of :data:`EXPECTED`.
    tables : mapping of str to DataFrame
        Tables of single files given, by the keys of :data:`EXPECTED_FILES`.
    latents : mapping
        Origin of the table of latents: encoder, digest of its weights.
    mask : Mask
        Hides ids of people in text.
    notes : list of str
        Warnings to show first.
    """

    sumstats: SumStats
    loci: Loci
    found_here: bool
    folders: Mapping[str, Path] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    latents: Mapping[str, Any] = field(default_factory=dict)
    mask: Mask = field(default_factory=Mask)
    notes: list[str] = field(default_factory=list)

    def table(self, kind: str, name: str) -> pd.DataFrame | None:
        """Read a table of a folder; None where folder or table are absent."""
        if kind not in self.folders:
            return None
        path = self.folders[kind] / name
        return read_table(path) if path.exists() else None

    def facts(self, kind: str, name: str) -> dict[str, Any]:
        """Read a JSON file of a folder; empty where it is absent."""
        if kind not in self.folders:
            return {}
        path = self.folders[kind] / name
        if not path.exists():
            return {}
        content = json_of(path)
        return content if isinstance(content, dict) else {}

    def logs(self) -> list[tuple[str, str]]:
        """Logs of the scan, oldest first, with ids and machines' names left out."""
        paths = sorted(self.sumstats.folder.glob("log-*.txt"), key=lambda p: (len(p.name), p.name))
        return [(path.name, self.mask.log(_text(path))) for path in paths]


def open_sources(
    results: str | Path,
    *,
    loci: str | Path | None = None,
    latents: str | Path | None = None,
    genotypes: Genotypes | None = None,
    signals: str | Path | None = None,
    credible: str | Path | None = None,
    **folders: str | Path | None,
) -> Sources:
    """Open what was given, and refuse what does not belong together.

    Parameters
    ----------
    results : path
        Folder of a scan.
    loci : path, optional
        ``loci.tsv`` of ``imgwas loci``.
    latents : path, optional
        The table of latents; only its origin and its ids are read, the ids to keep them out.
    genotypes : Genotypes, optional
        Only to keep their ids out.
    signals, credible : path, optional
        Tables of ``imgwas condition`` and ``imgwas finemap``.
    **folders
        By the keys of :data:`EXPECTED`.

    Raises
    ------
    OpenError, MalformedError
        If something is absent, or is not what it should be.
    InconsistentError
        If maps were made of another scan.
    """
    sumstats = open_sumstats(results, allow_partial=True)
    given = {name: Path(path) for name, path in folders.items() if path is not None}
    for kind, folder in given.items():
        _check_folder(kind, folder)
    found, is_found_here = _loci(sumstats, loci)
    origin = {} if latents is None else _origin(Path(latents))
    mask = Mask.of(Path(latents) if latents else None, genotypes)
    files = {"signals": signals, "credible": credible}
    tables = {kind: _table_of(kind, Path(path)) for kind, path in files.items() if path is not None}
    sources = Sources(sumstats, found, is_found_here, given, tables, origin, mask)
    _check_same_scan(sources)
    return sources


def _check_folder(kind: str, folder: Path) -> None:
    name, command = EXPECTED[kind]
    if not (folder / name).exists():
        raise OpenError(
            explain(
                f"{folder} has no {name}" if folder.is_dir() else f"{folder} is not a folder",
                expected=f"The folder that {command} wrote",
            )
        )


def _table_of(kind: str, path: Path) -> pd.DataFrame:
    column, command = EXPECTED_FILES[kind]
    table = read_table(path)
    lacking = [n for n in ("locus", "latent", "chromosome", column) if n not in table]
    if lacking:
        raise MalformedError(
            explain(
                f"{path} has no column {lacking[0]}", expected=f"The table that {command} wrote"
            )
        )
    return table


def _check_same_scan(sources: Sources) -> None:
    made_of = str(sources.facts("maps", "map.json").get("scan") or "")
    digest = str(sources.sumstats.metadata["digest"])
    if made_of and made_of != digest:
        raise InconsistentError(
            explain(
                f"the maps in {sources.folders['maps']} were made of another scan",
                where=f"digest {made_of[:12]}, not {digest[:12]}",
                do="Run imgwas map on this folder of results",
            )
        )
    encoder = sources.facts("encoder", "encoder/encoder.json").get("weights_sha256")
    made_by = sources.latents.get("weights_sha256")
    if encoder and made_by and encoder != made_by:
        raise InconsistentError(
            explain(
                f"the latents were not made by the encoder in {sources.folders['encoder']}",
                where=f"weights {str(made_by)[:12]}, not {str(encoder)[:12]}",
                do="Name the run that encoded them",
            )
        )
    unknown = set(map(str, sources.loci.pairs["latent"])) - set(sources.sumstats.latents)
    if unknown:
        raise InconsistentError(
            explain(
                f"the loci name {len(unknown):,} latents that the scan lacks",
                where=f"first: {', '.join(sorted(unknown)[:3])}",
                do="Run imgwas loci on this folder of results",
            )
        )


def _loci(sumstats: SumStats, path: str | Path | None) -> tuple[Loci, bool]:
    from imgwas.genetics.loci import find_loci
    from imgwas.genetics.refine import read_loci

    if path is not None:
        return read_loci(path), False
    return find_loci(sumstats, preset="distance"), True


def _origin(path: Path) -> dict[str, Any]:
    from imgwas.latents.tables import read_history

    try:
        origin = dict(read_history(path))
    except (OSError, ValueError) as error:
        raise OpenError(explain(f"{path} cannot be read ({error})")) from error
    origin.pop("people_seen", None)
    return origin


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that imgwas wrote; lines that begin with # are a description."""
    import pandas as pd

    text = dict.fromkeys(("chromosome", "variant_id", "name", "latent", "trait"), str)
    lines = _text(path).splitlines()
    skip = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    try:
        return pd.read_csv(path, sep="\t", skiprows=skip, dtype=text, keep_default_na=False,
                           na_values=["NA", ""])  # fmt: skip
    except (ValueError, UnicodeDecodeError) as error:
        raise MalformedError(explain(f"{path} is no table ({error})")) from error


def json_of(path: Path) -> Any:
    """Read a JSON file and say which one is damaged."""
    try:
        return read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MalformedError(explain(f"{path} is no JSON ({error})")) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be read ({error.strerror})")) from error
