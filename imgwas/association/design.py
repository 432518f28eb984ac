"""Aligned samples, orthonormal covariates, residual traits, degrees of freedom.

The only door through which genotypes, latents and covariates meet. People are matched by id, never
by position, and whatever is left out is counted with its reason.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgwas.association.alignment import SampleFlow, align
from imgwas.association.projection import (
    CONSTANT,
    independent_columns,
    lengths,
    orthonormal_basis,
    remove,
    residual_traits,
    spread,
)
from imgwas.errors import DegenerateError, TooFewSamplesError, explain
from imgwas.shapes import Bool, Float64, Int64
from imgwas.types import Covariates, Latents, Samples

logger = logging.getLogger(__name__)

#: Odd latents named in the log; the others are counted.
MOST_MENTIONED = 10


@dataclass(frozen=True)
class TraitGroup:
    """Latents whose missing values fall on the same people.

    Parameters
    ----------
    columns : (traits,) int array
        Columns of the latents table.
    names : tuple of str
        Names of those columns.
    used : (samples,) bool array
        Which of the design's people the group is solved on.
    basis : (samples, rank - 1) float array
        Centred orthonormal covariates on the used people; other rows are zero.
    traits : (samples, traits) float array
        Traits with mean and covariates removed, scaled to length one; other rows are zero.
    scale : (traits,) float array
        ``s_y``: length of each residual trait before scaling, in units of the latent.
    mean, sd : (traits,) float array
        Mean and standard deviation of each trait over the used people, before projection.
    rank : int
        Rank of the covariates with the intercept.
    """

    columns: Int64[np.ndarray, " traits"]
    names: tuple[str, ...]
    used: Bool[np.ndarray, " samples"]
    basis: Float64[np.ndarray, "samples covariates"]
    traits: Float64[np.ndarray, "samples traits"]
    scale: Float64[np.ndarray, " traits"]
    mean: Float64[np.ndarray, " traits"]
    sd: Float64[np.ndarray, " traits"]
    rank: int

    @property
    def n(self) -> int:
        """Number of people used."""
        return int(self.used.sum())

    @property
    def dof(self) -> int:
        """Degrees of freedom of the t statistic, ``n - rank - 1``."""
        return self.n - self.rank - 1


@dataclass(frozen=True)
class Design:
    """Everything the scan needs to know about people, traits and covariates.

    Parameters
    ----------
    sample_columns : (samples,) int array
        Columns of the genotype matrix, increasing.
    sample_ids : tuple of str
        Ids in that order.
    groups : tuple of TraitGroup
        One per pattern of missing values.
    covariate_names : tuple of str
        Covariates in the model, after dropping.
    dropped : dict
        Covariates left out, and why.
    quarantined : dict
        Latents left out, and why.
    flow : SampleFlow
        How many people each step kept.
    """

    sample_columns: Int64[np.ndarray, " samples"]
    sample_ids: tuple[str, ...]
    groups: tuple[TraitGroup, ...]
    covariate_names: tuple[str, ...]
    dropped: dict[str, str] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    flow: SampleFlow = field(default_factory=SampleFlow)

    def __repr__(self) -> str:
        return (
            f"Design({len(self.sample_columns):,} samples, "
            f"{sum(len(g.names) for g in self.groups):,} latents in {len(self.groups)} groups, "
            f"{len(self.covariate_names)} covariates)"
        )


def build_design(
    samples: Samples,
    latents: Latents,
    covariates: Covariates | None = None,
    *,
    keep: Collection[int] | None = None,
    min_overlap: float = 0.5,
    rank_normal: bool = False,
    residualize_first: bool = False,
) -> Design:
    """Align people and prepare ``y = C g + x b + e`` for every latent.

    Parameters
    ----------
    samples : Samples
        People of the genotype file.
    latents : Latents
        Traits; a missing value leaves the person out for that trait only.
    covariates : Covariates, optional
        Without them the model has an intercept alone. People with a missing covariate are left out.
    keep : collection of int, optional
        Columns of the genotype file that ``--keep`` and ``--remove`` left.
    min_overlap : float, default 0.5
        Refuse when less than this share of the smaller file's people is found in the other.
    rank_normal : bool
        Replace each latent by its rank-based inverse normal transform among the people used.
    residualize_first : bool
        Two-step analysis: remove covariates from the latent, then regress the residual on the
        genotype alone with n - 2 degrees of freedom. Biased where genotype and covariates are
        correlated; offered for comparison with published scans only.

    Returns
    -------
    Design

    Raises
    ------
    InconsistentError
        If the files share too few people.
    TooFewSamplesError
        If no degree of freedom is left.
    DegenerateError
        If no latent can be tested.
    """
    aligned = align(samples, latents, covariates, keep=keep, min_overlap=min_overlap)
    values = latents.values[aligned.latent_rows]
    nuisance = _nuisance(covariates, aligned.covariate_rows, len(values))
    names = covariates.names if covariates is not None else ()
    kept, dropped = independent_columns(nuisance, names)
    _check_dof(len(values), len(kept) + 1)
    for name, why in dropped.items():
        logger.warning("covariate %s left out: %s", name, why)
    groups, quarantined = _trait_groups(
        values,
        latents.names,
        nuisance[:, kept],
        rank_normal=rank_normal,
        residualize_first=residualize_first,
    )
    for name, why in quarantined.items():
        logger.warning("latent %s is not tested: %s", name, why)
    if not rank_normal:
        _mention_oddities(values, latents.names, quarantined)
    if not groups:
        raise DegenerateError(_nothing_to_test(quarantined))
    return Design(
        sample_columns=aligned.sample_columns,
        sample_ids=tuple(samples.sample_ids[i] for i in aligned.sample_columns),
        groups=groups,
        covariate_names=tuple(names[i] for i in kept),
        dropped=dropped,
        quarantined=quarantined,
        flow=aligned.flow,
    )


def restrict(design: Design, people: np.ndarray, extra: np.ndarray | None = None) -> Design:
    """Solve the same traits on some of the people, with one covariate more.

    Used for chromosome X (people of known sex, sex as a covariate) and Y (males). A trait that
    cannot be tested there keeps its place with all-zero rows.

    Parameters
    ----------
    design : Design
        The design of the autosomes.
    people : (samples,) bool array
        Who is kept.
    extra : (samples,) float array, optional
        A covariate to add.
    """
    groups = tuple(_restrict_group(group, people, extra) for group in design.groups)
    return Design(
        sample_columns=design.sample_columns,
        sample_ids=design.sample_ids,
        groups=groups,
        covariate_names=design.covariate_names,
        flow=design.flow,
    )


def _restrict_group(group: TraitGroup, people: np.ndarray, extra: np.ndarray | None) -> TraitGroup:
    used = group.used & people
    unit, scale, rank = np.zeros_like(group.traits[used]), np.zeros(len(group.columns)), 0
    basis = group.basis[used]
    if used.any():
        basis = orthonormal_basis(basis if extra is None else np.column_stack([basis, extra[used]]))
        rank = basis.shape[1] + 1
        residual = remove(group.traits[used], basis)
        length = lengths(residual)  # of traits of length one, so that no unit is too small
        varies = length > CONSTANT
        unit[:, varies] = residual[:, varies] / length[varies]
        scale = length * group.scale
    return TraitGroup(
        columns=group.columns,
        names=group.names,
        used=used,
        basis=spread(basis, used),
        traits=spread(unit, used),
        scale=scale,
        mean=group.mean,
        sd=group.sd,
        rank=rank,
    )


def _nuisance(covariates: Covariates | None, rows: np.ndarray, n: int) -> np.ndarray:
    return np.empty((n, 0)) if covariates is None else covariates.values[rows]


def _check_dof(n: int, rank: int) -> None:
    if n - rank - 1 < 1:
        raise TooFewSamplesError(
            explain(
                f"{n:,} samples are left for a model of {rank} covariate dimensions (intercept "
                f"included) and the variant",
                expected=f"At least {rank + 2:,} samples are needed",
                do="Use fewer covariates, or find out above why samples were lost",
            )
        )


def _mention_oddities(
    values: np.ndarray, names: Sequence[str], quarantined: Collection[str]
) -> None:
    """Warn of latents whose statistics will hang on one person, or that are no measurement."""
    from imgwas.latents import findings_of

    findings = [f for f in findings_of(values, names) if f.latent not in quarantined]
    for finding in findings[:MOST_MENTIONED]:
        logger.warning("latent %s: %s", finding.latent, finding.problem)
    if len(findings) > MOST_MENTIONED:
        logger.warning("%s more like these", f"{len(findings) - MOST_MENTIONED:,}")
    if any("variance" in finding.problem for finding in findings):
        logger.warning("an outlier can make a signal alone; --rank-normal takes its weight away")


def _nothing_to_test(quarantined: dict[str, str]) -> str:
    some = "; ".join(f"{name}: {why}" for name, why in list(quarantined.items())[:3])
    return explain(
        f"none of the {len(quarantined):,} latents can be tested ({some})",
        expected="At least one latent must vary among the analysed samples",
    )


def _trait_groups(
    values: np.ndarray,
    names: Sequence[str],
    nuisance: np.ndarray,
    *,
    rank_normal: bool,
    residualize_first: bool,
) -> tuple[tuple[TraitGroup, ...], dict[str, str]]:
    """Group latents by their pattern of missing values and project each group."""
    patterns: dict[bytes, list[int]] = {}
    observed = np.isfinite(values)
    for column in range(values.shape[1]):
        patterns.setdefault(np.packbits(observed[:, column]).tobytes(), []).append(column)
    groups: list[TraitGroup] = []
    quarantined: dict[str, str] = {}
    for columns in patterns.values():
        group, bad = _one_group(
            values,
            np.array(columns),
            names,
            nuisance,
            observed[:, columns[0]],
            rank_normal,
            residualize_first,
        )
        quarantined |= bad
        if group is not None:
            groups.append(group)
    return tuple(groups), quarantined


def _one_group(
    values: np.ndarray,
    columns: np.ndarray,
    names: Sequence[str],
    nuisance: np.ndarray,
    used: np.ndarray,
    rank_normal: bool,
    residualize_first: bool,
) -> tuple[TraitGroup | None, dict[str, str]]:
    if not used.any():
        return None, {names[c]: "every value is missing" for c in columns}
    basis = orthonormal_basis(nuisance[used])
    rank = basis.shape[1] + 1
    if int(used.sum()) - rank - 1 < 1:
        why = f"only {int(used.sum())} samples have a value, for {rank} covariate dimensions"
        return None, {names[c]: why for c in columns}
    raw = values[np.ix_(used, columns)]
    if rank_normal:
        from imgwas.latents import rank_normalize

        raw = rank_normalize(raw)
    residual, scale, constant, explained = residual_traits(raw, basis)
    bad = {names[c]: "constant among the analysed samples" for c in columns[constant]}
    bad |= {names[c]: "explained by the covariates" for c in columns[explained & ~constant]}
    good = ~(constant | explained)
    if not good.any():
        return None, bad
    if residualize_first:
        basis, rank = basis[:, :0], 1
    group = TraitGroup(
        columns=columns[good],
        names=tuple(names[c] for c in columns[good]),
        used=used,
        basis=spread(basis, used),
        traits=spread(residual[:, good], used),
        scale=scale[good],
        mean=raw.mean(axis=0)[good],
        sd=raw.std(axis=0, ddof=1)[good],
        rank=rank,
    )
    return group, bad
