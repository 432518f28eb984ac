"""Principal components on disk, and other people's components from the loadings."""

from __future__ import annotations

import gzip
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgwas._version import __version__
from imgwas.errors import InconsistentError, MalformedError, explain
from imgwas.files import publish, publish_bytes, publish_json
from imgwas.genetics.components import GenotypeComponents
from imgwas.genetics.heritability_files import write_tsv
from imgwas.genetics.polygenic import VARIANT_COLUMNS, PolygenicScores
from imgwas.genetics.polygenic_apply import apply_scores, match_variants
from imgwas.genotypes.text import read_bytes
from imgwas.tables.recognise import interpreted
from imgwas.types import Genotypes, Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_DIGITS = "%.9g"


def write_components(found: GenotypeComponents, path: str | Path) -> list[Path]:
    """Write components as a table of covariates, with what belongs to them beside it.

    Parameters
    ----------
    found : GenotypeComponents
        What to write.
    path : path
        ``pcs.tsv``: IID, PC1, PC2, ... (FID first where an IID occurs twice). Beside it
        ``pcs.eigenvalues.tsv``, ``pcs.loadings.tsv.gz`` and ``pcs.json``.

    Returns
    -------
    list of Path
        The files.
    """
    path = Path(path)
    stem = path.with_suffix("")
    written = [write_table(found.values, found.names, found.sample_ids, found.family_ids, path)]
    written.append(write_tsv(found.table(), Path(f"{stem}.eigenvalues.tsv")))
    loadings = Path(f"{stem}.loadings.tsv.gz")
    publish_bytes(loadings, gzip.compress(_loadings_text(found.loadings).encode(), mtime=0))
    settings = Path(f"{stem}.json")
    publish_json(settings, {"imgwas_version": __version__, **found.settings})
    return [*written, loadings, settings]


def write_table(
    values: np.ndarray,
    names: Sequence[str],
    sample_ids: Sequence[str],
    family_ids: Sequence[str] | None,
    path: Path,
) -> Path:
    """Write one row a person; the family id is there where it is needed to tell people apart."""
    import pandas as pd

    frame = pd.DataFrame(values, columns=list(names))
    frame.insert(0, "IID", list(sample_ids))
    if family_ids is not None and frame["IID"].duplicated().any():
        frame.insert(0, "FID", list(family_ids))
    with publish(path, "w") as stream:
        stream.write(frame.to_csv(sep="\t", index=False, float_format=_DIGITS))
    return path


def _loadings_text(loadings: PolygenicScores) -> str:
    import pandas as pd

    weights = pd.DataFrame(loadings.weights, columns=list(loadings.names))
    frame = pd.concat([loadings.variants[list(VARIANT_COLUMNS)], weights], axis=1)
    text: str = frame.to_csv(sep="\t", index=False, float_format=_DIGITS)
    return text


def read_loadings(path: str | Path, *, genome_build: str | None = None) -> PolygenicScores:
    """Read the loadings of principal components that :func:`write_components` wrote.

    Parameters
    ----------
    path : path
        ``pcs.loadings.tsv.gz``.
    genome_build : str, optional
        Of its positions, where genotypes of another build may follow.

    Returns
    -------
    PolygenicScores
        Weights per copy of the effect allele; ``PC = sum_j w_j (dosage_j - 2 p_j)``.

    Raises
    ------
    OpenError
        If there is no such file.
    MalformedError
        If a column is absent, or no component is in it.
    """
    path = Path(path)
    with interpreted(path):
        return _loadings(path, genome_build)


def _loadings(path: Path, genome_build: str | None) -> PolygenicScores:
    import pandas as pd

    content = read_bytes(path)
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    texts = {name: str for name in VARIANT_COLUMNS if name.endswith(("id", "some", "allele"))}
    frame = pd.read_csv(io.BytesIO(content), sep="\t", dtype=texts, keep_default_na=False)
    names = tuple(name for name in frame.columns if name not in VARIANT_COLUMNS)
    lacking = [name for name in VARIANT_COLUMNS if name not in frame]
    if lacking or not names:
        raise MalformedError(
            explain(
                f"{path} has no column {', '.join(lacking) or 'PC1'}",
                expected="The .loadings.tsv.gz that imgwas pca wrote",
            )
        )
    weights = frame[list(names)].to_numpy(np.float64)
    variants = frame[list(VARIANT_COLUMNS)]
    empty = PolygenicScores(variants, weights, names, np.zeros(len(names)), None, {}, genome_build)
    return _centred(empty, np.arange(len(frame)))


def _centred(loadings: PolygenicScores, rows: np.ndarray) -> PolygenicScores:
    """Some of the variants, with the intercept that centres exactly these."""
    variants: pd.DataFrame = loadings.variants.iloc[rows].reset_index(drop=True)
    weights = loadings.weights[rows]
    frequency = variants["effect_allele_frequency"].to_numpy(np.float64)
    return replace(
        loadings, variants=variants, weights=weights, intercepts=-2 * (frequency @ weights)
    )


def project_components(
    loadings: PolygenicScores,
    genotypes: Genotypes,
    *,
    people: Sequence[str] | None = None,
    same_strand: bool = False,
    genome_build: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> Latents:
    """Place people on the principal components of others.

    Variants are matched by id or place and by alleles; a missing call, or a variant that is not
    there, counts as the mean of those who were fitted. With few variants per person fitted the
    scores of new people are shrunk towards 0: compare them with each other, not with the fitted.

    Parameters
    ----------
    loadings : PolygenicScores
        Of :func:`imgwas.genotype_components` or :func:`read_loadings`.
    genotypes : Genotypes
        Opened genotypes.
    people, same_strand, genome_build, progress
        As in :func:`imgwas.apply_scores`.

    Returns
    -------
    Latents
        One column a component.

    Raises
    ------
    InconsistentError
        If no variant or nobody is found.
    """
    wanted = None if people is None else set(people)
    everyone = genotypes.samples.sample_ids
    columns = np.array([i for i, one in enumerate(everyone) if wanted is None or one in wanted])
    if not len(columns):
        raise InconsistentError(explain("none of the people asked for has genotypes"))
    pairs = match_variants(
        loadings, genotypes, columns, same_strand=same_strand, genome_build=genome_build
    )
    found = np.unique(pairs.ours)
    logger.info("PCA      %s of %s variants of the loadings are genotyped",
                f"{len(found):,}", f"{len(loadings.variants):,}")  # fmt: skip
    return apply_scores(
        _centred(loadings, found), genotypes, people=people, same_strand=same_strand,
        genome_build=genome_build, progress=progress,
    )  # fmt: skip
