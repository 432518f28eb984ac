"""``imgwas traverse``: a page with a slider for every latent, film for talks, curves of hearts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs, options
from imgwas_cli.options import FILE, FOLDER, CommaList, Command
from imgwas_cli.running import bar, device

if TYPE_CHECKING:
    import numpy as np

    from imgwas.brain.decoding import Decoder
    from imgwas.brain.directions import Direction
    from imgwas.brain.traversal import Start, Walk
    from imgwas.encoders.checkpoints import Loaded
    from imgwas.types import Images, Latents

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas traverse run/ --latents latents.parquet --images prepared/ --out page.html
imgwas traverse run/ --latents latents.parquet --images prepared/ --scan results/ \\
    --variant rs429358 --trait people.tsv --trait-name age --gif --out page.html
imgwas traverse diffae/ --latents latents.parquet --latent L003,L017 --mp4 --out hearts.html
"""
GROUPS = {
    "Encoder": ["latents", "images", "mask", "visit", "cine", "ventricle", "device"],
    "What is moved": ["n_latents", "latent", "component", "scan", "variant", "loci", "top",
                      "weights", "trait", "trait_name", "trait_model", "trait_time", "covar",
                      "categorical", "directions", "reach", "steps"],
    "Where it begins": ["min_people", "sample"],
    "Output": ["out", "title", "gif", "mp4", "quiet", "verbose"],
}  # fmt: skip
#: What ``read_directions`` looks at, as "not given".
ASKED = ("latent", "component", "variant", "loci", "top", "trait")


@click.command(cls=Command, example=EXAMPLE, groups=GROUPS)
@click.argument("encoder", metavar="RUN", type=FOLDER)
@click.option("--latents", type=FILE, required=True, help="What 'imgwas encode' wrote with it.")
@click.option("--images", type=FOLDER, help="Prepared images: they say where the brain is.")
@click.option("--mask", type=FILE, help="Voxels to draw; by default where images are not zero.")
@click.option("--visit", help="Which visit of the images, where there are several.")
@click.option("--cine", is_flag=True, help="The last axis of a 3-D grid is time.")
@click.option("--ventricle", type=FILE, help="Mask of the left ventricle, on the cines' pixels.")
@click.option("--n-latents", type=click.IntRange(1), default=10, show_default=True,
              help="The latents that vary most, where nothing is named.")  # fmt: skip
@click.option("--latent", type=CommaList(), help="These latents.")
@click.option("--component", type=click.IntRange(1), multiple=True, help="Principal component N.")
@click.option("--scan", type=FOLDER, help="Folder of a scan, for variants.")
@click.option("--variant", type=CommaList(), help="Ids of variants of the scan.")
@click.option("--loci", type=FILE, help="Table of 'imgwas loci': its lead variants.")
@click.option("--top", type=click.IntRange(1), help="The strongest variants, 1 Mb apart.")
@click.option("--weights", type=click.Choice(["effects", "inverse"]), default="effects",
              show_default=True, help="A variant's effects b, or the weights R^-1 b.")  # fmt: skip
@click.option("--trait", type=FILE, help="Table of traits, by sample id.")
@click.option("--trait-name", type=CommaList(), help="Columns of it; all by default.")
@click.option("--trait-model", type=click.Choice(["regression", "linear", "logistic", "cox"]),
              default="regression", show_default=True,
              help="Regression of latents on the trait, or the weights of a probe.")  # fmt: skip
@click.option("--trait-time", help="Column of times, for cox.")
@click.option("--covar", type=FILE, help="Adjust traits for these: head size, age, sex.")
@click.option("--categorical", type=CommaList(), help="Covariates that are classes.")
@click.option("--directions", type=FILE, help="Table: a column latent, and weights, a column a "
              "direction.")  # fmt: skip
@click.option("--reach", type=click.FloatRange(0, 10, min_open=True), default=3.0,
              show_default=True, help="How far to either side, in SD.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 15), default=3, show_default=True,
              help="Pictures to either side.")  # fmt: skip
@click.option("--min-people", type=click.IntRange(2), default=50, show_default=True,
              help="Refuse to begin at the average of fewer.")  # fmt: skip
@click.option("--sample", help="Begin at one person: the page shows that person.")
@click.option("--title", help="Heading of the page.")
@click.option("--gif", is_flag=True, help="Also a gif a direction, in OUT_films/.")
@click.option("--mp4", is_flag=True, help="Also an mp4 a direction.")
@click.option("--out", type=FILE, required=True, help="File to write, e.g. page.html.")
@device
@options.verbosity
def traverse(encoder: Path, **given: Any) -> None:
    """Write one HTML page that shows what each latent, trait or variant moves.

    RUN is a run of 'imgwas train' whose encoder has a decoder. Every slider goes from -3 to 3 SD,
    from the average of at least 50 people; pictures are rendered before, so that the page needs no
    network. Of cines the heart beats, and its ejection fraction is measured on the pictures.
    """
    from imgwas.brain.traversal import average_start, heart_table, sample_start
    from imgwas.errors import UsageError, explain
    from imgwas.report.traverse import write_traversals

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    out: Path = given["out"]
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(explain(f"--out {out} is no page", do=f"{out.with_suffix('.html')}"))
    _check_films(given)
    loaded, latents, decoder, is_cine = _open(encoder, given)
    if given["sample"]:
        start = sample_start(latents, given["sample"])
        logger.warning("the page shows ONE PERSON, who may be recognised: do not pass it on")
    else:
        start = average_start(latents, fewest=given["min_people"])
    groups = _groups(latents, given)
    done: list[Walk] = []
    walks = _walks(decoder, start, groups, done, is_cine, given)
    title = given["title"] or ("Latent traversals of the heart" if is_cine else "Latent traversals")
    about = {"Encoder": loaded.encoder.name, "Weights": loaded.digest[:12]}
    written = write_traversals(
        out, walks, decoder, start, title=title, is_cine=is_cine, about=about
    )
    click.echo(f"page     {written} ({written.stat().st_size / 1e6:.1f} MB)")
    if is_cine and any(walk.hearts for walk in done):
        from imgwas.brain.output import write_table

        path = out.with_name(f"{out.stem}_hearts.tsv")
        write_table(path, heart_table(done), ["measured on the pictures; amount in SD"])
        click.echo(f"hearts   {path}")


def _check_films(given: dict[str, Any]) -> None:
    """Find out before an hour of rendering that an mp4 cannot be made."""
    if given["mp4"]:
        from imgwas.plots.films import find_ffmpeg

        find_ffmpeg()


def _open(encoder: Path, given: dict[str, Any]) -> tuple[Loaded, Latents, Decoder, bool]:
    """Open the encoder, its latents and the place of its voxels."""
    import numpy as np
    from imgwas_cli.map_inputs import affine_of

    from imgwas.brain.decoding import Decoder, check_decodes
    from imgwas.brain.workflow import check_same_encoder
    from imgwas.encoders.checkpoints import load_encoder
    from imgwas.encoders.devices import choose_device
    from imgwas.errors import UsageError, explain
    from imgwas.images.volumes import open_images
    from imgwas.tables import read_latents

    loaded = load_encoder(encoder, device=str(choose_device(given["device"])))
    check_decodes(loaded.encoder)
    latents = check_same_encoder(read_latents(given["latents"]), loaded)
    grid = loaded.encoder.grid
    is_cine = len(grid) == 4 or given["cine"]
    if given["ventricle"] and not is_cine:
        raise UsageError(explain("--ventricle is for cines", expected="A 4-D grid, or --cine"))
    images = open_images(given["images"], visit=given["visit"]) if given["images"] else None
    affine = affine_of(loaded, images)
    mask = _mask(loaded, images, affine, given, is_cine=is_cine)
    spread = np.nanstd(latents.values, axis=0)
    return (
        loaded,
        latents,
        Decoder(loaded.encoder, mask=mask, affine=affine, spread=spread),
        is_cine,
    )


def _mask(
    loaded: Loaded, images: Images | None, affine: np.ndarray, given: dict[str, Any], *,
    is_cine: bool,
) -> np.ndarray:  # fmt: skip
    """Voxels to draw: a file, where images are not zero, or all of them."""
    import numpy as np

    from imgwas.brain.masks import mask_of_images, read_mask
    from imgwas.errors import UsageError, explain
    from imgwas.images.space import Space

    grid = loaded.encoder.grid
    if given["mask"]:
        mask = read_mask(given["mask"], Space(grid[:3], affine))
        return np.broadcast_to(mask[..., None], grid).copy() if len(grid) == 4 else mask
    if images is not None and not is_cine:
        return mask_of_images(images)
    if is_cine or getattr(loaded.encoder.settings, "mask", "all") == "all":
        return np.ones(grid, bool)
    raise UsageError(
        explain(
            "it is not known where the brain is",
            expected="A decoder trained with a masked loss paints anything outside",
            do="Give --images (prepared images) or --mask",
        )
    )


def _groups(latents: Latents, given: dict[str, Any]) -> list[tuple[np.ndarray, list[Direction]]]:
    """Directions that are asked for, or the latents that vary most."""
    from imgwas_cli.map_inputs import covariates_of, read_directions

    from imgwas.brain.directions import residual_covariance
    from imgwas.brain.traversal import most_varying
    from imgwas.checks import check_unique
    from imgwas.errors import InconsistentError
    from imgwas.sumstats import open_sumstats

    covariates = covariates_of(given)
    asked = {**given, "perdi": False}
    groups: list[tuple[np.ndarray, list[Direction]]] = []
    if given["directions"]:
        own = _directions_of(given["directions"], latents)
        groups.append((residual_covariance(latents, covariates), own))
    elif not any(given[name] for name in ASKED):
        asked["latent"] = most_varying(latents, given["n_latents"])
    if any(asked[name] for name in ASKED):
        sumstats = open_sumstats(given["scan"]) if given["scan"] else None
        groups += read_directions(sumstats, latents, covariates, asked)
    check_unique(
        "the directions", [one.name for _, found in groups for one in found],
        error=InconsistentError,
    )  # fmt: skip
    return groups


def _directions_of(path: Path, latents: Latents) -> list[Direction]:
    """Directions from a table of weights, a row a latent; latents that are not in it stay."""
    import numpy as np

    from imgwas.brain.directions import Direction
    from imgwas.errors import DegenerateError, InconsistentError, MalformedError, explain
    from imgwas.tables.source import read_table

    frame = read_table(path).to_pandas()
    if "latent" not in frame or frame.shape[1] < 2:
        raise MalformedError(
            explain(f"{path} has the columns {', '.join(map(str, frame.columns[:6]))}",
                    expected="latent, and a column of weights for each direction")
        )  # fmt: skip
    names = [str(one) for one in frame["latent"]]
    lost = [name for name in names if name not in latents.names]
    if lost or len(set(names)) < len(names):
        raise InconsistentError(
            explain(f"{path} names {len(lost)} latents that are not in the table, or one twice",
                    where=f"first: {', '.join(lost[:3])}" if lost else "", expected="Each once")
        )  # fmt: skip
    rows = [latents.names.index(name) for name in names]
    found = []
    for name in (one for one in frame.columns if one != "latent"):
        try:
            weights = np.asarray(frame[name], np.float64)
        except (TypeError, ValueError) as error:
            raise MalformedError(explain(f"the column {name} of {path} is no number")) from error
        if not np.isfinite(weights).all() or not weights.any():
            raise DegenerateError(
                explain(f"the direction {name} of {path} has missing weights, or only zeros")
            )
        vector = np.zeros(len(latents.names))
        vector[rows] = weights
        found.append(Direction(str(name), vector, "SD", "trait"))
    return found


def _walks(
    decoder: Decoder, start: Start, groups: list[tuple[np.ndarray, list[Direction]]],
    done: list[Walk], is_cine: bool, given: dict[str, Any],
) -> Iterator[Walk]:  # fmt: skip
    """Walk along one direction after the other; films are written on the way."""
    import numpy as np

    from imgwas.brain.traversal import Walk, walk_along
    from imgwas.errors import UsageError, explain

    steps = np.linspace(-given["reach"], given["reach"], 2 * given["steps"] + 1)
    steps[given["steps"]] = 0.0
    zooms = np.linalg.norm(decoder.affine[:3, :2], axis=0)
    if is_cine and not np.allclose(zooms[0], zooms[1], rtol=0.01):
        raise UsageError(
            explain(
                f"pixels of this cine are {zooms[0]:.3g} x {zooms[1]:.3g} mm",
                expected="Square pixels, so that volumes can be measured on the pictures",
                do="Prepare the images with the step resample",
            )
        )
    left = _ventricle(given["ventricle"], decoder) if given["ventricle"] else None
    pairs = [(covariance, one) for covariance, found in groups for one in found]
    stems = _stems(given["out"], [one.name for _, one in pairs])
    with bar(len(pairs), "walks", "walk", quiet=given["quiet"]) as progress:
        for covariance, direction in pairs:
            walk = walk_along(
                decoder, start, direction, covariance, tuple(steps.tolist()),
                pixel_mm=float(zooms[0]) if is_cine else None, left=left,
            )  # fmt: skip
            _write_films(stems[direction.name], walk, decoder, zooms.tolist(), is_cine, given)
            done.append(Walk(direction, walk.amounts, walk.images[:0], walk.hearts))
            yield walk
            if progress is not None:
                progress(1)


def _stems(out: Path, names: list[str]) -> dict[str, Path]:
    from imgwas.filenames import file_names

    folder = out.with_name(f"{out.stem}_films")
    return {name: folder / stem for name, stem in file_names(names).items()}


def _ventricle(path: Path, decoder: Decoder) -> np.ndarray:
    """Read the mask of the left ventricle: (x, y), from any slices and frames it has."""
    import numpy as np

    from imgwas.errors import InconsistentError, explain
    from imgwas.images.nifti import read_volume

    values = np.asarray(read_volume(path, dimensions=(3, 4)).values)
    if values.shape[:2] != decoder.grid[:2]:
        raise InconsistentError(
            explain(f"{path} has {values.shape[0]} x {values.shape[1]} pixels",
                    expected=f"{decoder.grid[0]} x {decoder.grid[1]}, as the cines")
        )  # fmt: skip
    return np.asarray((values > 0).any(axis=tuple(range(2, values.ndim))))


def _write_films(
    stem: Path, walk: Walk, decoder: Decoder, zooms: list[float], is_cine: bool,
    given: dict[str, Any],
) -> None:  # fmt: skip
    from imgwas_cli.map_extras import with_slices

    from imgwas.plots import cine_ends, cine_film, save_figure, traversal_gif

    kinds = [kind for kind in ("gif", "mp4") if given[kind]]
    if not kinds:
        return
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        path = stem.with_name(f"{stem.name}.{kind}")
        if is_cine:
            still, moved = with_slices(walk.images[walk.middle]), with_slices(walk.images[-1])
            cine_film(path, still, moved, zooms=zooms, difference=True,
                      labels=("0 SD", f"+{walk.amounts[-1]:g} SD"))  # fmt: skip
        else:
            traversal_gif(path, walk.images, walk.amounts, decoder.affine,
                          title=walk.direction.name.replace("$", r"\$"))  # fmt: skip
    if is_cine and walk.hearts:
        middle = walk.hearts[walk.middle]
        ends = [one or middle for one in walk.hearts]
        pairs = [(one.diastole, one.systole) for one in ends if one is not None]
        figure = cine_ends(walk.images, walk.amounts, pairs, zooms=zooms,
                           title=walk.direction.name.replace("$", r"\$"))  # fmt: skip
        save_figure(figure, stem.with_name(f"{stem.name}_ends.png"))
