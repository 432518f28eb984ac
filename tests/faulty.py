"""Genotypes that kill, hang or fail when some of their variants are read: for tests of engines."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.genotypes import PlinkGenotypes


class FaultyGenotypes(PlinkGenotypes):
    """A PLINK fileset with a trap: reading ``row`` does ``what``, some number of times.

    How often it has happened is counted in a folder, so that other processes know.
    """

    def __init__(
        self, bfile: Path, folder: Path, what: str, *, row: int = -1, times: int = 10**6
    ) -> None:
        bed, bim, fam = (bfile.with_name(bfile.name + end) for end in (".bed", ".bim", ".fam"))
        super().__init__(bed, bim, fam)
        self.trap: dict[str, Any] = {"what": what, "row": row, "times": times}
        self.bfile, self.folder = bfile, folder
        folder.mkdir(exist_ok=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.bfile, self.folder, self.trap)

    @property
    def happened(self) -> int:
        """Times that the trap has closed."""
        return len(list(self.folder.iterdir()))

    def read_packed(self, rows: np.ndarray) -> np.ndarray:
        """Read, unless the row is among them."""
        if self.trap["what"] == "slow":
            time.sleep(1.0)
        elif self.trap["row"] in rows and self.happened < self.trap["times"]:
            (self.folder / f"{time.time_ns()}-{os.getpid()}").touch()
            self._close(self.trap["what"])
        return super().read_packed(rows)

    def _close(self, what: str) -> None:
        if what in ("kill", "segv"):
            os.kill(os.getpid(), signal.SIGKILL if what == "kill" else signal.SIGSEGV)
        elif what == "hang":
            time.sleep(3600)
        elif what == "eio":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif what == "memory":
            raise MemoryError("cannot allocate 1 TB")


def _again(bfile: Path, folder: Path, trap: dict[str, Any]) -> FaultyGenotypes:
    return FaultyGenotypes(bfile, folder, **trap)
