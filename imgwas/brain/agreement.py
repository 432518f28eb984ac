"""Whether two training seeds show the same anatomy for the same hit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain.mapping import EffectMap, cosine
from imgwas.errors import InconsistentError, MalformedError, OpenError, explain
from imgwas.files import read_json
from imgwas.images.nifti import read_volume
from imgwas.images.space import Space, check_space, space_of

if TYPE_CHECKING:
    import pandas as pd


def agreement_with(folder: str | Path, maps: Sequence[EffectMap]) -> pd.DataFrame:
    """Compare effect maps with those of the same names that another encoder gave.

    Latents of two training runs mean nothing to each other, but their maps are pictures.

    Parameters
    ----------
    folder : path
        What ``imgwas map`` wrote for another training seed.
    maps : sequence of EffectMap

    Returns
    -------
    DataFrame
        ``name``, ``agreement_seeds`` (cosine of the two effect maps in the mask) and
        ``same_sign_seeds`` (share of the strongest tenth of the voxels that change the same way).

    Raises
    ------
    OpenError
        If the folder holds no maps.
    MalformedError
        If what it says of them cannot be read.
    InconsistentError
        If no map has the same name, or the maps lie on other voxels.
    """
    import pandas as pd

    folder = Path(folder)
    if not (folder / "map.json").exists():
        raise OpenError(explain(f"{folder} holds no map.json", do="Name a folder of imgwas map"))
    try:
        stems = dict(read_json(folder / "map.json")["maps"])
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedError(
            explain(f"{folder / 'map.json'} is damaged or of another program",
                    do="Name a folder of imgwas map")
        ) from error  # fmt: skip
    rows = []
    for one in maps:
        stem = stems.get(one.direction.name)
        if stem is not None:
            rows.append(_compare(one, folder / "maps" / f"{stem}_effect.nii.gz"))
    if not rows:
        raise InconsistentError(
            explain(f"{folder} has no map of these names",
                    where=f"it has {', '.join(list(stems)[:3])}")
        )  # fmt: skip
    return pd.DataFrame(rows)


def _compare(one: EffectMap, path: Path) -> dict[str, object]:
    other = read_volume(path)
    check_space(space_of(other), Space(one.effect.grid, one.effect.affine), str(path))
    a = np.asarray(one.effect.values, np.float64)[one.effect.mask]
    b = np.asarray(other.values, np.float64)[one.effect.mask]
    strong = np.abs(a) >= np.quantile(np.abs(a), 0.9)
    same = float((np.sign(a[strong]) == np.sign(b[strong])).mean())
    return {"name": one.direction.name, "agreement_seeds": cosine(a, b), "same_sign_seeds": same}
