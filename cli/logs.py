"""Where messages go: the terminal in short, the run's own log file in full."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import resource
import shlex
import sys
import time
from pathlib import Path

import click

from imgwas._version import __version__

logger = logging.getLogger("imgwas")

_LIBRARIES = ("numpy", "pyarrow", "pandas", "scipy", "statsmodels", "dask", "distributed")


class _Echo(logging.Handler):
    """Messages for the terminal, on standard error, control characters made visible."""

    def emit(self, record: logging.LogRecord) -> None:
        text = _printable(record.getMessage())
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        click.echo(f"{prefix}{text}", err=True)


class _Clean(logging.Formatter):
    """One line per record in the file; an id with an escape sequence stays harmless."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Write the time in UTC."""
        return time.strftime(datefmt or "%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(_printable(line) for line in super().format(record).split("\n"))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def to_terminal(*, verbose: bool = False, quiet: bool = False) -> None:
    """Show messages on standard error."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    for handler in [h for h in logger.handlers if isinstance(h, _Echo)]:
        logger.removeHandler(handler)
    handler = _Echo()
    handler.setLevel(level)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


def to_file(out: Path) -> Path:
    """Start the log of this attempt; earlier attempts keep theirs."""
    path = _new_file(out)
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    logging.raiseExceptions = False  # a full disk is told by the error of the run, not line by line
    handler.setFormatter(_Clean("%(asctime)s %(levelname)-7s %(message)s"))
    logger.addHandler(handler)
    _describe_machine()
    return path


def _new_file(out: Path) -> Path:
    """Make the next log of a folder, which tasks of an array may do at the same time."""
    for number in itertools.count(1):
        path = out / f"log-{number}.txt"
        with contextlib.suppress(FileExistsError), path.open("x"):
            return path
    raise AssertionError


def _describe_machine() -> None:
    """Say what runs where, without asking anything that takes time."""
    system = os.uname()
    python = ".".join(map(str, sys.version_info[:3]))
    logger.debug("command  %s", shlex.join(["imgwas", *sys.argv[1:]]))
    logger.debug("folder   %s", Path.cwd())
    logger.debug(
        "host     %s, %s %s %s, Python %s",
        *(system.nodename, system.sysname, system.release, system.machine, python),
    )
    logger.debug("imgwas   %s", __version__)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "DX_JOB_ID", "OPENBLAS_CORETYPE"):
        if name in os.environ:
            logger.debug("%s=%s", name, os.environ[name])


def describe_libraries() -> None:
    """Name the versions of the libraries that had a part in the run, at its end."""
    loaded = {name: sys.modules[name] for name in _LIBRARIES if name in sys.modules}
    versions = [f"{name} {getattr(module, '__version__', '?')}" for name, module in loaded.items()]
    logger.debug("libraries %s", ", ".join(versions))


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
