"""The list of images as a table: what every finder writes and training and encoding read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from imgwas.errors import MalformedError, explain
from imgwas.files import publish
from imgwas.images.listing import ImageFile, ImageList
from imgwas.tables.columns import find_ids
from imgwas.tables.source import read_table

COLUMNS = ("sample_id", "visit", "path", "member", "mask", "matrix")


def write_image_list(path: Path, images: ImageList) -> None:
    """Publish a list as a tab-separated table; paths below its folder are written relative to it.

    It names people: keep it as private as the images.
    """
    folder = path.parent.resolve()
    with publish(path, "w") as stream:
        stream.write("\t".join(COLUMNS) + "\n")
        for file in images:
            member = file.member
            mask, matrix = (
                "" if extra is None else str(extra) if member else _relative(extra, folder)
                for extra in (file.mask, file.matrix)
            )
            cells = (file.sample_id, file.visit, _relative(file.path, folder), member, mask, matrix)
            stream.write("\t".join(cells) + "\n")


def _relative(path: Path, folder: Path) -> str:
    whole = path.resolve()
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)


def read_image_list(path: str | Path, *, id_column: str | None = None) -> ImageList:
    """Read a list of images: an id column, ``path``, and what of the other columns there is.

    Relative paths start at the folder of the table. Files are not looked at here.

    Raises
    ------
    MalformedError
        If the column ``path`` is absent, a cell of it is empty, or one file serves two people.
    """
    path = Path(path)
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    if "path" not in table.column_names:
        raise MalformedError(
            explain(
                f"{path} has no column 'path'",
                expected=f"Columns: {', '.join(COLUMNS)}",
                where=f"found: {', '.join(table.column_names[:8])}",
                do="imgwas images list makes such a table from folders, BIDS or zips",
            )
        )
    columns = {
        name: [str(cell) if cell is not None else "" for cell in table[name].to_pylist()]
        if name in table.column_names
        else [""] * table.num_rows
        for name in COLUMNS[1:]
    }
    empty = [i for i, text in enumerate(columns["path"]) if not text or text in ("NA", ".")]
    if empty:
        raise MalformedError(
            explain(
                f"{path}: {len(empty):,} rows have no path (first: row {empty[0] + 2})",
                do="Fill them in or leave the people out",
            )
        )
    files = [
        _file(path.parent, sample_id, *cells)
        for sample_id, *cells in zip(ids.sample_ids, *columns.values(), strict=True)
    ]
    _check_shared(files, path)
    return ImageList(tuple(files))


def _file(
    folder: Path, sample_id: str, visit: str, path: str, member: str, mask: str, matrix: str
) -> ImageFile:
    def beside(text: str) -> Path | None:
        if not text:
            return None
        return Path(text) if member else folder / Path(text).expanduser()

    return ImageFile(
        sample_id=sample_id,
        path=folder / Path(path).expanduser(),
        member=member,
        visit=visit,
        mask=beside(mask),
        matrix=beside(matrix),
    )


def _check_shared(files: list[ImageFile], path: Path) -> None:
    """Refuse one file under the ids of two people."""
    times = Counter((file.path, file.member) for file in files)
    shared = [i for i, file in enumerate(files) if times[file.path, file.member] > 1]
    if shared:
        rows = ", ".join(str(i + 2) for i in shared[:3])
        raise MalformedError(
            explain(
                f"{path}: {len(shared):,} rows name a file that another row names too",
                where=f"first rows: {rows}",
                do="Every person needs an image of their own",
            )
        )
