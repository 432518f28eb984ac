"""Every refusal of imgwas, as one tree.

::

    ImgwasError
    ├── UsageError           (ValueError)         8   the command line or an argument is wrong
    ├── OpenError            (FileNotFoundError)  3   a file is absent or cannot be opened
    ├── ReadError            (OSError)            4   a file opened, but reading it failed
    ├── WriteError           (OSError)            5   disk full, quota, read-only, not a folder
    ├── MalformedError       (ValueError)         6   the bytes of one file violate its format
    ├── InconsistentError    (ValueError)         7   well-formed files that do not belong together
    ├── DegenerateError      (ValueError)        13   right files, no computable answer
    │   └── TooFewSamplesError
    ├── MissingLibraryError  (ImportError)        9   an optional library or a worker cannot start
    ├── DecompressError      (ValueError)        14   a compressed block is damaged
    ├── DeviceError          (RuntimeError)      16   the GPU that was asked for is not there
    ├── IncompleteError      (RuntimeError)      20   unfinished, and the same command resumes it
    └── RefusedError         (ValueError)        21   refused for safety or privacy

The number is the exit code of the command line (PLINK 2's numbers where PLINK 2 has one). Every
message says what was found, what was expected, where, and what to do next; :func:`explain` is how
the pieces are put together.
"""

from __future__ import annotations

from collections.abc import Sequence


class ImgwasError(Exception):
    """Root of every error that imgwas raises on purpose."""

    exit_code: int = 60


class UsageError(ImgwasError, ValueError):
    """An option or argument has a value that cannot be used."""

    exit_code = 8


class OpenError(ImgwasError, FileNotFoundError):
    """A file is absent or cannot be opened."""

    exit_code = 3

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ReadError(ImgwasError, OSError):
    """A file was opened but could not be read to its end."""

    exit_code = 4


class WriteError(ImgwasError, OSError):
    """An output could not be written."""

    exit_code = 5


class MalformedError(ImgwasError, ValueError):
    """The content of one file violates its format."""

    exit_code = 6


class InconsistentError(ImgwasError, ValueError):
    """Two or more well-formed inputs do not belong together."""

    exit_code = 7


class DegenerateError(ImgwasError, ValueError):
    """The inputs are right but the question has no computable answer."""

    exit_code = 13


class TooFewSamplesError(DegenerateError):
    """Fewer samples remain than the model has parameters."""


class MissingLibraryError(ImgwasError, ImportError):
    """An optional library is not installed, or a worker could not start."""

    exit_code = 9


class DecompressError(ImgwasError, ValueError):
    """A compressed block does not unpack to what it should."""

    exit_code = 14


class DeviceError(ImgwasError, RuntimeError):
    """The compute device that was asked for cannot be used."""

    exit_code = 16


class IncompleteError(ImgwasError, RuntimeError):
    """A run is unfinished; what is finished is safe and the same command resumes."""

    exit_code = 20


class RefusedError(ImgwasError, ValueError):
    """Refused because going on would be unsafe."""

    exit_code = 21


def explain(what: str, *, expected: str = "", where: str = "", do: str = "") -> str:
    """Join the parts of an error message in the order a reader needs them.

    Parameters
    ----------
    what : str
        What was found, with name and value.
    expected : str
        What would have been right.
    where : str
        File, row, count, first examples.
    do : str
        The option, function or shell line to try next.

    Returns
    -------
    str
        The sentences, each ended by a full stop.
    """
    parts = (part.strip() for part in (what, expected, where, do))
    return " ".join(
        part if part.endswith((".", "?", "!")) else f"{part}." for part in parts if part
    )


def redact(sample_id: str) -> str:
    """Mask a person's id for terminals and logs, keeping its shape.

    Digits become ``#`` except the last two, letters beyond the fourth become ``*``: enough to see
    that one file writes ``sub-#####17`` and the other ``#####17``, too little to tell who it is.
    """
    masked = []
    letters = 0
    for position, character in enumerate(sample_id):
        letters += character.isalpha()
        if character.isdigit() and position < len(sample_id) - 2:
            character = "#"
        elif character.isalpha() and letters > 4:
            character = "*"
        masked.append(character)
    return "".join(masked[:40])


def first_ids(ids: Sequence[str], limit: int = 3) -> str:
    """Name the first few ids, redacted, with control characters made visible."""
    shown = ", ".join(ascii(redact(str(i)))[1:-1] for i in ids[:limit])
    return f"first: {shown}" if shown else "none"
