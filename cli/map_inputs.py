"""What ``imgwas map`` reads, checked against each other before anything is computed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from imgwas.brain.directions import Direction
    from imgwas.brain.volume_change import VolumeReader
    from imgwas.encoders.base import Encoder
    from imgwas.encoders.checkpoints import Loaded
    from imgwas.sumstats import SumStats
    from imgwas.types import Atlas, Covariates, Images, Latents

logger = logging.getLogger("imgwas.cli")


@dataclass(frozen=True)
class MapInputs:
    """Everything a map needs."""

    encoder: Encoder
    digest: str
    latents: Latents
    people: np.ndarray
    groups: list[tuple[np.ndarray, list[Direction]]]
    mask: np.ndarray
    affine: np.ndarray
    atlas: Atlas | None
    volumes: VolumeReader | None
    blur: float
    about: dict[str, Any]

    @property
    def n_latents(self) -> int:
        """Latents of the encoder."""
        return self.encoder.n_latents


def read_inputs(results: Path | None, given: dict[str, Any]) -> MapInputs:
    """Open encoder, latents, scan, mask, atlas and directions."""
    from imgwas.brain.blur import blur_of_encoder
    from imgwas.brain.decoding import check_decodes
    from imgwas.brain.workflow import check_same_encoder, choose_people
    from imgwas.encoders.checkpoints import load_encoder
    from imgwas.encoders.devices import choose_device
    from imgwas.images.volumes import open_images
    from imgwas.sumstats import open_sumstats
    from imgwas.tables import read_latents

    loaded = load_encoder(given["encoder"], device=str(choose_device(given["device"])))
    check_decodes(loaded.encoder)
    latents = check_same_encoder(read_latents(given["latents"]), loaded)
    covariates = covariates_of(given)
    sumstats = None if results is None else open_sumstats(results)
    groups = read_directions(sumstats, latents, covariates, given)
    images = open_images(given["images"], visit=given["visit"]) if given["images"] else None
    affine = affine_of(loaded, images)
    atlas = _atlas(loaded, affine, given)
    mask = _mask(loaded, images, affine, atlas, given)
    people = choose_people(latents, given["people"], seed=given["seed"])
    volumes = _volumes(latents, atlas, covariates, given)
    blur = 0.0
    is_cine = is_cine_of(loaded, given)
    if is_cine and atlas is not None and volumes is None:
        from imgwas.brain.cine_labels import without_volumes

        volumes = without_volumes(loaded.encoder.n_latents, len(atlas.numbers))
    if images is not None and atlas is not None and volumes is None:
        blur = blur_of_encoder(loaded.encoder, images, latents, affine, mask, seed=given["seed"])
    return MapInputs(
        encoder=loaded.encoder, digest=loaded.digest, latents=latents, people=people,
        groups=groups, mask=mask, affine=affine, atlas=atlas,
        volumes=volumes, blur=blur,
        about=_about(loaded, sumstats, people, given) | {"blur_mm": round(blur, 2)},
    )  # fmt: skip


def is_cine_of(loaded: Loaded, given: dict[str, Any]) -> bool:
    """Whether the last axis of the grid is time."""
    return len(loaded.encoder.grid) == 4 or bool(given.get("cine"))


def covariates_of(given: dict[str, Any]) -> Covariates | None:
    """Read the table of --covar."""
    from imgwas.tables import read_covariates

    if not given["covar"]:
        return None
    return read_covariates(given["covar"], categorical=list(given["categorical"] or ()))


def read_directions(
    sumstats: SumStats | None,
    latents: Latents,
    covariates: Covariates | None,
    given: dict[str, Any],
) -> list[tuple[np.ndarray, list[Direction]]]:
    """Everything that is asked for, with the covariance of the latents after its covariates."""
    from imgwas.brain.directions import component_direction, latent_direction, residual_covariance
    from imgwas.checks import duplicates
    from imgwas.errors import UsageError, explain

    groups = []
    if sumstats is not None:
        from imgwas.brain.variants import scan_space, variant_direction

        space = scan_space(sumstats, latents)
        rows = [row for _, row in _variants(sumstats, given).iterrows()]
        found = [variant_direction(sumstats, space, row, given["weights"]) for row in rows]
        groups.append((space.covariance, found))
    elif given["loci"] or given["variant"] or given["top"]:
        raise UsageError(
            explain("variants need the scan they are of", do="Give its folder: imgwas map RESULTS")
        )
    others = [latent_direction(latents, name) for name in dict.fromkeys(given["latent"] or ())]
    others += [component_direction(latents, number) for number in dict.fromkeys(given["component"])]
    traits = _traits(latents, covariates, given)
    if others or not groups:
        groups.append((residual_covariance(latents, covariates), others))
    groups += traits
    if not any(found for _, found in groups) and not given["perdi"]:
        raise UsageError(
            explain("there is nothing to map",
                    do="Give --loci, --variant or --top with RESULTS, or --latent, --trait")
        )  # fmt: skip
    twice = duplicates([one.name for _, found in groups for one in found])
    if twice:
        raise UsageError(
            explain(f"{len(twice)} names stand for two directions (first: {twice[0]})",
                    expected="Maps are files, named after what they show",
                    do="Rename the trait, or map the two into two folders")
        )  # fmt: skip
    return [group for group in groups if group[1]] or groups[:1]


def _variants(sumstats: SumStats, given: dict[str, Any]) -> pd.DataFrame:
    """Variants of the table of loci, the list, or the strongest of the scan."""
    import pandas as pd

    from imgwas.brain.variants import find_variants, strongest_variants

    frames = []
    if given["loci"]:
        frames.append(find_variants(sumstats, _leads(given["loci"])))
    if given["variant"]:
        frames.append(find_variants(sumstats, given["variant"]))
    if given["top"]:
        frames.append(strongest_variants(sumstats, given["top"]))
    if not frames:
        return pd.DataFrame(columns=["variant_id", "chromosome", "base_pair_location"])
    return pd.concat(frames, ignore_index=True).drop_duplicates("variant_id")


def _leads(path: Path) -> list[str]:
    """Lead variants of a table of loci."""
    from imgwas.errors import MalformedError, explain
    from imgwas.tables.source import read_table

    table = read_table(path)
    for name in ("lead_variant", "variant_id", "SNP", "ID"):
        if name in table.column_names:
            return list(dict.fromkeys(str(one) for one in table[name].to_pylist() if one))
    raise MalformedError(
        explain(f"{path} has no column of variants",
                expected="lead_variant, as 'imgwas loci' writes it, or variant_id",
                where=f"it has {', '.join(table.column_names[:6])}")
    )  # fmt: skip


def _traits(
    latents: Latents, covariates: Covariates | None, given: dict[str, Any]
) -> list[tuple[np.ndarray, list[Direction]]]:
    """Traits, with the covariance of the latents among the people who have them."""
    import numpy as np

    from imgwas.brain.directions import (
        probe_direction,
        regression_direction,
        residual_covariance,
    )
    from imgwas.errors import UsageError, explain
    from imgwas.tables import read_phenotypes

    if not given["trait"]:
        return []
    time = given["trait_time"]
    names = list(given["trait_name"] or ())
    table = read_phenotypes(
        given["trait"], names=[*names, *([time] if time else [])] or None, neg9="value"
    )
    rows = {one: i for i, one in enumerate(table.sample_ids)}
    order = np.array([rows.get(one, -1) for one in latents.sample_ids])
    if (order < 0).all():
        raise UsageError(
            explain(f"nobody of the latents is in {given['trait']}", do="Compare the ids of both")
        )
    values = np.where((order >= 0)[:, None], np.take(table.values, order, axis=0), np.nan)
    groups: dict[bytes, tuple[np.ndarray, list[Direction]]] = {}
    for name in (n for n in table.names if n != time):
        column = values[:, table.names.index(name)]
        if given["trait_model"] == "regression":
            per = "group" if len(np.unique(column[np.isfinite(column)])) == 2 else "SD"
            found = regression_direction(latents, column, name, covariates=covariates, per=per)
        else:
            when = values[:, table.names.index(time)] if time else None
            found = probe_direction(
                latents, column, name, model=given["trait_model"], time=when, covariates=covariates
            )
        key = np.isfinite(column).tobytes()
        if key not in groups:
            groups[key] = (residual_covariance(latents, covariates, column), [])
        groups[key][1].append(found)
    return list(groups.values())


def affine_of(loaded: Loaded, images: Images | None) -> np.ndarray:
    """Where the voxels lie, as images and encoder say, which must agree."""
    import numpy as np

    from imgwas.errors import InconsistentError, explain
    from imgwas.images.space import Space, check_space

    own = loaded.encoder.affine
    grid = loaded.encoder.grid
    if images is not None:
        place = np.asarray(images.affine)
        wanted = Space(grid[:3], place if own is None else np.asarray(own))
        check_space(Space(tuple(images.grid[:3]), place), wanted, "the images")
        return place
    if own is None:
        raise InconsistentError(
            explain("the encoder does not say where its voxels lie", do="Give --images")
        )
    return np.asarray(own)


def _atlas(loaded: Loaded, affine: np.ndarray, given: dict[str, Any]) -> Atlas | None:
    from imgwas.brain.atlas import read_atlas
    from imgwas.errors import UsageError, explain
    from imgwas.images.space import Space

    if not given["atlas"]:
        if given["atlas_names"]:
            raise UsageError(explain("--atlas-names is given without --atlas"))
        return None
    if is_cine_of(loaded, given):
        from imgwas.brain.cine_labels import read_cine_labels

        return read_cine_labels(given["atlas"], given["atlas_names"], loaded.encoder.grid, affine)
    return read_atlas(
        given["atlas"], given["atlas_names"], space=Space(loaded.encoder.grid[:3], affine),
        merge_hemispheres=given["merge_hemispheres"],
    )  # fmt: skip


def _mask(
    loaded: Loaded,
    images: Images | None,
    affine: np.ndarray,
    atlas: Atlas | None,
    given: dict[str, Any],
) -> np.ndarray:
    """Read the mask, or take it from images, or from the atlas."""
    import numpy as np

    from imgwas.brain.masks import mask_of_images, read_mask
    from imgwas.errors import UsageError, explain
    from imgwas.images.space import Space

    if given["mask"]:
        return read_mask(given["mask"], Space(loaded.encoder.grid[:3], affine))
    if images is not None:
        return mask_of_images(images, seed=given["seed"])
    if atlas is not None:
        logger.warning("no --images and no --mask: only voxels inside a region are looked at")
        return np.asarray(atlas.labels != 0)
    raise UsageError(
        explain(
            "it is not known where the brain is",
            expected="A decoder trained with a masked loss paints anything outside",
            do="Give --images (prepared images) or --mask",
        )
    )


def _volumes(
    latents: Latents, atlas: Atlas | None, covariates: Covariates | None, given: dict[str, Any]
) -> VolumeReader | None:
    """Learn from measured volumes how the latents tell them."""
    from imgwas.brain.volume_change import reader_of_measured
    from imgwas.errors import UsageError, explain
    from imgwas.tables import read_phenotypes

    if not given["volumes"]:
        return None
    if atlas is None:
        raise UsageError(explain("--volumes needs the regions they are of", do="Give --atlas"))
    volumes = read_phenotypes(given["volumes"], neg9="value")
    return reader_of_measured(latents, volumes, atlas, covariates)


def _about(
    loaded: Loaded, sumstats: SumStats | None, people: np.ndarray, given: dict[str, Any]
) -> dict[str, Any]:
    from imgwas._version import __version__

    scan = {} if sumstats is None else {"scan": str(sumstats.metadata.get("digest", ""))}
    return {
        "format": "imgwas-maps", "imgwas": __version__, "encoder": loaded.encoder.name,
        "weights_sha256": loaded.digest, "n_people": len(people),
        "atlas": str(given["atlas"] or ""), "seed": given["seed"], **scan,
    }  # fmt: skip
