"""Alleles of two tables: every case by hand, and the tables of other programs."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from imgwas.errors import DegenerateError, InconsistentError, MalformedError
from imgwas.genetics.external import read_statistics
from imgwas.genetics.harmonise import (
    VariantTable,
    bare_chromosome,
    compare_alleles,
    harmonise_alleles,
)

#: our alleles, their alleles, our and their frequency, what it is, sign
CASES = [
    ("A/G", "A/G", 0.3, 0.3, "same", 1),
    ("A/G", "G/A", 0.3, 0.7, "swapped", -1),
    ("A/G", "T/C", 0.3, 0.3, "strand", 1),
    ("A/G", "C/T", 0.3, 0.7, "strand_swapped", -1),
    ("A/T", "A/T", 0.3, 0.3, "palindromic_same", 1),
    ("A/T", "T/A", 0.3, 0.7, "palindromic_swapped", -1),
    ("A/T", "T/A", 0.3, 0.3, "palindromic_same", 1),  # the other strand
    ("A/T", "A/T", 0.3, 0.7, "palindromic_swapped", -1),
    ("C/G", "C/G", 0.45, 0.45, "palindromic_dropped", 0),
    ("C/G", "C/G", 0.3, 0.45, "palindromic_dropped", 0),
    ("C/G", "C/G", 0.58, 0.57, "palindromic_dropped", 0),
    ("C/G", "C/G", 0.3, np.nan, "palindromic_dropped", 0),
    ("C/G", "C/G", np.nan, 0.3, "palindromic_dropped", 0),
    ("A/G", "A/C", 0.3, 0.3, "other_alleles", 0),
    ("A/G", "A/T", 0.3, 0.3, "other_alleles", 0),
    ("AT/A", "AT/A", 0.3, 0.3, "same", 1),
    ("AT/A", "A/AT", 0.3, 0.7, "swapped", -1),
    ("a/g", "G/A", 0.3, 0.7, "swapped", -1),
]


def table(alleles, frequencies=None, ids=None, **more):
    effect, other = zip(*(one.split("/") for one in alleles), strict=True)
    ids = ids or [f"rs{i}" for i in range(len(alleles))]
    values = None if frequencies is None else np.array(frequencies, float)
    return VariantTable(ids, effect, other, frequency=values, **more)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}-{c[2]}-{c[3]}")
def test_every_case(case):
    """A plain same variant stands beside each, so that something is always left."""
    ours, theirs, f, their_f, what, sign = case
    both = harmonise_alleles(table(["A/C", ours], [0.2, f]), table(["A/C", theirs], [0.2, their_f]))
    assert both.counts[what] == 1 + (what == "same")
    assert sum(both.counts.values()) == 2
    assert both.sign.tolist() == [1, sign] if sign else [1]


def test_swapping_their_table_turns_every_sign():
    """Which way round the other study wrote its alleles must not matter."""
    rng = np.random.default_rng(0)
    alleles = rng.choice(["A/G", "C/T", "A/C", "G/T"], 200).tolist()
    ours = table(alleles)
    turned = table(["/".join(one.split("/")[::-1]) for one in alleles])
    one, other = harmonise_alleles(ours, table(alleles)), harmonise_alleles(ours, turned)
    np.testing.assert_array_equal(one.sign, -other.sign)
    assert (one.counts["same"], other.counts["swapped"]) == (200, 200)


def test_rows_are_found_by_name_not_by_place():
    ours = table(["A/G"] * 3, ids=["rs1", "rs2", "rs3"])
    theirs = table(["A/G", "G/A"], ids=["rs3", "rs1"])
    both = harmonise_alleles(ours, theirs)
    assert both.ours.tolist() == [0, 2]
    assert both.theirs.tolist() == [1, 0]
    assert both.sign.tolist() == [-1, 1]
    assert both.counts["not_found"] == 1


def test_duplicates_are_left_out_on_either_side():
    ours = table(["A/G"] * 4, ids=["rs1", "rs2", "rs2", "rs3"])
    theirs = table(["A/G"] * 4, ids=["rs3", "rs1", "rs3", "rs2"])
    both = harmonise_alleles(ours, theirs)
    assert both.ours.tolist() == [0]
    assert both.counts["duplicated"] == 3
    assert sum(both.counts.values()) == 4


def test_positions_where_ids_do_not_meet():
    place = {"chromosome": ["1", "chr1", "X"], "position": np.array([10, 20, 30])}
    other = {"chromosome": ["chr1", "1.0", "23"], "position": np.array([10, 20, 30])}
    ours = table(["A/G"] * 3, ids=["a", "b", "c"], **place)
    both = harmonise_alleles(ours, table(["A/G"] * 3, **other))
    assert both.by == "position"
    assert both.ours.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "bare"), [("chr07", "7"), ("23", "X"), ("chrM", "MT"), ("1.0", "1"), ("x", "X")]
)
def test_chromosome_names(name, bare):
    assert bare_chromosome(name) == bare


def test_strand_and_swap_undo_each_other():
    for one in ("A", "C", "G", "T"):
        for other in set("ACGT") - {one}:
            assert compare_alleles((one, other), (one, other)) in ("same", "palindromic")


def test_no_variant_in_both():
    ours = table(["A/G"] * 4, ids=["1:10:A:G", "b", "c", "d"],
                 chromosome=["1"] * 4, position=np.arange(4) + 10)  # fmt: skip
    theirs = table(["A/G"] * 4, chromosome=["2"] * 4, position=np.arange(4))
    expected = r"none of the 4 variants of results .*1:10:A:G at 1:10, b at 1:11, c at 1:12; height"
    with pytest.raises(InconsistentError, match=expected):
        harmonise_alleles(ours, theirs, names=("results", "height"))


def test_builds_that_differ():
    place = {"chromosome": ["1"] * 9, "position": np.arange(9) + 1}
    ours = table(["A/G"] * 9, ids=list("abcdefghi"), genome_build="GRCh37", **place)
    theirs = table(["A/G"] * 9, genome_build="GRCh38", **place)
    with pytest.raises(InconsistentError, match=r"positions of GRCh37 and .* of GRCh38"):
        harmonise_alleles(ours, theirs)
    # by rs number the build does not matter
    assert harmonise_alleles(table(["A/G"] * 9, genome_build="GRCh37"), theirs).by == "id"


def test_alleles_betray_another_build():
    place = {"chromosome": ["1"] * 9, "position": np.arange(9) + 1}
    ours = table(["A/G"] * 9, ids=list("abcdefghi"), **place)
    theirs = table(["A/G"] * 6 + ["A/C"] * 3, **place)
    with pytest.raises(InconsistentError, match=r"3 of 9 variants at the same position have other"):
        harmonise_alleles(ours, theirs)


def test_no_allele_agrees():
    with pytest.raises(InconsistentError, match=r"none of the 2 variants.*other_alleles 2"):
        harmonise_alleles(table(["A/G"] * 2), table(["A/C"] * 2))


HEADERS = {
    "ldsc": "SNP A1 A2 Z N",
    "exchange": "SNP CHR BP A1 A2 P BETA SE N FRQ",
    "gwas-ssf": "chromosome base_pair_location effect_allele other_allele beta standard_error "
    "effect_allele_frequency neg_log_10_p_value rsid n",
    "regenie": "CHROM GENPOS ID ALLELE0 ALLELE1 A1FREQ N TEST BETA SE LOG10P",
    "plink2": "#CHROM POS ID REF ALT A1 A1_FREQ OBS_CT BETA SE P",
    "odds": "SNP A1 A2 OR P N",
}
#: one variant, effect allele A, other G, z = 2, 1000 people
ROWS = {
    "ldsc": "rs1 A G 2 1000",
    "exchange": "rs1 1 100 A G 0.0455002639 0.2 0.1 1000 0.3",
    "gwas-ssf": "1 100 A G 0.2 0.1 0.3 1.342 rs1 1000",
    "regenie": "1 100 rs1 G A 0.3 1000 ADD 0.2 0.1 1.342",
    "plink2": "1 100 rs1 A G A 0.3 1000 0.2 0.1 0.0455",
    "odds": "rs1 A G 1.2 0.0455002639 1000",
}


@pytest.mark.parametrize("layout", HEADERS)
def test_tables_of_other_programs(layout, tmp_path):
    path = tmp_path / "study.tsv.gz"
    lines = "\n".join([HEADERS[layout], ROWS[layout], ""]).replace(" ", "\t")
    path.write_bytes(gzip.compress(lines.encode()))
    study = read_statistics(path)
    assert study.name == "study"
    assert study.variants.effect_allele == ["A"]
    assert study.variants.other_allele == ["G"]
    assert study.variants.variant_id == ["rs1"]
    assert study.z[0] == pytest.approx(2, rel=1e-3)
    assert study.n[0] == 1000


def test_sign_of_a_small_p_value(tmp_path):
    """P underflows to 0 as a double; its logarithm and the sign of beta do not."""
    frame = pd.DataFrame({"SNP": ["rs1"], "A1": "A", "A2": "G", "BETA": -1.0, "LOG10P": 500.0,
                          "N": 10})  # fmt: skip
    frame.to_csv(tmp_path / "x.tsv", sep="\t", index=False)
    assert read_statistics(tmp_path / "x.tsv").z[0] == pytest.approx(-47.9, abs=0.1)


def test_columns_by_hand(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("marker\ttested\trest\tscore\nrs1\tA\tG\t2\nrs2\tA\tG\tNA\n")
    columns = {"variant_id": "marker", "effect_allele": "tested", "other_allele": "rest",
               "z": "score"}  # fmt: skip
    study = read_statistics(path, columns=columns, n=50)
    assert study.variants.variant_id == ["rs1"]
    with pytest.raises(MalformedError, match=r"lacks effect_allele; other_allele; z, or beta"):
        read_statistics(path, n=50)
    with pytest.raises(MalformedError, match="has no column 'zz'"):
        read_statistics(path, columns={"z": "zz"})
    with pytest.raises(MalformedError, match="lacks n"):
        read_statistics(path, columns=columns)


def test_nothing_in_a_table(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("SNP\tA1\tA2\tZ\tN\nrs1\tA\tG\tNA\t5\n")
    with pytest.raises(DegenerateError, match="no row with a statistic"):
        read_statistics(path)
