"""``imgwas doctor``: whether this machine is fit for a scan."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from imgwas_cli.options import FOLDER, Command

if TYPE_CHECKING:
    from imgwas.doctor import Finding

#: Exit code where something is missing that imgwas cannot do without, as of a missing library.
UNFIT = 9

EXAMPLE = """
imgwas doctor
imgwas doctor results --torch
"""
_MARKS = {"good": " ", "note": "*", "bad": "!"}


@click.command(cls=Command, example=EXAMPLE)
@click.argument("folder", type=FOLDER, default=Path())
@click.option("--torch", is_flag=True, help="Also import torch and list the devices it sees.")
@click.option("--no-arithmetic", is_flag=True, help="Leave out the small scan.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON.")
def doctor(folder: Path, torch: bool, no_arithmetic: bool, as_json: bool) -> int:
    """Look at this machine: libraries, cores, memory, devices, the disk of FOLDER.

    Writes 64 MB to FOLDER (the current one by default) and removes them, and compares a small scan
    with statsmodels. Exits with 9 where something is missing that imgwas cannot do without. Names
    neither the host nor any person or file of data, so that the page can be shown.
    """
    from imgwas.doctor import examine, is_fit

    start = time.monotonic()
    findings = examine(folder, torch=torch, arithmetic=not no_arithmetic)
    fit = is_fit(findings)
    if as_json:
        found = {"fit": fit, "findings": [vars(finding) for finding in findings]}
        click.echo(json.dumps(found, indent=2))
    else:
        _show(findings)
        what = "fit" if fit else "not fit: see the lines marked with !"
        click.echo(f"this machine is {what} ({time.monotonic() - start:.1f} s)")
    return 0 if fit else UNFIT


def _show(findings: list[Finding]) -> None:
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            click.echo(topic)
        line = f"{_MARKS[finding.level]} {finding.name:<24} {finding.value}"
        click.echo(f"{line}   -> {finding.do}" if finding.do else line)
