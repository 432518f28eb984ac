"""``imgwas simulate --images``: scans of simulated people, and the next command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.running import bar

if TYPE_CHECKING:
    from imgwas.simulate import BrainTemplate, ImageCohort

#: Options that belong to simulated latents only, by the value that means "not given".
_LATENTS_ONLY = {"brains": False, "ids": None, "missing_latents": 0.0, "messy_ids": False}


def simulate_images(out: Path, given: dict[str, Any]) -> None:
    """Write a study of brains or hearts and say what to do with it."""
    from imgwas.simulate import read_effects

    _check(given)
    people = {
        "n_samples": 300 if given["samples"] is None else given["samples"],
        "n_variants": 2000 if given["variants"] is None else given["variants"],
        "n_null": given["null"],
        "seed": given["seed"],
        "effects": read_effects(given["effects"]) if given["effects"] else None,
        "populations": given["populations"],
        "fst": given["fst"],
        "sib_pairs": given["sib_pairs"],
        "trios": given["trios"],
        "duplicates": given["duplicates"],
        "missing_rate": given["missing_calls"],
    }
    if given["variance_explained"] is not None:
        people["variance_explained"] = given["variance_explained"]
    if given["planted"] is not None:
        people["n_planted"] = given["planted"]
    if given["chromosomes"]:
        people["chromosomes"] = given["chromosomes"]
    with bar(people["n_samples"], "simulate", "image") as progress:
        made = _make(out, given, people | {"progress": progress})
    _report(made, given)


def _make(out: Path, given: dict[str, Any], people: dict[str, Any]) -> ImageCohort:
    from imgwas import simulate

    if given["images"] == "heart":
        return simulate.simulate_hearts(
            out, grid=given["pixels"], n_frames=given["frames"], **people
        )
    if given["region_sd"] is not None:
        people["region_sd"] = given["region_sd"]
    return simulate.simulate_images(
        out, template=_template(given), grid_mm=given["grid_mm"], **people
    )


def _template(given: dict[str, Any]) -> BrainTemplate | None:
    from imgwas.simulate import read_template

    if given["template"] is None:
        return None
    return read_template(
        given["template"], given["labels"], given["label_names"], grid_mm=given["grid_mm"]
    )


def _check(given: dict[str, Any]) -> None:
    """Refuse options that contradict each other."""
    from imgwas.errors import UsageError, explain

    odd = [name for name, absent in _LATENTS_ONLY.items() if given[name] != absent]
    if odd:
        name = f"--{odd[0].replace('_', '-')}"
        raise UsageError(
            explain(f"{name} belongs to simulated latents", do=f"Leave out {name} or --images")
        )
    files = [given[name] for name in ("template", "labels", "label_names")]
    if any(files) and not all(files):
        raise UsageError(
            explain(
                "a template needs three files",
                expected="--template T1.nii.gz --labels atlas.nii.gz --label-names names.csv",
            )
        )
    if any(files) and given["images"] == "heart":
        raise UsageError(explain("--template is for --images brain; hearts are drawn by formulae"))
    if given["effects"] and given["planted"] is not None:
        raise UsageError(
            explain("--effects and --planted were both given", do="Keep one: a table or a number")
        )


def _report(made: ImageCohort, given: dict[str, Any]) -> None:
    folder = made.folder
    n_planted = int((made.truth["role"] == "planted").sum())
    click.echo(
        f"{len(made.volumes)} images are in {folder / 'images'}; {n_planted} planted effects and "
        f"{len(made.truth) - n_planted} variants without one are listed in {folder / 'truth.tsv'}",
        err=True,
    )
    settings = "--set latents=8 --set width=8 --set levels=3 --set background=zero "
    if given["images"] == "heart":
        click.echo(f"next: imgwas images qc {made.images} --out {folder / 'qc'}", err=True)
        return
    click.echo(
        f"next: imgwas train udip {made.images} --keep {made.train} {settings}"
        f"--out {folder / 'run'}",
        err=True,
    )
