"""Maps and tables on disk: NIfTI that other programs open, TSV that says what its columns are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.brain.mapping import EffectMap
from imgwas.files import publish
from imgwas.images.nifti import Volume, write_volume
from imgwas.types import BrainMap

if TYPE_CHECKING:
    import pandas as pd


def write_map(path: str | Path, brain_map: BrainMap) -> Path:
    """Write a map as NIfTI in its own place, float32, no name of anybody in the header."""
    path = Path(path)
    write_volume(path, Volume(np.asarray(brain_map.values, np.float32), brain_map.affine))
    return path


def write_table(path: str | Path, frame: pd.DataFrame, notes: Sequence[str] = ()) -> Path:
    """Write a table as TSV, with ``##`` lines before the header that say how it was made."""
    path = Path(path)
    with publish(path, "w") as stream:
        stream.writelines(f"## {note}\n" for note in notes)
        frame.to_csv(stream, sep="\t", index=False, na_rep="NA", float_format="%.6g")
    return path


def write_effect_map(folder: Path, stem: str, one: EffectMap) -> list[Path]:
    """Write effect and z of a direction: ``STEM_effect.nii.gz`` and ``STEM_z.nii.gz``."""
    maps = {"effect": one.effect} | ({} if one.z is None else {"z": one.z})
    return [write_map(folder / f"{stem}_{kind}.nii.gz", m) for kind, m in maps.items()]


def summary_table(maps: Sequence[EffectMap]) -> pd.DataFrame:
    """One row a direction: joint test, voxels called, agreement, the region that stands out."""
    import pandas as pd

    return pd.DataFrame([dict(one.summary) | dict(_best_region(one)) for one in maps])


def region_table_of(maps: Sequence[EffectMap]) -> pd.DataFrame:
    """One row a direction and region."""
    import pandas as pd

    frames = []
    for one in maps:
        if len(one.regions):
            frame = one.regions.copy()
            frame.insert(0, "name", one.direction.name)
            frame.insert(1, "per", one.direction.per)
            frame.insert(2, "is_finding", one.is_finding)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _best_region(one: EffectMap) -> Mapping[str, Any]:
    if not len(one.regions):
        return {}
    best = one.regions.iloc[0]
    if not one.is_finding:
        return {"region": "", "region_q": float(best["share_q"])}
    return {"region": best["region"], "region_q": float(best["share_q"])}


def notes_of(about: Mapping[str, Any], draws: int, gate: float, level: float) -> list[str]:
    """Lines that tell a reader how the tables were made."""
    return [
        f"made by imgwas {about['imgwas']} map; encoder {about['encoder']}, weights "
        f"{str(about['weights_sha256'])[:12]}, differentiated at {about['n_people']} people",
        f"is_finding: all latents together reach -log10 P {gate:g} (a trait: P {level:g}); "
        "below it a map shows noise",
        f"share: mean absolute change over that of the brain; share_p from {draws} effect vectors "
        f"of chance; q are Benjamini-Hochberg rates within a map, share_q_all over all maps; level "
        f"{level:g}",
        "volume: relative change of volume per unit of the direction, with 95 % interval",
    ]


def sentence_of(one: EffectMap) -> str:
    """Say in a line what a map found."""
    name, per = one.direction.name, one.direction.per
    if not one.is_finding:
        return (
            f"{name}: no finding (all latents together: -log10 P "
            f"{one.summary['neg_log10_p']:.1f}); its map shows noise"
        )
    if not len(one.regions):
        return f"{name}: largest change {np.abs(one.effect.values).max():.3g} per {per}"
    best = one.regions.iloc[0]
    called = "stands out" if best["share_q"] < 0.05 else "comes first, but does not stand out"
    text = f"{name}: {best['region']} {called} (q {best['share_q']:.2g})"
    if np.isfinite(best["volume"]):
        text += f", volume {best['volume']:+.1%} per {per}"
        if "volume_low" in best:
            text += f" ({best['volume_low']:+.1%} to {best['volume_high']:+.1%})"
    return text
