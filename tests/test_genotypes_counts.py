"""Counts from packed codes against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from imgwas.genotypes.counts import count_packed, pack_mask
from tests.oracles import codes_of


@pytest.mark.parametrize("n", [1, 4, 5, 31, 32, 33, 130])
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
