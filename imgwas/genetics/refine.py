"""Going back to the genotypes of loci: which variants and latents, and the moments of each pair."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from imgwas.arrow import to_numpy
from imgwas.errors import InconsistentError, MalformedError, OpenError, UsageError, explain
from imgwas.genetics.cohort import Cohort, join, project
from imgwas.genetics.loci_table import Loci
from imgwas.genetics.matching import are_scanned_people, genotype_rows
from imgwas.genetics.moments import Locus, Moments
from imgwas.genetics.stepwise import one_by_one
from imgwas.sumstats import SumStats
from imgwas.sumstats.effects import dictionary_of
from imgwas.types import Covariates, Genotypes, Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """One locus and one latent with everything a regression in it needs."""

    locus: int
    latent: str
    moments: Moments


@dataclass(frozen=True)
class Inputs:
    """What the scan was made of.

    Parameters
    ----------
    sumstats : SumStats
        Its results.
    genotypes, latents, covariates
        Its inputs, the same files.
    columns : (people,) int array, optional
        Columns of the genotype file that --keep and --remove left.
    """

    sumstats: SumStats
    genotypes: Genotypes
    latents: Latents
    covariates: Covariates | None = None
    columns: np.ndarray | None = None


def read_loci(path: str | Path) -> Loci:
    """Read what :meth:`Loci.write` wrote.

    Parameters
    ----------
    path : path
        ``loci.tsv``; the tables and the JSON beside it are read too.

    Returns
    -------
    Loci

    Raises
    ------
    OpenError, MalformedError
        If a file is absent or is no table of loci.
    """
    import pandas as pd

    from imgwas.files import read_json

    path = Path(path)
    stem = path.with_suffix("")
    tables = []
    for part in (path, Path(f"{stem}.variants.tsv"), Path(f"{stem}.latents.tsv")):
        try:
            table = pd.read_csv(
                part, sep="\t", comment="#", dtype={"chromosome": str}, keep_default_na=False,
                na_values=["NA"],
            )  # fmt: skip
        except OSError as error:
            raise OpenError(
                explain(f"{part} cannot be read ({error.strerror})", do="Run imgwas loci first")
            ) from error
        except ValueError as error:
            raise MalformedError(explain(f"{part} is no table of loci ({error})")) from error
        if "locus" not in table.columns:
            raise MalformedError(explain(f"{part} has no column 'locus'", do="Run imgwas loci"))
        tables.append(table)
    try:
        definition = read_json(Path(f"{stem}.json"))
    except (OSError, ValueError) as error:
        raise OpenError(explain(f"{stem}.json cannot be read", do="Run imgwas loci")) from error
    table, variants, pairs = tables
    return Loci(table, variants, pairs, definition)


def studies(
    inputs: Inputs,
    loci: Loci,
    *,
    latents: Sequence[str] | None = None,
    flank_kb: float = 250,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Study]:
    """Every locus with every latent that has a significant variant in it.

    Parameters
    ----------
    inputs : Inputs
        The scan and its inputs.
    loci : Loci
        From the same scan.
    latents : sequence of str, optional
        Only these.
    flank_kb : float
        Variants this far outside the locus are looked at as well.
    progress : callable, optional
        Told the number of loci finished.

    Yields
    ------
    Study

    Raises
    ------
    InconsistentError
        If the inputs are not those of the scan.
    """
    cohort, rank_normal, is_scan = _cohort(inputs)
    places = _places(inputs)
    for locus in loci.table.itertuples(index=False):
        pairs = loci.pairs[loci.pairs["locus"] == locus.locus]
        if latents is not None:
            pairs = pairs[pairs["latent"].isin(list(latents))]
        rows = _rows_in(places, locus, flank_kb)
        if len(pairs) and len(rows):
            yield from _locus_studies(inputs, cohort, rank_normal, is_scan, locus, pairs, rows)
        if progress is not None:
            progress(1)


def _cohort(inputs: Inputs) -> tuple[Cohort, bool, bool]:
    """People and traits, whether latents are rank-normalised, and whether people are the scan's."""
    settings = inputs.sumstats.metadata["settings"]
    for name in ("missing_genotype", "residualize_first"):
        if settings.get(name) not in ("mean", False, None):
            raise UsageError(
                explain(
                    f"the scan was made with {name} = {settings[name]}",
                    expected="Regressions within loci fill missing calls with the mean, and "
                    "project covariates out of genotypes",
                    do="Scan again with the default, then find loci again",
                )
            )
    unknown = [n for n in inputs.sumstats.latents if n not in inputs.latents.names]
    if unknown:
        raise InconsistentError(
            explain(
                f"{len(unknown)} latents of the scan are not in the table (first: {unknown[0]})",
                do="Give the table that was scanned",
            )
        )
    samples = inputs.genotypes.samples
    cohort = join(samples, inputs.latents, inputs.covariates, columns=inputs.columns)
    ids = tuple(samples.sample_ids[i] for i in cohort.columns)
    is_scan = are_scanned_people(inputs.sumstats, ids)
    if not is_scan:
        logger.warning(
            "%s people are analysed, who are not exactly the %s of the scan",
            f"{len(cohort):,}",
            f"{inputs.sumstats.samples['kept']:,}",
        )
    return cohort, bool(settings.get("rank_normal")), is_scan


@dataclass(frozen=True)
class _Places:
    """Chromosome, position and genotype row of every variant of the scan."""

    names: list[str]
    chromosome: np.ndarray
    position: np.ndarray
    row: np.ndarray


def _places(inputs: Inputs) -> _Places:
    blocks = inputs.sumstats.iter_blocks(["chromosome", "base_pair_location", "row"])
    table = pa.concat_tables(list(blocks))
    row = to_numpy(table["row"]).astype(np.int64)
    names, chromosome = dictionary_of(table["chromosome"])
    return _Places(
        names,
        chromosome,
        to_numpy(table["base_pair_location"]),
        genotype_rows(inputs.sumstats, inputs.genotypes, row),
    )


def _rows_in(places: _Places, locus: Any, flank_kb: float) -> np.ndarray:
    name, flank = str(locus.chromosome), int(flank_kb * 1000)
    if name not in places.names:
        return np.empty(0, np.int64)
    here = places.chromosome == places.names.index(name)
    here &= (places.position >= locus.start - flank) & (places.row >= 0)
    here &= places.position <= locus.end + flank
    return np.sort(places.row[here])


def _locus_studies(
    inputs: Inputs,
    cohort: Cohort,
    rank_normal: bool,
    is_scan: bool,
    locus: Any,
    pairs: pd.DataFrame,
    rows: np.ndarray,
) -> Iterator[Study]:
    stretch = Locus(inputs.genotypes, cohort, rows)
    for pair in pairs.itertuples(index=False):
        on_x = str(locus.chromosome) == "X"
        projection = project(cohort, str(pair.latent), rank_normal=rank_normal, on_x=on_x)
        moments = stretch.moments(projection)
        if is_scan:
            _check_value(inputs, moments, pair)
        yield Study(int(locus.locus), str(pair.latent), moments)


def _check_value(inputs: Inputs, moments: Moments, pair: Any) -> None:
    """Refuse covariates or transforms that are not the scan's: its strongest P must come out."""
    position = to_numpy(inputs.genotypes.variants["base_pair_location"])[moments.rows]
    values = one_by_one(moments).neg_log10_p[position == pair.base_pair_location]
    wanted = float(pair.neg_log_10_p_value)
    if len(values) and not (np.abs(values - wanted) <= 0.01 + 0.001 * wanted).any():
        raise InconsistentError(
            explain(
                f"{pair.variant_id} has -log10 P {wanted:.4g} for {pair.latent} in the scan and "
                f"{values[0]:.4g} in the same regression now",
                expected="The covariates and latents of the scan",
                do="Give the files and options of imgwas associate, and loci of the same scan",
            )
        )


def name_variants(genotypes: Genotypes, rows: Sequence[int]) -> pd.DataFrame:
    """Names, places and alleles of some rows of a genotype file."""
    from imgwas.arrow import from_numpy

    table = genotypes.variants.take(from_numpy(np.asarray(rows, np.int64)))
    frame: pd.DataFrame = table.to_pandas()
    return frame
