"""PerDI as published, beside the maps: paired t, smoothed, running sums of regions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.running import bar

if TYPE_CHECKING:
    from imgwas_cli.map_inputs import MapInputs

    from imgwas.brain.mapping import Mapper
    from imgwas.types import Atlas, BrainMap


def write_perdi(out: Path, mapper: Mapper, inputs: MapInputs, given: dict[str, Any]) -> None:
    """Shift the latents asked for (or all) by one SD; write t, smoothed t, change, and scores."""
    import numpy as np
    import pandas as pd

    from imgwas.brain.output import write_map, write_table
    from imgwas.brain.perturb import perturb_latents, published_map
    from imgwas.brain.regions import region_table
    from imgwas.types import BrainMap

    out.mkdir(exist_ok=True)
    names = list(inputs.latents.names)
    which = [names.index(n) for n in given["latent"]] if given["latent"] else range(len(names))
    values = np.asarray(inputs.latents.values)
    people = values[np.isfinite(values).all(axis=1)][: given["perdi_people"]]
    total = len(people) * (1 + len(list(which)))
    with bar(total, "perdi", "picture", quiet=given["quiet"]) as progress:
        done = perturb_latents(
            mapper.decoder, people, list(which), batch=given["batch"], progress=progress
        )
    tables = []
    for one in done:
        name = names[one.latent]
        direction = np.zeros(len(names))
        direction[one.latent] = one.sd
        decoder = mapper.decoder
        maps = {
            "perdi": (published_map(decoder, one.t), "t", "smoothed |t|"),
            "t": (decoder.to_grid(np.nan_to_num(one.t)), "t", "t"),
            "change": (decoder.to_grid(one.change), "change", "intensity per SD"),
        }
        for kind, (grid, statistic, unit) in maps.items():
            brain_map = BrainMap(
                values=grid, mask=decoder.mask, affine=decoder.affine, statistic=statistic,
                unit=unit, name=name, direction=direction, step=one.step,
            )  # fmt: skip
            write_map(out / f"{name}_{kind}.nii.gz", brain_map)
            if kind == "perdi" and inputs.atlas is not None:
                if not given["no_figures"]:
                    _draw_sums(out / f"{name}_sums.{given['figures']}", brain_map, inputs.atlas)
                table = region_table(brain_map, inputs.atlas)
                table.insert(0, "latent", name)
                tables.append(table.sort_values("ks", ascending=False, ignore_index=True))
    if tables:
        note = f"PerDI over {len(people)} people: ks is the published score, it has no P"
        write_table(out / "regions.tsv", pd.concat(tables, ignore_index=True), [note])
    click.echo(f"perdi    {len(done)} latents in {out}")


def _draw_sums(path: Path, brain_map: BrainMap, atlas: Atlas) -> None:
    """Draw the running sum of every region."""
    import matplotlib.pyplot as plt

    from imgwas.brain.regions import ks_running_sum
    from imgwas.plots import ks_curves, save_figure

    walked = ks_running_sum(brain_map, atlas)
    ax = ks_curves(dict(zip(walked.names, walked.sums, strict=True)), title=brain_map.name)
    save_figure(ax.figure, path)
    plt.close("all")
