"""One call from the lead variants of a scan to their maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain.blur import blur_of_encoder
from imgwas.brain.decoding import check_decodes
from imgwas.brain.mapping import EffectMap, Mapper, MapSettings, map_many
from imgwas.brain.masks import mask_of_images
from imgwas.brain.variants import find_variants, scan_space, variant_direction
from imgwas.brain.volume_change import reader_of_measured
from imgwas.brain.workflow import check_same_encoder, choose_people, differentiate
from imgwas.errors import UsageError, explain
from imgwas.images.space import Space, check_space
from imgwas.sumstats import SumStats
from imgwas.types import Atlas, Covariates, Images, Latents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgwas.encoders.checkpoints import Loaded


def map_to_brain(
    variants: Sequence[str],
    sumstats: SumStats,
    loaded: Loaded,
    latents: Latents,
    images: Images,
    *,
    atlas: Atlas | None = None,
    volumes: Latents | None = None,
    covariates: Covariates | None = None,
    n_people: int = 16,
    settings: MapSettings | None = None,
    cache: str | Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[EffectMap]:
    """Decode what variants do to the latents into what they do to voxels and regions.

    Parameters
    ----------
    variants : sequence of str
        Ids, e.g. the lead variants of :func:`imgwas.find_loci`.
    sumstats : SumStats
        The scan of all of the encoder's latents.
    loaded : Loaded
        From :func:`imgwas.load_encoder`; it needs a decoder.
    latents : Latents
        The table that was scanned, as ``imgwas encode`` wrote it.
    images : Images
        Prepared images: they say where the brain is.
    atlas : Atlas, optional
        On the grid of the images (:func:`imgwas.read_atlas`).
    volumes : Latents, optional
        Measured volumes of some people, a column a region.
    covariates : Covariates, optional
        Those of the scan, for the volumes.
    n_people : int
        People at whom the decoder is differentiated.
    settings : MapSettings, optional
        Draws of chance, levels, the gate, the blur of decoded pictures. By default the blur is
        estimated where regions are read from pictures (an atlas without measured volumes).
    cache : path, optional
        Folder that keeps the derivative for the next call.
    progress : callable, optional
        Called with 1 for each latent.

    Returns
    -------
    list of EffectMap
        In the order of ``variants``, their regions corrected over all of them.

    Raises
    ------
    UsageError
        If the encoder has no decoder, a variant is not in the scan, or volumes have no atlas.
    InconsistentError
        If encoder, latents, scan, images or atlas do not belong together.
    """
    check_decodes(loaded.encoder)
    if volumes is not None and atlas is None:
        raise UsageError(explain("volumes need the regions they are of", do="Give atlas="))
    latents = check_same_encoder(latents, loaded)
    space = scan_space(sumstats, latents)
    leads = find_variants(sumstats, variants)
    affine = np.asarray(images.affine, np.float64)
    own = loaded.encoder.affine
    place = affine if own is None else np.asarray(own, np.float64)
    check_space(
        Space(tuple(images.grid[:3]), affine), Space(loaded.encoder.grid[:3], place), "the images"
    )
    people = choose_people(latents, n_people)
    mask = mask_of_images(images)
    decoder, jacobian = differentiate(
        loaded.encoder, loaded.digest, people, mask=mask, affine=affine,
        cache=None if cache is None else Path(cache), progress=progress,
    )  # fmt: skip
    reader = None
    if volumes is not None and atlas is not None:
        reader = reader_of_measured(latents, volumes, atlas, covariates)
    elif atlas is not None and settings is None:
        settings = MapSettings(blur=blur_of_encoder(loaded.encoder, images, latents, affine, mask))
    mapper = Mapper(
        decoder, jacobian, space.covariance, people, atlas=atlas, volumes=reader, settings=settings
    )
    return map_many(
        mapper, [variant_direction(sumstats, space, row) for _, row in leads.iterrows()]
    )
