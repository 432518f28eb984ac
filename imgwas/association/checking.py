"""Every problem of a scan's inputs at once, before anything is computed or written."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from imgwas.association.alignment import find_people
from imgwas.association.design import Design, build_design
from imgwas.association.seen import without_training_people
from imgwas.association.selection import Selection, select
from imgwas.errors import ImgwasError, OpenError, RefusedError, UsageError, WriteError, explain
from imgwas.genotypes import open_genotypes
from imgwas.genotypes.diagnosis import diagnose_filesets, words_of
from imgwas.tables import read_covariates, read_id_list, read_latents, read_phenotypes
from imgwas.tables.diagnosis import TableDiagnosis, diagnose_table
from imgwas.types import Covariates, Genotypes, Latents, Samples

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

#: Problems listed; more are not looked for.
MOST_PROBLEMS = 50
#: Variants whose genotypes are read unless all are asked for, spread over the file.
SOME_VARIANTS = 1000
_BLOCK = 1024
_ONE_TABLE = "Name the latents by --latents FILE or by --pheno FILE, one of the two."


@dataclass(frozen=True)
class Problem:
    """One thing that would stop the scan.

    Parameters
    ----------
    source : str
        The input it was found in: ``genotypes``, ``latents``, ``covariates``, ``keep``, ``people``.
    kind : str
        Class of the error: ``MalformedError``, ``InconsistentError``, ...
    exit_code : int
        Exit code of that class.
    message : str
        What was found, what was expected, where, and what to do.
    """

    source: str
    kind: str
    exit_code: int
    message: str


@dataclass
class InputReport:
    """What :func:`check_inputs` found.

    Parameters
    ----------
    problems : list of Problem
        In the order in which the scan would meet them.
    warnings : list of str
        What would not stop the scan but changes it, in sentences.
    funnel : list of (str, int)
        How many samples, variants, latents and covariates each step leaves.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    funnel: list[tuple[str, int]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """Code of a refusal for safety if there is one, else of the first problem; 0 if none."""
        codes = [problem.exit_code for problem in self.problems]
        return RefusedError.exit_code if RefusedError.exit_code in codes else (codes or [0])[0]

    def to_pandas(self) -> pd.DataFrame:
        """Problems as a table: source, kind, exit_code, message."""
        import pandas as pd

        columns = ["source", "kind", "exit_code", "message"]
        return pd.DataFrame([vars(problem) for problem in self.problems], columns=columns)

    def add(self, source: str, error: ImgwasError) -> None:
        """Note an error, unless it was noted before or there are too many."""
        self.note(Problem(source, type(error).__name__, error.exit_code, str(error)))

    def note(self, problem: Problem) -> None:
        """Note a problem, unless it was noted before or there are too many."""
        said = {known.message for known in self.problems}
        if problem.message not in said and len(said) < MOST_PROBLEMS:
            self.problems.append(problem)

    def attempt(self, source: str, function: Callable[..., T], *args: Any, **more: Any) -> T | None:
        """Call a function, note its refusal, and return None then."""
        try:
            return function(*args, **more)
        except ImgwasError as error:
            self.add(source, error)
            return None


def check_inputs(
    genotypes: str | Path | Genotypes,
    *,
    latents: str | Path | None = None,
    phenotypes: str | Path | None = None,
    covariates: str | Path | None = None,
    genotype_options: Mapping[str, Any] | None = None,
    covariate_options: Mapping[str, Any] | None = None,
    latent_names: Sequence[str] | None = None,
    id_column: str | None = None,
    neg9: str = "plink",
    chromosomes: Sequence[str] = (),
    extract: Sequence[Path] = (),
    exclude: Sequence[Path] = (),
    keep: Sequence[Path] = (),
    remove: Sequence[Path] = (),
    min_overlap: float = 0.5,
    training_people: str = "refuse",
    rank_normal: bool = False,
    out: str | Path | None = None,
    full: bool = False,
) -> InputReport:
    """Read every input of a scan and collect what would stop it; write nothing.

    Parameters
    ----------
    genotypes : path or Genotypes
        As for :func:`imgwas.open_genotypes`.
    latents, phenotypes : path, optional
        A table of latents, or the same as PLINK text; one of the two.
    covariates : path, optional
        A table of covariates.
    genotype_options, covariate_options : mapping, optional
        Options of :func:`imgwas.open_genotypes` and :func:`imgwas.read_covariates`.
    latent_names, id_column, neg9
        As in :func:`imgwas.read_latents` and :func:`imgwas.read_phenotypes`.
    chromosomes, extract, exclude, keep, remove
        As in ``imgwas.select``.
    min_overlap, training_people, rank_normal
        As in :func:`imgwas.associate`.
    out : path, optional
        Folder the results would go to: is it writable, and is there space?
    full : bool
        Read the genotypes of all variants, not only of a thousand spread over the file.

    Returns
    -------
    InputReport
        At most 50 problems. Each has the words and the exit code that the scan would end with.

    Notes
    -----
    Whatever can be read is used to look further: people are matched by the rows that could be
    read, and a table with a damaged line is checked in its other lines.
    """
    report = InputReport()
    tables = {"id_column": id_column, "neg9": neg9}
    with _warnings(report):
        opened, samples = _genotypes(report, genotypes, dict(genotype_options or {}))
        traits = _latents(report, latents, phenotypes, latent_names, training_people, tables)
        more = {**dict(covariate_options or {}), **tables}
        nuisance = _covariates(report, covariates, more)
        lists = {"extract": extract, "exclude": exclude, "keep": keep, "remove": remove}
        chosen = _selection(report, opened, chromosomes, lists)
        people = None if chosen is None else chosen.sample_columns
        matched = (samples, traits, nuisance, people)
        design = _people(report, *matched, min_overlap, rank_normal)
        if opened is not None:
            _read_some(report, opened, chosen, full=full)
        if out is not None:
            _out(report, Path(out), design, chosen)
    report.funnel = _funnel(opened, chosen, traits, design)
    return report


@contextmanager
def _warnings(report: InputReport) -> Iterator[None]:
    """Collect what readers warn of."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report.warnings.append(record.getMessage())

    logger, listener = logging.getLogger("imgwas"), Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)


def _genotypes(
    report: InputReport, source: str | Path | Genotypes, options: dict[str, Any]
) -> tuple[Genotypes | None, Samples | None]:
    """Open the genotypes; where that fails, look at each file by itself."""
    if isinstance(source, Genotypes):
        return source, source.samples
    try:
        opened = open_genotypes(source, **options)
    except ImgwasError as error:
        samples = _diagnose_genotypes(report, source, options, error)
        return None, samples
    return opened, opened.samples


def _diagnose_genotypes(
    report: InputReport, source: str | Path, options: dict[str, Any], error: ImgwasError
) -> Samples | None:
    report.add("genotypes", error)
    if isinstance(error, UsageError):
        return None
    wanted = {name: options.get(name) for name in ("bim", "fam")}
    errors, samples = diagnose_filesets(
        source, **wanted, effect_allele=options.get("effect_allele", "a1")
    )
    for one in errors:
        # a file that is absent is named in the first message already
        if not (isinstance(one, OpenError) and str(one).split(" ")[0] in str(error)):
            report.add("genotypes", one)
    return samples


def _latents(
    report: InputReport,
    latents: str | Path | None,
    phenotypes: str | Path | None,
    names: Sequence[str] | None,
    training_people: str,
    options: dict[str, Any],
) -> Latents | TableDiagnosis | None:
    """Read the latents; where that fails, whose rows they have."""
    path = latents if latents is not None else phenotypes
    if path is None or (latents is not None and phenotypes is not None):
        report.add("latents", UsageError(_ONE_TABLE))
        return None
    id_column, neg9 = options["id_column"], options["neg9"]
    try:
        if latents is not None:
            read = read_latents(path, id_column=id_column, names=names)
        else:
            read = read_phenotypes(path, id_column=id_column, names=names, neg9=neg9)
    except ImgwasError as error:
        report.add("latents", error)
        neg9 = "value" if phenotypes is None else neg9
        path = Path(path).expanduser()
        found = diagnose_table(path, id_column=id_column, names=names, neg9=neg9)
        return _noted(report, "latents", found)
    scanned = report.attempt("latents", without_training_people, read, training_people)
    return read if scanned is None else scanned


def _noted(report: InputReport, source: str, found: TableDiagnosis) -> TableDiagnosis:
    for error in found.errors:
        report.add(source, error)
    return found


def _covariates(
    report: InputReport, path: str | Path | None, options: dict[str, Any]
) -> Covariates | TableDiagnosis | None:
    if path is None:
        return None
    try:
        return read_covariates(path, **options)
    except ImgwasError as error:
        report.add("covariates", error)
        found = diagnose_table(Path(path).expanduser(), covariates=True, **options)
        return _noted(report, "covariates", found)


def _selection(
    report: InputReport,
    genotypes: Genotypes | None,
    chromosomes: Sequence[str],
    lists: Mapping[str, Sequence[Path]],
) -> Selection | None:
    """Read every list by itself, then choose by those that can be read."""
    good: dict[str, list[Path]] = {}
    for name, paths in lists.items():
        read = read_id_list if name in ("keep", "remove") else words_of
        good[name] = [p for p in paths if report.attempt(name, read, p) is not None]
    if genotypes is None:
        return None
    variants = {"extract": good.pop("extract"), "exclude": good.pop("exclude")}
    chosen = report.attempt("variants", select, genotypes, chromosomes=chromosomes, **variants)
    people = report.attempt("people", select, genotypes, **good)
    if chosen is None or people is None:
        return people or chosen
    return Selection(chosen.rows, people.sample_columns, {**people.report, **chosen.report})


def _people(
    report: InputReport,
    samples: Samples | None,
    traits: Latents | TableDiagnosis | None,
    nuisance: Covariates | TableDiagnosis | None,
    keep: np.ndarray | None,
    min_overlap: float,
    rank_normal: bool,
) -> Design | None:
    """Match people by id, with whatever rows could be read, and build the model if all could."""
    if samples is None:
        return None
    more: dict[str, Any] = {"min_overlap": min_overlap}
    design = None
    if isinstance(traits, Latents) and not isinstance(nuisance, TableDiagnosis):
        options = {"keep": keep, "rank_normal": rank_normal, **more}
        design = report.attempt("people", build_design, samples, traits, nuisance, **options)
    if design is None:  # one by one, so that tables of other people are both told
        columns = np.arange(len(samples)) if keep is None else keep
        for name, table in (("latents", traits), ("covariates", nuisance)):
            rows = _rows(table)
            if rows is not None:
                report.attempt("people", find_people, name, samples, rows, columns, **more)
    return design


def _rows(table: Latents | Covariates | TableDiagnosis | None) -> Latents | None:
    """Ids of a table, without its values."""
    if table is None or table.sample_ids is None:
        return None
    try:
        values = np.zeros((len(table.sample_ids), 1))
        return Latents(values, table.sample_ids, ("any",), table.family_ids)
    except ImgwasError:  # ids that repeat are told already
        return None


def _read_some(
    report: InputReport, genotypes: Genotypes, chosen: Selection | None, *, full: bool
) -> None:
    """Read genotypes, for bits after the last person and for disks that fail."""
    rows = np.arange(genotypes.n_variants) if chosen is None else chosen.rows
    if not full and len(rows) > SOME_VARIANTS:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, SOME_VARIANTS).astype(int))]
    read = getattr(genotypes, "read_packed", genotypes.read_dosages)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        if report.attempt("genotypes", read, block) is None:
            return


def _out(report: InputReport, out: Path, design: Design | None, chosen: Selection | None) -> None:
    """Look at the place of the results, without touching it."""
    if out.exists() and not out.is_dir():
        what = explain(f"--out {out} is a file", expected="It must be a folder")
        report.add("out", UsageError(what))
        return
    place = next(one for one in (out, *out.absolute().parents) if one.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        what = explain(f"{place} cannot be written", do="Choose another --out")
        report.add("out", WriteError(what))
    if (out / "run.json").exists():
        report.warnings.append(f"{out} holds a run: it goes on if nothing has changed since")
    if design is None or chosen is None:
        return
    n_latents = sum(len(group.names) for group in design.groups)
    needed = len(chosen.rows) * (4 * n_latents + 120)
    free = shutil.disk_usage(place).free
    if needed > free:
        what = f"The results need about {needed / 1e6:,.0f} MB and {place} has"
        what = explain(f"{what} {free / 1e6:,.0f} MB free", do="Free some space")
        report.add("out", WriteError(what))


def _funnel(
    genotypes: Genotypes | None,
    chosen: Selection | None,
    traits: Latents | TableDiagnosis | None,
    design: Design | None,
) -> list[tuple[str, int]]:
    """Counts of whatever could be counted."""
    steps: list[tuple[str, int]] = []
    if genotypes is not None:
        steps.append(("variants in genotypes", genotypes.n_variants))
    if chosen is not None:
        steps.append(("variants chosen", len(chosen.rows)))
    if design is not None:
        steps += [(f"samples {step}", n) for step, n in design.flow.steps]
    if isinstance(traits, Latents):
        steps.append(("latents in the table", len(traits.names)))
    if design is not None:
        steps.append(("latents to be tested", sum(len(g.names) for g in design.groups)))
        steps.append(("patterns of missing values", len(design.groups)))
        steps.append(("covariate columns", len(design.covariate_names) + len(design.dropped)))
        steps.append(("covariate columns used", len(design.covariate_names)))
    return steps
