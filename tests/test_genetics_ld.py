"""LD and clumps: against brute-force likelihoods, against plain loops, against PLINK itself."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

import imgwas
from imgwas.errors import DegenerateError, UsageError
from imgwas.genetics.clumping import Neighbours, Variants, bases_below, clump
from imgwas.genetics.haplotypes import dosage_r2, haplotype_r2
from imgwas.genetics.ld import LdPanel, LdSettings, chromosome_numbers
from tests.data import data_file
from tests.filesets import random_dosage, write_fileset

plink = shutil.which("plink1.9") or shutil.which("plink")
SETS = {
    "hapmap3": "hapmap3/hapmap3.bed",
    "plinkqc": "plinkqc/data.bed",
    "maize": "maize/maize.bed",
    "wheat": "wheat/wheat.bed",
}


def table_of(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Counts of genotype pairs by a plain loop."""
    table = np.zeros((3, 3))
    for a, b in zip(one, two, strict=True):
        if not (np.isnan(a) or np.isnan(b)):
            table[int(a), int(b)] += 1
    return table


def haplotype_r2_by_search(table: np.ndarray, haploid: np.ndarray) -> float:
    """r² at the best of many splits of the double heterozygotes."""
    n = table
    known = np.array(
        [
            2 * n[2, 2] + n[2, 1] + n[1, 2] + haploid[2, 2],
            2 * n[2, 0] + n[2, 1] + n[1, 0] + haploid[2, 0],
            2 * n[0, 2] + n[0, 1] + n[1, 2] + haploid[0, 2],
            2 * n[0, 0] + n[0, 1] + n[1, 0] + haploid[0, 0],
        ]
    )
    share = np.linspace(0, 1, 20_001)
    phased = known[:, None] + n[1, 1] * np.stack([share, 1 - share, 1 - share, share])
    f = phased / phased[:, :1].sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(known[:, None] > 0, known[:, None] * np.log(f), 0).sum(axis=0)
        if n[1, 1]:
            value = value + n[1, 1] * np.log(f[0] * f[3] + f[1] * f[2])
    best = f[:, np.nanargmax(value)]
    p, q = best[0] + best[1], best[0] + best[2]
    return float((best[0] - p * q) ** 2 / (p * (1 - p) * q * (1 - q)))


@pytest.mark.parametrize("seed", range(4))
def test_haplotype_r2_is_at_the_maximum_of_the_likelihood(seed):
    rng = np.random.default_rng(seed)
    tables = rng.multinomial(rng.integers(5, 200), rng.dirichlet(np.full(9, 0.4)), 60)
    tables = tables.reshape(-1, 3, 3).astype(float)
    haploid = rng.poisson(3, tables.shape).astype(float)
    for both in (haploid, np.zeros_like(haploid)):
        got = haplotype_r2(tables, both)
        for table, alone, value in zip(tables, both, got, strict=True):
            if not np.isnan(value):
                assert value == pytest.approx(haplotype_r2_by_search(table, alone), abs=2e-4)


def test_variants_that_do_not_vary_have_no_r2():
    table = np.zeros((1, 3, 3))
    table[0, 1, 2] = 7
    assert np.isnan(haplotype_r2(table)[0])
    assert np.isnan(dosage_r2(table)[0])


def panel_of(tmp_path, dosage, *, kind="haplotype", **columns):
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, dosage, **columns))
    return LdPanel(genotypes, settings=LdSettings(kind))


def test_panel_compares_people_with_both_calls(tmp_path):
    dosage = random_dosage(12, 61, missing=0.2)
    others = np.arange(1, 12)
    by_count = panel_of(tmp_path, dosage, kind="dosage").r2(0, others)
    by_haplotype = panel_of(tmp_path, dosage).r2(0, others)
    for k, other in enumerate(others):
        both = np.isfinite(dosage[0]) & np.isfinite(dosage[other])
        expected = np.corrcoef(dosage[0, both], dosage[other, both])[0, 1] ** 2
        assert by_count[k] == pytest.approx(expected, abs=1e-12)
        table = table_of(dosage[0], dosage[other])
        expected = haplotype_r2_by_search(table, np.zeros((3, 3)))
        assert by_haplotype[k] == pytest.approx(expected, abs=2e-4)


def test_men_have_one_haplotype_on_x(tmp_path):
    dosage = random_dosage(3, 80, missing=0.05)
    sex = ["1", "2"] * 40
    male = np.array(sex) == "1"
    dosage[:, male] = np.where(dosage[:, male] == 1, 2, dosage[:, male])
    got = panel_of(tmp_path, dosage, sex=sex, chromosome=["X"] * 3).r2(0, np.array([1, 2]))
    for k, other in enumerate((1, 2)):
        women = table_of(dosage[0, ~male], dosage[other, ~male])
        men = table_of(dosage[0, male], dosage[other, male])
        assert got[k] == pytest.approx(haplotype_r2_by_search(women, men), abs=2e-4)
    assert not np.isclose(got[0], panel_of(tmp_path, dosage, sex=sex).r2(0, np.array([1]))[0])


def test_panel_uses_founders_and_a_seeded_draw(tmp_path):
    father = ["0"] * 30 + ["p1"] * 10
    prefix = write_fileset(tmp_path, random_dosage(5, 40), father=father)
    genotypes = imgwas.open_genotypes(prefix)
    assert LdPanel(genotypes).n_people == 30
    assert LdPanel(genotypes, settings=LdSettings(nonfounders=True)).n_people == 40
    draws = [LdPanel(genotypes, settings=LdSettings(max_people=10, seed=s)) for s in (1, 1, 2)]
    assert draws[0].n_people == 10
    assert (draws[0].columns == draws[1].columns).all()
    assert (draws[0].columns != draws[2].columns).any()
    with pytest.raises(DegenerateError, match=r"0 people are left.*--nonfounders"):
        LdPanel(genotypes, np.arange(30, 40))
    with pytest.raises(UsageError, match="haplotype"):
        LdSettings("phased")


def test_what_is_decoded_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("imgwas.genetics.ld._CACHE", 40 * 16)
    monkeypatch.setattr("imgwas.genetics.ld._CHUNK", 40 * 4 * 3)
    dosage = random_dosage(60, 40)
    small, others = panel_of(tmp_path, dosage, kind="dosage"), np.arange(1, 60)
    got = small.r2(0, others)
    assert len(small._rows) <= small._room == 16
    monkeypatch.undo()
    whole = panel_of(tmp_path, dosage, kind="dosage").r2(0, others)
    assert np.array_equal(got, whole, equal_nan=True)


def naive_clumps(variants, r2, p1, least, kb):
    """The rule as a sentence: strongest first, take what is near and correlated."""
    order = sorted(range(len(variants)), key=lambda i: (-variants.neg_log10_p[i], i))
    taken, clumps = set(), []
    for i in order:
        if i in taken or variants.neg_log10_p[i] < -np.log10(p1):
            continue
        taken.add(i)
        members = [
            j
            for j in range(len(variants))
            if j not in taken
            and variants.chromosome[j] == variants.chromosome[i]
            and abs(variants.position[j] - variants.position[i]) < kb * 1000
            and r2[i, j] >= least
        ]
        taken.update(members)
        clumps.append((i, sorted(members)))
    return clumps


@pytest.mark.parametrize("seed", range(5))
def test_clumps_follow_the_rule(seed):
    rng = np.random.default_rng(seed)
    m = 120
    variants = Variants(
        rng.integers(0, 3, m), rng.integers(1, 4000, m), rng.integers(0, 12, m) / 2.0
    )
    r2 = rng.random((m, m))
    got = clump(variants, lambda i, others: r2[i, others], p1=1e-2, r2=0.4, kb=1)
    assert [(c.index, sorted(c.members.tolist())) for c in got] == naive_clumps(
        variants, r2, 1e-2, 0.4, 1
    )


def test_untested_variants_are_in_no_clump():
    variants = Variants(np.zeros(3, int), np.arange(1, 4), np.array([9.0, np.nan, 8.0]))
    (only,) = clump(variants, lambda i, others: np.ones(len(others)), p1=1e-3, r2=0.5, kb=1)
    assert (only.index, only.members.tolist()) == (0, [2])


def test_the_distance_itself_is_outside():
    """As measured with PLINK 1.9: --clump-kb 0.05 reaches 49 bases."""
    assert [bases_below(kb) for kb in (0.05, 0.0509, 0.051, 250)] == [49, 49, 50, 249_999]
    variants = Variants(np.zeros(3, int), np.array([100, 149, 150]), np.ones(3))
    assert Neighbours(variants).within(0, bases_below(0.05)).tolist() == [1]


def plink_clumps(bed, values, tmp_path, p1, p2, r2, kb):
    """Index variant, number of members, and members with P up to p2, as PLINK writes them."""
    command = [plink, "--bfile", str(bed.with_suffix("")), "--allow-no-sex", "--clump", str(values)]
    limits = {"p1": p1, "p2": p2, "r2": r2, "kb": kb}
    for name, value in limits.items():
        command += [f"--clump-{name}", str(value)]
    subprocess.run([*command, "--out", str(tmp_path / "t")], check=True, capture_output=True)
    found = []
    for line in (tmp_path / "t.clumped").read_text().splitlines()[1:]:
        words = line.split()
        if words:
            members = [] if words[11] == "NONE" else words[11].split(",")
            found.append((words[2], int(words[5]), {name[:-3] for name in members}))
    return found


@pytest.mark.skipif(plink is None, reason="plink1.9 is not installed here")
@pytest.mark.parametrize("limits", [(1e-3, 0.5, 0.2, 1000), (3e-3, 0.2, 0.05, 5000)], ids=str)
@pytest.mark.parametrize("name", SETS)
def test_clumps_are_those_of_plink(name, limits, tmp_path):
    """Index variants in the same order and the same members, X and ties in P included."""
    bed = data_file(SETS[name])
    genotypes = imgwas.open_genotypes(bed)
    ids = genotypes.variants["variant_id"].to_pylist()
    rng = np.random.default_rng(len(ids))
    p = np.round(rng.random(len(ids)) ** 2, 3) + 1e-6  # many ties
    p[::2] = rng.random(len(p[::2])) ** 2
    text = [f"{one} {value:.6g}\n" for one, value in zip(ids, p, strict=True)]
    (tmp_path / "p.txt").write_text("SNP P\n" + "".join(text))
    p = np.array([float(line.split()[1]) for line in text])
    p1, p2, r2, kb = limits
    expected = plink_clumps(bed, tmp_path / "p.txt", tmp_path, p1, p2, r2, kb)
    position = genotypes.variants["base_pair_location"].to_numpy()
    chromosome = chromosome_numbers(genotypes)[1].astype(np.int64)
    variants = Variants(chromosome, position, -np.log10(p))
    got = [
        (ids[c.index], len(c.members), {ids[i] for i in c.members if p[i] <= p2})
        for c in clump(variants, LdPanel(genotypes).r2, p1=p1, r2=r2, kb=kb)
    ]
    assert len(got) > 20
    assert got == expected
