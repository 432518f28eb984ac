"""Exports: every number against the DataFrame of the store, every rule of the formats."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgwas.errors import (
    InconsistentError,
    MalformedError,
    OpenError,
    UsageError,
    WriteError,
)
from imgwas.filenames import file_names
from imgwas.sumstats import bgzf, export, open_sumstats
from imgwas.sumstats.order import ChromosomeRanks, in_order, survey
from tests.store_fixture import random_fixture, write


def make(tmp_path, **given):
    made = random_fixture(tmp_path / "res", **given)
    made.t[11, 0] = 60.0  # P = 1e-580: no double holds it
    made.reason[5, 0] = 1
    write(made)
    return open_sumstats(made.folder)


@pytest.fixture
def sumstats(tmp_path):
    return make(tmp_path)


def read(path, sep="\t"):
    return pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False)


def numbers(column):
    return column.astype(float).to_numpy()


def with_statistic(sumstats, name="L0"):
    frame = sumstats.latent(name)
    return frame[frame["reason"] == ""].reset_index(drop=True)


def test_gwas_ssf(sumstats, tmp_path):
    (table,) = export(sumstats, tmp_path / "out", latents=["L0"])
    frame, wanted = read(table.path), with_statistic(sumstats)
    assert table.path.name == "L0.tsv.gz"
    assert list(frame.columns) == [
        "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta",
        "standard_error", "effect_allele_frequency", "neg_log_10_p_value", "variant_id", "rsid",
        "n",
    ]  # fmt: skip
    assert len(frame) == table.n_rows == 299
    assert table.left_out == {"MONOMORPHIC": 1}
    for name in ("effect_allele", "other_allele"):
        assert (frame[name] == wanted[name]).all()
    for name in ("chromosome", "base_pair_location", "n"):
        assert (frame[name].astype(int) == wanted[name]).all()
    for name in ("beta", "standard_error", "effect_allele_frequency", "neg_log_10_p_value"):
        assert numbers(frame[name]) == pytest.approx(wanted[name].to_numpy(), rel=1.2e-7)
    first = wanted.iloc[0]
    assert frame["variant_id"][0] == f"1_1000_{first['other_allele']}_{first['effect_allele']}"
    assert (frame["rsid"] == wanted["variant_id"]).all()
    assert set(frame["chromosome"]) == {"1", "2", "23"}


def test_p_as_text_keeps_its_exponent(sumstats, tmp_path):
    (table,) = export(sumstats, tmp_path, latents="L0", p_column="text")
    frame, wanted = read(table.path), with_statistic(sumstats)
    assert frame.columns[7] == "p_value"
    assert re.fullmatch(r"\d\.\d+e-\d{3}", frame["p_value"][10])
    found = [float(-Decimal(p).log10()) for p in frame["p_value"]]
    assert found == pytest.approx(wanted["neg_log_10_p_value"].tolist(), abs=5e-6)
    assert max(found) > 500


def test_regenie(sumstats, tmp_path):
    (table,) = export(sumstats, tmp_path, latents=["L1"], format="regenie")
    frame, wanted = read(table.path, " "), with_statistic(sumstats, "L1")
    assert table.path.name == "L1.regenie.gz"
    assert " ".join(frame.columns) == (
        "CHROM GENPOS ID ALLELE0 ALLELE1 A1FREQ N TEST BETA SE CHISQ LOG10P EXTRA"
    )
    assert (frame["ALLELE1"] == wanted["effect_allele"]).all()
    assert (frame["ALLELE0"] == wanted["other_allele"]).all()
    assert numbers(frame["BETA"]) == pytest.approx(wanted["beta"].to_numpy(), rel=1.2e-7)
    from scipy import stats

    p = stats.chi2.sf(numbers(frame["CHISQ"]), 1)
    assert -np.log10(p) == pytest.approx(wanted["neg_log_10_p_value"].to_numpy(), rel=1e-5)
    assert set(frame["TEST"]) == {"ADD"}
    assert set(frame["EXTRA"]) == {"NA"}


def test_exchange_has_text_p_and_no_z(sumstats, tmp_path):
    (table,) = export(sumstats, tmp_path, latents=["L0"], format="exchange")
    frame, wanted = read(table.path), with_statistic(sumstats)
    assert list(frame.columns) == ["SNP", "CHR", "BP", "A1", "A2", "P", "BETA", "SE", "N", "FRQ"]
    assert (frame["A1"] == wanted["effect_allele"]).all()
    assert (frame["SNP"] == wanted["variant_id"]).all()
    assert all(0 < Decimal(p) <= 1 for p in frame["P"])
    assert Decimal(frame["P"][10]) < Decimal("1e-500")


def test_plink2_keeps_untested_rows_with_their_code(sumstats, tmp_path):
    (table,) = export(sumstats, tmp_path, latents=["L0"], format="plink2")
    frame, wanted = read(table.path), sumstats.latent("L0")
    assert table.path.name == "L0.glm.linear.gz"
    assert " ".join(frame.columns) == (
        "#CHROM POS ID REF ALT PROVISIONAL_REF? A1 OMITTED A1_FREQ TEST OBS_CT BETA SE T_STAT P "
        "ERRCODE"
    )
    assert (frame["A1"] == wanted["effect_allele"]).all()
    assert (frame["OMITTED"] == wanted["other_allele"]).all()
    assert list(frame.loc[5, ["BETA", "SE", "T_STAT", "P", "ERRCODE"]]) == [
        "NA", "NA", "NA", "NA", "CONST_ALLELE",
    ]  # fmt: skip
    assert set(frame["ERRCODE"].drop(5)) == {"."}
    assert set(frame["#CHROM"]) == {"1", "2", "X"}
    t = numbers(frame["T_STAT"].drop(5))
    assert t / numbers(frame["BETA"].drop(5)) * numbers(frame["SE"].drop(5)) == pytest.approx(1)


def test_plink2_with_log_p(sumstats, tmp_path):
    (table,) = export(sumstats, tmp_path, latents="L0", format="plink2", p_column="neglog10")
    frame = read(table.path)
    assert frame.columns[14] == "NEG_LOG10_P"
    assert float(frame["NEG_LOG10_P"][11]) > 500


def test_double_precision_is_written_in_full(tmp_path):
    t = np.random.default_rng(0).standard_normal((50, 3))
    sumstats = make(tmp_path, n_variants=50, t=t)
    (table,) = export(sumstats, tmp_path, latents="L0")
    assert numbers(read(table.path)["beta"]).tolist() == with_statistic(sumstats)["beta"].tolist()


def test_tiny_scales_survive_single_precision(tmp_path):
    sumstats = make(tmp_path, n_variants=50, trait_scale=[{"autosome": 1e-45}] * 3)
    (table,) = export(sumstats, tmp_path, latents="L0")
    assert numbers(read(table.path)["beta"]) == pytest.approx(
        with_statistic(sumstats)["beta"].to_numpy()
    )


def test_illegal_alleles_and_contigs_are_left_out_and_counted(tmp_path):
    made = random_fixture(tmp_path / "odd", n_variants=8)
    made.chromosome = ["1"] * 6 + ["scaffold_1"] * 2
    made.effect = ["A", "c", "0", "<DEL>", "AT", "A", "A", "A"]
    made.other = ["G", "G", "G", "G", "G", "*", "G", "G"]
    made.position = np.arange(8) + 5
    write(made)
    sumstats = open_sumstats(made.folder)
    for kind in ("gwas-ssf", "exchange"):
        (table,) = export(sumstats, tmp_path, latents="L0", format=kind)
        assert table.left_out == {"ALLELES_OR_CHROMOSOME_NOT_IN_FORMAT": 5}
        assert table.n_rows == 3
    (table,) = export(sumstats, tmp_path, latents="L0")
    assert list(read(table.path)["effect_allele"]) == ["A", "C", "AT"]
    (table,) = export(sumstats, tmp_path, latents="L0", format="plink2")
    assert list(read(table.path)["#CHROM"]) == ["1"] * 6 + ["scaffold_1"] * 2


def test_zero_t_with_dropped_genotypes_has_no_error_and_is_counted(tmp_path):
    made = random_fixture(tmp_path / "res", n_variants=20)
    made.t[3, 0] = 0
    made.beta = made.t * 2.0
    write(made)
    (table,) = export(open_sumstats(made.folder), tmp_path, latents="L0")
    assert table.left_out == {"NO_STANDARD_ERROR": 1}


def test_quality_is_written_where_it_is_known(tmp_path):
    quality = np.linspace(0, 1, 300)
    sumstats = make(tmp_path, quality=quality)
    for kind, heading in (("gwas-ssf", "info"), ("exchange", "INFO"), ("regenie", "INFO")):
        (table,) = export(sumstats, tmp_path, latents="L1", format=kind)
        found = numbers(read(table.path, " " if kind == "regenie" else "\t")[heading])
        assert found == pytest.approx(np.delete(quality, 5), rel=1e-6)


# --- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gwas-ssf", "plink2"])
def test_a_shuffled_file_is_sorted_row_by_row(tmp_path, kind):
    made = random_fixture(tmp_path / "res", chromosomes=("2", "XY", "10", "X", "Y", "MT"))
    order = np.random.default_rng(2).permutation(300)
    for name in ("chromosome", "variant_id", "effect", "other"):
        setattr(made, name, [getattr(made, name)[i] for i in order])
    made.position = made.position[order]
    write(made, part_size=70)
    sumstats = open_sumstats(made.folder)
    (table,) = export(sumstats, tmp_path, latents="L0", format=kind)
    frame = read(table.path)
    wanted = sumstats.latent("L0").set_index("variant_id")
    ids = frame["rsid" if kind == "gwas-ssf" else "ID"]
    beta = frame["beta" if kind == "gwas-ssf" else "BETA"]
    assert numbers(beta) == pytest.approx(wanted.loc[ids, "beta"].to_numpy(), rel=1e-6)
    ranks = {"2": 2, "10": 10, "23": 23, "X": 23, "24": 24, "Y": 24, "XY": 25, "25": 25, "MT": 26}
    places = [(ranks[c], int(p)) for c, p in zip(frame.iloc[:, 0], frame.iloc[:, 1], strict=True)]
    assert places == sorted(places)
    assert len(places) == 300


def test_pieces_of_a_shuffled_file_are_gathered(tmp_path, monkeypatch):
    monkeypatch.setattr("imgwas.sumstats.order.PIECE", 7)
    monkeypatch.setattr("imgwas.sumstats.order._PARTS_HELD", 2)
    made = random_fixture(tmp_path / "res", n_variants=100, chromosomes=("3", "1", "2"))
    write(made, part_size=11)
    sumstats = open_sumstats(made.folder)
    ranks = ChromosomeRanks(by_name=False)
    assert not survey(sumstats, ranks).is_sorted
    columns = ["chromosome", "base_pair_location", "variant_id"]
    blocks = list(in_order(sumstats, columns, ranks, is_sorted=False))
    assert [block.num_rows for block in blocks[:2]] == [7, 7]
    found = pd.concat([block.to_pandas() for block in blocks], ignore_index=True)
    wanted = sumstats.variants(columns).sort_values(columns[:2], kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(found, wanted)


# --- rs numbers ---------------------------------------------------------------------------------


@pytest.fixture
def unnamed(tmp_path):
    return make(tmp_path, n_variants=30, variant_id=[f"v{i}" for i in range(30)])


def test_without_rs_numbers_the_place_is_the_name(unnamed, tmp_path, caplog):
    (table,) = export(unnamed, tmp_path, latents="L0", format="exchange")
    first = with_statistic(unnamed).iloc[0]
    wanted = f"1:1000:{first['other_allele']}:{first['effect_allele']}"
    assert read(table.path)["SNP"][0] == wanted
    assert "30 of 30 variants have no rs number" in caplog.text
    (table,) = export(unnamed, tmp_path, latents="L0")
    assert "rsid" not in read(table.path)


def test_rs_numbers_by_variant_id(unnamed, tmp_path):
    path = tmp_path / "map.txt"
    path.write_text("v0 rs100\nv2 rs102\nv3 ss5\n")
    for rsids in (path, {"v0": "rs100", "v2": "rs102", "v3": "ss5"}):
        (table,) = export(unnamed, tmp_path, latents="L0", rsids=rsids)
        assert list(read(table.path)["rsid"][:4]) == ["rs100", "#NA", "rs102", "#NA"]


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
def test_rs_numbers_by_place_and_alleles_in_any_order(unnamed, tmp_path, suffix):
    frame = unnamed.latent("L0")
    lines = ["#CHROM\tPOS\tID\tREF\tALT"]
    for i in (0, 1, 25):
        row = frame.iloc[i]
        alleles = [row["effect_allele"], row["other_allele"]][:: 1 if i else -1]
        chromosome = "chrX" if row["chromosome"] == 23 else f"{row['chromosome']}"
        lines.append(f"{chromosome}\t{row['base_pair_location']}\trs{900 + i}\t" +
                     "\t".join(alleles))  # fmt: skip
    lines.append(f"1\t1200\trs7\tAAA\t{frame.iloc[2]['other_allele']}")  # other alleles: no match
    path = tmp_path / f"map{suffix}"
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    (table,) = export(unnamed, tmp_path, latents="L0", format="exchange", rsids=path)
    names = read(table.path)["SNP"].to_list()
    assert [names[i] for i in (0, 1, 24)] == ["rs900", "rs901", "rs925"]
    assert names[2].startswith("1:1200:")


def test_a_map_of_another_form_is_refused(unnamed, tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("a,b,c\n1,2,3\n")
    with pytest.raises(MalformedError, match=r"has the columns a, b, c.* headed chromosome"):
        export(unnamed, tmp_path, rsids=path)
    path.write_text("chromosome,position,ref,alt,rsid\n")
    with pytest.raises(MalformedError, match=r"names of columns and nothing under them"):
        export(unnamed, tmp_path, rsids=path)
    with pytest.raises(OpenError, match=r"map of rs numbers .* does not exist"):
        export(unnamed, tmp_path, rsids=tmp_path / "absent.txt")


# --- files --------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=300), min_size=1, max_size=20, unique=True))
def test_file_names_are_safe_and_different(latents):
    names = file_names(latents)
    assert len({name.lower() for name in names.values()}) == len(latents)
    for name in names.values():
        assert re.fullmatch(r"[A-Za-z0-9+][A-Za-z0-9._+-]{0,95}", name)


@pytest.mark.parametrize("latent", ["../../x", "/", "a/b", "x" * 300, "con", ".", "", "-rf", "ä"])
def test_awkward_latent_names(tmp_path, latent):
    sumstats = make(tmp_path, n_variants=30, names=(latent,))
    (table,) = export(sumstats, tmp_path / "out", latents="all")
    assert table.path.parent == tmp_path / "out"
    assert table.latent == latent
    index = json.loads((tmp_path / "out" / "exported.json").read_text())
    assert index[table.path.name]["latent"] == latent
    assert latent in (tmp_path / "out" / f"{table.path.name}-meta.yaml").read_text("utf-8") or (
        len(latent) > 99
    )


def test_latents_that_differ_in_case_get_different_files():
    assert file_names(["a", "b"]) == {"a": "a", "b": "b"}
    names = file_names(["a", "A"])
    assert names["a"].lower() != names["A"].lower()


def test_index_adds_up(sumstats, tmp_path):
    export(sumstats, tmp_path, latents="L0")
    export(sumstats, tmp_path, latents=["L1"], format="regenie")
    index = json.loads((tmp_path / "exported.json").read_text())
    assert {name: entry["format"] for name, entry in index.items()} == {
        "L0.tsv.gz": "gwas-ssf", "L1.regenie.gz": "regenie",
    }  # fmt: skip
    assert (
        index["L0.tsv.gz"]["md5"] == hashlib.md5((tmp_path / "L0.tsv.gz").read_bytes()).hexdigest()
    )


def test_threads_change_no_byte(sumstats, tmp_path):
    for threads in (1, 4):
        export(sumstats, tmp_path / str(threads), threads=threads)
    for name in ("L0", "L1", "L2"):
        one, four = (tmp_path / str(n) / f"{name}.tsv.gz" for n in (1, 4))
        assert one.read_bytes() == four.read_bytes()


def test_plain_text_is_what_is_compressed(sumstats, tmp_path):
    (packed,) = export(sumstats, tmp_path, latents="L0")
    (plain,) = export(sumstats, tmp_path, latents="L0", compress=False)
    assert plain.path.name == "L0.tsv"
    assert gzip.decompress(packed.path.read_bytes()) == plain.path.read_bytes()
    assert plain.path.read_bytes().endswith(b"\n")
    assert b"\n\n" not in plain.path.read_bytes()


def test_more_latents_than_one_pass_takes(sumstats, tmp_path, monkeypatch):
    monkeypatch.setattr("imgwas.sumstats.exports.TOGETHER", 2)
    seen = []
    tables = export(sumstats, tmp_path, progress=seen.append)
    assert [table.latent for table in tables] == ["L0", "L1", "L2"]
    assert sum(seen) == 900


def test_a_partial_run_is_marked(tmp_path):
    made = random_fixture(tmp_path / "res")
    write(made, complete=False, only_parts=[1])
    (table,) = export(open_sumstats(made.folder, allow_partial=True), tmp_path, latents="L0")
    assert table.path.name == "L0.partial.tsv.gz"
    assert table.n_rows == 128


def test_damage_half_way_leaves_no_table(sumstats, tmp_path):
    part = sumstats.parts[2]
    group = pq.ParquetFile(part).metadata.row_group(0)
    column = next(
        c for c in map(group.column, range(group.num_columns)) if "t.L0" in c.path_in_schema
    )
    content = bytearray(part.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 0xFF
    part.write_bytes(content)
    out = tmp_path / "out"
    with pytest.raises(MalformedError, match=r"part-00002.parquet cannot be read"):
        export(sumstats, out)
    assert list(out.iterdir()) == []


def test_folder_that_cannot_be_made(sumstats, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file"):
        export(sumstats, tmp_path / "file" / "out")
    with pytest.raises(UsageError, match="is a file"):
        export(sumstats, tmp_path / "file")


def test_refusals(sumstats, tmp_path):
    with pytest.raises(UsageError, match=r"format is 'gwas_ssf'.*Did you mean gwas-ssf"):
        export(sumstats, tmp_path, format="gwas_ssf")
    with pytest.raises(UsageError, match="p_column of regenie is 'text'"):
        export(sumstats, tmp_path, format="regenie", p_column="text")
    with pytest.raises(UsageError, match="no latent was named"):
        export(sumstats, tmp_path, latents=[])
    with pytest.raises(UsageError, match="no latent 'L9'"):
        export(sumstats, tmp_path, latents=["L0", "L9"])


def test_a_build_that_contradicts_the_scan(tmp_path):
    sumstats = make(tmp_path, extra={"genome_build": "GRCh37"})
    with pytest.raises(InconsistentError, match="recorded genome build GRCh37, not GRCh38"):
        export(sumstats, tmp_path, genome_build="GRCh38")


def test_blocked_gzip_is_gzip_with_lengths_in_its_headers():
    text = bytes(np.random.default_rng(0).integers(0, 256, 200_000, np.uint8))
    packed = bgzf.compress(text) + bgzf.END
    assert gzip.decompress(packed) == text
    place = 0
    while place < len(packed):  # walk by the BSIZE field alone, as tabix does
        assert packed[place : place + 4] == b"\x1f\x8b\x08\x04"
        assert packed[place + 12 : place + 16] == b"BC\x02\x00"
        size = int.from_bytes(packed[place + 16 : place + 18], "little") + 1
        assert len(zlib.decompress(packed[place : place + size], 31)) <= 65536
        place += size
    assert place == len(packed)


# --- P beyond the range of numbers --------------------------------------------------------------


def strength(text):
    """-log10 of a P value written as text."""
    return float(-Decimal(text).log10())


#: heading of P in each format, and whether it is -log10 P
P_HEADINGS = [
    ("gwas-ssf", "neglog10", "neg_log_10_p_value"), ("gwas-ssf", "text", "p_value"),
    ("exchange", None, "P"), ("regenie", None, "LOG10P"), ("plink2", "text", "P"),
    ("plink2", "neglog10", "NEG_LOG10_P"), ("cojo", None, "p"), ("fuma", None, "P"),
    ("fuma-rsid", None, "P"), ("coloc", None, "pvalues"), ("mr", None, "pval"),
]  # fmt: skip


@pytest.fixture
def extreme(tmp_path):
    """t from 5 to 71, so that P goes beyond 1e-1000."""
    made = random_fixture(tmp_path / "extreme", n_variants=80, dof=(29_000,))
    made.t[:, 0] = np.linspace(5, 71, 80) * np.where(np.arange(80) % 2, 1, -1)
    write(made)
    return open_sumstats(made.folder)


@pytest.mark.parametrize(("kind", "p_column", "heading"), P_HEADINGS)
def test_p_to_1e_1000_survives_export_and_import(extreme, tmp_path, kind, p_column, heading):
    from imgwas.genetics.external import read_statistics

    wanted = extreme.latent("L0")
    expected = wanted["neg_log_10_p_value"].to_numpy()
    assert expected.max() > 1000
    assert (expected > 324).sum() > 30
    (table,) = export(extreme, tmp_path / "out", latents="L0", format=kind, p_column=p_column)
    separator = " " if kind in ("regenie", "cojo") else "\t"
    text = read(table.path, separator)[heading]
    written = numbers(text) if "log" in heading.lower() else np.array([strength(p) for p in text])
    np.testing.assert_allclose(written, expected, rtol=2e-6)
    if kind == "coloc":  # has no other name for its standard error
        return
    again = read_statistics(table.path)
    np.testing.assert_allclose(again.neg_log10_p, expected, rtol=2e-6)
    np.testing.assert_allclose(again.z, wanted["beta"] / wanted["standard_error"], rtol=1e-5)
    assert again.variants.effect_allele == wanted["effect_allele"].tolist()
    assert again.variants.other_allele == wanted["other_allele"].tolist()


def test_p_alone_gives_z_where_it_underflows(tmp_path):
    from imgwas.genetics.external import read_statistics
    from imgwas.sumstats.pvalues import chi2_from_neg_log10_p

    path = tmp_path / "x.tsv"
    path.write_text("SNP\tA1\tA2\tBETA\tP\tN\nrs1\tA\tG\t-1\t3.2e-412\t9\nrs2\tA\tG\t1\t0\t9\n"
                    "rs3\tA\tG\t1\t2.5E-310\t9\n")  # fmt: skip
    found = read_statistics(path)
    assert found.variants.variant_id == ["rs1", "rs3"]  # nothing is known of P = 0
    expected = [412 - np.log10(3.2), 310 - np.log10(2.5)]
    np.testing.assert_allclose(found.neg_log10_p, expected)
    np.testing.assert_allclose(
        found.z, np.sqrt(chi2_from_neg_log10_p(np.array(expected))) * [-1, 1]
    )


def test_cojo(sumstats, tmp_path):
    (table,) = export(sumstats, tmp_path, latents="L0", format="cojo")
    assert table.path.name == "L0.ma"  # GCTA takes no gzip
    frame, wanted = read(table.path, " "), with_statistic(sumstats)
    assert list(frame.columns) == ["SNP", "A1", "A2", "freq", "b", "se", "p", "N"]
    assert (frame["SNP"] == wanted["variant_id"]).all()
    assert (frame["A1"] == wanted["effect_allele"]).all()
    for heading, name in (("b", "beta"), ("se", "standard_error"),
                          ("freq", "effect_allele_frequency"), ("N", "n")):  # fmt: skip
        assert numbers(frame[heading]) == pytest.approx(wanted[name].to_numpy(), rel=1e-6)


def test_coloc_and_mr(sumstats, tmp_path):
    wanted = with_statistic(sumstats)
    (table,) = export(sumstats, tmp_path, latents="L0", format="coloc")
    frame = read(table.path)
    assert numbers(frame["varbeta"]) == pytest.approx(wanted["standard_error"] ** 2, rel=1e-6)
    frequency = wanted["effect_allele_frequency"].to_numpy()
    assert numbers(frame["MAF"]) == pytest.approx(np.minimum(frequency, 1 - frequency), rel=1e-6)
    assert frequency.max() > 0.5
    assert set(frame["type"]) == {"quant"}
    (table,) = export(sumstats, tmp_path, latents="L0", format="mr")
    assert " ".join(read(table.path).columns) == (
        "SNP chr pos effect_allele other_allele eaf beta se pval samplesize"
    )


def test_fuma_by_place_or_by_rs_number(tmp_path):
    ids = [f"rs{i}" if i % 3 else f"v{i}" for i in range(30)]
    sumstats = make(tmp_path, n_variants=30, variant_id=ids)
    (by_place,) = export(sumstats, tmp_path, latents="L0", format="fuma")
    assert " ".join(read(by_place.path).columns) == "CHR BP A1 A2 P BETA SE N"
    (by_name,) = export(sumstats, tmp_path / "r", latents="L0", format="fuma-rsid")
    frame = read(by_name.path)
    assert " ".join(frame.columns) == "rsID A1 A2 P BETA SE N"
    assert by_name.left_out["NO_RS_NUMBER"] == 10
    assert frame["rsID"].tolist() == [one for i, one in enumerate(ids) if i % 3 and i != 5]


def test_fuma_by_rs_number_needs_some(unnamed, tmp_path):
    with pytest.raises(UsageError, match=r"no variant has one.*--rsid-map"):
        export(unnamed, tmp_path, latents="L0", format="fuma-rsid")
    with pytest.raises(UsageError, match="p_column of cojo is 'neglog10'"):
        export(unnamed, tmp_path, latents="L0", format="cojo", p_column="neglog10")
