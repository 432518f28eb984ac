"""Quality of images: what is wrong with one, and which of many is unlike the others."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import ImgwasError
from imgwas.files import publish
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.nifti import Volume, read_header, read_volume
from imgwas.images.space import Space, space_of

logger = logging.getLogger(__name__)

#: qform and sform may put a corner this far apart, in mm.
FORMS_APART = 0.1
#: Median absolute deviations below the median at which a resemblance is called low.
UNLIKE = 6.0
COLUMNS = (
    "sample_id", "visit", "file", "grid", "axes", "voxel_mm", "minimum", "maximum", "mean", "sd",
    "share_nonzero", "forms_apart_mm", "resemblance", "problems",
)  # fmt: skip


@dataclass(frozen=True)
class Quality:
    """What was measured on one image; ``problems`` is empty for a good one.

    ``resemblance`` is the correlation of its voxels with the mean image of all that share its
    grid; ``digest`` identifies its content.
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
    digest: str = ""
    thumbnail: np.ndarray | None = field(default=None, repr=False)
    problems: tuple[str, ...] = ()

    def with_problem(self, *found: str) -> Quality:
        """Return the row with more problems."""
        return replace(self, problems=(*self.problems, *found))


def inspect_image(file: ImageFile, *, dimensions: tuple[int, ...] = (3,)) -> Quality:
    """Measure one image; a file that cannot be used becomes a row with its reason."""
    try:
        header = read_header(file)
        volume = read_volume(file, dimensions=dimensions)
    except ImgwasError as error:
        return Quality(file, problems=(str(error),))
    values = volume.values
    row = Quality(
        file=file,
        space=space_of(volume),
        minimum=float(values.min()),
        maximum=float(values.max()),
        mean=float(values.mean(dtype=np.float64)),
        sd=float(values.std(dtype=np.float64)),
        share_nonzero=float(np.count_nonzero(values) / values.size),
        forms_apart_mm=header.disagreement,
        digest=hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest(),
        thumbnail=_thumbnail(volume),
    )
    return row.with_problem(*_problems(row, header.codes))


def _thumbnail(volume: Volume) -> np.ndarray:
    """Every n-th voxel, standardised: enough to compare images by correlation."""
    values = volume.values if volume.values.ndim == 3 else volume.values.mean(axis=3)
    step = [max(1, n // 24) for n in values.shape]
    small = values[:: step[0], :: step[1], :: step[2]].astype(np.float64)
    sd = small.std()
    return np.asarray((small - small.mean()) / sd if sd else small * 0, np.float32)


def _problems(row: Quality, codes: tuple[int, int]) -> list[str]:
    found = []
    if row.minimum == row.maximum:
        found.append("blank" if row.minimum == 0 else "every voxel has one value")
    elif row.share_nonzero < 0.01:
        found.append(f"only {row.share_nonzero:.2%} of the voxels are not zero")
    if max(codes) <= 0:
        found.append("no orientation: neither qform nor sform is set")
    if row.forms_apart_mm > FORMS_APART:
        found.append(f"qform and sform are {row.forms_apart_mm:.1f} mm apart")
    return found


def quality_table(rows: Iterable[Quality], *, expected: Space | None = None) -> list[Quality]:
    """Compare images with one another and return them worst first.

    Found here: another grid, affine or orientation than expected (or than most), the same content
    under two ids, and images unlike the mean of the others.
    """
    rows = list(rows)
    expected = expected or _usual_space(rows)
    rows = [_compare_space(row, expected) for row in rows]
    rows = _find_copies(rows)
    rows = _find_unlike(rows, expected)
    return sorted(rows, key=_badness)


def _badness(row: Quality) -> tuple[bool, int, float]:
    resemblance = row.resemblance if np.isfinite(row.resemblance) else -2.0
    return (not row.problems, -len(row.problems), resemblance)


def _usual_space(rows: Sequence[Quality]) -> Space | None:
    spaces = {_key(row.space): row.space for row in rows if row.space is not None}
    times = Counter(_key(row.space) for row in rows if row.space is not None)
    return spaces[times.most_common(1)[0][0]] if times else None


def _key(space: Space) -> tuple[Any, ...]:
    return (space.grid, space.axes, tuple(np.round(space.zooms, 3)))


def _compare_space(row: Quality, expected: Space | None) -> Quality:
    if row.space is None or expected is None:
        return row
    if row.space.axes != expected.axes:
        return row.with_problem(f"axes {row.space.axes}, expected {expected.axes}")
    if row.space.grid != expected.grid:
        return row.with_problem(f"grid {_by(row.space.grid)}, expected {_by(expected.grid)}")
    apart = float(np.abs(np.asarray(row.space.zooms) - expected.zooms).max())
    if apart > 1e-3:
        return row.with_problem(f"voxel size differs by {apart:.3g} mm")
    return row


def _by(grid: Sequence[int]) -> str:
    return "x".join(map(str, grid))


def _find_copies(rows: Sequence[Quality]) -> list[Quality]:
    people: dict[str, set[str]] = {}
    for row in rows:
        if row.digest:
            people.setdefault(row.digest, set()).add(row.file.sample_id)
    n = {digest: len(ids) for digest, ids in people.items()}
    times = Counter(row.digest for row in rows if row.digest)
    marked = []
    for row in rows:
        if n.get(row.digest, 0) > 1:
            row = row.with_problem(f"the same image under {n[row.digest]} ids")
        elif times.get(row.digest, 0) > 1:
            row = row.with_problem(f"the same image in {times[row.digest]} visits")
        marked.append(row)
    return marked


def _find_unlike(rows: Sequence[Quality], expected: Space | None) -> list[Quality]:
    """Correlate each thumbnail with the mean of the others; mark the few that stand out."""
    alike = [
        i for i, row in enumerate(rows)
        if row.thumbnail is not None and expected and row.space and row.space.grid == expected.grid
        and row.minimum < row.maximum
    ]  # fmt: skip
    if len(alike) < 5:
        return list(rows)
    small: list[Any] = [rows[i].thumbnail for i in alike]
    stack = np.stack(small).reshape(len(alike), -1)
    total = stack.sum(axis=0)
    values = np.array([np.corrcoef(one, total - one)[0, 1] for one in stack])
    middle = np.median(values)
    limit = middle - UNLIKE * max(1.4826 * float(np.median(np.abs(values - middle))), 0.005)
    marked = list(rows)
    for i, value in zip(alike, values, strict=True):
        row = replace(rows[i], resemblance=float(value))
        if value < limit:
            row = row.with_problem(f"unlike the others (r {value:.2f}, usual {middle:.2f})")
        marked[i] = row
    return marked


def write_quality(path: Path, rows: Sequence[Quality]) -> None:
    """Publish the rows as a tab-separated table; it names people, so keep it private."""
    with publish(path, "w") as stream:
        stream.write("\t".join(COLUMNS) + "\n")
        for row in rows:
            stream.write("\t".join(_cells(row)) + "\n")


def _cells(row: Quality) -> list[str]:
    space = row.space
    place = (
        (_by(space.grid), space.axes, _by([f"{z:g}" for z in space.zooms]))  # type: ignore[misc]
        if space is not None
        else ("NA",) * 3
    )
    numbers = (
        row.minimum, row.maximum, row.mean, row.sd, row.share_nonzero, row.forms_apart_mm,
        row.resemblance,
    )  # fmt: skip
    problems = "; ".join(" ".join(p.split()) for p in row.problems)
    return [
        row.file.sample_id, row.file.visit, row.file.name, *place,
        *(f"{v:.6g}" if np.isfinite(v) else "NA" for v in numbers), problems,
    ]  # fmt: skip


def inspect_images(
    images: ImageList, *, expected: Space | None = None, threads: int = 1,
    client: Any = None, progress: Any = None, dimensions: tuple[int, ...] = (3,),
) -> list[Quality]:  # fmt: skip
    """Inspect every image of a list and compare them; rows come worst first."""
    from imgwas.cluster import compute_each

    rows: list[Quality] = []
    each = compute_each(
        inspect_image, images.files, client=client, threads=threads, dimensions=dimensions
    )
    for index, result in each:
        if isinstance(result, Exception):
            result = Quality(images.files[index], problems=(f"{type(result).__name__}: {result}",))
        rows.append(result)
        if progress is not None:
            progress(1)
    order = {id(f): i for i, f in enumerate(images.files)}
    rows.sort(key=lambda row: order.get(id(row.file), 0))
    return quality_table(rows, expected=expected)
