"""Loci: presets against plain loops over full LD matrices, the MHC, refusals, the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.errors import InconsistentError, MalformedError, OpenError, UsageError
from imgwas.genetics.blocks import Block, merge_blocks
from imgwas.genetics.clumping import Variants
from imgwas.genetics.definition import MHC
from imgwas.genetics.ld import LdPanel
from imgwas.genetics.loci_table import COLUMNS, PAIR_COLUMNS, VARIANT_COLUMNS
from tests.cli_cohort import imgwas as command
from tests.source_tree import ROOT

P1 = 1e-5


class Case:
    """A scanned cohort with long LD, and its LD matrix."""

    def __init__(self, folder):
        self.folder = folder
        self.cohort = imgwas.simulate_cohort(
            folder, n_samples=600, n_variants=700, n_latents=4, n_causal=8, seed=3,
            variance_explained=0.1, chromosomes=("6", "X"), ld_length_kb=1500, missing_rate=0.01,
        )  # fmt: skip
        self.genotypes = imgwas.open_genotypes(self.cohort.bfile)
        self.latents = imgwas.read_latents(self.cohort.latents)
        self.covariates = imgwas.read_covariates(
            self.cohort.covariates, categorical=["sex", "centre"]
        )
        self.results = folder / "results"
        self.sumstats = imgwas.associate(
            self.genotypes, self.latents, self.covariates, out=self.results,
            genome_build="GRCh38", omnibus=True,
        )  # fmt: skip
        best = self.sumstats.best_latent()
        self.best = best
        self.value = best["neg_log_10_p_value"].to_numpy()
        self.position = best["base_pair_location"].to_numpy()
        self.chromosome = best["chromosome"].to_numpy()
        self.ids = best["variant_id"].tolist()
        self.r2 = np.nan_to_num(LdPanel(self.genotypes).matrix(np.arange(len(best))))

    def near(self, i, j, kb):
        return (
            self.chromosome[i] == self.chromosome[j]
            and abs(self.position[i] - self.position[j]) < kb * 1000
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("loci"))


def greedy(case, candidates, least, kb):
    """Strongest first; a candidate in LD with one taken before goes to the first such one."""
    taken = {}
    for i in sorted(candidates, key=lambda i: (-case.value[i], i)):
        before = [j for j in taken if case.near(i, j, kb) and case.r2[j, i] >= least]
        taken.setdefault(before[0] if before else i, []).append(i)
    return taken


def fuma(case, p1=P1, p2=0.05, kb=1000, merge_kb=250):
    """The definition of docs/loci.md by loops over everything."""
    everyone = range(len(case.ids))
    significant = [i for i in everyone if case.value[i] >= -np.log10(p1)]
    independent = list(greedy(case, significant, 0.6, kb))
    leads = greedy(case, independent, 0.1, kb)
    spans = {}
    for i in independent:
        span = [case.position[i]] + [
            case.position[j]
            for j in everyone
            if j != i
            and case.near(i, j, kb)
            and case.r2[i, j] >= 0.6
            and case.value[j] >= -np.log10(p2)
        ]
        spans[i] = min(span), max(span)
    stretches = [
        (case.chromosome[i], min(spans[j][0] for j in mine), max(spans[j][1] for j in mine), mine)
        for i, mine in leads.items()
    ]
    loci = []
    for chromosome, start, end, mine in sorted(stretches):
        last = loci[-1] if loci else None
        if last and last[0] == chromosome and start - last[2] <= merge_kb * 1000:
            last[2] = max(last[2], end)
            last[3] += mine
        else:
            loci.append([chromosome, start, end, list(mine)])
    return [
        (start, end, case.ids[max(index, key=lambda i: (case.value[i], -i))],
         {case.ids[i] for i in index}, sum(i in leads for i in index))
        for _, start, end, index in loci
    ]  # fmt: skip


def test_fuma_loci_are_those_of_the_definition(case):
    loci = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1, mhc="keep")
    of_locus = loci.variants.groupby("locus")["variant_id"].agg(set)
    got = [
        (row.start, row.end, row.lead_variant, of_locus[row.locus], row.n_lead)
        for row in loci.table.itertuples()
    ]
    assert got == fuma(case)
    assert max(len(one[3]) for one in got) > 2  # LD is long enough to test something
    assert loci.table["n_lead"].max() > 1
    assert tuple(loci.table.columns) == COLUMNS


def test_other_numbers_change_the_loci(case):
    loci = imgwas.find_loci(
        case.sumstats, case.genotypes, p1=1e-3, p2=0.5, kb=3000, merge_kb=5, mhc="keep"
    )
    expected = fuma(case, p1=1e-3, p2=0.5, kb=3000, merge_kb=5)
    assert loci.table["lead_variant"].tolist() == [one[2] for one in expected]
    assert loci.table["end"].tolist() == [one[1] for one in expected]


def test_plink_preset_lists_every_clump(case):
    loci = imgwas.find_loci(case.sumstats, case.genotypes, preset="plink", p1=P1, mhc="keep")
    taken, expected = set(), {}
    for i in sorted(range(len(case.ids)), key=lambda i: (-case.value[i], i)):
        if i not in taken and case.value[i] >= -np.log10(P1):
            taken.add(i)
            members = [
                j for j in range(len(case.ids))
                if j not in taken and case.near(i, j, 250) and case.r2[i, j] >= 0.5
            ]  # fmt: skip
            taken.update(members)
            expected[case.ids[i]] = [case.ids[j] for j in members]
    got = {
        row.variant_id: [name for name in row.partners.split(",") if name]
        for row in loci.variants.itertuples()
    }
    assert got == expected
    assert len(loci) == len(expected)


def test_distance_preset_needs_no_genotypes(case):
    loci = imgwas.find_loci(case.sumstats, preset="distance", p1=P1, kb=700, mhc="keep")
    left = {i for i in range(len(case.ids)) if case.value[i] >= -np.log10(P1)}
    expected = []
    while left:
        i = min(left, key=lambda i: (-case.value[i], i))
        expected.append(case.ids[i])
        left -= {j for j in left if j == i or case.near(i, j, 700)}
    assert set(loci.table["lead_variant"]) == set(expected)
    assert loci.definition["ld"] is None
    assert "r2" not in loci.definition


def test_latents_of_a_locus_are_those_that_pass_in_it(case):
    loci = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1)
    top = case.sumstats.top(neg_log10_p=-np.log10(P1))
    for row in loci.table.itertuples():
        code = {"6": 6, "X": 23}[row.chromosome]
        inside = top[(top["chromosome"] == code)
                     & top["base_pair_location"].between(row.start, row.end)]  # fmt: skip
        order = inside.groupby("latent")["neg_log_10_p_value"].max().sort_values(ascending=False)
        assert row.latents.split(",") == list(order.index)
        assert row.n_latents == len(order)
        assert row.n_significant == inside["variant_id"].nunique()
        mine = loci.pairs[loci.pairs["locus"] == row.locus]
        assert mine["neg_log_10_p_value"].tolist() == pytest.approx(order.tolist())


def test_lead_variants_carry_the_effects_of_the_scan(case):
    loci = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1)
    for row in loci.table.itertuples():
        one = case.sumstats.latent(row.latent).set_index("variant_id").loc[row.lead_variant]
        for name in ("beta", "standard_error", "effect_allele", "other_allele", "n",
                     "effect_allele_frequency", "neg_log_10_p_value"):  # fmt: skip
            assert getattr(row, name) == one[name], name


def test_every_planted_variant_is_in_a_locus_and_no_locus_is_elsewhere(case):
    loci = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1)
    truth = case.cohort.truth
    for row in truth.itertuples():
        here = loci.table[loci.table["chromosome"] == row.chromosome]
        assert ((here["start"] <= row.base_pair_location)
                & (here["end"] >= row.base_pair_location)).any()  # fmt: skip


def test_each_latent_by_itself(case):
    each = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1, by="latent")
    assert each.table["locus"].tolist() == list(range(1, len(each) + 1))
    for name in case.sumstats.latents:
        alone = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1, latents=[name]).table
        mine = each.table[each.table["latent"] == name].reset_index(drop=True)
        assert len(alone) > 0
        pd.testing.assert_frame_equal(
            mine.drop(columns="locus"), alone.drop(columns="locus"), check_dtype=False
        )


def test_values_of_another_test_define_loci(case):
    column = "omnibus.combined"
    by_name = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1, neg_log10_p=column)
    values = np.concatenate([b[column] for b in case.sumstats.iter_blocks([column])])
    by_array = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1, neg_log10_p=values)
    pd.testing.assert_frame_equal(by_name.table, by_array.table)
    assert by_name.definition["on"] == column
    lead = by_name.table.iloc[0]
    at = case.ids.index(lead["lead_variant"])
    assert lead["neg_log_10_p_value"] == values[at]
    assert lead["latent_neg_log_10_p_value"] == case.value[at]
    with pytest.raises(UsageError, match=r"no column 'omnibus\.nonsense'"):
        imgwas.find_loci(case.sumstats, case.genotypes, neg_log10_p="omnibus.nonsense")
    with pytest.raises(InconsistentError, match="3 values were given for 700 variants"):
        imgwas.find_loci(case.sumstats, case.genotypes, neg_log10_p=np.ones(3))


def test_blocks_merge_edge_to_edge_and_the_mhc_is_one_locus():
    """The end of a long block counts, not its index variant or where the next one starts."""
    chromosome = np.array([0, 0, 0, 1, 0])
    spans = [(100, 900_000), (200, 300), (1_150_000, 1_160_000), (1, 2), (1_410_001, 1_420_000)]
    variants = Variants(chromosome, np.array([s for s, _ in spans]), np.ones(5))
    none = np.empty(0, np.int64)
    blocks = [Block(i, none, start, end, i) for i, (start, end) in enumerate(spans)]
    merged = merge_blocks(variants, blocks[::-1], 250)
    assert [(x.start, x.end, len(x.blocks)) for x in merged] == [
        (100, 1_160_000, 3), (1_410_001, 1_420_000, 1), (1, 2, 1),
    ]  # fmt: skip
    apart = merge_blocks(variants, blocks, 0)
    assert len(apart) == 4
    one = merge_blocks(variants, blocks, 0, mhc=(0, 890_000, 1_500_000))
    assert [(x.start, x.end) for x in one] == [(100, 1_420_000), (1, 2)]
    assert len(merge_blocks(variants, blocks, None)) == 5


def test_mhc_rules(case):
    """With a threshold that everything passes, so that the MHC has many blocks."""
    start, end = MHC["GRCh38"]
    options = {"preset": "distance", "p1": 0.9, "kb": 20}
    kept, merged, excluded = (
        imgwas.find_loci(case.sumstats, mhc=rule, **options)
        for rule in ("keep", "merge", "exclude")
    )

    def touching(table):
        here = (table["chromosome"] == "6") & (table["start"] <= end) & (table["end"] >= start)
        return int(here.sum())

    assert touching(kept.table) > 1
    assert touching(merged.table) == 1
    assert not excluded.variants.query(
        "chromosome == '6' and base_pair_location >= @start and base_pair_location <= @end"
    ).shape[0]
    inside = ((case.chromosome == 6) & (case.position >= start) & (case.position <= end)).sum()
    assert excluded.definition["mhc_variants_excluded"] == inside
    assert merged.definition["mhc_interval"] == f"6:{start}-{end}"
    assert len(kept) - len(merged) == touching(kept.table) - 1


def test_definition_stands_in_every_table(case, tmp_path):
    loci = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1)
    paths = loci.write(tmp_path / "loci.tsv")
    assert [path.name for path in paths] == [
        "loci.tsv", "loci.variants.tsv", "loci.latents.tsv", "loci.json",
    ]  # fmt: skip
    for path in paths[:3]:
        text = path.read_text()
        for line in ("preset=fuma", "p1=1e-05", "r2=0.6", "lead_r2=0.1", "mhc=merge"):
            assert f"# {line}\n" in text
        assert '"people": 600' in text
    stored = json.loads(paths[3].read_text())
    assert stored["ld"]["people_are_those_of_the_scan"] is True
    assert stored["format"] == "imgwas-loci"
    again = imgwas.read_loci(tmp_path / "loci.tsv")
    for name in ("table", "variants", "pairs"):
        pd.testing.assert_frame_equal(
            getattr(again, name), getattr(loci, name), check_dtype=False, rtol=1e-9
        )
    assert "Loci(" in repr(again)
    assert "<table" in again._repr_html_()


def test_values_far_below_the_smallest_double_survive(case, tmp_path):
    values = np.full(len(case.ids), 0.1)
    values[5] = 1000.25
    loci = imgwas.find_loci(case.sumstats, case.genotypes, neg_log10_p=values)
    loci.write(tmp_path / "loci.tsv")
    assert imgwas.read_loci(tmp_path / "loci.tsv").table["neg_log_10_p_value"].tolist() == [1000.25]


def test_nothing_significant_is_an_empty_table(case, tmp_path):
    done = command("loci", case.results, "--bfile", case.cohort.bfile, "--p1", "1e-200", "--out",
                   "none.tsv", folder=tmp_path)  # fmt: skip
    assert done.code == 0, done.text
    assert "no variant reaches P = 1e-200" in done.text
    loci = imgwas.read_loci(tmp_path / "none.tsv")
    assert len(loci) == 0
    assert tuple(loci.table.columns) == COLUMNS
    assert tuple(loci.variants.columns) == VARIANT_COLUMNS
    assert tuple(loci.pairs.columns) == PAIR_COLUMNS
    assert "# p1=1e-200" in (tmp_path / "none.tsv").read_text()


def copy_fileset(case, folder, change):
    """The genotypes with an edited .bim."""
    (folder / "copy.bed").write_bytes(case.cohort.bfile.with_suffix(".bed").read_bytes())
    (folder / "copy.fam").write_bytes(case.cohort.bfile.with_suffix(".fam").read_bytes())
    lines = case.cohort.bfile.with_suffix(".bim").read_text().splitlines()
    (folder / "copy.bim").write_text("\n".join(change(line.split()) for line in lines) + "\n")
    return imgwas.open_genotypes(folder / "copy")


def test_variants_meet_by_place_and_alleles_where_the_bim_changed(case, tmp_path):
    """Other ids and swapped columns of alleles are the same variants."""
    other = copy_fileset(
        case, tmp_path, lambda w: "\t".join([w[0], f"new{w[1]}", w[2], w[3], w[5], w[4]])
    )
    expected = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1)
    got = imgwas.find_loci(case.sumstats, other, p1=P1)
    pd.testing.assert_frame_equal(got.table, expected.table)


def test_other_genotypes_are_refused(case, tmp_path):
    other = copy_fileset(case, tmp_path, lambda w: "\t".join([*w[:3], str(int(w[3]) + 1), *w[4:]]))
    with pytest.raises(InconsistentError, match=r"of the 700 variants of .* are in .*run\.json"):
        imgwas.find_loci(case.sumstats, other, p1=P1)


def test_significant_variants_without_genotypes_stand_alone(case, tmp_path, caplog):
    expected = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1)
    lost = expected.table.sort_values("neg_log_10_p_value")["lead_variant"].iloc[-1]
    moved = copy_fileset(
        case, tmp_path,
        lambda w: "\t".join([*w[:3], "1" if w[1] == lost else w[3], *w[4:]]),
    )  # fmt: skip
    loci = imgwas.find_loci(case.sumstats, moved, p1=P1)
    row = loci.variants.set_index("variant_id").loc[lost]
    assert row["n_partners"] == 0
    assert "1 significant variants have no genotypes and stand alone" in caplog.text


def test_people_other_than_the_scan_s_are_mentioned(case, caplog, tmp_path):
    keep = tmp_path / "keep.txt"
    keep.write_text("\n".join(case.genotypes.samples.sample_ids[:300]) + "\n")
    done = command("loci", case.results, "--bfile", case.cohort.bfile, "--p1", P1, "--keep", keep,
                   "--out", "some.tsv", folder=tmp_path)  # fmt: skip
    assert done.code == 0
    assert "LD is measured among 300 people, who are not exactly the 600 of the scan" in done.text
    stored = json.loads((tmp_path / "some.json").read_text())
    assert stored["ld"]["people"] == 300
    assert stored["ld"]["people_are_those_of_the_scan"] is False


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"preset": "Fuma"}, UsageError, "Did you mean fuma"),
        ({"preset": "fuma", "genotypes": None}, UsageError, "needs genotypes to measure LD"),
        ({"genome_build": "GRCh37"}, InconsistentError, "recorded the genome build GRCh38"),
        ({"genome_build": "hg19"}, UsageError, "GRCh37"),
        ({"mhc": "drop"}, UsageError, "merge"),
        ({"r2": 1.5}, UsageError, "from 0 to 1"),
        ({"latents": ["nobody"]}, UsageError, "no latent 'nobody'"),
        ({"by": "latent", "neg_log10_p": np.ones(700)}, UsageError, "exclude each other"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_refusals(case, options, error, text):
    given = {"genotypes": case.genotypes, **options}
    with pytest.raises(error, match=text):
        imgwas.find_loci(case.sumstats, **given)


def test_an_mhc_rule_needs_a_build(case):
    case.sumstats.metadata["genome_build"] = None
    try:
        with pytest.raises(UsageError, match="--genome-build GRCh37 or GRCh38"):
            imgwas.find_loci(case.sumstats, case.genotypes, mhc="merge")
        loci = imgwas.find_loci(case.sumstats, case.genotypes, p1=P1)
        assert loci.definition["mhc"] == "keep"
    finally:
        case.sumstats.metadata["genome_build"] = "GRCh38"


def test_values_of_a_table(case, tmp_path):
    table = pd.DataFrame({"variant_id": case.ids, "joint": case.value})
    table.sample(frac=1, random_state=1).to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    words = ["loci", case.results, "--bfile", case.cohort.bfile, "--p1", P1, "--out"]
    done = command(*words, "a.tsv", "--table", "t.tsv", "--column", "joint", folder=tmp_path)
    assert done.code == 0, done.text
    assert command(*words, "b.tsv", folder=tmp_path).code == 0
    a, b = (imgwas.read_loci(tmp_path / name).table for name in ("a.tsv", "b.tsv"))
    pd.testing.assert_frame_equal(a, b, rtol=1e-6)
    done = command(*words, "c.tsv", "--table", "t.tsv", "--column", "jiont", folder=tmp_path)
    assert done.code == 8
    assert "Did you mean joint" in done.text
    done = command(*words, "c.tsv", "--table", "t.tsv", folder=tmp_path)
    assert "needs --column" in done.text
    table.assign(joint=-1).to_csv(tmp_path / "bad.tsv", sep="\t", index=False)
    done = command(*words, "c.tsv", "--table", "bad.tsv", "--column", "joint", folder=tmp_path)
    assert done.code == 6
    assert "below zero" in done.text


def test_command_line(case, tmp_path):
    words = ["loci", case.results, "--bfile", case.cohort.bfile, "--out", "loci.tsv"]
    done = command(*words, "--study-wide", folder=tmp_path)
    assert done.code == 0, done.text
    assert "loci, " in done.text
    definition = json.loads((tmp_path / "loci.json").read_text())
    assert definition["p1"] == 5e-8 / 4
    done = command(*words, "--study-wide", "--p1", "1e-5", folder=tmp_path)
    assert done.code == 8
    done = command("loci", case.results, "--out", "x.tsv", folder=tmp_path)
    assert done.code == 8
    assert "does not record the command of its scan. Add --bfile" in done.text
    done = command("loci", case.results, "--preset", "distance", "--out", "d.tsv", folder=tmp_path)
    assert done.code == 0, done.text


def test_loci_that_are_not_there(tmp_path):
    with pytest.raises(OpenError, match="Run imgwas loci first"):
        imgwas.read_loci(tmp_path / "loci.tsv")
    for part in ("loci.tsv", "loci.variants.tsv", "loci.latents.tsv"):
        (tmp_path / part).write_text("a\tb\n1\t2\n")
    with pytest.raises(MalformedError, match="no column 'locus'"):
        imgwas.read_loci(tmp_path / "loci.tsv")


def test_columns_are_documented():
    page = (ROOT / "docs/loci.md").read_text(encoding="utf-8")
    for name in {*COLUMNS, *VARIANT_COLUMNS, *PAIR_COLUMNS}:
        assert f"`{name}`" in page, name


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 5])
def test_causal_variants_that_are_significant_are_in_loci_and_no_locus_is_false(seed, tmp_path):
    """128 planted effects, of which about two thirds have the power to pass."""
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=5000, n_variants=20_000, n_latents=16, n_causal=128, seed=seed,
        variance_explained=0.006, chromosomes=("19", "20", "21", "22"),
    )  # fmt: skip
    covariates = imgwas.read_covariates(cohort.covariates, categorical=["sex", "centre"])
    genotypes = imgwas.open_genotypes(cohort.bfile)
    latents = imgwas.read_latents(cohort.latents)
    results = imgwas.associate(genotypes, latents, covariates, out=tmp_path / "results")
    table = imgwas.find_loci(results, genotypes).table
    tested = {name: results.latent(name).set_index("variant_id") for name in results.latents}
    is_true = np.zeros(len(table), bool)
    n_significant = 0
    for row in cohort.truth.itertuples():
        value = tested[row.latent].loc[row.variant_id, "neg_log_10_p_value"]
        near = (table["chromosome"] == row.chromosome).to_numpy()
        near &= (table["start"] - 250_000 <= row.base_pair_location).to_numpy()
        near &= (table["end"] + 250_000 >= row.base_pair_location).to_numpy()
        near &= np.array([row.latent in names.split(",") for names in table["latents"]])
        is_true |= near
        n_significant += value >= -np.log10(5e-8)
        assert near.any() or value < -np.log10(5e-8), row.variant_id
    assert n_significant > 60
    assert is_true.all()
