"""A tiny cohort on disk for the command line, and the command line in this process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from imgwas_cli.main import run

from tests.oracles import codes_of

N, M = 41, 30


@dataclass(frozen=True)
class Result:
    """How a command ended and what it said."""

    code: int
    text: str


def replaced(words: Sequence[str], *more: object) -> list[str]:
    """A command with more options; those that it has already, each with a value, lose theirs."""
    kept = list(words)
    for name in {str(word) for word in more if str(word).startswith("--")} & set(kept):
        at = kept.index(name)
        del kept[at : at + 2]
    return [*kept, *map(str, more)]


def imgwas(*words: object, folder: Path) -> Result:
    """Run the command line in this process, in a folder."""
    said = io.StringIO()
    logger = logging.getLogger("imgwas")
    handlers, logger.handlers = logger.handlers, []
    level, propagate = logger.level, logger.propagate
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = run([str(word) for word in words])
    finally:
        os.chdir(before)
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    return Result(code, said.getvalue())


def write_cohort(folder: Path) -> None:
    """Files ``cohort.bed/.bim/.fam``, ``latents.tsv``, ``covar.tsv`` of 41 people."""
    rng = np.random.default_rng(4)
    dosage = rng.binomial(2, rng.uniform(0.2, 0.8, (M, 1)), (M, N)).astype(float)
    dosage[rng.random(dosage.shape) < 0.02] = np.nan
    write_bed(folder, dosage)
    ids = people()
    bim = [f"{1 + i // 10}\trs{i}\t0\t{1000 + 10 * i}\tA\tG\n" for i in range(M)]
    (folder / "cohort.bim").write_text("".join(bim))
    fam = [f"F{i}\t{iid}\t0\t0\t{1 + i % 2}\t-9\n" for i, iid in enumerate(ids)]
    (folder / "cohort.fam").write_text("".join(fam))
    latents = pd.DataFrame(rng.standard_normal((N, 3)), columns=["z0", "z1", "z2"])
    latents.insert(0, "IID", ids)
    latents.to_csv(folder / "latents.tsv", sep="\t", index=False, float_format="%.6f")
    covariates = pd.DataFrame(
        {"IID": ids, "age": rng.normal(60, 5, N).round(2), "sex": 1 + np.arange(N) % 2}
    )
    covariates["centre"] = rng.choice(["leeds", "york", "hull"], N)
    covariates.to_csv(folder / "covar.tsv", sep="\t", index=False)


def people() -> list[str]:
    """Ids that are long enough to be recognised in a message."""
    return [f"person{1000 + 7 * i}" for i in range(N)]


def write_bed(folder: Path, dosage: np.ndarray) -> None:
    """Write genotypes as ``cohort.bed``; padding people have bits 00."""
    (folder / "cohort.bed").write_bytes(b"\x6c\x1b\x01" + codes_of(dosage).tobytes())


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    """Replace text that must be there."""
    text = path.read_text()
    if old not in text:
        raise ValueError(f"{old!r} is not in {path}")
    path.write_text(text.replace(old, new, count))


def edit_line(path: Path, number: int, line: str) -> None:
    """Replace a line, counted from one."""
    lines = path.read_text().split("\n")
    lines[number - 1] = line
    path.write_text("\n".join(lines))


def set_column(path: Path, name: str, values: object) -> None:
    """Write a column of a tab-separated table, made if it is not there."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table[name] = values
    table.to_csv(path, sep="\t", index=False)
