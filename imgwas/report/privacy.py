"""Keeping people and machines out of a page that is sent to others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imgwas.types import Genotypes

#: Lines of a log that name the machine or a place on it.
_MACHINE = re.compile(r"^\S+ \w+\s+(host|folder) .*$\n?", re.MULTILINE)
_FOLDERS = re.compile(r"(?<![\w.])(?:/[^\s/'\"]+)+/(?=[^\s/'\"]+)")
_WORD = re.compile(r"[\w.@-]+")
#: Shorter ids would be found in everything.
_SHORTEST = 5


@dataclass(frozen=True)
class Mask:
    """Hides ids of people, and folders of the machine, in text.

    Parameters
    ----------
    ids : frozenset of str
        Of people.
    """

    ids: frozenset[str] = frozenset()

    @classmethod
    def of(cls, latents: Path | None, genotypes: Genotypes | None) -> Mask:
        """Collect the ids of a table of latents and of genotypes."""
        from imgwas.tables import read_latents

        ids: set[str] = set()
        if latents is not None:
            ids.update(read_latents(latents).sample_ids)
        if genotypes is not None:
            ids.update(genotypes.samples.sample_ids)
        return cls(frozenset(one for one in ids if len(one) >= _SHORTEST))

    def text(self, text: str) -> str:
        """Show ids by their last three signs, and files without their folders."""
        short = _FOLDERS.sub("…/", text)
        return _WORD.sub(self._word, short) if self.ids else short

    def log(self, text: str) -> str:
        """Leave out the lines that name the machine, then mask the rest."""
        return self.text(_MACHINE.sub("", text))

    def words(self, words: Iterable[str]) -> list[str]:
        """Mask the words of a command."""
        return [self.text(word) for word in words]

    def _word(self, found: re.Match[str]) -> str:
        word = found.group()
        return f"****{word[-3:]}" if word in self.ids else word
