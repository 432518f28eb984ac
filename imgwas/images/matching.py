"""Which people with images have genotypes, and why ids do not meet."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from imgwas.checks import check_range, duplicates
from imgwas.errors import InconsistentError, explain, first_ids
from imgwas.images.listing import ImageList
from imgwas.tables.columns import find_ids
from imgwas.tables.id_lists import read_id_list
from imgwas.tables.source import read_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Match:
    """How many people are on both sides, and on one side only."""

    n_matched: int
    n_only_images: int
    n_only_genotypes: int

    def lines(self) -> list[str]:
        """Return the three counts as text."""
        return [
            f"images and genotypes  {self.n_matched:>9,}",
            f"only images           {self.n_only_images:>9,}",
            f"only genotypes        {self.n_only_genotypes:>9,}",
        ]


def read_people(path: str | Path) -> tuple[str, ...]:
    """Read the ids to match against: a ``.fam``, ``.psam``, list of ids, or table with ids."""
    path = Path(path).expanduser()
    if path.suffix.lower() in (".parquet", ".csv", ".tsv"):
        return find_ids(read_table(path), path, None).sample_ids
    return read_id_list(path).sample_ids


def match_people(
    images: ImageList, people: Collection[str], *, min_overlap: float = 0.5
) -> tuple[ImageList, Match]:
    """Keep the images of people who have genotypes.

    Ids are compared as exact text.

    Parameters
    ----------
    images : ImageList
        Under the ids of the genotypes.
    people : collection of str
        Sample ids of the genotype file.
    min_overlap : float, default 0.5
        Share of the smaller side that must be on the other.

    Returns
    -------
    images : ImageList
        Others are left out and counted.
    match : Match
        Matched, only images, only genotypes.

    Raises
    ------
    InconsistentError
        If fewer match, or an id of the images stands for two people of the genotype file.
    """
    check_range("min_overlap", min_overlap, low=0, high=1)
    mine, theirs = set(images.sample_ids), set(people)
    both = mine & theirs
    repeated = [i for i in duplicates(people) if i in mine]
    if repeated:
        raise InconsistentError(
            explain(
                f"{len(repeated):,} people with images have several rows in the genotype file",
                where=first_ids(repeated),
                do="Make the ids of the .fam unique",
            )
        )
    match = Match(len(both), len(mine - theirs), len(theirs - mine))
    smaller = min(len(mine), len(theirs))
    if len(both) < max(1, min_overlap * smaller):
        raise InconsistentError(_too_few(match, mine, theirs, min_overlap))
    for line in match.lines():
        logger.info("%s", line)
    strangers = [i for i, f in enumerate(images) if f.sample_id not in theirs]
    return images.without(strangers, "no genotypes"), match


def _too_few(match: Match, mine: set[str], theirs: set[str], min_overlap: float) -> str:
    return explain(
        f"{match.n_matched:,} of {len(mine):,} people with images are among the {len(theirs):,} "
        "genotyped people",
        expected=f"At least {min_overlap:.0%} of the smaller side must match (--min-overlap)",
        where=f"Ids of images look like {shapes(mine)}; of genotypes like {shapes(theirs)}",
        do=repairs_that_help(mine, theirs)
        or "If the two sides number people differently, give a bridge table (--bridge)",
    )


def shape_of(sample_id: str) -> str:
    """Mask an id, keeping its shape: digits become ``#``, letters beyond the fourth ``*``."""
    masked, letters = [], 0
    for character in sample_id[:40]:
        letters += character.isalpha()
        if character.isdigit():
            character = "#"
        elif character.isalpha() and letters > 4:
            character = "*"
        masked.append(character)
    return ascii("".join(masked))[1:-1]


def shapes(ids: Iterable[str], limit: int = 3) -> str:
    """Name the commonest shapes of ids: ``sub-####### (38), #######_2_0 (2)``."""
    counts = Counter(shape_of(i) for i in ids)
    order = sorted(counts, key=lambda shape: (-counts[shape], shape))
    named = [f"{shape} ({counts[shape]:,})" for shape in order[:limit]]
    more = len(counts) - limit
    return ", ".join(named) + (f" and {more:,} other shapes" if more > 0 else "")


#: Repairs that a person might have to make to the ids, tried only to say which would help.
_REPAIRS: dict[str, Callable[[str], str]] = {
    "the prefix 'sub-' were removed": lambda key: key.removeprefix("sub-"),
    "letters before the number were removed": lambda key: re.sub(
        r"^(sub-)?[A-Za-z]+(?=\d)", "", key
    ),
    "leading zeros were ignored": lambda key: key.lstrip("0"),
    "a trailing '.0' were removed": lambda key: key.removesuffix(".0"),
    "a visit suffix such as '_2_0' were removed": lambda key: re.sub(r"(_\d+){1,3}$", "", key),
    "'FID_IID' were split": lambda key: key.rpartition("_")[2],
    "upper and lower case were the same": str.lower,
    "dashes and underscores were ignored, as BIDS labels have none": lambda key: re.sub(
        r"^sub|[-_]", "", key
    ),
    "the quotation marks were removed": lambda key: key.strip("\"'"),
}


def repairs_that_help(mine: Collection[str], theirs: Collection[str]) -> str:
    """Name the repair of ids that would make most of them meet; empty if none does much."""
    n_now = len(set(mine) & set(theirs))
    matches = {}
    for what, repair in _REPAIRS.items():
        repaired = {repair(key) for key in theirs}
        matches[what] = sum(repair(key) in repaired for key in mine)
    best = max(matches, key=lambda what: matches[what])
    if matches[best] <= 2 * n_now:
        return ""
    return (
        f"{matches[best]:,} would match if {best}: rewrite the ids that way, or use a bridge table"
    )
