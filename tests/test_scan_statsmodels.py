"""Whole scans of real genotypes against statsmodels: beta, standard error, t, -log10 P and n."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from tests.data import data_file
from tests.studies import BED_SETS, Study, study_of, table_of

#: variants compared per set; every variant is compared under the marker ``slow``
SAMPLE = 60


def variants_to_compare(study: Study, n: int | None) -> np.ndarray:
    """Some variants, X first where there is one, with missing calls preferred."""
    everything = np.arange(study.genotypes.n_variants)
    if n is None:
        return everything
    rng = np.random.default_rng(7)
    special = np.flatnonzero([c in {"X", "Y"} for c in study.chromosome])[: n // 4]
    gaps = np.flatnonzero(np.isnan(study.dosage).any(axis=1))
    some_gaps = rng.permutation(gaps)[: n // 4]
    others = rng.permutation(everything)[: n // 2]
    return np.unique(np.concatenate([study.confounded, special, some_gaps, others]))


def neg_log10_p(t: float, dof: float) -> float:
    """Two-sided, by mpmath's incomplete beta function to sixty digits."""
    with mpmath.workdps(60):
        x = mpmath.mpf(dof) / (mpmath.mpf(dof) + mpmath.mpf(t) ** 2)
        return float(-mpmath.log10(mpmath.betainc(dof / 2, 0.5, 0, x, regularized=True)))


def compare(study: Study, results, variants, *, missing: str, double: bool) -> dict[str, float]:
    """Largest disagreement with statsmodels, in the units of the promises."""
    worst = dict.fromkeys(["beta", "standard_error", "t", "neg_log10_p"], 0.0)
    for latent, name in enumerate(study.latents.names):
        table = table_of(results, name)
        for variant in variants:
            row = table.iloc[variant]
            if row["reason"]:
                assert np.isnan(row[["beta", "standard_error"]].astype(float)).all()
                continue
            fit = study.fit(variant, latent, missing=missing)
            assert row["n"] == fit.n
            # relative, with a floor: where t is nearly zero it is a difference of equal numbers
            scale = max(1e-2 if double else 1.0, abs(fit.t))
            difference = abs(row["beta"] - fit.beta) / fit.standard_error
            worst["beta"] = max(worst["beta"], difference / scale)
            worst["standard_error"] = max(
                worst["standard_error"], abs(row["standard_error"] / fit.standard_error - 1)
            )
            worst["t"] = max(worst["t"], abs(row["t"] - fit.t) / scale)
            if abs(fit.t) <= 40:
                expected = neg_log10_p(fit.t, fit.dof)
                difference = abs(row["neg_log_10_p_value"] - expected)
                worst["neg_log10_p"] = max(worst["neg_log10_p"], difference)
    return worst


@pytest.fixture(scope="module")
def studies():
    made: dict[str, Study] = {}

    def get(name: str) -> Study:
        if name not in made:
            made[name] = study_of(data_file(BED_SETS[name]))
        return made[name]

    return get


@pytest.mark.parametrize("missing", ["mean", "drop"])
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("name", BED_SETS)
def test_equals_statsmodels(studies, tmp_path, name, precision, missing):
    study = studies(name)
    results = study.scan(tmp_path / "out", precision=precision, missing_genotype=missing)
    variants = variants_to_compare(study, SAMPLE)
    double = precision == "double"
    worst = compare(study, results, variants, missing=missing, double=double)
    limit = 1e-6 if double else 1e-4
    assert {k: v for k, v in worst.items() if k != "neg_log10_p" and v > limit} == {}, worst
    assert worst["neg_log10_p"] < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("missing", ["mean", "drop"])
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("name", BED_SETS)
def test_every_variant_equals_statsmodels(studies, tmp_path, name, precision, missing, capsys):
    study = studies(name).only("z001", "z003")
    results = study.scan(tmp_path / "out", precision=precision, missing_genotype=missing)
    variants = variants_to_compare(study, None)
    double = precision == "double"
    worst = compare(study, results, variants, missing=missing, double=double)
    with capsys.disabled():
        print(f"\n{name} {precision} {missing}: {worst}")
    limit = 1e-6 if double else 1e-4
    assert {k: v for k, v in worst.items() if k != "neg_log10_p" and v > limit} == {}, worst
    assert worst["neg_log10_p"] < 1e-3


@pytest.mark.parametrize("name", BED_SETS)
def test_one_covariate_explains_a_third_of_some_variants(studies, name):
    """The comparison above is where residualising only one side would show."""
    study = studies(name)
    for variant in study.confounded:
        dosage = study.dosage[variant]
        called = ~np.isnan(dosage)
        columns = study.covariates.values[called].T
        correlations = [np.corrcoef(dosage[called], column)[0, 1] for column in columns]
        assert max(np.square(correlations)) >= 0.3
