"""The compiled product of hard calls: whole numbers, exact, and cheaper than floating point.

Every column of the product's right side becomes whole numbers times a scale,

    ``y[i, c] = scale[c] * q[i, c]``,   ``|q| < 2^23``,

and every ``q + 2^23`` three digits of eight bits. Genotypes are 0, 1 or 2, so three products of
bytes (VNNI, a quarter of the time of single precision each) give ``sum(g q)`` exactly; only ``q``
was rounded. What a person's number loses goes to the next person's, so that rounding adds up to
nothing: people with the same value, as of a binary trait, would all lose the same, and t would be
wrong by as much times the root of their number. A column with outliers, whose largest entry is
more than ``OUTLYING`` times its root mean square, gets a fourth digit. The standard deviation of
the error of a product is that of ``OUTLYING * 0.41 / 2^23`` of a trait at most, 8e-7, whatever the
number of people.

Variants that few people carry cost what their carriers do: their rows are added up. Both ways
give the same whole numbers, so the last bit does not depend on the way.

Processors without AVX-512 VNNI, other systems than Linux and macOS, and installations without a C
compiler take the product of :class:`imgwas.association.blocks.Workspace`.

References
----------
Three-slice integer products: Ootomo, Ozaki & Yokota (2024), "DGEMM on integer matrix
multiplication unit", Int. J. High Perform. Comput. Appl.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass

import numpy as np

from imgwas import native
from imgwas.association.blocks import Gaps, Workspace
from imgwas.shapes import Float, Float64, Int32, UInt8

#: Largest whole number of three digits, less one that the person before may leave.
LARGEST = 2**23 - 2
#: People of two copies whose largest digits still add up to 32 bits.
MOST_PEOPLE = (2**31 - 1) // (2 * 255)
#: People that are cut into digits at once.
CUT_AT_ONCE = 1 << 14
#: A column whose largest entry is more root mean squares than this gets a fourth digit.
OUTLYING = 16.0
#: As in imgwas/native.c.
TILE, LANES, QUADS, VARIANTS = 4, 16, 1024, 384
#: Adding up the numbers of a carrier takes so many times what a person costs in the product,
#: and twice that where the numbers are too many to stay in the cache.
CARRIER_COST = 14.0
CACHED_BYTES = 16 << 20


class _Product(ctypes.Structure):
    """Arguments of one call, in the order of native.c."""

    _fields_ = (
        ("coded", ctypes.c_void_p),
        ("n_variants", ctypes.c_int64),
        ("n_bytes", ctypes.c_int64),
        ("panel", ctypes.c_void_p),
        ("n_vectors", ctypes.c_int64),
        ("n_columns", ctypes.c_int64),
        ("numbers", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("fine", ctypes.c_void_p),
        ("n_fine", ctypes.c_int64),
        ("filled", ctypes.c_void_p),
        ("sparse_below", ctypes.c_int64),
        ("out", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("decoded", ctypes.c_void_p),
        ("dense", ctypes.c_void_p),
        ("gathered", ctypes.c_void_p),
        ("people", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Panel:
    """The right side of a product as whole numbers and their digits.

    Parameters
    ----------
    digits : uint8 array
        For each tile of four vectors of 16 columns of digits: (quads of people, vectors, 16, 4).
    n_vectors : int
        Of 16 columns of digits.
    numbers : (people, columns) int32 array
        What the digits spell, in parts of 256.
    scale : (columns,) float64 array
        What such a part stands for.
    fine : (columns,) int32 array
        Columns with a fourth digit.
    """

    digits: UInt8[np.ndarray, " digits"]
    n_vectors: int
    numbers: Int32[np.ndarray, "people columns"]
    scale: Float64[np.ndarray, " columns"]
    fine: Int32[np.ndarray, " fine"]

    @classmethod
    def of(cls, matrix: Float[np.ndarray, "people columns"]) -> Panel:
        """Cut a matrix into digits; four people to a quad, so their number is divisible by 4."""
        ends = matrix.max(axis=0, initial=0), -matrix.min(axis=0, initial=0)
        largest = np.maximum(*ends).astype(np.float64)
        mean_square = np.einsum("pc,pc->c", matrix, matrix, dtype=np.float64) / max(len(matrix), 1)
        fine = largest > OUTLYING * np.sqrt(mean_square)
        scale = np.where(largest > 0, largest, 1.0) / LARGEST / 256
        numbers = np.empty(matrix.shape, np.int32)
        for column in range(matrix.shape[1]):  # one at a time: no copies of the whole in double
            step = 1 if fine[column] else 256
            exact = matrix[:, column].astype(np.float64) / (scale[column] * step)
            numbers[:, column] = _rounded(exact) * step
        fine_columns = np.flatnonzero(fine).astype(np.int32)
        digits, n_vectors = _digits(numbers, fine_columns)
        return cls(digits, n_vectors, numbers, scale, fine_columns)


def _rounded(exact: Float64[np.ndarray, " people"]) -> Int32[np.ndarray, " people"]:
    """Whole numbers whose sums over the first people are within a half; zeros stay zeros."""
    return np.diff(np.rint(np.cumsum(exact)), prepend=0.0).astype(np.int32)


def _digits(numbers: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, int]:
    """Bytes of the numbers, the highest first, offset by 2^31 and tile by tile."""
    n_people, n_columns = numbers.shape
    n_vectors = -(-(3 * n_columns + len(fine)) // LANES)
    digits = np.empty(n_people * n_vectors * LANES, np.uint8)
    for start in range(0, n_people, CUT_AT_ONCE):  # so that what lies beside it stays small
        offset = numbers[start : start + CUT_AT_ONCE].view(np.uint32) ^ np.uint32(1 << 31)
        bytes_ = np.zeros((len(offset), n_vectors * LANES), np.uint8)
        for digit in range(3):
            columns = slice(digit * n_columns, (digit + 1) * n_columns)
            bytes_[:, columns] = offset >> np.uint32(24 - 8 * digit) & np.uint32(255)
        bytes_[:, 3 * n_columns : 3 * n_columns + len(fine)] = offset[:, fine] & np.uint32(255)
        quads = bytes_.reshape(-1, 4, n_vectors, LANES)
        for first in range(0, n_vectors, TILE):
            tile = quads[:, :, first : first + TILE].transpose(0, 2, 3, 1)
            at = LANES * (first * n_people + start * tile.shape[1])
            digits[at : at + tile.size] = tile.ravel()
    return digits, n_vectors


class Panels:
    """Panels of matrices, made once for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[int, tuple[np.ndarray, Panel]] = {}

    def of(self, matrix: np.ndarray) -> Panel:
        """The panel of a matrix, which is held so that its identity stays its own."""
        with self._lock:
            held = self._made.get(id(matrix))
            if held is None:
                held = self._made[id(matrix)] = (matrix, Panel.of(matrix))
            return held[1]


class IntegerWorkspace(Workspace):
    """Buffers of one thread for the compiled product; floating point only where it is asked for.

    There must be a :func:`imgwas.native.library`.
    """

    def __init__(self, block_size: int, n_bytes: int, panels: Panels) -> None:
        self.dtype, self.block_size = np.dtype(np.float32), block_size
        self._products: dict[int, np.ndarray] = {}  # and no buffer of decoded people
        self._multiply, self._panels = native.needed().imgwas_native_product, panels
        self._coded = np.empty((0, n_bytes), np.uint8)
        self._filled: np.ndarray | None = None
        self._decoded = np.empty(VARIANTS * 4 * min(n_bytes, QUADS), np.uint8)
        self._dense = np.empty(VARIANTS, np.int64)
        self._people = np.empty(8 * n_bytes, np.int32)
        self._scratch: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def load(self, coded: UInt8[np.ndarray, "variants bytes"]) -> None:
        """Take two-bit codes as they are."""
        fits = len(coded) <= self.block_size and coded.shape[1] == self._coded.shape[1]
        assert fits, "the buffers have room"
        self._coded = np.ascontiguousarray(coded)
        self._filled = None

    def fill(self, gaps: Gaps, values: np.ndarray) -> None:  # noqa: ARG002 - read off the codes
        """Count one value per variant for its missing calls."""
        assert len(values) == len(self._coded), "a value of each variant"
        self._filled = np.ascontiguousarray(values, np.float64)

    def share(self, matrices: list[np.ndarray]) -> None:
        """Do nothing: products of single matrices are as cheap."""

    def product(self, matrix: np.ndarray) -> np.ndarray:
        """Return ``dosage @ matrix`` for the variants of the block."""
        panel = self._panels.of(matrix)
        n_people, n_columns = matrix.shape
        assert n_people == 4 * self._coded.shape[1], "a row for each person"
        sums, gathered = self._scratch_of(panel.n_vectors, n_columns)
        out = self._products.get(n_columns)
        if out is None:
            out = self._products[n_columns] = np.empty((self.block_size, n_columns), np.float32)
        cost = CARRIER_COST * (1 if panel.numbers.nbytes < CACHED_BYTES else 2)
        arguments = _Product(
            coded=self._coded.ctypes.data,
            n_variants=len(self._coded),
            n_bytes=self._coded.shape[1],
            panel=panel.digits.ctypes.data,
            n_vectors=panel.n_vectors,
            n_columns=n_columns,
            numbers=panel.numbers.ctypes.data,
            scale=panel.scale.ctypes.data,
            fine=panel.fine.ctypes.data,
            n_fine=len(panel.fine),
            filled=None if self._filled is None else self._filled.ctypes.data,
            sparse_below=int(n_people / cost),
            out=out.ctypes.data,
            sums=sums.ctypes.data,
            decoded=self._decoded.ctypes.data,
            dense=self._dense.ctypes.data,
            gathered=gathered.ctypes.data,
            people=self._people.ctypes.data,
        )
        self._multiply(ctypes.byref(arguments))
        return out

    def weighted(self, weights: np.ndarray, rows: slice) -> np.ndarray:
        """``weights @ dosage[rows]``, from the codes."""
        filled = None if self._filled is None else self._filled[rows]
        return native.weighted(self._coded[rows], weights, filled)

    def _scratch_of(self, n_vectors: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
        held = self._scratch.get((n_vectors, n_columns))
        if held is None:
            held = np.empty((VARIANTS, LANES * n_vectors), np.int32), np.empty((2, n_columns))
            self._scratch[n_vectors, n_columns] = held
        return held
