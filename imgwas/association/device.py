"""The torch half of the kernel: packed genotypes go to a GPU, products come back.

Everything but the product is that of the CPU: counts, rarer allele, residuals, t, what is computed
again in double. So a scan on a device equals one on the CPU within the rounding of one product.

In single precision the product is made of half-precision ones, for which GPUs have their fastest
units. Genotypes are whole numbers, which half precision holds exactly. Each column of the
right-hand side is scaled by a power of two and split, ``y = high + low / 2^11``, which leaves 22
bits of it, and products are summed in single precision over at most 8,192 people at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from imgwas.association.blocks import Gaps, Workspace, decode_table
from imgwas.errors import DeviceError, explain
from imgwas.shapes import Float, UInt8

logger = logging.getLogger(__name__)

#: People whose products are summed by the device's own accumulators.
PEOPLE_AT_ONCE = 8192
#: ``low`` is the rest of ``high``, scaled up by this.
SPLIT = 2.0**11
#: One row in so many is computed again on the CPU, and how far apart they may be.
CHECKED, APART = 1000, 1e-4


@dataclass(frozen=True)
class RightHandSide:
    """The columns of a product, on the device.

    Parameters
    ----------
    high, low : tensors
        Parts of each column; in double precision ``high`` is all of it and ``low`` is None.
    scale : tensor
        What a column was multiplied by.
    length : (columns,) float64 array
        Length of each column.
    """

    high: torch.Tensor
    low: torch.Tensor | None
    scale: torch.Tensor
    length: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray, device: torch.device) -> RightHandSide:
        """Send a matrix to a device, split."""
        length = np.linalg.norm(matrix.astype(np.float64), axis=0)
        whole = torch.from_numpy(np.array(matrix)).to(device)
        if matrix.dtype == np.float64:
            return cls(whole, None, torch.ones(1, dtype=whole.dtype, device=device), length)
        largest = whole.abs().amax(dim=0).clamp(min=1e-30)
        scale = torch.exp2(10 - torch.ceil(torch.log2(largest)))
        whole = whole * scale
        high = whole.half()
        return cls(high, ((whole - high.float()) * SPLIT).half(), scale, length)


class DeviceWorkspace(Workspace):
    """Buffers of one thread on a device.

    Parameters
    ----------
    block_size : int
        Variants of a block.
    n_bytes : int
        Bytes of a packed variant.
    dtype : type
        Single or double precision.
    device : str
        Of torch. ``cpu`` does the same arithmetic without a GPU, for tests.
    """

    def __init__(
        self, block_size: int, n_bytes: int, dtype: type[np.floating], device: str
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.device = torch.device(device)
        self.block_size, self.n_bytes = block_size, n_bytes
        #: variants decoded at once
        self.batch = block_size
        self._host: np.ndarray | None = None
        self._coded: np.ndarray | None = None
        self._gaps: tuple[Gaps, np.ndarray] | None = None
        self._decoded: tuple[slice, torch.Tensor] | None = None
        self._right: dict[int, tuple[np.ndarray, RightHandSide]] = {}
        self._pinned: dict[str, torch.Tensor] = {}
        self._shared, self._stacked = {}, None
        self._turn = 0
        self._exact = torch.float64 if self.dtype == np.float64 else torch.float16
        copies = decode_table(np.dtype(np.float64))
        missing = decode_table(np.dtype(np.float64), missing=9.0) == 9.0
        self._copies, self._missing = self._table(copies), self._table(missing)
        self._stream: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def _table(self, numbers: np.ndarray) -> torch.Tensor:
        """Four numbers of each byte value; in half precision they are one word of eight bytes."""
        table = torch.from_numpy(numbers.astype(np.float64)).to(self._exact)
        if self._exact == torch.float16:
            table = table.view(torch.int64)
        return table.to(self.device)

    @property
    def dosage(self) -> np.ndarray:  # type: ignore[override]
        """Buffer of this machine, for dosages that are not two-bit codes; it is what is sent."""
        if self._host is None:
            self._host = np.zeros((self.block_size, self.n_bytes, 4), self.dtype)
        self._coded = self._gaps = self._decoded = None
        self._shared = {}
        return self._host

    def load(self, coded: UInt8[np.ndarray, "variants bytes"]) -> None:
        """Take two-bit codes; they are decoded on the device."""
        self._coded, self._gaps, self._decoded, self._shared = coded, None, None, {}

    def fill(self, gaps: Gaps, values: np.ndarray) -> None:
        """Take one value per variant for its missing calls."""
        if self._coded is None:
            super().fill(gaps, values)
        else:
            self._gaps, self._shared = (gaps, values), {}

    def _multiply_all(self, matrix: np.ndarray) -> Float[np.ndarray, "variants columns"]:
        """Return ``dosage @ matrix`` of the block."""
        held = self._right.get(id(matrix))
        if held is None:  # the matrix is kept, so that its id stays its own
            held = self._right[id(matrix)] = (matrix, RightHandSide.of(matrix, self.device))
        right = held[1]
        n = self.block_size if self._coded is None else len(self._coded)
        out = self._staged("product", (n, matrix.shape[1]), self.dtype)

        def multiply(rows: slice) -> None:
            torch.from_numpy(out[rows]).copy_(self._multiply(rows, right))

        self._in_batches(slice(0, n), multiply)
        self._check(out, matrix, right.length)
        return out

    def weighted(self, weights: np.ndarray, rows: slice) -> np.ndarray:
        """``weights @ dosage[rows]``, the missing calls filled."""
        found = np.zeros((len(weights), 4 * self.n_bytes), self.dtype)

        def multiply(some: slice) -> None:
            part = weights[:, some.start - rows.start : some.stop - rows.start]
            own = torch.from_numpy(np.array(part)).to(self.device)
            total = own @ self._dosage(some).to(own.dtype)
            where, values = self._filled(some)
            if len(where):
                fill = torch.from_numpy(values[where]).to(self.device, own.dtype)
                gone = self._decode(self._missing, some, where).to(own.dtype)
                total += (own[:, torch.from_numpy(where).to(self.device)] * fill) @ gone
            found[...] += total.cpu().numpy()

        self._in_batches(rows, multiply)
        return found

    def _in_batches(self, rows: slice, function: Callable[[slice], None]) -> None:
        """Do some rows, fewer at a time from here on where memory is short."""
        start = rows.start
        while start < rows.stop:
            some = slice(start, min(start + self.batch, rows.stop))
            try:
                with torch.cuda.stream(self._stream):
                    function(some)
                start = some.stop
            except torch.OutOfMemoryError as error:
                self._make_room(some, error)

    def _make_room(self, rows: slice, error: BaseException) -> None:
        self._decoded = None
        n = rows.stop - rows.start
        if n == 1:
            raise DeviceError(
                explain(
                    f"{self.device} has no memory left for a single variant",
                    do="Close what else runs on it, or use --device cpu",
                )
            ) from error
        self.batch = n // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning(
            "%s is short of memory: %d variants at a time from here on", self.device, self.batch
        )

    def _multiply(self, rows: slice, right: RightHandSide) -> torch.Tensor:
        total = _product(self._dosage(rows), right)
        where, values = self._filled(rows)
        if len(where):
            fill = torch.from_numpy(values[where]).to(self.device, total.dtype)
            gone = _product(self._decode(self._missing, rows, where), right)
            total.index_add_(0, torch.from_numpy(where).to(self.device), gone * fill[:, None])
        return total

    def _filled(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Which of some rows have missing calls to fill, and the values of all of them."""
        if self._gaps is None:
            return np.empty(0, np.int64), np.empty(0)
        gaps, values = self._gaps
        n_gaps = np.bincount(gaps.rows, minlength=len(values))[rows]
        return np.flatnonzero((n_gaps > 0) & (values[rows] != 0)), values[rows]

    def _dosage(self, rows: slice) -> torch.Tensor:
        """Dosages of some rows on the device, kept for the next group of people."""
        if self._coded is None:
            return torch.from_numpy(self._rows_of_host(rows)).to(self.device)
        if self._decoded is None or self._decoded[0] != rows:
            self._decoded = None  # let go of the last ones first
            self._decoded = (rows, self._decode(self._copies, rows))
        return self._decoded[1]

    def _rows_of_host(self, rows: slice | np.ndarray) -> np.ndarray:
        assert self._host is not None
        return np.asarray(self._host.reshape(self.block_size, -1)[rows])

    def _decode(
        self, table: torch.Tensor, rows: slice, some: np.ndarray | None = None
    ) -> torch.Tensor:
        """Look codes up on the device: a byte gives the numbers of four people."""
        assert self._coded is not None
        coded = self._coded[rows] if some is None else self._coded[rows][some]
        index = self._send(coded).to(torch.int32).reshape(-1)
        return torch.index_select(table, 0, index).view(self._exact).reshape(len(coded), -1)

    def _send(self, coded: np.ndarray) -> torch.Tensor:
        """Copy codes through page-locked memory, from which the device reads at full speed."""
        staged = self._staged("packed", coded.shape, np.dtype(np.uint8))
        staged[...] = coded
        # waits for this thread's stream alone; those of other threads go on
        return torch.from_numpy(staged).to(self.device, copy=True)

    def _staged(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Page-locked memory of this machine, used again for every batch."""
        n = int(np.prod(shape)) * dtype.itemsize
        held = self._pinned.get(name)
        if held is None or held.numel() < n:
            held = torch.empty(n, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
            self._pinned[name] = held
        return np.asarray(held.numpy()[:n].view(dtype).reshape(shape))

    def _check(self, out: np.ndarray, matrix: np.ndarray, length: np.ndarray) -> None:
        """Compute one row in a thousand again on the CPU, in double precision."""
        rows = np.arange(-self._turn % CHECKED, len(out), CHECKED)
        self._turn += len(out)
        if not len(rows):
            return
        dosage = self._rows_in_double(rows)
        exact = dosage @ matrix.astype(np.float64)
        # a t statistic of one is a product of about this size
        one = np.linalg.norm(dosage, axis=1)[:, None] * length / np.sqrt(dosage.shape[1])
        with np.errstate(invalid="ignore"):
            off = np.abs(out[rows] - exact) / np.maximum(np.maximum(one, np.abs(exact)), 1e-30)
        if not (off <= APART).all():
            raise DeviceError(
                explain(
                    f"{self.device} multiplied wrongly: {int((~(off <= APART)).sum()):,} of "
                    f"{off.size:,} products are not those of the CPU",
                    expected=f"At most {APART:g} apart; one variant in {CHECKED:,} is computed "
                    "by both",
                    do="The card or its driver may be faulty. Scan with --device cpu into another "
                    "folder",
                )
            )

    def _rows_in_double(self, rows: np.ndarray) -> np.ndarray:
        if self._coded is None:
            return self._rows_of_host(rows).astype(np.float64)
        table = decode_table(np.dtype(np.float64), missing=np.nan)
        dosage = table[self._coded[rows]].reshape(len(rows), -1)
        values = np.zeros(len(self._coded)) if self._gaps is None else self._gaps[1]
        return np.where(np.isnan(dosage), values[rows, None], dosage)


def _product(dosage: torch.Tensor, right: RightHandSide) -> torch.Tensor:
    """``dosage @ matrix`` from the parts of the matrix, summed over slices of people."""
    n_people, n_columns = right.high.shape
    if right.low is None:
        return dosage @ right.high
    if dosage.dtype != torch.float16:  # dosages that half precision does not hold
        return dosage @ ((right.high.float() + right.low.float() / SPLIT) / right.scale)
    total = torch.zeros(1, device=dosage.device)
    for start in range(0, n_people, PEOPLE_AT_ONCE):
        people = slice(start, start + PEOPLE_AT_ONCE)
        both = torch.cat([right.high[people], right.low[people]], dim=1)
        total = total + _half_product(dosage[:, people], both)
    return torch.add(total[:, :n_columns], total[:, n_columns:], alpha=1 / SPLIT) / right.scale


def _half_product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Product of half-precision matrices: exact products, summed in single precision."""
    if one.device.type == "cuda":
        try:
            return torch.mm(one, other, out_dtype=torch.float32)
        except (TypeError, NotImplementedError):
            pass  # torch before 2.8
    return one.float() @ other.float()
