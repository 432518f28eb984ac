"""Preparing a whole study: one recipe, many images, in parallel, resumable, nothing lost.

A folder of prepared images holds ``volumes/`` (a NIfTI and the JSON of what was done for each
image), ``images.tsv`` (the list that training and encoding read), ``failures.tsv`` (who is missing
and why) and ``prepare.json``. One bad scan never stops the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas._version import __version__
from imgwas.cluster import compute_each
from imgwas.errors import (
    DegenerateError,
    ImgwasError,
    InconsistentError,
    MissingLibraryError,
    UsageError,
    WriteError,
    explain,
)
from imgwas.filenames import file_names
from imgwas.files import publish, publish_json, read_json, write_error
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.manifest import write_image_list
from imgwas.images.nifti import write_volume
from imgwas.images.recipe import Recipe, prepare_image
from imgwas.locks import locked, sweep

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

ABOUT, LIST, FAILURES = "prepare.json", "images.tsv", "failures.tsv"
#: Errors that every image would meet: the run stops at once.
FATAL = (UsageError, MissingLibraryError, WriteError)


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared images.

    Parameters
    ----------
    folder : Path
    images : ImageList
        What came out, in the order of the input.
    failures : tuple of (ImageFile, str)
        What did not, and why.
    n_resumed : int
        How many were already there.
    """

    folder: Path
    images: ImageList
    failures: tuple[tuple[ImageFile, str], ...]
    n_resumed: int


def prepare_images(
    images: ImageList,
    recipe: Recipe,
    out: str | Path,
    *,
    threads: int = 1,
    client: Client | None = None,
    dtype: str = "float32",
    max_failures: float = 0.1,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Prepared:
    """Apply a recipe to every image of a list.

    Parameters
    ----------
    images : ImageList
        What to prepare.
    recipe : Recipe
        What to do to each.
    out : path
        Folder; a stopped run continues when called again with the same recipe.
    threads : int
        Images at a time in this process.
    client : distributed.Client, optional
        Workers of a cluster that see the same folders.
    dtype : {"float32", "int16"}
        Of the stored voxels; int16 halves the disk and keeps 65,535 steps.
    max_failures : float
        Largest share of images that may fail before the run is called a failure.
    overwrite : bool
        Start anew although the folder holds images of another recipe.
    progress : callable, optional
        Called with 1 after each image.

    Returns
    -------
    Prepared

    Raises
    ------
    InconsistentError
        If the folder holds images of another recipe.
    UsageError, MissingLibraryError, WriteError
        At the first image, if no image could be prepared this way.
    DegenerateError
        If more than ``max_failures`` of the images failed; what came out is kept.
    """
    if not len(images):
        raise UsageError(explain("the list names no image"))
    out = Path(out)
    try:
        (out / "volumes").mkdir(parents=True, exist_ok=True)
        (out / ".gitignore").write_text("*\n", encoding="ascii")
    except OSError as error:
        raise write_error(out, error) from error
    with locked(out):
        sweep(out, out / "volumes")
        _check_recipe(out, recipe, dtype, overwrite=overwrite)
        jobs = _jobs(images, out, recipe)
        todo = [job for job in jobs if not job.is_done()]
        logger.info("images   %s to prepare, %s there already", f"{len(todo):,}",
                    f"{len(jobs) - len(todo):,}")  # fmt: skip
        failed = _run(todo, recipe, dtype, threads, client, progress)
        return _finish(out, jobs, failed, len(jobs) - len(todo), max_failures)


@dataclass(frozen=True)
class _Job:
    """One image: where from, where to, and under which identity it counts as done."""

    file: ImageFile
    target: Path
    recipe_digest: str

    @property
    def record(self) -> Path:
        return self.target.with_name(self.target.name.removesuffix(".nii.gz") + ".json")

    def identity(self) -> dict[str, Any]:
        """What must not have changed since the image was prepared."""
        try:
            status = self.file.path.stat()
        except OSError:
            return {"recipe": self.recipe_digest, "bytes": -1, "modified_ns": 0}
        return {
            "recipe": self.recipe_digest,
            "bytes": status.st_size,
            "modified_ns": status.st_mtime_ns,
        }

    def is_done(self) -> bool:
        """Whether the published pair is this job's."""
        try:
            record = read_json(self.record)
            size = self.target.stat().st_size
        except (OSError, ValueError):
            return False
        return bool(record.get("identity") == self.identity() and record.get("bytes") == size)


def _jobs(images: ImageList, out: Path, recipe: Recipe) -> list[_Job]:
    keys = [f"{f.sample_id}_{f.visit}" if f.visit else f.sample_id for f in images]
    names = file_names(keys)
    digest = recipe.digest()
    return [
        _Job(file, out / "volumes" / f"{names[key]}.nii.gz", digest)
        for file, key in zip(images, keys, strict=True)
    ]


def _check_recipe(out: Path, recipe: Recipe, dtype: str, *, overwrite: bool) -> None:
    path = out / ABOUT
    content: dict[str, Any] = {"steps": recipe.as_json(), "dtype": dtype, "imgwas": __version__}
    if path.exists() and not overwrite:
        before = read_json(path)
        if (before["steps"], before["dtype"]) != (content["steps"], dtype):
            old = ", ".join(step["step"] for step in before["steps"])
            new = ", ".join(step["step"] for step in content["steps"])
            how = f"{old}" if old != new else "the same steps with other settings"
            raise InconsistentError(
                explain(
                    f"{out} holds images of another recipe ({how})",
                    do="Choose another --out, or pass --overwrite",
                )
            )
    publish_json(path, content)


def _run(
    todo: Sequence[_Job], recipe: Recipe, dtype: str, threads: int, client: Any,
    progress: Callable[[int], object] | None,
) -> dict[int, str]:  # fmt: skip
    failed: dict[int, str] = {}
    each = compute_each(_prepare, todo, client=client, threads=threads, recipe=recipe, dtype=dtype)
    for index, result in each:
        if isinstance(result, FATAL):
            raise result
        if isinstance(result, Exception):
            known = isinstance(result, ImgwasError)
            reason = str(result) if known else f"{type(result).__name__}: {result}"
            failed[id(todo[index])] = reason
            logger.warning("image %d failed: %s", index + 1, reason)
        if progress is not None:
            progress(1)
    return failed


def _prepare(job: _Job, *, recipe: Recipe, dtype: str) -> None:
    """Prepare and publish one image: the volume first, the record that makes it count after."""
    identity = job.identity()
    volume, record = prepare_image(job.file, recipe)
    digest = write_volume(job.target, volume, dtype=dtype)
    size = job.target.stat().st_size
    publish_json(job.record, {**record, "identity": identity, "bytes": size, "sha256": digest})


def _finish(
    out: Path, jobs: Sequence[_Job], failed: dict[int, str], n_resumed: int, max_failures: float
) -> Prepared:
    done = [job for job in jobs if id(job) not in failed]
    files = tuple(ImageFile(job.file.sample_id, job.target, visit=job.file.visit) for job in done)
    failures = tuple((job.file, failed[id(job)]) for job in jobs if id(job) in failed)
    prepared = Prepared(out, ImageList(files), failures, n_resumed)
    write_image_list(out / LIST, prepared.images)
    with publish(out / FAILURES, "w") as stream:
        stream.write("sample_id\tvisit\tfile\treason\n")
        for file, reason in failures:
            text = " ".join(reason.split())
            stream.write(f"{file.sample_id}\t{file.visit}\t{file.name}\t{text}\n")
    if len(failures) > max_failures * len(jobs):
        raise DegenerateError(
            explain(
                f"{len(failures):,} of {len(jobs):,} images failed",
                expected=f"At most {max_failures:.0%} may (--max-failures)",
                where=f"first: {failures[0][1]}",
                do=f"See {out / FAILURES}; what came out is kept",
            )
        )
    return prepared
