"""Hard calls that another reader brought: pandas-plink's tables and dask array."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from imgwas.errors import InconsistentError, MalformedError, explain
from imgwas.genotypes.variant_table import chromosome_name
from imgwas.shapes import Float32, UInt8
from imgwas.types import VARIANT_SCHEMA, PackedGenotypes, Samples

if TYPE_CHECKING:
    import pandas as pd


class ArrayGenotypes(PackedGenotypes):
    """Hard calls from an array that is sliced lazily: numpy, or a dask array of pandas-plink.

    Parameters
    ----------
    dosage : array (variants, samples)
        Copies of the effect allele: 0, 1, 2 or NaN. Computed a block at a time.
    variants : pyarrow.Table
        Columns of ``VARIANT_SCHEMA``.
    samples : Samples
        People of the columns.

    Raises
    ------
    MalformedError
        When a block holds any other value.
    """

    def __init__(self, dosage: Any, variants: pa.Table, samples: Samples) -> None:
        if tuple(dosage.shape) != (variants.num_rows, len(samples)):
            raise InconsistentError(
                explain(
                    f"the array has shape {tuple(dosage.shape)}",
                    expected=f"{variants.num_rows:,} variants x {len(samples):,} samples",
                )
            )
        self._dosage, self.variants, self.samples = dosage, variants, samples

    def __repr__(self) -> str:
        return f"ArrayGenotypes({self.n_variants:,} variants x {self.n_samples:,} samples)"

    def read_dosages(self, rows: np.ndarray) -> Float32[np.ndarray, "variants samples"]:
        """Copies of the effect allele; NaN is a missing call."""
        block = self._dosage[rows]
        if hasattr(block, "compute"):
            block = block.compute(scheduler="synchronous")
        return np.asarray(block, np.float32)

    def read_packed(self, rows: np.ndarray) -> UInt8[np.ndarray, "variants bytes"]:
        """Two-bit codes of some variants."""
        dosage = self.read_dosages(rows)
        missing = np.isnan(dosage)
        whole = np.where(missing, 0, dosage)
        if not np.isin(whole, (0, 1, 2)).all():
            raise MalformedError(
                explain(
                    "the genotype array holds values other than 0, 1, 2 and NaN",
                    expected="Hard calls, copies of the effect allele",
                )
            )
        codes = np.where(missing, 1, np.array([3, 2, 0], np.uint8)[whole.astype(np.intp)])
        codes = np.pad(codes.astype(np.uint8), ((0, 0), (0, -codes.shape[1] % 4)))
        quads = codes.reshape(len(codes), -1, 4)
        return np.asarray(
            quads[..., 0] | quads[..., 1] << 2 | quads[..., 2] << 4 | quads[..., 3] << 6, np.uint8
        )

    def fingerprint(self) -> dict[str, Any]:
        """Digest of the tables; the array itself is digested part by part during a scan."""
        sha = hashlib.sha256()
        for column in self.variants.columns:
            sha.update("\0".join(map(str, column.to_pylist())).encode("utf-8", "surrogateescape"))
        sha.update("\0".join(self.samples.sample_ids).encode("utf-8", "surrogateescape"))
        return {"format": "array", "tables_sha256": sha.hexdigest()}

    def check_unchanged(self) -> None:
        """Do nothing: an array in memory has no file to watch."""


def from_pandas_plink(
    bim: Any, fam: pd.DataFrame | None = None, bed: Any = None, *, reference: str = "a1"
) -> ArrayGenotypes:
    """Take what pandas-plink returns, the alleles put right.

    Measured with pandas-plink 2.3.2: its array counts copies of the allele that it calls ``a1``,
    which is column 6 of the ``.bim``. That allele is the effect allele here, so signs agree with
    the name beside them and are opposite to :func:`imgwas.open_genotypes`, which counts column 5.

    Parameters
    ----------
    bim, fam : DataFrame
        Variant and sample tables of ``pandas_plink.read_plink``; or, as ``bim`` alone, the
        DataArray of ``pandas_plink.read_plink1_bin``.
    bed : dask array (variants, samples)
        Genotypes of ``read_plink``.
    reference : {"a1", "a0"}
        The ``ref`` that ``read_plink1_bin`` was called with.

    Raises
    ------
    MalformedError
        If the array comes in sample chunks that are no multiple of four people: pandas-plink
        decodes those wrongly (measured: 40 to 70 % wrong calls) and the right calls are lost. Or if
        an id or allele is a missing value, as where a reader took the text ``NA`` for one.
    """
    if fam is None or bed is None:
        return _from_data_array(bim, reference)
    _check_chunks(bed, axis=1)
    return ArrayGenotypes(bed, _variant_table(bim, "a1"), _sample_table(fam))


def _from_data_array(array: Any, reference: str) -> ArrayGenotypes:
    _check_chunks(array.data, axis=0)
    coordinates = {name: np.asarray(array[name]) for name in array.coords}
    return ArrayGenotypes(
        array.data.T, _variant_table(coordinates, reference), _sample_table(coordinates)
    )


def _check_chunks(array: Any, axis: int) -> None:
    chunks = getattr(array, "chunks", None)
    bad = [size for size in chunks[axis][:-1] if size % 4] if chunks else []
    if bad:
        raise MalformedError(
            explain(
                f"this array has chunks of {bad[0]} samples, which pandas-plink decodes wrongly",
                expected="Sample chunks must be multiples of 4",
                do="Read it again with Chunk(nsamples=None), or use imgwas.open_genotypes. If you "
                "only chose people after reading: array.chunk(sample=-1), bed.rechunk((None, -1))",
            )
        )


def _variant_table(bim: Any, counted: str) -> pa.Table:
    effect, other = ("a1", "a0") if counted == "a1" else ("a0", "a1")

    def text(column: str) -> pa.Array:
        return pa.array(_texts(bim, column), pa.string())

    names = pa.array([chromosome_name(str(c)) for c in bim["chrom"]], pa.string())
    positions = pa.array([int(p) for p in bim["pos"]], pa.int64())
    columns = [names, positions, text("snp"), text(effect), text(other)]
    return pa.table(columns, schema=VARIANT_SCHEMA)


def _sample_table(fam: Any) -> Samples:
    sex = [str(value) for value in fam["gender"]]
    parents = zip(fam["father"], fam["mother"], strict=True)
    return Samples(
        sample_ids=tuple(_texts(fam, "iid")),
        family_ids=tuple(_texts(fam, "fid")),
        sex=np.array([int(code) if code in ("1", "2") else 0 for code in sex], np.int8),
        is_founder=np.array([str(f) == "0" and str(m) == "0" for f, m in parents], bool),
    )


def _texts(table: Any, column: str) -> list[str]:
    """Read a column as text, if no id in it has become a missing value."""
    values = list(table[column])
    n_missing = sum(map(_is_missing, values))
    if n_missing:
        raise MalformedError(
            explain(
                f"column {column} of pandas-plink holds {n_missing:,} missing values",
                expected="An id or allele; perhaps the text NA was taken for a missing value",
                do="Use imgwas.open_genotypes, which keeps ids as they are",
            )
        )
    return [str(value) for value in values]


def _is_missing(value: Any) -> bool:
    """None, NaN and pandas.NA, but not the text ``nan``."""
    return not isinstance(value, str) and str(value) in ("None", "nan", "<NA>")
