"""LD scores: how much of its neighbourhood a variant stands for.

``l_j = sum_k r2_jk`` over the variants within a window, each squared correlation corrected for
chance, ``r2 - (1 - r2)/(n - 2)`` (Bulik-Sullivan 2015). From the genotypes of the scan, or from
files in LDSC's layout.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgwas.checks import check_range, duplicates
from imgwas.cluster import available_cores
from imgwas.errors import DegenerateError, MalformedError, OpenError, explain
from imgwas.genetics.heritability import check_variants
from imgwas.genetics.standard import (
    StandardGenotypes,
    autosomal_rows,
    in_order,
    packed,
)
from imgwas.shapes import Float64, Int64
from imgwas.tables.columns import to_numbers
from imgwas.tables.source import read_table
from imgwas.types import Genotypes

logger = logging.getLogger(__name__)

#: People that are enough to measure LD; more cost time and memory and change little.
ENOUGH_PEOPLE = 5000
_SUFFIX = ".l2.ldscore.gz"


@dataclass(frozen=True)
class LdScores:
    """LD scores of variants.

    Parameters
    ----------
    variant_id, chromosome : tuple of str
        Names.
    position : (variants,) int array
        1-based.
    score : (variants,) float array
        Sum of squared correlations, the variant with itself included.
    n_variants : float
        ``M``: variants whose effects the heritability sums. In LDSC's files those with a minor
        allele frequency above 5 % (``.l2.M_5_50``); in sample all that entered the scores.
    source : str
        Where they come from, for tables.
    """

    variant_id: tuple[str, ...]
    chromosome: tuple[str, ...]
    position: Int64[np.ndarray, " variants"]
    score: Float64[np.ndarray, " variants"]
    n_variants: float
    source: str

    def __len__(self) -> int:
        return len(self.variant_id)

    def __repr__(self) -> str:
        return f"LdScores({len(self):,} variants, M = {self.n_variants:,.0f}, {self.source})"


def compute_ld_scores(
    genotypes: Genotypes,
    *,
    columns: Int64[np.ndarray, " samples"] | None = None,
    basis: Float64[np.ndarray, "samples covariates"] | None = None,
    window_kb: float = 1000.0,
    min_maf: float = 0.01,
    max_people: int = ENOUGH_PEOPLE,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> LdScores:
    """Compute LD scores from genotypes.

    Parameters
    ----------
    genotypes : Genotypes
        Preferably those of the scan.
    columns : (samples,) int array, optional
        People; everyone by default.
    basis : (samples, covariates) float array, optional
        Centred orthonormal covariates to remove, e.g. principal components, so that structure does
        not look like LD.
    window_kb : float, default 1000
        Variants at most this far apart count.
    min_maf : float, default 0.01
        Variants with a minor allele this rare or rarer are left out.
    max_people : int
        With more people, so many are drawn at random.
    seed : int
        Of the draw.
    threads : int, optional
        The cores this process may use by default.
    progress : callable, optional
        Told how many variants are done.

    Returns
    -------
    LdScores
        Of the autosomal variants that vary; ``n_variants`` is their number.

    Raises
    ------
    DegenerateError
        If no variant is left.

    References
    ----------
    .. [1] Bulik-Sullivan et al. (2015), Nature Genetics 47:291.
    """
    check_range("window_kb", window_kb, low=1, high=100_000, unit="kb")
    reader = packed(genotypes)
    people = _people(reader, columns, basis, max_people, seed)
    rows = autosomal_rows(reader)
    chromosome = np.array(reader.variants.column("chromosome").to_pylist(), object)[rows]
    position = np.asarray(reader.variants.column("base_pair_location").to_numpy())[rows]
    score = np.full(len(rows), np.nan)
    for name in dict.fromkeys(chromosome):
        here = np.flatnonzero(chromosome == name)
        here = here[np.argsort(position[here], kind="stable")]
        score[here] = _chromosome_scores(
            people, rows[here], position[here], window_kb * 1000, min_maf,
            threads or available_cores(), progress,
        )  # fmt: skip
    good = np.flatnonzero(np.isfinite(score))
    check_variants(good, min_maf)
    ids = np.array(reader.variants.column("variant_id").to_pylist(), object)[rows[good]]
    return LdScores(
        tuple(ids), tuple(chromosome[good]), position[good].astype(np.int64), score[good],
        float(len(good)), f"in sample, {people.n:,} people, {window_kb:g} kb, MAF > {min_maf:g}",
    )  # fmt: skip


def _people(
    genotypes: object,
    columns: np.ndarray | None,
    basis: np.ndarray | None,
    max_people: int,
    seed: int,
) -> StandardGenotypes:
    reader = packed(genotypes)  # type: ignore[arg-type]
    chosen = np.arange(reader.n_samples) if columns is None else np.asarray(columns, np.int64)
    covariates = np.empty((len(chosen), 0)) if basis is None else basis
    if len(chosen) > max_people:
        some = np.random.default_rng(seed).choice(len(chosen), max_people, replace=False)
        some.sort()
        chosen = chosen[some]
        centred = covariates[some] - covariates[some].mean(axis=0)
        covariates = np.linalg.qr(centred)[0]
    if len(chosen) - covariates.shape[1] < 10:
        raise DegenerateError(explain(f"{len(chosen):,} people are too few to measure LD"))
    return StandardGenotypes(reader, chosen, covariates)


def _chromosome_scores(
    people: StandardGenotypes,
    rows: np.ndarray,
    position: np.ndarray,
    window: float,
    min_maf: float,
    threads: int,
    progress: Callable[[int], object] | None,
) -> np.ndarray:
    """Scores of one chromosome: each block against itself and the blocks before it in reach."""
    score, usable = np.zeros(len(rows)), np.zeros(len(rows), bool)
    free = people.n_free - 1
    held: deque[tuple[np.ndarray, np.ndarray]] = deque()
    blocks = people.blocks(np.arange(len(rows)))

    def standard(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(rows[at])  # files are read forwards
        found, moments = people.standardised(rows[at][order])
        good = (moments.maf > min_maf) & (moments.length > 0)
        back = np.argsort(order)
        return found[back], good[back]

    for at, (values, good) in zip(blocks, in_order(standard, blocks, threads), strict=True):
        usable[at] = good
        values[~good] = 0
        while held and position[held[0][0][-1]] < position[at[0]] - window:
            held.popleft()
        held.append((at, values))
        for before, others in held:
            square = _adjusted_squares(values, others, free)
            near = np.abs(position[at][:, None] - position[before][None, :]) <= window
            square *= near & good[:, None] & usable[before][None, :]
            score[at] += square.sum(axis=1)
            if before is not at:
                score[before] += square.sum(axis=0)
        if progress is not None:
            progress(len(at))
    return np.where(usable, score, np.nan)


def _adjusted_squares(one: np.ndarray, other: np.ndarray, free: int) -> np.ndarray:
    """Squared correlations less what chance gives: zero on average for unlinked variants."""
    square = np.square((one @ other.T).astype(np.float64))
    return np.asarray(square - (1 - square) / free)


def read_ld_scores(path: str | Path) -> LdScores:
    """Read LD scores in LDSC's layout.

    Parameters
    ----------
    path : path
        A folder of ``1.l2.ldscore.gz`` to ``22.l2.ldscore.gz`` with ``.l2.M_5_50`` beside them, as
        ``eur_w_ld_chr``; a prefix, in which ``{chr}`` may stand for the chromosome; or one file.

    Returns
    -------
    LdScores
        ``n_variants`` is the sum of the ``.l2.M_5_50`` files.

    Raises
    ------
    OpenError
        If no such file is there, or its ``.l2.M_5_50`` is absent.
    MalformedError
        If a file lacks the columns CHR, SNP, BP, L2.
    """
    files = _score_files(Path(path).expanduser())
    ids: list[str] = []
    chromosomes: list[str] = []
    positions, scores, total = [], [], 0.0
    for file in files:
        table = read_table(file)
        _check_columns(file, table.column_names)
        ids += table["SNP"].cast("string").to_pylist()
        chromosomes += table["CHR"].cast("string").to_pylist()
        values = to_numbers(table, ["BP", "L2"], file, neg9="value")
        positions.append(values[:, 0].astype(np.int64))
        scores.append(values[:, 1])
        total += _read_m(file)
    twice = duplicates(ids)
    if twice:
        logger.warning("%s: %s variants occur twice", files[0].parent.name, f"{len(twice):,}")
    return LdScores(
        tuple(ids), tuple(chromosomes), np.concatenate(positions), np.concatenate(scores), total,
        f"{Path(path).name}, {len(files)} files",
    )  # fmt: skip


def _score_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    pattern = str(path / "{chr}") if path.is_dir() else str(path)
    pattern = pattern.removesuffix(_SUFFIX)
    names = [pattern.replace("{chr}", str(c)) for c in range(1, 23)] if "{chr}" in pattern else []
    names = names or [pattern, *(f"{pattern}{c}" for c in range(1, 23))]
    found = [Path(f"{name}{_SUFFIX}") for name in names if Path(f"{name}{_SUFFIX}").is_file()]
    if not found:
        raise OpenError(
            explain(
                f"no LD scores at {path}",
                where=f"tried {names[0]}{_SUFFIX} to {names[-1]}{_SUFFIX}",
                do="Give the folder that holds 1.l2.ldscore.gz and 1.l2.M_5_50, or leave the "
                "option out to compute scores from the genotypes",
            )
        )
    return found


def _check_columns(file: Path, names: Sequence[str]) -> None:
    lacking = [name for name in ("CHR", "SNP", "BP", "L2") if name not in names]
    if lacking:
        raise MalformedError(
            explain(
                f"{file} has no column {', '.join(lacking)}",
                expected="LDSC's columns CHR, SNP, BP and L2",
                where=f"it has {', '.join(names)}",
                do="Partitioned scores are not read; give the univariate ones",
            )
        )


def _read_m(file: Path) -> float:
    counts = Path(str(file).removesuffix(_SUFFIX) + ".l2.M_5_50")
    try:
        return float(counts.read_text(encoding="ascii").split()[0])
    except OSError as error:
        raise OpenError(
            explain(
                f"{counts} cannot be opened ({error.strerror})",
                expected=f"The number of variants behind {file.name}",
                do="Copy it there: it comes with the scores",
            )
        ) from error
    except (ValueError, IndexError) as error:
        raise MalformedError(explain(f"{counts} holds no number")) from error


def write_ld_scores(scores: LdScores, prefix: str | Path) -> list[Path]:
    """Write LD scores as LDSC reads them: ``PREFIX.l2.ldscore.gz`` and ``PREFIX.l2.M_5_50``.

    Parameters
    ----------
    scores : LdScores
        What to write.
    prefix : path
        Folder and beginning of the names.
    """
    import gzip

    from imgwas.files import publish

    files = [Path(f"{prefix}{_SUFFIX}"), Path(f"{prefix}.l2.M_5_50")]
    lines = ["CHR\tSNP\tBP\tL2\n"]
    columns = zip(scores.chromosome, scores.variant_id, scores.position, scores.score, strict=True)
    lines += [f"{c}\t{v}\t{p}\t{s:.6g}\n" for c, v, p, s in columns]
    with publish(files[0]) as stream:
        stream.write(gzip.compress("".join(lines).encode(), mtime=0))
    with publish(files[1], "w") as stream:
        stream.write(f"{scores.n_variants:.0f}\n")
    return files
