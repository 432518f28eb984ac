"""Agreement of training seeds: planted factors come back, chance does not, order never matters."""

from __future__ import annotations

import logging
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgwas.consensus import (
    align_latents,
    best_matches,
    compare_seeds,
    join_latents,
    linear_cka,
    match_latents,
    reproduced_latents,
    share_components,
)
from imgwas.errors import DegenerateError, InconsistentError, TooFewSamplesError, UsageError
from imgwas.types import Latents
from tests.people import latents_of

RNG = np.random.default_rng(3)
N = 400
IDS = tuple(f"p{i:04d}" for i in range(N))


def seed_table(values, ids=IDS, names=None):
    """Latents z0, z1, ... of people."""
    values = np.asarray(values, float)
    names = names or [f"z{k}" for k in range(values.shape[1])]
    return latents_of(ids[: len(values)], None, names, values)


def planted(n=N, shared=5, private=4, seeds=3, noise=0.05, seed=1):
    """Seeds that mix the same factors with their own, each by another rotation and other scales."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n, shared))
    tables = {}
    for number in range(seeds):
        parts = np.column_stack([factors, rng.standard_normal((n, private))])
        rotation = np.linalg.qr(rng.standard_normal((shared + private,) * 2))[0]
        mixed = parts * rng.uniform(0.5, 2, shared + private) @ rotation + 3 * rng.random()
        tables[f"seed{number}"] = mixed + noise * rng.standard_normal(mixed.shape)
    return factors, tables


# --- joining


def test_people_are_joined_by_id_and_gaps_leave_the_person_out(caplog):
    values = RNG.standard_normal((6, 2))
    first = seed_table(values)
    gap = values.copy()
    gap[2, 0] = np.nan
    order = [5, 2, 0, 1, 4]
    second = latents_of([IDS[i] for i in order], None, ["a", "b"], gap[order])
    with caplog.at_level(logging.INFO, "imgwas"):
        joined = join_latents([first, second])
    assert list(joined) == ["seed1", "seed2"]
    assert joined["seed1"].sample_ids == tuple(IDS[i] for i in (0, 1, 4, 5))
    np.testing.assert_array_equal(joined["seed1"].values, joined["seed2"].values)
    assert "4 of 5 shared people have every latent" in caplog.text
    assert "p000" not in caplog.text


def test_tables_are_named_after_their_files():
    values = RNG.standard_normal((6, 2))
    a = Latents(values, IDS[:6], ("x", "y"), source={"file": "run-1701.parquet"})
    b = Latents(values, IDS[:6], ("x", "y"), source={"file": "run-42.tsv"})
    assert list(join_latents([a, b])) == ["run-1701", "run-42"]
    assert list(join_latents([a, a])) == ["seed1", "seed2"]


def test_constant_latents_are_left_out_and_named(caplog):
    values = np.column_stack([RNG.standard_normal((9, 2)), np.full(9, 4.0)])
    with caplog.at_level(logging.WARNING, "imgwas"):
        joined = join_latents({"a": seed_table(values), "b": seed_table(values[:, :2])})
    assert joined["a"].names == ("z0", "z1")
    assert "constant in a, left out: z2" in caplog.text
    with pytest.raises(DegenerateError, match="no latent of b varies among the shared people"):
        join_latents({"a": seed_table(values), "b": seed_table(np.ones((9, 1)))})


def test_tables_that_cannot_be_joined():
    a = seed_table(RNG.standard_normal((9, 2)))
    gaps = seed_table(np.where(np.arange(9)[:, None] < 7, np.nan, RNG.standard_normal((9, 1))))
    with pytest.raises(TooFewSamplesError, match="2 of 9 shared people have every latent"):
        join_latents({"a": a, "b": gaps})
    with pytest.raises(InconsistentError, match=r"0 people are in all 2 tables.*first: q#"):
        join_latents({"a": a, "b": seed_table(a.values, [f"q{i:03d}" for i in range(9)])})
    with pytest.raises(UsageError, match="1 table was given"):
        join_latents([a])
    moved = seed_table(a.values, IDS[1:])
    for function in (best_matches, lambda t: share_components(t, n_components=1)):
        with pytest.raises(InconsistentError, match=r"Join them first: join_latents\(tables\)"):
            function({"a": a, "b": moved})
        with pytest.raises(InconsistentError, match=r"a table has missing values.*Join them"):
            function({"a": a, "b": gaps})
        with pytest.raises(UsageError, match=r"one table was given\. Two or more"):
            function({"a": a})


# --- best match


def slow_best(tables, threshold):
    """The rule by loops: for each latent all latents of all other seeds."""
    found = {}
    for seed, table in tables.items():
        for k, name in enumerate(table.names):
            best, seeds = (None, None, 0.0), 0
            for other, its in tables.items():
                if other == seed:
                    continue
                rs = [np.corrcoef(table.values[:, k], column)[0, 1] for column in its.values.T]
                seeds += max(abs(r) for r in rs) > threshold
                top = int(np.argmax(np.abs(rs)))
                if abs(rs[top]) > abs(best[2]):
                    best = (other, its.names[top], rs[top])
            found[seed, name] = (*best, seeds)
    return found


def test_best_matches_equal_loops_over_everything():
    _, mixed = planted(n=60, shared=3, private=1)
    tables = {name: seed_table(values) for name, values in mixed.items()}
    tables["seed1"] = seed_table(np.column_stack([mixed["seed1"], -mixed["seed0"][:, 0]]))
    expected = slow_best(tables, 0.6)
    found = best_matches(tables, threshold=0.6)
    assert len(found) == 4 + 5 + 4
    for _, row in found.iterrows():
        seed, name, r, n_seeds = expected[row["seed"], row["latent"]]
        best = (row["best_seed"], row["best_latent"])
        # rounding decides between a latent and its own mirror image
        assert best == (seed, name) or {best, (seed, name)} == {("seed0", "z0"), ("seed1", "z4")}
        assert row["r"] == pytest.approx(r if best == (seed, name) else -r)
        assert row["n_seeds"] == n_seeds
        assert row["is_reproduced"] == (abs(r) > 0.6)
    mirrored = found.query("seed == 'seed0' and latent == 'z0'").iloc[0]
    assert mirrored["r"] == pytest.approx(-1)


@pytest.mark.parametrize("order", list(permutations(["a", "b", "c"])))
def test_the_rule_does_not_depend_on_the_order_of_seeds(order):
    """A pair that matches counts on both sides; comparing with later seeds only would lose one."""
    factors = RNG.standard_normal((N, 2))
    noise = RNG.standard_normal((N, 6))
    tables = {
        "a": seed_table(np.column_stack([factors[:, 0], noise[:, :2]])),
        "b": seed_table(np.column_stack([noise[:, 2:4], factors[:, 1]])),
        "c": seed_table(np.column_stack([-factors, noise[:, 4:]])),
    }
    found = best_matches({name: tables[name] for name in order})
    kept = {(row.seed, row.latent) for row in found[found["is_reproduced"]].itertuples()}
    assert kept == {("a", "z0"), ("b", "z2"), ("c", "z0"), ("c", "z1")}


def test_planted_shared_latents_are_all_found_and_no_others():
    """Five seeds of 128, 36 latents each repeated with noise: |r| 0.9 is found, 0.5 is not."""
    rng = np.random.default_rng(8)
    factors = rng.standard_normal((1500, 36))
    tables = {}
    for seed in range(5):
        own = rng.standard_normal((1500, 128))
        own[:, :36] = factors * rng.choice([-1, 1], 36) + 0.3 * own[:, :36]
        own[:, 36:40] = factors[:, :4] + 1.7 * own[:, 36:40]
        tables[f"s{seed}"] = seed_table(own, [str(i) for i in range(1500)])
    found = best_matches(tables)
    assert found["is_reproduced"].sum() == 5 * 36
    assert (found.loc[found["is_reproduced"], "n_seeds"] == 4).all()
    table = reproduced_latents(tables, found)
    assert table.values.shape == (1500, 180)
    assert table.names[:2] == ("s0.z0", "s0.z1")


def test_nothing_reproduced_is_said():
    tables = {n: seed_table(RNG.standard_normal((N, 3))) for n in "ab"}
    with pytest.raises(DegenerateError, match=r"no latent is reproduced.*--threshold"):
        reproduced_latents(tables, best_matches(tables))
    with pytest.raises(UsageError, match="threshold is 8"):
        best_matches(tables, threshold=8.0)


# --- one to one


@given(st.integers(0, 1000))
def test_matching_is_the_best_of_all_permutations(seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((30, 4))
    other = values @ rng.standard_normal((4, 4)) + rng.standard_normal((30, 4))
    r = np.corrcoef(values.T, other.T)[:4, 4:]
    best = max(sum(abs(r[i, p[i]]) for i in range(4)) for p in permutations(range(4)))
    pairs = match_latents(seed_table(values), seed_table(other))
    assert pairs["r"].abs().sum() == pytest.approx(best)
    assert (pairs["sign"] == np.sign(pairs["r"])).all()


def test_order_and_signs_are_undone():
    values = RNG.standard_normal((N, 6))
    order, signs = RNG.permutation(6), np.array([1, -1, -1, 1, -1, 1])
    shuffled = 100 * (values * signs)[:, order] + 7
    aligned = align_latents(seed_table(values), seed_table(shuffled, names=list("abcdef")))
    assert aligned.names == tuple(f"z{k}" for k in range(6))
    r = np.corrcoef(values.T, aligned.values.T)[:6, 6:]
    np.testing.assert_allclose(np.diag(r), 1)


def test_tables_of_unequal_width_leave_the_rest_unpaired():
    values = RNG.standard_normal((N, 5))
    pairs = match_latents(seed_table(values), seed_table(values[:, [3, 1]]))
    assert list(zip(pairs["first"], pairs["second"], strict=True)) in (
        [("z3", "z0"), ("z1", "z1")], [("z1", "z1"), ("z3", "z0")]
    )  # fmt: skip
    aligned = align_latents(seed_table(values), seed_table(values[:, [3, 1]]))
    assert aligned.names == ("z1", "z3")


# --- shared components


def canonical_correlations(x, y):
    """Oracle: singular values of the product of two orthonormal bases."""
    qx = np.linalg.qr(x - x.mean(axis=0))[0]
    qy = np.linalg.qr(y - y.mean(axis=0))[0]
    return np.linalg.svd(qx.T @ qy)[1]


def test_two_tables_give_canonical_correlations():
    _, mixed = planted(n=120, seeds=2, noise=0.8)
    x, y = mixed.values()
    found = share_components({"x": seed_table(x), "y": seed_table(y)}, n_components=9)
    expected = canonical_correlations(x, y)
    np.testing.assert_allclose(2 * found.agreement - 1, expected, atol=1e-10)
    np.testing.assert_allclose(found.r**2, np.tile((1 + expected) / 2, (2, 1)), atol=1e-10)


def test_two_tables_give_the_canonical_variates_of_scikit_learn():
    from sklearn.cross_decomposition import CCA

    _, mixed = planted(n=120, seeds=2, noise=0.8)
    x, y = mixed.values()
    a, b = CCA(n_components=3, max_iter=5000, tol=1e-12).fit_transform(x, y)
    found = share_components({"x": seed_table(x), "y": seed_table(y)}, n_components=3)
    own = found.estimates({"x": seed_table(x), "y": seed_table(y)})
    for k in range(3):
        assert abs(np.corrcoef(a[:, k], own["x"][:, k])[0, 1]) == pytest.approx(1, abs=1e-6)
        assert abs(np.corrcoef(b[:, k], own["y"][:, k])[0, 1]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_planted_factors_are_recovered(seeds):
    """Each factor lies in the shared space (multiple r above 0.99) and nothing private does."""
    factors, mixed = planted(seeds=seeds, n=2000)
    tables = {name: seed_table(v, [str(i) for i in range(2000)]) for name, v in mixed.items()}
    found = share_components(tables, n_components=8)
    r = canonical_correlations(found.scores.values[:, :5], factors)
    assert r.min() > 0.99
    assert found.agreement[4] > 0.98
    assert found.agreement[5] < 1 / seeds + 0.1


def test_scores_are_uncorrelated_with_variance_one_and_a_fixed_sign():
    _, mixed = planted()
    tables = {name: seed_table(v) for name, v in mixed.items()}
    found = share_components(tables, n_components=5)
    np.testing.assert_allclose(np.cov(found.scores.values.T), np.eye(5), atol=1e-10)
    np.testing.assert_allclose(found.transform(tables).values, found.scores.values, atol=1e-9)
    weight = found.weights["seed0"]
    assert (weight[np.abs(weight).argmax(axis=0), np.arange(5)] > 0).all()
    assert found.scores.names == ("S1", "S2", "S3", "S4", "S5")
    assert repr(found) == "SharedComponents(5 of 3 tables)"


def test_components_do_not_depend_on_units_offsets_or_mixing():
    _, mixed = planted()
    found = share_components({n: seed_table(v) for n, v in mixed.items()}, n_components=4)
    moved = {
        name: seed_table(1e6 * v @ np.random.default_rng(k).standard_normal((9, 9)) - 50)
        for k, (name, v) in enumerate(mixed.items())
    }
    again = share_components(moved, n_components=4)
    np.testing.assert_allclose(again.agreement, found.agreement, rtol=1e-8)
    r = np.corrcoef(found.scores.values.T, again.scores.values.T)[:4, 4:]
    np.testing.assert_allclose(np.abs(np.diag(r)), 1, rtol=1e-7)


def test_a_copied_latent_adds_no_dimension():
    _, mixed = planted()
    tables = {n: seed_table(v) for n, v in mixed.items()}
    copied = tables | {"seed1": seed_table(np.column_stack([mixed["seed1"]] * 2))}
    a = share_components(tables, n_components=4).agreement
    np.testing.assert_allclose(share_components(copied, n_components=4).agreement, a, rtol=1e-9)


def test_new_people_get_the_same_components():
    factors, mixed = planted(n=3000)
    ids = [str(i) for i in range(3000)]
    fitted = share_components(
        {n: seed_table(v[:1500], ids) for n, v in mixed.items()}, n_components=5
    )
    new = fitted.transform({n: seed_table(v[1500:], ids) for n, v in mixed.items()})
    assert canonical_correlations(new.values, factors[1500:]).min() > 0.99
    with pytest.raises(InconsistentError, match="the latents of seed1 are not those that were fit"):
        fitted.transform({n: seed_table(v[:400, : 9 - (n == "seed1")]) for n, v in mixed.items()})


def test_weights_decide_whose_components_come_first():
    rng = np.random.default_rng(2)
    ab, cd = rng.standard_normal((2, N))
    pad = rng.standard_normal((4, N))
    tables = {n: seed_table(np.column_stack([f, pad[k]]))
              for k, (n, f) in enumerate(zip("abcd", (ab, ab, cd, cd), strict=True))}  # fmt: skip
    for weights, first in (([3, 3, 1, 1], ab), ([1, 1, 3, 3], cd)):
        found = share_components(tables, n_components=1, table_weights=weights)
        assert abs(np.corrcoef(found.scores.values[:, 0], first)[0, 1]) > 0.99
    with pytest.raises(UsageError, match=r"table_weights are \[1, 0\]\. 4 positive numbers"):
        share_components(tables, n_components=1, table_weights=[1, 0])


def test_a_ridge_equals_the_projectors_written_out():
    _, mixed = planted(n=50)
    found = share_components(
        {n: seed_table(v) for n, v in mixed.items()}, n_components=3, ridge=0.2
    )
    total = np.zeros((50, 50))
    for values in mixed.values():
        x = (values - values.mean(axis=0)) / values.std(axis=0)
        top = np.linalg.norm(x, 2) ** 2
        total += x @ np.linalg.solve(x.T @ x + 0.2 * top * np.eye(9), x.T) / 3
    eigenvalues, vectors = np.linalg.eigh(total)
    np.testing.assert_allclose(found.agreement, eigenvalues[::-1][:3])
    for k in range(3):
        r = np.corrcoef(found.scores.values[:, k], vectors[:, -1 - k])[0, 1]
        assert abs(r) == pytest.approx(1)


def test_few_people_are_refused_because_anything_would_agree():
    tables = {n: seed_table(RNG.standard_normal((20, 12))) for n in "ab"}
    with pytest.raises(TooFewSamplesError) as caught:
        share_components(tables, n_components=2)
    assert "20 people for tables of 24 dimensions together. More than 25" in str(caught.value)
    assert share_components(tables, n_components=2, ridge=0.1).agreement[0] < 1
    with pytest.raises(UsageError, match="n_components is 13. At most 12".replace(".", r"\.")):
        share_components(tables, n_components=13, ridge=0.1)
    with pytest.raises(UsageError, match="ridge is -1"):
        share_components(tables, n_components=1, ridge=-1)


# --- spaces


def gram_cka(x, y):
    """CKA and debiased CKA from the matrices of people by people, as they are defined."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    k, m, n = x @ x.T, y @ y.T, len(x)

    def unbiased(a, b):
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        one = np.ones(n)
        trace = np.trace(a @ b) + one @ a @ one * (one @ b @ one) / ((n - 1) * (n - 2))
        return (trace - 2 / (n - 2) * (one @ a @ b @ one)) / (n * (n - 3))

    return [f(k, m) / np.sqrt(f(k, k) * f(m, m)) for f in (lambda a, b: (a * b).sum(), unbiased)]


@given(st.integers(0, 10_000), st.integers(5, 40))
def test_cka_equals_its_definition(seed, n):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3)) + 2
    y = x @ rng.standard_normal((3, 2)) + rng.standard_normal((n, 2))
    plain, debiased = gram_cka(x, y)
    assert linear_cka(x * 1e9, y * 1e-9) == pytest.approx(plain)
    assert linear_cka(x, y, debiased=True) == pytest.approx(debiased, abs=1e-9)


def test_cka_ignores_rotation_scale_and_place():
    x = RNG.standard_normal((N, 8)) * np.arange(1, 9)
    q = np.linalg.qr(RNG.standard_normal((8, 8)))[0]
    for debiased in (False, True):
        assert linear_cka(x, 5 * x @ q + 100, debiased=debiased) == pytest.approx(1)
    assert linear_cka(x, x @ RNG.standard_normal((8, 8)), debiased=True) < 0.99


def test_cka_of_unrelated_spaces():
    """Many latents and few people look alike by chance; the debiased estimate does not."""
    pairs = [RNG.standard_normal((2, 100, 64)) for _ in range(30)]
    plain = [linear_cka(x, y) for x, y in pairs]
    debiased = [linear_cka(x, y, debiased=True) for x, y in pairs]
    assert np.mean(plain) > 0.35
    assert abs(np.mean(debiased)) < 4 * np.std(debiased) / np.sqrt(30)
    assert np.abs(debiased).max() < 0.1
    assert linear_cka(*RNG.standard_normal((2, 20_000, 4))) < 0.01


def test_cka_of_nothing():
    with pytest.raises(TooFewSamplesError, match=r"3 people\. At least 4"):
        linear_cka(np.ones((3, 1)), np.ones((3, 1)))
    with pytest.raises(DegenerateError, match="no latent varies"):
        linear_cka(np.ones((9, 1)), RNG.standard_normal((9, 1)))


# --- the report


def test_the_report_of_planted_seeds(caplog):
    factors, mixed = planted(n=1200)
    ids = np.array([str(i) for i in range(1200)])
    tables = {}
    for k, (name, values) in enumerate(mixed.items()):
        plain = np.column_stack([factors[:, :2] * (-1) ** k, values])
        order = np.random.default_rng(k).permutation(1200)[: 1200 - 50 * k]
        tables[name] = seed_table(plain[order], ids[order])
    report = compare_seeds(tables, n_components=5)
    assert report.n == len(set.intersection(*(set(t.sample_ids) for t in tables.values())))
    rows = report.matches.query("latent in ('z0', 'z1')")
    assert rows["is_reproduced"].all()
    assert rows["r"].abs().min() > 0.999
    assert report.r_held_out.min() > 0.99
    cka = report.matrix("cka_debiased")
    assert (cka.to_numpy() == cka.to_numpy().T).all()
    assert (np.diag(cka) == 1).all()
    summary = report.summary()
    assert summary["people"] == report.n
    assert summary["latents"] == {"seed0": 11, "seed1": 11, "seed2": 11}
    assert sum(summary["reproduced"].values()) == report.matches["is_reproduced"].sum()
    assert len(report.pairs) == 3 * 11
    assert "latents reproduced)" in repr(report)


def test_explained_is_the_r2_of_all_on_those_reproduced():
    import statsmodels.api as sm

    factors, mixed = planted(n=200, shared=2, private=2, noise=0.5)
    for name, values in mixed.items():
        mixed[name] = np.column_stack([values, factors + 0.5 * RNG.standard_normal((200, 2))])
    report = compare_seeds({n: seed_table(v) for n, v in mixed.items()}, threshold=0.75)
    everything = np.column_stack(list(mixed.values()))
    kept = everything[:, report.matches["is_reproduced"].to_numpy()]
    assert 0 < kept.shape[1] < 18
    r2 = [sm.OLS(y, sm.add_constant(kept)).fit().rsquared for y in everything.T]
    assert report.explained == pytest.approx(np.mean(r2))


def test_seeds_without_anything_in_common_look_like_it():
    tables = {f"s{k}": seed_table(RNG.standard_normal((N, 10))) for k in range(3)}
    report = compare_seeds(tables)
    assert not report.matches["is_reproduced"].any()
    assert report.explained == 0
    assert np.abs(report.r_held_out).max() < 0.25
    assert report.shared.agreement[0] < 0.6
    assert report.spaces["cka_debiased"].abs().max() < 0.1
    assert report.summary()["variance_explained_by_reproduced"] == 0


def test_people_too_few_to_hold_out_half(caplog):
    tables = {f"s{k}": seed_table(RNG.standard_normal((30, 10))) for k in range(2)}
    with caplog.at_level(logging.WARNING, "imgwas"):
        report = compare_seeds(tables, n_components=2)
    assert np.isnan(report.r_held_out).all()
    assert "30 people are too few to check shared components on a half" in caplog.text
    assert report.summary()["shared_components"]["r_held_out"] == [None, None]


def test_the_same_seed_gives_the_same_report():
    _, mixed = planted(n=150)
    tables = {n: seed_table(v) for n, v in mixed.items()}
    assert compare_seeds(tables).summary() == compare_seeds(tables).summary()
