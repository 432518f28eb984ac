"""Latents one by one: the best match in other seeds, and one-to-one pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.consensus.joining import check_joined
from imgwas.latents.basis import centred
from imgwas.latents.correlation import correlate
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd

#: |r| above which a latent counts as found again.
THRESHOLD = 0.8


def best_matches(tables: Mapping[str, Latents], *, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Find for every latent of every seed the latent of any other seed that is most like it.

    Parameters
    ----------
    tables : mapping from name to Latents
        Of the same people in the same order, as :func:`join_latents` returns.
    threshold : float, default 0.8
        |r| above which a latent counts as reproduced.

    Returns
    -------
    DataFrame
        One row per latent: ``seed``, ``latent``, ``best_seed``, ``best_latent``, ``r`` (signed
        Pearson correlation with the best match), ``n_seeds`` (other seeds with a match above the
        threshold), ``is_reproduced``.

    Notes
    -----
    Every seed is compared with all others, so that a pair that matches counts on both sides.
    """
    import pandas as pd

    check_range("threshold", threshold, low=0, high=1)
    check_joined(tables)
    blocks = _blocks(tables)
    rows = []
    for seed, table in tables.items():
        others = {other: blocks[seed, other] for other in tables if other != seed}
        for index, latent in enumerate(table.names):
            best = {other: int(np.abs(r[index]).argmax()) for other, r in others.items()}
            size = {other: abs(float(others[other][index, at])) for other, at in best.items()}
            winner = max(size, key=lambda other: size[other])
            rows.append(
                {
                    "seed": seed,
                    "latent": latent,
                    "best_seed": winner,
                    "best_latent": tables[winner].names[best[winner]],
                    "r": float(others[winner][index, best[winner]]),
                    "n_seeds": sum(value > threshold for value in size.values()),
                    "is_reproduced": size[winner] > threshold,
                }
            )
    return pd.DataFrame(rows)


def match_latents(first: Latents, second: Latents) -> pd.DataFrame:
    """Pair the latents of two seeds one to one, so that the sum of |r| is largest (Hungarian).

    Returns
    -------
    DataFrame
        ``first``, ``second`` (names), ``r``, ``sign`` (-1 where one is the other's mirror image),
        by decreasing |r|. Where the numbers of latents differ, the rest stay unpaired.
    """
    import pandas as pd
    from scipy.optimize import linear_sum_assignment

    check_joined({"first": first, "second": second})
    r = correlate(first.values, second.values)
    rows, columns = linear_sum_assignment(-np.abs(np.nan_to_num(r)))
    pairs = pd.DataFrame(
        {
            "first": [first.names[i] for i in rows],
            "second": [second.names[j] for j in columns],
            "r": r[rows, columns],
            "sign": np.where(r[rows, columns] < 0, -1, 1),
        }
    )
    order = np.argsort(-pairs["r"].abs().to_numpy(), kind="stable")
    return pairs.iloc[order].reset_index(drop=True)


def align_latents(reference: Latents, other: Latents) -> Latents:
    """Reorder and mirror the latents of one seed so that they follow those of another.

    Returns
    -------
    Latents
        One column per paired latent, named as in ``reference`` and in its order.
    """
    pairs = match_latents(reference, other).set_index("first")
    names = [name for name in reference.names if name in pairs.index]
    columns = np.array([other.names.index(pairs.loc[name, "second"]) for name in names], np.int64)
    signs = pairs.loc[names, "sign"].to_numpy(float)
    return replace(other, values=np.asarray(other.values)[:, columns] * signs, names=tuple(names))


def _blocks(tables: Mapping[str, Latents]) -> dict[tuple[str, str], np.ndarray]:
    """Correlations between every two tables, both ways round."""
    unit = {name: centred(table.values) for name, table in tables.items()}
    found = {}
    for a, b in combinations(tables, 2):
        found[a, b] = np.clip(unit[a].T @ unit[b], -1, 1)
        found[b, a] = found[a, b].T
    return found
