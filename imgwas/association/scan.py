"""The scan: open, align, cut into parts, compute what is missing, finish.

:func:`associate` is the whole of it; each helper below is one step of that page.
"""

from __future__ import annotations

import hashlib
import json
import logging
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas._version import __version__
from imgwas.association import folder
from imgwas.association.correlation import is_recorded, write_correlation
from imgwas.association.description import FORMAT_VERSION, describe
from imgwas.association.design import Design, build_design
from imgwas.association.engines import run_on_client, run_on_threads
from imgwas.association.probing import Gathering, space_of_sums
from imgwas.association.progress import NoProgress, Progress
from imgwas.association.seen import without_training_people
from imgwas.association.selection import Selection, select
from imgwas.association.task import ScanSettings, ScanTask, make_task
from imgwas.checks import check_option, check_range
from imgwas.cluster import available_cores
from imgwas.errors import UsageError, explain
from imgwas.genotypes.dosage_filters import check_quality
from imgwas.genotypes.filters import VariantFilters
from imgwas.genotypes.relatives import warn_of_relatives
from imgwas.locks import locked
from imgwas.stopping import Interrupted, stop_wishes
from imgwas.sumstats import SumStats, open_sumstats
from imgwas.sumstats.correlation import CORRELATION
from imgwas.sumstats.folder import other_files
from imgwas.sumstats.probes import PROBES
from imgwas.types import Covariates, Genotypes, Latents, Samples

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)


def associate(
    genotypes: Genotypes,
    latents: Latents,
    covariates: Covariates | None = None,
    *,
    out: str | Path,
    selection: Selection | None = None,
    filters: VariantFilters | None = None,
    missing_genotype: str = "mean",
    precision: str = "single",
    rank_normal: bool = False,
    residualize_first: bool = False,
    omnibus: bool = False,
    heritability: bool = False,
    min_overlap: float = 0.5,
    training_people: str = "refuse",
    genome_build: str | None = None,
    threads: int | None = None,
    client: Client | None = None,
    part_size: int = 16384,
    overwrite: bool = False,
    break_lock: bool = False,
    command: list[str] | None = None,
    progress: Progress | None = None,
) -> SumStats:
    """Scan every variant against every latent by ordinary least squares with covariates.

    For latent l and variant j, on the people who have the latent and all covariates,
    ``y_l = C g_l + x_j b_jl + e,  e ~ N(0, s_l^2 I)``, where C holds the intercept and the
    covariates and x_j counts the effect allele. Latent and variant are both projected on C, so
    ``b`` and its standard error are those of the full regression (Frisch, Waugh and Lovell).

    Parameters
    ----------
    genotypes : Genotypes
        From :func:`imgwas.open_genotypes`.
    latents : Latents
        From :func:`imgwas.read_latents`. A missing value leaves the person out for that latent
        only; a latent's numbers do not depend on which other latents are scanned.
    covariates : Covariates, optional
        From :func:`imgwas.read_covariates`. People with a missing covariate are left out. Collinear
        columns are left out with a warning that names the relation.
    out : path
        Folder of results (``docs/data_model.md``). If it holds an unfinished run of the same inputs
        and settings, only the missing parts are computed.
    selection : Selection, optional
        Variants and samples chosen before the scan (``imgwas.select``).
    filters : VariantFilters, optional
        Limits on frequency, missingness and Hardy-Weinberg, among the analysed samples.
    missing_genotype : {"mean", "drop"}
        A missing call takes the mean dosage of the analysed samples, or the person is left out for
        that variant (PLINK's complete-case analysis).
    precision : {"single", "double"}
        Of the matrix product and the stored t. Single precision stays within 1e-4 max(1, abs(t)) of
        double; large t statistics are computed in double in either case.
    rank_normal : bool
        Rank-based inverse normal transform of each latent first.
    residualize_first : bool
        Two-step analysis that leaves the covariates in the genotype; see ``docs/statistics.md``.
    omnibus : bool
        Also test every variant against all latents at once (``docs/heritability.md``).
    heritability : bool
        Also multiply the genotypes with random vectors, so that
        :func:`imgwas.heritability_of_scan` needs no pass over the genotypes of its own.
    min_overlap : float
        Refuse when less than this share of the smaller file is found in the other.
    training_people : {"refuse", "exclude", "allow"}
        What to do about people who trained the encoder of the latents (``imgwas encode`` notes
        them).
    genome_build : str, optional
        Recorded in the result, e.g. ``GRCh37``.
    threads : int, optional
        Threads of this process; the cores it may use by default.
    client : distributed.Client, optional
        Run on a dask cluster whose workers see the same folders instead.
    part_size : int
        Variants per part. Changes no number beyond rounding.
    overwrite : bool
        Start anew in a folder that holds another run.
    break_lock : bool
        Take over the folder of a run that is known to be dead.
    command : list of str, optional
        Recorded in the result.
    progress : Progress, optional
        Told of every finished block.

    Returns
    -------
    SumStats
        ``beta`` per copy of the effect allele in units of the latent, ``standard_error``,
        ``neg_log10_p_value`` from t with n - rank(C) - 1 degrees of freedom.

    Raises
    ------
    InconsistentError
        If ids do not meet, or the folder holds a run of other inputs or settings.
    TooFewSamplesError
        If fewer than rank(C) + 2 samples remain.
    RefusedError
        If people of the latents trained their encoder.
    Interrupted
        On SIGINT or SIGTERM; the same call resumes.

    Notes
    -----
    Multiply-adds: variants x samples x (latents + covariates). Memory: a few blocks per thread and
    one part of results, whatever the number of variants.

    On chromosome X (outside the pseudo-autosomal regions) males count 0 or 2, sex is added to the
    covariates and people of unknown sex are left out; on Y only males are used.

    References
    ----------
    .. [1] Frisch & Waugh (1933), Econometrica 1:387. Lovell (1963), JASA 58:993.
    """
    settings = _settings(
        missing_genotype, precision, part_size, rank_normal, residualize_first, filters
    )
    settings = replace(settings, omnibus=omnibus, heritability=heritability)
    _check_heritability(settings)
    check_quality(genotypes, settings.filters)
    latents = without_training_people(latents, training_people)
    chosen = selection if selection is not None else select(genotypes)
    design = build_design(
        genotypes.samples,
        latents,
        covariates,
        keep=chosen.sample_columns,
        min_overlap=min_overlap,
        rank_normal=rank_normal,
        residualize_first=residualize_first,
    )
    for line in design.flow.lines():
        logger.info("samples  %s", line)
    out = Path(out)
    folder.create(out)
    with locked(out, break_lock=break_lock):
        task = make_task(genotypes, design, chosen.rows, settings, out)
        identity = _identity(task, design)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        description = describe(task, design, chosen, identity, digest, command, genome_build)
        finished = folder.open_run(out, description, overwrite=overwrite)
        finished = _with_sums(task, design, genotypes.samples, finished, digest)
        _run(task, design, finished, digest, threads, client, progress or NoProgress())
    return open_sumstats(out)


def _settings(
    missing_genotype: str,
    precision: str,
    part_size: int,
    rank_normal: bool,
    residualize_first: bool,
    filters: VariantFilters | None,
) -> ScanSettings:
    check_option("missing_genotype", missing_genotype, ["mean", "drop"])
    check_option("precision", precision, ["single", "double"])
    check_range("part_size", part_size, low=1, high=10_000_000, unit="variants")
    return ScanSettings(
        missing_genotype="drop" if missing_genotype == "drop" else "mean",
        precision=precision,
        part_size=part_size,
        rank_normal=rank_normal,
        residualize_first=residualize_first,
        filters=filters or VariantFilters(),
    )


def _check_heritability(settings: ScanSettings) -> None:
    if settings.heritability and settings.missing_genotype == "drop":
        raise UsageError(
            explain(
                "heritability in the scan takes missing calls at the mean",
                do="Leave out --missing-genotype drop, or estimate heritability afterwards",
            )
        )


def _identity(task: ScanTask, design: Design) -> dict[str, Any]:
    """Everything that changes numbers: inputs, settings, versions."""
    settings = task.settings.described()
    return {
        "format_version": FORMAT_VERSION,
        "imgwas_major": __version__.split(".")[0],
        "genotypes": dict(task.genotypes.fingerprint()),
        "variants": _digest(task.rows),
        "samples": _digest_of_ids(design),
        "latents": _digest(*(group.traits for group in design.groups))
        + _digest(*(group.scale for group in design.groups)),
        "latent_names": _digest_text(*(name for group in design.groups for name in group.names)),
        "covariates": _digest(*(group.basis for group in design.groups)),
        "settings": settings,
    }


def _digest(*arrays: np.ndarray) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _digest_of_ids(design: Design) -> str:
    ids = "\n".join(design.sample_ids)
    return hashlib.sha256(ids.encode("utf-8", "surrogateescape")).hexdigest()


def _digest_text(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def _with_sums(
    task: ScanTask, design: Design, samples: Samples, finished: list[int], digest: str
) -> list[int]:
    """Leave out parts whose sums for heritability are lost; warn of relatives."""
    if not task.settings.heritability:
        return finished
    warn_of_relatives(samples, design.sample_columns)
    receipts = folder.read_receipts(task.out, task.n_parts)
    return Gathering(task, digest).finished(finished, receipts)


def _run(
    task: ScanTask,
    design: Design,
    finished: list[int],
    digest: str,
    threads: int | None,
    client: Client | None,
    progress: Progress,
) -> None:
    """Compute the parts that are missing and close the run."""
    complete = len(finished) == task.n_parts and (task.out / folder.COMPLETE).exists()
    names = [CORRELATION, *([PROBES] if task.settings.heritability else [])]
    if complete and all(is_recorded(task.out, other_files(task.out), name) for name in names):
        logger.info("%s is complete already: nothing to do", task.out)
        return
    if finished:
        logger.info("resuming: %d of %d parts are done", len(finished), task.n_parts)
    todo = sorted(set(range(task.n_parts)) - set(finished))
    n_traits = sum(len(group.names) for group in design.groups)
    width = np.dtype(task.settings.dtype).itemsize * n_traits + 120
    n_rows = sum(b - a for a, b in map(task.part_range, todo))
    folder.check_space(task.out, n_rows * width + space_of_sums(task, len(todo)))
    with stop_wishes() as stop, progress.started(task, todo):
        common: dict[str, Any] = {
            "digest": digest,
            "on_variants": progress.advance,
            "on_receipt": lambda receipt: _check_input(task, receipt, progress),
            "stop": lambda: stop[0] is not None,
        }
        if client is not None:
            run_on_client(task, todo, client=client, **common)
        else:
            run_on_threads(task, todo, threads=threads or available_cores(), **common)
    if stop[0] is not None:
        raise _interrupted(task, digest, stop[0])
    task.genotypes.check_unchanged()
    gathering = Gathering(task, digest)
    correlation = write_correlation(task.out, design, _digest_of_ids(design))
    _finish(task, [correlation, *gathering.write(folder.read_receipts(task.out, task.n_parts))])
    gathering.clean()


def _check_input(task: ScanTask, receipt: Mapping[str, Any], progress: Progress) -> None:
    """Refuse a genotype file that is replaced under the run."""
    task.genotypes.check_unchanged()
    progress.part_done(receipt)


def _finish(task: ScanTask, files: list[dict[str, str | int]]) -> None:
    removed: dict[str, int] = {}
    reasons: dict[str, int] = {}
    n_rows = 0
    for receipt in folder.read_receipts(task.out, task.n_parts):
        n_rows += receipt.get("rows", 0)
        for total, key in ((removed, "removed"), (reasons, "reasons")):
            for name, n in receipt.get("counts", {}).get(key, {}).items():
                total[name] = total.get(name, 0) + n
    for name, n in removed.items():
        logger.info("variants  --%s removed %s", name, f"{n:,}")
    logger.info("variants  %s tested or listed, of %s read", f"{n_rows:,}", f"{len(task.rows):,}")
    totals = {"n_variants": n_rows, "removed": removed, "reasons": reasons, "files": files}
    folder.complete(task.out, task.n_parts, totals)


def _interrupted(task: ScanTask, digest: str, number: int) -> Interrupted:
    done = len(folder.finished_parts(task.out, task.n_parts, digest))
    return Interrupted(
        explain(
            f"Stopped by {signal.Signals(number).name}: {done} of {task.n_parts} parts are "
            f"finished and safe in {task.out}",
            do="Run the same command again to resume",
        ),
        number,
    )
