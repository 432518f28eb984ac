"""How the volumes of regions change along a direction.

There are two ways to read volumes off latents. People whose volumes were measured (by FreeSurfer,
by another segmentation) show what each region's volume does to the latents; a direction is then
explained by changes of all regions together, which is exact however much of a volume the latents
lose. Or the picture itself is read (:func:`imgwas.brain.volumes.volume_readout`), and nobody knows
what is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction
from imgwas.brain.effects import Spread
from imgwas.brain.jacobian import AverageJacobian
from imgwas.brain.volumes import VolumeReadout, volume_readout
from imgwas.errors import InconsistentError, TooFewSamplesError, explain
from imgwas.latents.basis import orthonormal_basis, remove
from imgwas.latents.joining import aligned_values
from imgwas.latents.ledger import who_was_seen
from imgwas.multiple_testing import false_discovery_rates
from imgwas.shapes import Float64
from imgwas.types import Atlas, Covariates, Latents

logger = logging.getLogger(__name__)

#: A region of whose volume the latents tell less than this is not read.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class VolumeReader:
    """Weights that read relative changes of volume off a move of the latents.

    Parameters
    ----------
    weights : (latents, regions) float array
        Relative change of volume per unit of latent.
    share : (regions,) float array
        Of the variance of a region's volume beside those of the other regions, what the latents
        tell, 0 to 1; NaN where nobody knows.
    noise : (regions,) float array
        Variance of an estimate per variance of what the regions do not explain; 0 for the picture.
    gram : (regions, regions) float array
        Inverse sums of products of the volumes that the weights were learned from.
    source : str
        ``measured volumes`` or ``picture``.
    reasons : mapping of int to str
        Rows of regions that cannot be read, and why.
    unexplained : (latents, rest) float array
        U such that ``b U`` is what no change of the regions explains of a move b, each column of
        variance c where chance alone moves it; None for the picture.
    """

    weights: Float64[np.ndarray, "latents regions"]
    share: Float64[np.ndarray, " regions"]
    noise: Float64[np.ndarray, " regions"]
    gram: Float64[np.ndarray, "regions regions"]
    source: str
    reasons: Mapping[int, str] = field(default_factory=dict)
    unexplained: Float64[np.ndarray, "latents rest"] | None = None

    def columns(self, direction: Direction, spread: Spread) -> dict[str, np.ndarray]:
        """Change of volume, 95 % interval, P and q of every region along a direction.

        The variance adds that of the effects on the latents, that of the weights, and that of what
        the regions do not explain: a direction may change what no region stands for, a region that
        is left out or a brightness, and part of that is read as a change of those that are kept.
        """
        from scipy import special

        b = direction.vector
        value = np.asarray(b @ self.weights)
        columns = {"volume": value}
        if direction.variance is not None:
            chance = ((spread.factor.T @ self.weights) ** 2).sum(axis=0)
            variance = np.maximum(direction.variance * chance - value**2 / direction.dof, 0)
            error = np.sqrt(variance + self.noise * self._misfit(direction, value))
            dof = min(direction.dof, 1e9)
            beyond = float(special.stdtrit(dof, 0.975))
            with np.errstate(invalid="ignore", divide="ignore"):
                t = np.where(error > 0, value / error, np.nan)
            columns |= {
                "volume_low": value - beyond * error, "volume_high": value + beyond * error,
                "volume_p": np.asarray(2 * special.stdtr(dof, -np.abs(t))),
            }  # fmt: skip
        unread = list(self.reasons)
        for column in columns.values():
            column[unread] = np.nan
        if "volume_p" in columns:
            columns["volume_q"] = false_discovery_rates(columns["volume_p"])
        columns["volume_share"] = self.share
        return columns

    def _misfit(self, direction: Direction, value: np.ndarray) -> float:
        """Variance per latent of what the regions do not explain, beyond the direction's own.

        That of the weights is expected; if more is seen, that counts.
        """
        weights = float(value @ self.gram @ value)
        if self.unexplained is None or not self.unexplained.size or direction.variance is None:
            return weights
        seen = float(np.square(direction.vector @ self.unexplained).mean())
        return max(weights, seen - direction.variance)


def reader_of_picture(
    decoder: Decoder, jacobian: AverageJacobian, atlas: Atlas, *, blur: float = 0.0
) -> VolumeReader:
    """Read volumes off the decoded picture alone: nobody knows what the latents lose.

    ``blur`` says by how many mm pictures are softer than images (standard deviation).
    """
    picture = decoder.to_grid(jacobian.picture)
    readout = volume_readout(picture, atlas, mask=decoder.mask, blur=blur)
    n = len(atlas.numbers)
    return VolumeReader(
        np.nan_to_num(readout.relative(jacobian.mean)), np.full(n, np.nan), np.zeros(n),
        np.zeros((n, n)), "picture", _unreadable(readout),
    )  # fmt: skip


def reader_of_measured(
    latents: Latents, volumes: Latents, atlas: Atlas, covariates: Covariates | None = None
) -> VolumeReader:
    """Learn from people whose volumes were measured what volumes do to latents.

    With the logarithms v of the volumes, ``z = C g + v B + e`` by least squares over people whom
    the encoder has not seen. A variant that changes the volumes by d moves the latents by ``d B``;
    of all d the generalised least squares estimate ``d = M^-1 B S^-1 b`` is taken, S being the
    covariance of e and ``M = B S^-1 B' - K (v'v)^-1``: the second term takes away what the error of
    B adds to the first [1]_. The estimate is not biased by what the latents lose of a volume: it
    only becomes less sure. Regions of which they tell less than half, beside the other regions,
    are left out; a direction that moves the latents as no region that is kept would makes the
    intervals wider (:meth:`VolumeReader.columns`).

    Parameters
    ----------
    latents : Latents
    volumes : Latents
        One column a region, named as in the atlas (case, spaces and signs do not matter), any unit.
    atlas : Atlas
    covariates : Covariates, optional
        Those of the scan.

    Raises
    ------
    InconsistentError
        If no column has the name of a region.
    TooFewSamplesError
        If too few people have volumes: twice the latents and the covariates are needed.

    References
    ----------
    .. [1] Fuller (1987), Measurement Error Models, on regression with errors in the regressors.
    """
    columns = _matched(volumes, atlas)
    z, v, basis = _people(latents, volumes, covariates)
    n_regions, k = len(atlas.numbers), z.shape[1]
    reasons = {i: "nobody's volume was given" for i in range(n_regions) if i not in columns}
    for row in columns:
        n_bad = int((~(v[:, columns[row]] > 0)).sum())
        if n_bad:
            reasons[row] = f"{n_bad} people have no volume above 0"
    z = remove(z, basis)
    kept = [row for row in columns if row not in reasons]
    logs = remove(np.log(v[:, [columns[row] for row in kept]]), basis)
    model, chosen, shares = _joint_model(z, logs, len(z) - basis.shape[1] - 1)
    share = np.full(n_regions, np.nan)
    share[kept] = shares
    reasons |= {
        kept[i]: f"the latents tell {max(shares[i], 0):.0%} of its volume"
        for i in range(len(kept))
        if i not in chosen
    }
    rows = [kept[i] for i in chosen]
    weights, noise = np.zeros((k, n_regions)), np.zeros(n_regions)
    gram = np.zeros((n_regions, n_regions))
    weights[:, rows], noise[rows], gram[np.ix_(rows, rows)], unexplained = model
    logger.info("volumes  learned from %s people; %d of %d regions can be read", f"{len(z):,}",
                len(rows), n_regions)  # fmt: skip
    return VolumeReader(weights, share, noise, gram, "measured volumes", reasons, unexplained)


def _joint_model(
    z: np.ndarray, v: np.ndarray, dof: int
) -> tuple[tuple[np.ndarray, ...], list[int], np.ndarray]:
    """Weights, noise, Gram and the unexplained of the columns of v that z tells; which; shares.

    Columns that z tells little of by itself go first, then, all at once, those it cannot tell from
    others.
    """
    k = z.shape[1]
    fitted = z @ (np.linalg.pinv(z) @ v)
    total = np.einsum("nr,nr->r", v, v)
    rest = np.einsum("nr,nr->r", v - fitted, v - fitted)
    shares = 1 - rest / (dof - k) / (total / dof)
    # no more regions than latents can be told from each other, nor than leave freedom for errors
    best = np.argsort(-shares, kind="stable")[: min(k, dof - k - 2)]
    chosen = sorted(best[shares[best] >= LEAST_SHARE].tolist())
    while chosen:
        some = v[:, chosen]
        gram = np.linalg.pinv(some.T @ some)
        b = gram @ (some.T @ z)
        errors = z - some @ b
        left = dof - len(chosen)
        # the inverse of an estimated covariance is too large by dof / (dof - k - 1)
        precision = np.linalg.pinv(errors.T @ errors / left) * (left - k - 1) / left
        raw = b @ precision @ b.T
        inverse = np.linalg.pinv(raw - k * gram)
        spread = np.einsum("nr,nr->r", some, some) / dof
        own = np.diag(inverse)
        now = np.where(own > 0, spread / (spread + np.maximum(own, 0)), 0.0)
        shares[chosen] = now
        if (now >= LEAST_SHARE).all():
            noise = np.diag(inverse @ (raw + k * gram) @ inverse)
            found = (precision @ b.T @ inverse, noise, gram, _unexplained(precision, b))
            return found, chosen, shares
        chosen = [c for c, value in zip(chosen, now, strict=True) if value >= LEAST_SHARE]
    return (np.zeros((k, 0)), np.zeros(0), np.zeros((0, 0)), np.zeros((k, 0))), [], shares


def _unexplained(precision: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Columns U of unit variance under chance with ``b U = 0``: moves that no region makes."""
    values, vectors = np.linalg.eigh(precision)
    root = vectors * np.sqrt(np.maximum(values, 0))
    left, sizes, _ = np.linalg.svd((b @ root).T)
    return np.asarray(root @ left[:, len(sizes) :])


def _people(
    latents: Latents, volumes: Latents, covariates: Covariates | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents, volumes and covariates of the unseen people who have them all."""
    rows = {one: i for i, one in enumerate(volumes.sample_ids)}
    order = np.array([rows.get(one, -1) for one in latents.sample_ids])
    known = (order >= 0) & np.isfinite(latents.values).all(axis=1)
    marks = latents.source.get("people_seen")
    if marks:
        known &= ~who_was_seen(marks, latents.sample_ids)
    nuisance = np.empty((len(known), 0))
    if covariates is not None:
        nuisance = aligned_values(latents, covariates, min_overlap=0)
        known &= np.isfinite(nuisance).all(axis=1)
    known[known] &= np.isfinite(volumes.values[order[known]]).all(axis=1)
    used = np.flatnonzero(known)
    k = len(latents.names)
    enough = 2 * k + nuisance.shape[1] + 4
    if len(used) < enough:
        raise TooFewSamplesError(
            explain(
                f"{len(used):,} people whom the encoder has not seen have volumes",
                expected=f"At least {enough:,}: twice the latents, and the covariates",
                do="Give volumes of more people, or leave --volumes out",
            )
        )
    return latents.values[used], volumes.values[order[used]], orthonormal_basis(nuisance[used])


def _matched(volumes: Latents, atlas: Atlas) -> dict[int, int]:
    """Rows of the atlas to columns of the table, by name."""
    given = {_plain(name): i for i, name in enumerate(volumes.names)}
    found = {
        row: given[_plain(atlas.names[number])]
        for row, number in enumerate(atlas.numbers)
        if _plain(atlas.names[number]) in given
    }
    if not found:
        raise InconsistentError(
            explain(
                "no column of the volumes has the name of a region",
                where=f"columns {', '.join(volumes.names[:3])}; regions "
                f"{', '.join(atlas.names[n] for n in atlas.numbers[:3])}",
                do="Rename the columns after the atlas's names",
            )
        )
    if len(found) < len(atlas.numbers):
        logger.warning("volumes of %d of %d regions are given", len(found), len(atlas.numbers))
    return found


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _unreadable(readout: VolumeReadout) -> dict[int, str]:
    return {i: readout.reasons[n] for i, n in enumerate(readout.numbers) if n in readout.reasons}
