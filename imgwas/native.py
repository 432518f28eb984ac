"""The compiled library: found, opened and tried, or done without.

It is built from ``native.c`` when imgwas is installed where there is a C compiler, and used on
processors with AVX-512 VNNI. Everything it does NumPy does too, more slowly.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
from functools import lru_cache
from pathlib import Path

import numpy as np

#: Of the functions; a library of another version is not used.
VERSION = 2


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The library, or None where it is not installed or cannot run."""
    path = _path()
    return _opened(path) if path else None


def needed() -> ctypes.CDLL:
    """The library, for those who have looked that there is one."""
    found = library()
    assert found is not None, "there is a library"
    return found


def is_installed() -> bool:
    """Whether it was built, be it of use on this processor or not."""
    return _path() is not None


def is_current() -> bool:
    """Whether the installed one opens and is of this version, be it of use here or not."""
    path = _path()
    try:
        return path is not None and ctypes.CDLL(str(path)).imgwas_native_version() == VERSION
    except (OSError, AttributeError):
        return False


def _path() -> Path | None:
    names = [f"_native{ending}" for ending in importlib.machinery.EXTENSION_SUFFIXES]
    found = [path for name in names if (path := Path(__file__).with_name(name)).exists()]
    return found[0] if found else None


def _opened(path: Path) -> ctypes.CDLL | None:
    try:
        opened = ctypes.CDLL(str(path))
        opened.imgwas_native_version.restype = ctypes.c_int64
        if opened.imgwas_native_version() != VERSION or not opened.imgwas_native_supported():
            return None
        opened.imgwas_native_product.argtypes = [ctypes.c_void_p]
        opened.imgwas_native_product.restype = None
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        opened.imgwas_native_count.argtypes = [pointer, number, number, *[pointer] * 4]
        opened.imgwas_native_count.restype = None
        opened.imgwas_native_weighted.argtypes = [
            pointer, number, number, pointer, pointer, number, pointer,
        ]  # fmt: skip
        opened.imgwas_native_weighted.restype = None
        single = ctypes.c_float
        opened.imgwas_native_t.argtypes = [
            pointer, number, number, number, pointer, single, single, pointer, pointer,
        ]  # fmt: skip
        opened.imgwas_native_t.restype = None
    except (OSError, AttributeError):
        return None
    return opened


def count(packed: np.ndarray, slots: np.ndarray, bits: np.ndarray) -> None:
    """Count low, high and both bits of two-bit codes into the three rows of ``bits``.

    There must be a library.

    Parameters
    ----------
    packed : (variants, bytes) uint8 array
        Contiguous.
    slots : (words,) uint64 array
        The low bit of everyone who counts, padded with zeros to whole words.
    bits : (3, variants) int64 array
        Contiguous.
    """
    needed().imgwas_native_count(
        packed.ctypes.data, *packed.shape, slots.ctypes.data, *(row.ctypes.data for row in bits)
    )


def weighted(packed: np.ndarray, weights: np.ndarray, filled: np.ndarray | None) -> np.ndarray:
    """Sum the copies of every person over variants, with weights.

    There must be a library.

    Parameters
    ----------
    packed : (variants, bytes) uint8 array
        Contiguous two-bit codes.
    weights : (weights, variants) float32 array
        Of every variant.
    filled : (variants,) float64 array or None
        What a missing call counts: nothing without it.

    Returns
    -------
    sums : (weights, people) float32 array
        Four people to a byte.
    """
    n_variants, n_bytes = packed.shape
    padded = np.zeros((-(-len(weights) // 4) * 4, n_variants), np.float32)
    padded[: len(weights)] = weights
    sums = np.empty((len(padded), 4 * n_bytes), np.float32)
    needed().imgwas_native_weighted(
        packed.ctypes.data, n_variants, n_bytes, None if filled is None else filled.ctypes.data,
        padded.ctypes.data, len(padded), sums.ctypes.data,
    )  # fmt: skip
    return sums[: len(weights)]


def t_statistics(
    product: np.ndarray, n_traits: int, weight: np.ndarray, dof: int
) -> tuple[np.ndarray, np.ndarray]:
    """Turn products into t as NumPy does, to the last bit, and find the largest of each variant.

    There must be a library.

    Parameters
    ----------
    product : (variants, columns) float32 array
        Its first columns are those of the traits; rows may be further apart than they are long.
    n_traits : int
        How many they are.
    weight : (variants,) float32 array
        ``r = product * weight``.
    dof : int
        Degrees of freedom.

    Returns
    -------
    t : (variants, traits) float32 array
    largest : (variants,) float32 array
        Largest |t| of each variant, 0 where all are NaN.
    """
    if product.strides[1] != product.itemsize:
        product = np.ascontiguousarray(product)
    weight = np.ascontiguousarray(weight)
    t = np.empty((len(product), n_traits), np.float32)
    largest = np.empty(len(product), np.float32)
    needed().imgwas_native_t(
        product.ctypes.data, len(product), product.strides[0] // 4, n_traits, weight.ctypes.data,
        float(1 - np.finfo(np.float32).eps), float(np.float32(np.sqrt(max(dof, 0)))),
        t.ctypes.data, largest.ctypes.data,
    )  # fmt: skip
    return t, largest
