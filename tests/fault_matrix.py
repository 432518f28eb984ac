"""Which test covers which row of the fault tables, and the page that says so.

``python -m tests.fault_matrix`` writes the tables of ``docs/reliability.md`` again;
``tests/test_fault_matrix.py`` fails where they are stale or name a test that does not exist. A test
is ``file::function``, or ``file::function[A1 `` for the cases of a parametrised one whose names
begin so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.source_tree import ROOT

PAGE = ROOT / "docs" / "reliability.md"
#: Rows that the first release promises.
FIRST = (
    ("A", (*range(1, 14), 20, 21)),
    ("C", tuple(range(1, 22))),
    ("D", tuple(range(1, 10))),
    ("E", tuple(range(1, 7))),
    ("F", tuple(range(1, 7))),
    ("G", tuple(range(1, 12))),
    ("H", tuple(range(1, 11))),
    ("I", (*range(1, 12), *range(18, 22))),
    ("J", tuple(range(1, 8))),
)
#: Rows of each group in the tables that the project is built against.
ROWS = {"A": 23, "B": 9, "C": 24, "D": 14, "E": 12, "F": 10, "G": 15, "H": 15, "I": 22, "J": 7}
TITLES = {
    "A": "PLINK 1 genotypes",
    "B": "PLINK 2 and BGEN genotypes",
    "C": "Phenotypes and covariates",
    "D": "Latents",
    "E": "Images",
    "F": "Checkpoints",
    "G": "Statistics without an answer",
    "H": "Command line and environment",
    "I": "Processes, machines, clusters",
    "J": "Hostile input",
}


@dataclass(frozen=True)
class Row:
    """A fault, what happens, with which exit code, and the tests that show it.

    ``missing`` says why no test does, or what of the row is left out.
    """

    name: str
    fault: str
    happens: str
    code: str
    tests: tuple[str, ...] = ()
    missing: str = ""


def row(name: str, fault: str, happens: str, code: str, *tests: str, missing: str = "") -> Row:
    return Row(name, fault, happens, code, tests, missing)


CLI = "test_cli_bad_inputs.py::test_bad_input"
BED = "test_genotypes_faults.py::test_a_damaged_fileset_is_refused_in_words_that_help"
TABLE = "test_tables_faults.py::test_fault"
IMAGE = "test_cli_images_bad_inputs.py::test_bad_images"
CHECKPOINT = "test_cli_images_bad_inputs.py::test_bad_checkpoints"
SETTING = "test_cli_images_bad_inputs.py::test_bad_settings"
TOGETHER = "test_cli_images_bad_inputs.py::test_what_does_not_belong_together"
ALIGN, DESIGN, KERNEL = "test_alignment.py::", "test_design.py::", "test_kernel.py::"
ENV, WORK, INPUT = (f"test_faults_{name}.py::" for name in ("environment", "workers", "inputs"))
RESUME, ENGINE, LAUNCH = "test_resume.py::", "test_engines.py::", "test_launchers.py::"
FUZZ = "test_fuzz.py::"


# fmt: off
def genotypes() -> Iterator[Row]:
    yield row("A1", ".bed cut short", "expected and actual bytes, last complete variant", "6",
              f"{BED}[A1 ", f"{CLI}[A1 ")
    yield row("A2", ".bed too long", "bytes too many, whose .fam it may be", "6",
              f"{BED}[A2 ", f"{CLI}[A2 ")
    yield row("A3", ".fam has lost people", "set bits after the last person are found", "7",
              f"{BED}[A3 ", f"{CLI}[A3 ",
              "test_cli_check.py::test_full_reads_what_a_thousand_variants_do_not_show")
    yield row("A4", ".fam has people too many", "last people that look like padding", "7",
              f"{BED}[A4 ",
              "test_genotypes_faults.py::test_people_are_not_taken_for_padding_without_evidence")
    yield row("A5", ".bim of another .bed", "both counts, the file at fault", "7",
              f"{BED}[A5 ", f"{CLI}[A5 ")
    yield row("A6", "magic wrong, sample-major, empty", "a message each, the command to convert",
              "6", f"{BED}[A6 ", f"{CLI}[A6 ")
    yield row("A7", "gzip, zstd, LFS pointer, web page", "what it is, how to unpack it", "6",
              f"{BED}[A7 ", f"{CLI}[A7 ")
    yield row("A8", "fields missing, short last line, blank line", "file, line, fields", "6",
              f"{BED}[A8 ", f"{CLI}[A8 ")
    yield row("A9", "tabs and spaces mixed, CRLF", "accepted", "0",
              "test_genotypes_plink.py::test_spellings_of_tables_that_mean_the_same")
    yield row("A10", "IID twice", "matched by FID and IID, or refused with the count", "7",
              f"{CLI}[A10 ", f"{ALIGN}test_an_iid_that_repeats_is_told_apart_by_its_family",
              f"{ALIGN}test_an_iid_that_repeats_without_families_is_refused")
    yield row("A11", "FID all 0, absent or another", "matched by IID", "0",
              f"{ALIGN}test_family_ids_are_ignored_while_iids_are_unique")
    yield row("A12", "ids such as 007, 1e5, NA, True", "text, byte by byte", "0",
              "test_genotypes_plink.py::test_ids_stay_what_they_are",
              f"{ALIGN}test_ids_are_compared_as_text")
    yield row("A13", "ids that are not UTF-8", "line, byte, the iconv command", "6",
              f"{BED}[A13 ", f"{CLI}[A13 ", f"{TABLE}[A13 ")
    yield row("A14", "positions that are none", "line and text of the position", "6",
              f"{BED}[A14 ", f"{CLI}[A14 ")
    yield row("A15", "variants in any order", "scanned as they come; figures and exports sort", "0",
              f"{INPUT}test_variants_in_any_order_have_the_same_numbers",
              "test_export.py::test_a_shuffled_file_is_sorted_row_by_row")
    yield row("A16", "variant ids that repeat", "the row is the key", "0",
              f"{INPUT}test_variants_of_one_name_stay_apart")
    yield row("A17", "alleles 0, equal, long, symbolic", "scanned; left out of exports, counted",
              "0", "test_export.py::test_illegal_alleles_and_contigs_are_left_out_and_counted")
    yield row("A18", "chr1, 01, 23, X, PAR1, contigs", "one name each", "0",
              "test_genotypes_plink.py::test_chromosomes_have_one_name",
              "test_scan.py::test_sex_chromosomes_use_the_people_and_covariates_documented")
    yield row("A19", "heterozygous males on X", "counted; --set-hh-missing", "0",
              "test_haploid.py::test_they_are_counted_and_said",
              "test_haploid.py::test_set_missing_as_plink_does")
    yield row("A20", "filesets of other people", "the first row that differs, masked", "7",
              f"{BED}[A20 ", f"{CLI}[A20 ",
              "test_cli_check.py::test_every_fileset_of_a_pattern_is_looked_at")
    yield row("A21", ".bed replaced under or between runs", "refused; parts are of one file", "7",
              f"{RESUME}test_a_genotype_file_changed_under_a_run_is_refused",
              f"{RESUME}test_a_genotype_file_changed_between_runs_is_refused")
    yield row("A22", "another genome build than stated", "a build that contradicts is refused", "7",
              "test_export.py::test_a_build_that_contradicts_the_scan",
              missing="positions are not compared with known variants")
    yield row("A23", "no such fileset", "paths that were tried", "3", f"{BED}[A23 ",
              f"{CLI}[A23 ")


def newer_genotypes() -> Iterator[Row]:
    text = {
        "B1": ("BGEN without ids", "7"), "B2": (".sample of other people", "7"),
        "B3": ("second line of a .sample", "6"), "B4": ("index of another file", "7"),
        "B5": ("block cut or damaged", "14"), "B6": ("phased, other ploidy, other bits", "6"),
        "B7": ("probabilities that do not sum to 1", "6"),
        "B8": (".pvar or .psam that do not fit", "7"), "B9": ("headers that claim too much", "6"),
    }
    for name, (fault, code) in text.items():
        tests = B_TESTS.get(name, ())
        missing = "" if tests else "no test yet"
        yield row(name, fault, B_HAPPENS.get(name, ""), code, *tests, missing=missing)


#: Filled by the tests of ``test_pgen*``, ``test_bgen*`` and ``test_vcf*``.
B_TESTS: dict[str, tuple[str, ...]] = {
    "B1": ("test_bgen.py::test_b1_no_ids",),
    "B2": ("test_bgen.py::test_b2_sample_of_other_people",),
    "B3": ("test_bgen.py::test_b3_second_line_of_types_is_optional",
           "test_bgen.py::test_b3_a_person_who_looks_like_types_is_not_eaten",
           "test_bgen.py::test_b3_sample_files_that_are_wrong"),
    "B4": ("test_bgen.py::test_b4_a_stale_index_is_told_and_not_used",
           "test_bgen.py::test_b4_an_index_of_other_variants_is_refused"),
    "B5": ("test_bgen.py::test_b5_a_damaged_block_is_named_with_its_byte",
           "test_bgen.py::test_b5_a_bomb_is_not_unpacked"),
    "B6": ("test_bgen.py::test_haploid_phased_and_wide_blocks",
           "test_bgen.py::test_b6_blocks_that_are_not_read"),
    "B7": ("test_bgen.py::test_b7_probabilities_above_one",),
    "B8": ("test_pgen.py::test_b8_tables_of_another_fileset",
           "test_pgen.py::test_b8_other_storage_modes"),
    "B9": ("test_bgen.py::test_b9_numbers_that_cannot_be_true",
           "test_pgen.py::test_b9_numbers_that_cannot_be_true"),
}  # fmt: skip
B_HAPPENS: dict[str, str] = {
    "B1": "refused: `--sample` is asked for",
    "B2": "another number or order of people is refused",
    "B3": "accepted with and without; no person is eaten",
    "B4": "told and not used; one of other variants is refused",
    "B5": "the variant and its byte are named",
    "B6": "read, or refused by name",
    "B7": "missing; from 0.1 % of people on, refused",
    "B8": "both counts are named; other modes are refused by name",
    "B9": "refused before anything is allocated",
}


def tables() -> Iterator[Row]:
    read = "test_tables_reading.py::"
    yield row("C1", "ids as numbers, NA, truth values", "text; floating-point ids are refused", "0",
              f"{read}test_ids_survive_every_form", f"{CLI}[C1 ", f"{TABLE}[C1 ")
    yield row("C2", "a field more than the header", "line, fields found and expected", "6",
              f"{TABLE}[C2 ", f"{CLI}[C2 ")
    yield row("C3", "short rows, blank lines", "line, fields found and expected", "6",
              f"{TABLE}[C3 ", f"{CLI}[C3 ")
    yield row("C4", "a quotation mark left open", "its line", "6", f"{TABLE}[C4 ",
              f"{read}test_any_csv_reads_as_the_csv_module_reads_it_or_is_refused")
    yield row("C5", "cut in the last line, gzip cut short", "the line; a line without end is told",
              "6", f"{TABLE}[C5 ", f"{CLI}[C5 ",
              f"{read}test_a_file_that_may_have_been_cut_is_mentioned")
    yield row("C6", "byte-order mark, CRLF, CR", "accepted, and said", "0",
              f"{read}test_spellings_of_a_table")
    yield row("C7", "characters that nobody sees", "line and code point", "6", f"{TABLE}[C7 ",
              f"{CLI}[C7 ", "test_tables_faults.py::test_every_invisible_character_is_seen")
    yield row("C8", "decimal comma, thousands, 1_000", "line, column, text, the cure", "6",
              f"{TABLE}[C8 ", f"{CLI}[C8 ")
    yield row("C9", "a column twice", "its name", "6", f"{TABLE}[C9 ", f"{CLI}[C9 ")
    yield row("C10", "no header", "asks for one, or for the column of ids", "6", f"{TABLE}[C10 ",
              f"{CLI}[C10 ")
    yield row("C11", "a person twice", "how many rows; one visit must be kept", "7",
              f"{TABLE}[C11 ", f"{CLI}[C11 ")
    yield row("C12", "-9 beside -9.4", "PLINK 2's rule: refused", "6", f"{TABLE}[C12 ",
              f"{CLI}[C12 ")
    yield row("C13", "text or inf among numbers", "line, column, text, never the id", "6",
              f"{TABLE}[C13 ", f"{CLI}[C13 ")
    yield row("C14", "a column misspelt", "the nearest names", "8", f"{TABLE}[C14 ",
              f"{CLI}[C14 ")
    yield row("C15", "too many levels", "their number and the limit", "13", f"{TABLE}[C15 ",
              f"{CLI}[C15 ", f"{DESIGN}test_levels_that_nobody_analysed_has_are_left_out")
    yield row("C16", "a covariate that is missing for almost all", "its name, whom it costs", "13",
              f"{CLI}[C16 ", f"{ALIGN}test_a_covariate_that_costs_almost_everyone_is_refused")
    yield row("C17", "nobody in common", "which repair of the ids would match", "7",
              f"{CLI}[C17 ", f"{ALIGN}test_ids_that_do_not_meet_are_diagnosed")
    yield row("C18", "few in common", "counts; --min-overlap lowers the limit", "7",
              f"{CLI}[C18 ", f"{ALIGN}test_half_of_the_smaller_file_must_match")
    yield row("C19", "people who withdrew", "refused by their number only", "21",
              "test_images_people.py::test_withdrawn_people_are_refused_by_count_only",
              missing="images only; a scan takes the list as --remove")
    yield row("C20", "a bridge that is not one to one", "counts of each kind", "7",
              "test_images_people.py::test_bridges_that_are_not_one_to_one_are_refused_with_counts")
    yield row("C21", "gzip bomb, endless line, a column a person", "limits, and what to look for",
              "6", f"{TABLE}[C21 ", f"{INPUT}test_a_line_without_an_end_is_refused",
              f"{INPUT}test_a_table_that_is_turned_is_refused_by_its_columns")
    yield row("C22", "spreadsheet, SPSS, R, ...", "what it is, how to export it", "6",
              f"{TABLE}[C22 ", f"{CLI}[C22 ")
    yield row("C23", "FID and IID exchanged", "says so", "7",
              f"{ALIGN}test_family_and_sample_ids_that_are_exchanged")
    yield row("C24", "whole numbers that may be labels", "a warning with the option", "0",
              "test_tables_covariates.py::test_what_is_taken_for_labels_is_said")


def latents() -> Iterator[Row]:
    arrays = f"{FUZZ}test_a_few_mutants"
    yield row("D1", ".npy cut short", "arrays hold no ids: refused, whole or not", "6",
              f"{CLI}[D1 ", arrays)
    yield row("D2", ".npy with junk or a flipped bit", "as D1", "6", arrays)
    yield row("D3", "pickles", "refused, never opened", "21", f"{CLI}[D3 ",
              "test_house.py::test_nothing_runs_code_from_data_or_prints")
    yield row("D4", "absurd header of an array", "as D1", "6", arrays)
    yield row("D5", "no ids in the file", "refused; never matched by order", "6",
              f"{INPUT}test_rows_without_ids_and_ids_without_rows", f"{TABLE}[C10 no id")
    yield row("D6", "other numbers of rows and ids", "both numbers", "7",
              f"{INPUT}test_rows_without_ids_and_ids_without_rows")
    yield row("D7", "Parquet cut or with a flipped bit", "page checksums are verified", "6",
              f"{TABLE}[D7 ", f"{CLI}[D7 ", f"{FUZZ}test_many_mutants_under_limits")
    yield row("D8", "zarr with a chunk missing", "zarr is not read: a folder is refused", "3",
              "test_tables_faults.py::test_a_folder_is_no_table")
    yield row("D9", "NaN and inf", "NaN is missing, latent by latent; inf is refused", "6",
              f"{TABLE}[D9 ", f"{CLI}[C13 infinite",
              f"{DESIGN}test_groups_are_patterns_of_missing_latents")
    yield row("D10", "constant, repeated latents", "set aside or mentioned, by name", "0",
              f"{DESIGN}test_latents_that_cannot_be_tested_are_put_aside",
              "test_latents.py::test_equal_latents_are_named")
    yield row("D11", "latents of another encoder", "weights are compared by digest", "7",
              "test_report.py::test_latents_of_another_encoder_are_refused",
              f"{CHECKPOINT}[F6 ")
    yield row("D12", "half precision that overflowed", "mentioned", "0",
              "test_latents.py::test_oddities_of_one_latent")
    yield row("D13", "names with slashes, blanks, 200 letters", "kept; files get safe names", "0",
              f"{ENV}test_names_lead_nowhere_and_mean_nothing",
              "test_export.py::test_awkward_latent_names")
    yield row("D14", "an encoding that was killed", "no table; the same command goes on", "20",
              "test_encoder_encoding.py::test_an_interrupted_encoding_ends_in_the_same_bytes")


def images() -> Iterator[Row]:
    yield row("E1", "volumes cut short", "a row of failures.tsv; the others go on", "13",
              f"{IMAGE}[E1 ", f"{FUZZ}test_a_few_mutants")
    yield row("E2", "empty, web page, LFS pointer, noise", "as E1, each by name", "13",
              f"{IMAGE}[E2 ")
    yield row("E3", "sizes that no file holds", "before anything is read", "13", f"{IMAGE}[E3 ")
    yield row("E4", "other axes, colours, complex, odd scale", "as E1, each by name", "13",
              f"{IMAGE}[E4 ")
    yield row("E5", "another grid or place", "compared with the encoder's", "7", f"{TOGETHER}[E5 ",
              f"{IMAGE}[E5 ")
    yield row("E6", "blank, NaN", "no latent; training refuses them", "13", f"{IMAGE}[E6 ",
              f"{TOGETHER}[E6 ")
    yield row("E7", "another contrast", "`imgwas images qc` finds what is unlike the others", "0",
              "test_images_quality.py::test_likeness_is_the_correlation_with_the_mean_of_the_others",
              missing="compared with the study, not with the training images")
    yield row("E8", "absent, repeated, of two people", "rows", "7", f"{IMAGE}[E8 ",
              "test_images_quality.py::test_copies_are_found_by_content_and_blank_images_are_no_copies")
    yield row("E9", "DICOM, .mgz, .img, zip", "named, with the command that converts", "13",
              f"{IMAGE}[E9 ")
    yield row("E10", "a process of the training dies", "named, and nothing hangs", "9",
              "test_encoder_training.py::test_a_process_that_dies_is_named")
    yield row("E11", "files that stall, change or vanish", "read again three times; then a failure",
              "0 or 4", "test_images_steadily.py::test_a_server_that_stalls_costs_nothing_but_time",
              "test_images_steadily.py::test_a_file_that_is_written_meanwhile_is_read_again",
              "test_images_steadily.py::test_the_encoding_goes_on_without_the_image")
    yield row("E12", "names of people in headers", "never copied", "0",
              "test_cli_images_bad_inputs.py::test_names_in_headers_are_never_copied")


def checkpoints() -> Iterator[Row]:
    yield row("F1", "pickle with code", "refused; nothing runs", "21", f"{CHECKPOINT}[F1 ",
              "test_encoder_convert.py::test_a_malicious_pickle_is_refused_and_nothing_runs")
    yield row("F2", "what cannot be loaded safely", "refused; no second way", "6",
              f"{CHECKPOINT}[F2 ", "test_encoder_convert.py::test_a_plain_pickle_is_refused")
    yield row("F3", "tensors missing, unknown, misshapen", "the first five", "7",
              f"{CHECKPOINT}[F3 ")
    yield row("F4", "cut, header too long, 100,000 tensors", "before anything is allocated", "6",
              f"{CHECKPOINT}[F4 ")
    yield row("F5", "weights that are NaN", "refused", "13", f"{CHECKPOINT}[F5 ")
    yield row("F6", "another file than described", "SHA-256 of both", "7", f"{CHECKPOINT}[F6 ",
              f"{FUZZ}test_many_mutants_under_limits")
    yield row("F7", "left in training mode", "always evaluated", "0",
              "test_encoder_encoding.py::test_latents_do_not_depend_on_the_batch")
    yield row("F8", "prefixes, half precision, a GPU's", "read", "0",
              "test_cli_images_bad_inputs.py::test_weights_with_prefixes_are_the_same_weights")
    yield row("F9", "a newer format", "asks to upgrade", "6", f"{CHECKPOINT}[F9 ")
    yield row("F10", "archives that lead out", "members that lead out, links, bombs", "21",
              "test_images_sources.py::test_members_that_lead_out_of_their_zip_are_refused",
              "test_images_sources.py::test_links_bombs_and_doubles_in_zips")


def statistics() -> Iterator[Row]:
    nothing = "test_scan.py::test_degenerate_variants_get_a_reason_and_no_number"
    yield row("G1", "a variant that does not vary", "no number, a reason", "0", nothing,
              f"{KERNEL}test_degenerate_variants_get_a_reason_and_no_number")
    yield row("G2", "a variant that covariates explain", "no number, a reason", "0", nothing,
              f"{KERNEL}test_single_precision_holds_its_bound_when_covariates_nearly_explain_the_variant")
    yield row("G3", "latents that do not vary, or are covariates", "set aside by name", "0 or 13",
              f"{CLI}[G3 ", "test_scan.py::test_constant_latents_are_set_aside_and_others_go_on",
              f"{DESIGN}test_latents_that_cannot_be_tested_are_put_aside")
    yield row("G4", "covariates that depend on one another", "left out, the relation named", "0",
              f"{DESIGN}test_collinear_covariates_change_nothing_but_are_named",
              f"{DESIGN}test_age_and_its_square_and_a_site_of_one_person_are_independent")
    yield row("G5", "fewer people than parameters", "before anything is computed", "13",
              f"{CLI}[G5 ", f"{DESIGN}test_one_degree_of_freedom_is_enough_and_none_is_not")
    yield row("G6", "latents or variants without values", "set aside, or no number", "0 or 13",
              f"{CLI}[G6 ", nothing)
    yield row("G7", "a perfect fit", "finite", "0", f"{KERNEL}test_perfect_fit_is_finite")
    yield row("G8", "one person rules a latent", "a warning, with --rank-normal", "0",
              f"{DESIGN}test_an_outlier_is_mentioned_unless_ranks_are_used")
    yield row("G9", "tiny and huge units", "change nothing but the scale", "0",
              f"{DESIGN}test_units_change_nothing_but_the_scale",
              "test_scan.py::test_units_of_the_trait_scale_beta_and_leave_t")
    yield row("G10", "single carriers", "exact; --mac leaves them out", "0",
              f"{KERNEL}test_rare_variants_in_a_large_cohort_stay_exact_in_single_precision",
              "test_genotypes_parity.py::test_filters_keep_what_plink2_keeps")
    yield row("G11", "P below the smallest number", "-log10 P, to sixty digits", "0",
              "test_scan.py::test_p_values_far_below_the_smallest_double",
              "test_sumstats_pvalues.py::test_equals_sixty_digits")
    yield row("G12", "latents of few values", "mentioned", "0",
              "test_latents.py::test_oddities_of_one_latent")
    yield row("G13", "calls missing variant by variant", "the mean, or people dropped exactly", "0",
              f"{KERNEL}test_dropping_equals_complete_cases",
              "test_scan.py::test_missing_rows_and_removed_rows_are_the_same")
    yield row("G14", "inflation", "the report shows it", "0",
              "test_report_numbers.py::test_latents_have_the_control_and_top_of_the_scan",
              missing="no warning at the end of a scan")
    yield row("G15", "relatives", "a warning where heritability needs it", "0",
              "test_heritability_in_scan.py::test_relatives_are_mentioned_by_the_scan",
              missing="a plain scan does not look for them")


def environment() -> Iterator[Row]:
    yield row("H1", "unknown options, other programs' words", "the nearest, or ours", "8",
              f"{CLI}[H1 ", f"{SETTING}[H1 ")
    yield row("H2", "YAML that guesses, repeats, refers", "text until a field says otherwise", "8",
              f"{SETTING}[H2 ", "test_settings.py::test_yaml_that_is_more_than_settings")
    yield row("H3", "values out of range", "value and range", "8", f"{CLI}[H3 ", f"{SETTING}[H3 ")
    yield row("H4", "odd names of --out, another run in it", "taken, or the difference",
              "0, 5, 7 or 8", f"{CLI}[H4 ", f"{ENV}test_odd_names_of_the_folder_of_results",
              f"{RESUME}test_other_settings_are_refused_with_the_difference")
    yield row("H5", "a folder that takes no files", "at the start; temporary files lie beside", "5",
              "test_cli_bad_inputs.py::test_read_only_folder_is_a_write_error",
              f"{ENV}test_files_are_renamed_within_their_folder")
    yield row("H6", "no room for the results", "needed and free, before anything is computed", "5",
              f"{RESUME}test_no_space_is_said_before_anything_is_computed")
    yield row("H7", "other locales and encodings", "the same bytes", "0",
              f"{ENV}test_the_locale_changes_no_byte",
              f"{ENV}test_numbers_are_read_and_written_with_points_in_every_locale")
    yield row("H8", "output closed or full", "quiet; or said", "0 or 5",
              "test_disk_full.py::test_a_reader_that_goes_away_is_no_error",
              "test_disk_full.py::test_standard_output_that_is_full",
              f"{ENV}test_a_full_output_is_said")
    yield row("H9", "clocks that stand or go back", "no matter", "0",
              f"{ENV}test_a_clock_that_stands_still_or_goes_back")
    yield row("H10", "two runs, one folder", "a lock with its holder; of the dead, taken over", "7",
              f"{RESUME}test_two_runs_may_not_share_a_folder",
              f"{RESUME}test_a_lock_of_another_machine_holds_until_it_is_broken",
              f"{RESUME}test_a_lock_of_a_dead_process_is_taken_over",
              "test_locks.py::test_a_lock_that_may_not_be_read_is_somebodys")
    yield row("H11", "network file systems", "locks are new files; flock only beside", "7",
              "test_array.py::test_one_of_many_publishes",
              "test_locks.py::test_one_of_many_publishes_where_there_are_no_links",
              "test_locks.py::test_the_lost_answer_of_a_file_server_is_no_defeat",
              "test_locks.py::test_a_file_system_that_keeps_no_turns",
              missing="delays of a network are not simulated")
    yield row("H12", "other versions on workers", "named and refused", "9",
              f"{WORK}test_workers_with_another_version_are_refused")
    yield row("H13", "an optional library is absent", "the extra to install", "9",
              f"{WORK}test_an_optional_library_that_is_absent_names_its_extra",
              "test_packaging.py::test_every_extra_is_used_and_named_in_an_error")
    yield row("H14", "a script without a guard", "the line to write", "8",
              f"{WORK}test_a_script_without_a_guard_is_explained")
    yield row("H15", "threads within threads", "one thread a product", "0",
              f"{ENV}test_workers_of_a_scan_do_not_start_threads_of_their_own")


def processes() -> Iterator[Row]:
    yield row("I1", "disk full in a part", "free space; finished parts stay", "5",
              "test_disk_full.py::test_a_disk_of_two_megabytes")
    yield row("I2", "disk full under a memory map", "results are never written through one", "-",
              f"{ENV}test_results_are_never_written_through_a_memory_map")
    yield row("I3", "quota, file size, read-only, EIO", "the system's words", "5",
              "test_disk_full.py::test_a_limit_on_the_size_of_files",
              f"{ENV}test_every_way_a_disk_refuses_is_told")
    yield row("I4", "Ctrl-C, once and twice", "one line, resumable; at once", "130",
              f"{RESUME}test_a_signal_leaves_a_resumable_folder_and_says_so",
              f"{WORK}test_the_second_signal_stops_at_once")
    yield row("I5", "SIGTERM", "as I4", "143",
              f"{RESUME}test_a_signal_leaves_a_resumable_folder_and_says_so",
              f"{LAUNCH}test_asked_to_stop_with_processes")
    yield row("I6", "SIGKILL of the run", "the same command goes on, the same bytes", "137",
              f"{RESUME}test_kill_minus_nine_then_the_same_command")
    yield row("I7", "SIGKILL of workers", "tried again, the same bytes", "0",
              f"{ENGINE}test_a_worker_that_is_killed_costs_nothing_but_time",
              f"{LAUNCH}test_one_digest_from_every_launcher")
    yield row("I8", "a part that kills its workers", "named; the others finish", "20",
              f"{LAUNCH}test_a_part_that_kills_its_workers",
              "test_dispatch.py::test_a_part_that_kills_its_workers_is_not_sent_for_ever")
    yield row("I9", "kills faster than parts, parts that hang", "progress, or said", "20",
              f"{LAUNCH}test_progress_although_workers_are_killed",
              f"{LAUNCH}test_a_part_that_hangs_is_noticed")
    yield row("I10", "the scheduler is lost", "resumes from the folder", "20",
              f"{LAUNCH}test_the_scheduler_is_killed",
              "test_dispatch.py::test_the_scheduler_goes_away")
    yield row("I11", "out of memory", "one block at a time, then halved; else the words", "0 or 2",
              "test_within_memory.py::test_halved_buffers_change_no_byte",
              "test_within_memory.py::test_a_block_that_fits_alone_is_computed_alone",
              "test_within_memory.py::test_a_part_whose_worker_was_killed_begins_with_less",
              "test_cli_bad_inputs.py::test_out_of_memory_says_so",
              f"{LAUNCH}test_errors_on_workers")
    yield row("I12", "walltime of a job, requeueing", "as I5; tasks go on", "143",
              f"{RESUME}test_a_signal_leaves_a_resumable_folder_and_says_so",
              "test_workflows.py::test_the_array_script_under_kills_and_requeues")
    yield row("I13", "two tasks, one part", "one of them is published", "0",
              "test_array.py::test_one_of_many_publishes",
              "test_array.py::test_more_tasks_than_parts",
              "test_locks.py::test_nobody_joins_while_a_folder_is_cleared")
    yield row("I14", "the local disk goes with the job", "--on-part hands over each part", "20",
              "test_handing_over.py::test_another_machine_goes_on_from_what_was_handed_over",
              "test_handing_over.py::test_a_program_that_fails_is_called_again_and_then_named",
              "test_handing_over.py::test_a_program_that_hangs_is_ended_with_its_children",
              "test_handing_over.py::test_a_scan_ends_beside_a_program_that_hangs",
              "test_handing_over.py::test_a_scan_is_stopped_beside_a_program_that_hangs")
    yield row("I15", "no GPU", "one line", "16", f"{TOGETHER}[no GPU")
    yield row("I16", "out of memory on a GPU", "halves the batch and goes on", "0 or 16",
              "test_device.py::test_out_of_memory_halves_the_batch_and_carries_on",
              "test_device.py::test_a_card_without_any_memory_is_an_error")
    yield row("I17", "a GPU that computes wrongly", "some rows are computed again; stops", "16",
              "test_device.py::test_a_card_that_computes_wrongly_is_found")
    yield row("I18", "power lost after a rename", "synced before and after", "0",
              f"{ENV}test_a_file_is_on_disk_before_it_has_its_name",
              f"{RESUME}test_every_crash_point")
    yield row("I19", "finished results are damaged", "`imgwas verify` lists; the same command",
              "6",
              f"{ENV}test_damaged_results_are_noticed_and_the_same_command_heals_them",
              f"{RESUME}test_a_damaged_part_is_computed_again",
              "test_repair.py::test_verify_lists_all_damage",
              "test_repair.py::test_repair_computes_the_damaged_parts_only")
    yield row("I20", "killed while finishing", "the same command finishes", "20",
              f"{RESUME}test_every_crash_point",
              "test_array.py::test_finish_after_the_last_task_died_before_it_could")
    yield row("I21", "results read too early", "refused unless partial is asked for", "20",
              "test_sumstats_store.py::test_unfinished_run")
    yield row("I22", "another version goes on", "refused", "7",
              f"{ENV}test_parts_of_another_major_version_are_not_mixed")


def hostile() -> Iterator[Row]:
    names = f"{ENV}test_names_lead_nowhere_and_mean_nothing"
    yield row("J1", "markup in names", "text, also in a browser", "0",
              "test_report.py::test_hostile_names_are_text",
              "test_report_browser.py::test_hostile_names_do_nothing_in_a_browser")
    yield row("J2", "names that are formulae", "names", "0", names)
    yield row("J3", "escape sequences and formats in names", "written out", "0",
              f"{ENV}test_control_characters_do_not_reach_terminal_or_log", f"{TABLE}[J3 ")
    yield row("J4", "names that are paths", "safe names of files", "0", names,
              "test_report.py::test_a_map_name_cannot_lead_out_of_its_folder")
    yield row("J5", "archives that lead out, bombs", "refused", "21",
              "test_images_sources.py::test_members_that_lead_out_of_their_zip_are_refused",
              "test_images_sources.py::test_links_bombs_and_doubles_in_zips")
    yield row("J6", "YAML with code, settings lying about", "refused; not read", "8",
              f"{SETTING}[H2 tag", f"{ENV}test_settings_lying_in_the_folder_are_not_read")
    yield row("J7", "links planted in --out", "not followed; private/ refused", "21",
              f"{ENV}test_links_planted_in_the_folder_of_results_are_not_followed",
              f"{ENV}test_a_link_instead_of_the_private_folder_is_refused")


GROUPS = (genotypes, newer_genotypes, tables, latents, images, checkpoints, statistics,
          environment, processes, hostile)

# fmt: on


def matrix() -> list[Row]:
    """Every row of the tables, in order."""
    return [one for group in GROUPS for one in group()]


def first_release() -> set[str]:
    return {f"{group}{number}" for group, numbers in FIRST for number in numbers}


# fmt: off
#: The contract, and a few of the tests that hold it.
CONTRACT = (
    ("R1", "A file has its name only when all of it is on disk",
     (f"{ENV}test_a_file_is_on_disk_before_it_has_its_name", f"{RESUME}test_every_crash_point")),
    ("R2", "Complete means recorded: a part by its receipt, a run by `RUN_COMPLETE.json`",
     ("test_sumstats_store.py::test_unfinished_run",
      "test_sumstats_store.py::test_part_of_another_run_does_not_count")),
    ("R3", "The same command resumes; other inputs or settings are refused with the difference",
     (f"{RESUME}test_kill_minus_nine_then_the_same_command",
      f"{RESUME}test_other_settings_are_refused_with_the_difference")),
    ("R4", "Inputs are fingerprinted; a changed one is an error",
     (f"{RESUME}test_a_genotype_file_changed_under_a_run_is_refused",
      "test_genotypes_faults.py::test_another_process_refuses_files_that_changed")),
    ("R5", "`imgwas check` finds every problem at once and writes nothing",
     ("test_cli_check.py::test_six_faults_in_five_files_are_six_problems",
      "test_cli_check.py::test_every_bad_input_is_found_with_the_code_and_words_of_the_scan")),
    ("R6", "An error says what, where, and what to do; no id in full; no traceback",
     (CLI, "test_cli_bad_inputs.py::test_the_log_has_the_traceback_and_the_terminal_has_not")),
    ("R7", "Exit codes by class, PLINK 2's where it has one; never 0 with something missing",
     (CLI, "test_genotypes_faults.py::test_every_reading_fault_has_the_exit_code_of_the_table")),
    ("R8", "The same bytes for any number of threads and workers and after any crash",
     (f"{ENGINE}test_any_number_of_threads", f"{LAUNCH}test_one_digest_from_every_launcher")),
    ("R9", "The log has command, versions, settings, counts, times; no ids",
     ("test_cli_associate.py::test_the_log_file_has_what_a_reader_needs",)),
    ("R10", "Space is looked at before the start; memory does not grow with the variants",
     (f"{RESUME}test_no_space_is_said_before_anything_is_computed",
      "test_memory_flat.py::test_results_and_genotypes_are_not_held")),
    ("R11", "SIGINT and SIGTERM leave a folder that resumes, the second one stops at once",
     (f"{RESUME}test_a_signal_leaves_a_resumable_folder_and_says_so",
      f"{WORK}test_the_second_signal_stops_at_once")),
    ("R12", "Nothing that changes numbers happens silently",
     ("test_scan.py::test_constant_latents_are_set_aside_and_others_go_on",
      f"{DESIGN}test_collinear_covariates_change_nothing_but_are_named",
      f"{ALIGN}test_the_flow_counts_every_step",
      "test_cli_options.py::test_an_option_of_one_value_is_given_once")),
)


# fmt: on


def counts() -> str:
    """Say how many rows are covered."""
    rows = matrix()
    automated = [one for one in rows if one.tests]
    first = first_release()
    done = len([one for one in automated if one.name in first])
    partly = len([one for one in automated if one.missing])
    return (
        f"{len(automated)} of {len(rows)} rows have tests that run in every build or under `slow`, "
        f"{partly} of them leaving something out; of the {len(first)} that the first release "
        f"promises, {done}."
    )


def names_of(tests: tuple[str, ...]) -> str:
    return "<br>".join(f"`{test}]`" if "[" in test else f"`{test}`" for test in tests)


def page() -> str:
    """The generated part of the page."""
    text = ["## The contract\n", "| | promise | tests |", "|---|---|---|"]
    text += [f"| {name} | {what} | {names_of(tests)} |" for name, what, tests in CONTRACT]
    text += ["\n## The faults\n", counts()]
    for group, title in TITLES.items():
        text += [
            f"\n### {group}. {title}\n",
            "| row | fault | what happens | code | tests |",
            "|---|---|---|---|---|",
        ]
        for one in matrix():
            if one.name[0] == group:
                left = f"; left out: {one.missing}" if one.tests and one.missing else ""
                happens = one.happens + left if one.tests else f"not tested: {one.missing}"
                cells = (one.name, one.fault, happens, one.code, names_of(one.tests))
                text.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(text) + "\n"


BEGIN, END = "<!-- written by tests/fault_matrix.py -->\n", "<!-- end -->\n"


def filled(text: str) -> str:
    """The page with its generated part as it should be."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + page() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
