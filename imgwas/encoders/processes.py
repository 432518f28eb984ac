"""Training with several processes: one per device, each with a share of every batch.

Losses are sums over a batch divided by a weight; the weights are added up over all processes
before dividing, so that the gradient is that of the whole batch and not a mean of means.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from imgwas.encoders.base import Ratio
from imgwas.errors import MissingLibraryError, explain


@dataclass(frozen=True)
class World:
    """The processes that train together: this one's ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1

    def share(self, rows: Sequence[int]) -> Sequence[int]:
        """Return the part of a batch that this process computes."""
        return rows[self.rank :: self.size]

    def wrap(self, network: nn.Module, device: torch.device) -> Any:
        """Let gradients be averaged over processes, batch norm pooled where GPUs allow."""
        if self.size == 1:
            return network
        if device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=ids)

    def no_sync(self, forward: Any) -> Any:
        """Keep gradients to oneself until the last part of a batch."""
        return forward.no_sync() if self.size > 1 else contextlib.nullcontext()

    def pool_weight(self, term: Ratio) -> torch.Tensor:
        """Return what a term is divided by, so that averaged gradients are those of the batch."""
        weight = term.weight.detach().clone()
        if self.size > 1:
            distributed.all_reduce(weight)
            weight = weight / self.size
        return weight.clamp(min=1e-12)

    def pool_sums(self, sums: Mapping[str, list[float]]) -> dict[str, tuple[float, float]]:
        """Add sums and weights up over the processes."""
        if self.size == 1:
            return {name: (total, weight) for name, (total, weight) in sums.items()}
        values = torch.tensor([sums[name] for name in sorted(sums)], dtype=torch.float64)
        distributed.all_reduce(values)
        rows = values.tolist()
        return {name: (row[0], row[1]) for name, row in zip(sorted(sums), rows, strict=True)}


def run_together(function: Callable[..., None], n: int, device: str, *arguments: Any) -> None:
    """Call ``function(world, device, *arguments)`` in n processes that talk to one another.

    Raises
    ------
    MissingLibraryError
        If a process could not start or died; its own words are in the message.
    """
    threads = max(1, torch.get_num_threads() // n) if device == "cpu" else 1
    from torch import multiprocessing
    from torch.multiprocessing.spawn import ProcessException

    try:
        # they meet in a file: a port that is free now may be taken when they come
        with tempfile.TemporaryDirectory(prefix="imgwas-", ignore_cleanup_errors=True) as folder:
            meeting = str(Path(folder, "meeting"))
            multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
                _enter, (n, meeting, device, threads, function, arguments), nprocs=n, join=True
            )
    except ProcessException as error:
        last = [line for line in str(error).strip().splitlines() if line.strip()][-1]
        raise MissingLibraryError(
            explain(f"one of {n} training processes ended ({last[:300]})",
                    do="The state after the last epoch is kept; the same command resumes")
        ) from error  # fmt: skip


def _enter(
    rank: int, n: int, meeting: str, device: str, threads: int, function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:  # fmt: skip
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(threads)
    where = torch.device("cpu") if device == "cpu" else torch.device("cuda", rank)
    store = distributed.FileStore(meeting, n)  # type: ignore[attr-defined]
    backend = "gloo" if device == "cpu" else "nccl"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=n)
    try:
        function(World(rank, n), where, *arguments)
        distributed.barrier()  # nobody leaves while another still talks
    finally:
        distributed.destroy_process_group()
