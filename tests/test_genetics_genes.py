"""Genes of any format against plain loops, catalogues, and what is refused."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

import imgwas
from imgwas.errors import InconsistentError, MalformedError, OpenError
from imgwas.genetics.genes import _shipped, genes_for
from imgwas.genetics.novelty import catalogue_for

GTF = """#!genome-build GRCh38.p14
1\thavana\tgene\t1000\t2000\t.\t+\t.\tgene_id "E1"; gene_name "ALPHA"; gene_type "protein_coding";
1\thavana\texon\t1000\t1100\t.\t+\t.\tgene_id "E1"; gene_name "ALPHA";
1\thavana\tgene\t3000\t4000\t.\t-\t.\tgene_id "E2"; gene_biotype "lncRNA";
chrX\thavana\tgene\t500\t900\t.\t-\t.\tgene_id "E3"; gene_name "XENO"; gene_type "protein_coding";
"""
GFF = """##gff-version 3
#!genome-build GRCh37
NC_000001.10\tRef\tgene\t1000\t2000\t.\t+\t.\tID=gene-1;Name=ALPHA;gene_biotype=protein_coding
1\tens\tncRNA_gene\t3000\t4000\t.\t-\t.\tID=gene:E2;biotype=lncRNA
NC_000023.10\tRef\tgene\t500\t900\t.\t-\t.\tID=gene-3;Name=XENO%2C1;gene_biotype=protein_coding
NC_000001.10\tRef\tmRNA\t1000\t2000\t.\t+\t.\tID=rna-1;Parent=gene-1
"""
BED = "track name=genes\nchr1\t999\t2000\tALPHA\t0\t+\n1\t2999\t4000\tE2\t0\t-\nX\t499\t900\tXENO\n"
GLIST = "1 1000 2000 ALPHA\n1 3000 4000 E2\n23 500 900 XENO\n"
TABLE = "gene\tchrom\tstart\tend\tbiotype\nALPHA\t1\t1000\t2000\tprotein_coding\nE2\t1\t3000\t4000\tlncRNA\nXENO\tX\t500\t900\tprotein_coding\n"  # noqa: E501


@pytest.mark.parametrize(
    ("name", "text", "build"),
    [
        ("genes.gtf", GTF, "GRCh38"),
        ("genes.gff3", GFF, "GRCh37"),
        ("genes.bed", BED, None),
        ("glist-hg19", GLIST, None),
        ("genes.tsv", TABLE, None),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_every_format_says_the_same(tmp_path, name, text, build, is_packed):
    path = tmp_path / (f"{name}.gz" if is_packed else name)
    path.write_bytes(gzip.compress(text.encode()) if is_packed else text.encode())
    genes = imgwas.read_genes(path)
    assert genes.chromosome == ("1", "1", "X")
    assert genes.start.tolist() == [1000, 3000, 500]
    assert genes.end.tolist() == [2000, 4000, 900]
    assert genes.name[:2] == ("ALPHA", "E2")
    assert genes.name[2] in ("XENO", "XENO,1")
    assert genes.build == build
    if name in ("genes.gtf", "genes.gff3", "genes.tsv"):
        assert genes.only(["protein_coding"]).name[0] == "ALPHA"
        assert genes.biotype == ("protein_coding", "lncRNA", "protein_coding")
    if name in ("genes.gtf", "genes.gff3"):
        assert genes.strand == ("+", "-", "-")


def test_nearest_gene_is_that_of_a_plain_loop(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for i in range(300):
        start = int(rng.integers(1, 5_000_000))
        end = start + int(rng.integers(100, 50_000))
        rows.append((rng.choice(["1", "2", "X"]), start, end, rng.choice(["+", "-"]), f"G{i}"))
    text = "".join(f"{c}\t{s - 1}\t{e}\t{n}\t0\t{d}\n" for c, s, e, d, n in rows)
    (tmp_path / "genes.bed").write_text(text)
    genes = imgwas.read_genes(tmp_path / "genes.bed")
    for _ in range(200):
        chromosome, position = str(rng.choice(["1", "2", "X"])), int(rng.integers(1, 5_200_000))
        found = []
        for c, start, end, strand, name in rows:
            if c == chromosome:
                distance = 0 if start <= position <= end else min(
                    abs(position - start), abs(position - end))  # fmt: skip
                found.append((distance, abs(position - (start if strand == "+" else end)), name))
        got = genes.around(chromosome, position)
        assert (got.distance, got.name) == (min(found)[0], min(found)[2])
        assert set(got.within) == {name for distance, _, name in found if distance <= 500_000}
        assert got.within[0] == got.name


def test_sex_chromosomes_and_contigs(tmp_path):
    (tmp_path / "g").write_text(GLIST)
    genes = imgwas.read_genes(tmp_path / "g")
    assert genes.around("X", 950).name == genes.around("XY", 950).name == "XENO"
    assert genes.around("X", 950).distance == 50
    assert genes.around("Y", 950) == ("", None, "", ())
    assert genes.around("chrUn_1", 1).name == ""


def test_table_of_genes_round_trip(tmp_path):
    (tmp_path / "genes.gtf").write_text(GTF)
    genes = imgwas.read_genes(tmp_path / "genes.gtf")
    for name in ("small.tsv.gz", "small.tsv"):
        genes.write(tmp_path / name)
        again = imgwas.read_genes(tmp_path / name)
        assert again.name == genes.name
        assert again.end.tolist() == genes.end.tolist()
        assert (again.strand, again.biotype) == (genes.strand, genes.biotype)
        assert (again.build, again.source) == ("GRCh38", "genes.gtf")


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("absent.gtf", None, OpenError, "cannot be read"),
        ("genes.gtf", b"1\tx\tgene\t5\n", MalformedError, r"genes.gtf:1 has 4 fields"),
        ("genes.gtf", b'1\tx\texon\t1\t2\t.\t+\t.\tgene_id "a"\n', MalformedError, "no genes"),
        ("genes.bed", b"1\tten\t20\tA\n", MalformedError, "position 'ten'"),
        ("genes.tsv", b"chrom\tbegin\tend\tname\n1\t1\t2\tA\n", MalformedError, "none for start"),
        ("genes.gtf.gz", b"\x1f\x8b\x08\x00broken", MalformedError, "damaged or truncated gzip"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_bad_tables_of_genes(tmp_path, name, content, error, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=text):
        imgwas.read_genes(tmp_path / name)


def test_genes_of_another_build_are_refused(tmp_path):
    (tmp_path / "genes.gtf").write_text(GTF)
    with pytest.raises(InconsistentError, match="genes of GRCh38 and the results are in GRCh37"):
        imgwas.read_genes(tmp_path / "genes.gtf", genome_build="GRCh37")
    genes = imgwas.read_genes(tmp_path / "genes.gtf")
    with pytest.raises(InconsistentError, match="of GRCh38 and the results are in GRCh37"):
        genes_for(genes, "GRCh37")
    with pytest.raises(InconsistentError, match=r"no gene .* has the biotype miRNA"):
        imgwas.read_genes(tmp_path / "genes.gtf", biotypes=["miRNA"])


CATALOG = (
    "DATE ADDED\tPUBMEDID\tDISEASE/TRAIT\tCHR_ID\tCHR_POS\tSNPS\tP-VALUE\n"
    "2020\t1\tBrain volume\t1\t1000000\trs1\t1E-9\n"
    "2020\t1\tCortex area\t1\t1400000\trs2\t1E-9\n"
    "2020\t2\tHeight\t2;2\t500;900000\trs3;rs4\t1E-9\n"
    "2020\t2\tHeight\tX\t700\trs5\t1E-9\n"
    "2020\t2\tNowhere\t\t\trs6\t1E-9\n"
)


def test_gwas_catalog(tmp_path):
    (tmp_path / "catalog.tsv").write_text(CATALOG)
    known = imgwas.read_catalogue(tmp_path / "catalog.tsv")
    assert len(known) == 5
    assert known.build == "GRCh38"
    near = known.around("1", 1_300_000, 1_300_000, 1_300_000)
    assert (near.n, near.name, near.distance) == (2, "rs2", 100_000)
    assert near.traits == ("Cortex area", "Brain volume")
    assert known.around("1", 1_900_001, 1_900_001, 1_900_001).n == 0
    assert known.around("1", 1_900_000, 1_900_000, 1_900_000).n == 1
    # inside a long locus, though far from its lead variant
    assert known.around("1", 3_000_000, 1_390_000, 3_000_000).n == 1
    assert known.around("2", 450_000, 450_000, 450_000).n == 2
    assert known.around("X", 1, 1, 1).traits == ("Height",)
    assert known.around("7", 1, 1, 1) == (0, "", None, ())


@pytest.mark.parametrize("text", ["chr,pos\nchr1,1000\n", "chrom position trait\n1 1000 size\n"])
def test_simple_catalogues(tmp_path, text):
    (tmp_path / "known.txt").write_text(text)
    known = imgwas.read_catalogue(tmp_path / "known.txt", genome_build="GRCh37", window_kb=1)
    assert known.around("1", 1500, 1500, 1500).name == "1:1000"
    assert known.around("1", 2500, 2500, 2500).n == 0


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (None, OpenError, "cannot be read"),
        (b"", MalformedError, "none for chromosome"),
        (b"gene\tp\nA\t1\n", MalformedError, "columns gene, p and none for chromosome"),
        (b"chr\tpos\n1\tfar\n", MalformedError, "none of the 1 lines"),
        (b"\x1f\x8bnope", MalformedError, "gzip"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_bad_catalogues(tmp_path, content, error, text):
    if content is not None:
        (tmp_path / "known.tsv").write_bytes(content)
    with pytest.raises(error, match=text):
        imgwas.read_catalogue(tmp_path / "known.tsv")


def test_builds_of_catalogue_and_results_must_agree(tmp_path):
    (tmp_path / "catalog.tsv").write_text(CATALOG)
    (tmp_path / "known.tsv").write_text("chr\tpos\n1\t5\n")
    with pytest.raises(InconsistentError, match="whose positions are GRCh38, and GRCh37 was said"):
        imgwas.read_catalogue(tmp_path / "catalog.tsv", genome_build="GRCh37")
    with pytest.raises(InconsistentError, match="in GRCh38 and the results are in GRCh37"):
        catalogue_for(tmp_path / "catalog.tsv", None, "GRCh37")
    with pytest.raises(InconsistentError, match="--genome-build"):
        catalogue_for(tmp_path / "catalog.tsv", None, None)
    with pytest.raises(InconsistentError, match="--catalogue-build"):
        catalogue_for(tmp_path / "known.tsv", None, "GRCh37")
    assert len(catalogue_for(tmp_path / "known.tsv", "GRCh37", "GRCh37")) == 1
    assert len(catalogue_for(tmp_path / "known.tsv", None, None)) == 1


def test_a_shipped_table_is_found_by_its_build(tmp_path, monkeypatch):
    """One that lies in data/ is used without being asked for."""
    monkeypatch.setattr("imgwas.genetics.genes.resources.files", lambda _: tmp_path)
    monkeypatch.setattr("imgwas.genetics.genes._shipped", _shipped.__wrapped__)
    assert genes_for(None, "GRCh38") is None
    (tmp_path / "genes.gtf").write_text(GTF)
    (tmp_path / "data").mkdir()
    imgwas.read_genes(tmp_path / "genes.gtf").write(tmp_path / "data" / "genes_GRCh38.tsv.gz")
    assert len(genes_for(None, "GRCh38")) == 3
    assert genes_for(None, "GRCh37") is None
    assert genes_for(None, None) is None


@pytest.mark.parametrize(
    ("build", "symbol", "chromosome", "inside"),
    [  # rs429358 lies in APOE, rs9939609 in FTO, rs1800562 in HFE: positions of dbSNP
        ("GRCh37", "APOE", "19", 45_411_941),
        ("GRCh38", "APOE", "19", 44_908_684),
        ("GRCh37", "FTO", "16", 53_820_527),
        ("GRCh38", "FTO", "16", 53_786_615),
        ("GRCh37", "HFE", "6", 26_093_141),
        ("GRCh38", "HFE", "6", 26_092_913),
    ],
)
def test_shipped_genes_hold_variants_known_to_lie_in_them(build, symbol, chromosome, inside):
    genes = genes_for(None, build)
    near = genes.around(chromosome, inside)
    assert (near.name, near.distance, near.biotype) == (symbol, 0, "protein_coding")


@pytest.mark.parametrize("build", ["GRCh37", "GRCh38"])
def test_shipped_genes_are_whole(build):
    genes = genes_for(None, build)
    assert genes.build == build
    assert "NCBI" in genes.source
    assert "public domain" in genes.source
    assert set(genes.chromosome) == {*map(str, range(1, 23)), "X", "Y"}
    assert len(set(genes.name)) > 18_000
    assert (genes.start >= 1).all()
    assert (genes.start <= genes.end).all()
    assert (genes.end - genes.start).max() < 3_000_000
