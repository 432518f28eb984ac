"""One voice for every refusal: small checks that raise the right error with the right words."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from imgwas.errors import DegenerateError, UsageError, explain


def check_option(name: str, value: str, allowed: Collection[str]) -> str:
    """Return ``value`` if it is one of ``allowed``; otherwise refuse and list what is."""
    if value in allowed:
        return value
    raise UsageError(
        explain(
            f"{name} is {value!r}",
            expected=f"It must be one of {', '.join(sorted(allowed))}",
            do=did_you_mean(value, allowed),
        )
    )


def check_range(
    name: str, value: float, *, low: float = -np.inf, high: float = np.inf, unit: str = ""
) -> float:
    """Return ``value`` if ``low <= value <= high``; NaN is outside every range."""
    if low <= value <= high:
        return value
    span = f"from {low:g} to {high:g}" if np.isfinite(high) else f"at least {low:g}"
    raise UsageError(explain(f"{name} is {value:g}", expected=f"It must be {span} {unit}".rstrip()))


def check_finite(name: str, values: np.ndarray) -> None:
    """Refuse infinite entries (NaN stays: it means missing)."""
    n_infinite = int(np.isinf(values).sum())
    if n_infinite:
        raise DegenerateError(
            explain(
                f"{name} holds {n_infinite:,} infinite values",
                expected="Values must be finite, or missing (NA)",
                do="Find and correct them before the scan",
            )
        )


def check_unique(name: str, values: Sequence[str], *, error: type[Exception] = UsageError) -> None:
    """Refuse repeated names."""
    repeated = duplicates(values)
    if repeated:
        raise error(
            explain(
                f"{name} holds {len(repeated):,} repeated names (first: {', '.join(repeated[:3])})",
                expected="Each name may occur once",
            )
        )


def duplicates(values: Iterable[str]) -> list[str]:
    """Names that occur more than once, in order of their second appearance."""
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for value in values:
        if value in seen:
            repeated[value] = None
        seen.add(value)
    return list(repeated)


def did_you_mean(name: str, known: Collection[str], limit: int = 3) -> str:
    """Suggest the nearest known names, or return an empty string."""
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=limit, cutoff=0.5)
    return f"Did you mean {' or '.join(lower[n] for n in near)}?" if near else ""
