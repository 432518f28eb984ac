"""Counts from packed codes against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from imgwas.genotypes.counts import count_packed, pack_mask
from tests.oracles import codes_of


@pytest.mark.parametrize("n", [1, 4, 5, 31, 32, 33, 130, 4003])
def test_counts_equal_a_loop(n):
    rng = np.random.default_rng(n)
    dosage = rng.choice([0, 1, 2, np.nan], (7, n))
    people = rng.random(n) < 0.6
    counts = count_packed(codes_of(dosage), pack_mask(people))
    for variant, values in enumerate(dosage[:, people]):
        assert counts.n_effect_homozygote[variant] == (values == 2).sum()
        assert counts.n_heterozygote[variant] == (values == 1).sum()
        assert counts.n_other_homozygote[variant] == (values == 0).sum()
        assert counts.n_missing[variant] == np.isnan(values).sum()


def test_counts_do_not_overflow_when_everyone_is_alike():
    n = 40_001
    for byte, name in ((0b11, "n_other_homozygote"), (0b10, "n_heterozygote"), (0b01, "n_missing")):
        packed = np.full((3, -(-n // 4)), byte * 0b01010101, np.uint8)
        counts = count_packed(packed, pack_mask(np.ones(n, bool)))
        assert (getattr(counts, name) == n).all()
        assert (counts.n_called + counts.n_missing == n).all()
