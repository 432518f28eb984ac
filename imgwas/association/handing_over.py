"""Parts handed to a program as they are finished: for machines whose disk goes with the job.

The program is called as ``PROGRAM OUT FILE...``, the files named relative to the folder of results:
first ``run.json``, then each part with its receipt (and its sums, for heritability). A file in the
private folder of the run remembers what was handed over, so a run that is resumed does not do it
again. The same files, put back into a new folder, resume the run on another machine.

A program that hangs holds nothing for ever: a call has a limit on its time, after a few parts that
it cost the program is called no more, and a run that is asked to stop leaves it ten seconds.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imgwas.association.calling import TICK_S, call_within
from imgwas.association.folder import RUN, read_receipt
from imgwas.association.parts import part_path, receipt_path
from imgwas.association.probing import sums_path
from imgwas.association.progress import NoProgress, Progress
from imgwas.association.task import ScanTask
from imgwas.checks import check_range
from imgwas.errors import IncompleteError, OpenError, explain
from imgwas.files import read_json, write_error
from imgwas.stopping import is_asked_to_stop

logger = logging.getLogger(__name__)

#: Seconds to wait before the program is called again for the same files.
WAITS_S = (1.0, 10.0)
#: Parts that may wait to be handed over before the scan waits too.
MOST_WAITING = 8
#: Seconds that a call may take.
TIMEOUT_S = 600.0
#: Parts in a row that may take too long, three times each, before the program is called no more.
MOST_HANGING = 3
#: Seconds that the program has when the run is asked to stop: well below what clusters grant.
STOP_S = 10.0
_TOO_LONG = "it took longer than"


class HandingOver:
    """Another progress, and a program that is called for every finished part.

    Parameters
    ----------
    program : str or path
        Called without a shell and without other arguments than the folder and names of files.
    progress : Progress, optional
        Is told as before.
    timeout_s : float
        Seconds that a call may take. Then the program and what it started are ended, which counts
        as a failure.

    Raises
    ------
    OpenError
        If there is no such program.
    UsageError
        If the seconds are not above zero.
    """

    def __init__(
        self,
        program: str | Path,
        progress: Progress | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        found = shutil.which(str(program))
        if found is None:
            raise OpenError(
                explain(
                    f"--on-part {program} is no program that can be started",
                    do="Name an executable file, without arguments: write a script for those",
                )
            )
        self.program = str(Path(found).resolve())
        self.timeout_s = check_range("timeout_s", timeout_s, low=0.001, unit="seconds")
        self.inner: Progress = progress or NoProgress()
        self.failed: dict[str, str] = {}

    @contextlib.contextmanager
    def started(self, task: ScanTask, todo: Sequence[int]) -> Iterator[None]:
        """Hand over what earlier runs left, then every part, and wait for the last of them.

        Raises
        ------
        IncompleteError
            If the program failed for some files three times.
        """
        self.failed, self._task, self._log = {}, task, task.out / "private" / "handed-over.txt"
        self._n_hanging, self._is_leaving, self._stop_at = 0, False, math.inf
        self._handed = set(_lines(self._log))
        with ThreadPoolExecutor(1, thread_name_prefix="on-part") as pool:
            self._pool, self._waiting = pool, list[Future[None]]()
            try:
                self._submit([RUN], f"{RUN} {_digest_of(task)}")
                for part in sorted(set(range(task.n_parts)) - set(todo)):
                    receipt = read_receipt(task.out, part)
                    if receipt is not None:
                        self._part(receipt)
                with self.inner.started(task, todo):
                    yield
                for one in self._waiting:
                    one.result()
            except BaseException:
                self._is_leaving = True
                pool.shutdown(cancel_futures=True)
                raise
        if not self._is_stopping():
            self._refuse_failures()

    def advance(self, n_variants: int) -> None:
        """Pass it on."""
        self.inner.advance(n_variants)

    def part_done(self, receipt: Mapping[str, Any]) -> None:
        """Hand a part over, beside the computing of others."""
        self.inner.part_done(receipt)
        self._part(receipt)

    def _part(self, receipt: Mapping[str, Any]) -> None:
        out, part = self._task.out, int(receipt["part"])
        files = [part_path(out, part), receipt_path(out, part)]
        if self._task.settings.heritability:
            files.append(sums_path(out, part))
        names = [str(file.relative_to(out)) for file in files if file.exists()]
        self._submit(names, f"{part} {receipt['sha256']} {receipt['digest']}")

    def _submit(self, names: list[str], what: str) -> None:
        if what in self._handed:
            return
        self._waiting = [one for one in self._waiting if not one.done()]
        while len(self._waiting) >= MOST_WAITING:  # a slow program holds the scan back
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._hand_over, names, what))

    def _hand_over(self, names: list[str], what: str) -> None:
        said = self._call(names)
        for wait in WAITS_S:
            if not said or self._is_stopping() or self._is_hopeless():
                break
            logger.warning("--on-part failed for %s (%s): again in %g s", names[0], said, wait)
            self._pause(wait)
            said = self._call(names)
        if said and self._is_stopping():
            logger.warning("--on-part: %s is left to the next run (%s)", names[0], said)
        elif said:
            self._note_failure(names[0], said)
        else:
            self._n_hanging = 0
            self._remember(what)

    def _remember(self, what: str) -> None:
        try:
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(f"{what}\n")
        except OSError as error:
            raise write_error(self._log, error) from error

    def _note_failure(self, name: str, said: str) -> None:
        self.failed[name] = said
        if self._is_hopeless():
            return
        self._n_hanging = self._n_hanging + 1 if said.startswith(_TOO_LONG) else 0
        if self._is_hopeless():
            logger.warning(
                "--on-part took too long for %d parts in a row: it is called no more in this run",
                MOST_HANGING,
            )

    def _call(self, names: list[str]) -> str:
        """Call the program; return what went wrong, or an empty text."""
        if self._is_hopeless():
            return f"not tried after {MOST_HANGING} parts in a row took too long"
        over_at = time.monotonic() + self.timeout_s
        if self._seconds_left(over_at) <= 0:
            return "the run was stopped"
        command = [self.program, str(self._task.out), *names]
        try:
            ended = call_within(command, lambda: self._seconds_left(over_at))
        except OSError as error:
            return f"it could not be started: {error.strerror}"
        said = f": {ended.words}" if ended.words else ""
        if ended.code is not None:
            return f"code {ended.code}{said}" if ended.code else ""
        if self._is_stopping():
            return "the run was stopped"
        return f"{_TOO_LONG} {self.timeout_s:g} s{said}"

    def _is_hopeless(self) -> bool:
        return self._n_hanging >= MOST_HANGING

    def _is_stopping(self) -> bool:
        return self._is_leaving or is_asked_to_stop()

    def _seconds_left(self, over_at: float) -> float:
        """Seconds to the end of a call, which comes sooner when the run is to stop."""
        now = time.monotonic()
        if self._stop_at == math.inf and self._is_stopping():
            self._stop_at = now + STOP_S
            logger.info("stopping: --on-part has %g s more", STOP_S)
        return min(over_at, self._stop_at) - now

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._is_stopping():
            time.sleep(min(left, TICK_S))

    def _refuse_failures(self) -> None:
        if self.failed:
            name, said = next(iter(self.failed.items()))
            raise IncompleteError(
                explain(
                    f"--on-part failed for {len(self.failed)} of the parts (first: {name}, {said})",
                    where="They are finished, and safe in the folder of results only",
                    do="Run the same command again, which hands them over",
                )
            )


def _digest_of(task: ScanTask) -> str:
    """What tells the run of one folder from another."""
    return str(read_json(task.out / RUN).get("digest"))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
