"""Text tables for other programs, one file per latent, in one pass over the parts.

For a few latents at a time the parts are read once; every piece of every latent becomes compressed
text in a thread of its own, and the pieces are appended in order. A file appears when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.filenames import file_names
from imgwas.files import publish, publish_json, read_json, write_error
from imgwas.sumstats import bgzf
from imgwas.sumstats.effects import VARIANT_COLUMNS
from imgwas.sumstats.formats import Format, choose_format
from imgwas.sumstats.order import ChromosomeRanks, Survey, in_order, survey
from imgwas.sumstats.render import Piece, Render
from imgwas.sumstats.rsids import RsidMap, from_mapping, read_rsid_map
from imgwas.sumstats.store import SumStats
from imgwas.sumstats.text import VariantText

logger = logging.getLogger(__name__)

#: Latents written in one pass over the parts.
TOGETHER = 32
INDEX = "exported.json"


@dataclass(frozen=True)
class Exported:
    """One table that was written.

    Attributes
    ----------
    path : Path
        The table.
    latent : str
        Its name in the scan; the file's name may differ where it had to be made safe.
    n_rows : int
        Lines without the header.
    left_out : dict
        Variants without a line, counted by reason.
    md5 : str
        Of the file.
    """

    path: Path
    latent: str
    n_rows: int
    left_out: dict[str, int]
    md5: str


def export(
    sumstats: SumStats,
    out: str | Path,
    *,
    latents: Sequence[str] | str = "all",
    format: str = "gwas-ssf",  # noqa: A002 - the field's word
    p_column: str | None = None,
    rsids: Mapping[str, str] | str | Path | None = None,
    genome_build: str | None = None,
    trait_descriptions: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    ancestry: str | None = None,
    compress: bool = True,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Exported]:
    """Write one table per latent in a format that other programs read.

    Parameters
    ----------
    sumstats : SumStats
        From :func:`open_sumstats`.
    out : path
        Folder; it is made. Tables of the same name are replaced.
    latents : sequence of str, or "all"
        Which latents.
    format : str
        ``gwas-ssf`` (with its YAML file), ``exchange`` (LDSC, gwaslab), ``regenie``, ``plink2``,
        ``cojo``, ``fuma``, ``fuma-rsid``, ``coloc`` or ``mr``.
    p_column : {"neglog10", "text"}, optional
        How GWAS-SSF (-log10 P by default) and PLINK 2 (P by default) carry the P value. P is text
        that keeps its exponent, such as ``3.2e-412``.
    rsids : mapping or path, optional
        Rs numbers by variant id; or a file, see :func:`read_rsid_map`.
    genome_build : str, optional
        ``GRCh37`` or ``GRCh38``, where the scan did not record it.
    trait_descriptions : mapping, optional
        From latent to the description in the GWAS-SSF metadata.
    metadata : mapping, optional
        More fields of the GWAS-SSF metadata, such as ``genotyping_technology``; they win.
    ancestry : str, optional
        ``sample_ancestry_category`` of the GWAS-SSF metadata.
    compress : bool
        Write blocked gzip (``.gz``), which any gzip reader takes and tabix can index.
    threads : int, optional
        The cores this process may use, by default.
    progress : callable, optional
        Told how many variant-latent pairs were written, again and again.

    Returns
    -------
    list of Exported
        One entry per latent; ``exported.json`` in the folder records the same.

    Raises
    ------
    UsageError
        If the format or a latent is unknown.
    InconsistentError
        If ``genome_build`` contradicts the scan.
    WriteError
        If the disk is full or the folder cannot be written; no half-written table is left.

    Notes
    -----
    Numbers are written with the fewest digits that give back the single-precision value (double
    precision where the scan stored it). Memory does not grow with the number of variants, unless
    the genotype file is not in the order of the genome: then 16 bytes per variant are held.
    """
    job = _Job.prepare(sumstats, out, format, p_column, rsids, compress)
    names = list(sumstats.latents) if latents == "all" else _as_list(latents)
    for name in names:
        sumstats.entry(name)
    build = _genome_build(sumstats, genome_build)
    threads = threads or _cores()
    written: list[Exported] = []
    for start in range(0, len(names), TOGETHER):
        written += _write_some(job, names[start : start + TOGETHER], threads, progress)
    if format == "gwas-ssf":
        _describe(sumstats, written, build, ancestry, trait_descriptions or {}, metadata or {})
    _record(job, format, written)
    return written


def _describe(
    sumstats: SumStats,
    written: Sequence[Exported],
    build: str | None,
    ancestry: str | None,
    traits: Mapping[str, str],
    extra: Mapping[str, Any],
) -> None:
    """Write the metadata of GWAS-SSF tables."""
    from imgwas.sumstats.gwas_ssf import metadata_of, write_metadata

    for table in written:
        content = metadata_of(
            sumstats, table, build=build, ancestry=ancestry, trait=traits.get(table.latent)
        )
        write_metadata(table.path, content | dict(extra))
    lacking = [
        name for name, value in (("ancestry", ancestry), ("genome build", build)) if not value
    ]
    if lacking and "samples" not in extra:
        logger.warning(
            "the metadata lacks the %s, which the GWAS Catalog asks for: give it, or edit the "
            "-meta.yaml files",
            " and the ".join(lacking),
        )


def _as_list(latents: Sequence[str] | str) -> list[str]:
    names = [latents] if isinstance(latents, str) else list(dict.fromkeys(latents))
    if not names:
        raise UsageError(explain("no latent was named", do='Name some, or say "all"'))
    return names


def _genome_build(sumstats: SumStats, given: str | None) -> str | None:
    known = sumstats.metadata.get("genome_build")
    if given and known and given != known:
        raise InconsistentError(
            explain(
                f"the scan recorded genome build {known}, not {given}",
                do="Leave the genome build out, or correct it where the scan was run",
            )
        )
    return given or known


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class _Job:
    """What is the same for all latents."""

    sumstats: SumStats
    folder: Path
    layout: Format
    ranks: ChromosomeRanks
    survey: Survey
    rsids: RsidMap | None
    compress: bool

    @classmethod
    def prepare(
        cls,
        sumstats: SumStats,
        out: str | Path,
        format_name: str,
        p_column: str | None,
        rsids: Mapping[str, str] | str | Path | None,
        compress: bool,
    ) -> _Job:
        layout = choose_format(format_name, p_column)
        numbers = _rsid_map(rsids)
        ranks = ChromosomeRanks(by_name=layout.names_chromosomes)
        found = survey(sumstats, ranks)
        unknown = [] if found.has_quality else ["info"]
        if not found.n_rsids and numbers is None:
            unknown.append("rsid")
        _warn(layout, found, sumstats, numbers)
        folder = Path(out)
        if folder.is_file():
            raise UsageError(explain(f"{out} is a file", expected="Tables go to a folder"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder / "table", error) from error
        if layout.needs_rsid and "rsid" in unknown:
            raise UsageError(
                explain(f"{format_name} is a table of rs numbers, and no variant has one",
                        do="Give a map of rs numbers: --rsid-map")
            )  # fmt: skip
        layout = layout.without(unknown)
        compress = compress and not layout.is_plain
        return cls(sumstats, folder, layout, ranks, found, numbers, compress)

    def columns(self, names: Sequence[str]) -> list[str]:
        quality = ["imputation_r2"] if self.survey.has_quality else []
        needed = (c for name in names for c in self.sumstats.columns_of(name))
        return list(dict.fromkeys([*VARIANT_COLUMNS, *quality, *needed]))

    def path(self, latent: str) -> Path:
        stem = file_names(self.sumstats.latents)[latent]
        partial = ".partial" if self.sumstats.is_partial else ""
        gz = ".gz" if self.compress else ""
        return self.folder / f"{stem}{partial}{self.layout.suffix}{gz}"


def _rsid_map(rsids: Mapping[str, str] | str | Path | None) -> RsidMap | None:
    if rsids is None:
        return None
    return from_mapping(rsids) if isinstance(rsids, Mapping) else read_rsid_map(rsids)


def _warn(layout: Format, found: Survey, sumstats: SumStats, rsids: RsidMap | None) -> None:
    if not found.is_sorted:
        logger.info("the variants are not in the order of the genome: they are sorted")
    named = any(key == "snp" for _, key in layout.columns)
    if named and rsids is None and found.n_rsids < sumstats.n_variants:
        logger.warning(
            "%s of %s variants have no rs number and are named chr:pos:other:effect; LDSC and FUMA "
            "match rs numbers: give a map of rs numbers",
            f"{sumstats.n_variants - found.n_rsids:,}",
            f"{sumstats.n_variants:,}",
        )


@dataclass
class _Table:
    """A file that is being written."""

    latent: str
    path: Path
    stream: IO[bytes]
    n_rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    md5: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    def write(self, content: bytes | memoryview) -> None:
        self.stream.write(content)
        self.md5.update(content)

    def finished(self) -> Exported:
        left_out = {name: n for name, n in self.left_out.items() if n}
        return Exported(self.path, self.latent, self.n_rows, left_out, self.md5.hexdigest())


def _write_some(
    job: _Job, names: Sequence[str], threads: int, progress: Callable[[int], object] | None
) -> list[Exported]:
    from concurrent.futures import ThreadPoolExecutor

    pack = bgzf.compress if job.compress else bytes
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        tables = []
        for name in names:
            path = job.path(name)
            tables.append(_Table(name, path, stack.enter_context(publish(path))))
            tables[-1].write(pack(job.layout.header().encode()))
        for number, piece in _in_turn(pool, _tasks(job, names), 2 * threads):
            table = tables[number]
            table.write(piece.content)
            table.n_rows += piece.n_rows
            table.left_out.update(piece.left_out)
            if progress is not None:
                progress(piece.n_read)
        for table in tables:
            table.write(pack(b"\n") + (bgzf.END if job.compress else b""))
    return [table.finished() for table in tables]


def _in_turn(
    pool: Any, tasks: Iterable[tuple[int, Callable[[], Piece]]], ahead: int
) -> Iterator[tuple[int, Piece]]:
    """Run tasks in threads, a few ahead of the one whose result is due."""
    waiting: deque[tuple[int, Any]] = deque()
    try:
        for number, task in tasks:
            waiting.append((number, pool.submit(task)))
            if len(waiting) > ahead:
                number, future = waiting.popleft()
                yield number, future.result()
        while waiting:
            number, future = waiting.popleft()
            yield number, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _tasks(job: _Job, names: Sequence[str]) -> Iterator[tuple[int, Callable[[], Piece]]]:
    blocks = in_order(job.sumstats, job.columns(names), job.ranks, is_sorted=job.survey.is_sorted)
    for block in blocks:
        variants = VariantText(block, missing=job.layout.missing, rsids=job.rsids)
        for number, name in enumerate(names):
            yield number, Render(job.sumstats, job.layout, block, variants, name, job.compress)


def _record(job: _Job, format_name: str, written: Sequence[Exported]) -> None:
    """Add the tables to the folder's index, which says whose table each file is."""
    path = job.folder / INDEX
    index: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        index = dict(read_json(path))
    for table in written:
        index[table.path.name] = {
            "latent": table.latent,
            "format": format_name,
            "rows": table.n_rows,
            "left_out": table.left_out,
            "md5": table.md5,
            "scan": job.sumstats.metadata.get("digest"),
        }
    publish_json(path, index)
