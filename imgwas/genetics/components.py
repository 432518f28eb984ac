"""Principal components of genotypes, by passes over the file: nothing of size people² is made.

With ``X`` the variants by people matrix of ``(dosage - 2p)/sqrt(2pq)``, missing calls at 0, the
components are the eigenvectors ``u`` of ``A = X'X/M``, length one, as PLINK's ``--pca`` has them. A
block of random vectors is multiplied by ``A`` in every pass over the file; the vectors of all
passes together are a block Krylov space, in which the leading eigenvectors are found
(Rayleigh-Ritz) and their residuals ``|Au - lambda u|`` known. Passes end when those are small.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.cluster import available_cores
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.genetics.polygenic import PolygenicScores
from imgwas.genetics.pruning import (
    LdPruning,
    outside_long_range_ld,
    prune_variants,
    varying_rows,
)
from imgwas.genetics.standard import Moments, StandardGenotypes, autosomal_rows, in_order, packed
from imgwas.shapes import Bool, Float64, Int64
from imgwas.types import Covariates, Genotypes, PackedGenotypes

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: Random vectors beyond the components asked for.
_EXTRA = 10
#: Blocks that one thread adds up before it hands over.
_BLOCKS_A_TASK = 8
#: A new direction with less than this share of the largest eigenvalue is rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class GenotypeComponents:
    """Principal components of people.

    Parameters
    ----------
    sample_ids, family_ids : tuple of str
        IID and FID of each row.
    values : (people, components) float array
        Of length one over the people who were fitted.
    is_fitted : (people,) bool array
        False for people who were projected.
    eigenvalues : (components,) float array
        Of ``X'X/M``.
    share : (components,) float array
        Variance explained: eigenvalue over the sum of all.
    residuals : (components,) float array
        ``|Au - lambda u| / lambda``.
    loadings : PolygenicScores
        Weights of alleles; ``imgwas.apply_scores(loadings, genotypes)`` projects other people.
    settings : mapping
        What was done.
    """

    sample_ids: tuple[str, ...]
    family_ids: tuple[str, ...]
    values: Float64[np.ndarray, "people components"]
    is_fitted: Bool[np.ndarray, " people"]
    eigenvalues: Float64[np.ndarray, " components"]
    share: Float64[np.ndarray, " components"]
    residuals: Float64[np.ndarray, " components"]
    loadings: PolygenicScores
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"GenotypeComponents({len(self.sample_ids):,} people, {len(self.names)} components of "
            f"{len(self.loadings.variants):,} variants)"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """PC1, PC2, ..."""
        return self.loadings.names

    def covariates(self) -> Covariates:
        """The components as covariates of a scan."""
        source = {"principal_components": dict(self.settings)}
        return Covariates(
            self.values, self.sample_ids, self.names, self.family_ids, self.names, source
        )

    def table(self) -> pd.DataFrame:
        """One row a component: eigenvalue, share of the variance, running sum, residual."""
        import pandas as pd

        return pd.DataFrame(
            {
                "component": self.names,
                "eigenvalue": self.eigenvalues,
                "variance_explained": self.share,
                "cumulative": np.cumsum(self.share),
                "residual": self.residuals,
            }
        )


def genotype_components(
    genotypes: Genotypes,
    n: int = 10,
    *,
    columns: Int64[np.ndarray, " people"] | None = None,
    fit: Int64[np.ndarray, " fitted"] | None = None,
    rows: Int64[np.ndarray, " variants"] | None = None,
    min_maf: float = 0.01,
    max_missing: float = 0.02,
    pruning: LdPruning | None = LdPruning(),  # noqa: B008
    genome_build: str | None = None,
    tolerance: float = 1e-3,
    max_passes: int = 15,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> GenotypeComponents:
    """Compute principal components of genotypes.

    Parameters
    ----------
    genotypes : Genotypes
        Opened genotypes.
    n : int, default 10
        Components.
    columns : (people,) int array, optional
        Whose components; everyone's by default.
    fit : (fitted,) int array, optional
        Who decides them, e.g. unrelated people; the others are projected. Everyone by default.
    rows : (variants,) int array, optional
        Rows of the genotype file to choose from. Only autosomes are ever used.
    min_maf, max_missing : float
        Variants with a rarer minor allele, or more missing calls, are left out.
    pruning : LdPruning, optional
        None: variants are not pruned.
    genome_build : {"GRCh37", "GRCh38"}, optional
        Leave regions of long-range LD out; needs the build of the positions.
    tolerance : float
        Passes end when ``|Au - lambda u| <= tolerance lambda`` for all components.
    max_passes : int
        Passes over the file at most. Components that stand out are found in fewer; those that
        do not, among hundreds of nearly their size, need more, and a warning names them.
    seed : int
        Of the random vectors, and of the people among whom LD is measured.
    threads : int, optional
        The cores this process may use by default.
    progress : callable, optional
        Told how many variants are done, in every pass.

    Returns
    -------
    GenotypeComponents

    Raises
    ------
    UsageError
        If fewer people or variants are left than components were asked for.

    References
    ----------
    .. [1] Price et al. (2006), Nature Genetics 38:904.
    .. [2] Galinsky et al. (2016), American Journal of Human Genetics 98:456.
    .. [3] Musco and Musco (2015), Advances in Neural Information Processing Systems 28.
    """
    reader = packed(genotypes)
    everyone = np.arange(reader.n_samples) if columns is None else np.unique(columns)
    fitted = everyone if fit is None else np.intersect1d(everyone, fit)
    limits = {"min_maf": min_maf, "max_missing": max_missing}
    chosen = _choose_rows(reader, rows, fitted, limits, pruning, genome_build, seed, progress)
    _check_enough(n, len(fitted), len(chosen))
    matrix = _Matrix(reader, fitted, chosen, threads or available_cores(), progress)
    values, vectors, residuals, n_passes = _lanczos(
        matrix, n, seed=seed, tolerance=tolerance, max_passes=max_passes
    )
    scores, weights, vectors = _finish(matrix, values, vectors, everyone)
    samples = reader.samples
    settings = {
        **limits, "pruning": str(pruning) if pruning else "none", "genome_build": genome_build,
        "n_variants": len(chosen), "n_fitted": len(fitted), "n_projected": len(scores) -
        len(fitted), "passes": n_passes, "tolerance": tolerance, "seed": seed,
    }  # fmt: skip
    logger.info("PCA      %d components of %s people and %s variants, %d passes", n,
                f"{len(fitted):,}", f"{len(chosen):,}", n_passes)  # fmt: skip
    return GenotypeComponents(
        tuple(samples.sample_ids[i] for i in everyone),
        tuple(samples.family_ids[i] for i in everyone),
        scores, np.isin(everyone, fitted), values, values / matrix.trace, residuals,
        _loadings(matrix, weights, genome_build, settings), settings,
    )  # fmt: skip


def _choose_rows(
    reader: PackedGenotypes,
    rows: np.ndarray | None,
    fitted: np.ndarray,
    limits: dict[str, float],
    pruning: LdPruning | None,
    genome_build: str | None,
    seed: int,
    progress: Callable[[int], object] | None,
) -> np.ndarray:
    """Autosomal variants within the limits, outside long-range LD, pruned."""
    for name, high in (("min_maf", 0.5), ("max_missing", 1.0)):
        check_range(name, limits[name], low=0, high=high)
    chosen = autosomal_rows(reader)
    if rows is not None:
        chosen = np.intersect1d(chosen, rows)
    if genome_build is not None:
        outside = outside_long_range_ld(reader, genome_build)[chosen]
        logger.info("LD       %s variants in regions of long-range LD are left out",
                    f"{int((~outside).sum()):,}")  # fmt: skip
        chosen = chosen[outside]
    chosen = varying_rows(reader, chosen, fitted, **limits)
    if pruning is None or not len(chosen):
        return chosen
    return prune_variants(
        reader, pruning, rows=chosen, columns=fitted, seed=seed, progress=progress
    )


def _check_enough(n: int, n_people: int, n_variants: int) -> None:
    check_range("the number of components", n, low=1)
    if n >= min(n_people, n_variants + 1):
        raise UsageError(
            explain(
                f"{n} components of {n_people:,} people and {n_variants:,} variants",
                expected="More people and variants than components",
                do="Ask for fewer components, or loosen the limits on variants",
            )
        )


class _Matrix:
    """``A = X'X/M`` as an operator, and ``X`` a block at a time."""

    def __init__(
        self,
        reader: PackedGenotypes,
        fitted: np.ndarray,
        rows: np.ndarray,
        threads: int,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.reader, self.rows, self.threads, self.progress = reader, rows, threads, progress
        self.people = StandardGenotypes(reader, fitted, np.empty((len(fitted), 0)))
        blocks = self.people.blocks(np.arange(len(rows)))
        self.tasks = [
            np.concatenate(blocks[at : at + _BLOCKS_A_TASK])
            for at in range(0, len(blocks), _BLOCKS_A_TASK)
        ]
        found = [self.people.dosages(rows[task])[1] for task in self.tasks]
        self.moments = Moments(*(np.concatenate(columns) for columns in zip(
            *((m.mean, m.length, m.maf) for m in found), strict=True)))  # fmt: skip
        self.scale = 1 / np.sqrt(self.moments.mean * (1 - self.moments.mean / 2))
        self.trace = float(((self.moments.length * self.scale) ** 2).sum()) / len(rows)

    @property
    def shape(self) -> tuple[int, int]:
        """(variants, people)."""
        return len(self.rows), self.people.n

    def block(self, at: np.ndarray, people: StandardGenotypes | None = None) -> np.ndarray:
        """Standardised genotypes of some variants, float32."""
        known = self.moments.take(at)
        dosage, _ = (people or self.people).dosages(self.rows[at], known)
        centred: np.ndarray = dosage - known.mean[:, None].astype(np.float32)
        centred *= self.scale[at][:, None].astype(np.float32)
        return np.asarray(centred)

    def times(self, vectors: Float64[np.ndarray, "people k"]) -> Float64[np.ndarray, "people k"]:
        """Multiply ``A`` by vectors, in one pass over the file."""
        single = vectors.astype(np.float32)

        def work(task: np.ndarray) -> np.ndarray:
            total = np.zeros(single.shape)
            for at in self.people.blocks(task):
                block = self.block(at)
                total += block.T @ (block @ single)
            return total

        out = np.zeros(vectors.shape)
        for task, part in zip(self.tasks, in_order(work, self.tasks, self.threads), strict=True):
            out += part
            if self.progress is not None:
                self.progress(len(task))
        return out / len(self.rows)


def _lanczos(
    matrix: _Matrix, n: int, *, seed: int, tolerance: float, max_passes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Leading eigenvalues, eigenvectors, relative residuals, and passes over the file."""
    n_people = matrix.shape[1]
    width = min(n + _EXTRA, n_people - 1)
    rng = np.random.default_rng(seed)
    start = rng.standard_normal((n_people, width))
    blocks = [np.linalg.qr(start - start.mean(axis=0))[0]]
    projected = np.empty((0, 0))
    check_range("max_passes", max_passes, low=1)
    for _ in range(max_passes):
        n_passes, basis = len(blocks), np.hstack(blocks)
        product = matrix.times(blocks[-1])
        projected = _grow(projected, basis.T @ product)
        values, turn = np.linalg.eigh(projected)
        values, turn = values[::-1], turn[:, ::-1]
        rest = product - basis @ (basis.T @ product)
        rest -= basis @ (basis.T @ rest)
        new, size, back = np.linalg.svd(rest, full_matrices=False)
        last = turn[-blocks[-1].shape[1] :, :n]
        lengths = np.linalg.norm((size[:, None] * back) @ last, axis=0)
        residuals = lengths / np.maximum(values[:n], 1e-300)
        is_new = size > _ROUNDING * values[0]
        room = n_people - 1 - basis.shape[1]
        if (residuals <= tolerance).all() or not is_new.any() or room <= 0:
            break
        blocks.append(new[:, is_new][:, :room])
    else:
        logger.warning(
            "PCA: after %d passes the residual of %s is above %g (largest %.2g); they hardly stand "
            "out from noise",
            n_passes, ", ".join(f"PC{k + 1}" for k in np.flatnonzero(residuals > tolerance)),
            tolerance, residuals.max(),
        )  # fmt: skip
    if values[n - 1] <= _ROUNDING * values[0]:
        raise DegenerateError(
            explain(f"the genotypes have fewer than {n} dimensions",
                    do="Ask for fewer components")
        )  # fmt: skip
    return values[:n], basis @ turn[:, :n], residuals, n_passes


def _grow(projected: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Add a block column and its mirror image to a symmetric matrix."""
    old = len(projected)
    out = np.empty((len(column), len(column)))
    out[:old, :old] = projected
    out[:, old:] = column
    out[old:, :old] = column[:old].T
    out[old:, old:] = (out[old:, old:] + out[old:, old:].T) / 2
    return out


def _finish(
    matrix: _Matrix, values: np.ndarray, vectors: np.ndarray, everyone: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Components of everyone, weights of standardised genotypes, and signs made definite.

    With ``w = Xu / (M lambda)`` the score ``x'w`` of a fitted person is their entry of ``u``.
    """
    elsewhere = np.setdiff1d(everyone, matrix.people.columns)
    others = StandardGenotypes(matrix.reader, elsewhere, np.empty((len(elsewhere), 0)))
    single = vectors.astype(np.float32)

    def work(task: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights, projected = [], np.zeros((len(elsewhere), len(values)))
        for at in matrix.people.blocks(task):
            weights.append((matrix.block(at) @ single) / (len(matrix.rows) * values))
            if len(elsewhere):
                projected += matrix.block(at, others).T @ weights[-1].astype(np.float32)
        return np.concatenate(weights), projected

    parts = list(in_order(work, matrix.tasks, matrix.threads))
    weights = np.concatenate([part[0] for part in parts])
    largest = np.abs(weights).argmax(axis=0)
    sign = np.sign(weights[largest, np.arange(len(values))])
    scores = np.empty((len(everyone), len(values)))
    is_fitted = np.isin(everyone, matrix.people.columns)
    scores[is_fitted] = vectors
    scores[~is_fitted] = sum(part[1] for part in parts)
    return scores * sign, weights * sign, vectors * sign


def _loadings(
    matrix: _Matrix, weights: np.ndarray, genome_build: str | None, settings: dict[str, Any]
) -> PolygenicScores:
    """Weights of allele counts, with the intercept that centres them."""
    variants = matrix.reader.variants.take(matrix.rows).to_pandas()
    variants["effect_allele_frequency"] = matrix.moments.mean / 2
    per_allele = weights * matrix.scale[:, None]
    return PolygenicScores(
        variants=variants,
        weights=per_allele,
        names=tuple(f"PC{k + 1}" for k in range(weights.shape[1])),
        intercepts=-(matrix.moments.mean @ per_allele),
        fitted_on=None,
        source={"principal_components": dict(settings)},
        genome_build=genome_build,
    )
