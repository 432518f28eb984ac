"""One door for commands that take images: a list that was written before, or any source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imgwas.images.listing import ImageList
from imgwas.images.manifest import COLUMNS, read_image_list
from imgwas.images.sources import find_images
from imgwas.images.visits import choose_visits


def find_or_read(
    source: str | Path, *, kind: str | None = None, visit: str | None = None, **choices: Any
) -> ImageList:
    """Read a list of images, or find images in a source.

    Parameters
    ----------
    source : path
        A table with the columns of a list (``imgwas images list``), or what
        :func:`~imgwas.images.sources.find_images` takes.
    kind, **choices
        As in ``find_images``.
    visit : str, optional
        ``first``, ``last`` or a label; by default every person must have one image.

    Returns
    -------
    ImageList
    """
    source = Path(source).expanduser()
    given = {name: value for name, value in choices.items() if value is not None}
    if kind is None and not set(given) - {"id_column"} and _is_list(source):
        images = read_image_list(source, id_column=given.get("id_column"))
    else:
        images = find_images(source, kind=kind, **given)
    return choose_visits(images, visit) if visit is not None else images


def _is_list(source: Path) -> bool:
    """Whether a text file begins with the header of a list."""
    if not source.is_file() or source.suffix not in (".tsv", ".txt"):
        return False
    with source.open("rb") as stream:
        header = stream.read(200).split(b"\n")[0].decode("utf-8", "replace").strip()
    return header.split("\t")[:3] == list(COLUMNS[:3])
