"""Arrow arrays from numpy and from strings, without waking pandas.

``pyarrow.array`` imports pandas on its first call (0.6 s) to see whether it was given a Series; on
the way from genotypes to statistics nothing needs pandas.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def from_numpy(values: np.ndarray) -> pa.Array:
    """Wrap a one-dimensional numeric array; no copy if it is contiguous."""
    values = np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def with_nulls(values: np.ndarray) -> pa.Array:
    """Wrap a floating-point array; NaN becomes null."""
    missing = np.isnan(values)
    if missing.all():
        return pa.nulls(len(values), pa.from_numpy_dtype(values.dtype))
    if not missing.any():
        return from_numpy(values)
    return pc.if_else(from_numpy(missing.view(np.uint8)).cast(pa.bool_()), None, from_numpy(values))


def from_strings(values: Sequence[str]) -> pa.Array:
    """Make a string array of Python strings."""
    encoded = [value.encode("utf-8", "surrogateescape") for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def to_numpy(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """View a numeric or boolean array without nulls as numpy."""
    if isinstance(values, pa.ChunkedArray):
        chunks = [to_numpy(chunk) for chunk in values.chunks]
        if len(chunks) == 1:
            return chunks[0]
        return np.concatenate([np.empty(0, _kind(values.type)), *chunks])
    if values.null_count:
        raise ValueError("an array with nulls has no numpy view; fill them first")
    if pa.types.is_boolean(values.type):
        return to_numpy(values.cast(pa.uint8())).view(np.bool_)
    if not len(values):
        return np.empty(0, _kind(values.type))
    data = np.frombuffer(values.buffers()[1], _kind(values.type))
    return data[values.offset : values.offset + len(values)]


def _kind(arrow_type: pa.DataType) -> np.dtype:
    names = {"double": "float64", "float": "float32", "halffloat": "float16"}
    return np.dtype(names.get(str(arrow_type), str(arrow_type)))


def string_scalar(value: str) -> pa.Scalar:
    """Make a string scalar."""
    return from_strings([value])[0]
