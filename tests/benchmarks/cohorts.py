"""Cohorts of any size for benchmarks: random calls, traits and covariates, written once."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

#: After so many variants their calls begin anew.
REPEATED = 400_000


@dataclass(frozen=True)
class Cohort:
    """Files of a cohort and its size."""

    prefix: Path
    n: int
    m: int
    k: int
    c: int

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.prefix.parent

    def imgwas(self, out: str, *options: str, threads: int = 2) -> list[str]:
        """Command line of the scan."""
        return [
            *("imgwas", "associate", "--bfile", self.prefix.name, "--latents", "latents.parquet"),
            *("--covar", "covar.tsv", "--out", out, "--threads", str(threads), "--overwrite"),
            *options,
        ]

    def plink2(self, out: str, *options: str, threads: int = 2) -> list[str]:
        """Command line of the same analysis in PLINK 2."""
        names = [f"L{i:03d}" for i in range(self.k)]
        return [
            *("plink2", "--bfile", self.prefix.name, "--pheno", "pheno.tsv"),
            *("--pheno-name", *names, "--covar", "covar.tsv", "--threads", str(threads)),
            *("--glm", "omit-ref", "hide-covar", "--out", out, *options),
        ]


def place() -> Path:
    """Where benchmark cohorts are kept between runs."""
    folder = Path(
        os.environ.get("IMGWAS_BENCHMARK_DIR", Path(tempfile.gettempdir()) / "imgwas-benchmarks")
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cohort(
    n: int = 5000, m: int = 100_000, k: int = 128, c: int = 20, missing: float = 0
) -> Cohort:
    """Return the cohort of a size, writing it if it is not there yet."""
    folder = place() / f"n{n}-m{m}-k{k}-c{c}-missing{missing:g}"
    made = Cohort(folder / "cohort", n, m, k, c)
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        write(made, missing=missing)
        (folder / "done").touch()
    return made


def write(made: Cohort, *, missing: float = 0, seed: int = 1) -> None:
    """Write the files of a cohort into its folder."""
    alike = made.folder.parent.glob(f"n{made.n}-m{made.m}-k*-c*-missing{missing:g}/done")
    folder = next((done.parent for done in alike), None)
    if folder is None:
        _write_bed(made, missing, np.random.default_rng(seed))
    else:  # the same calls with other latents: one copy on the disk
        for ending in (".bed", ".bim", ".fam"):
            made.prefix.with_suffix(ending).unlink(missing_ok=True)
            os.link(folder / f"cohort{ending}", made.prefix.with_suffix(ending))
    _write_tables(made, np.random.default_rng([seed, made.k]))


def _write_bed(made: Cohort, missing: float, rng: np.random.Generator) -> None:
    n, m = made.n, made.m
    frequency = rng.beta(1, 2, m) * 0.5 + 0.01
    codes = np.array([3, 2, 0], np.uint8)
    blocks: dict[int, bytes] = {}
    with made.prefix.with_suffix(".bed").open("wb") as stream:
        stream.write(bytes([0x6C, 0x1B, 1]))
        for start in range(0, m, 2000):
            if written := blocks.get(start % REPEATED):  # a million need not all be different
                stream.write(written[: (m - start) * -(-n // 4)])
                continue
            f = frequency[start : start + 2000, None]
            copies = (rng.random((len(f), n)) < f).astype(np.uint8) + (rng.random((len(f), n)) < f)
            block = codes[copies]
            if missing:
                block[rng.random(block.shape) < missing] = 1
            quads = np.zeros((len(f), -(-n // 4), 4), np.uint8)
            quads.reshape(len(f), -1)[:, :n] = block
            packed = quads[..., 0] | quads[..., 1] << 2 | quads[..., 2] << 4 | quads[..., 3] << 6
            stream.write(written := packed.astype(np.uint8).tobytes())
            if m > REPEATED:
                blocks[start] = written
    with made.prefix.with_suffix(".bim").open("w") as stream:
        stream.writelines(
            f"{1 + j * 22 // m}\trs{j}\t0\t{1000 + j * 100}\tA\tG\n" for j in range(m)
        )
    with made.prefix.with_suffix(".fam").open("w") as stream:
        stream.writelines(f"{i}\tid{i:06d}\t0\t0\t{1 + i % 2}\t-9\n" for i in range(n))


def _write_tables(made: Cohort, rng: np.random.Generator) -> None:
    ids = [f"id{i:06d}" for i in range(made.n)]
    latents = pd.DataFrame(
        rng.standard_normal((made.n, made.k)), columns=[f"L{i:03d}" for i in range(made.k)]
    )
    latents.insert(0, "IID", ids)
    latents.to_parquet(made.folder / "latents.parquet")
    covariates = pd.DataFrame(
        rng.standard_normal((made.n, made.c)), columns=[f"c{i}" for i in range(made.c)]
    )
    covariates.insert(0, "IID", ids)
    for name, frame in (("pheno", latents), ("covar", covariates)):
        text = frame.copy()
        text.insert(0, "#FID", range(made.n))
        text.to_csv(made.folder / f"{name}.tsv", sep="\t", index=False)
