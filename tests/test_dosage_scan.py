"""The dosage path of the scan against statsmodels, loops, and two-bit codes of the same calls."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

import imgwas
from imgwas.errors import InconsistentError, UsageError
from imgwas.genotypes import MultiDosages, VariantFilters
from imgwas.genotypes.dosage_counts import (
    count_hard_calls,
    impute_info,
    mach_r2,
    sum_codes,
)
from imgwas.genotypes.memory import ArrayGenotypes
from imgwas.types import MISSING_DOSAGE, Covariates, DosageCodes, Latents
from tests.dosages import MemoryDosages, random_codes

M, N, K = 24, 150, 4


@pytest.fixture(scope="module")
def cohort():
    """Dosages with missing ones, traits with different people, covariates that share variance."""
    rng = np.random.default_rng(3)
    codes = random_codes(M, N, seed=1)
    chromosome = ["1"] * (M - 8) + ["X"] * 5 + ["Y"] * 2 + ["MT"]
    sex = rng.integers(0, 3, N)
    genotypes = MemoryDosages(codes, chromosome=chromosome, sex=sex)
    dosage = np.where(codes == MISSING_DOSAGE, np.nan, codes / 16384)
    covariates = rng.standard_normal((N, 2))
    covariates[:, 0] += np.nan_to_num(dosage[0])
    traits = rng.standard_normal((N, K)) + covariates[:, :1] + 3
    traits[:, 1] += 100 * np.nan_to_num(dosage[2], nan=np.nanmean(dosage[2]))  # large t
    traits[:, 3] += np.nan_to_num(dosage[5])
    traits[rng.random(N) < 0.2, 2] = np.nan
    traits[rng.random(N) < 0.1, 3] = np.nan
    ids = genotypes.samples.sample_ids
    return (
        genotypes,
        dosage,
        Latents(traits, ids, tuple("abcd")),
        Covariates(covariates, ids, ("u", "v")),
    )


def fitted(dosage, chromosome, sex, trait, covariates, missing):
    """Least squares of one pair on the people the documentation names."""
    people = np.isfinite(trait)
    if chromosome == "X":
        people &= sex > 0
        covariates = np.column_stack([covariates, sex == 1])
    elif chromosome == "Y":
        people &= sex == 1
    if missing == "drop":
        people &= ~np.isnan(dosage)
    value = np.where(np.isnan(dosage), np.nanmean(dosage[people]), dosage)
    model = np.column_stack([np.ones(people.sum()), covariates[people], value[people]])
    return sm.OLS(trait[people], model).fit(), value[people], int(people.sum())


@pytest.mark.parametrize("missing", ["mean", "drop"])
@pytest.mark.parametrize("half", [False, True])
def test_every_pair_equals_statsmodels(cohort, tmp_path, missing, half):
    """With all people, and with less than half of them, who are cut out of each block."""
    genotypes, dosage, latents, covariates = cohort
    chosen = imgwas.select(genotypes)
    keep = np.arange(0, N, 2) if half else np.arange(N)
    if half:
        chosen = type(chosen)(chosen.rows, keep)
    results = imgwas.associate(
        genotypes,
        latents,
        covariates,
        out=tmp_path / "out",
        selection=chosen,
        missing_genotype=missing,
        threads=1,
    )
    chromosomes = genotypes.variants["chromosome"].to_pylist()
    sex = genotypes.samples.sex[keep]
    n_large = 0
    for k, name in enumerate(latents.names):
        table = results.latent(name)
        for row in range(M):
            fit, _, n = fitted(
                dosage[row, keep],
                chromosomes[row],
                sex,
                latents.values[keep, k],
                covariates.values[keep],
                missing,
            )
            assert table["n"][row] == n
            t = table["beta"][row] / table["standard_error"][row]
            assert t == pytest.approx(fit.tvalues[-1], rel=2e-5, abs=2e-4)
            assert table["beta"][row] == pytest.approx(
                fit.params[-1], rel=2e-4, abs=2e-4 * fit.bse[-1]
            )
            n_large += abs(fit.tvalues[-1]) > 25
    assert n_large or half


def test_frequencies_quality_and_counts_equal_loops(cohort, tmp_path):
    genotypes, dosage, latents, _ = cohort
    results = imgwas.associate(genotypes, latents, out=tmp_path / "out", threads=1)
    names = ["n_missing", "imputation_r2", "n_effect_homozygote", "n_heterozygote"]
    table = results.variants([*names, "effect_allele_frequency.0", "chromosome"])
    sex = genotypes.samples.sex
    for row in range(M):
        g, chromosome = dosage[row], table["chromosome"][row]
        called = ~np.isnan(g)
        assert table["n_missing"][row] == (~called).sum()
        people = {"X": sex == 2, "Y": sex == 9, "MT": sex == 9}.get(chromosome, sex >= 0) & called
        assert table["n_effect_homozygote"][row] == (g[people] >= 1.9).sum()
        assert table["n_heterozygote"][row] == (abs(g[people] - 1) <= 0.1).sum()
        if chromosome in ("Y", "MT"):
            assert np.isnan(table["imputation_r2"][row])
        else:
            p = g[people].mean() / 2
            r2 = g[people].var() / (2 * p * (1 - p))
            assert table["imputation_r2"][row] == pytest.approx(r2, rel=1e-6)
        male = called & (sex == 1)
        if chromosome == "X":
            known = called & (sex > 0)
            frequency = (g[known].sum() - g[male].sum() / 2) / (2 * known.sum() - male.sum())
        elif chromosome == "Y":
            frequency = g[male].mean() / 2
        else:
            frequency = g[called].mean() / 2
        assert table["effect_allele_frequency.0"][row] == pytest.approx(frequency, rel=1e-12)


def both_ways(folder, m, n, **options):
    """Scan the same calls as dosages and as two-bit codes."""
    rng = np.random.default_rng(0)
    calls = rng.binomial(2, rng.uniform(0.05, 0.95, (m, 1)), (m, n)).astype(np.float32)
    calls[rng.random((m, n)) < 0.01] = np.nan
    codes = np.where(np.isnan(calls), MISSING_DOSAGE, np.nan_to_num(calls) * 255)
    dosages = MemoryDosages(codes, per_copy=255)
    packed = ArrayGenotypes(calls, dosages.variants, dosages.samples)
    latents = Latents(rng.standard_normal((n, 3)), dosages.samples.sample_ids, ("a", "b", "c"))
    return [
        imgwas.associate(g, latents, out=folder / str(i), omnibus=True, threads=1, **options)
        for i, g in enumerate((dosages, packed))
    ]


def test_hard_calls_as_dosages_give_what_two_bits_give(tmp_path):
    """Also the tests of all latents at once."""
    ours, theirs = both_ways(tmp_path, 60, 60)
    for column in ("beta", "standard_error", "effect_allele_frequency", "n"):
        a, b = ours.latent("a")[column], theirs.latent("a")[column]
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)
    for name in ("omnibus.joint", "omnibus.minp", "omnibus.combined"):
        a, b = (one.variants([name])[name] for one in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.slow
def test_heritability_in_the_pass_over_dosages_is_that_over_calls(tmp_path):
    ours, theirs = map(imgwas.heritability_of_scan, both_ways(tmp_path, 520, 60, heritability=True))
    for column in ("covariance", "covariance_error"):
        a, b = getattr(ours, column), getattr(theirs, column)
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_sums_are_exact_integers():
    codes = random_codes(9, 3000, seed=4)
    people = np.random.default_rng(0).random((3, 3000)) < 0.5
    for mask, sums in zip(people, sum_codes(DosageCodes(codes, b""), people), strict=True):
        for row in range(9):
            values = [int(c) for c in codes[row, mask] if c != MISSING_DOSAGE]
            assert sums.n_called[row] == len(values)
            assert sums.n_missing[row] == mask.sum() - len(values)
            assert sums.total[row] == sum(values)
            assert sums.squares[row] == sum(v * v for v in values)
            mean = sum(values) / len(values)
            about = sum((v - mean) ** 2 for v in values)
            assert sums.sum_of_squares[row] == pytest.approx(about, rel=1e-12)


def test_a_constant_dosage_has_no_variance():
    codes = np.full((2, 7), 5461, np.uint16)
    codes[1, 3] = 5462
    sums = sum_codes(DosageCodes(codes, b""), np.ones((1, 7), bool))[0]
    assert sums.sum_of_squares[0] == 0
    assert sums.sum_of_squares[1] == pytest.approx(6 / 7)


def test_info_equals_the_definition():
    """Against a loop over people, as Marchini and Howie write it."""
    rng = np.random.default_rng(2)
    p = rng.dirichlet([1, 2, 1], (4, 60))
    p[0] = np.eye(3)[rng.integers(0, 3, 60)]  # certain
    two, one = np.rint(p[..., 2] * 255).astype(int), np.floor(p[..., 1] * 254).astype(int)
    codes = DosageCodes((one + 2 * two).astype(np.uint16), b"", two.astype(np.uint8))
    found = impute_info(sum_codes(codes, np.ones((1, 60), bool))[0], 255)
    for row in range(4):
        expected = [(a + 2 * b) / 255 for a, b in zip(one[row], two[row], strict=True)]
        second = [(a + 4 * b) / 255 for a, b in zip(one[row], two[row], strict=True)]
        theta = sum(expected) / 120
        left = sum(f - e * e for e, f in zip(expected, second, strict=True))
        assert found[row] == pytest.approx(1 - left / (120 * theta * (1 - theta)), rel=1e-12)
    assert found[0] == pytest.approx(1, abs=0.02)
    assert found[1] < 0.9


def test_hard_calls_are_within_a_tenth():
    codes = np.array([[0, 1638, 1639, 14746, 16384, 18022, 18023, 31130, 32768, 65535]], np.uint16)
    counts = count_hard_calls(codes, np.ones(10, bool), 16384)
    assert counts.n_other_homozygote[0] == 2
    assert counts.n_heterozygote[0] == 3
    assert counts.n_effect_homozygote[0] == 2
    assert counts.n_missing[0] == 3


@pytest.mark.parametrize(
    ("limit", "value"), [("maf", 0.05), ("mac", 40), ("geno", 0.02), ("hwe", 0.2), ("info", 0.9)]
)
def test_filters_remove_what_a_loop_removes(cohort, tmp_path, limit, value):
    genotypes, dosage, latents, _ = cohort
    filters = VariantFilters(**{limit: value})
    results = imgwas.associate(genotypes, latents, out=tmp_path / "out", filters=filters, threads=1)
    kept = set(results.variants(["variant_id"])["variant_id"])
    everything = imgwas.associate(genotypes, latents, out=tmp_path / "all", threads=1)
    quality = everything.variants(["imputation_r2"])["imputation_r2"].to_numpy()
    n_kept = 0
    for row in range(M - 8):  # autosomes; the others have their own test above
        g = dosage[row][~np.isnan(dosage[row])]
        minor = min(g.sum(), 2 * len(g) - g.sum())
        calls = [int((abs(g - k) <= 0.1).sum()) for k in (2, 1, 0)]
        passes = {
            "maf": minor / (2 * len(g)) >= value,
            "mac": minor >= value,
            "geno": (N - len(g)) / N <= value,
            "hwe": imgwas.genotypes.hardy_weinberg_p_value(*np.array([calls]).T)[0] >= value,
            "info": quality[row] >= value,
        }[limit]
        assert (f"rs{row}" in kept) == passes
        n_kept += passes
    assert 0 < n_kept < M - 8


def test_hard_calls_have_no_quality_to_filter(tmp_path):
    dosages = MemoryDosages(np.zeros((2, 9)))
    packed = ArrayGenotypes(np.zeros((2, 9)), dosages.variants, dosages.samples)
    latents = Latents(np.ones((9, 1)), dosages.samples.sample_ids, ("a",))
    with pytest.raises(UsageError, match="hard calls"):
        imgwas.associate(packed, latents, out=tmp_path, filters=VariantFilters(info=0.3))


def test_mach_r2_of_calls_in_equilibrium_is_one():
    calls = np.repeat([0, 1, 2], [25, 50, 25])[None] * 255
    sums = sum_codes(DosageCodes(calls.astype(np.uint16), b""), np.ones((1, 100), bool))[0]
    assert mach_r2(sums, 255)[0] == pytest.approx(1)


@pytest.mark.parametrize("missing", ["mean", "drop"])
@pytest.mark.parametrize("per_copy", [255, 16384])
def test_dosages_that_hardly_vary(tmp_path, per_copy, missing):
    """A common variant imputed without information: single precision keeps no digits of it."""
    rng = np.random.default_rng(1)
    n = 3000
    codes = np.full((6, n), per_copy, np.uint16)
    codes[:3] += rng.integers(0, 2, (3, n)).astype(np.uint16)
    codes[3:, :2] += np.uint16(1)
    codes[5, 7] = MISSING_DOSAGE
    genotypes = MemoryDosages(codes, per_copy)
    ids = genotypes.samples.sample_ids
    covariate = rng.standard_normal((n, 1))
    traits = rng.standard_normal((n, 3)) + covariate
    traits[:, 0] += 10.0 * codes[0]  # a large t too
    found = imgwas.associate(
        genotypes, Latents(traits, ids, tuple("abc")), Covariates(covariate, ids, ("u",)),
        out=tmp_path / "r", missing_genotype=missing,
    )  # fmt: skip
    tables = {name: found.latent(name) for name in "abc"}
    for row in range(6):
        people = codes[row] != MISSING_DOSAGE if missing == "drop" else np.ones(n, bool)
        dosage = np.where(codes[row] == MISSING_DOSAGE, np.nan, codes[row] - float(per_copy))
        dosage = np.where(np.isnan(dosage), np.nanmean(dosage), dosage)
        model = np.column_stack([dosage, np.ones(n), covariate])[people]
        for number, name in enumerate("abc"):
            t = sm.OLS(traits[people, number], model).fit().tvalues[0]
            ours = tables[name]["beta"][row] / tables[name]["standard_error"][row]
            assert np.isclose(ours, t, rtol=1e-5, atol=2e-6)


def test_quality_in_a_set_of_files_does_not_hang_on_block_ends():
    """Probabilities beside calls: INFO for all, in a block with calls as in one without."""
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet([1, 1, 1], (5, 40))
    twice = np.rint(255 * probabilities[..., 2]).astype(np.uint8)
    codes = 2 * twice.astype(np.uint16) + np.rint(255 * probabilities[..., 1]).astype(np.uint16)
    imputed = MemoryDosages(codes, 255, twice=twice)
    calls = ArrayGenotypes(
        rng.integers(0, 3, (3, 40)).astype(np.float32),
        imputed.variants.slice(0, 3), imputed.samples,
    )  # fmt: skip
    one = MultiDosages([calls, imputed])
    people = np.ones((1, 40), bool)
    whole = impute_info(sum_codes(one.read_codes(np.arange(8)), people)[0], 255)
    alone = [one.read_codes(np.array([row])) for row in range(8)]
    np.testing.assert_allclose(whole[:3], 1, rtol=1e-12)
    np.testing.assert_array_equal(
        whole, np.concatenate([impute_info(sum_codes(c, people)[0], 255) for c in alone])
    )
    of_dosages = MemoryDosages(codes, 255)
    assert MultiDosages([imputed, of_dosages]).read_codes(np.arange(2)).twice is None


def test_sexes_in_a_set_of_files():
    """Chromosome 1 without sexes and X with them, in either order; contradictions are refused."""
    codes = random_codes(3, 30, missing=0)
    sex = np.random.default_rng(1).integers(1, 3, 30)
    known, unknown = MemoryDosages(codes, sex=sex), MemoryDosages(codes, sex=np.zeros(30))
    for files in ([unknown, known], [known, unknown]):
        np.testing.assert_array_equal(MultiDosages(files).samples.sex, sex)
    with pytest.raises(InconsistentError, match="30 people another sex"):
        MultiDosages([known, unknown, MemoryDosages(codes, sex=3 - sex)])
