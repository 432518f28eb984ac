"""``imgwas images``: find images, decide whose count, and turn DICOM cine into a store."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import images_qc, logs, options
from imgwas_cli.options import FILE, FOLDER, CommaList, Command, stack
from imgwas_cli.running import bar, dask_client

if TYPE_CHECKING:
    from imgwas.images.listing import ImageList
    from imgwas.images.matching import Match

logger = logging.getLogger("imgwas.cli")

LIST_EXAMPLE = """
imgwas images list scans.csv --image T1_unbiased_linear --out images.tsv
imgwas images list t1/ --pattern '{id}_T1.nii.gz' --match cohort.fam --out images.tsv
imgwas images list bids/ --space MNI152NLin6Asym --desc preproc --out images.tsv
imgwas images list bulk/ --field 20252 --bridge ids.tsv --withdrawn w.csv --out images.tsv
"""
STORE_EXAMPLE = """
imgwas images to-store bulk/ --view 4Ch --out hearts.h5
imgwas images to-store dicom/ --pattern '{id}/{visit}' --view 2Ch,4Ch --out hearts.h5
"""
#: options of ``list`` that go to the finder of images as they are
_FINDER = (
    "kind", "image", "id_column", "visit_column", "mask_column", "matrix_column", "member_column",
    "pattern", "mask", "matrix", "suffix", "datatype", "space", "desc", "session", "run", "field",
    "array", "view", "series", "missing",
)  # fmt: skip


@click.group()
def images() -> None:
    """Find images, decide whose count, and turn DICOM cine into a store."""


images.add_command(images_qc.qc)

withdrawals = stack(
    [
        click.option(
            "--withdrawn",
            type=FILE,
            help="Ids of people who withdrew, as the images name them: any of them is refused.",
        ),
        click.option("--drop-withdrawn", is_flag=True, help="Leave them out instead."),
    ]
)


@images.command(
    "list",
    cls=Command,
    example=LIST_EXAMPLE,
    groups={
        "What": ["out", "kind", "missing"],
        "Table": ["image", "id_column", "visit_column", "mask_column", "matrix_column",
                  "member_column"],
        "Folder": ["pattern", "mask", "matrix"],
        "BIDS": ["suffix", "datatype", "space", "desc", "session", "run", "entity"],
        "UK Biobank and stores": ["field", "array", "view", "series"],
        "People": ["visit", "bridge", "bridge_columns", "withdrawn", "drop_withdrawn", "match",
                   "min_overlap"],
    },
)  # fmt: skip
@click.argument("source", type=FOLDER)
@click.option("--out", type=FILE, required=True, help="Table to write: one row an image.")
@click.option(
    "--kind",
    type=click.Choice(["table", "folder", "bids", "ukb", "store"]),
    help="What SOURCE is; recognised when not given.",
)
@click.option(
    "--missing",
    type=click.Choice(["error", "drop"]),
    help="What happens when files are absent or zips cannot be used. [default: error]",
)
@click.option("--image", help="Column of the images; or the name of the image in bulk zips.")
@click.option("--id-column", help="Column of the ids; IID, eid and the like are recognised.")
@click.option("--visit-column", help="Column of the visits.")
@click.option("--mask-column", help="Column of the masks.")
@click.option("--matrix-column", help="Column of the FLIRT matrices.")
@click.option("--member-column", help="Column of names inside zips.")
@click.option("--pattern", help="How names are made: 'sub-{id}/T1_{visit}.nii.gz'.")
@click.option(
    "--mask", help="Masks: pattern of a folder, desc- of BIDS (brain), or name in bulk zips."
)
@click.option("--matrix", help="FLIRT matrices: pattern of a folder, or name in bulk zips.")
@click.option("--suffix", help="Last word of the names. [default: T1w]")
@click.option("--datatype", help="Folder of each person. [default: anat]")
@click.option("--space", help="Space; 'none' is native.")
@click.option("--desc", help="Description; 'none' is without.")
@click.option("--session", help="Only this session.")
@click.option("--run", "run", help="Number of the run, or first or last.")
@click.option("--entity", multiple=True, metavar="KEY=VALUE", help="Such as acq=mprage, res=1.")
@click.option("--field", help="Data field: 20252 (T1), 20253 (T2-FLAIR), 20208 (heart).")
@click.option("--array", help="Array index. [default: 0]")
@click.option("--view", help="View of a store: 4Ch.")
@click.option("--series", help="Series of a store by its whole name.")
@click.option(
    "--visit",
    default="first",
    show_default=True,
    metavar="first|last|average|all|LABEL",
    help="Which visit counts; average keeps all, and averages their latents later; 3,2 is a "
    "preference.",
)
@click.option("--bridge", type=FILE, help="Table of image id and genotype id, one to one.")
@click.option("--bridge-columns", type=CommaList(), help="Its two columns, images first.")
@withdrawals
@click.option("--match", type=FILE, help="Keep people of this .fam, .psam, list or table.")
@click.option(
    "--min-overlap",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Refuse when a smaller share of people meets.",
)
@options.verbosity
def list_images(source: Path, out: Path, **given: Any) -> None:
    """Find images in a table, a folder, BIDS, UK Biobank's zips or a store.

    Writes one row an image, and beside it what was left out and why, in counts. The table names
    people: keep it as private as the images.
    """
    from imgwas.files import publish_json
    from imgwas.images.manifest import write_image_list
    from imgwas.images.sources import find_images

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    _check_people(given)
    choices = {name: given[name] for name in _FINDER}
    found = find_images(source, **choices, entities=_entities(given["entity"]))
    chosen, match = _whose(found, given)
    write_image_list(out, chosen)
    publish_json(out.with_name(out.name + ".report.json"), _report(chosen, match))
    _say(found, chosen)
    logger.info("wrote %s and %s.report.json", out, out.name)


def _check_people(given: dict[str, Any]) -> None:
    from imgwas.errors import UsageError

    columns = given["bridge_columns"]
    if columns and not given["bridge"]:
        raise UsageError("--bridge-columns needs --bridge FILE.")
    if columns and len(columns) != 2:
        raise UsageError("--bridge-columns takes two names, such as eid,IID.")
    if given["drop_withdrawn"] and not given["withdrawn"]:
        raise UsageError("--drop-withdrawn needs --withdrawn FILE.")


def _entities(pairs: tuple[str, ...]) -> dict[str, str] | None:
    from imgwas.errors import UsageError

    entities = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise UsageError(f"--entity {pair!r} is no pair. Write --entity acq=mprage.")
        entities[key] = value
    return entities or None


def _whose(found: ImageList, given: dict[str, Any]) -> tuple[ImageList, Match | None]:
    """Apply withdrawals, bridge, match and visits, in this order."""
    from imgwas.images.bridge import apply_bridge, read_bridge
    from imgwas.images.matching import match_people, read_people
    from imgwas.images.visits import choose_visits

    found = _without_withdrawn(found, given)
    if given["bridge"]:
        columns = given["bridge_columns"] or (None, None)
        bridge = read_bridge(given["bridge"], image_id=columns[0], genotype_id=columns[1])
        found = apply_bridge(found, bridge)
    match = None
    if given["match"]:
        people = read_people(given["match"])
        found, match = match_people(found, people, min_overlap=given["min_overlap"])
    return choose_visits(found, given["visit"]), match


def _without_withdrawn(found: ImageList, given: dict[str, Any]) -> ImageList:
    from imgwas.images.bridge import leave_out_withdrawn, read_withdrawn

    if not given["withdrawn"]:
        return found
    withdrawn = read_withdrawn(given["withdrawn"])
    return leave_out_withdrawn(found, withdrawn, drop=given["drop_withdrawn"])


def _report(chosen: ImageList, match: Match | None) -> dict[str, Any]:
    """Counts, and ids masked: this may be shown to others."""
    dropped = [{"reason": d.reason, "n": d.n, "examples": d.examples} for d in chosen.dropped]
    report: dict[str, Any] = {
        "images": len(chosen),
        "people": len(set(chosen.sample_ids)),
        "dropped": dropped,
    }
    if match:
        report["match"] = {
            "images_and_genotypes": match.n_matched,
            "only_images": match.n_only_images,
            "only_genotypes": match.n_only_genotypes,
        }
    return report


def _say(found: ImageList, chosen: ImageList) -> None:
    for note in chosen.dropped[len(found.dropped) :]:
        examples = f" ({note.examples})" if note.examples else ""
        logger.info("left out %s: %s%s", f"{note.n:,}", note.reason, examples)
    n_people = len(set(chosen.sample_ids))
    logger.info("kept %s images of %s people", f"{len(chosen):,}", f"{n_people:,}")


@images.command(
    "to-store",
    cls=Command,
    example=STORE_EXAMPLE,
    groups={
        "What": ["out", "views", "frames", "series"],
        "Where": ["pattern", "field", "array"],
        "People": ["withdrawn", "drop_withdrawn"],
        "How": ["max_failures", "workers"],
    },
)
@click.argument("source", type=FOLDER)
@click.option("--out", type=FILE, required=True, help="HDF5 file to write.")
@click.option(
    "--view", "views", type=CommaList(), default="4Ch", show_default=True,
    help="Views to store, by the series description: 2Ch,3Ch,4Ch.",
)  # fmt: skip
@click.option(
    "--frames", type=click.IntRange(1), default=50, show_default=True,
    help="Frames that a series must have.",
)  # fmt: skip
@click.option(
    "--series", type=click.Choice(["error", "first", "last"]), default="error", show_default=True,
    help="Which to take where a view was acquired several times.",
)  # fmt: skip
@click.option("--pattern", help="Folders or zips by name: '{id}/{visit}', '{id}.zip'.")
@click.option("--field", default="20208", show_default=True, help="Data field of bulk zips.")
@click.option("--array", default="0", show_default=True, help="Array index of bulk zips.")
@withdrawals
@click.option(
    "--max-failures", type=click.FloatRange(0, 1), default=0.1, show_default=True,
    help="Share of series that may fail.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, 4096), help="Worker processes of a local cluster."
)
@options.verbosity
def to_store(source: Path, out: Path, **given: Any) -> None:
    """Turn DICOM cine of many people into one HDF5 store.

    Reads zips in place. Keeps pixels, voxel size, times and the view, and nothing that names
    anybody. A run that was stopped continues when the same command is given again.
    """
    from imgwas.images.dicom import find_cines, read_dicom_cine
    from imgwas.images.dicom_files import load_pydicom
    from imgwas.images.store_writing import write_store

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    _check_people({**given, "bridge_columns": None})
    load_pydicom()
    where = {name: given[name] for name in ("pattern", "field", "array")}
    found = _without_withdrawn(find_cines(source, **where), given)
    n_series = len(found) * len(given["views"])
    read = partial(read_dicom_cine, n_frames=given["frames"], series=given["series"])
    shown = bar(n_series, "to-store", "series", quiet=given["quiet"])
    with dask_client(given | {"scheduler": None}) as client, shown as progress:
        report = write_store(
            out,
            found,
            read,
            views=given["views"],
            field=given["field"],
            settings={"n_frames": given["frames"], "series": given["series"]},
            client=client,
            max_failures=given["max_failures"],
            progress=progress,
        )
    for note in found.dropped:
        logger.info("left out %s: %s", f"{note.n:,}", note.reason)
    logger.info(
        "stored %s series in %s: %s new, %s failed",
        f"{report.n_written + report.n_present:,}", out, f"{report.n_written:,}",
        f"{len(report.failures):,}",
    )  # fmt: skip
    logger.info("next: imgwas images list %s --view %s --out images.tsv", out, given["views"][0])
