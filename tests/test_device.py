"""The torch half of the kernel, its arithmetic on torch's CPU device, against the CPU's kernel.

What needs a GPU is in ``tests/benchmarks/test_gpu_scan.py``.
"""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import imgwas
from imgwas.association import devices, engines
from imgwas.association.blocks import GroupArrays, Workspace, people_used
from imgwas.association.device import DeviceWorkspace
from imgwas.association.devices import choose_devices
from imgwas.association.kernel import scan_block
from imgwas.errors import DeviceError, UsageError
from imgwas.genotypes.counts import pack_mask
from tests.genetic_models import polygenic_study
from tests.oracles import codes_of

torch = pytest.importorskip("torch")
BLOCK = 96


def cohort(n=2501, n_variants=64, n_traits=6, missing=0.02, seed=0):
    """Rare and common variants, traits with an effect, people who lack some traits."""
    rng = np.random.default_rng(seed)
    frequency = np.exp(rng.uniform(np.log(0.002), np.log(0.998), n_variants))
    dosage = rng.binomial(2, frequency[:, None], (n_variants, n)).astype(float)
    traits = rng.standard_normal((n, n_traits))
    traits[:, 0] += 0.1 * dosage[np.abs(frequency - 0.5).argmin()]
    dosage[rng.random(dosage.shape) < missing] = np.nan
    return dosage, rng.standard_normal((n, 3)), traits


def group_of(traits, covariates, used):
    basis, _ = np.linalg.qr(covariates[used] - covariates[used].mean(axis=0))
    own = traits[used] - traits[used].mean(axis=0)
    own = own - basis @ (basis.T @ own)
    scale = np.linalg.norm(own, axis=0)
    full = np.zeros(-(-len(used) // 4) * 4, bool)
    full[: len(used)] = used
    spread = [np.zeros((len(full), part.shape[1])) for part in (own, basis)]
    spread[0][full], spread[1][full] = own / scale, basis
    return GroupArrays(spread[0], spread[1], scale, pack_mask(full), int(used.sum()), 4)


@pytest.fixture(scope="module")
def made():
    dosage, covariates, traits = cohort()
    used = np.random.default_rng(1).random(len(traits)) < 0.9
    groups = [
        group_of(traits[:, :4], covariates, np.ones(len(traits), bool)),
        group_of(traits[:, 4:], covariates, used),
    ]
    return codes_of(dosage), groups


@pytest.fixture(autouse=True)
def _slices(monkeypatch):
    """Sums over slices of people, and the last one shorter."""
    monkeypatch.setattr("imgwas.association.device.PEOPLE_AT_ONCE", 1000)


def workspace_of(packed, dtype=np.float32):
    return DeviceWorkspace(BLOCK, packed.shape[1], dtype, "cpu")


def scan(packed, groups, workspace, missing="mean"):
    matrices = [group.product_matrix(workspace.dtype.type) for group in groups]
    return scan_block(packed, groups, matrices=matrices, workspace=workspace, missing=missing)


def exactly(packed, groups, missing="mean"):
    return scan(packed, groups, Workspace(BLOCK, packed.shape[1], np.float64), missing)


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_t_is_within_the_bound_of_double_precision(made, missing):
    packed, groups = made
    found, exact = scan(packed, groups, workspace_of(packed), missing), exactly(*made, missing)
    for one, other in zip(found, exact, strict=True):
        assert (one.reason == other.reason).all()
        tested = one.reason == 0
        assert tested.sum() > 40
        apart = np.abs(one.t - other.t)[tested] / np.maximum(1, np.abs(other.t[tested]))
        # docs/statistics.md promises 1e-4
        assert apart.max() < 2e-5
        np.testing.assert_allclose(one.scale, other.scale, rtol=1e-6)


def test_in_double_precision_it_is_the_cpu(made):
    packed, groups = made
    found = scan(packed, groups, workspace_of(packed, np.float64))
    for one, other in zip(found, exactly(*made), strict=True):
        np.testing.assert_allclose(one.t, other.t, rtol=1e-9, atol=1e-11)


def test_half_of_the_split_alone_would_not_do(made):
    """The low parts matter: rounding to half precision moves t by more than the test allows."""
    from imgwas.association.device import RightHandSide

    matrix = made[1][0].product_matrix(np.float32)
    right = RightHandSide.of(matrix, torch.device("cpu"))
    high = (right.high.float() / right.scale).numpy()
    both = ((right.high.double() + right.low.double() / 2**11) / right.scale).numpy()
    size = np.abs(matrix).max(axis=0)
    assert np.abs(high - matrix).max() > 1e-4 * size.max()
    # 22 bits, or the smallest number that half precision has
    assert (np.abs(both - matrix) <= 2.0**-22 * np.abs(matrix) + 2.0**-34 * size).all()


def test_out_of_memory_halves_the_batch_and_carries_on(made, monkeypatch, caplog):
    packed, groups = made
    expected = scan(packed, groups, workspace_of(packed))
    workspace = workspace_of(packed)
    decode, asked = workspace._decode, []

    def of_a_small_card(table, rows, some=None):
        asked.append(rows.stop - rows.start)
        if asked[-1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(table, rows, some)

    monkeypatch.setattr(workspace, "_decode", of_a_small_card)
    with caplog.at_level(logging.WARNING, "imgwas"):
        found = scan(packed, groups, workspace)
    assert asked[:3] == [64, 32, 16]
    assert max(asked[3:]) == 16
    assert caplog.text.count("short of memory") == 2
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.t, other.t, atol=1e-5)


def test_a_card_without_any_memory_is_an_error(made, monkeypatch):
    packed, groups = made
    workspace = workspace_of(packed)

    def none(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(workspace, "_decode", none)
    with pytest.raises(DeviceError, match="no memory left"):
        scan(packed, groups, workspace)


@pytest.mark.parametrize("wrong", [lambda p: p * 1.001, lambda p: p * float("nan")])
def test_a_card_that_computes_wrongly_is_found(made, monkeypatch, wrong):
    from imgwas.association import device

    packed, groups = made
    product = device._half_product
    monkeypatch.setattr(device, "_half_product", lambda a, b: wrong(product(a, b)))
    with pytest.raises(DeviceError, match="multiplied wrongly"):
        scan(packed, groups, workspace_of(packed))


def test_the_thin_product_is_that_of_the_cpu(made):
    packed, groups = made
    host, there = Workspace(BLOCK, packed.shape[1], np.float32), workspace_of(packed)
    for workspace in (host, there):
        scan(packed, groups[1:], workspace)
    weights = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)
    np.testing.assert_allclose(
        there.weighted(weights, slice(20, 50)), host.weighted(weights, slice(20, 50)), atol=1e-4
    )


def test_a_whole_scan_equals_the_one_on_the_cpu(tmp_path, monkeypatch):
    study = polygenic_study(500, 1200, 4, seed=1, missing=0.02)
    inputs = study.genotypes, study.latents, study.covariates
    common = {"omnibus": True, "heritability": True, "threads": 2, "part_size": 500}
    here = imgwas.associate(*inputs, out=tmp_path / "cpu", **common)
    for module in (engines, imgwas.association.scan):
        monkeypatch.setattr(module, "choose_devices", lambda _: ("cpu:0", "cpu:0"))
    there = imgwas.associate(*inputs, out=tmp_path / "device", device="cuda", **common)
    assert there.metadata["settings"]["device"] == "cuda"
    assert "device" not in here.metadata["settings"]
    columns = pq.read_schema(here.parts[0]).names
    for one, other in zip(here.iter_blocks(columns), there.iter_blocks(columns), strict=True):
        for name in columns:
            if pa.types.is_floating(one[name].type):
                np.testing.assert_allclose(
                    other[name].to_numpy(), one[name].to_numpy(), rtol=1e-4, atol=1e-4
                )
            else:
                assert one[name].equals(other[name])
    before, after = imgwas.heritability_of_scan(here), imgwas.heritability_of_scan(there)
    np.testing.assert_allclose(after.heritability, before.heritability, atol=1e-3)


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_dosages_travel_decoded(made, missing):
    """Formats that are not two-bit codes fill a buffer of this machine, which is sent."""
    from imgwas.association.dosage_kernel import scan_dosages
    from imgwas.genotypes.dosage_counts import sum_codes
    from imgwas.types import MISSING_DOSAGE, DosageCodes

    rng = np.random.default_rng(0)
    n = len(made[1][0].traits)
    calls = rng.binomial(2, rng.uniform(0.05, 0.95, (40, 1)), (40, n))
    codes = np.clip(255 * calls + rng.normal(0, 40, calls.shape), 0, 510).astype(np.uint16)
    codes[rng.random(codes.shape) < 0.02] = MISSING_DOSAGE
    codes[:, made[1][0].n :] = 0
    used = np.stack([people_used(group, n) for group in made[1]])
    sums = sum_codes(DosageCodes(codes, b""), used)
    found = [
        scan_dosages(
            codes,
            made[1],
            matrices=[group.product_matrix(np.float32) for group in made[1]],
            sums=sums,
            everyone=sums[0],
            per_copy=255,
            workspace=workspace,
            missing=missing,
        )
        for workspace in (
            Workspace(BLOCK, n // 4, np.float32),
            DeviceWorkspace(BLOCK, n // 4, np.float32, "cpu"),
        )
    ]
    for here, there in zip(*found, strict=True):
        assert np.isfinite(here.t).all()
        np.testing.assert_allclose(there.t, here.t, atol=2e-5)


def test_choosing(monkeypatch, caplog):
    assert choose_devices("cpu") == ("cpu",)
    monkeypatch.setattr(devices, "visible_gpus", lambda: (0, "torch sees no GPU"))
    with caplog.at_level(logging.INFO, "imgwas"):
        assert choose_devices("auto") == ("cpu",)
    assert caplog.messages == ["device  cpu (torch sees no GPU)"]
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=f"device {name} was asked for, and torch sees no"):
            choose_devices(name)
    monkeypatch.setattr(devices, "visible_gpus", lambda: (2, ""))
    assert choose_devices("auto") == choose_devices("cuda") == ("cuda:0", "cuda:1")
    assert choose_devices("cuda:1") == ("cuda:1",)
    with pytest.raises(DeviceError, match="the last of the 2 is cuda:1"):
        choose_devices("cuda:2")
    with pytest.raises(UsageError, match="tpu"):
        choose_devices("tpu")
    assert DeviceError.exit_code == 16
