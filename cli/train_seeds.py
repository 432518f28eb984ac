"""``imgwas train --seeds``: the same network from several seeds, on the same people."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger("imgwas.cli")

#: Sub-folder of a seed's run.
FOLDER = "seed-{}"


def check_seeds(
    given: Mapping[str, Any], training: Mapping[str, Any], *, n_folds: int
) -> tuple[int, ...]:
    """Read the words of --seeds; refuse what cannot go together.

    Raises
    ------
    UsageError
        If a seed is no whole number or given twice, there is only one, or the seed stands elsewhere
        too.
    RefusedError
        If --out holds a single run.
    """
    from imgwas.checks import check_range, duplicates
    from imgwas.errors import RefusedError, UsageError, explain

    words = given["seeds"]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(
            explain(f"--seeds is {','.join(words)}", expected="Whole numbers: 1701,1993,42")
        )
    seeds = tuple(int(word) for word in words)
    for seed in seeds:
        check_range("a seed", seed, low=0, high=2**62)
    twice = duplicates([str(seed) for seed in seeds])
    if twice:
        raise UsageError(explain(f"the seed {twice[0]} is given twice", do="Give each seed once"))
    if len(seeds) < 2:
        raise UsageError(
            explain("--seeds has one seed", expected="Two or more, to compare what they learn",
                    do=f"For one run give --train seed={seeds[0]}")
        )  # fmt: skip
    if "seed" in training:
        raise UsageError(
            explain("--seeds and a seed in the settings of training were both given",
                    do="Leave --train seed= out")
        )  # fmt: skip
    if n_folds > 1:
        raise UsageError(
            explain("--seeds is for networks without labels",
                    expected="Folds are compared with each other already", do="Give --folds 1")
        )  # fmt: skip
    if (given["out"] / "run.json").exists():
        raise RefusedError(
            explain(f"--out {given['out']} holds a single run",
                    expected="Runs of several seeds have a folder of their own")
        )  # fmt: skip
    return seeds


def train_seeds(
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    train: Callable[[dict[str, Any], dict[str, Any]], object],
) -> None:
    """Train one run a seed, in sub-folders; a command that was stopped goes on where it was.

    Everyone who is held out is held out from all: latents of people whom one of the networks was
    trained on and another was not could not be compared.
    """
    out: Path = given["out"]
    for number, seed in enumerate(given["seeds"], start=1):
        logger.info("seed     %d (%d of %d)", seed, number, len(given["seeds"]))
        chosen = {**options, "train": {**options["train"], "seed": seed}}
        train({**given, "out": out / FOLDER.format(seed)}, chosen)
    logger.info("next: imgwas encode IMAGES %s --out latents/", out)
    logger.info("then: imgwas latents consensus latents/ --out consensus/")


def runs_of(folder: Path) -> dict[str, Path]:
    """Runs of several seeds by the names of their folders; empty where the folder is one encoder.

    Raises
    ------
    InconsistentError
        If one of them is not finished.
    """
    from imgwas.errors import InconsistentError, explain

    if any((folder / name).exists() for name in ("run.json", "encoder.json", "encoder")):
        return {}
    runs = {one.name: one for one in sorted(folder.glob("seed-*")) if (one / "run.json").exists()}
    waiting = [name for name, one in runs.items() if not (one / "encoder").is_dir()]
    if waiting:
        raise InconsistentError(
            explain(f"{len(waiting)} of {len(runs)} runs in {folder} are not finished "
                    f"(first: {waiting[0]})", do="Give the command imgwas train --seeds again")
        )  # fmt: skip
    return runs
