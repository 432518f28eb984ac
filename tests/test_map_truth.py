"""Planted variant -> region effects found again, with their direction and their size (slow)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction, residual_covariance
from imgwas.brain.jacobian import average_jacobian
from imgwas.brain.mapping import Mapper
from imgwas.brain.perturb import perturb_latents, published_map
from imgwas.brain.regions import RegionScorer
from imgwas.brain.volume_change import reader_of_measured
from imgwas.encoders.catalogue import create_encoder
from imgwas.latents.basis import orthonormal_basis, remove
from imgwas.simulate.images import ImageArrays, simulate_image_arrays
from imgwas.types import Atlas, Covariates, Latents

#: people, latents and variants of one cohort
PEOPLE, LATENTS, PLANTED, NULL = 2600, 96, 26, 20


@dataclass(frozen=True)
class Found:
    """One variant: what was planted, and what its map says."""

    role: str
    region: str
    amount: float
    table: pd.DataFrame
    is_finding: bool
    perdi_rank: int


def components(cohort: ImageArrays):
    """Principal components of the training half; latents and covariates of the others."""
    trained = np.isin(cohort.sample_ids, cohort.train)
    grid = ",".join(map(str, cohort.values.shape[1:]))
    encoder = create_encoder("pca", {"latents": LATENTS, "grid": grid, "background": "zero"})
    rows = np.flatnonzero(trained)
    for start in range(0, len(rows), 64):
        encoder.update(torch.from_numpy(cohort.values[rows[start : start + 64]]))
    encoder.finish()
    scanned = np.flatnonzero(~trained)
    z = np.concatenate(
        [encoder.encode(cohort.values[scanned[i : i + 64]]) for i in range(0, len(scanned), 64)]
    )
    ids = tuple(cohort.sample_ids[i] for i in scanned)
    table = cohort.covariates.set_index("IID").loc[list(ids)]
    covariates = Covariates(table.to_numpy(np.float64), ids, tuple(table.columns))
    return encoder, Latents(z.astype(np.float64), ids, encoder.latent_names), covariates, scanned


def by_regression(z: np.ndarray, g: np.ndarray, basis: np.ndarray, name: str) -> Direction:
    """What a scan gives: effects of an allele, and how sure they are."""
    g = remove(g[:, None], basis)[:, 0]
    squares = float(g @ g)
    dof = len(g) - basis.shape[1] - 2
    return Direction(name, z.T @ g / squares, "allele", "variant", 1 / squares, dof, len(g))


def atlas_of(cohort: ImageArrays) -> Atlas:
    template = cohort.template
    names = dict(enumerate(template.regions, start=1))
    return Atlas(template.labels.astype(np.int32), template.affine, names, dict.fromkeys(names, ""))


def perdi_ranks(decoder, z: np.ndarray, scorer: RegionScorer) -> np.ndarray:
    """Published recipe: rank of each region for each latent, by the running sum of smoothed t."""
    ranks = []
    for one in perturb_latents(decoder, z[:100]):
        smooth = published_map(decoder, one.t)[decoder.mask][None]
        score = scorer.ks(smooth)[0]
        ranks.append((score[:, None] < score[None]).sum(axis=1) + 1)
    return np.array(ranks)


def run(seed: int) -> list[Found]:
    """Simulate, encode people never seen in training, map every listed variant."""
    cohort = simulate_image_arrays(
        n_samples=PEOPLE, n_variants=400, n_planted=PLANTED, n_null=NULL, grid_mm=5.0,
        train_share=0.35, seed=seed,
    )  # fmt: skip
    encoder, latents, covariates, scanned = components(cohort)
    atlas = atlas_of(cohort)
    mask = (cohort.values[:100] != 0).mean(axis=0) >= 0.5
    decoder = Decoder(encoder, mask=mask, affine=atlas.affine)
    volumes = cohort.volumes.set_index("IID")
    some = list(latents.sample_ids[:400])
    measured = Latents(volumes.loc[some].to_numpy(np.float64), tuple(some), tuple(volumes.columns))
    mapper = Mapper(
        decoder, average_jacobian(decoder, latents.values[:8]),
        residual_covariance(latents, covariates), latents.values[:8], atlas=atlas,
        volumes=reader_of_measured(latents, measured, atlas, covariates),
    )  # fmt: skip
    basis = orthonormal_basis(covariates.values)
    z = remove(latents.values, basis)
    perdi = perdi_ranks(decoder, latents.values, RegionScorer(atlas, mask))
    found = []
    for row, truth in cohort.truth.iterrows():
        direction = by_regression(z, cohort.dosages[row, scanned], basis, truth["variant_id"])
        one = mapper.map(direction)
        best = int(np.argmax(np.abs(direction.vector) / np.sqrt(np.diag(mapper.covariance))))
        region = str(truth["region"] or "")
        rank = int(perdi[best, list(atlas.names.values()).index(region)]) if region else 0
        found.append(
            Found(truth["role"], region, float(truth["amount"]), one.regions, one.is_finding, rank)
        )
    return found


def report(found: list[Found]) -> dict[str, float]:
    """The figures of the page on maps."""
    planted = [f for f in found if f.role == "planted"]
    seen = [f for f in planted if f.is_finding]
    rows = [f.table.set_index("region").loc[f.region] for f in seen]
    rank = np.array([int(row["rank"]) for row in rows])
    read = [(f, row) for f, row in zip(seen, rows, strict=True) if np.isfinite(row["volume"])]
    cover = [row["volume_low"] <= f.amount <= row["volume_high"] for f, row in read]
    sign = [np.sign(row["volume"]) == np.sign(f.amount) for f, row in read]
    null = [f for f in found if f.role != "planted"]
    perdi = np.array([f.perdi_rank for f in seen])
    return {
        "planted": len(planted), "found": len(seen), "regions": len({f.region for f in seen}),
        "first": float((rank == 1).mean()), "top3": float((rank <= 3).mean()),
        "sign": float(np.mean(sign)), "coverage": float(np.mean(cover)), "read": len(read),
        "null": len(null), "null_findings": sum(f.is_finding for f in null),
        "null_clean": float(np.mean([f.table["share_q"].min() >= 0.05 for f in null])),
        "perdi_first": float((perdi == 1).mean()), "perdi_top3": float((perdi <= 3).mean()),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_planted_regions_are_found_with_direction_and_size():
    found = [one for seed in (1, 2, 3, 4, 5) for one in run(seed)]
    figures = report(found)
    assert figures["found"] >= 40, figures
    assert figures["regions"] >= 8, figures
    assert figures["first"] >= 0.8, figures
    assert figures["top3"] >= 0.95, figures
    assert figures["sign"] >= 0.95, figures
    assert figures["null_clean"] >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / figures["null"]), figures
    assert 0.9 <= figures["coverage"] <= 0.98, figures
    assert figures["perdi_first"] < figures["first"], figures
