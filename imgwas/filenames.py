"""File names for latents and people, whatever characters their names hold."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence


def file_names(latents: Sequence[str]) -> dict[str, str]:
    """Safe and different file names, also where case does not count, without a suffix."""
    safe = {name: _safe(name) for name in latents}
    times = Counter(stem.lower() for stem in safe.values())
    return {
        name: stem if stem == name and times[stem.lower()] == 1 else f"{stem}-{_short(name)}"
        for name, stem in safe.items()
    }


def _safe(name: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", name)[:80].strip("._-")
    reserved = stem.upper() in {"CON", "NUL", "PRN", "AUX"}
    return "latent" if not stem or reserved else stem


def _short(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
