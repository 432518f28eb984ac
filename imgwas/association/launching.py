"""A prepared scan on its way through its folder: join or resume, compute what is missing, finish.

Three ways in: a run on its own (:func:`run_all`), a task of an array that computes every n-th part
beside others (:func:`run_share`), and finishing what such tasks computed (:func:`run_finish`).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.association import attempts, folder
from imgwas.association.correlation import is_recorded, write_correlation
from imgwas.association.design import Design
from imgwas.association.dispatch import run_on_client
from imgwas.association.engines import run_on_threads
from imgwas.association.parts import receipt_path
from imgwas.association.probing import Gathering, space_of_sums
from imgwas.association.progress import NoProgress, Progress
from imgwas.association.task import ScanTask
from imgwas.cluster import available_cores
from imgwas.errors import UsageError, explain
from imgwas.locks import LockedError, joined, locked
from imgwas.stopping import Interrupted, stop_wishes
from imgwas.sumstats.correlation import CORRELATION
from imgwas.sumstats.folder import other_files
from imgwas.sumstats.probes import PROBES

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

#: Task of an array: its number from 1, and how many there are.
Share = tuple[int, int]


@dataclass(frozen=True)
class Run:
    """A scan, prepared, and who computes it.

    Parameters
    ----------
    task : ScanTask
        What is computed.
    design : Design
        Its people and latents.
    description : dict
        Content of ``run.json``.
    samples_sha256 : str
        Digest of the ids.
    threads : int, optional
        Of this process.
    client : distributed.Client, optional
        Workers that compute instead.
    progress : Progress
        Told of every finished block.
    """

    task: ScanTask
    design: Design
    description: Mapping[str, Any]
    samples_sha256: str
    threads: int | None = None
    client: Client | None = None
    progress: Progress = field(default_factory=NoProgress)

    @property
    def digest(self) -> str:
        """Digest of everything that changes numbers."""
        return str(self.description["digest"])

    def finished(self, among: Sequence[int] | None = None) -> list[int]:
        """Parts that need no work, their bytes compared with their receipts."""
        task = self.task
        done = folder.finished_parts(task.out, task.n_parts, self.digest, among=among)
        if not task.settings.heritability:
            return done
        receipts = folder.read_receipts(task.out, task.n_parts)
        whole = Gathering(task, self.digest).finished(done, receipts)
        if len(whole) < len(done) and Gathering(task, self.digest).is_whole:
            return done  # another task has gathered the sums since we looked
        for part in set(done) - set(whole):  # or a worker would take it for finished
            receipt_path(task.out, part).unlink(missing_ok=True)
        return whole

    def compute(self, todo: Sequence[int]) -> None:
        """Compute some parts; leave cleanly when asked to stop."""
        task = self.task
        self._check_space(todo)
        with stop_wishes() as stop, self.progress.started(task, todo):
            common: dict[str, Any] = {
                "digest": self.digest,
                "on_variants": self.progress.advance,
                "on_receipt": self._on_receipt,
                "stop": lambda: stop[0] is not None,
            }
            if self.client is not None:
                run_on_client(task, todo, client=self.client, **common)
            else:
                run_on_threads(task, todo, threads=self.threads or available_cores(), **common)
        if stop[0] is not None:
            raise self._interrupted(stop[0])
        task.genotypes.check_unchanged()

    def _check_space(self, todo: Sequence[int]) -> None:
        task = self.task
        n_traits = sum(len(group.names) for group in self.design.groups)
        width = np.dtype(task.settings.dtype).itemsize * n_traits + 120
        n_rows = sum(b - a for a, b in map(task.part_range, todo))
        folder.check_space(task.out, n_rows * width + space_of_sums(task, len(todo)))

    def _on_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Refuse a genotype file that is replaced under the run."""
        self.task.genotypes.check_unchanged()
        self.progress.part_done(receipt)

    def _interrupted(self, number: int) -> Interrupted:
        task = self.task
        done = task.n_parts - len(folder.missing_parts(task.out, task.n_parts))
        return Interrupted(
            explain(
                f"Stopped by {signal.Signals(number).name}: {done} of {task.n_parts} parts are "
                f"finished and safe in {task.out}",
                do="Run the same command again to resume",
            ),
            number,
        )

    def finish(self) -> None:
        """Write what all parts add up to, and last the file that makes the run complete."""
        task = self.task
        gathering = Gathering(task, self.digest)
        correlation = write_correlation(task.out, self.design, self.samples_sha256)
        sums = gathering.write(folder.read_receipts(task.out, task.n_parts))
        folder.complete(task.out, task.n_parts, self.digest, totals(task, [correlation, *sums]))
        self.clean()

    def clean(self) -> None:
        """Remove what only a run on its way needs."""
        Gathering(self.task, self.digest).clean()
        attempts.clear(self.task.out)

    @property
    def is_complete(self) -> bool:
        """Whether the last file lists the parts that there are, and the files beside them."""
        task = self.task
        names = [CORRELATION, *([PROBES] if task.settings.heritability else [])]
        recorded = other_files(task.out)
        return folder.is_recorded(task.out, task.n_parts) and all(
            is_recorded(task.out, recorded, name) for name in names
        )


def run_all(run: Run, *, overwrite: bool = False, break_lock: bool = False) -> None:
    """Compute every part that is missing, and finish."""
    out, n_parts = run.task.out, run.task.n_parts
    with locked(out, break_lock=break_lock):
        folder.open_run(out, run.description, overwrite=overwrite, break_lock=break_lock)
        finished = run.finished()
        if len(finished) == n_parts and run.is_complete:
            logger.info("%s is complete already: nothing to do", out)
            return
        if finished:
            logger.info("resuming: %d of %d parts are done", len(finished), n_parts)
        if len(finished) < n_parts:
            # no longer true, and nobody may read the folder until it is again
            (out / folder.COMPLETE).unlink(missing_ok=True)
        attempts.clear(out)
        run.compute(sorted(set(range(n_parts)) - set(finished)))
        run.finish()


def run_share(run: Run, share: Share) -> list[int]:
    """Compute every n-th part beside other tasks; finish if these were the last.

    Returns
    -------
    list of int
        Parts that are still missing.
    """
    number, n = check_share(share)
    out, n_parts = run.task.out, run.task.n_parts
    mine = range(number - 1, n_parts, n)
    with joined(out):
        folder.open_run(out, run.description)
        finished = run.finished(mine)
        todo = sorted(set(mine) - set(finished))
        logger.info(
            "task     %d of %d: %d of its %d parts are to be computed",
            *(number, n, len(todo), len(mine)),
        )
        attempts.clear(out, todo)
        run.compute(todo)
        missing = folder.missing_parts(out, n_parts)
        if not missing:
            _finish_as_last(run)
        else:
            logger.info(
                "parts    %d of %d are still missing: %s",
                *(len(missing), n_parts, folder.ranges(missing)),
            )
    return missing


def check_share(share: Share) -> Share:
    """Refuse a number beyond the tasks there are."""
    number, n = share
    if not 1 <= number <= n:
        raise UsageError(
            explain(
                f"part {number}/{n} is not one of {n}",
                expected="Tasks are numbered from 1: 1/10 to 10/10",
            )
        )
    return number, n


def _finish_as_last(run: Run) -> None:
    """Finish the run unless another process is about it."""
    out = run.task.out
    try:
        with locked(out):
            finished = run.finished()
            if len(finished) == run.task.n_parts:
                # what the same task, given twice, computed after the run was complete
                (run.clean if run.is_complete else run.finish)()
    except LockedError as error:
        logger.info("all parts are there, and another process has the folder: %s", error)
        return
    if len(finished) < run.task.n_parts:
        missing = sorted(set(range(run.task.n_parts)) - set(finished))
        raise folder.incomplete(out, run.task.n_parts, missing)


def run_finish(run: Run, *, break_lock: bool = False) -> None:
    """Finish a run whose parts tasks of an array computed.

    Raises
    ------
    IncompleteError
        If parts are missing or damaged, with their numbers.
    """
    out, n_parts = run.task.out, run.task.n_parts
    with locked(out, break_lock=break_lock):
        folder.open_run(out, run.description)
        finished = run.finished()
        if len(finished) < n_parts:
            raise folder.incomplete(out, n_parts, sorted(set(range(n_parts)) - set(finished)))
        if run.is_complete:
            logger.info("%s is complete already: nothing to do", out)
        else:
            run.finish()


def totals(task: ScanTask, files: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the receipts of all parts, for ``RUN_COMPLETE.json`` and the log."""
    removed: dict[str, int] = {}
    reasons: dict[str, int] = {}
    n_rows, of_men = 0, 0
    for receipt in folder.read_receipts(task.out, task.n_parts):
        n_rows += receipt.get("rows", 0)
        of_men += receipt.get("counts", {}).get("male_heterozygotes", 0)
        for total, key in ((removed, "removed"), (reasons, "reasons")):
            for name, n in receipt.get("counts", {}).get(key, {}).items():
                total[name] = total.get(name, 0) + n
    for name, n in removed.items():
        logger.info("variants  --%s removed %s", name, f"{n:,}")
    logger.info("variants  %s tested or listed, of %s read", f"{n_rows:,}", f"{len(task.rows):,}")
    if of_men:
        logger.warning(
            "%s calls of men on X and Y are heterozygous: %s",
            f"{of_men:,}",
            "taken for missing"
            if task.settings.set_hh_missing
            else "counted as one copy; "
            "--set-hh-missing takes them for missing, and see imgwas quality for wrong sexes",
        )
    found = {"n_variants": n_rows, "removed": removed, "reasons": reasons, "files": files}
    return found | ({"male_heterozygotes": of_men} if of_men else {})
