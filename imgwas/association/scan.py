"""The scan: open, align, cut into parts, compute what is missing, finish.

:func:`associate` is the whole of it; each helper below is one step of that page.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas._version import __version__
from imgwas.association import folder
from imgwas.association.description import FORMAT_VERSION, describe
from imgwas.association.design import Design, build_design
from imgwas.association.devices import BLOCK_SIZE, choose_devices
from imgwas.association.launching import Run, run_all, run_finish, run_share
from imgwas.association.progress import NoProgress, Progress
from imgwas.association.seen import without_training_people
from imgwas.association.selection import Selection, select
from imgwas.association.task import ScanSettings, ScanTask, make_task
from imgwas.checks import check_option, check_range
from imgwas.errors import IncompleteError, UsageError, explain
from imgwas.genotypes.dosage_filters import check_quality
from imgwas.genotypes.filters import VariantFilters
from imgwas.genotypes.relatives import warn_of_relatives
from imgwas.scratch import release
from imgwas.sumstats import SumStats, open_sumstats
from imgwas.sumstats.folder import open_folder
from imgwas.types import Covariates, Genotypes, Latents, PackedGenotypes

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

#: Bytes that are digested before the next are looked at.
_AT_ONCE = 8 << 20


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
    set_hh_missing: bool = False,
    min_overlap: float = 0.5,
    training_people: str = "refuse",
    genome_build: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    client: Client | None = None,
    part_size: int = 16384,
    part: tuple[int, int] | None = None,
    finish: bool = False,
    ignore_file_times: bool = False,
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
    set_hh_missing : bool
        Heterozygous calls of men on X and Y are missing; otherwise they count as one copy. They
        are counted in any case. Not of dosages.
    min_overlap : float
        Refuse when less than this share of the smaller file is found in the other.
    training_people : {"refuse", "exclude", "allow"}
        What to do about people who trained the encoder of the latents (``imgwas encode`` notes
        them).
    genome_build : str, optional
        Recorded in the result, e.g. ``GRCh37``.
    device : str
        ``cpu``; ``cuda`` for every GPU of this machine, ``cuda:1`` for one of them; ``auto`` for
        GPUs where there are any. Statistics of a GPU are within 1e-4 max(1, abs(t)) of the CPU's.
    threads : int, optional
        Threads of this process; the cores it may use by default.
    client : distributed.Client, optional
        Run on a dask cluster whose workers see the same folders instead.
    part_size : int
        Variants per part. Changes no number beyond rounding.
    part : (int, int), optional
        Compute only the parts of task i of n, counted from 1: every n-th part from the i-th. Any
        number of such calls may write the same folder at once, from several machines. The last of
        them finishes the run; before that, what is returned is partial.
    finish : bool
        Compute nothing: finish a run whose tasks are all done, or say which parts are missing.
    ignore_file_times : bool
        Take genotype files of the same size and tables for the same whenever they were written.
        For tasks that each get a copy of the inputs, as workflow engines make them.
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
    run = prepare_run(
        genotypes,
        latents,
        covariates,
        out=out,
        selection=selection,
        filters=filters,
        missing_genotype=missing_genotype,
        precision=precision,
        rank_normal=rank_normal,
        residualize_first=residualize_first,
        omnibus=omnibus,
        heritability=heritability,
        set_hh_missing=set_hh_missing,
        min_overlap=min_overlap,
        training_people=training_people,
        genome_build=genome_build,
        device=device,
        threads=threads,
        client=client,
        part_size=part_size,
        ignore_file_times=ignore_file_times,
        command=command,
        progress=progress,
    )
    return _launch(run, part, finish, overwrite=overwrite, break_lock=break_lock)


def prepare_run(
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
    set_hh_missing: bool = False,
    min_overlap: float = 0.5,
    training_people: str = "refuse",
    genome_build: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    client: Client | None = None,
    part_size: int = 16384,
    ignore_file_times: bool = False,
    command: list[str] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Align people and lay the scan out, without writing anything; see :func:`associate`."""
    settings = _settings(
        missing_genotype, precision, part_size, rank_normal, residualize_first, filters
    )
    settings = replace(
        settings, omnibus=omnibus, heritability=heritability, set_hh_missing=set_hh_missing
    )
    settings = _on_device(settings, device, genotypes)
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
    if heritability:
        warn_of_relatives(genotypes.samples, design.sample_columns)
    task = make_task(genotypes, design, chosen.rows, settings, Path(out))
    identity = _identity(task, design)
    if ignore_file_times:
        identity = _without_times(identity)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Run(
        task,
        design,
        describe(task, design, chosen, identity, digest, command, genome_build),
        _digest_of_ids(design),
        threads=threads,
        client=client,
        progress=progress or NoProgress(),
    )


def _launch(
    run: Run, part: tuple[int, int] | None, finish: bool, *, overwrite: bool, break_lock: bool
) -> SumStats:
    """Compute all parts, or those of one task, or finish what tasks computed."""
    out = run.task.out
    if overwrite and (part or finish):
        raise UsageError(
            explain(
                "a task of an array cannot start a folder anew under the others",
                do="Choose another --out, or leave out --overwrite",
            )
        )
    folder.create(out)
    if part is not None:
        run_share(run, part)
        if not (out / folder.COMPLETE).exists():
            return _partial(run)
    elif finish:
        run_finish(run, break_lock=break_lock)
    else:
        run_all(run, overwrite=overwrite, break_lock=break_lock)
    return open_sumstats(out)


def _partial(run: Run) -> SumStats:
    """What is finished so far, perhaps nothing."""
    try:
        metadata, parts, _ = open_folder(run.task.out, allow_partial=True)
    except IncompleteError:
        metadata, parts = dict(run.description), []
    return SumStats(run.task.out, metadata, parts, is_partial=True)


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


def _on_device(settings: ScanSettings, device: str, genotypes: Genotypes) -> ScanSettings:
    """Name the device, and give it larger blocks than a processor takes of two-bit codes."""
    devices = choose_devices(device)
    if devices == ("cpu",):
        return settings
    logger.info("device  %s", ", ".join(devices))
    name = "cuda" if device == "auto" else device
    is_packed = isinstance(genotypes, PackedGenotypes)
    size = BLOCK_SIZE if is_packed else settings.block_size
    return replace(settings, device=name, block_size=size)


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


def _without_times(identity: Any) -> Any:
    """Leave out when files were written, at any depth."""
    if not isinstance(identity, dict):
        return identity
    kept = {name: one for name, one in identity.items() if not name.endswith("mtime_ns")}
    return {name: _without_times(one) for name, one in kept.items()}


def _digest(*arrays: np.ndarray) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(str(array.shape).encode())
        step = max(1, _AT_ONCE // max(array[:1].nbytes, 1))
        for start in range(0, len(array), step):
            sha.update(np.ascontiguousarray(array[start : start + step]).data)
            release()
    return sha.hexdigest()


def _digest_of_ids(design: Design) -> str:
    ids = "\n".join(design.sample_ids)
    return hashlib.sha256(ids.encode("utf-8", "surrogateescape")).hexdigest()


def _digest_text(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
