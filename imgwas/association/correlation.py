"""How the latents of a scan hang together: the correlation of their t statistics under the null."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from imgwas.association.design import Design
from imgwas.files import publish_bytes, sha256_of
from imgwas.shapes import Float64
from imgwas.sumstats.correlation import CORRELATION, encode_correlation

#: people whose residual traits are multiplied at a time
_PEOPLE = 4096


def null_correlation(traits: Sequence[np.ndarray]) -> Float64[np.ndarray, "latents latents"]:
    """Correlation of the t statistics of all latents where no variant has an effect.

    With unit residual latents ``Y`` (zero for people a latent does not have), a variant without
    effect gives ``t ~ Y'g``, so that ``corr(t) = Y'Y``: the partial correlation of the latents
    given the covariates, shrunk by the people that two latents do not share.

    Parameters
    ----------
    traits : sequence of (people, traits) array
        Unit residual traits of each missingness group, over the same people.

    Returns
    -------
    (latents, latents) array
        In the order of the groups; the diagonal is one.
    """
    n_traits = sum(group.shape[1] for group in traits)
    correlation = np.zeros((n_traits, n_traits))
    with threadpool_limits(1, user_api="blas"):  # so that the bytes do not hang on the threads
        for start in range(0, len(traits[0]), _PEOPLE):
            some = np.hstack([group[start : start + _PEOPLE] for group in traits])
            correlation += some.T @ some
    correlation = (correlation + correlation.T) / 2
    np.fill_diagonal(correlation, 1.0)
    return correlation


def write_correlation(out: Path, design: Design, samples: str) -> dict[str, str | int]:
    """Publish the correlation of a design's latents in the folder of its scan.

    Parameters
    ----------
    out : Path
        Folder of the run.
    design : Design
        Of the autosomes.
    samples : str
        Digest of the people's ids, kept in the file's footer.

    Returns
    -------
    dict
        Name, size and SHA-256, for ``RUN_COMPLETE.json``.
    """
    names = [name for group in design.groups for name in group.names]
    content = encode_correlation(
        null_correlation([group.traits for group in design.groups]), names, samples
    )
    path = out / CORRELATION
    checksum = publish_bytes(path, content)
    return {"path": CORRELATION, "bytes": content.size, "sha256": checksum}


def is_recorded(
    out: Path, recorded: Sequence[dict[str, str | int]], name: str = CORRELATION
) -> bool:
    """Whether a file is there as the finished run recorded it."""
    path = out / name
    known = {entry["path"]: entry["sha256"] for entry in recorded}
    return path.exists() and name in known and sha256_of(path) == known[name]
