"""Batches for training and encoding, read ahead by threads.

Reading a batch and computing on the one before happen at the same time, and at most two batches
wait, so memory does not depend on the number of people. Threads are enough: unpacking, copying
and scaling run outside the interpreter's lock, and nothing has to be sent between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from imgwas.encoders.augment import augment
from imgwas.errors import ImgwasError, ReadError, explain
from imgwas.types import Images

if TYPE_CHECKING:
    import torch

#: Batches read before they are asked for.
AHEAD = 2


def batches(
    images: Images,
    rows: Sequence[Sequence[int]],
    *,
    threads: int = 2,
    how: str = "none",
    seed: tuple[int, ...] = (0,),
    pin: bool = False,
) -> Iterator[tuple[Sequence[int], torch.Tensor]]:
    """Read batches of images, in order.

    Parameters
    ----------
    images : Images
        Read one at a time, by threads.
    rows : sequence of sequence of int
        Rows of each batch.
    threads : int
        Images read at a time.
    how : str
        Augmentation; the random numbers of an image follow from ``seed`` and its row alone.
    seed : tuple of int
        Seed and epoch.
    pin : bool
        Put batches into memory from which a GPU can copy while it computes.

    Yields
    ------
    (rows, (batch, x, y, z) float32 tensor)

    Raises
    ------
    ImgwasError
        Of the image that could not be read.
    """
    import torch

    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Sequence[int], torch.Tensor, list[Future]]] = deque()
    queue = iter(rows)

    def start() -> None:
        chosen = next(queue, None)
        if chosen is None:
            return
        held = torch.empty((len(chosen), *images.grid), dtype=torch.float32, pin_memory=pin)
        into = held.numpy()
        reading = [
            pool.submit(_read_into, into, k, images, row, how, seed) for k, row in enumerate(chosen)
        ]
        waiting.append((chosen, held, reading))

    try:
        for _ in range(AHEAD):
            start()
        while waiting:
            chosen, held, reading = waiting.popleft()
            start()
            for future in reading:
                future.result()
            yield chosen, held
    finally:
        # never wait here: see imgwas.cluster.compute_each
        pool.shutdown(wait=False, cancel_futures=True)


def _read_into(
    into: np.ndarray, k: int, images: Images, row: int, how: str, seed: tuple[int, ...]
) -> None:
    try:
        values = images.read(row)
    except ImgwasError:
        raise
    except OSError as error:
        raise ReadError(explain(f"image {row + 1} cannot be read ({error})")) from error
    if how != "none":
        values = augment(values, how, np.random.default_rng([*seed, row]))
    into[k] = values


def chunks(rows: Sequence[int], size: int) -> list[list[int]]:
    """Divide rows into batches; the last may be smaller."""
    return [list(rows[i : i + size]) for i in range(0, len(rows), size)]
