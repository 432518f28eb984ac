"""Statistics as text, a column at a time: what makes exports fast.

Lines are joined by Arrow from columns of strings; the bytes of the joined column are the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, string_scalar, to_numpy
from imgwas.sumstats.effects import Effects, chromosome_codes
from imgwas.sumstats.formats import Format
from imgwas.sumstats.pvalues import chi2_from_neg_log10_p, neg_log10_p_value, p_value_strings

#: Contents that depend on the variant only.
VARIANT_KEYS = frozenset(
    ["code", "name", "position", "effect", "other", "id", "key_", "snp", "rsid", "info"]
)
_FEW = "SAMPLE_CT<=PREDICTOR_CT"
#: reason code -> PLINK 2's word for it
_ERROR_CODES = np.array([".", "CONST_ALLELE", _FEW, "VIF_INFINITE", _FEW, _FEW], object)
Lookup = Callable[["VariantText"], pa.Array]


class VariantText:
    """The variants of a block as columns of text, made when first asked for.

    Parameters
    ----------
    block : pyarrow.Table
        With the columns that name the variant, and ``imputation_r2`` where it is written.
    missing : str
        Text of an absent value.
    rsids : callable, optional
        Gives the rs number of every variant, null where there is none.
    """

    def __init__(self, block: pa.Table, *, missing: str, rsids: Lookup | None = None) -> None:
        self.block, self.missing, self._lookup = block, missing, rsids
        self._made: dict[str, pa.Array] = {}
        self._joined: dict[tuple[Sequence[str], str, str], pa.Array] = {}

    def __len__(self) -> int:
        return int(self.block.num_rows)

    @cached_property
    def codes(self) -> np.ndarray:
        """GWAS-SSF numbers of the chromosomes, 0 for a contig."""
        return chromosome_codes(self.block["chromosome"])

    @cached_property
    def is_strict(self) -> np.ndarray:
        """Whether alleles are A, C, G, T and the place is on chromosome 1 to 25."""
        position = to_numpy(self.block["base_pair_location"])
        legal = (self.codes >= 1) & (self.codes <= 25) & (position > 0)
        for key in ("effect", "other"):
            legal &= to_numpy(pc.match_substring_regex(self.column(key), "^[ACGT]+$"))
        return np.asarray(legal)

    def column(self, key: str) -> pa.Array:
        """Text of one key of ``VARIANT_KEYS``, without nulls."""
        if key not in self._made:
            self._made[key] = getattr(self, f"_{key.rstrip('_')}")()
        return self._made[key]

    def joined(self, keys: Sequence[str], separator: str, start: str) -> pa.Array:
        """Several neighbouring columns as one, each line begun by ``start``."""
        name = (tuple(keys), separator, start)
        if name not in self._joined:
            text = _join([self.column(key) for key in keys], separator)
            self._joined[name] = _join([string_scalar(start), text], "") if start else text
        return self._joined[name]

    def _strings(self, column: str) -> pa.Array:
        return _flat(self.block[column]).fill_null(self.missing)

    def _code(self) -> pa.Array:
        number = pc.cast(from_numpy(self.codes), pa.string())
        return pc.if_else(_mask(self.codes > 0), number, self.column("name"))

    def _name(self) -> pa.Array:
        return self._strings("chromosome")

    def _position(self) -> pa.Array:
        return pc.cast(_flat(self.block["base_pair_location"]), pa.string())

    def _effect(self) -> pa.Array:
        return pc.ascii_upper(self._strings("effect_allele"))

    def _other(self) -> pa.Array:
        return pc.ascii_upper(self._strings("other_allele"))

    def _id(self) -> pa.Array:
        return self._strings("variant_id")

    def _key(self) -> pa.Array:
        return self._place("_")

    def _place(self, separator: str) -> pa.Array:
        keys = ("code", "position", "other", "effect")
        return _join([self.column(key) for key in keys], separator)

    @cached_property
    def rsids(self) -> pa.Array:
        """Rs numbers from the variant ids, then from the user's map; null where there is none."""
        ids = self._strings("variant_id")
        own = pc.if_else(
            pc.match_substring_regex(ids, "^rs[0-9]+$"), ids, pa.scalar(None, ids.type)
        )
        return own if self._lookup is None else pc.coalesce(own, self._lookup(self))

    def _rsid(self) -> pa.Array:
        return self.rsids.fill_null(self.missing)

    def _snp(self) -> pa.Array:
        return (
            self.rsids if not self.rsids.null_count else pc.coalesce(self.rsids, self._place(":"))
        )

    def _info(self) -> pa.Array:
        quality = pc.cast(_flat(self.block["imputation_r2"]), pa.string())
        return quality.fill_null(self.missing)


class StatisticText:
    """The statistics of one latent in a block as columns of text, for some of its rows."""

    def __init__(
        self,
        effects: Effects,
        columns: Mapping[str, np.ndarray],
        *,
        rows: np.ndarray | None,
        missing: str,
        is_single: bool,
    ) -> None:
        self.rows, self.missing, self.is_single = rows, missing, is_single
        self._columns = {**effects._asdict(), **columns}

    def values(self, name: str) -> np.ndarray:
        """Numbers of a column at the chosen rows."""
        values = self._columns[name]
        return np.asarray(values if self.rows is None else values[self.rows])

    @cached_property
    def neg_log10_p(self) -> np.ndarray:
        """-log10 P, computed once for all the ways to write it."""
        return neg_log10_p_value(self.values("t"), self.values("dof"))

    def column(self, key: str) -> pa.Array | pa.Scalar:
        """Text of one key; constants come back as a scalar."""
        if key.startswith("="):
            return string_scalar(key[1:])
        if key == "n":
            return pc.cast(from_numpy(self.values("n")), pa.string())
        if key == "p":
            return p_value_strings(self.neg_log10_p, missing=self.missing)
        if key == "error_code":
            return pa.array(_ERROR_CODES[self.values("reason")], pa.string())
        return number_text(self._numbers(key), missing=self.missing, is_single=self.is_single)

    def _numbers(self, key: str) -> np.ndarray:
        if key == "neg_log10_p":
            return self.neg_log10_p
        if key == "chi2":
            return chi2_from_neg_log10_p(self.neg_log10_p)
        if key == "variance":
            return self.values("standard_error").astype(np.float64) ** 2
        if key == "minor_frequency":
            frequency = self.values("frequency").astype(np.float64)
            return np.minimum(frequency, 1 - frequency)
        return self.values(key)


def lines(variants: VariantText, statistics: StatisticText, layout: Format) -> memoryview:
    """Bytes of the lines of a block, each *begun* by a line end."""
    take = None if statistics.rows is None else from_numpy(np.flatnonzero(statistics.rows))
    pieces: list[pa.Array | pa.Scalar] = []
    keys = [key for _, key in layout.columns]
    for of_variant, run in groupby(keys, VARIANT_KEYS.__contains__):
        if of_variant:
            text = variants.joined(tuple(run), layout.separator, "" if pieces else "\n")
            pieces.append(text if take is None else text.take(take))
        else:
            pieces += [statistics.column(key) for key in run]
    return _bytes_of(_join(pieces, layout.separator))


def number_text(values: np.ndarray, *, missing: str, is_single: bool) -> pa.Array:
    """Shortest text that reads back as the same number, in single precision where that is enough.

    Values outside the range of single precision keep double precision.
    """
    if is_single:
        size = np.abs(values[np.isfinite(values) & (values != 0)])
        is_single = not len(size) or bool(size.min() > 1e-37 and size.max() < 1e38)
    text = pc.cast(from_numpy(values.astype(np.float32 if is_single else np.float64)), pa.string())
    finite = np.isfinite(values)
    return text if finite.all() else pc.if_else(_mask(finite), text, string_scalar(missing))


def _join(pieces: Sequence[pa.Array | pa.Scalar], separator: str) -> pa.Array:
    if len(pieces) == 1:
        return pieces[0]
    return pc.binary_join_element_wise(*pieces, string_scalar(separator))


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _mask(values: np.ndarray) -> pa.Array:
    return from_numpy(values.view(np.uint8)).cast(pa.bool_())


def _bytes_of(strings: pa.Array) -> memoryview:
    """Content of a string array, one value after the other."""
    if not len(strings):
        return memoryview(b"")
    offsets = np.frombuffer(strings.buffers()[1], np.int32)
    first, last = offsets[strings.offset], offsets[strings.offset + len(strings)]
    return memoryview(strings.buffers()[2])[first:last]
