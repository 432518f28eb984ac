"""Parts handed to a program as they are finished: for machines whose disk goes with the job.

The program is called as ``PROGRAM OUT FILE...``, the files named relative to the folder of results:
first ``run.json``, then each part with its receipt (and its sums, for heritability). A file in the
private folder of the run remembers what was handed over, so a run that is resumed does not do it
again. The same files, put back into a new folder, resume the run on another machine.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imgwas.association.folder import RUN, read_receipt
from imgwas.association.parts import part_path, receipt_path
from imgwas.association.probing import sums_path
from imgwas.association.progress import NoProgress, Progress
from imgwas.association.task import ScanTask
from imgwas.errors import IncompleteError, OpenError, explain
from imgwas.files import read_json, write_error

logger = logging.getLogger(__name__)

#: Seconds to wait before the program is called again for the same files.
WAITS_S = (1.0, 10.0)
#: Parts that may wait to be handed over before the scan waits too.
MOST_WAITING = 8


class HandingOver:
    """Another progress, and a program that is called for every finished part.

    Parameters
    ----------
    program : str or path
        Called without a shell and without other arguments than the folder and names of files.
    progress : Progress, optional
        Is told as before.

    Raises
    ------
    OpenError
        If there is no such program.
    """

    def __init__(self, program: str | Path, progress: Progress | None = None) -> None:
        found = shutil.which(str(program))
        if found is None:
            raise OpenError(
                explain(
                    f"--on-part {program} is no program that can be started",
                    do="Name an executable file, without arguments: write a script for those",
                )
            )
        self.program = str(Path(found).resolve())
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
                pool.shutdown(cancel_futures=True)
                raise
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
            if not said:
                break
            logger.warning("--on-part failed for %s (%s): again in %g s", names[0], said, wait)
            time.sleep(wait)
            said = self._call(names)
        if said:
            self.failed[names[0]] = said
            return
        try:
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(f"{what}\n")
        except OSError as error:
            raise write_error(self._log, error) from error

    def _call(self, names: list[str]) -> str:
        """Call the program; return what went wrong, or an empty text."""
        command = [self.program, str(self._task.out), *names]
        try:
            done = subprocess.run(  # noqa: S603 - a list of words, no shell
                command, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except OSError as error:
            return f"it could not be started: {error.strerror}"
        if done.returncode == 0:
            return ""
        words = done.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1][:200]
        return f"code {done.returncode}{': ' if words else ''}{words}"

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
