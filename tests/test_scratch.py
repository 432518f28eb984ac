"""Long tables beside memory: the same content, nothing left behind, memory that does not grow."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import imgwas
from imgwas import scratch
from imgwas.arrow import from_numpy, from_strings
from imgwas.errors import WriteError

N = 200_000


def batches(n: int = N, size: int = 20_000):
    """Batches of a table of rows that all differ, about 6 MB."""
    for start in range(0, n, size):
        rows = np.arange(start, min(start + size, n))
        names = from_strings([f"variant_{row:012d}" for row in rows.tolist()])
        yield pa.RecordBatch.from_arrays([from_numpy(rows), names], ["row", "name"])


def is_mapped(table: pa.Table) -> bool:
    """Whether the first buffer of numbers lies in one of the maps."""
    address = table["row"].chunk(0).buffers()[1].address
    return any(
        0 <= address - np.frombuffer(one, np.uint8).ctypes.data < len(one) for one in scratch._maps
    )


def test_a_long_table_is_the_same_beside_memory():
    table = scratch.table_aside(batches())
    assert table.equals(pa.Table.from_batches(batches()))
    assert is_mapped(table)
    scratch.release()
    assert table.equals(pa.Table.from_batches(batches()))


def test_a_short_table_stays_in_memory():
    before = len(scratch._maps)
    table = scratch.table_aside(batches(1000))
    assert table.equals(pa.Table.from_batches(batches(1000)))
    assert len(scratch._maps) == before


def test_no_batches_are_an_empty_table():
    assert scratch.table_aside(iter(())).num_rows == 0
    schema = pa.schema([("row", pa.int64())])
    assert scratch.table_aside(iter(()), schema).schema == schema


@pytest.mark.parametrize("n", [0, 10, 3_000_000])
def test_arrays_are_the_same_and_nobody_writes_to_them(n):
    pieces = (np.arange(start, min(start + 500_000, n)) for start in range(0, n, 500_000))
    array = scratch.array_aside(pieces, np.int64)
    scratch.release()
    assert array.dtype == np.int64
    np.testing.assert_array_equal(array, np.arange(n))
    with pytest.raises(ValueError, match="read-only"):
        array[:] = 0


def test_the_file_has_no_name_and_goes_with_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(scratch.tempfile, "tempdir", None)
    before = len(scratch._maps)
    table = scratch.table_aside(batches())
    assert not list(tmp_path.iterdir())
    assert len(scratch._maps) == before + 1
    part = table.slice(5, 3)
    del table
    assert part["row"].to_pylist() == [5, 6, 7]
    del part
    assert len(scratch._maps) == before


@pytest.mark.parametrize("after", [0, 1, 10])
def test_a_full_disk_leaves_it_in_memory(monkeypatch, after):
    """Also in the middle, and after a write that took only some of its bytes."""
    calls, real = [0], os.pwrite

    def pwrite(descriptor, content, offset):
        calls[0] += 1
        if calls[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, bytes(content)[: max(1, len(content) // 2)], offset)

    monkeypatch.setattr(scratch.os, "pwrite", pwrite)
    before = len(scratch._maps)
    table = scratch.table_aside(batches())
    array = scratch.array_aside([np.arange(N), np.arange(10 * N)], np.int64)
    assert calls[0] > after
    assert len(scratch._maps) == before
    assert table.equals(pa.Table.from_batches(batches()))
    np.testing.assert_array_equal(array, np.concatenate([np.arange(N), np.arange(10 * N)]))


@pytest.mark.parametrize("what", ["TemporaryFile", "mmap"])
def test_where_there_are_no_files_or_maps_it_stays_in_memory(monkeypatch, what):
    def refuse(*_args, **_options):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(scratch.tempfile if what == "TemporaryFile" else scratch.mmap, what, refuse)
    monkeypatch.setattr(scratch.mmap, "ACCESS_READ", mmap.ACCESS_READ)
    assert scratch.table_aside(batches()).equals(pa.Table.from_batches(batches()))


def test_a_disk_that_loses_what_was_written_is_told(monkeypatch):
    """Or what it lost would be read as zeros."""

    def refuse(_descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(scratch.os, "fsync", refuse)
    with pytest.raises(WriteError, match=r"lost what was written to it .*Set TMPDIR"):
        scratch.table_aside(batches())
    with pytest.raises(WriteError, match=r"lost what was written to it"):
        scratch.array_aside([np.arange(10 * N)], np.int64)


def test_batches_without_rows_are_left_out():
    some = list(batches(1000))
    table = scratch.table_aside(iter([some[0].slice(0, 0), *some, some[0].slice(0, 0)]))
    assert table.equals(pa.Table.from_batches(some))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_beside_another_thread_can_let_go_of_maps():
    """Another thread may hold the lock while a process is forked; nobody lets go of it there."""
    program = (
        "import os\nfrom imgwas import scratch\nscratch._lock.acquire()\nchild = os.fork()\n"
        "if child == 0:\n    scratch.release()\n    os._exit(7)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 7


def test_an_array_that_numpy_mapped_is_let_go_of_too(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10))
    array = scratch.follow(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert array.base in scratch._maps
    scratch.release()
    np.testing.assert_array_equal(array, np.arange(10))
    plain = np.arange(3)
    assert scratch.follow(plain) is plain


@pytest.mark.parametrize(
    "options",
    [{}, {"effect_allele": "a2"}, {"chromosomes": ["2-22"]}, {"heritability": True}],
    ids=["plain", "a2", "chromosomes", "heritability"],
)
def test_a_scan_beside_memory_writes_the_same_bytes(tmp_path, monkeypatch, options):
    made = imgwas.simulate_cohort(
        tmp_path / "cohort", n_samples=120, n_variants=2500, n_latents=3, n_causal=2,
        missing_rate=0.02, missing_latents=0.0, seed=2,
    )  # fmt: skip
    alleles = options.get("effect_allele", "a1")
    chosen = {"chromosomes": options["chromosomes"]} if "chromosomes" in options else {}
    found = []
    for least in (scratch.LEAST_BYTES, 1):
        monkeypatch.setattr(scratch, "LEAST_BYTES", least)
        before = len(scratch._maps)
        genotypes = imgwas.open_genotypes(made.bfile, effect_allele=alleles)
        results = imgwas.associate(
            genotypes, imgwas.read_latents(made.latents), imgwas.read_covariates(made.covariates),
            out=tmp_path / f"out{least}", part_size=700, threads=2,
            selection=imgwas.select(genotypes, **chosen),
            heritability=options.get("heritability", False),
        )  # fmt: skip
        assert (len(scratch._maps) > before) == (least == 1)
        parts = sorted(results.folder.glob("parts/*.parquet"))
        found.append((results.digest(), [part.read_bytes() for part in parts]))
    assert found[0] == found[1]


#: ru_maxrss would be that of the process that forked this one, if that was larger
PEAK = """
import re, sys
from pathlib import Path
from imgwas.association.task import variant_kinds
from imgwas.genotypes import open_plink, select_rows
from imgwas.genotypes.variant_table import of_chromosomes
opened = open_plink(Path(sys.argv[1]), allow_constant_sample=True)
rows, _ = select_rows(opened, chromosomes=["1-22"], exclude=[Path(sys.argv[2])])
assert len(rows) == opened.n_variants - 1
assert not of_chromosomes(opened.variants, rows, variant_kinds, "int8").any()
status = Path("/proc/self/status").read_text(encoding="ascii")
print(int(re.search(r"VmHWM:\\s+([0-9]+) kB", status).group(1)) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak of a process here")
def test_memory_of_a_long_variant_table_is_flat(tmp_path):
    """Held in memory, two million variants more and their rows would take 100 MB more."""
    peaks = []
    (tmp_path / "out.txt").write_text("rs1\n", encoding="ascii")
    for n in (1_000_000, 3_000_000):
        prefix = tmp_path / f"n{n}"
        Path(f"{prefix}.fam").write_text("f a 0 0 1 -9\nf b 0 0 2 -9\n", encoding="ascii")
        Path(f"{prefix}.bed").write_bytes(b"\x6c\x1b\x01" + b"\x0a" * n)
        with Path(f"{prefix}.bim").open("w", encoding="ascii") as stream:
            for start in range(0, n, 20_000):
                stream.writelines(
                    f"{1 + row * 22 // n}\trs{row}\t0\t{100 + row}\tAC\tG\n"
                    for row in range(start, start + 20_000)
                )
        command = [sys.executable, "-c", PEAK, str(prefix), str(tmp_path / "out.txt")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout))
    assert peaks[1] < peaks[0] + 30, f"peaks of {peaks} MB"
