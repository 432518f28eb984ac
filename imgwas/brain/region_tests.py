"""Which regions a direction changes, and whether chance would have picked them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain import effects
from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction
from imgwas.brain.effects import Readout, Spread
from imgwas.brain.jacobian import AverageJacobian
from imgwas.brain.regions import RegionScorer
from imgwas.brain.volume_change import VolumeReader, reader_of_picture
from imgwas.multiple_testing import false_discovery_rates
from imgwas.shapes import Float, Float64
from imgwas.types import Atlas

if TYPE_CHECKING:
    import pandas as pd

#: Draws decoded together.
BLOCK = 128


class RegionTests:
    """Effects, volumes and shares of regions for any direction.

    The mean change of a region and the change of its volume are linear in the direction, so their
    standard errors follow from those of the latents. A region's share is its mean absolute change
    over that of the whole brain; its P compares with effect vectors drawn from N(0, C), the
    directions that chance takes: under no association the direction of a variant's effects is one
    of them, whatever their size, so that P is uniform then; of a true association it asks whether
    the region stands out more than genetic noise of the same strength would make it.

    Parameters
    ----------
    atlas : Atlas
        On the decoder's grid.
    decoder : Decoder
    jacobian : AverageJacobian
    spread : Spread
    volumes : VolumeReader, optional
        How volumes are read; off the picture by default.
    blur : float
        By how many mm pictures are softer than images, where volumes are read off them.
    draws : int
        Effect vectors of the null.
    seed : int
    """

    def __init__(
        self,
        atlas: Atlas,
        decoder: Decoder,
        jacobian: AverageJacobian,
        spread: Spread,
        volumes: VolumeReader | None = None,
        *,
        blur: float = 0.0,
        draws: int,
        seed: int,
    ) -> None:
        self.atlas, self.decoder = atlas, decoder
        self.scorer = RegionScorer(atlas, decoder.mask)
        self.mean = Readout(self.scorer.mean_signed(jacobian.mean), spread)
        self.spread = spread
        self.volumes = volumes or reader_of_picture(decoder, jacobian, atlas, blur=blur)
        self.null = self._null_shares(jacobian, spread.draw(draws, seed))

    def _null_shares(
        self, jacobian: AverageJacobian, draws: Float64[np.ndarray, "draws latents"]
    ) -> Float64[np.ndarray, "draws regions"]:
        found = []
        for start in range(0, len(draws), BLOCK):
            some = draws[start : start + BLOCK].astype(np.float32)
            found.append(self.shares(some @ jacobian.mean))
        return np.concatenate(found)

    def shares(self, maps: Float[np.ndarray, "maps voxels"]) -> Float64[np.ndarray, "maps regions"]:
        """Mean absolute change of every region over that of the whole brain."""
        whole = np.abs(maps).mean(axis=1)
        return effects.shares(self.scorer.mean_absolute(maps), whole)

    def table(self, direction: Direction, effect: Float64[np.ndarray, " voxels"]) -> pd.DataFrame:
        """One row a region, the most outstanding first.

        Returns
        -------
        DataFrame
            ``rank``, ``region``, ``label``, ``hemisphere``, ``n_voxels``; ``effect`` (mean change
            of intensity) and ``volume`` (relative change of volume), each with ``_low`` and
            ``_high`` of its 95 % interval, ``_p`` and ``_q``; ``volume_share``, how much of the
            volume the latents carry; ``share``, ``share_p``, ``share_q``. There are no intervals
            and no P where the direction was not estimated.
        """
        import pandas as pd

        numbers = self.scorer.numbers
        share = self.shares(effect[None].astype(np.float32))[0]
        p = effects.chance_p(share, self.null)
        columns = {
            "region": [self.atlas.names[n] for n in numbers],
            "label": list(numbers),
            "hemisphere": [self.atlas.hemispheres.get(n, "") for n in numbers],
            "n_voxels": self.scorer.n_voxels,
            **_estimated("effect", self.mean, direction),
            **self.volumes.columns(direction, self.spread),
            "share": share,
            "share_p": p,
            "share_q": false_discovery_rates(p),
        }
        frame = pd.DataFrame(columns)
        frame = frame.sort_values(
            ["share_p", "share"], ascending=[True, False], ignore_index=True, kind="stable"
        )
        frame.insert(0, "rank", np.arange(1, len(frame) + 1))
        return frame


def _estimated(name: str, readout: Readout, direction: Direction) -> dict[str, np.ndarray]:
    """Estimate, 95 % interval, P and q of a linear readout; t with the regression's dof."""
    from scipy import special

    value = readout.effect(direction.vector)
    if direction.variance is None:
        return {name: value}
    variance = direction.variance * readout.unit_error**2 - value**2 / direction.dof
    error = np.sqrt(np.maximum(variance, 0))
    beyond = float(special.stdtrit(min(direction.dof, 1e9), 0.975))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(error > 0, value / error, np.nan)
    p = np.asarray(2 * special.stdtr(min(direction.dof, 1e9), -np.abs(t)))
    return {
        name: value,
        f"{name}_low": value - beyond * error,
        f"{name}_high": value + beyond * error,
        f"{name}_p": p,
        f"{name}_q": false_discovery_rates(p),
    }
