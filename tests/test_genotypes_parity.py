"""The same genotypes by other readers, the same counts and filters by other programs."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from math import factorial
from pathlib import Path

import bed_reader
import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.association.parts import read_block
from imgwas.association.task import ScanSettings, make_task
from imgwas.genotypes import VariantFilters, count_packed, hardy_weinberg_p_value, pack_mask
from imgwas.types import Latents
from tests.data import data_file
from tests.studies import BED_SETS

needs_plink2 = pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")


def dosages_of(name: str, **options: object) -> np.ndarray:
    genotypes = imgwas.open_genotypes(data_file(BED_SETS[name]), **options)
    return genotypes.read_dosages(np.arange(genotypes.n_variants))


@pytest.mark.parametrize("name", BED_SETS)
def test_same_dosages_as_bed_reader(name):
    with bed_reader.open_bed(data_file(BED_SETS[name])) as bed:
        theirs = bed.read(dtype="float32").T
        np.testing.assert_array_equal(dosages_of(name), theirs)
        np.testing.assert_array_equal(dosages_of(name, effect_allele="a2"), 2 - theirs)


@pytest.mark.parametrize("name", BED_SETS)
@pytest.mark.parametrize("reference", ["a1", "a0"])
def test_same_dosages_as_pandas_plink(name, reference):
    pandas_plink = pytest.importorskip("pandas_plink")
    path = data_file(BED_SETS[name])
    array = pandas_plink.read_plink1_bin(str(path), ref=reference, verbose=False)
    theirs = imgwas.Genotypes.from_pandas_plink(array, reference=reference)
    ours = imgwas.open_genotypes(path)
    assert theirs.samples.sample_ids == ours.samples.sample_ids
    assert theirs.variants["chromosome"].equals(ours.variants["chromosome"])
    rows = np.arange(0, ours.n_variants, max(1, ours.n_variants // 500))
    same = np.array(
        [
            a == b
            for a, b in zip(
                theirs.variants["effect_allele"].to_pylist(),
                ours.variants["effect_allele"].to_pylist(),
                strict=True,
            )
        ]
    )[rows, None]
    a, b = theirs.read_dosages(rows), ours.read_dosages(rows)
    np.testing.assert_array_equal(a, np.where(same, b, 2 - b))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1022])
def test_chunks_that_pandas_plink_decodes_wrongly_are_refused(chunk):
    """2.3.2 reads chunks of samples that do not begin at a byte of the file as other people."""
    pandas_plink = pytest.importorskip("pandas_plink")
    from pandas_plink import Chunk

    path = data_file(BED_SETS["plinkqc"])
    array = pandas_plink.read_plink1_bin(
        str(path), verbose=False, chunk=Chunk(nsamples=chunk, nvariants=1024)
    )
    if chunk >= array.shape[0]:
        imgwas.Genotypes.from_pandas_plink(array)
        return
    with pytest.raises(imgwas.ImgwasError, match="multiples of 4"):
        imgwas.Genotypes.from_pandas_plink(array)


def exact_hwe(n_aa: int, n_ab: int, n_bb: int) -> float:
    """Two-sided exact test by the definition, in rational numbers."""
    n, a = n_aa + n_ab + n_bb, 2 * n_aa + n_ab

    def probability(het: int) -> Fraction:
        hom_a, hom_b = (a - het) // 2, (2 * n - a - het) // 2
        ways = factorial(n) // (factorial(hom_a) * factorial(het) * factorial(hom_b))
        alleles = factorial(2 * n) // (factorial(a) * factorial(2 * n - a))
        return Fraction(ways * 2**het, alleles)

    possible = [probability(het) for het in range(a % 2, min(a, 2 * n - a) + 1, 2)]
    observed = probability(n_ab)
    return float(sum(p for p in possible if p <= observed))


def test_hardy_weinberg_equals_the_definition():
    rng = np.random.default_rng(1)
    counts = [(0, 0, 0), (5, 0, 0), (0, 7, 0), (1, 0, 1), (30, 1, 30), (0, 1, 60), (20, 20, 5)]
    counts += [tuple(rng.multinomial(n, rng.dirichlet([1, 1, 1]))) for n in rng.integers(1, 90, 60)]
    found = hardy_weinberg_p_value(*np.array(counts).T)
    for triple, p in zip(counts, found, strict=True):
        if sum(triple):
            assert p == pytest.approx(exact_hwe(*map(int, triple)), rel=1e-9)


def plink2(folder: Path, name: str, *options: str) -> None:
    bed = data_file(BED_SETS[name]).with_suffix("")
    command = ["plink2", "--bfile", str(bed), "--allow-extra-chr", "--out", "p2", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr


@needs_plink2
@pytest.mark.parametrize("name", ["hapmap3", "plinkqc", "maize", "regenie_3chr"])
def test_hardy_weinberg_and_frequencies_equal_plink2(tmp_path, name):
    plink2(tmp_path, name, "--hardy", "--freq")
    genotypes = imgwas.open_genotypes(data_file(BED_SETS[name]))
    rng = np.random.default_rng(0)
    ids = genotypes.samples.sample_ids
    latents = Latents(rng.standard_normal((len(ids), 1)), ids, ("z",))
    results = imgwas.associate(genotypes, latents, out=tmp_path / "out")
    counts = ["n_effect_homozygote", "n_heterozygote", "n_other_homozygote"]
    table = results.variants(
        ["variant_id", "chromosome", "effect_allele", "effect_allele_frequency.0", *counts]
    )
    frequency = pd.read_csv(tmp_path / "p2.afreq", sep="\t", dtype={"ID": str, "ALT": str})
    both = table.merge(frequency, left_on="variant_id", right_on="ID")
    assert len(both) == len(table)
    assert (both["effect_allele"] == both["ALT"]).all()
    autosome = both["chromosome"].isin([str(i) for i in range(1, 23)])
    difference = (both["effect_allele_frequency.0"] - both["ALT_FREQS"]).abs()
    assert difference[autosome & both["ALT_FREQS"].notna()].max() < 1e-5
    on_x = both["chromosome"] == "X"
    if on_x.any() and (np.asarray(genotypes.samples.sex) > 0).all():
        assert difference[on_x].max() < 1e-5
    hardy = pd.read_csv(tmp_path / "p2.hardy", sep="\t", dtype={"ID": str})
    both = table.merge(hardy, left_on="variant_id", right_on="ID")
    ours = hardy_weinberg_p_value(
        both["n_effect_homozygote"].to_numpy(),
        both["n_heterozygote"].to_numpy(),
        both["n_other_homozygote"].to_numpy(),
    )
    np.testing.assert_allclose(ours, both["P"], rtol=2e-5)
    assert len(both) > 100


def surviving(name: str, filters: VariantFilters, **selection: object) -> set[str]:
    """Ids of the variants that a scan keeps."""
    genotypes = imgwas.open_genotypes(data_file(BED_SETS[name]))
    chosen = imgwas.select(genotypes, **selection)
    ids = genotypes.samples.sample_ids
    families = genotypes.samples.family_ids if len(set(ids)) < len(ids) else None
    latents = Latents(
        np.random.default_rng(0).standard_normal((len(ids), 1)), ids, ("z",), family_ids=families
    )
    from imgwas.association.design import build_design

    design = build_design(genotypes.samples, latents, keep=chosen.sample_columns)
    task = make_task(genotypes, design, chosen.rows, ScanSettings(filters=filters), Path("unused"))
    keep, _ = read_block(task, chosen.rows).filtered()
    names = genotypes.variants["variant_id"].to_pylist()
    return {names[row] for row in chosen.rows[keep]}


FILTERS = {
    "--maf": {"maf": 0.05},
    "--mac": {"mac": 20},
    "--geno": {"geno": 0.01},
    "--hwe": {"hwe": 1e-3},
}


@needs_plink2
@pytest.mark.parametrize("option", FILTERS)
@pytest.mark.parametrize("name", ["hapmap3", "plinkqc"])
@pytest.mark.parametrize("half", [False, True])
def test_filters_keep_what_plink2_keeps(tmp_path, name, option, half):
    """Also after half of the people are removed, so that filters see only who is analysed."""
    filters = VariantFilters(**FILTERS[option])
    value = str(*FILTERS[option].values())
    more: list[str] = []
    selection = {}
    if half:
        samples = imgwas.open_genotypes(data_file(BED_SETS[name])).samples
        lines = [
            f"{f}\t{i}"
            for f, i in zip(samples.family_ids[::2], samples.sample_ids[::2], strict=True)
        ]
        (tmp_path / "keep.txt").write_text("\n".join(lines) + "\n")
        more += ["--keep", str(tmp_path / "keep.txt")]
        selection["keep"] = [tmp_path / "keep.txt"]
    plink2(tmp_path, name, option, value, "--write-snplist", *more)
    theirs = set((tmp_path / "p2.snplist").read_text().split())
    ours = surviving(name, filters, **selection)
    if option == "--hwe":
        genotypes = imgwas.open_genotypes(data_file(BED_SETS[name]))
        columns = (genotypes.variants[c].to_pylist() for c in ("variant_id", "chromosome"))
        on_x = {i for i, c in zip(*columns, strict=True) if c == "X"}
        ours, theirs = ours - on_x, theirs - on_x  # see the next test
    assert ours == theirs


@needs_plink2
@pytest.mark.parametrize("name", ["hapmap3", "plinkqc"])
def test_mind_keeps_whom_plink2_keeps(tmp_path, name):
    genotypes = imgwas.open_genotypes(data_file(BED_SETS[name]))
    plink2(tmp_path, name, "--mind", "0.01", "--write-samples")
    theirs = pd.read_csv(tmp_path / "p2.id", sep="\t", dtype=str).iloc[:, -1]
    chosen = imgwas.select(genotypes, mind=0.01)
    ours = [genotypes.samples.sample_ids[i] for i in chosen.sample_columns]
    assert sorted(ours) == sorted(theirs)


@needs_plink2
def test_hardy_weinberg_on_x_is_that_of_females(tmp_path):
    """PLINK 2 also weighs the males' frequency (Graffelman and Weir); without males it agrees."""
    genotypes = imgwas.open_genotypes(data_file(BED_SETS["plinkqc"]))
    samples = genotypes.samples
    women = [
        f"{samples.family_ids[i]}\t{samples.sample_ids[i]}"
        for i in np.flatnonzero(samples.sex == 2)
    ]
    (tmp_path / "women.txt").write_text("\n".join(women) + "\n")
    plink2(tmp_path, "plinkqc", "--keep", "women.txt", "--hwe", "0.01", "--write-snplist")
    theirs = set((tmp_path / "p2.snplist").read_text().split())
    filters = VariantFilters(hwe=0.01)
    assert surviving("plinkqc", filters, keep=[tmp_path / "women.txt"]) == theirs
    chromosomes = genotypes.variants["chromosome"].to_pylist()
    names = genotypes.variants["variant_id"].to_pylist()
    on_x = {name for name, c in zip(names, chromosomes, strict=True) if c == "X"}
    assert on_x & theirs == on_x & surviving("plinkqc", filters)


def test_published_missingness_is_reproduced():
    """PLINK's own .imiss of the plinkqc set; its .lmiss is of 180 people, nobody says which."""
    from imgwas.genotypes import sample_missingness

    path = data_file(BED_SETS["plinkqc"])
    genotypes = imgwas.open_genotypes(path)
    people = pd.read_csv(path.with_suffix(".imiss"), sep=r"\s+")
    ours = sample_missingness(genotypes, np.arange(genotypes.n_variants))
    by_id = dict(zip(genotypes.samples.sample_ids, ours, strict=True))
    np.testing.assert_allclose([by_id[i] for i in people["IID"]], people["F_MISS"], atol=6e-5)


@needs_plink2
@pytest.mark.parametrize("name", ["hapmap3", "plinkqc"])
def test_missing_calls_are_counted_as_in_plink2(tmp_path, name):
    plink2(tmp_path, name, "--missing", "variant-only")
    theirs = pd.read_csv(tmp_path / "p2.vmiss", sep="\t")
    genotypes = imgwas.open_genotypes(data_file(BED_SETS[name]))
    packed = genotypes.read_packed(np.arange(genotypes.n_variants))
    everyone = pack_mask(np.ones(genotypes.n_samples, bool))
    not_y = np.array([c != "Y" for c in genotypes.variants["chromosome"].to_pylist()])
    ours = count_packed(packed, everyone).n_missing
    np.testing.assert_array_equal(ours[not_y], theirs["MISSING_CT"][not_y])


@needs_plink2
def test_chromosomes_and_lists_mean_what_they_mean_in_plink2(tmp_path):
    genotypes = imgwas.open_genotypes(data_file(BED_SETS["hapmap3"]))
    names = genotypes.variants["variant_id"].to_pylist()
    (tmp_path / "in.txt").write_text("\n".join([*names[::3], "stranger"]))
    (tmp_path / "out.txt").write_text("\n".join(names[::5]))
    for ours, theirs in (
        ({"chromosomes": ["1-3", "X"]}, ["--chr", "1-3,X"]),
        ({"chromosomes": ["XY", "MT"]}, ["--chr", "XY,MT"]),
        ({"extract": [tmp_path / "in.txt"]}, ["--extract", "in.txt"]),
        ({"exclude": [tmp_path / "out.txt"]}, ["--exclude", "out.txt"]),
        (
            {"extract": [tmp_path / "in.txt"], "exclude": [tmp_path / "out.txt"]},
            ["--extract", "in.txt", "--exclude", "out.txt"],
        ),
    ):
        plink2(tmp_path, "hapmap3", *theirs, "--write-snplist")
        expected = (tmp_path / "p2.snplist").read_text().split()
        chosen = imgwas.select(genotypes, **ours)
        assert [names[row] for row in chosen.rows] == expected
