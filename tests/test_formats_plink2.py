"""Every genotype format against PLINK 2 on the same file, and against the other formats."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import imgwas
from imgwas.association.selection import Selection
from imgwas.genotypes import VariantFilters, hard_calls
from imgwas.types import Covariates, DosageGenotypes, Latents, PackedGenotypes
from tests.data import data_file
from tests.formats_cohort import make_cohort, needs_plink2, plink2, write_vcf

pytestmark = needs_plink2


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("formats"))


def opened(cohort, name):
    """Open one of the files; a VCF is unpacked beside it."""
    return imgwas.open_genotypes(cohort.folder / name)


def scanned(cohort, name, out, **options):
    latents = Latents(cohort.traits, cohort.ids, ("t0", "t1"))
    covariates = Covariates(cohort.covariates, cohort.ids, ("c0", "c1"))
    return imgwas.associate(
        opened(cohort, name), latents, covariates, out=out, threads=1, **options
    )


def t_of(results, name):
    table = results.latent(name)
    return (table["beta"] / table["standard_error"]).to_numpy()


@pytest.mark.parametrize(
    "name", ["calls.pgen", "calls.bgen", pytest.param("calls.vcf", marks=pytest.mark.slow)]
)
def test_calls_give_the_same_t_in_every_format(cohort, tmp_path, name):
    expected = scanned(cohort, "calls.bed", tmp_path / "bed")
    found = scanned(cohort, name, tmp_path / "other")
    for latent in ("t0", "t1"):
        np.testing.assert_allclose(t_of(found, latent), t_of(expected, latent), atol=2e-5)
    names = ["variant_id", "effect_allele", "other_allele", "base_pair_location"]
    pd.testing.assert_frame_equal(found.variants(names), expected.variants(names))
    double = {"precision": "double"}
    expected = t_of(scanned(cohort, "calls.bed", tmp_path / "bed2", **double), "t1")
    found = t_of(scanned(cohort, name, tmp_path / "other2", **double), "t1")
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "option", "tolerance"),
    [
        ("dosage.pgen", ["--pfile", "dosage"], 2e-5),
        ("dosage.vcf", ["--vcf", "dosage.vcf", "dosage=DS"], 2e-5),
        # PLINK 2 rounds eight bits to 1/16384 when it imports them
        ("dosage.bgen", ["--bgen", "dosage.bgen", "ref-first", "--sample", "dosage.sample"], 3e-4),
    ],
)
def test_dosages_equal_plink2(cohort, tmp_path, name, option, tolerance):
    """T, beta and frequency of ``--glm`` on the same file, which drops the missing."""
    more = ["--pheno", "traits.txt", "--covar", "covariates.txt", "--out", "glm"]
    kept = ["hide-covar", "omit-ref", "cols=+a1freq"]
    plink2(cohort.folder, *option, "--glm", *kept, *more)
    results = scanned(cohort, name, tmp_path / "out", missing_genotype="drop")
    for latent in ("t0", "t1"):
        theirs = pd.read_csv(cohort.folder / f"glm.{latent}.glm.linear", sep="\t")
        ours = results.latent(latent)
        assert ours["variant_id"].tolist() == theirs["ID"].tolist()
        assert ours["effect_allele"].tolist() == theirs["A1"].tolist()
        t = ours["beta"] / ours["standard_error"]
        error = np.abs(t - theirs["T_STAT"]) / np.maximum(1, np.abs(theirs["T_STAT"]))
        assert error.max() < tolerance + 1e-5  # PLINK 2 prints six digits
        apart = np.abs(ours["beta"] - theirs["BETA"]) / theirs["SE"]
        assert apart.max() < 10 * tolerance
        frequency = np.abs(ours["effect_allele_frequency"] - theirs["A1_FREQ"])
        assert frequency.max() < 5e-6 + tolerance / 10


@pytest.mark.parametrize("name", ["dosage.pgen", "dosage.bgen", "dosage.vcf"])
def test_dosages_equal_statsmodels(cohort, tmp_path, name):
    """On the dosages as the VCF writes them; eight bits are within their rounding."""
    results = scanned(cohort, name, tmp_path / "out").latent("t1")
    read = opened(cohort, name).read_dosages(np.arange(len(cohort.dosage))).astype(float)
    assert (np.isnan(read) == np.isnan(cohort.dosage)).all()
    step = 1.01 / 255 if name == "dosage.bgen" else 0.51 / 16384
    assert np.nanmax(abs(read - cohort.dosage)) < step
    for row in range(0, len(read), 3):
        g = np.where(np.isnan(read[row]), np.nanmean(read[row]), read[row])
        model = np.column_stack([np.ones(len(g)), cohort.covariates, g])
        fit = sm.OLS(cohort.traits[:, 1], model).fit()
        assert results["beta"][row] == pytest.approx(fit.params[-1], abs=1e-5 * fit.bse[-1] * 10)
        assert results["standard_error"][row] == pytest.approx(fit.bse[-1], rel=1e-5)


@pytest.mark.parametrize(
    "name", ["dosage.pgen", pytest.param("dosage.bgen", marks=pytest.mark.slow)]
)
def test_quality_equals_plink2(cohort, tmp_path, name):
    """MaCH's r2; filters by it, by frequency and by Hardy-Weinberg keep the same variants."""
    bgen = ["--bgen", "dosage.bgen", "ref-first", "--sample", "dosage.sample"]
    source = bgen if name == "dosage.bgen" else ["--pfile", "dosage"]
    plink2(cohort.folder, *source, "--freq", "cols=+machr2", "--hardy", "--out", "quality")
    theirs = pd.read_csv(cohort.folder / "quality.afreq", sep="\t")
    results = scanned(cohort, name, tmp_path / "out")
    found = results.variants(["imputation_r2", "effect_allele_frequency.0"])
    frequency = found["effect_allele_frequency.0"]
    assert np.abs(frequency - theirs["ALT_FREQS"]).max() < (5e-6 if source != bgen else 5e-5)
    if name == "dosage.pgen":
        assert np.abs(found["imputation_r2"] - theirs["MACH_R2"]).max() < 1e-5
    hardy = pd.read_csv(cohort.folder / "quality.hardy", sep="\t")
    limits = {"maf": theirs["ALT_FREQS"].clip(upper=1 - theirs["ALT_FREQS"]), "hwe": hardy["P"]}
    if name == "dosage.pgen":
        limits["info"] = theirs["MACH_R2"]
    for limit, values in limits.items():
        cut = float(np.sort(values)[len(values) // 3 : len(values) // 3 + 2].mean())
        filters = VariantFilters(**{limit: cut})
        kept = scanned(cohort, name, tmp_path / limit, filters=filters)
        expected = theirs["ID"][values >= cut].tolist()
        assert kept.variants(["variant_id"])["variant_id"].tolist() == expected
        assert 0 < len(expected) < len(values)


def test_hard_calls_of_dosages_are_those_of_make_bed(cohort, tmp_path):
    plink2(cohort.folder, "--pfile", "dosage", "--make-bed", "--out", "rounded")
    expected = opened(cohort, "rounded.bed")
    rows = np.arange(expected.n_variants)
    calls = hard_calls(opened(cohort, "dosage.pgen"))
    assert calls.variants.equals(expected.variants)
    np.testing.assert_array_equal(calls.read_packed(rows), expected.read_packed(rows))
    np.testing.assert_array_equal(calls.read_dosages(rows), expected.read_dosages(rows))


@pytest.mark.parametrize("name", ["calls.pgen", "dosage.pgen", "dosage.bgen", "dosage.vcf"])
def test_the_other_allele_can_be_counted(cohort, name):
    first = opened(cohort, name)
    other = imgwas.open_genotypes(cohort.folder / name, effect_allele="a2")
    rows = np.arange(first.n_variants)
    total = first.read_dosages(rows) + other.read_dosages(rows)
    assert np.nanmax(abs(total - 2)) < 1e-6
    assert (np.isnan(total) == np.isnan(first.read_dosages(rows))).all()
    assert other.variants["effect_allele"].equals(first.variants["other_allele"])


@pytest.mark.parametrize("name", ["calls.pgen", "dosage.pgen", "dosage.bgen", "dosage.vcf"])
def test_any_rows_are_read_alike_here_and_in_another_process(cohort, name):
    genotypes = opened(cohort, name)
    assert isinstance(genotypes, PackedGenotypes if name == "calls.pgen" else DosageGenotypes)
    everything = genotypes.read_dosages(np.arange(genotypes.n_variants))
    again = pickle.loads(pickle.dumps(genotypes))
    assert again == genotypes
    assert again.fingerprint() == genotypes.fingerprint()
    for rows in ([0], [3, 4, 5, 9], [0, 2, 4, genotypes.n_variants - 1], []):
        rows = np.array(rows, np.int64)
        np.testing.assert_array_equal(again.read_dosages(rows), everything[rows])
    assert repr(genotypes)
    genotypes.check_unchanged()


def test_chromosomes_of_calls_and_dosages_are_one_matrix(cohort, tmp_path):
    """A set of files where one has dosages and another only calls."""
    for chromosome, name in ((1, "dosage"), (2, "calls")):
        plink2(cohort.folder, "--pfile", name, "--make-pgen", "--out", f"chr{chromosome}")
    many = imgwas.open_genotypes(f"{cohort.folder}/chr{{chr}}.pgen")
    m = len(cohort.dosage)
    assert many.shape == (2 * m, len(cohort.ids))
    rows = np.array([0, m - 1, m, 2 * m - 1])
    read = many.read_dosages(rows)
    one, two = opened(cohort, "dosage.pgen"), opened(cohort, "calls.pgen")
    np.testing.assert_array_equal(read[:2], one.read_dosages(np.array([0, m - 1])))
    np.testing.assert_array_equal(read[2:], two.read_dosages(np.array([0, m - 1])))
    assert pickle.loads(pickle.dumps(many)) == many
    latents = Latents(cohort.traits, cohort.ids, ("t0", "t1"))
    results = imgwas.associate(many, latents, out=tmp_path / "out", threads=1,
                               selection=Selection(rows))  # fmt: skip
    assert results.n_variants == 4


@pytest.mark.parametrize("data", ["dosage"])
def test_zstd_and_own_ids(cohort, data):
    """BGEN 1.3 with zstd, and ids read from the file itself."""
    export = ["--export", "bgen-1.3", "ref-first", "bits=8", "id-paste=iid", "--out", "zstd"]
    plink2(cohort.folder, "--pfile", data, *export)
    zstd, plain = opened(cohort, "zstd.bgen"), opened(cohort, f"{data}.bgen")
    rows = np.arange(plain.n_variants)
    np.testing.assert_array_equal(zstd.read_dosages(rows), plain.read_dosages(rows))
    (cohort.folder / "zstd.sample").unlink()
    own = opened(cohort, "zstd.bgen")
    assert own.samples.sample_ids == cohort.ids


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 3, 9, 16])
def test_any_number_of_bits_equals_plink2(cohort, bits):
    """Other than eight bits are rounded to 1/16384, as PLINK 2 does."""
    export = ["--export", "bgen-1.2", "ref-first", f"bits={bits}", "id-paste=iid", "--out", "bits"]
    plink2(cohort.folder, "--pfile", "calls" if bits == 1 else "dosage", *export)
    source = ["--bgen", "bits.bgen", "ref-first", "--sample", "bits.sample"]
    plink2(cohort.folder, *source, "--make-pgen", "--out", "bits")
    ours, theirs = opened(cohort, "bits.bgen"), opened(cohort, "bits.pgen")
    rows = np.arange(ours.n_variants)
    a, b = ours.read_dosages(rows), theirs.read_dosages(rows)
    assert (np.isnan(a) == np.isnan(b)).all()
    assert np.nanmax(abs(a - b)) <= 1.01 / 16384


def test_chromosome_x_with_haploid_men(tmp_path):
    """PLINK 2 writes men as haploid into a BGEN; every format gives the t of its ``--glm``."""
    rng = np.random.default_rng(8)
    m, n = 12, 90
    sex = rng.integers(1, 3, n)
    calls = rng.binomial(2, 0.4, (m, n)).astype(float)
    calls[:, sex == 1] = 2 * (calls[:, sex == 1] > 0)
    write_vcf(tmp_path / "x.vcf", calls, calls=True, chromosome="X")
    people = "".join(f"p{i}\t{s}\n" for i, s in enumerate(sex))
    (tmp_path / "sex.psam").write_text("#IID\tSEX\n" + people)
    trait = rng.standard_normal(n) + 0.5 * calls[0]
    rows = "".join(f"p{i}\t{v:.17g}\n" for i, v in enumerate(trait))
    (tmp_path / "trait.txt").write_text("#IID\tt0\n" + rows)
    plink2(tmp_path, "--vcf", "x.vcf", "--psam", "sex.psam", "--make-pgen", "--out", "x")
    export = ["--export", "bgen-1.2", "ref-first", "bits=8", "id-paste=iid"]
    plink2(tmp_path, "--pfile", "x", *export, "--out", "x")
    glm = ["--glm", "hide-covar", "omit-ref", "allow-no-covars", "--pheno", "trait.txt"]
    plink2(tmp_path, "--pfile", "x", *glm, "--out", "glm")
    theirs = pd.read_csv(tmp_path / "glm.t0.glm.linear", sep="\t")
    ids = tuple(f"p{i}" for i in range(n))
    for name, options in (
        ("x.pgen", {}),
        ("x.bgen", {}),
        ("x.vcf", {"psam": tmp_path / "sex.psam"}),
    ):
        genotypes = imgwas.open_genotypes(tmp_path / name, **options)
        assert (genotypes.samples.sex == sex).all()
        read = genotypes.read_dosages(np.arange(m))
        np.testing.assert_allclose(read, calls, atol=1e-6)
        latents = Latents(trait[:, None], ids, ("t0",))
        ours = imgwas.associate(genotypes, latents, out=tmp_path / f"{name}.out", threads=1)
        np.testing.assert_allclose(t_of(ours, "t0"), theirs["T_STAT"], rtol=2e-5, atol=2e-5)


PUBLIC = {
    "regenie_example/example.pgen": ["--pfile", "{}/regenie_example/example"],
    "regenie_example/example_3chr.bgen": [
        "--bgen", "{}/regenie_example/example_3chr.bgen", "ref-first",
        "--sample", "{}/regenie_example/example_3chr.sample"],
    "formats/1kg_phase3_chr21_start.vcf.gz": [
        "--vcf", "{}/formats/1kg_phase3_chr21_start.vcf.gz"],
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_public_files_equal_plink2(tmp_path, name):
    """Every dosage of the file, through PLINK 2's own conversion to a ``.bed``."""
    path = data_file(name)
    folder = path.parents[1]
    plink2(tmp_path, *(part.format(folder) for part in PUBLIC[name]), "--make-bed", "--out", "p")
    options = {"cache": tmp_path / "unpacked"} if path.suffix == ".gz" else {}
    if path.suffix == ".bgen":
        options["sample"] = path.with_suffix(".sample")
    ours = imgwas.open_genotypes(path, **options)
    theirs = imgwas.open_genotypes(tmp_path / "p.bed")
    rows = np.arange(ours.n_variants)
    np.testing.assert_array_equal(ours.read_dosages(rows), theirs.read_dosages(rows))
    assert ours.variants.equals(theirs.variants)
    assert ours.samples.sample_ids == theirs.samples.sample_ids


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "regenie_example/example.bgen",
        "regenie_example/example_3chr_zstd.bgen",
        "formats/chr21_phase3_start.pgen",
        "formats/1kg_eas_hg19.chr7_126253550_128253550.vcf.gz",
    ],
)
def test_more_public_files_equal_plink2(tmp_path, name):
    path = data_file(name)
    stem = str(path.with_suffix(""))
    sample = path.parent / "example_3chr.sample"
    options = {"sample": sample} if "3chr" in name else {}
    source = {
        ".bgen": ["--bgen", str(path), "ref-first"]
        + (["--sample", str(sample)] if options else []),
        ".pgen": ["--pfile", stem, "vzs", "--max-alleles", "2"],
        ".gz": ["--vcf", str(path)],
    }[path.suffix]
    plink2(tmp_path, *source, "--make-bed", "--out", "p")
    if path.suffix == ".gz":
        options["cache"] = tmp_path / "unpacked"
    if path.suffix == ".pgen":
        options["multiallelic"] = "skip"
    ours = imgwas.open_genotypes(path, **options)
    theirs = imgwas.open_genotypes(tmp_path / "p.bed")
    rows = np.arange(ours.n_variants)
    np.testing.assert_array_equal(ours.read_dosages(rows), theirs.read_dosages(rows))
    assert ours.variants.equals(theirs.variants)
