"""VCF Zarr: a folder of compressed chunks, unpacked once like a VCF, with the same result.

A chunk that is absent reads as the fill value without a word, which may be a call like any other.
So every chunk of what is read must be there.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from imgwas.errors import MalformedError, explain
from imgwas.genotypes.bed_checks import file_stat
from imgwas.genotypes.plink import PlinkGenotypes
from imgwas.genotypes.stored_dosages import StoredDosages
from imgwas.genotypes.vcf import Unpacking, open_unpacked


def open_vcz(path: Path, **options: Any) -> PlinkGenotypes | StoredDosages:
    """Open a VCF Zarr store; the first time, unpack it to a folder beside it.

    Parameters
    ----------
    path : Path
        Folder as vcf2zarr or bio2zarr writes it, of Zarr format 2 or 3. ``call_DS`` is taken where
        it is there, otherwise ``call_genotype``, both as :func:`imgwas.genotypes.vcf.open_vcf`
        takes them.
    **options
        Those of a VCF.
    """
    return open_unpacked(path, _VCZ, **options)


def stat_of_store(path: Path) -> dict[str, Any]:
    """Size, latest change, and a digest of names, sizes and times of all files of a store."""
    if not path.is_dir():
        return file_stat(path)
    lines, size, latest = [], 0, 0
    for folder, _, names in os.walk(path):
        for name in names:
            status = (Path(folder) / name).stat()
            size, latest = size + status.st_size, max(latest, status.st_mtime_ns)
            place = os.path.relpath(os.path.join(folder, name), path)  # noqa: PTH118 - for many
            lines.append(f"{place}\t{status.st_size}\t{status.st_mtime_ns}")
    content = "\n".join(sorted(lines)).encode("utf-8", "surrogateescape")
    return {"size": size, "mtime_ns": latest, "files": hashlib.sha256(content).hexdigest()}


def check_store(path: Path) -> None:
    """Refuse what is no folder of a Zarr group.

    Raises
    ------
    MalformedError
        If it is a file, or has no description of a group.
    """
    if not path.is_dir():
        raise MalformedError(
            explain(
                f"{path} is a file",
                expected="A VCF Zarr store is a folder",
                do="Unpack it if it is a zip archive: unzip FILE.vcz.zip -d FILE.vcz",
            )
        )
    if not any((path / name).exists() for name in (".zgroup", "zarr.json")):
        raise MalformedError(
            explain(
                f"{path} is no Zarr group: it has neither .zgroup nor zarr.json",
                do="Make it by vcf2zarr convert FILE.vcf.gz FILE.vcz",
            )
        )


_VCZ = Unpacking(
    stat_of_store,
    check_store,
    "imgwas.genotypes.vcz_unpack",
    "Make the store again: vcf2zarr convert FILE.vcf.gz FILE.vcz",
)
