"""Rows of the fault tables about inputs that no other test looks at: A15, A16, C21, D5, D6."""

from __future__ import annotations

import numpy as np
import pytest

import imgwas
from imgwas.errors import InconsistentError, MalformedError
from imgwas.tables import delimited
from imgwas.types import Covariates, Latents
from tests.filesets import random_dosage, write_fileset
from tests.people import latents_of

M, N = 24, 40


def scan_of(folder, prefix, out):
    genotypes = imgwas.open_genotypes(prefix)
    ids = genotypes.samples.sample_ids
    values = np.random.default_rng(3).normal(size=(N, 2))
    traits = Latents(values, tuple(f"p{i}" for i in range(N)), ("a", "b"))
    assert set(ids) == set(traits.sample_ids)
    return imgwas.associate(genotypes, traits, out=folder / out, threads=1, part_size=7)


def test_variants_in_any_order_have_the_same_numbers(tmp_path):
    """A15: chromosomes that alternate and positions that go back are scanned in file order."""
    dosage = random_dosage(M, N, seed=2)
    chromosomes = np.array(["1"] * 12 + ["2"] * 12)
    plain = write_fileset(tmp_path, dosage, name="plain", chromosome=list(chromosomes))
    order = np.random.default_rng(1).permutation(M)
    mixed = write_fileset(
        tmp_path, dosage[order], name="mixed", chromosome=list(chromosomes[order])
    )
    whole = (tmp_path / "plain.bim").read_text().splitlines()
    (tmp_path / "mixed.bim").write_text("".join(whole[i] + "\n" for i in order))
    one, other = scan_of(tmp_path, plain, "p"), scan_of(tmp_path, mixed, "m")
    for name in ("a", "b"):
        ours, theirs = one.latent(name), other.latent(name)
        assert list(theirs["variant_id"]) == [f"rs{i}" for i in order]
        theirs = theirs.set_index("variant_id").loc[ours["variant_id"]].reset_index()
        for column in ("base_pair_location", "beta", "standard_error", "n", "neg_log_10_p_value"):
            np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-6)
    first = one.region("2", 1, 100, ["a"])
    second = other.region("2", 1, 100, ["a"]).sort_values("base_pair_location")
    assert list(first["variant_id"]) == list(second["variant_id"])


def test_variants_of_one_name_stay_apart(tmp_path):
    """A16: ids that repeat, or are a point everywhere, are no key: the row is."""
    dosage = random_dosage(M, N, seed=2)
    prefix = write_fileset(tmp_path, dosage, name="named")
    named = scan_of(tmp_path, prefix, "n")
    for number, rename in enumerate((lambda i: ".", lambda i: f"rs{i // 2}")):
        text = "".join(f"1\t{rename(i)}\t0\t{i + 1}\tA\tG\n" for i in range(M))
        (tmp_path / "named.bim").write_text(text)
        again = scan_of(tmp_path, prefix, f"again{number}")
        for name in ("a", "b"):
            ours, theirs = named.latent(name), again.latent(name)
            assert list(theirs["variant_id"]) == [rename(i) for i in range(M)]
            np.testing.assert_array_equal(ours["beta"], theirs["beta"])


def test_a_table_that_is_turned_is_refused_by_its_columns(tmp_path, monkeypatch):
    """C21: a column a person would take hours."""
    monkeypatch.setattr(delimited, "MOST_COLUMNS", 20)
    path = tmp_path / "turned.tsv"
    path.write_text("IID\t" + "\t".join(f"p{i}" for i in range(20)) + "\nz0" + "\t1" * 20 + "\n")
    with pytest.raises(MalformedError, match=r"has 21 columns\. At most 20.*Is the table turned"):
        imgwas.read_latents(path)


def test_a_line_without_an_end_is_refused(tmp_path, monkeypatch):
    """C21: a line longer than any table has, and no word of it in the message."""
    monkeypatch.setattr(delimited, "LONGEST_LINE", delimited.BLOCK)
    path = tmp_path / "long.tsv"
    path.write_text("IID\tz\n" + "person7" * 3_000_000 + "\t1\nq\t1\n")
    with pytest.raises(MalformedError, match=r"more than 8,000,000 bytes") as refusal:
        imgwas.read_latents(path)
    assert "person7" not in str(refusal.value)


def test_rows_without_ids_and_ids_without_rows(tmp_path):
    """D5, D6: rows are never matched by their order."""
    np.save(tmp_path / "z.npy", np.ones((5, 2)), allow_pickle=False)
    with pytest.raises(MalformedError, match="carries no sample ids"):
        imgwas.read_latents(tmp_path / "z.npy")
    for kind in (Latents, Covariates):
        with pytest.raises(InconsistentError, match=r"have shape \(5, 2\).*4 sample ids"):
            kind(np.ones((5, 2)), tuple("abcd"), ("u", "v"))
    assert latents_of(tuple("abcde")).values.shape[0] == 5
