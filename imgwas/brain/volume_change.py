"""How a region's volume changes along a direction, and how much of it the latents carry.

There are two ways to read volumes off latents. People whose volumes were measured (by FreeSurfer,
by another segmentation) teach a linear probe, and also how much of a volume the latents carry: what
is read is too small by what they lose, and is divided by the share that survives. Or the picture
itself is read (:func:`imgwas.brain.volumes.volume_readout`); then nobody knows the share.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction
from imgwas.brain.effects import Spread, false_discovery_rates
from imgwas.brain.jacobian import AverageJacobian
from imgwas.brain.volumes import VolumeReadout, volume_readout
from imgwas.errors import InconsistentError, TooFewSamplesError, explain
from imgwas.latents.basis import orthonormal_basis, remove
from imgwas.latents.joining import aligned_values
from imgwas.latents.ledger import who_was_seen
from imgwas.shapes import Float64
from imgwas.types import Atlas, Covariates, Latents

logger = logging.getLogger(__name__)

#: Below this share of a region's volume in the latents its change is not read.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class VolumeReader:
    """Weights that read relative changes of volume off a move of the latents.

    Parameters
    ----------
    weights : (latents, regions) float array
        Relative change of volume per unit of latent.
    share : (regions,) float array
        Share of the true change that the weights read, 0 to 1; NaN where nobody knows (then
        nothing is divided).
    share_error : (regions,) float array
        Its standard error.
    noise : (regions,) float array
        Residual variance of a probe; 0 for the picture.
    gram : (latents, latents) float array or None
        Inverse of the sums of squares that a probe was fitted on.
    source : str
        ``measured volumes`` or ``picture``.
    reasons : mapping of int to str
        Rows of regions that cannot be read, and why.
    """

    weights: Float64[np.ndarray, "latents regions"]
    share: Float64[np.ndarray, " regions"]
    share_error: Float64[np.ndarray, " regions"]
    noise: Float64[np.ndarray, " regions"]
    gram: Float64[np.ndarray, "latents latents"] | None
    source: str
    reasons: Mapping[int, str] = field(default_factory=dict)

    def columns(self, direction: Direction, spread: Spread) -> dict[str, np.ndarray]:
        """Change of volume, 95 % interval, P and q of every region along a direction.

        The variance adds that of the effects on the latents, that of a probe's weights, and that
        of the share.
        """
        from scipy import special

        b = direction.vector
        read = np.asarray(b @ self.weights)
        divisor = np.where(np.isnan(self.share), 1.0, self.share)
        value = read / divisor
        columns = {"volume": value}
        if direction.variance is not None:
            chance = ((spread.factor.T @ self.weights) ** 2).sum(axis=0)
            variance = np.maximum(direction.variance * chance - read**2 / direction.dof, 0)
            if self.gram is not None:
                variance = variance + self.noise * float(b @ self.gram @ b)
            error = np.sqrt(variance) / divisor
            whole = np.hypot(error, value * np.nan_to_num(self.share_error) / divisor)
            beyond = float(special.stdtrit(min(direction.dof, 1e9), 0.975))
            with np.errstate(invalid="ignore", divide="ignore"):
                t = np.where(error > 0, value / error, np.nan)
            p = np.asarray(2 * special.stdtr(min(direction.dof, 1e9), -np.abs(t)))
            columns |= {
                "volume_low": value - beyond * whole, "volume_high": value + beyond * whole,
                "volume_p": p,
            }  # fmt: skip
        unread = list(self.reasons)
        for column in columns.values():
            column[unread] = np.nan
        if "volume_p" in columns:
            columns["volume_q"] = false_discovery_rates(columns["volume_p"])
        columns["volume_share"] = self.share
        return columns


def reader_of_picture(decoder: Decoder, jacobian: AverageJacobian, atlas: Atlas) -> VolumeReader:
    """Read volumes off the decoded picture alone: nobody knows what the latents lose."""
    picture = decoder.to_grid(jacobian.picture)
    readout = volume_readout(picture, atlas, mask=decoder.mask)
    n = len(atlas.numbers)
    unknown = np.full(n, np.nan)
    return VolumeReader(
        np.nan_to_num(readout.relative(jacobian.mean)), unknown, unknown, np.zeros(n), None,
        "picture", _unreadable(readout),
    )  # fmt: skip


def reader_of_measured(
    latents: Latents, volumes: Latents, atlas: Atlas, covariates: Covariates | None = None
) -> VolumeReader:
    """Learn from people whose volumes were measured how latents tell volumes.

    Per region, the logarithm of its volume is regressed on all latents (and the covariates) of the
    people whom the encoder has not seen. A variant that changes the volume changes the prediction
    by the share R² of its variance that the latents carry [1]_, by which the change is divided.

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
        If fewer people than twice the latents have volumes.

    References
    ----------
    .. [1] Carroll et al. (2006), Measurement Error in Nonlinear Models, on regression calibration.
    """
    columns = _matched(volumes, atlas)
    z, v, basis = _people(latents, volumes, covariates)
    z = remove(z, basis)
    n, k = z.shape
    rank = basis.shape[1] + 1
    gram = np.linalg.pinv(z.T @ z)
    weights = np.zeros((k, len(atlas.numbers)))
    share, error, noise = (np.full(len(atlas.numbers), np.nan) for _ in range(3))
    reasons = {}
    for row in range(len(atlas.numbers)):
        if row not in columns:
            reasons[row] = "nobody's volume was given"
            continue
        values = v[:, columns[row]]
        if not (values > 0).all():
            reasons[row] = f"{int((~(values > 0)).sum())} people have no volume above 0"
            continue
        y = remove(np.log(values)[:, None], basis)[:, 0]
        weights[:, row] = gram @ (z.T @ y)
        rest = float(((y - z @ weights[:, row]) ** 2).sum())
        noise[row] = rest / (n - rank - k)
        share[row] = 1 - noise[row] * (n - rank) / float(y @ y)
        error[row] = 2 * np.sqrt(max(share[row], 0)) * (1 - share[row]) / np.sqrt(n)
    reasons |= {i: w for i, w in _too_little(share).items() if i not in reasons}
    logger.info("volumes  read off the latents of %s people; %d of %d regions can be told",
                f"{n:,}", len(atlas.numbers) - len(reasons), len(atlas.numbers))  # fmt: skip
    return VolumeReader(
        weights, share, error, np.nan_to_num(noise), gram, "measured volumes", reasons
    )


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
    if len(used) < 2 * k + nuisance.shape[1]:
        raise TooFewSamplesError(
            explain(
                f"{len(used):,} people whom the encoder has not seen have volumes",
                expected=f"At least {2 * k + nuisance.shape[1]:,}, twice the latents",
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


def _too_little(share: np.ndarray) -> dict[int, str]:
    return {
        i: f"the latents carry {max(value, 0):.0%} of its volume"
        for i, value in enumerate(share.tolist())
        if value < LEAST_SHARE
    }
