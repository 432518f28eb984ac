"""What ``imgwas map`` writes on request: walks along directions, and a table for BrainPainter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.running import bar

if TYPE_CHECKING:
    import numpy as np

    from imgwas.brain.mapping import EffectMap, Mapper
    from imgwas.images.nifti import Volume
    from imgwas.types import Atlas


def write_walks(
    out: Path, mappers: list[Mapper], each: list[list[EffectMap]], given: dict[str, Any]
) -> None:
    """Walk along every direction: a strip, a film, original beside shifted, and region curves."""
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd

    from imgwas.brain.output import write_table
    from imgwas.brain.traversal import AMOUNTS, amount_curves, traverse
    from imgwas.filenames import file_names
    from imgwas.plots import (
        cine_film,
        original_shifted_difference,
        save_figure,
        traversal_strip,
    )
    from imgwas.plots.map_figures import place_of
    from imgwas.plots.traversal import traversal_gif

    out.mkdir(exist_ok=True)
    pairs = [(m, one) for m, maps in zip(mappers, each, strict=True) for one in maps]
    stems = file_names([one.direction.name for _, one in pairs])
    decoder, curves = mappers[0].decoder, []
    with bar(len(pairs), "walks", "walk", quiet=given["quiet"]) as progress:
        for mapper, one in pairs:
            name = one.direction.name
            pictures = traverse(decoder, mapper.people, one.direction, mapper.covariance)
            images = np.stack([decoder.to_grid(picture) for picture in pictures])
            path = out / stems[name]
            if images.ndim == 5 or given["cine"]:
                zooms = np.linalg.norm(decoder.affine[:3, :2], axis=0).tolist()
                cine_film(path.with_name(f"{path.name}.gif"), with_slices(images[0]),
                          with_slices(images[-1]), zooms=zooms, labels=("-3 SD", "+3 SD"),
                          difference=True)  # fmt: skip
                write_ends(path.with_name(f"{path.name}_ends.{given['figures']}"), images,
                           AMOUNTS, zooms, name)  # fmt: skip
                if progress is not None:
                    progress(1)
                continue
            atlas = None if mapper.regions is None else mapper.regions.atlas
            place = place_of(one, atlas)
            strip = traversal_strip(images, AMOUNTS, decoder.affine, at=place)
            save_figure(strip, path.with_name(f"{path.name}_strip.{given['figures']}"))
            pair = original_shifted_difference(images[3], images[-1], decoder.affine, at=place)
            save_figure(pair, path.with_name(f"{path.name}_shifted.{given['figures']}"))
            plt.close("all")
            traversal_gif(path.with_name(f"{path.name}.gif"), images, AMOUNTS, decoder.affine,
                          at=place, title=name)  # fmt: skip
            if mapper.regions is not None:
                curve = amount_curves(decoder, pictures, AMOUNTS, mapper.regions.atlas)
                curves.append(curve.assign(name=name))
            if progress is not None:
                progress(1)
    if curves:
        table = pd.concat(curves, ignore_index=True)[["name", "region", "amount", "change"]]
        write_table(out / "curves.tsv", table, ["mean change of intensity; amount in SD"])
    click.echo(f"walks    {len(pairs)} in {out}")


def with_slices(cine: np.ndarray) -> np.ndarray:
    """(x, y, slices, frames) of a cine with or without slices."""
    return cine if cine.ndim == 4 else cine[:, :, None]


def write_ends(
    path: Path, images: np.ndarray, amounts: Sequence[float], zooms: Sequence[float], name: str
) -> None:
    """Draw hearts at the ends of diastole and systole, a column an amount.

    Where no ventricle is found, the two frames that differ most from each other.
    """
    from imgwas.brain.heart_function import as_cine
    from imgwas.brain.traversal import hearts_along
    from imgwas.plots import cine_ends, save_figure

    middle = list(amounts).index(0.0)
    start = as_cine(images[middle])
    hearts = hearts_along(images, middle, float(zooms[0]))
    apart = [float(abs(start[..., k] - start[..., 0]).sum()) for k in range(start.shape[2])]
    here = (0, apart.index(max(apart)))
    heart = hearts[middle] if hearts else None
    if heart is not None:
        here = (heart.diastole, heart.systole)
    figure = cine_ends(images, amounts, [here] * len(amounts), zooms=zooms,
                       title=name.replace("$", r"\$"))  # fmt: skip
    save_figure(figure, path)


def write_cines(
    out: Path, found: list[EffectMap], average: Volume, stems: dict[str, str], kind: str
) -> None:
    """Write a film of the average cine beside the same one moved by a direction's SD, and ends."""
    import numpy as np

    from imgwas.plots import cine_film

    out.mkdir(exist_ok=True)
    zooms = np.linalg.norm(average.affine[:3, :2], axis=0).tolist()
    still = np.asarray(average.values)
    for one in found:
        move = np.asarray(one.effect.values) / float(one.summary.get("sd_per_unit", 1.0))
        stem = stems[one.direction.name]
        cine_film(out / f"{stem}.gif", with_slices(still), with_slices(still + move),
                  zooms=zooms, labels=("average", "+1 SD"), difference=True)  # fmt: skip
        walk = np.stack([still - move, still, still + move])
        write_ends(out / f"{stem}_ends.{kind}", walk, (-1.0, 0.0, 1.0), zooms, one.direction.name)


def write_outside(
    out: Path, found: list[EffectMap], atlas: Atlas | None, given: dict[str, Any]
) -> None:
    """Paint the mean effect of every region on the brain, a picture a direction."""
    import matplotlib.pyplot as plt

    from imgwas.errors import UsageError, explain
    from imgwas.filenames import file_names
    from imgwas.plots import region_picture, save_figure

    if atlas is None:
        raise UsageError(explain("--outside needs regions", do="Give --atlas"))
    out.mkdir(exist_ok=True)
    stems = file_names([one.direction.name for one in found])
    with bar(len(found), "outside", "picture", quiet=given["quiet"]) as progress:
        for one in found:
            values = dict(zip(one.regions["region"], one.regions["effect"], strict=True))
            figure = region_picture(values, atlas, label=one.effect.unit)
            save_figure(figure, out / f"{stems[one.direction.name]}.{given['figures']}")
            plt.close("all")
            if progress is not None:
                progress(1)
    click.echo(f"pictures {len(found)} in {out}")


def write_brainpainter(path: Path, found: list[EffectMap]) -> None:
    """Write the mean absolute change of 82 regions, a row a direction."""
    from imgwas.brain.brainpainter import brainpainter_values, write_brainpainter
    from imgwas.errors import UsageError, explain

    tables = {one.direction.name: one.regions for one in found if len(one.regions)}
    if not tables:
        raise UsageError(explain("--brainpainter needs regions", do="Give a Desikan-like --atlas"))
    rows = {name: brainpainter_values(table, "effect") for name, table in tables.items()}
    write_brainpainter(path, rows)
    click.echo(f"table    {path}")
