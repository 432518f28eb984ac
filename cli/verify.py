"""``imgwas status``, ``verify`` and ``repair``: a run looked at from outside, and healed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click
from imgwas_cli import logs
from imgwas_cli.options import FOLDER, Command, threads
from imgwas_cli.running import bar

logger = logging.getLogger("imgwas.cli")


@click.command(cls=Command, example="imgwas status results/")
@click.argument("results", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(results: Path, as_json: bool) -> int:
    """Say how far a scan is: parts done and missing, speed, who works on it.

    Reads names and times only, so it may be asked at any moment. Exit code 0 if the run is
    complete, 20 if it is not.
    """
    from imgwas.association.inspecting import look
    from imgwas.errors import IncompleteError

    state = look(results)
    click.echo(json.dumps(state.to_dict(), indent=2) if as_json else "\n".join(state.lines()))
    return 0 if state.complete and not state.missing else IncompleteError.exit_code


@click.command(cls=Command, example="imgwas verify results/")
@click.argument("results", type=FOLDER)
@click.option("--quick", is_flag=True, help="Compare sizes only, not checksums.")
@click.option("--allow-partial", is_flag=True, help="Look at what an unfinished run has.")
def verify(results: Path, quick: bool, allow_partial: bool) -> None:
    """Compare every file of the results with the checksum that the scan recorded.

    Lists what is damaged, with the columns of a part whose pages are; exit code 6 if anything is.
    """
    from imgwas.association.inspecting import refuse
    from imgwas.sumstats.folder import open_folder, read_run

    logs.to_terminal()
    n_parts = int(read_run(results)["n_parts"])
    if not (results / "RUN_COMPLETE.json").exists():
        open_folder(results, allow_partial=allow_partial)  # refuses with what is missing
    damage = _look_for_damage(results, quick=quick)
    for one in damage:
        click.echo(one.what, err=True)
    refuse(results, damage, n_parts)
    done = len(list((results / "parts").glob("*.ok.json")))
    click.echo(f"{results} is whole: {done:,} of {n_parts:,} parts")


def _look_for_damage(results: Path, *, quick: bool = False) -> list[Any]:
    from imgwas.association.inspecting import find_damage

    total = sum(path.stat().st_size for path in (results / "parts").glob("part-*.parquet"))
    with bar(total, "verify", "B") as progress:
        return find_damage(results, deep=not quick, on_part=progress or (lambda _: None))


@click.command(cls=Command, example="imgwas repair results/")
@click.argument("results", type=FOLDER)
@click.option("--mark", is_flag=True, help="Only make damaged parts undone; compute nothing.")
@threads
def repair(results: Path, mark: bool, threads: int | None) -> None:
    """Compute damaged or lost parts of a scan again, and only those.

    The inputs are those of the recorded command, so call it in the folder in which the scan was
    started. They must not have changed. A scan of the Python library recorded no command: use
    --mark, then call imgwas.associate as before.
    """
    from imgwas.association.inspecting import forget, refuse
    from imgwas.locks import locked
    from imgwas.sumstats.folder import read_run

    logs.to_terminal()
    run = read_run(results)
    damage = _look_for_damage(results)
    for one in damage:
        logger.info("damaged  %s", one.what)
    complete = (results / "RUN_COMPLETE.json").exists()
    if not damage and complete:
        click.echo(f"{results} is whole: nothing to repair")
        return
    if mark:
        with locked(results):
            parts = forget(results, damage)
        click.echo(f"{len(parts):,} parts are undone; the same associate command computes them")
        return
    _compute_again(results, run, damage, threads)
    refuse(results, _look_for_damage(results), int(run["n_parts"]))
    click.echo(f"{results} is whole: {len({d.part for d in damage}):,} damaged files were replaced")


def _compute_again(
    results: Path, run: dict[str, Any], damage: list[Any], threads: int | None
) -> None:
    """Give the recorded command again, here and on threads."""
    from imgwas_cli import associate as scan

    from imgwas.association.parts import receipt_path
    from imgwas.errors import UsageError, explain

    words = [str(word) for word in run.get("command") or []]
    if words[1:2] != ["associate"]:
        raise UsageError(
            explain(
                f"{results} does not record the command of its scan",
                do=f"imgwas repair {results} --mark, then call imgwas.associate as before",
            )
        )
    options = scan.associate.read_back(words[2:])
    # nothing that a file says is started: not the program of --on-part either
    elsewhere = ("workers", "scheduler", "cluster", "part", "check", "on_part", "on_part_timeout")
    options |= dict.fromkeys(elsewhere) | {"finish": False, "overwrite": False, "threads": threads}
    for one in damage:
        # the scan itself finds damaged parts; what only repair sees it is told this way
        if one.part is not None and ".ok.json" in one.what:
            receipt_path(results, one.part).unlink(missing_ok=True)
        if one.what.startswith("RUN_COMPLETE.json"):
            (results / "RUN_COMPLETE.json").unlink(missing_ok=True)
    logs.to_file(results)
    scan._associate(options | {"out": results})
