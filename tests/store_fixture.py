"""A tiny writer of scan folders with known numbers, straight from ``docs/data_model.md``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ALLELES = "ACGT"


@dataclass
class Fixture:
    """What the folder was made of."""

    folder: Path
    chromosome: list[str]
    position: np.ndarray
    variant_id: list[str]
    effect: list[str]
    other: list[str]
    t: np.ndarray  # (variants, latents)
    beta: np.ndarray | None
    dof: np.ndarray  # (variants, groups)
    n: np.ndarray
    frequency: np.ndarray
    scale: np.ndarray
    reason: np.ndarray
    names: list[str]
    group_of: list[int]
    trait_scale: list[dict[str, float]]
    quality: np.ndarray | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def random_fixture(
    folder: Path,
    *,
    n_variants: int = 300,
    names: Sequence[str] = ("L0", "L1", "L2"),
    group_of: Sequence[int] | None = None,
    dof: Sequence[int] = (4978,),
    chromosomes: Sequence[str] = ("1", "2", "X"),
    seed: int = 1,
    **replaced: Any,
) -> Fixture:
    """Random numbers in the right places; ``replaced`` overrides whole fields."""
    rng = np.random.default_rng(seed)
    n_groups = len(dof)
    per = -(-n_variants // len(chromosomes))
    alleles = np.array([rng.permutation(4)[:2] for _ in range(n_variants)]).reshape(-1, 2)
    fixture = Fixture(
        folder=folder,
        chromosome=[c for c in chromosomes for _ in range(per)][:n_variants],
        position=np.tile(np.arange(per) * 100 + 1000, len(chromosomes))[:n_variants],
        variant_id=[f"rs{i}" for i in range(n_variants)],
        effect=[ALLELES[a] for a in alleles[:, 0]],
        other=[ALLELES[a] for a in alleles[:, 1]],
        t=rng.standard_normal((n_variants, len(names))).astype(np.float32),
        beta=None,
        dof=np.tile(np.array(dof), (n_variants, 1)),
        n=np.tile(np.array(dof) + 22, (n_variants, 1)),
        frequency=rng.uniform(0.01, 0.99, (n_variants, n_groups)),
        scale=rng.uniform(10, 50, (n_variants, n_groups)),
        reason=np.zeros((n_variants, n_groups), int),
        names=list(names),
        group_of=list(group_of or [0] * len(names)),
        trait_scale=[{"autosome": 60.0 + i, "X": 50.0 + i} for i in range(len(names))],
    )
    for name, value in replaced.items():
        setattr(fixture, name, value)
    return fixture


def write(
    fixture: Fixture,
    *,
    part_size: int = 128,
    complete: bool = True,
    only_parts: Sequence[int] | None = None,
    **metadata: Any,
) -> Path:
    """Write the folder; untested rows get NaN statistics."""
    folder = fixture.folder
    (folder / "parts").mkdir(parents=True)
    table = _table(fixture)
    starts = list(range(0, table.num_rows, part_size)) or [0]
    receipts = []
    for part, start in enumerate(starts):
        if only_parts is None or part in only_parts:
            receipts.append(_write_part(folder, part, table.slice(start, part_size)))
    run = _run(fixture, len(starts), part_size) | metadata
    (folder / "run.json").write_text(json.dumps(run))
    if complete:
        (folder / "RUN_COMPLETE.json").write_text(json.dumps({"parts": receipts}))
    return folder


def _write_part(folder: Path, part: int, table: pa.Table) -> dict[str, Any]:
    path = folder / "parts" / f"part-{part:05d}.parquet"
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    receipt = {
        "part": part,
        "rows": table.num_rows,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "digest": "d1",
    }
    path.with_suffix(".ok.json").write_text(json.dumps(receipt))
    return receipt


def _table(fixture: Fixture) -> pa.Table:
    n = len(fixture.variant_id)
    columns: dict[str, Any] = {
        "chromosome": pa.array(fixture.chromosome, pa.string()),
        "base_pair_location": pa.array(fixture.position, pa.int64()),
        "variant_id": pa.array(fixture.variant_id, pa.string()),
        "effect_allele": pa.array(fixture.effect, pa.string()),
        "other_allele": pa.array(fixture.other, pa.string()),
        "row": pa.array(np.arange(n), pa.int64()),
    }
    for count in ("n_missing", "n_effect_homozygote", "n_heterozygote", "n_other_homozygote"):
        columns[count] = pa.array(np.zeros(n, np.int32))
    quality = fixture.quality
    columns["imputation_r2"] = (
        pa.nulls(n, pa.float32()) if quality is None else pa.array(quality, pa.float32())
    )
    for g in range(fixture.dof.shape[1]):
        columns[f"n.{g}"] = pa.array(fixture.n[:, g], pa.int32())
        columns[f"effect_allele_frequency.{g}"] = pa.array(fixture.frequency[:, g])
        columns[f"scale.{g}"] = pa.array(fixture.scale[:, g])
        columns[f"dof.{g}"] = pa.array(fixture.dof[:, g], pa.int32())
        columns[f"reason.{g}"] = pa.array(fixture.reason[:, g], pa.int8())
    for i, name in enumerate(fixture.names):
        untested = fixture.reason[:, fixture.group_of[i]] > 0
        columns[f"t.{name}"] = pa.array(np.where(untested, np.nan, fixture.t[:, i]).astype(
            fixture.t.dtype))  # fmt: skip
        if fixture.beta is not None:
            columns[f"beta.{name}"] = pa.array(fixture.beta[:, i])
    return pa.table(columns)


def _run(fixture: Fixture, n_parts: int, part_size: int) -> dict[str, Any]:
    latents = []
    for i, name in enumerate(fixture.names):
        scales = {f"scale_{k}": v for k, v in fixture.trait_scale[i].items() if k != "autosome"}
        entry = {
            "name": name,
            "group": fixture.group_of[i],
            "n": int(fixture.n[:, 0].max(initial=0)),
        }
        latents.append(entry | {"scale": fixture.trait_scale[i]["autosome"]} | scales)
    return {
        "format": "imgwas-scan",
        "format_version": 1,
        "imgwas_version": "0.1.0",
        "digest": "d1",
        "genome_build": None,
        "settings": {
            "missing_genotype": "mean" if fixture.beta is None else "drop",
            "precision": "single" if fixture.t.dtype == np.float32 else "double",
            "filters": {"maf": 0.01},
        },
        "samples": {"kept": 5000, "steps": [["in genotypes", 5010], ["kept", 5000]]},
        "covariates": {"names": ["age", "sex"], "dropped": {}},
        "latents": latents,
        "quarantined": [{"name": "flat", "reason": "constant among the analysed samples"}],
        "n_variants": len(fixture.variant_id),
        "part_size": part_size,
        "n_parts": n_parts,
    } | fixture.extra
