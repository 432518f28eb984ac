"""Tables of features, the morphometry autoencoder, and principal components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.checkpoints import load_encoder
from imgwas.encoders.encoding import encode_images, read_footer
from imgwas.encoders.features import TableImages, is_table, open_inputs
from imgwas.encoders.fitting import fit
from imgwas.encoders.pca import PCA, PCASettings
from imgwas.encoders.splits import Split
from imgwas.encoders.tabular import Morphometry, MorphometrySettings, column_scale
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    UsageError,
)
from imgwas.images.volumes import ArrayImages
from imgwas.simulate.brains import simulate_brains

pytestmark = pytest.mark.usefixtures("one_thread")


def low_rank(n: int, p: int, rank: int, seed: int = 0, noise: float = 0.3) -> np.ndarray:
    """Features that a few factors drive, each in a unit of its own."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p)) / np.sqrt(rank)
    units, origin = 10.0 ** rng.uniform(-2, 4, p), rng.uniform(-3, 3, p)
    return (signal + noise * rng.standard_normal((n, p)) + origin) * units


def write(folder: Path, values: np.ndarray, name: str = "features.csv", **more) -> Path:
    ids = [f"p{i:04d}" for i in range(len(values))]
    frame = pd.DataFrame(values, columns=[f"f{j}" for j in range(values.shape[1])])
    frame = frame.assign(**more)
    frame.insert(0, "IID", ids)
    path = folder / name
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if "tsv" in name else ",", na_rep="NA")
    return path


# ---- tables as images ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet"])
def test_a_table_is_images_of_one_axis(tmp_path, name):
    values = low_rank(9, 5, 2)
    images = TableImages(write(tmp_path, values, name))
    assert images.grid == (5,)
    assert images.names == ("f0", "f1", "f2", "f3", "f4")
    assert images.sample_ids[:2] == ("p0000", "p0001")
    np.testing.assert_allclose(np.stack([images.read(i) for i in range(9)]), values, rtol=1e-6)
    assert is_table(tmp_path / name)


def test_the_fingerprint_names_features_and_follows_the_content(tmp_path):
    values = low_rank(5, 3, 2)
    one = TableImages(write(tmp_path, values)).fingerprint()
    assert one["recipe"] == [{"step": "features", "names": ["f0", "f1", "f2"]}]
    assert one == TableImages(write(tmp_path, values)).fingerprint()
    values[0, 0] += 1
    assert TableImages(write(tmp_path, values)).fingerprint()["files"] != one["files"]


def test_features_are_found_by_name_in_the_encoders_order(tmp_path):
    values = low_rank(5, 4, 2)
    path = write(tmp_path, values, extra=[np.nan] * 5)
    images = TableImages(path, names=["f3", "f0"])
    np.testing.assert_allclose(images.values, values[:, [3, 0]].astype(np.float32), rtol=1e-6)
    about = {"recipe": [{"step": "features", "names": ["f2", "f1"]}]}
    assert open_inputs(path, about=about).names == ("f2", "f1")
    with pytest.raises(InconsistentError, match=r"lacks 2 of 3 features.*first: g0, g1"):
        TableImages(path, names=["f0", "g0", "g1"])


def test_missing_values_are_refused_with_counts(tmp_path):
    values = low_rank(6, 4, 2)
    values[:4, 2] = values[0, 1] = np.nan
    with pytest.raises(MalformedError) as error:
        TableImages(write(tmp_path, values))
    text = str(error.value)
    assert "5 cells of 2 features are missing, in 4 of 6 people" in text
    assert "most: f2 4, f1 1" in text
    assert "impute" in text


def test_constant_features_are_named_and_kept(tmp_path, caplog):
    values = low_rank(6, 4, 2)
    values[:, 1] = 4096.1
    with caplog.at_level("WARNING", logger="imgwas"):
        assert TableImages(write(tmp_path, values)).grid == (4,)
    assert "1 of 4 features have one value for everybody: f1" in caplog.text
    with pytest.raises(MalformedError, match="every feature has one value"):
        TableImages(write(tmp_path, np.ones((4, 3)), "c.csv"))


@pytest.mark.parametrize(
    ("column", "what"),
    [([1e9 + 0.001 * i for i in range(6)], "f0 does not fit single precision"),
     ([1e39] + [0.0] * 5, "f0 does not fit single precision"),
     (["a"] * 6, "is no number")],
)  # fmt: skip
def test_features_that_are_no_usable_numbers(tmp_path, column, what):
    path = write(tmp_path, low_rank(6, 2, 1), f0=column)
    with pytest.raises(MalformedError, match=what):
        TableImages(path)


def test_tables_without_features_or_with_repeated_people(tmp_path):
    (tmp_path / "a.csv").write_text("IID\np1\np2\n")
    with pytest.raises(MalformedError, match="ids and no feature"):
        TableImages(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("IID,f\np1,1\np1,2\n")
    with pytest.raises(InconsistentError, match="repeated"):
        TableImages(tmp_path / "b.csv")


def test_lists_of_images_and_folders_are_no_tables(tmp_path):
    (tmp_path / "images.tsv").write_text("sample_id\tpath\na\ta.nii\n")
    assert not is_table(tmp_path / "images.tsv")
    assert not is_table(tmp_path)
    assert not is_table(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="a table of features, which has no visits"):
        open_inputs(write(tmp_path, low_rank(4, 2, 1)), visit="2")


# ---- morphometry --------------------------------------------------------------------------------


def test_the_published_sizes():
    settings = create_encoder("morphometry").settings
    assert settings.latents == 80
    encoder = create_encoder("morphometry", {"grid": (935,)})
    h = settings.hidden
    assert encoder.n_parameters() == 935 * h + h + h * 80 + 80 + 80 * h + h + h * 935 + 935


@pytest.fixture(scope="module")
def morphometry(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("morphometry")
    values = low_rank(500, 120, 6)
    images = TableImages(write(folder, values))
    split = Split(tuple(range(400)), tuple(range(400, 500)))
    made = fit("morphometry", images, out=folder / "run", split=split, device="cpu",
               settings={"latents": 8, "hidden": 60},
               train={"epochs": 30, "batch": 32, "learning_rate": 3e-3})  # fmt: skip
    torch.set_num_threads(before)
    return folder, values, images, made


def test_scale_is_that_of_the_training_rows_only(morphometry):
    _, values, _, made = morphometry
    network = made.encoder.network
    train = values.astype(np.float32).astype(np.float64)[:400]
    np.testing.assert_allclose(network.mean.numpy(), train.mean(axis=0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(network.spread.numpy(), train.std(axis=0), rtol=1e-5)
    assert np.abs(values.mean(axis=0) - train.mean(axis=0)).max() > 0


def test_held_out_features_come_back_in_their_own_units(morphometry):
    """R2 against the training mean, which is what knowing nothing gives; six factors of 1.09."""
    _, values, images, made = morphometry
    held_out = images.values[400:]
    back = made.encoder.decode(made.encoder.encode(held_out))
    mean, sd = values[:400].mean(axis=0), values[:400].std(axis=0)
    error = (((back - values[400:]) / sd) ** 2).sum()
    chance = (((mean - values[400:]) / sd) ** 2).sum()
    assert 1 - error / chance > 0.8


def test_a_table_goes_through_fit_and_encode(morphometry, tmp_path):
    folder, values, images, made = morphometry
    loaded = load_encoder(folder / "run")
    assert loaded.about["recipe"][0]["names"] == list(images.names)
    shuffled = values[:, ::-1]
    frame = pd.DataFrame(shuffled, columns=[f"f{j}" for j in range(119, -1, -1)])
    frame.insert(0, "IID", images.sample_ids)
    frame.to_csv(tmp_path / "other.csv", index=False)
    again = open_inputs(tmp_path / "other.csv", about=loaded.about)
    done = encode_images(again, loaded.encoder, tmp_path / "l.parquet", digest=loaded.digest)
    assert done.n_samples == 500
    table = pd.read_parquet(tmp_path / "l.parquet")
    assert list(table.columns[:3]) == ["IID", "L000", "L001"]
    expected = made.encoder.encode(images.values)
    np.testing.assert_allclose(table.filter(like="L").to_numpy(), expected, rtol=1e-3, atol=1e-4)
    x = made.encoder.normalise(torch.from_numpy(images.values)).image.numpy()
    decoded = made.encoder.decode(expected)
    back = made.encoder.normalise(torch.from_numpy(decoded)).image.numpy()
    np.testing.assert_allclose(
        table["reconstruction_error"], ((x - back) ** 2).mean(axis=1), rtol=1e-2, atol=1e-5
    )
    assert read_footer(tmp_path / "l.parquet")["encoder"] == "morphometry"


def test_images_for_a_table_encoder_and_the_reverse_are_refused(tmp_path):
    volumes = ArrayImages(np.ones((4, 3, 3, 3), np.float32), ("a", "b", "c", "d"))
    with pytest.raises(UsageError, match="morphometry is trained on rows of a table"):
        fit("morphometry", volumes, out=tmp_path / "x", device="cpu")
    table = TableImages(write(tmp_path, low_rank(6, 4, 2)))
    with pytest.raises(UsageError, match="udip is trained on volumes"):
        fit("udip", table, out=tmp_path / "x", device="cpu")


def test_a_constant_column_of_large_numbers_keeps_spread_1():
    rows = torch.full((333, 2), 16777.217)
    rows[:, 1] = torch.arange(333.0)
    mean, spread = column_scale(rows)
    assert spread[0] == 1
    assert float(spread[1]) == pytest.approx(np.arange(333).std(), rel=1e-6)
    assert float(mean[0]) == pytest.approx(16777.217, rel=1e-7)
    encoder = Morphometry(MorphometrySettings(grid=(2,), latents=1, hidden=2))
    encoder.network.fit_scale(rows)
    assert float(encoder.normalise(rows).image.abs().max()) < 2


# ---- principal components -----------------------------------------------------------------------


def fitted(values: np.ndarray, k: int, batch: int, extra: int = 32) -> PCA:
    values = values if values.ndim > 2 else values[:, :, None, None]  # images, not a table
    pca = PCA(PCASettings(grid=values.shape[1:], latents=k, intensity="none", extra=extra))
    for start in range(0, len(values), batch):
        pca.update(torch.from_numpy(values[start : start + batch].astype(np.float32)))
    pca.finish()
    return pca


def by_numpy(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, components with their largest entry positive, and spread of scores."""
    flat = values.astype(np.float32).astype(np.float64).reshape(len(values), -1)
    mean = flat.mean(axis=0)
    _, singular, right = np.linalg.svd(flat - mean, full_matrices=False)
    right = right[:k]
    right *= np.sign(right[np.arange(k), np.abs(right).argmax(axis=1)])[:, None]
    return mean, right, singular[:k] / np.sqrt(len(values) - 1)


@pytest.mark.parametrize(
    "shape", [(40, 300), (300, 40), (30, 6, 7, 5)], ids=["wide", "tall", "images"]
)
def test_one_batch_is_exact(shape):
    values = low_rank(shape[0], int(np.prod(shape[1:])), 12) / 1e3
    values = values.reshape(shape)
    pca = fitted(values, 10, shape[0])
    mean, components, spread = by_numpy(values, 10)
    np.testing.assert_allclose(pca.mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(pca.spread, spread, rtol=1e-5)
    np.testing.assert_allclose(pca.components, components, atol=2e-4)
    scores = pca.encode(values.reshape(-1, *pca.grid).astype(np.float32))
    np.testing.assert_allclose(scores.std(axis=0, ddof=1), 1, rtol=1e-3)


def test_scores_are_those_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is absent")
    values = np.random.default_rng(0).standard_normal((60, 25)) @ np.diag(1.3 ** -np.arange(25.0))
    pca = fitted(values, 6, 60)
    theirs = decomposition.PCA(6, whiten=True, svd_solver="full").fit(values)
    scores = theirs.transform(values)
    mine = pca.encode(values.astype(np.float32)[:, :, None, None])
    np.testing.assert_allclose(np.abs(mine), np.abs(scores), atol=1e-3)


@pytest.mark.parametrize("batch", [16, 33, 64])
def test_batches_are_close_where_the_spectrum_decays(batch):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((200, 80)) @ np.diag(1.25 ** -np.arange(80.0))
    values = values @ np.linalg.qr(rng.standard_normal((80, 80)))[0] + 5
    pca = fitted(values, 8, batch)
    mean, components, spread = by_numpy(values, 8)
    np.testing.assert_allclose(pca.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(pca.spread, spread, rtol=1e-3)
    overlap = np.abs((pca.components.numpy() * components).sum(axis=1))
    assert overlap.min() > 0.999
    assert pca.n_seen == 200


def test_extra_components_make_batches_more_exact():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((240, 60)) @ np.diag(1.05 ** -np.arange(60.0))
    _, components, _ = by_numpy(values, 4)

    def angle(extra: int) -> float:
        mine = fitted(values, 4, 12, extra).components.numpy()
        return float(np.linalg.svd(mine @ components.T, compute_uv=False).min())

    assert angle(50) > 0.999
    assert angle(0) < angle(50)


def test_no_batching_changes_a_sign():
    values = np.random.default_rng(3).standard_normal((90, 30)) @ np.diag(1.4 ** -np.arange(30.0))
    one, other = fitted(values, 5, 90), fitted(values, 5, 13)
    assert (np.sum(one.components.numpy() * other.components.numpy(), axis=1) > 0.99).all()


@pytest.mark.parametrize(
    ("values", "k", "what"),
    [
        (np.random.default_rng(0).standard_normal((5, 40)), 5, "5 images span 4 dimensions"),
        (np.random.default_rng(0).standard_normal((9, 3)) @ np.ones((3, 6)), 2, "span 1 dim"),
        (np.random.default_rng(0).standard_normal((40, 2)) @ np.ones((2, 6)), 2, "span 1 dim"),
        (np.ones((9, 6)), 1, "span 0 dimensions"),
        (np.ones((4, 60)), 1, "span 0 dimensions"),
    ],
)
@pytest.mark.parametrize("batch", [64, 4])
def test_too_few_dimensions_are_refused(values, k, what, batch):
    with pytest.raises(DegenerateError, match=what):
        fitted(values, k, batch)


def test_a_table_goes_through_pca_in_standard_units(tmp_path):
    """Without standardising, the column with the largest unit would be the first component."""
    values = low_rank(120, 20, 3, noise=0.05)
    images = TableImages(write(tmp_path, values))
    split = Split(tuple(range(90)), tuple(range(90, 120)))
    made = fit("pca", images, out=tmp_path / "run", split=split, settings={"latents": 3})
    again = load_encoder(tmp_path / "run").encoder
    z = again.encode(images.values)
    np.testing.assert_array_equal(z, made.encoder.encode(images.values))
    train = values[:90]
    scaled = (values - train.mean(axis=0)) / train.std(axis=0)
    _, components, spread = by_numpy(scaled[:90], 3)
    expected = scaled @ components.T / spread
    np.testing.assert_allclose(z, expected, atol=5e-3)
    assert made.history[0]["validation_loss"] < 0.05


def test_images_go_through_pca(tmp_path):
    brains = simulate_brains(40, grid=(10, 11, 9), seed=0)
    images = ArrayImages(brains.values, brains.sample_ids, brains.affine)
    made = fit("pca", images, out=tmp_path / "run", settings={"latents": 4}, train={"batch": 16})
    assert made.encoder.decode(made.encoder.encode(brains.values[:3])).shape == (3, 10, 11, 9)
    assert made.history[0]["train_loss"] < made.history[0]["validation_loss"] < 1
    loaded = load_encoder(tmp_path / "run")
    np.testing.assert_array_equal(
        loaded.encoder.encode(brains.values), made.encoder.encode(brains.values)
    )


def test_latents_and_images_of_another_shape_are_refused():
    pca = fitted(np.random.default_rng(0).standard_normal((20, 6)), 2, 20)
    with pytest.raises(InconsistentError, match=r"latents of shape \(3, 5\).*pca has 2 latents"):
        pca.decode(np.zeros((3, 5), np.float32))
    with pytest.raises(InconsistentError, match="components were made for"):
        pca.encode(np.zeros((3, 5), np.float32))
    state = pca.state()
    other = PCA(PCASettings(grid=(7,), latents=2))
    with pytest.raises(InconsistentError, match="do not fit the settings"):
        other.load_state(state)
