"""The compiled library against plain sums, NumPy and the uncompiled scan."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import imgwas
from imgwas import doctor, native
from imgwas.association import engines, integers
from imgwas.association import task as tasks
from imgwas.association.blocks import Workspace, missing_positions
from imgwas.association.integers import IntegerWorkspace, Panel, Panels
from imgwas.association.kernel import scan_block
from imgwas.files import read_json
from imgwas.genotypes import ArrayGenotypes
from imgwas.genotypes import counts as counting
from imgwas.genotypes.counts import count_packed, pack_mask
from tests.genetic_models import polygenic_study
from tests.oracles import codes_of
from tests.test_kernel import cohort, group_of

compiled = pytest.mark.skipif(
    native.library() is None, reason="no compiled library here, or no AVX-512 VNNI"
)


def calls(rng, n_variants, n, frequency, missing):
    """Copies of an allele, NaN where missing."""
    dosage = rng.binomial(2, frequency, (n_variants, n)).astype(float)
    dosage[rng.random(dosage.shape) < missing] = np.nan
    return dosage


def workspace_of(packed, block=None):
    return IntegerWorkspace(block or len(packed), packed.shape[1], Panels())


def loaded(dosage, values=None):
    """A workspace that holds calls, missing ones filled with values."""
    packed = codes_of(dosage)
    workspace = workspace_of(packed)
    workspace.load(packed)
    if values is not None:
        workspace.fill(missing_positions(packed, count_packed(packed)), values)
    return workspace


@compiled
@pytest.mark.parametrize("n_columns", [1, 5, 16, 21, 43, 148])
@pytest.mark.parametrize("n", [4, 132, 4100])
def test_products_are_exact_sums_of_rounded_traits(n, n_columns):
    """4,100 people take two turns, and 3 to 444 columns of digits every width of tile."""
    rng = np.random.default_rng(n + n_columns)
    dosage = calls(rng, 13, n, 0.3, 0.05)
    dosage[3], dosage[4] = 0, 2
    matrix = rng.standard_normal((n, n_columns)).astype(np.float32)
    product = loaded(dosage).product(matrix)[:13]
    panel = Panel.of(matrix)
    exact = np.nan_to_num(dosage).astype(np.int64) @ panel.numbers.astype(np.int64)
    np.testing.assert_array_equal(product, (exact * panel.scale).astype(np.float32))
    rounding = np.abs(panel.numbers * panel.scale - matrix).max(axis=0)
    step = np.abs(matrix).max(axis=0) / integers.LARGEST
    assert (rounding <= step * (1 + 1e-9)).all()
    assert (np.abs((panel.numbers * panel.scale - matrix).sum(axis=0)) <= 0.501 * step).all()


@compiled
def test_digits_at_their_limits_do_not_overflow():
    """Everyone has two copies, and traits are as large as they may be, of both signs."""
    n = 20_000
    matrix = np.ones((n, 2), np.float32)
    matrix[:, 1] = -1
    packed = np.zeros((3, n // 4), np.uint8)
    workspace = workspace_of(packed)
    workspace.load(packed)
    np.testing.assert_array_equal(workspace.product(matrix)[:3], [[2 * n, -2 * n]] * 3)


@compiled
def test_missing_calls_count_what_they_are_filled_with():
    rng = np.random.default_rng(1)
    dosage = calls(rng, 30, 400, np.linspace(0.01, 0.5, 30)[:, None], 0.1)
    means = np.nanmean(dosage, axis=1)
    matrix = rng.standard_normal((400, 7)).astype(np.float32)
    panel = Panel.of(matrix)
    filled = np.where(np.isnan(dosage), means[:, None], dosage)
    expected = filled @ (panel.numbers * panel.scale)
    product = loaded(dosage, means).product(matrix)
    np.testing.assert_allclose(product, expected, rtol=3e-7, atol=3e-6)
    for variant, column in ((0, 0), (17, 3)):
        ones = [Fraction(float(x)) for x in filled[variant]]
        q = panel.numbers[:, column].tolist()
        one = float(sum(x * y for x, y in zip(ones, q, strict=True))) * panel.scale[column]
        assert product[variant, column] == np.float32(one)


@compiled
def test_carriers_one_by_one_give_the_same_bits(monkeypatch):
    rng = np.random.default_rng(2)
    dosage = calls(rng, 40, 1000, np.geomspace(0.001, 0.5, 40)[:, None], 0.02)
    matrix = rng.standard_normal((1000, 33)).astype(np.float32)
    matrix[7, 5] = 500  # a fourth digit
    means = np.nanmean(dosage, axis=1)
    products = []
    for cost in (1e9, integers.CARRIER_COST, 1e-9):
        monkeypatch.setattr(integers, "CARRIER_COST", cost)
        products.append(loaded(dosage, means).product(matrix).copy())
    np.testing.assert_array_equal(products[0], products[1])
    np.testing.assert_array_equal(products[0], products[2])


@compiled
def test_outliers_get_a_fourth_digit():
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((3000, 6)).astype(np.float32)
    matrix[11, 2], matrix[12, 4] = 300, -1e6
    panel = Panel.of(matrix)
    assert panel.fine.tolist() == [2, 4]
    error = np.abs(panel.numbers * panel.scale - matrix).max(axis=0)
    assert (error < np.array([8e-7, 8e-7, 2e-7, 8e-7, 6e-4, 8e-7])).all()
    dosage = calls(rng, 8, 3000, 0.3, 0)
    exact = dosage.astype(np.int64) @ panel.numbers.astype(np.int64)
    expected = (exact * panel.scale).astype(np.float32)
    np.testing.assert_array_equal(loaded(dosage).product(matrix), expected)


def test_people_with_the_same_value_do_not_all_lose_the_same():
    """A binary trait, one in 200: t was wrong by 1.4e-4 where each was rounded for itself."""
    n, rng = 40_000, np.random.default_rng(0)
    trait = (rng.random(n) < 1 / 200) - 1 / 200
    matrix = (trait / np.linalg.norm(trait))[:, None].astype(np.float32)
    matrix[::3] = 0  # people outside the group
    panel = Panel.of(matrix)
    assert not panel.numbers[::3].any()
    rounding = (panel.numbers * panel.scale - matrix)[:, 0]
    for frequency in (0.01, 0.1, 0.5):
        dosage = rng.binomial(2, frequency, n)
        scale = np.sqrt(np.square(dosage - dosage.mean()).sum())
        assert abs(dosage @ rounding) / scale * np.sqrt(n) < 1e-5


def test_digits_of_many_people_are_cut_in_pieces(monkeypatch):
    matrix = np.random.default_rng(6).standard_normal((132, 43)).astype(np.float32)
    whole = Panel.of(matrix)
    monkeypatch.setattr(integers, "CUT_AT_ONCE", 20)
    np.testing.assert_array_equal(Panel.of(matrix).digits, whole.digits)


@compiled
def test_what_does_not_fit_the_buffers_is_refused():
    packed = np.zeros((3, 5), np.uint8)
    for rows, width in ((2, 5), (3, 4), (3, 6)):
        with pytest.raises(AssertionError):
            IntegerWorkspace(rows, width, Panels()).load(packed)
    workspace = workspace_of(packed)
    workspace.load(packed)
    with pytest.raises(AssertionError):
        workspace.product(np.zeros((16, 4), np.float32))
    with pytest.raises(AssertionError):
        workspace.fill(missing_positions(packed, count_packed(packed)), np.zeros(2))


@compiled
def test_so_many_people_that_sums_would_overflow_are_multiplied_by_numpy(monkeypatch, tmp_path):
    study = polygenic_study(60, 100, 2, seed=4)
    workspaces = []
    make = engines.make_workspace
    monkeypatch.setattr(
        engines, "make_workspace", lambda *a: workspaces.append(make(*a)) or workspaces[-1]
    )
    for most in (60, 59):
        monkeypatch.setattr(tasks, "MOST_PEOPLE", most)
        imgwas.associate(study.genotypes, study.latents, out=tmp_path / str(most), threads=1)
    assert [isinstance(one, IntegerWorkspace) for one in workspaces] == [True, False]


@compiled
def test_columns_of_zeros_are_zero():
    matrix = np.zeros((8, 4), np.float32)
    assert not loaded(np.ones((2, 8))).product(matrix).any()


@compiled
def test_few_variants_in_a_large_buffer():
    rng = np.random.default_rng(4)
    packed = codes_of(calls(rng, 5, 64, 0.4, 0))
    workspace = workspace_of(packed, block=32)
    matrix = rng.standard_normal((64, 3)).astype(np.float32)
    workspace.load(packed)
    five = workspace.product(matrix)[:5].copy()
    workspace.load(packed[2:3])
    np.testing.assert_array_equal(workspace.product(matrix)[0], five[2])


@compiled
@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_a_scan_is_as_exact_as_one_in_single_precision(missing):
    dosage, covariates, traits = cohort(n=603, n_variants=90, n_traits=9, missing=0.03)
    traits[5, 7] = 1e4
    packed = codes_of(dosage)
    groups = [
        group_of(traits, covariates, np.random.default_rng(g).random(603) < 0.9) for g in (1, 2)
    ]

    def scan(workspace, dtype):
        matrices = [group.product_matrix(dtype) for group in groups]
        found = scan_block(packed, groups, matrices=matrices, workspace=workspace, missing=missing)
        return np.hstack([result.t for result in found])

    double = scan(Workspace(96, packed.shape[1], np.float64), np.float64)
    single = scan(Workspace(96, packed.shape[1], np.float32), np.float32)
    whole = scan(workspace_of(packed, 96), np.float32)
    size = np.maximum(1, np.abs(double))
    errors = [np.nanmax(np.abs(t - double) / size) for t in (whole, single)]
    assert errors[0] < 3e-6
    assert errors[0] < 1.5 * errors[1]


def test_what_is_computed_again_does_not_depend_on_the_variants_beside_it():
    """All are nearly explained by covariates: their scales were a last bit off, alone in a step."""
    rng = np.random.default_rng(3)
    dosage = calls(rng, 20, 800, 0.3, 0)
    covariates = dosage.T + 0.1 * rng.standard_normal((800, 20))
    group = group_of(rng.standard_normal((800, 3)), covariates, np.ones(800, bool))
    packed, matrices = codes_of(dosage), [group.product_matrix(np.float32)]

    def scale(some):
        workspace = Workspace(20, packed.shape[1], np.float32)
        return scan_block(some, [group], matrices=matrices, workspace=workspace)[0].scale

    together = scale(packed)
    alone = np.concatenate([scale(packed[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(together.view(np.int64), alone.view(np.int64))


@compiled
def test_weighted_sums_see_the_filled_calls():
    rng = np.random.default_rng(5)
    dosage = calls(rng, 12, 100, 0.3, 0.1)
    means = np.nanmean(dosage, axis=1)
    weights = rng.standard_normal((3, 6)).astype(np.float32)
    expected = weights @ np.where(np.isnan(dosage), means[:, None], dosage)[2:8]
    for first in ("weighted", "product"):
        workspace = loaded(dosage, means)
        if first == "product":
            workspace.product(np.ones((100, 4), np.float32))
        np.testing.assert_allclose(workspace.weighted(weights, slice(2, 8)), expected, rtol=1e-4)
        twice = 2 * means
        workspace.fill(missing_positions(codes_of(dosage), count_packed(codes_of(dosage))), twice)
        other = weights @ np.where(np.isnan(dosage), twice[:, None], dosage)[2:8]
        np.testing.assert_allclose(workspace.weighted(weights, slice(2, 8)), other, rtol=1e-4)


@compiled
@pytest.mark.parametrize("n", [1, 31, 32, 33, 203, 1001])
def test_counts_are_those_of_numpy(n):
    rng = np.random.default_rng(n)
    packed = rng.integers(0, 256, (70, -(-n // 4)), np.uint8)
    for mask in (None, pack_mask(rng.random(4 * packed.shape[1]) < 0.6)):
        found = count_packed(packed[::2], mask)
        slots = np.full(packed.shape[1], 0x55, np.uint8) if mask is None else mask & 0x55
        low, high, both = counting._count_plain(packed[::2], slots)
        np.testing.assert_array_equal(found.n_missing, low - both)
        np.testing.assert_array_equal(found.n_heterozygote, high - both)
        np.testing.assert_array_equal(found.n_other_homozygote, both)


@compiled
@pytest.mark.parametrize("n_traits", [1, 15, 16, 17, 40])
def test_t_statistics_are_those_of_numpy_to_the_last_bit(n_traits, monkeypatch):
    from imgwas.association import kernel

    rng = np.random.default_rng(n_traits)
    product = rng.uniform(-1.2, 1.2, (20, n_traits + 5)).astype(np.float32)
    weight = rng.uniform(-1, 1, 20).astype(np.float32)
    weight[3], weight[4] = np.nan, np.inf
    product[5] = 0
    product[4, 0] = 0  # 0 times infinity
    found = kernel._t_from_products(product, n_traits, weight, 97)
    monkeypatch.setattr(native, "library", lambda: None)
    plain = kernel._t_from_products(product, n_traits, weight, 97)
    np.testing.assert_array_equal(found[0].view(np.int32), plain[0].view(np.int32))
    np.testing.assert_array_equal(found[1], plain[1])


def test_a_library_that_cannot_be_used_is_done_without(tmp_path):
    damaged = tmp_path / "_native.so"
    damaged.write_bytes(b"no library")
    assert native._opened(damaged) is None


@compiled
def test_a_library_of_another_version_is_done_without(monkeypatch):
    path = native._path()
    assert path is not None
    monkeypatch.setattr(native, "VERSION", native.VERSION + 1)
    assert native._opened(path) is None
    monkeypatch.setattr(native, "library", lambda: None)
    finding = doctor._compiled()
    assert finding.value == "compiled for another imgwas: NumPy multiplies"
    assert finding.level == "note"


def test_the_source_compiles_to_this_version_and_runs_or_says_that_it_cannot(tmp_path, monkeypatch):
    """A library that is not built is skipped in silence by every other test."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here")
    source, built = Path(native.__file__).with_name("native.c"), tmp_path / "_native.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, source], check=True)
    monkeypatch.setattr(native, "_path", lambda: built)
    assert native.is_current()
    supported = ctypes.CDLL(str(built)).imgwas_native_supported()
    assert (native._opened(built) is not None) == bool(supported)
    if not supported:
        monkeypatch.setattr(native, "library", lambda: None)
        assert doctor._compiled().value == "not on this processor: NumPy multiplies"


@compiled
def test_a_scan_without_the_library_gives_the_same_answers(tmp_path, monkeypatch):
    """Several blocks, computed at once with the library; rare variants, missing calls, X."""
    study = polygenic_study(300, 2100, 3, seed=4, missing=0.02)
    names = ["1"] * 2000 + ["X"] * 100
    variants = study.genotypes.variants.set_column(0, "chromosome", pa.array(names))
    sex = np.random.default_rng(0).integers(1, 3, 300).astype(np.int8)
    people = replace(study.genotypes.samples, sex=sex)
    genotypes = ArrayGenotypes(study.dosage.astype(np.float32), variants, people)
    for name in ("with", "without"):
        if name == "without":
            monkeypatch.setattr(native, "library", lambda: None)
        imgwas.associate(genotypes, study.latents, study.covariates, out=tmp_path / name)
    parts = [tmp_path / name / "parts" for name in ("with", "without")]
    first, second = (pq.read_table(part / "part-00000.parquet") for part in parts)
    assert first.column_names == second.column_names
    for column in first.column_names:
        one, other = (t[column].to_numpy(zero_copy_only=False) for t in (first, second))
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(one, other)
    receipts = [read_json(part / "part-00000.ok.json") for part in parts]
    assert receipts[0]["input_sha256"] == receipts[1]["input_sha256"]
    assert receipts[0]["digest"] == receipts[1]["digest"]
