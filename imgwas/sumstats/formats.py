"""The text formats that other programs read: one table of columns per format.

A column is a heading and the key of its content; ``=`` starts a constant. Keys of the variant are
written once per block for all latents, keys of the statistic once per latent (:mod:`.text`).
Sources: GWAS-SSF 1.0, the outputs that REGENIE and PLINK 2 document, what LDSC's munge step, FUMA
and gwaslab accept unchanged, and the inputs that GCTA-COJO, coloc and TwoSampleMR document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from imgwas.checks import check_option

Columns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Format:
    """How one format writes a table.

    Parameters
    ----------
    suffix : str
        Of the file, without ``.gz``.
    separator : str
        Between columns.
    columns : tuple of (heading, key)
        In order.
    missing : str
        Text of an absent value.
    is_strict : bool
        Whether only A, C, G, T alleles on chromosomes 1 to 25 are legal.
    keeps_untested : bool
        Whether variants without a statistic have a row.
    names_chromosomes : bool
        Whether chromosomes are written ``X``, ``XY``, ``MT`` instead of 23, 23, 25.
    needs_rsid : bool
        Whether only variants with an rs number have a row.
    is_plain : bool
        Whether its reader takes no gzip.
    """

    suffix: str
    separator: str
    columns: Columns
    missing: str = "NA"
    is_strict: bool = False
    keeps_untested: bool = False
    names_chromosomes: bool = False
    needs_rsid: bool = False
    is_plain: bool = False

    def header(self) -> str:
        """First line of the file, without its end."""
        return self.separator.join(heading for heading, _ in self.columns)

    def without(self, keys: Sequence[str]) -> Format:
        """Leave out columns whose content is not known."""
        return replace(self, columns=tuple(c for c in self.columns if c[1] not in keys))


_P = {"neglog10": ("neg_log_10_p_value", "neg_log10_p"), "text": ("p_value", "p")}
_PLINK_P = {"neglog10": ("NEG_LOG10_P", "neg_log10_p"), "text": ("P", "p")}

#: How the P value may be written.
P_COLUMNS = ("neglog10", "text")


def gwas_ssf(p_column: str) -> Format:
    """GWAS-SSF: eight leading columns in their fixed order, ``variant_id`` chr_pos_other_effect."""
    return Format(
        suffix=".tsv",
        separator="\t",
        columns=(
            ("chromosome", "code"),
            ("base_pair_location", "position"),
            ("effect_allele", "effect"),
            ("other_allele", "other"),
            ("beta", "beta"),
            ("standard_error", "standard_error"),
            ("effect_allele_frequency", "frequency"),
            _P[p_column],
            ("variant_id", "key_"),
            ("rsid", "rsid"),
            ("info", "info"),
            ("n", "n"),
        ),
        missing="#NA",
        is_strict=True,
    )


def exchange(p_column: str) -> Format:  # noqa: ARG001
    """The table that LDSC, FUMA and gwaslab read: A1 is the effect allele, P is never 0."""
    return Format(
        suffix=".sumstats.tsv",
        separator="\t",
        columns=(
            ("SNP", "snp"),
            ("CHR", "code"),
            ("BP", "position"),
            ("A1", "effect"),
            ("A2", "other"),
            ("P", "p"),
            ("BETA", "beta"),
            ("SE", "standard_error"),
            ("N", "n"),
            ("FRQ", "frequency"),
            ("INFO", "info"),
        ),
        is_strict=True,
    )


def regenie(p_column: str) -> Format:  # noqa: ARG001
    """REGENIE's columns: ALLELE1 is the effect allele, CHISQ is the chi-square of LOG10P."""
    return Format(
        suffix=".regenie",
        separator=" ",
        columns=(
            ("CHROM", "code"),
            ("GENPOS", "position"),
            ("ID", "id"),
            ("ALLELE0", "other"),
            ("ALLELE1", "effect"),
            ("A1FREQ", "frequency"),
            ("INFO", "info"),
            ("N", "n"),
            ("TEST", "=ADD"),
            ("BETA", "beta"),
            ("SE", "standard_error"),
            ("CHISQ", "chi2"),
            ("LOG10P", "neg_log10_p"),
            ("EXTRA", "=NA"),
        ),
    )


def plink2(p_column: str) -> Format:
    """PLINK 2's ``.glm.linear``: A1 is the effect allele, ALT too; REF is provisional."""
    return Format(
        suffix=".glm.linear",
        separator="\t",
        columns=(
            ("#CHROM", "name"),
            ("POS", "position"),
            ("ID", "id"),
            ("REF", "other"),
            ("ALT", "effect"),
            ("PROVISIONAL_REF?", "=Y"),
            ("A1", "effect"),
            ("OMITTED", "other"),
            ("A1_FREQ", "frequency"),
            ("TEST", "=ADD"),
            ("OBS_CT", "n"),
            ("BETA", "beta"),
            ("SE", "standard_error"),
            ("T_STAT", "t"),
            _PLINK_P[p_column],
            ("ERRCODE", "error_code"),
        ),
        keeps_untested=True,
        names_chromosomes=True,
    )


def cojo(p_column: str) -> Format:  # noqa: ARG001
    """GCTA-COJO's ``.ma``: ids are those of the genotype file, A1 is the effect allele."""
    return Format(
        suffix=".ma",
        separator=" ",
        columns=(
            ("SNP", "id"),
            ("A1", "effect"),
            ("A2", "other"),
            ("freq", "frequency"),
            ("b", "beta"),
            ("se", "standard_error"),
            ("p", "p"),
            ("N", "n"),
        ),
        is_plain=True,
    )


_FUMA = (
    ("A1", "effect"),
    ("A2", "other"),
    ("P", "p"),
    ("BETA", "beta"),
    ("SE", "standard_error"),
    ("N", "n"),
)


def fuma(p_column: str) -> Format:  # noqa: ARG001
    """FUMA by position, which it takes to be GRCh37."""
    columns = (("CHR", "code"), ("BP", "position"), *_FUMA)
    return Format(suffix=".fuma.tsv", separator="\t", columns=columns, is_strict=True)


def fuma_rsid(p_column: str) -> Format:  # noqa: ARG001
    """FUMA by rs number, for positions of any build; variants without one have no row."""
    columns = (("rsID", "rsid"), *_FUMA)
    return Format(
        suffix=".fuma.tsv", separator="\t", columns=columns, is_strict=True, needs_rsid=True
    )


def coloc(p_column: str) -> Format:  # noqa: ARG001
    """What R's coloc takes as a data set of a quantitative trait, a row a variant."""
    return Format(
        suffix=".coloc.tsv",
        separator="\t",
        columns=(
            ("snp", "id"),
            ("chromosome", "code"),
            ("position", "position"),
            ("effect_allele", "effect"),
            ("other_allele", "other"),
            ("beta", "beta"),
            ("varbeta", "variance"),
            ("MAF", "minor_frequency"),
            ("N", "n"),
            ("pvalues", "p"),
            ("type", "=quant"),
        ),
    )


def mr(p_column: str) -> Format:  # noqa: ARG001
    """The columns that R's TwoSampleMR reads without being told; rs numbers where known."""
    return Format(
        suffix=".mr.tsv",
        separator="\t",
        columns=(
            ("SNP", "snp"),
            ("chr", "code"),
            ("pos", "position"),
            ("effect_allele", "effect"),
            ("other_allele", "other"),
            ("eaf", "frequency"),
            ("beta", "beta"),
            ("se", "standard_error"),
            ("pval", "p"),
            ("samplesize", "n"),
        ),
        is_strict=True,
    )


#: name -> (columns, how P is written unless asked otherwise)
FORMATS = {
    "gwas-ssf": (gwas_ssf, "neglog10"),
    "exchange": (exchange, "text"),
    "regenie": (regenie, "neglog10"),
    "plink2": (plink2, "text"),
    "cojo": (cojo, "text"),
    "fuma": (fuma, "text"),
    "fuma-rsid": (fuma_rsid, "text"),
    "coloc": (coloc, "text"),
    "mr": (mr, "text"),
}
#: Formats whose readers know P in more than one way.
_EITHER = ("gwas-ssf", "plink2")


def choose_format(name: str, p_column: str | None = None) -> Format:
    """Look up a format; most write P in the one way their readers know."""
    check_option("format", name, FORMATS)
    make, usual = FORMATS[name]
    if p_column is not None:
        allowed = P_COLUMNS if name in _EITHER else [usual]
        check_option(f"p_column of {name}", p_column, allowed)
    return make(p_column or usual)
