"""Small PLINK filesets for tests of the genotype room."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.oracles import codes_of


def write_fileset(
    folder: Path, dosage: np.ndarray, *, name: str = "set", padding: int = 0, **columns: list[str]
) -> Path:
    """Write a fileset of given dosages and return its prefix.

    ``padding`` is set in the unused bits of each last byte; ``columns`` are ``chromosome`` of the
    variants, ``sex``, ``father`` and ``mother`` of the people.
    """
    m, n = dosage.shape
    codes = codes_of(dosage)
    if n % 4:
        codes[:, -1] |= np.uint8((padding << (2 * (n % 4))) & 0xFF)
    chromosome = columns.get("chromosome", ["1"] * m)
    fathers, mothers = (columns.get(name, ["0"] * n) for name in ("father", "mother"))
    sexes = columns.get("sex", ["1"] * n)
    (folder / f"{name}.bed").write_bytes(b"\x6c\x1b\x01" + codes.tobytes())
    (folder / f"{name}.bim").write_text(
        "".join(f"{c}\trs{i}\t0\t{i + 1}\tA\tG\n" for i, c in enumerate(chromosome))
    )
    people = enumerate(zip(fathers, mothers, sexes, strict=True))
    (folder / f"{name}.fam").write_text(
        "".join(f"0\tp{i}\t{f}\t{m}\t{s}\t-9\n" for i, (f, m, s) in people)
    )
    return folder / name


def random_dosage(m: int, n: int, *, seed: int = 0, missing: float = 0.02) -> np.ndarray:
    """Hard calls of common and rare variants, some of them missing."""
    rng = np.random.default_rng(seed)
    dosage = rng.binomial(2, rng.uniform(0.02, 0.6, (m, 1)), (m, n)).astype(float)
    dosage[rng.random(dosage.shape) < missing] = np.nan
    return dosage
