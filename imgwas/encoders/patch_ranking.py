"""Which patches of a brain tell the label: one small network each, ranked on held-out people."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.fitting import Fitted, fit
from imgwas.encoders.splits import Split
from imgwas.encoders.targets import Targets
from imgwas.errors import UsageError, explain
from imgwas.files import publish
from imgwas.images.patches import patch_corners
from imgwas.types import Images

logger = logging.getLogger(__name__)

#: Table of the patches in the folder of a run.
TABLE = "patches.tsv"


def rank_patches(
    images: Images, targets: Targets, *, out: str | Path, split: Split,
    settings: dict[str, Any] | None = None, **options: Any,
) -> list[tuple[int, float]]:  # fmt: skip
    """Train one branch per patch and rank the patches by their validation loss, best first.

    Parameters
    ----------
    images, targets
        What to learn from.
    out : path
        ``patch-00``, ``patch-01``, ... are runs that resume.
    split : Split
        Its validation people alone decide; nobody else is looked at.
    settings : mapping, optional
        Of ``patch-cnn``.
    **options
        As in :func:`imgwas.encoders.fitting.fit`.

    Returns
    -------
    list of (int, float)
        Number of the patch, as :func:`imgwas.images.patches.patch_corners` counts, and its loss.
    """
    given = dict(settings or {})
    planned = create_encoder("patch-cnn", {**given, "grid": images.grid}).settings
    corners = patch_corners(images.grid, planned.patch, planned.steps)
    losses = []
    for number in range(len(corners)):
        made = fit(
            "patch-cnn", images, out=Path(out) / f"patch-{number:02d}", targets=targets,
            split=split, settings={**given, "chosen": (number,)}, **options,
        )  # fmt: skip
        losses.append((number, min(row["validation_loss"] for row in made.history)))
    return sorted(losses, key=lambda pair: pair[1])


def fit_patches(
    images: Images, targets: Targets, *, out: str | Path, split: Split,
    settings: dict[str, Any] | None = None, overwrite: bool = False, devices: int = 1,
    progress: Callable[[int], object] | None = None, **options: Any,
) -> Fitted:  # fmt: skip
    """Rank the patches, then train the fusion of the best ``keep`` of them (seed 001).

    The run in ``out`` is the fusion; ``patches/`` holds one run per patch and ``patches.tsv`` their
    ranking. The same held-out people rank the patches and judge the fusion, whose validation loss
    is therefore a little too good; features out of fold are not touched by that.

    Parameters
    ----------
    images, targets, out, split, settings, overwrite, devices, progress, **options
        As in :func:`imgwas.encoders.fitting.fit`.

    Returns
    -------
    Fitted

    Raises
    ------
    UsageError
        If more patches are to be kept than there are.
    """
    out, given = Path(out), dict(settings or {})
    planned = create_encoder("patch-cnn", {**given, "grid": images.grid}).settings
    corners = patch_corners(images.grid, planned.patch, planned.steps)
    if not 1 <= planned.keep <= len(corners):
        raise UsageError(
            explain(
                f"keep is {planned.keep}",
                expected=f"From 1 to {len(corners)}, the number of patches",
                do="--set keep=5",
            )
        )
    if overwrite and ((out / "run.json").exists() or (out / "patches").is_dir()):
        shutil.rmtree(out)
    options |= {"devices": devices}
    ranked = rank_patches(
        images, targets, out=out / "patches", split=split, settings=given, **options
    )
    chosen = tuple(sorted(number for number, _ in ranked[: planned.keep]))
    logger.info("patches  %s chosen of %d", ", ".join(map(str, chosen)), len(ranked))
    _write_ranking(out / TABLE, ranked, corners, chosen)
    return fit(
        "patch-cnn", images, out=out, targets=targets, split=split, progress=progress,
        settings={**given, "chosen": chosen}, **options,
    )  # fmt: skip


def _write_ranking(
    path: Path, ranked: list[tuple[int, float]], corners: list[tuple[int, int, int]],
    chosen: tuple[int, ...],
) -> None:  # fmt: skip
    with publish(path, "w") as stream:
        stream.write("rank\tpatch\tx\ty\tz\tvalidation_loss\tchosen\n")
        for rank, (number, loss) in enumerate(ranked, start=1):
            corner = "\t".join(map(str, corners[number]))
            stream.write(f"{rank}\t{number}\t{corner}\t{loss:.9g}\t{int(number in chosen)}\n")
