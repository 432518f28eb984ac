"""Quality of images: what is wrong with one, and which of many is unlike the others.

Every image is read once. What stays in memory of it are a row of numbers, a digest of its content
and a thumbnail of at most 12 x 12 x 12 means of blocks.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import ImgwasError, MalformedError, OpenError
from imgwas.files import publish
from imgwas.images.likeness import compare, thumbnail
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.nifti import Volume, VolumeHeader, read_header, read_volume
from imgwas.images.space import Space, distance, reorient, space_of
from imgwas.images.stored import is_stored, read_stored

#: qform and sform, or two images of one lattice, may be this far apart at a corner, in mm.
APART = 0.1
#: kind of problem -> words for a count, the worst kind first
KINDS = {
    "absent": "file absent",
    "unreadable": "file that cannot be read",
    "header": "no usable header",
    "damaged": "cut short or damaged",
    "not-finite": "NaN or infinity",
    "dimensions": "another number of axes",
    "blank": "blank, or one value everywhere",
    "copy": "same content as another",
    "turned": "turned against its header",
    "axes": "other orientation",
    "grid": "other grid",
    "voxel-size": "other voxel size",
    "place": "lies elsewhere",
    "unlike": "unlike the others",
    "no-orientation": "orientation not stated",
    "forms-apart": "qform and sform disagree",
    "sparse": "nearly empty",
}
COLUMNS = (
    "number", "sample_id", "visit", "file", "grid", "axes", "voxel_mm", "minimum", "maximum",
    "mean", "sd", "share_nonzero", "forms_apart_mm", "resemblance", "resemblance_inside", "kinds",
    "problems",
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """What is wrong with an image: one of ``KINDS``, and a sentence that names nobody."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Quality:
    """What was measured on one image; ``problems`` is empty for a good one.

    ``resemblance`` is the correlation of its thumbnail with the mean of all others that share its
    grid, ``resemblance_inside`` the same over the blocks where that mean is above average (the
    head); ``digest`` identifies its content.
    """

    file: ImageFile
    space: Space | None = None
    minimum: float = float("nan")
    maximum: float = float("nan")
    mean: float = float("nan")
    sd: float = float("nan")
    share_nonzero: float = float("nan")
    forms_apart_mm: float = float("nan")
    resemblance: float = float("nan")
    resemblance_inside: float = float("nan")
    digest: str = ""
    thumbnail: np.ndarray | None = field(default=None, repr=False)
    problems: tuple[Problem, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of its problems."""
        return tuple(problem.kind for problem in self.problems)

    @property
    def is_readable(self) -> bool:
        """Whether its voxels could be read."""
        return bool(self.digest)

    def with_problem(self, *found: Problem) -> Quality:
        """Return the row with more problems."""
        return replace(self, problems=(*self.problems, *found))


def inspect_image(file: ImageFile, *, dimensions: tuple[int, ...] = (3,)) -> Quality:
    """Measure one image; a file that cannot be used becomes a row with its reason.

    Parameters
    ----------
    file : ImageFile
        NIfTI, in a folder or a zip, or a series of a store.
    dimensions : tuple of int
        How many axes it may have; a series of a store always has four.
    """
    row = Quality(file)
    if is_stored(file):
        try:
            return _measured(row, read_stored(file))
        except ImgwasError as error:
            return row.with_problem(_unread(file, error, "damaged"))
    try:
        header = read_header(file)
    except ImgwasError as error:
        return row.with_problem(_unread(file, error, "header"))
    row = replace(
        row, space=Space(header.grid, header.affine), forms_apart_mm=header.disagreement
    ).with_problem(*_header_problems(header))
    try:
        return _measured(row, read_volume(file, dimensions=dimensions))
    except ImgwasError as error:
        kind = "not-finite" if "not finite" in str(error) else "damaged"
        if len(header.grid) not in dimensions:
            kind = "dimensions"
        return row.with_problem(_unread(file, error, kind))


def read_to_show(file: ImageFile) -> Volume | None:
    """Read an image once more for a picture, axes turned to RAS; None if it has gone."""
    try:
        if is_stored(file):
            return read_stored(file)
        return reorient(read_volume(file, dimensions=(2, 3, 4)))
    except ImgwasError:
        return None


def _unread(file: ImageFile, error: ImgwasError, kind: str) -> Problem:
    """Say why a file was not read, without its name: names hold ids."""
    if isinstance(error, OpenError):
        kind = "absent"
    elif not isinstance(error, MalformedError):
        kind = "unreadable"
    text = " ".join(str(error).split())
    for name in (str(file.path), file.name, file.shown, file.path.name):
        text = text.replace(name, "the file")
    return Problem(kind, text[:1].upper() + text[1:])


def _header_problems(header: VolumeHeader) -> list[Problem]:
    found = []
    if max(header.codes) <= 0:
        found.append(Problem("no-orientation", "Neither qform nor sform is set."))
    if header.disagreement > APART:
        text = f"Qform and sform are {header.disagreement:.1f} mm apart."
        found.append(Problem("forms-apart", text))
    return found


def _measured(row: Quality, volume: Volume) -> Quality:
    values = volume.values
    content = hashlib.sha256(repr(values.shape).encode())
    content.update(np.ascontiguousarray(values).data)
    row = replace(
        row,
        space=space_of(volume),
        minimum=float(values.min()),
        maximum=float(values.max()),
        mean=float(values.mean(dtype=np.float64)),
        sd=float(values.std(dtype=np.float64)),
        share_nonzero=float(np.count_nonzero(values) / values.size),
        digest=content.hexdigest(),
        thumbnail=thumbnail(values),
    )
    if row.minimum == row.maximum:
        return row.with_problem(Problem("blank", f"Every voxel is {row.minimum:g}."))
    if row.share_nonzero < 0.01:
        text = f"Only {row.share_nonzero:.2%} of the voxels are not zero."
        return row.with_problem(Problem("sparse", text))
    return row


def quality_table(rows: Iterable[Quality], *, expected: Space | None = None) -> list[Quality]:
    """Compare images with one another and return them worst first.

    Found here: another grid, orientation or place than expected (or than most have), the same
    content twice, images unlike the mean of the others, and images that become like it when they
    are turned, so that the header must be wrong. A mirror image of left and right is not found
    by this: brains are too symmetric.

    Parameters
    ----------
    rows : iterable of Quality
        Of :func:`inspect_image`.
    expected : Space, optional
        Lattice that every image must have. By default the commonest grid, axes and voxel size;
        the place only if more than half of the images share it.
    """
    rows = list(rows)
    usual = expected or _usual_space(rows)
    if usual is not None:
        with_place = expected is not None or _share_place(rows, usual)
        said = "expected" if expected is not None else "most have"
        rows = [_compare_space(row, usual, said, with_place=with_place) for row in rows]
        rows = _find_unlike(rows, usual)
    rows = [replace(row, thumbnail=None) for row in _find_copies(rows)]
    return sorted(rows, key=_badness)


def _badness(row: Quality) -> tuple[int, int, float]:
    ranks = [list(KINDS).index(kind) for kind in row.kinds]
    resemblance = row.resemblance if np.isfinite(row.resemblance) else -2.0
    return (min(ranks, default=len(KINDS)), -len(ranks), resemblance)


def _usual_space(rows: Sequence[Quality]) -> Space | None:
    """Return the commonest lattice, at the place that most of its images share."""
    spaces = [row.space for row in rows if row.space is not None and row.is_readable]
    if not spaces:
        return None
    commonest = Counter(map(_key, spaces)).most_common(1)[0][0]
    alike = {}
    times: Counter[bytes] = Counter()
    for space in spaces:
        if _key(space) == commonest:
            place = np.round(space.affine, 2).tobytes()
            times[place] += 1
            alike[place] = space
    return alike[times.most_common(1)[0][0]]


def _key(space: Space) -> tuple[Any, ...]:
    return (space.grid, space.axes, tuple(np.round(space.zooms, 3)))


def _share_place(rows: Sequence[Quality], usual: Space) -> bool:
    spaces = [row.space for row in rows if row.space is not None and row.is_readable]
    here = [s.grid == usual.grid and distance(s, usual) <= APART for s in spaces]
    return len(here) > 2 and sum(here) > len(here) / 2


def _compare_space(row: Quality, usual: Space, said: str, *, with_place: bool) -> Quality:
    if row.space is None or "dimensions" in row.kinds:
        return row
    found = []
    if row.space.axes != usual.axes:
        found.append(Problem("axes", f"Axes {row.space.axes}, {said} {usual.axes}."))
    if row.space.grid != usual.grid:
        text = f"Grid {_by(row.space.grid)}, {said} {_by(usual.grid)}."
        found.append(Problem("grid", text))
    if np.abs(np.asarray(row.space.zooms) - usual.zooms).max() > 1e-3:
        text = f"Voxels of {_millimetres(row.space)} mm, {said} {_millimetres(usual)} mm."
        found.append(Problem("voxel-size", text))
    if not found and with_place and (apart := distance(row.space, usual)) > APART:
        found.append(Problem("place", f"Lies up to {apart:.1f} mm from where {said} it."))
    return row.with_problem(*found)


def _by(lengths: Sequence[object]) -> str:
    return "x".join(map(str, lengths))


def _millimetres(space: Space) -> str:
    return _by([f"{zoom:.4g}" for zoom in space.zooms])


def _find_copies(rows: Sequence[Quality]) -> list[Quality]:
    """Mark content that comes twice; blank images are alike without being copies."""
    whose: dict[str, list[str]] = {}
    for row in rows:
        if row.is_readable and "blank" not in row.kinds:
            whose.setdefault(row.digest, []).append(row.file.sample_id)
    marked = []
    for row in rows:
        ids = whose.get(row.digest, [])
        n_people = len(set(ids))
        if n_people > 1:
            row = row.with_problem(Problem("copy", f"The same image under {n_people} ids."))
        elif len(ids) > 1:
            row = row.with_problem(Problem("copy", f"The same image in {len(ids)} visits."))
        marked.append(row)
    return marked


def _find_unlike(rows: Sequence[Quality], usual: Space) -> list[Quality]:
    """Compare the images that lie on the usual grid with one another."""
    marked = list(rows)
    alike = [
        i for i, row in enumerate(rows)
        if row.thumbnail is not None and row.space is not None and row.space.grid == usual.grid
        and "blank" not in row.kinds
    ]  # fmt: skip
    small: list[Any] = [rows[i].thumbnail for i in alike]
    for i, found in zip(alike, compare(small), strict=False):
        marked[i] = replace(rows[i], resemblance=found.whole, resemblance_inside=found.inside)
        if found.kind:
            marked[i] = marked[i].with_problem(Problem(found.kind, found.text))
    return marked


def count_problems(rows: Iterable[Quality]) -> dict[str, int]:
    """Count images by kind of problem, the worst kind first; one image may count in several."""
    times = Counter(kind for row in rows for kind in set(row.kinds))
    return {kind: times[kind] for kind in KINDS if times[kind]}


def write_quality(path: Path, rows: Sequence[Quality]) -> None:
    """Publish the rows as a tab-separated table; it names people, so keep it private."""
    with publish(path, "w") as stream:
        stream.write("\t".join(COLUMNS) + "\n")
        for number, row in enumerate(rows, start=1):
            stream.write("\t".join([str(number), *_cells(row)]) + "\n")


def _cells(row: Quality) -> list[str]:
    space = row.space
    place = ("NA",) * 3 if space is None else (_by(space.grid), space.axes, _millimetres(space))
    numbers = (
        row.minimum, row.maximum, row.mean, row.sd, row.share_nonzero, row.forms_apart_mm,
        row.resemblance, row.resemblance_inside,
    )  # fmt: skip
    return [
        row.file.sample_id, row.file.visit, row.file.name, *place,
        *(f"{v:.6g}" if np.isfinite(v) else "NA" for v in numbers), ",".join(row.kinds),
        " ".join(map(str, row.problems)),
    ]  # fmt: skip


def inspect_images(
    images: ImageList, *, expected: Space | None = None, threads: int = 1,
    client: Any = None, progress: Any = None, dimensions: tuple[int, ...] = (3,),
) -> list[Quality]:  # fmt: skip
    """Inspect every image of a list and compare them; rows come worst first.

    Parameters
    ----------
    images : ImageList
        What to look at; several visits of a person are welcome.
    expected : Space, optional
        As in :func:`quality_table`.
    threads, client
        Images at a time in this process, or workers of a cluster.
    progress : callable, optional
        Called with 1 after each image.
    dimensions : tuple of int
        How many axes an image may have.
    """
    from imgwas.cluster import compute_each

    found: dict[int, Quality] = {}
    each = compute_each(
        inspect_image, images.files, client=client, threads=threads, dimensions=dimensions
    )
    for index, result in each:
        if isinstance(result, Exception):
            reason = Problem("unreadable", f"{type(result).__name__} while it was read.")
            result = Quality(images.files[index], problems=(reason,))
        found[index] = result
        if progress is not None:
            progress(1)
    return quality_table([found[i] for i in range(len(images))], expected=expected)
