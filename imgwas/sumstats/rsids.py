"""A user's map from variants to rs numbers, by variant id or by place and alleles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from imgwas.arrow import from_strings, string_scalar
from imgwas.errors import MalformedError, OpenError, explain
from imgwas.sumstats.effects import chromosome_code
from imgwas.sumstats.text import VariantText

#: Headings, in lower case, of the columns of a map by place.
_HEADINGS = {
    "chromosome": ("chromosome", "chrom", "#chrom", "chr"),
    "position": ("base_pair_location", "position", "pos", "bp"),
    "allele_1": ("effect_allele", "ref", "a1", "allele_1"),
    "allele_2": ("other_allele", "alt", "a2", "allele_2"),
    "rsid": ("rsid", "rs", "id", "snp"),
}


@dataclass(frozen=True)
class RsidMap:
    """Rs numbers by variant id, or by ``chromosome:position:allele:allele``."""

    keys: pa.Array
    rsids: pa.Array
    by_place: bool

    def __len__(self) -> int:
        return len(self.keys)

    def __call__(self, variants: VariantText) -> pa.Array:
        """Rs number of every variant of a block, null where the map has none."""
        wanted = place_keys(variants) if self.by_place else variants.column("id")
        return self.rsids.take(pc.index_in(wanted, value_set=self.keys))


def place_keys(variants: VariantText) -> pa.Array:
    """Chromosome, position and the two alleles in alphabetical order."""
    effect, other = variants.column("effect"), variants.column("other")
    swap = pc.greater(effect, other)
    alleles = pc.if_else(swap, other, effect), pc.if_else(swap, effect, other)
    places = variants.column("code"), variants.column("position")
    return pc.binary_join_element_wise(*places, *alleles, string_scalar(":"))


def from_mapping(rsids: Mapping[str, str]) -> RsidMap:
    """Make a map of variant ids."""
    values = from_strings(list(rsids.values()))
    return RsidMap(from_strings(list(rsids)), _only_rsids(values), by_place=False)


def read_rsid_map(path: str | Path) -> RsidMap:
    """Read a map of rs numbers.

    Parameters
    ----------
    path : path
        Text, tab, comma or space between columns, ``.gz`` or not. Either two columns without
        heading, variant id and rs number; or columns headed chromosome, position, two alleles (in
        either order) and rsid, in the coordinates of the genotype file.

    Raises
    ------
    OpenError
        If the file is absent.
    MalformedError
        If it has neither form.
    """
    path = Path(path)
    if not path.is_file():
        raise OpenError(
            explain(f"the map of rs numbers {path} does not exist", do="Check the name")
        )
    columns = _read(path)
    first = [str(column[0]).lower() for column in columns]
    found = {
        name: next((i for i, heading in enumerate(first) if heading in headings), None)
        for name, headings in _HEADINGS.items()
    }
    if all(index is not None for index in found.values()):
        if len(columns[0]) == 1:
            raise MalformedError(explain(f"{path} has names of columns and nothing under them"))
        return _by_place({n: columns[i].slice(1) for n, i in found.items() if i is not None})
    if len(columns) == 2:
        return RsidMap(_flat(columns[0]), _only_rsids(_flat(columns[1])), by_place=False)
    raise MalformedError(
        explain(
            f"{path} has the columns {', '.join(first[:8])}",
            expected="A map of rs numbers has two columns (variant id, rs number), or is headed "
            "chromosome, position, ref, alt, rsid",
        )
    )


def _read(path: Path) -> list[pa.ChunkedArray]:
    try:
        with pa.input_stream(str(path)) as stream:
            start = stream.read(1 << 16).decode("utf-8", "replace").split("\n", 1)[0]
        separator = next((s for s in "\t," if s in start), " ")
        width = len(start.rstrip("\r").split(separator))
        names = [str(i) for i in range(width)]
        table = pcsv.read_csv(
            path,
            read_options=pcsv.ReadOptions(column_names=names),
            parse_options=pcsv.ParseOptions(delimiter=separator, quote_char=False),
            convert_options=pcsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowException, OSError) as error:
        raise MalformedError(
            explain(f"{path} is no table ({str(error).splitlines()[0][:120]})")
        ) from error
    if not table.num_rows:
        raise MalformedError(explain(f"{path} is empty"))
    return list(table.columns)


def _by_place(columns: Mapping[str, pa.ChunkedArray]) -> RsidMap:
    text = {name: _flat(column) for name, column in columns.items()}
    block = pa.table(
        {
            "chromosome": _coded(text["chromosome"]),
            "position": text["position"],
            "effect": pc.ascii_upper(text["allele_1"]),
            "other": pc.ascii_upper(text["allele_2"]),
        }
    )
    swap = pc.greater(block["effect"], block["other"])
    low = pc.if_else(swap, block["other"], block["effect"])
    high = pc.if_else(swap, block["effect"], block["other"])
    keys = pc.binary_join_element_wise(block["chromosome"], block["position"], low, high, ":")
    return RsidMap(_flat(keys), _only_rsids(text["rsid"]), by_place=True)


def _coded(names: pa.Array) -> pa.Array:
    encoded = pc.dictionary_encode(names)
    codes = [str(chromosome_code(name) or name) for name in encoded.dictionary.to_pylist()]
    return from_strings(codes).take(encoded.indices)


def _only_rsids(values: pa.Array) -> pa.Array:
    legal = pc.match_substring_regex(values, "^rs[0-9]+$")
    return pc.if_else(legal, values, pa.scalar(None, pa.string()))


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
