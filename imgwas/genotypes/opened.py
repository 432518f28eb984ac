"""A file that is opened when first read, and closed with whoever reads it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from imgwas.errors import OpenError, explain


class OpenedFile:
    """One descriptor for all threads of a process; reads name their place.

    Parameters
    ----------
    path : Path
        Opened by the first call of :meth:`descriptor`, not here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def descriptor(self) -> int:
        """Return the descriptor to read from.

        Raises
        ------
        OpenError
            If the file cannot be opened.
        """
        with self._lock:
            if self._descriptor is None:
                try:
                    self._descriptor = os.open(self.path, os.O_RDONLY)
                except OSError as error:
                    raise OpenError(
                        explain(f"{self.path} cannot be opened ({error.strerror})")
                    ) from error
            return self._descriptor

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)
