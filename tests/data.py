"""Where the real, public data sets are, when they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_folder() -> Path | None:
    """Folder of the public data sets, or None where they are absent."""
    folder = Path(os.environ.get("IMGWAS_TEST_DATA", _BESIDE))
    return folder if folder.is_dir() else None


def data_file(name: str) -> Path:
    """Path of one public data file; the test is skipped, saying so, where it is absent."""
    folder = data_folder()
    if folder is None or not (folder / name).exists():
        pytest.skip(f"public data file {name} is not here (set IMGWAS_TEST_DATA)")
    return folder / name
