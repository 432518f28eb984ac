"""Array annotations with shapes, ``Float64[np.ndarray, "variants samples"]``, free at run time.

They are jaxtyping's for type checkers and under pytest, where every call is checked against them.
Elsewhere no annotation is ever evaluated, so the names are stand-ins and jaxtyping, a library of
the test environment, is neither needed nor imported.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

__all__ = [
    "Bool", "Float", "Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "Integer",
    "UInt8", "UInt16"]  # fmt: skip

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import (
        Bool,
        Float,
        Float32,
        Float64,
        Int8,
        Int16,
        Int32,
        Int64,
        Integer,
        UInt8,
        UInt16,
    )
else:

    class _Shape:
        """Stands in for an annotation that nobody reads."""

        def __class_getitem__(cls, _: object) -> type[_Shape]:
            return cls

    Bool = Float = Float32 = Float64 = Int8 = Int16 = Int32 = Int64 = Integer = UInt8 = UInt16 = (
        _Shape
    )
