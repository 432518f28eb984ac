"""The least this machine could do: read the inputs, multiply, write the answers. Run as a script.

``python bound.py FOLDER PREFIX N M COLUMNS TRAITS THREADS``: the same single-precision product in
blocks on the same number of threads, with nothing decoded, counted, checked or turned into t.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

BLOCK = 256


def main(folder: str, prefix: str, *sizes: str) -> None:
    """Read, multiply, write."""
    n, m, columns, traits, threads = map(int, sizes)
    inputs = [f"{prefix}.bed", f"{prefix}.bim", f"{prefix}.fam", "latents.parquet", "covar.tsv"]
    buffer = bytearray(1 << 20)
    for name in inputs:
        with Path(folder, name).open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    right = np.ones((n, columns), np.float32, order="F")  # the faster way round

    def multiply(blocks: int) -> None:
        left = np.ones((BLOCK, n), np.float32)
        out = np.empty((BLOCK, columns), np.float32)
        for _ in range(blocks):
            np.matmul(left, right, out=out)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(multiply, [m // BLOCK // threads + 1] * threads))
    answers = np.ones(m * traits // 8, np.float32)
    with Path(folder, "bound.out").open("wb") as stream:
        for _ in range(8):
            stream.write(memoryview(answers).cast("B"))
        stream.flush()
        os.fsync(stream.fileno())
    Path(folder, "bound.out").unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
