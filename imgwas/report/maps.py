"""Pictures and regions of ``imgwas map`` for the panels of loci."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas.report.markup import Html, tag
from imgwas.report.page_parts import paragraph
from imgwas.report.pictures import figure_block
from imgwas.report.sources import Sources
from imgwas.report.tables import Column, number, table_block

if TYPE_CHECKING:
    import pandas as pd

#: Bytes of all map pictures together; the strongest loci come first.
MOST_BYTES = 11_000_000
#: Regions listed in a panel.
LISTED = 10


def _percent(value: Any) -> str:
    return f"{value:+.1%}" if isinstance(value, float) and value == value else ""


_REGIONS = [
    Column("region", "region"),
    Column("hemisphere", "side"),
    Column("volume", "volume", "Relative change of volume", _percent),
    Column("volume_low", "from", "95 % interval", _percent),
    Column("volume_high", "to", "95 % interval", _percent),
    Column("effect", "intensity", "Mean change of intensity", number),
    Column("share", "share", "Mean absolute change over that of the brain", number),
    Column("share_q", "q of share", "Benjamini-Hochberg rate within the map", number),
]


@dataclass
class MapPictures:
    """Pictures that fit into the page, made once, by the name of a variant."""

    pictures: dict[str, list[Html]] = field(default_factory=dict)
    regions: pd.DataFrame | None = None
    summary: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: int = 0

    @classmethod
    def of(cls, sources: Sources, variants: Sequence[str]) -> MapPictures:
        """Embed the pictures of some variants, the first ones first, up to :data:`MOST_BYTES`."""
        table = sources.table("maps", "maps.tsv")
        if table is None:
            return cls()
        found = cls(regions=sources.table("maps", "regions.tsv"))
        rows = table.to_dict("records")
        found.summary = {str(row["name"]): {str(k): v for k, v in row.items()} for row in rows}
        stems = sources.facts("maps", "map.json").get("maps") or {}
        used = 0
        for name in dict.fromkeys(variants):
            stem = stems.get(name)
            paths = _paths(sources.folders["maps"], stem) if isinstance(stem, str) else []
            blocks = [figure_block(path, alt=f"{what} of {name}", caption=what)
                      for path, what in paths]  # fmt: skip
            used += sum(map(len, blocks))
            if used > MOST_BYTES:
                found.left_out += bool(blocks)
            else:
                found.pictures[name] = blocks
        return found

    def notes(self) -> list[str]:
        """What was left out."""
        if not self.left_out:
            return []
        return [f"Maps of {self.left_out:,} weaker loci are left out to keep this page small; "
                "the folder of maps has them."]  # fmt: skip

    def blocks(self, name: str) -> list[Html]:
        """What a panel shows of one variant."""
        if name not in self.summary:
            return []
        blocks = [tag("h4", "What the variant changes"), paragraph(_sentence(self.summary[name]))]
        blocks += self.pictures.get(name, [])
        if self.regions is not None:
            mine = self.regions[self.regions["name"] == name].head(LISTED)
            if len(mine):
                anchor = f"regions-{list(self.summary).index(name)}"
                blocks.append(
                    table_block(mine, _REGIONS, name=anchor,
                                caption=f"The {len(mine)} regions that change most, per "
                                f"{mine['per'].iloc[0]}")
                )  # fmt: skip
        return blocks


def _paths(folder: Path, stem: str) -> list[tuple[Path, str]]:
    """Files of a map inside its folder; a stem that leads elsewhere has none."""
    if Path(stem).name != stem:
        return []
    wanted = [
        (folder / "figures" / f"{stem}.png", "Map of the change along the effect of the variant"),
        (folder / "walks" / f"{stem}_strip.png", "Decoded images along the effect of the variant"),
    ]
    return [(path, what) for path, what in wanted if path.is_file()]


def _sentence(row: Mapping[str, Any]) -> str:
    tested = f"all latents together: -log10 P {row['neg_log10_p']:.1f}"
    if not row["is_finding"]:
        return f"No finding ({tested}); the map shows noise."
    region = row.get("region")
    stands_out = isinstance(region, str) and row.get("region_q", 1) < 0.05
    said = f" {region} stands out (q {row['region_q']:.2g})." if stands_out else ""
    return f"A finding ({tested}).{said or ' No region stands out.'}"
