"""Lists of images as tables: a column of ids, a column of paths, and what else there is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from imgwas.checks import did_you_mean
from imgwas.errors import MalformedError, UsageError, explain, redact
from imgwas.files import publish
from imgwas.images.checking import check_files, check_formats, check_label, ending
from imgwas.images.listing import Dropped, ImageFile, ImageList
from imgwas.tables.columns import MISSING, find_ids, is_id_name
from imgwas.tables.recognise import hidden_in
from imgwas.tables.source import read_table

#: Columns of the table that :func:`write_image_list` writes, in order.
COLUMNS = ("IID", "path", "member", "visit", "mask", "mask_member", "matrix", "matrix_member")
_IMAGE_NAMES = ("path", "image", "file", "filename", "nifti")
_ENDINGS = (".nii", ".nii.gz", ".npy", ".npz", ".zip", ".h5", ".hdf5", ".mgz", ".img", ".dcm")
_MISSING = frozenset(MISSING.to_pylist())


def images_from_table(
    path: str | Path,
    *,
    image: str | None = None,
    id_column: str | None = None,
    visit_column: str | None = None,
    mask_column: str | None = None,
    matrix_column: str | None = None,
    member_column: str | None = None,
    missing: str = "error",
) -> ImageList:
    """Read a table with one row per image: Parquet, CSV, TSV.

    Ids stay the text they are. Paths are relative to the table. Columns called ``visit``,
    ``mask``, ``matrix``, ``member``, ``mask_member`` and ``matrix_member`` are used without being
    named.

    Parameters
    ----------
    path : path
        The table.
    image : str, optional
        Column of the images, needed when several columns hold paths (``T1_unbiased_linear`` and
        ``T2_unbiased_linear``): one encoder sees one kind of image.
    id_column : str, optional
        Column of the ids; IID, eid, sample_id and the like are recognised.
    visit_column, mask_column, matrix_column, member_column : str, optional
        Columns under other names.
    missing : {"error", "drop"}
        What happens to rows whose files are absent.

    Returns
    -------
    ImageList
        In the order of the table. Rows without a path, and rows that repeat an earlier one, are
        left out and counted.

    Raises
    ------
    OpenError
        If files are absent; all are looked for at once.
    InconsistentError
        If two people have the same file, or a person several images of one visit.
    MalformedError, UsageError
        If the table or a column is wrong, or the images are of a kind that is not read.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    ids = find_ids(table, path, id_column).sample_ids
    column = image or _image_column(table, path)
    paths = _column(table, column, path, required=True)
    chosen = {"visit": visit_column, "mask": mask_column, "matrix": matrix_column}
    chosen |= {"member": member_column, "mask_member": None, "matrix_member": None}
    extra = {
        name: _column(table, given or name, path, required=given is not None)
        for name, given in chosen.items()
    }
    rows = [i for i, value in enumerate(paths) if value]
    if not rows:
        raise MalformedError(explain(f"{path}: the column {column} names no image"))
    folder = path.parent
    files = [
        _file(ids[i], paths[i], {name: values[i] for name, values in extra.items()}, folder, i + 1)
        for i in rows
    ]
    first = {file: number for number, file in reversed(list(enumerate(files)))}
    kept = [number for number, file in enumerate(files) if first[file] == number]
    dropped = _left_out(len(paths) - len(rows), len(files) - len(kept))
    images = ImageList(tuple(files[number] for number in kept), dropped)
    check_formats(images)
    places = [f"row {rows[number] + 1}" for number in kept]
    return check_files(images, missing=missing, places=places)


def _left_out(n_empty: int, n_repeated: int) -> tuple[Dropped, ...]:
    counts = {"the table names no image": n_empty, "the row repeats an earlier one": n_repeated}
    return tuple(Dropped(reason, n) for reason, n in counts.items() if n)


def _image_column(table: pa.Table, path: Path) -> str:
    """Choose the one column that holds images, by its name or by what is in it."""
    names: dict[str, str] = {name.lower(): name for name in table.column_names}
    usual = [names[name] for name in _IMAGE_NAMES if name in names]
    if usual:
        return usual[0]
    spare = {"mask", "matrix", "member", "visit", "mask_member", "matrix_member"}
    likely: list[str] = [
        name
        for name in table.column_names
        if not is_id_name(name) and name.lower() not in spare and _holds_paths(table[name])
    ]
    if len(likely) == 1:
        return likely[0]
    if likely:
        raise UsageError(
            explain(
                f"{path} has images in {len(likely)} columns: {', '.join(likely)}",
                expected="One encoder sees one kind of image",
                do=f"Choose one: --image {likely[0]}",
            )
        )
    raise MalformedError(
        explain(
            f"{path} has no column of images ({', '.join(table.column_names[:8])})",
            expected="A column whose values end in .nii.gz",
            do="Name it: --image COLUMN",
        )
    )


def _holds_paths(column: pa.ChunkedArray) -> bool:
    if not pa.types.is_string(column.type):
        return False
    values = [v for v in column.slice(0, 200).to_pylist() if v and v not in _MISSING]
    return bool(values) and sum(ending(Path(v)) in _ENDINGS for v in values) > len(values) / 2


def _column(table: pa.Table, name: str, path: Path, *, required: bool) -> list[str]:
    """Values of a column as text, missing ones empty."""
    if name not in table.column_names:
        if not required:
            return [""] * int(table.num_rows)
        raise UsageError(
            explain(
                f"{path} has no column {name!r}",
                do=did_you_mean(name, table.column_names)
                or f"It has {', '.join(table.column_names[:8])}",
            )
        )
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type) or pa.types.is_nested(column.type):
        raise MalformedError(explain(f"{path}: column {name} holds {column.type}, not text"))
    values = column.cast(pa.string()).to_pylist()
    return ["" if v is None or v.strip() in _MISSING else v.strip() for v in values]


def _file(sample_id: str, image: str, extra: dict[str, str], folder: Path, row: int) -> ImageFile:
    where = f"row {row}"
    for value in (image, extra["mask"], extra["matrix"]):
        _check_path(value, where)
    return ImageFile(
        check_label(sample_id, "id", where),
        folder / Path(image).expanduser(),
        member=extra["member"],
        visit=check_label(extra["visit"], "visit", where),
        mask=folder / Path(extra["mask"]).expanduser() if extra["mask"] else None,
        matrix=folder / Path(extra["matrix"]).expanduser() if extra["matrix"] else None,
        mask_member=extra["mask_member"],
        matrix_member=extra["matrix_member"],
    )


def _check_path(value: str, where: str) -> None:
    if "://" in value:
        raise MalformedError(
            explain(
                f"{where} names an address, {redact(value)}",
                expected="Files of this machine",
                do="Download or mount the images first",
            )
        )
    if hidden_in(value):
        raise MalformedError(explain(f"{where} holds {hidden_in(value)} in a path"))


def read_image_list(path: str | Path, *, missing: str = "error") -> ImageList:
    """Read a table that :func:`write_image_list` wrote; the files must be there.

    Parameters
    ----------
    path : path
        The table; its paths are relative to it.
    missing : {"error", "drop"}
        What happens to rows whose files are absent.

    Returns
    -------
    ImageList
        The images that were written, in that order.
    """
    return images_from_table(path, image="path", id_column="IID", missing=missing)


def write_image_list(path: str | Path, images: ImageList) -> None:
    """Write a list of images as tab-separated text that :func:`read_image_list` reads back.

    Paths below the folder of the table are written relative to it, so that the folder can move;
    others are absolute.

    Parameters
    ----------
    path : path
        The table; its folder must exist.
    images : ImageList
        What to write; what was dropped is not part of the table.

    Raises
    ------
    MalformedError
        If an id or path holds a tab, a line end or anything that could not be read back.
    """
    path = Path(path).expanduser()
    folder = Path(os.path.abspath(path.parent))  # noqa: PTH100 - links stay links
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(_fields(file, folder)) for file in images]
    with publish(path, "w") as stream:
        stream.write("\n".join(lines) + "\n")


def _fields(file: ImageFile, folder: Path) -> Sequence[str]:
    fields = (
        file.sample_id,
        _written(file.path, folder),
        file.member,
        file.visit,
        _written(file.mask, folder),
        file.mask_member,
        _written(file.matrix, folder),
        file.matrix_member,
    )
    for name, value in zip(COLUMNS, fields, strict=True):
        check_label(value, name, redact(file.sample_id))
        if value != value.strip() or (name != "IID" and value in _MISSING and value):
            raise MalformedError(
                explain(
                    f"the {name} of {redact(file.sample_id)} cannot stand in a table",
                    expected="A name without blanks at its ends that does not mean 'missing'",
                    do="Rename the file",
                )
            )
    return fields


def _written(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    full = Path(os.path.abspath(path))  # noqa: PTH100 - links stay links
    return str(full.relative_to(folder) if full.is_relative_to(folder) else full)
