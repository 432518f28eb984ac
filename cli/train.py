"""``imgwas train``: images to an encoder; ``imgwas encoders``: which there are."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import options
from imgwas_cli.options import FILE, FOLDER, CommaList, Command
from imgwas_cli.running import bar, choose_people, cores, device, log_into, people

if TYPE_CHECKING:
    from imgwas.encoders.splits import Split
    from imgwas.encoders.targets import Targets
    from imgwas.types import Images

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas train udip prepared/ --out run/ --cache cache/ --set latents=128 --train epochs=100
imgwas train cnn prepared/ --out run/ --targets people.csv --target sex --folds 5
imgwas train udip prepared/ --out runs/ --seeds 1701,1993,42,1994,2023
"""
GROUPS = {
    "Encoder": ["settings", "train_settings", "config", "start_from", "seeds"],
    "Labels (supervised encoders)": ["targets", "target", "task", "folds"],
    "People": ["keep", "remove", "validation", "held_out", "groups", "id_column", "visit"],
    "Output": ["out", "overwrite", "tensorboard", "quiet", "verbose"],
    "Compute": ["device", "devices", "cache", "cache_dtype", "threads"],
}


@click.command(cls=Command, example=EXAMPLE, groups=GROUPS)
@click.argument("encoder")
@click.argument("images", type=FOLDER)
@options.out_folder
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the encoder."
)
@click.option(
    "--train",
    "train_settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the training loop.",
)
@click.option("--config", type=FILE, help="YAML file with 'encoder:' and 'train:' settings.")
@click.option("--from", "start_from", type=FOLDER, help="Start from the weights of this run.")
@click.option("--seeds", type=CommaList(), metavar="A,B,...",
              help="One run a seed, in OUT/seed-A and so on, on the same people.")  # fmt: skip
@click.option("--targets", type=FILE, help="Table with the labels.")
@click.option("--target", metavar="COLUMN", help="Its column to learn.")
@click.option(
    "--task",
    type=click.Choice(["auto", "classes", "values"]),
    default="auto",
    show_default=True,
    help="What the labels are.",
)
@click.option(
    "--folds",
    type=click.IntRange(1),
    show_default="5 for supervised encoders",
    help="Train once per fold and encode everyone out of fold; 1 trains a single network.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.25,
    show_default=True,
    help="Share of people held out.",
)
@click.option("--held-out", type=FILE, help="Hold out exactly these people (a list of ids).")
@click.option("--groups", type=FILE, help="Table of id and family: families are never parted.")
@people
@click.option("--id-column", help="Column that holds the sample ids.")
@click.option("--visit", help="Which visit, where there are several.")
@click.option("--overwrite", is_flag=True, help="Throw away another run in --out.")
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard logs.")
@click.option("--cache", type=FOLDER, help="Keep unpacked images here: epochs become fast.")
@click.option(
    "--cache-dtype",
    type=click.Choice(["float16", "float32"]),
    default="float32",
    show_default=True,
    help="Of the cache; float16 halves the disk.",
)
@click.option(
    "--devices",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes, one per device.",
)
@device
@options.threads
@options.verbosity
def train(encoder: str, images: Path, **given: Any) -> None:
    """Train an encoder on prepared images.

    ENCODER is a name of 'imgwas encoders', IMAGES a folder of 'imgwas preprocess', a list, a cache
    or a store. A run that was stopped continues, to the same weights, when the command is given
    again. Everyone a network has seen is noted, and a scan of them is refused.
    """
    from imgwas.encoders.catalogue import create_encoder
    from imgwas.encoders.features import open_inputs
    from imgwas.encoders.train_settings import TrainSettings
    from imgwas.settings import build

    settings, training = _settings(given)
    create_encoder(encoder, settings)
    build(TrainSettings, training, where="train")
    if given["seeds"]:
        from imgwas_cli.train_seeds import check_seeds

        given["seeds"] = check_seeds(given, training, n_folds=_n_folds(encoder, given))
    log_into(given["out"], given)
    opened = choose_people(open_inputs(images, visit=given["visit"]), given)
    logger.info("images   %r", opened)
    opened = _cached(opened, given)
    targets = _targets(opened, given)
    options = {"settings": settings, "train": training, "device": given["device"]}
    if _n_folds(encoder, given) > 1:
        _train_folds(encoder, opened, targets, given, options)
        return
    if given["seeds"]:
        from imgwas_cli.train_seeds import train_seeds

        split = _split(opened, given, 0)
        train_seeds(given, options, lambda one, chosen: _train_once(
            encoder, opened, targets, one, chosen, split))  # fmt: skip
        return
    _train_once(encoder, opened, targets, given, options)


def _n_folds(encoder: str, given: dict[str, Any]) -> int:
    """Folds: out of fold by default where a network sees labels."""
    from imgwas.encoders.catalogue import ENCODERS

    if given["folds"] is not None:
        return int(given["folds"])
    alone = given["start_from"] or given["held_out"]
    return 5 if ENCODERS[encoder].is_supervised and not alone else 1


def _settings(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Merge the YAML file and the words of the command line, which win."""
    from imgwas.checks import did_you_mean
    from imgwas.errors import UsageError, explain
    from imgwas.settings import mapping, parse_assignments, read_yaml

    encoder: dict[str, Any] = {}
    training: dict[str, Any] = {}
    if given["config"] is not None:
        content = read_yaml(given["config"])
        for key in content if isinstance(content, dict) else {"": None}:
            if key not in ("encoder", "train"):
                raise UsageError(
                    explain(
                        f"{given['config']} has the section {key!r}",
                        expected="Sections: encoder, train",
                        do=did_you_mean(key, ("encoder", "train")),
                    )
                )
        encoder.update(mapping(content.get("encoder"), f"{given['config']}: encoder"))
        training.update(mapping(content.get("train"), f"{given['config']}: train"))
    encoder.update(parse_assignments(given["settings"]))
    training.update(parse_assignments(given["train_settings"]))
    if given["threads"]:
        training.setdefault("threads", given["threads"])
    return encoder, training


def _cached(images: Images, given: dict[str, Any]) -> Images:
    if given["cache"] is None:
        return images
    from imgwas.images.cache import build_cache

    with bar(len(images), "cache", "image") as progress:
        return build_cache(
            images,
            given["cache"],
            dtype=given["cache_dtype"],
            threads=cores(given["threads"]),
            progress=progress,
        )


def _targets(images: Images, given: dict[str, Any]) -> Targets | None:
    from imgwas.encoders.targets import read_targets

    if (given["targets"] is None) != (given["target"] is None):
        raise click.UsageError("--targets FILE and --target COLUMN go together.")
    if given["targets"] is None:
        return None
    return read_targets(
        given["targets"],
        given["target"],
        images.sample_ids,
        task=given["task"],
        id_column=given["id_column"],
    )


def _groups(images: Images, given: dict[str, Any]) -> list[str] | None:
    if given["groups"] is None:
        return None
    from imgwas.encoders.targets import read_groups

    return read_groups(given["groups"], images.sample_ids, id_column=given["id_column"])


def _split(images: Images, given: dict[str, Any], seed: int) -> Split:
    from imgwas.encoders.splits import split_people
    from imgwas.tables import read_id_list

    held_out = None
    if given["held_out"] is not None:
        here = set(images.sample_ids)
        listed = read_id_list(given["held_out"]).sample_ids
        held_out = [one for one in listed if one in here]
        logger.info("held out %d of the %d listed people have an image", len(held_out), len(listed))
    return split_people(
        images.sample_ids,
        validation=given["validation"],
        seed=seed,
        groups=_groups(images, given),
        held_out=held_out,
    )


def _train_once(
    encoder: str,
    images: Images,
    targets: Targets | None,
    given: dict[str, Any],
    options: dict[str, Any],
    split: Split | None = None,
) -> None:
    from imgwas.encoders.checkpoints import load_encoder
    from imgwas.encoders.fitting import fit
    from imgwas.encoders.runs import Run

    start: Any = encoder
    seen: list[str] = []
    if given["start_from"] is not None:
        start = load_encoder(given["start_from"]).encoder
        seen = Run(given["start_from"]).people_seen() or []
    split = split or _split(images, given, int(options["train"].get("seed", 0)))
    logger.info("people   %d to learn from, %d held out", len(split.train), len(split.validation))
    if encoder == "patch-cnn" and targets is not None:
        from imgwas.encoders.patch_ranking import fit_patches

        fitted = fit_patches(
            images,
            targets,
            out=given["out"],
            split=split,
            overwrite=given["overwrite"],
            devices=given["devices"],
            **options,
        )
    else:
        epochs = int(options["train"].get("epochs", 100))
        with bar(epochs * len(split.train), "train", "image") as progress:
            fitted = fit(
                start,
                images,
                out=given["out"],
                targets=targets,
                split=split,
                seen=seen,
                devices=given["devices"],
                overwrite=given["overwrite"],
                progress=progress,
                **options,
            )
    _report(fitted, given)


def _train_folds(
    encoder: str,
    images: Images,
    targets: Targets | None,
    given: dict[str, Any],
    options: dict[str, Any],
) -> None:
    from imgwas.encoders.folds import fit_folds

    if targets is None:
        raise click.UsageError("--folds is for supervised encoders: give --targets and --target.")
    folds = fit_folds(
        encoder,
        images,
        targets,
        out=given["out"],
        n_folds=_n_folds(encoder, given),
        groups=_groups(images, given),
        overwrite=given["overwrite"],
        **options,
    )
    agreement = ", ".join(f"{r:.2f}" for r in folds.agreement)
    logger.info("folds    features of fold 1 and the others agree: %s", agreement)
    logger.info(
        "next: imgwas associate --bfile cohort --latents %s", given["out"] / "latents.parquet"
    )


def _report(fitted: Any, given: dict[str, Any]) -> None:
    from imgwas.plots import save_figure
    from imgwas.plots.training import learning_curve

    best = fitted.history[fitted.best_epoch - 1]
    logger.info("best     epoch %d, validation loss %.6g", best["epoch"], best["validation_loss"])
    save_figure(learning_curve(fitted.history).figure, given["out"] / "learning_curve.pdf")
    if given["tensorboard"]:
        from imgwas.encoders.tensorboard import write_tensorboard

        write_tensorboard(fitted.history, given["out"] / "tensorboard")
    logger.info("next: imgwas encode IMAGES %s --out latents.parquet", given["out"])


@click.command(
    cls=Command,
    example="imgwas encoders\nimgwas encoders udip --set grid=182,218,182 --json",
)
@click.argument("name", required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def encoders(name: str | None, settings: tuple[str, ...], *, as_json: bool) -> None:
    """List the encoders, or describe one: parameters, latents, memory, paper, settings."""
    from imgwas.encoders.catalogue import ENCODERS, create_encoder, describe
    from imgwas.settings import parse_assignments

    if name is None:
        rows = {key: describe(create_encoder(key)) for key in ENCODERS}
        if as_json:
            click.echo(json.dumps(rows, indent=2))
            return
        for key, row in rows.items():
            kind = "supervised" if row["supervised"] else "decodes" if row["decodes"] else ""
            click.echo(f"{key:12} {row['latents']:5} latents  {kind:10}  {row['paper']}")
        return
    row = describe(create_encoder(name, parse_assignments(settings)))
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    for key, value in row.items():
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for field, inner in value.items():
                click.echo(f"  {field} = {inner}")
        else:
            shown = (
                f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
            )
            click.echo(f"{key}: {shown}")
