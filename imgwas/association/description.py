"""The content of ``run.json``: everything about a scan that is no number per variant."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from imgwas._version import __version__
from imgwas.association.design import Design
from imgwas.association.probing import described
from imgwas.association.selection import Selection
from imgwas.association.task import ScanTask
from imgwas.errors import DegenerateError, explain

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1


def describe(
    task: ScanTask,
    design: Design,
    chosen: Selection,
    identity: Mapping[str, Any],
    digest: str,
    command: list[str] | None,
    genome_build: str | None,
) -> dict[str, Any]:
    """Content of ``run.json``."""
    if not len(task.rows):
        raise DegenerateError(explain("no variant is left to scan", do="Loosen the selection"))
    return {
        "format": "imgwas-scan",
        "format_version": FORMAT_VERSION,
        "imgwas_version": __version__,
        "digest": digest,
        "identity": identity,
        "command": command or [],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "genome_build": genome_build,
        "settings": task.settings.described(),
        "samples": {"kept": len(design.sample_columns), "steps": design.flow.steps},
        "selection": chosen.report,
        "covariates": {"names": list(design.covariate_names), "dropped": design.dropped},
        "groups": [
            {"group": i, "n": g.n, "rank": g.rank, "dof": g.dof, "latents": list(g.names)}
            for i, g in enumerate(design.groups)
        ],
        "latents": _latent_entries(task, design),
        "quarantined": [{"name": n, "reason": why} for n, why in design.quarantined.items()],
        "n_variants": len(task.rows),
        "part_size": task.settings.part_size,
        "n_parts": task.n_parts,
        **_omnibus_entry(task),
        **({"heritability": described(task)} if task.settings.heritability else {}),
    }


def _omnibus_entry(task: ScanTask) -> dict[str, Any]:
    """Describe the test of all latents, after refusing what it cannot answer."""
    if not task.omnibus:
        return {}
    test = task.omnibus["autosome"]
    test.check()
    for line in test.cautions():
        logger.warning("omnibus  %s", line)
    return {"omnibus": test.described()}


def _latent_entries(task: ScanTask, design: Design) -> list[dict[str, Any]]:
    entries = []
    for index, group in enumerate(design.groups):
        for column, name in enumerate(group.names):
            scales = {
                kind: float(groups[index].trait_scale[column])
                for kind, groups in task.groups.items()
            }
            entries.append(
                {
                    "name": name,
                    "group": index,
                    "n": group.n,
                    "mean": float(group.mean[column]),
                    "sd": float(group.sd[column]),
                    "scale": scales.pop("autosome"),
                    **{f"scale_{kind}": scale for kind, scale in scales.items()},
                }
            )
    return entries
