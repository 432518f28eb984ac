"""The map of one direction: effect, z, thresholds, regions, and how far to trust it.

:class:`Mapper` holds what does not depend on the direction (the decoder's average derivative, what
chance does to every voxel and region), so that a map of one more variant costs a matrix product.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.brain import effects
from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction, units_per_sd
from imgwas.brain.effects import Readout, Spread
from imgwas.brain.jacobian import AverageJacobian
from imgwas.brain.region_tests import RegionTests
from imgwas.brain.volume_change import VolumeReader
from imgwas.errors import UsageError, explain
from imgwas.multiple_testing import false_discovery_rates
from imgwas.shapes import Float, Float64
from imgwas.types import Atlas, BrainMap

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MapSettings:
    """What decides the numbers of a map beside its inputs.

    ``draws`` effect vectors of chance make the null of the largest z and of region shares;
    ``level`` is the family-wise level and the false discovery rate; ``gate`` is the -log10 P of the
    test of all latents together from which a variant's map is called a finding (a trait is one
    test: its map is one from ``level``).
    """

    draws: int = 1999
    level: float = 0.05
    gate: float = 7.30103
    step: float = 1.0
    seed: int = 0
    blur: float = 0.0


@dataclass(frozen=True)
class EffectMap:
    """What a direction does to the picture.

    Parameters
    ----------
    direction : Direction
    effect : BrainMap
        Change of intensity per allele, SD, year or group.
    z : BrainMap or None
        Effect over standard error; None where the direction was not estimated.
    summary : mapping
        One row of numbers: the joint test, voxels beyond the thresholds, agreement of exact and
        finite steps and of people.
    regions : DataFrame
        One row a region, best first; empty without an atlas.
    """

    direction: Direction
    effect: BrainMap
    z: BrainMap | None
    summary: Mapping[str, Any]
    regions: pd.DataFrame = field(repr=False)

    @property
    def is_finding(self) -> bool:
        """Whether the latents together are associated; if not, the map shows noise."""
        return bool(self.summary["is_finding"])


class Mapper:
    """Turn directions of latent space into maps.

    Parameters
    ----------
    decoder : Decoder
    jacobian : AverageJacobian
        Of the same decoder.
    covariance : (latents, latents) float array
        Of the latents after covariates, in the encoder's units.
    people : (people, latents) float array
        Latents of a few people, for the checks of linearity and of agreement between people.
    atlas : Atlas, optional
        On the decoder's grid.
    volumes : VolumeReader, optional
        How volumes of its regions are read; off the picture by default.
    settings : MapSettings, optional

    Raises
    ------
    InconsistentError
        If atlas, covariance and decoder do not belong together.
    """

    def __init__(
        self,
        decoder: Decoder,
        jacobian: AverageJacobian,
        covariance: Float64[np.ndarray, "latents latents"],
        people: Float[np.ndarray, "people latents"],
        *,
        atlas: Atlas | None = None,
        volumes: VolumeReader | None = None,
        settings: MapSettings | None = None,
    ) -> None:
        self.settings = settings or MapSettings()
        self.decoder, self.jacobian, self.people = decoder, jacobian, np.asarray(people)
        self.covariance = covariance
        self.spread = Spread.of(covariance)
        self.voxels = Readout(jacobian.mean, self.spread)
        largest = self.voxels.largest_null_z(self.settings.draws, self.settings.seed)
        #: size of z that a chance map exceeds anywhere in 5 % of maps
        self.threshold = effects.family_wise_threshold(largest, self.settings.level)
        self.regions = None
        if atlas is not None:
            self.regions = RegionTests(
                atlas, decoder, jacobian, self.spread, volumes, blur=self.settings.blur,
                draws=self.settings.draws, seed=self.settings.seed + 1,
            )  # fmt: skip

    def map(self, direction: Direction) -> EffectMap:
        """Map one direction.

        The effect of voxel v is ``J_v b``, the decoder's average derivative times the move b; its
        z is ``J_v b / sqrt(c J_v C J_v')``, exactly that of a scan of the decoded voxel.

        Parameters
        ----------
        direction : Direction
            Of this decoder's latents.
        """
        import pandas as pd

        if len(direction.vector) != self.decoder.n_latents:
            raise UsageError(
                explain(f"the direction {direction.name} has {len(direction.vector)} latents",
                        expected=f"The decoder has {self.decoder.n_latents}")
            )  # fmt: skip
        effect = self.voxels.effect(direction.vector)
        z = None
        summary: dict[str, Any] = {
            "name": direction.name, "kind": direction.kind, "per": direction.per, "n": direction.n,
        }  # fmt: skip
        if direction.variance is not None:
            z = self.voxels.z(direction.vector, direction.variance)
            summary |= self._joint_test(direction) | self._voxels_called(z)
        else:
            summary |= {"neg_log10_p": np.nan, "is_finding": True}
        summary |= self._trust(direction, effect)
        regions = pd.DataFrame()
        if self.regions is not None:
            regions = self.regions.table(direction, effect)
        return EffectMap(
            direction,
            self._as_map(direction, effect, "effect", f"intensity per {direction.per}"),
            None if z is None else self._as_map(direction, z, "z", "z"),
            summary,
            regions,
        )

    def _as_map(
        self, direction: Direction, values: np.ndarray, statistic: str, unit: str
    ) -> BrainMap:
        return BrainMap(
            values=self.decoder.to_grid(values), mask=self.decoder.mask,
            affine=self.decoder.affine, statistic=statistic, unit=unit, name=direction.name,
            direction=np.asarray(direction.vector, np.float64),
        )  # fmt: skip

    def _joint_test(self, direction: Direction) -> dict[str, Any]:
        """Test all latents at once: F of the regression of the variant on the latents."""
        nlp = joint_neg_log10_p(direction, self.spread)
        is_variant = direction.kind == "variant"
        gate = self.settings.gate if is_variant else -np.log10(self.settings.level)
        return {"neg_log10_p": nlp, "is_finding": bool(nlp >= gate)}

    def _voxels_called(self, z: np.ndarray) -> dict[str, Any]:
        rates = false_discovery_rates(effects.two_sided_p(z))
        return {
            "largest_z": float(np.abs(z).max()),
            "z_threshold": self.threshold,
            "voxels_family_wise": int((np.abs(z) >= self.threshold).sum()),
            "voxels_fdr": int((rates <= self.settings.level).sum()),
        }

    def _trust(self, direction: Direction, effect: np.ndarray) -> dict[str, Any]:
        """Compare the map with a finite step, and people with each other."""
        per_sd = units_per_sd(direction.vector, self.covariance)
        move = direction.vector * per_sd * self.settings.step
        if not np.any(move):
            return {}
        steps = self.decoder.difference(self.people, move)
        slopes = self.decoder.derivative(self.people, direction.vector)
        finite = steps.mean(axis=0, dtype=np.float64)
        exact = slopes.mean(axis=0, dtype=np.float64) * per_sd * self.settings.step
        each = np.einsum("nv,nv->", slopes, slopes, dtype=np.float64)
        mean = slopes.mean(axis=0, dtype=np.float64)
        return {
            "sd_per_unit": 1 / per_sd if per_sd else np.nan,
            "agreement_finite": cosine(effect, finite),
            "ratio_finite": float(np.linalg.norm(finite) / np.linalg.norm(exact)),
            "agreement_people": float(mean @ mean) * len(slopes) / each if each else np.nan,
        }


def joint_neg_log10_p(direction: Direction, spread: Spread) -> float:
    """-log10 P of the F test of a variant (or trait) on all latents together.

    With u the whitened effects, ``R2 = u'u / (c dof)`` is the share of the variant that the latents
    explain after covariates, and ``F = (R2 / K) / ((1 - R2) / (dof + 1 - K))``.
    """
    from imgwas.sumstats.tails import neg_log10_p_r2

    if direction.variance is None:
        return float("nan")
    u = spread.whiten(direction.vector)
    r2 = float(u @ u) / (direction.variance * direction.dof)
    k, rest = spread.rank, direction.dof + 1 - spread.rank
    if rest < 1:
        return float("nan")
    return float(neg_log10_p_r2(np.array([r2]), k, rest)[0])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two maps: 1 is the same pattern."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else float("nan")


def map_many(
    mapper: Mapper,
    directions: Sequence[Direction],
    progress: Callable[[int], object] | None = None,
) -> list[EffectMap]:
    """Map several directions and correct their regions over all of them.

    Adds ``share_q_all`` to the region tables: false discovery rates over directions and regions.
    """
    done = []
    for direction in directions:
        done.append(mapper.map(direction))
        if progress is not None:
            progress(1)
    filled = [one for one in done if len(one.regions)]
    if filled:
        p = np.concatenate([one.regions["share_p"].to_numpy() for one in filled])
        rates = false_discovery_rates(p)
        start = 0
        for one in filled:
            stop = start + len(one.regions)
            one.regions["share_q_all"] = rates[start:stop]
            start = stop
    return done
