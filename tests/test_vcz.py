"""VCF Zarr stores: the result of the VCF, and what is damaged is refused."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import imgwas
from imgwas.errors import ImgwasError, MalformedError, MissingLibraryError, OpenError, UsageError
from imgwas.genotypes.vcf_unpack import unpack_vcf
from imgwas.genotypes.vcz_unpack import unpack_vcz
from imgwas.types import DosageGenotypes, Latents, PackedGenotypes
from tests.cli_cohort import imgwas as command_line

zarr = pytest.importorskip("zarr")
HERE = Path(__file__).parent / "public"
IDS = ("007", "p1", "p2", "p3")
HEAD = "\n".join([
    "##fileformat=VCFv4.2", "##contig=<ID=chr1>", "##contig=<ID=X>",
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="c">',
    '##FORMAT=<ID=DS,Number=A,Type=Float,Description="d">',
    "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *IDS]),
]) + "\n"  # fmt: skip
CALLS = (
    "chr1\t5\trs5\tG\tA\t.\t.\t.\tGT\t0/1\t1|1\t./.\t0/.\n"
    "chr1\t9\t.\tTC\tT\t.\t.\t.\tGT\t0|0\t0|1\t1|0\t1|1\n"
    "X\t2\trs2\tC\tG\t.\t.\t.\tGT\t0\t1\t0/1\t.\n"
)
THREE = "X\t3\trs3\tC\tG,T\t.\t.\t.\tGT\t0\t2\t1/2\t0/1\n"
DOSES = (
    "chr1\t5\trs5\tG\tA\t.\t.\t.\tGT:DS\t0/1:0.9\t1|1:2\t./.:.\t0/0:0.125\n"
    "X\t2\trs2\tC\tG\t.\t.\t.\tGT:DS\t0:0.25\t1:1\t0/1:1.5\t.:.\n"
)
CODES = {".": -1}


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """Spare most tests the process of its own."""
    if "child" in request.node.name:
        return

    def here(path, prefix, multiallelic, psam, how):
        run = unpack_vcz if how.module.endswith("vcz_unpack") else unpack_vcf
        return run(path, prefix, multiallelic, psam)

    monkeypatch.setattr("imgwas.genotypes.vcf._in_a_child", here)


def write_both(folder, text, *, zarr_format=2, chunks=2):
    """Write a VCF, and by hand what vcf2zarr makes of it."""
    (folder / "a.vcf").write_text(HEAD + text)
    rows = [line.split("\t") for line in text.splitlines()]
    most = max(1 + len(row[4].split(",")) for row in rows)
    group = zarr.open_group(str(folder / "a.vcz"), mode="w", zarr_format=zarr_format)

    def put(name, values, size):
        array = group.create_array(
            name, shape=values.shape, chunks=size + values.shape[len(size) :],
            dtype=str if values.dtype.kind == "U" else values.dtype,
            config={"write_empty_chunks": True},
        )  # fmt: skip
        array[:] = values

    n, m = len(IDS), len(rows)
    text_of = "U12"
    put("sample_id", np.array(IDS, text_of), (n,))
    put("contig_id", np.array(["chr1", "X"], text_of), (2,))
    put("variant_contig", np.array([["chr1", "X"].index(r[0]) for r in rows], np.int8), (chunks,))
    put("variant_position", np.array([int(r[1]) for r in rows], np.int32), (chunks,))
    put("variant_id", np.array([r[2] for r in rows], text_of), (chunks,))
    alleles = [([r[3], *r[4].split(",")] + [""] * most)[:most] for r in rows]
    put("variant_allele", np.array(alleles, text_of), (chunks, most))
    calls = np.full((m, n, 2), -2, np.int8)
    doses = np.full((m, n, most - 1), np.nan, np.float32)
    for j, row in enumerate(rows):
        for i, cell in enumerate(row[9:]):
            call, _, dose = cell.partition(":")
            for k, allele in enumerate(call.replace("|", "/").split("/")):
                calls[j, i, k] = CODES.get(allele) or int(allele)
            if dose and dose != ".":
                doses[j, i] = float(dose)
    put("call_genotype", calls, (chunks, 3))
    if "DS" in rows[0][8]:
        put("call_DS", doses, (chunks, 3))
    return folder / "a.vcf", folder / "a.vcz"


def read(path, **options):
    """Everything that a reader says."""
    opened = imgwas.open_genotypes(path, **options)
    rows = np.arange(opened.n_variants)
    return opened, opened.read_dosages(rows), opened.variants.to_pydict()


def assert_equal(vcf, vcz, **options):
    (one, a, x), (other, b, y) = read(vcf, **options), read(vcz, **options)
    np.testing.assert_array_equal(a, b)
    assert x == y
    assert one.samples.sample_ids == other.samples.sample_ids
    return other, b


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_calls_haploid_and_half_missing(tmp_path, zarr_format):
    opened, found = assert_equal(*write_both(tmp_path, CALLS, zarr_format=zarr_format))
    assert isinstance(opened, PackedGenotypes)
    assert opened.samples.sample_ids == IDS
    np.testing.assert_array_equal(found[2], [0, 2, 1, np.nan])


def test_dosages(tmp_path):
    opened, found = assert_equal(*write_both(tmp_path, DOSES))
    assert isinstance(opened, DosageGenotypes)
    np.testing.assert_allclose(found[1], [0.5, 2, 1.5, np.nan])


def test_a_typed_variant_among_imputed_ones_counts_its_calls(tmp_path):
    """Its line has no DS, and its dosages in the store are all NaN."""
    typed = "X\t7\trs7\tC\tG\t.\t.\t.\tGT\t0/1\t1/1\t0/0\t./.\n"
    _, found = assert_equal(*write_both(tmp_path, DOSES + typed))
    np.testing.assert_array_equal(found[2], [1, 2, 0, np.nan])


def test_contigs_that_are_all_the_first_need_not_be_stored(tmp_path):
    """As vcf2zarr leaves them out; its index of regions says what they are."""
    first = "".join(line + "\n" for line in CALLS.splitlines()[:2])
    vcf, vcz = write_both(tmp_path, first)
    group = zarr.open_group(str(vcz), mode="a")
    rows, n = group["variant_contig"].shape[0], 2
    for file in (vcz / "variant_contig").rglob("*"):
        if file.is_file() and not file.name.startswith((".", "zarr.json")):
            file.unlink()
    with pytest.raises(MalformedError, match=r"chunks of variant_contig .* absent.*WRITE_EMPTY"):
        read(vcz)
    index = np.array([[0, 0, 5, 9, 9, n]], np.int32)
    group.create_array("region_index", shape=index.shape, dtype=index.dtype)
    group["region_index"][:] = index
    assert rows == n
    assert_equal(vcf, vcz)


def test_text_as_bytes(tmp_path):
    vcf, vcz = write_both(tmp_path, CALLS)
    group = zarr.open_group(str(vcz), mode="a")
    for name in ("sample_id", "contig_id", "variant_id", "variant_allele"):
        values = np.array(group[name][:].tolist(), "S12")
        del group[name]
        group.create_array(
            name, shape=values.shape, dtype=values.dtype, config={"write_empty_chunks": True}
        )[:] = values
    assert_equal(vcf, vcz)


def test_more_alleles(tmp_path):
    vcf, vcz = write_both(tmp_path, CALLS + THREE)
    with pytest.raises(UsageError, match=r"X:3, has 3 alleles"):
        read(vcz)
    for multiallelic in ("skip", "split"):
        assert_equal(vcf, vcz, multiallelic=multiallelic)


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """The 1000 Genomes calls of ``tests/public`` as their authors have them, both ways."""
    folder = tmp_path_factory.mktemp("public")
    shutil.copy(HERE / "vcztools_chr22.vcf.gz", folder / "chr22.vcf.gz")
    with zipfile.ZipFile(HERE / "vcztools_chr22.vcz.zip") as archive:
        archive.extractall(folder / "chr22.vcz")
    return folder


def test_a_store_of_bio2zarr_is_the_vcf(public, tmp_path):
    """Calls, variants and a scan of a published store, and of the VCF that it was made from."""
    paths = public / "chr22.vcf.gz", public / "chr22.vcz"
    opened, found = assert_equal(*paths, multiallelic="split")
    assert opened.n_variants > 100
    assert 0 < np.isnan(found).mean() < 1
    ids = opened.samples.sample_ids
    latents = Latents(np.random.default_rng(1).standard_normal((len(ids), 2)), ids, ("a", "b"))
    digests = [
        imgwas.associate(
            imgwas.open_genotypes(path, multiallelic="skip"), latents, out=tmp_path / path.name
        ).digest()
        for path in paths
    ]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_a_child_reads_the_same(tmp_path, monkeypatch):
    """As users have it: in a process of its own."""
    (tmp_path / "zarr.py").write_text("raise SystemExit('a module of the data was run')")
    monkeypatch.chdir(tmp_path)
    _, vcz = write_both(tmp_path, DOSES)
    assert_equal(*write_both(tmp_path, DOSES))
    damage(vcz, "array")
    with pytest.raises(MalformedError, match="has no variant_allele"):
        read(vcz)


def test_the_command_line(public, tmp_path):
    ids = imgwas.open_genotypes(public / "chr22.vcz", multiallelic="skip").samples.sample_ids
    rows = "".join(f"{one}\t{i % 7}\n" for i, one in enumerate(ids))
    (tmp_path / "z.tsv").write_text("IID\tz\n" + rows)
    done = command_line(
        "associate", "--vcz", public / "chr22.vcz", "--multiallelic", "skip", "--latents", "z.tsv",
        "--out", "out", folder=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.text
    assert imgwas.open_sumstats(tmp_path / "out").latent("z")["n"].max() <= len(ids)


def test_a_changed_store_is_unpacked_again(tmp_path):
    _, vcz = write_both(tmp_path, CALLS)
    assert read(vcz)[1][0, 0] == 1
    write_both(tmp_path, CALLS.replace("0/1", "1/1"))
    assert read(vcz)[1][0, 0] == 2


def damage(vcz, what):
    """Damage a store in some way."""
    files = {
        "absent": "call_genotype/0.1.0",
        "cut": "call_genotype/1.0.0",
        "position": "variant_position/0",
    }
    if what in ("absent", "position"):
        (vcz / files[what]).unlink()
    elif what == "cut":
        path = vcz / files[what]
        path.write_bytes(path.read_bytes()[:-4])
    elif what == "array":
        shutil.rmtree(vcz / "variant_allele")
    elif what == "json":
        (vcz / "call_genotype" / ".zarray").write_text("{")
    elif what == "no group":
        (vcz / ".zgroup").unlink()
    else:
        group = zarr.open_group(str(vcz), mode="r+")
        if what == "allele":
            group["call_genotype"][1, 0, 0] = 5
        elif what == "contig":
            group["variant_contig"][0] = 9
        elif what == "size":
            group["variant_position"].resize((2,))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("absent", r"1 of 4 chunks of call_genotype of .* are absent.*not told from one"),
        ("position", r"1 of 2 chunks of variant_position of .* are absent"),
        ("cut", r"chunk 1.0.0 of call_genotype of .* is cut short"),
        ("array", "has no variant_allele"),
        ("json", "cannot be read"),
        ("no group", "is no Zarr group"),
        ("allele", r"a call of allele 5 of 2"),
        ("contig", "cannot be read"),
        ("size", r"has the shape|chunks of"),
    ],
)
def test_damaged_stores_are_refused(tmp_path, what, words):
    _, vcz = write_both(tmp_path, CALLS)
    damage(vcz, what)
    with pytest.raises(MalformedError, match=words):
        read(vcz)
    assert not list(tmp_path.glob("*.imgwas"))


def test_what_is_no_store(tmp_path, monkeypatch):
    with pytest.raises(OpenError, match="not found"):
        read(tmp_path / "absent.vcz")
    shutil.copy(HERE / "vcztools_chr22.vcz.zip", tmp_path / "a.vcz")
    with pytest.raises(MalformedError, match=r"is a file.*unzip"):
        read(tmp_path / "a.vcz")
    (tmp_path / "there").mkdir()
    _, vcz = write_both(tmp_path / "there", CALLS)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingLibraryError, match=r"imgwas\[zarr\]"):
        read(vcz)


@pytest.mark.slow
def test_fuzz_of_a_store(tmp_path):
    """Any damage of any file is refused, or reads as calls of the alleles that are there."""
    _, vcz = write_both(tmp_path, CALLS)
    whole = read(vcz)[1]
    files = sorted(
        p for p in vcz.rglob("*") if p.is_file() and p.parent.name[:4] in ("call", "vari")
    )
    rng, refused = np.random.default_rng(6), 0
    for _ in range(300):
        path = files[rng.integers(len(files))]
        before = path.read_bytes()
        content = bytearray(before)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content[: rng.integers(1, len(content) + 1)])
        try:
            found = read(vcz)[1]
            assert set(np.unique(found[~np.isnan(found)])) <= {0, 1, 2}
        except ImgwasError:
            refused += 1
        path.write_bytes(before)
    np.testing.assert_array_equal(read(vcz)[1], whole)
    assert refused > 100
