"""Dosages in memory, as tests of the dosage path need them."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from imgwas.types import MISSING_DOSAGE, VARIANT_SCHEMA, DosageCodes, DosageGenotypes, Samples


class MemoryDosages(DosageGenotypes):
    """A matrix of codes with made-up names."""

    def __init__(self, codes, per_copy=16384, chromosome=None, sex=None, twice=None):
        m, n = codes.shape
        self.codes, self.per_copy, self.twice = codes.astype(np.uint16), per_copy, twice
        self.samples = Samples(
            tuple(f"p{i}" for i in range(n)),
            ("0",) * n,
            np.full(n, 1, np.int8) if sex is None else np.asarray(sex, np.int8),
            np.ones(n, bool),
        )
        chromosomes = ["1"] * m if chromosome is None else chromosome
        ids, ones = [f"rs{i}" for i in range(m)], list(range(1, m + 1))
        columns = [chromosomes, ones, ids, ["A"] * m, ["G"] * m]
        self.variants = pa.table(columns, schema=VARIANT_SCHEMA)

    def read_codes(self, rows):
        codes = self.codes[rows]
        twice = None if self.twice is None else self.twice[rows]
        return DosageCodes(codes, hashlib.sha256(codes.tobytes()).digest(), twice)

    def fingerprint(self):
        return {"format": "memory"}

    def check_unchanged(self):
        pass


def random_codes(m, n, *, seed=0, missing=0.02, per_copy=16384):
    """Dosages around calls of common and rare variants, some of either allele, some missing."""
    rng = np.random.default_rng(seed)
    frequency = rng.choice([0.02, 0.2, 0.5, 0.9], (m, 1))
    calls = rng.binomial(2, frequency, (m, n))
    blurred = np.clip(calls + rng.normal(0, 0.1, (m, n)) * (rng.random((m, n)) < 0.5), 0, 2)
    codes = np.rint(blurred * per_copy).astype(np.uint16)
    codes[rng.random((m, n)) < missing] = MISSING_DOSAGE
    return codes
