"""The reading of a VCF Zarr store, run as a program of its own by :mod:`imgwas.genotypes.vcz`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import MalformedError, MissingLibraryError, explain
from imgwas.genotypes import vcf_unpack
from imgwas.genotypes.vcf_unpack import Counts, unpack_variants

#: What must be there.
_NEEDED = ("sample_id", "contig_id", "variant_contig", "variant_position", "variant_allele")
_OTHERS = ("variant_id", "call_genotype", "call_DS")
#: Variants read at a time are those of a chunk, and at most so many.
_AT_ONCE = 1000


@dataclass(frozen=True)
class _Genotype:
    """Alleles of a variant, people x copies and a last column that nobody looks at."""

    alleles: np.ndarray

    def array(self) -> np.ndarray:
        """As cyvcf2 gives them: -1 missing, -2 no such copy."""
        return np.column_stack([self.alleles, np.zeros(len(self.alleles), np.int8)])


@dataclass(frozen=True)
class _Variant:
    """One variant with the names of cyvcf2."""

    CHROM: str
    POS: int
    ID: str | None
    REF: str
    ALT: list[str]
    FORMAT: tuple[str, ...]
    genotype: _Genotype
    dosage: np.ndarray

    def format(self, name: str) -> np.ndarray:
        """Values of a field: dosages, people x alternate alleles."""
        assert name == "DS"
        return self.dosage


def unpack_vcz(path: Path, prefix: Path, multiallelic: str, psam: Path | None) -> dict[str, Any]:
    """Write ``PREFIX.bed`` or ``PREFIX.dosage``, as of the VCF that the store was made from."""
    try:
        import zarr
    except ImportError as error:
        raise MissingLibraryError(
            explain(
                "reading VCF Zarr needs the library zarr, which is not installed",
                do="pip install 'imgwas[zarr]'; or write a VCF: vcztools view STORE",
            )
        ) from error
    counts = Counts()
    try:
        arrays = _arrays(path, zarr.open_group(str(path), mode="r"))
        ids = tuple(map(_text, arrays["sample_id"][:]))
        contigs = [_text(name) for name in arrays["contig_id"][:]]
    except MalformedError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    found = _variants(path, arrays, contigs, counts)
    return unpack_variants(path, prefix, multiallelic, psam, ids=ids, found=found, counts=counts)


def _arrays(path: Path, group: Any) -> dict[str, Any]:
    """Arrays that are read, whole and of one size."""
    there = {name: group[name] for name in (*_NEEDED, *_OTHERS) if name in group}
    absent = [name for name in _NEEDED if name not in there]
    if absent or not {"call_genotype", "call_DS"} & set(there):
        what = ", ".join(absent) or "call_genotype"
        raise MalformedError(explain(f"{path} has no {what}", expected="See the VCF Zarr format"))
    n_variants, n_people = there["variant_position"].shape[0], there["sample_id"].shape[0]
    for name, array in there.items():
        size = {"variant": (n_variants,), "call": (n_variants, n_people)}.get(name.split("_")[0])
        if size is not None and array.shape[: len(size)] != size:
            raise MalformedError(
                explain(f"{name} of {path} has the shape {array.shape}", expected=f"{size}, ...")
            )
        lost = array.nchunks_initialized < array.nchunks
        if lost and not (name == "variant_contig" and _as_indexed(group, array)):
            raise MalformedError(
                explain(
                    f"{array.nchunks - array.nchunks_initialized:,} of {array.nchunks:,} chunks of "
                    f"{name} of {path} are absent",
                    expected="An absent chunk is not told from one that was lost",
                    do="Copy the store again, or make it with empty chunks too: "
                    "ZARR_ARRAY__WRITE_EMPTY_CHUNKS=True vcf2zarr convert FILE.vcf.gz FILE.vcz",
                )
            )
        if array.shards is None and "Blosc" in type([None, *array.compressors][-1]).__name__:
            _check_lengths(path / name)
    return there


def _text(value: Any) -> str:
    """Text, also of stores that keep bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _as_indexed(group: Any, contigs: Any) -> bool:
    """Whether contigs, absent chunks read as the first, are those of the index of the store."""
    if "region_index" not in group:
        return False
    index = group["region_index"]
    if index.nchunks_initialized < index.nchunks:
        return False
    numbers, counts = index[:][:, 1], index[:][:, 5]
    return bool(np.array_equal(contigs[:], np.repeat(numbers, counts)))


def _check_lengths(folder: Path) -> None:
    """Refuse chunks that are cut short: Blosc reads on behind their end, and finds something."""
    for file in sorted(folder.rglob("*")):
        if file.name.startswith((".", "zarr.json")) or not file.is_file():
            continue
        with file.open("rb") as stream:
            head = stream.read(16)
        if len(head) < 16 or int.from_bytes(head[12:16], "little") != file.stat().st_size:
            raise MalformedError(
                explain(
                    f"chunk {file.name} of {folder.name} of {folder.parent} is cut short",
                    do="Copy the store again, or make it again from its VCF",
                )
            )


def _variants(
    path: Path, arrays: dict[str, Any], contigs: list[str], counts: Counts
) -> Iterator[_Variant]:
    n = arrays["variant_position"].shape[0]
    calls = arrays["call_genotype" if "call_genotype" in arrays else "call_DS"]
    step = min(calls.chunks[0], _AT_ONCE)
    form = tuple(f for f, name in (("GT", "call_genotype"), ("DS", "call_DS")) if name in arrays)
    for start in range(0, n, step):
        try:
            read = {name: a[start : start + step] for name, a in arrays.items()
                    if name not in ("sample_id", "contig_id")}  # fmt: skip
            made = [_variant(read, row, contigs, form) for row in range(min(step, n - start))]
        except Exception as error:
            raise _damaged(path, error, counts.variants) from error
        for variant in made:
            counts.variants += 1
            yield variant


def _variant(
    read: dict[str, np.ndarray], row: int, contigs: list[str], form: tuple[str, ...]
) -> _Variant:
    contig = int(read["variant_contig"][row])
    if contig < 0:
        raise IndexError(f"contig {contig}")
    alleles = [text for one in read["variant_allele"][row] if (text := _text(one))]
    name = _text(read["variant_id"][row]) if "variant_id" in read else "."
    calls = read["call_genotype"][row] if "GT" in form else np.empty((0, 0), np.int8)
    if calls.size and calls.max() >= len(alleles):
        raise ValueError(f"a call of allele {calls.max()} of {len(alleles)}")
    dosage = read["call_DS"][row] if "DS" in form else np.empty(0)
    if {"GT", "DS"} <= set(form) and np.isnan(dosage).all():
        form = ("GT",)  # as of a VCF whose line has no DS
    return _Variant(
        CHROM=contigs[contig],
        POS=int(read["variant_position"][row]),
        ID=None if name in ("", ".") else name,
        REF=alleles[0],
        ALT=[one for one in alleles[1:] if one != "."],
        FORMAT=form,
        genotype=_Genotype(calls),
        dosage=dosage,
    )


def _damaged(path: Path, error: Exception, after: int = 0) -> MalformedError:
    where = f" after variant {after:,}" if after else ""
    return MalformedError(
        explain(
            f"{path} cannot be read{where} ({type(error).__name__}: {str(error)[:200]})",
            do="Copy the store again, or make it again from its VCF",
        )
    )


if __name__ == "__main__":
    vcf_unpack.main(sys.argv[1:], unpack_vcz)
