"""Lists of images as tables: a column of ids, a column of paths, and what else there is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from imgwas.checks import did_you_mean
from imgwas.errors import MalformedError, UsageError, explain, redact
from imgwas.images.checking import check_files, check_formats, check_label, ending
from imgwas.images.listing import Dropped, ImageFile, ImageList
from imgwas.tables.columns import MISSING, find_ids, is_id_name
from imgwas.tables.recognise import hidden_in
from imgwas.tables.source import read_table

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
    ``mask``, ``matrix`` and ``member`` are used without being named; masks and matrices of members
    are members of the same zip.

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
    chosen |= {"member": member_column}
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
    spare = {"mask", "matrix", "member", "visit"}
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
    member = extra["member"]
    return ImageFile(
        check_label(sample_id, "id", where),
        folder / Path(image).expanduser(),
        member=member,
        visit=check_label(extra["visit"], "visit", where),
        mask=_beside(extra["mask"], folder, member),
        matrix=_beside(extra["matrix"], folder, member),
    )


def _beside(value: str, folder: Path, member: str) -> Path | None:
    """Path of a file beside the table; the name as it is where it is a member of a zip."""
    if not value:
        return None
    return Path(value) if member else folder / Path(value).expanduser()


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
