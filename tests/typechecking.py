"""How annotations are checked under pytest: beartype, with any integer welcome where a float is.

A NumPy integer counts as an ``int``: loops over indices make them everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

_CHECK = beartype(
    conf=BeartypeConf(
        hint_overrides=FrozenDict(
            {int: int | np.integer, float: float | int | np.integer | np.floating}
        )
    )
)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check every call of a function against its annotations."""
    return _CHECK(function)
