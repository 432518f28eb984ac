"""Targets of fuzzing among the genotype formats, each with a plain reading of what it now says."""

from __future__ import annotations

import importlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import imgwas
from imgwas.genotypes import vcf
from tests.bgen_files import bgen_block, bgen_file
from tests.formats_cohort import write_vcf
from tests.fuzzing import Target, equal

N, M = 10, 8


def read_all(path: Path, **options: Any) -> Any:
    """Everything that a reader says of a file."""
    opened = imgwas.open_genotypes(path, **options)
    dosage = opened.read_dosages(np.arange(opened.n_variants))
    people = opened.samples
    return {**opened.variants.to_pydict(), "ids": people.sample_ids, "sex": people.sex.tolist(),
            "families": people.family_ids, "dosage": dosage}  # fmt: skip


# --- BGEN ---------------------------------------------------------------------------------------


def make_bgen(folder: Path) -> None:
    rng = np.random.default_rng(0)
    blocks = []
    for _ in range(M):
        first = rng.integers(0, 256, N)
        blocks.append(bgen_block(np.column_stack([first, (255 - first) // 2]), missing=[3]))
    bgen_file(folder / "a.bgen", blocks, n=N)
    rows = "".join(f"f{i} p{i} 0 {1 + i % 2}\n" for i in range(N))
    (folder / "a.sample").write_text("ID_1 ID_2 missing sex\n0 0 0 D\n" + rows)


def read_bgen(folder: Path) -> Any:
    return read_all(folder / "a.bgen", sample=folder / "a.sample")


def check_bgen(found: Any, whole: Any, path: Path) -> str:
    """Walk the file byte by byte; unpack each block alone."""
    content = (path.parent / "a.bgen").read_bytes()
    at = struct.unpack_from("<I", content)[0] + 4
    dosage, ids = [], []
    for _ in range(len(found["variant_id"])):
        names = []
        for _ in range(3):
            (length,) = struct.unpack_from("<H", content, at)
            names.append(content[at + 2 : at + 2 + length])
            at += 2 + length
        alleles = struct.unpack_from("<IH", content, at)[1]
        at += 6
        for _ in range(alleles):
            at += 4 + struct.unpack_from("<I", content, at)[0]
        (length,) = struct.unpack_from("<I", content, at)
        plain = zlib.decompress(content[at + 8 : at + 4 + length])
        at += 4 + length
        ids.append((names[1] or names[0] or b".").decode("utf-8", "surrogateescape"))
        flags, values = plain[8 : 8 + N], plain[10 + N :]
        dosage.append([
            np.nan if flags[i] & 128 else 2 - (2 * values[2 * i] + values[2 * i + 1]) / 255
            for i in range(N)
        ])  # fmt: skip
    if ids != found["variant_id"]:
        return "other variants"
    if not np.allclose(np.array(dosage), found["dosage"], atol=1e-6, equal_nan=True):
        return "other genotypes"
    lines = (path.parent / "a.sample").read_bytes().decode("utf-8", "surrogateescape").split("\n")
    people = [line.split() for line in lines if line.split()][-N:]
    return "" if [row[1] for row in people] == list(found["ids"]) else "other people"


# --- PLINK 2 ------------------------------------------------------------------------------------


def make_pgen(folder: Path) -> None:
    """Records that store every call, so that a plain loop can read them."""
    rng = np.random.default_rng(1)
    calls = rng.integers(0, 4, (M, 4 * -(-N // 4)))
    calls[:, N:] = 0
    quads = calls.reshape(M, -1, 4)
    body = (quads << np.array([0, 2, 4, 6])).sum(axis=2).astype(np.uint8).tobytes()
    width = -(-N // 4)
    start = 12 + 8 + M // 2 + M
    head = b"\x6c\x1b\x10" + struct.pack("<IIB", M, N, 0x40) + struct.pack("<Q", start)
    (folder / "a.pgen").write_bytes(head + bytes(M // 2) + bytes([width] * M) + body)
    rows = "".join(f"1\t{i + 1}\trs{i}\tG\tA\n" for i in range(M))
    (folder / "a.pvar").write_text("##x\n#CHROM\tPOS\tID\tREF\tALT\n" + rows)
    rows = "".join(f"f{i}\tp{i}\t{1 + i % 2}\n" for i in range(N))
    (folder / "a.psam").write_text("#FID\tIID\tSEX\n" + rows)


def read_pgen(folder: Path) -> Any:
    return read_all(folder / "a.pgen")


def check_pgen(found: Any, whole: Any, path: Path) -> str:
    folder = path.parent
    content = (folder / "a.pgen").read_bytes()
    width, start = -(-N // 4), 20 + M // 2 + M
    if content[: 20 + M // 2] == header_of_pgen():  # every record still stores every call
        dosage = [
            [(0.0, 1.0, 2.0, np.nan)[content[start + r * width + i // 4] >> 2 * (i % 4) & 3]
             for i in range(N)]
            for r in range(M)
        ]  # fmt: skip
        if not equal(np.array(dosage), np.asarray(found["dosage"], float)):
            return "other genotypes"
    values = found["dosage"]
    inside = values[~np.isnan(values)]
    if values.shape != (M, N) or ((inside < 0) | (inside > 2)).any():
        return "impossible genotypes"
    text = (folder / "a.pvar").read_bytes().decode("utf-8", "surrogateescape").split("\n")
    rows = [line.split() for line in text if line.strip() and not line.startswith("##")]
    head = rows[0] if rows[0][0].startswith("#") else None
    rows = rows[1:] if head else rows
    columns = head or ["#CHROM", "ID", "POS", "ALT", "REF"]
    if [int(row[columns.index("POS")]) for row in rows] != found["base_pair_location"]:
        return "other positions"
    text = (folder / "a.psam").read_bytes().decode("utf-8", "surrogateescape").splitlines()
    rows = [line.split() for line in text if line.strip()]
    at = rows[0].index("IID") if rows[0][0].startswith("#") and "IID" in rows[0] else None
    if at is not None and [row[at] for row in rows[1:]] != list(found["ids"]):
        return "other people"
    return ""


def header_of_pgen() -> bytes:
    """Bytes before the lengths of the records."""
    head = b"\x6c\x1b\x10" + struct.pack("<IIB", M, N, 0x40)
    return head + struct.pack("<Q", 20 + M // 2 + M) + bytes(M // 2)


# --- VCF ----------------------------------------------------------------------------------------


def make_vcf(folder: Path) -> None:
    dosage = np.random.default_rng(2).uniform(0, 2, (M, N)).round(3)
    dosage[2, 3] = np.nan
    write_vcf(folder / "a.vcf", dosage)


def read_vcf(folder: Path) -> Any:
    shutil.rmtree(folder / "a.vcf.imgwas", ignore_errors=True)
    try:
        with mock.patch.object(vcf.subprocess, "run", in_a_fork):
            return read_all(folder / "a.vcf")
    finally:
        shutil.rmtree(folder / "a.vcf.imgwas", ignore_errors=True)


def in_a_fork(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the program that unpacks a VCF in a copy of this process; a new one takes longer."""
    module, *arguments = command[command.index("-m") + 1 :]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(said.fileno(), 2)
                with open(1, "w", closefd=False) as sys.stdout:
                    importlib.import_module(module).main(arguments)
                code = 0
            except BaseException as error:  # noqa: BLE001 - as the interpreter would
                os.write(2, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0), said.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), said.read())


def check_vcf(found: Any, whole: Any, path: Path) -> str:
    """Split the text; cells that are plain numbers must be what was read."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    lines = [line.split("\t") for line in text.split("\n") if line and not line.startswith("#")]
    if len(lines) != len(found["variant_id"]):
        return "another number of variants"
    for row, fields in enumerate(lines):
        if not fields[1].isdigit() or int(fields[1]) != found["base_pair_location"][row]:
            return "another position"
        for person, cell in enumerate(fields[9:]):
            parts = dict(zip(fields[8].split(":"), cell.split(":"), strict=False))
            try:
                value = float(parts["DS"])
            except (KeyError, ValueError):
                continue
            if "/" in parts.get("GT", "") and abs(found["dosage"][row, person] - value) > 1e-4:
                return "another dosage"
    return ""


def make_written_pgen(folder: Path) -> None:
    """Records as PLINK 2's library packs them: lists of differences, dosages."""
    from pgenlib import PgenWriter

    make_pgen(folder)
    rng = np.random.default_rng(3)
    for name, dosages in (("calls", False), ("dosage", True)):
        with PgenWriter(bytes(folder / f"{name}.pgen"), N, variant_ct=M, nonref_flags=False,
                        dosage_present=dosages) as writer:  # fmt: skip
            for row in range(M):
                calls = rng.binomial(2, 0.1, N) * (row % 3)
                calls[row % N] = 1
                if dosages:
                    writer.append_dosages(np.clip(calls + rng.normal(0, 0.2, N), 0, 2))
                else:
                    writer.append_biallelic(calls.clip(0, 2).astype(np.int8))
        for end in ("pvar", "psam"):
            (folder / f"{name}.{end}").write_bytes((folder / f"a.{end}").read_bytes())


def read_written_pgen(folder: Path) -> Any:
    return [read_all(folder / f"{name}.pgen")["dosage"] for name in ("calls", "dosage")]


def check_written_pgen(found: Any, whole: Any, path: Path) -> str:
    """Nothing protects these records: at least, only what a genotype can be."""
    for values in found:
        inside = values[~np.isnan(values)]
        if values.shape != (M, N) or ((inside < 0) | (inside > 2)).any():
            return "impossible genotypes"
    return ""


FORMAT_TARGETS = {
    target.name: target
    for target in (
        Target("bgen", ("a.bgen", "a.sample"), make_bgen, read_bgen, check_bgen),
        Target("pgen", ("a.pgen", "a.pvar", "a.psam"), make_pgen, read_pgen, check_pgen),
        Target(
            "written_pgen",
            ("calls.pgen", "dosage.pgen"),
            make_written_pgen,
            read_written_pgen,
            check_written_pgen,
        ),
        Target("vcf", ("a.vcf",), make_vcf, read_vcf, check_vcf),
    )
}
