"""imgwas status, verify, repair: bit-rot is listed, and only what is damaged is computed again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import imgwas
from imgwas.association import attempts
from imgwas.files import read_json, sealed
from imgwas.locks import joined, locked
from tests.cli_cohort import imgwas as command_line

COMMAND = [
    *("associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet"),
    *("--part-size", "60", "--threads", "1"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cohort and a finished scan of ten parts that records its command."""
    home = tmp_path_factory.mktemp("home")
    imgwas.simulate_cohort(
        home / "cohort", n_samples=97, n_variants=600, n_latents=4, n_causal=2, seed=12
    )
    done = command_line(*COMMAND, "--out", "clean", folder=home)
    assert done.code == 0, done.text
    record_command(home / "clean", ["imgwas", *COMMAND, "--out", "clean"])
    return home


def record_command(folder: Path, words: list[str]) -> None:
    """What a process of its own writes; here the arguments are those of pytest."""
    rewrite(folder / "run.json", command=words)


def rewrite(path: Path, **changes: object) -> None:
    """Change a file of ours, its seal made anew."""
    path.write_text(json.dumps(sealed(read_json(path) | changes)))


@pytest.fixture
def scan(home):
    """A copy of the finished scan."""
    out = home / "copy"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(home / "clean", out)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith("log-")
    }


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0x10
    path.write_bytes(content)


def receipt(number: int) -> str:
    return f"parts/part-{number:05d}.ok.json"


def damage_some(scan: Path) -> None:
    """One of every kind."""
    flip(scan / "parts/part-00003.parquet", 0.5)
    (scan / "parts/part-00005.parquet").write_bytes(b"")
    (scan / "parts/part-00006.parquet").unlink()
    (scan / receipt(7)).write_text("{")
    rewrite(scan / receipt(8), rows=61)
    flip(scan / "latent_correlation.parquet", 0.3)


def test_verify_lists_all_damage(home, scan):
    assert command_line("verify", scan, folder=home).code == 0
    damage_some(scan)
    done = command_line("verify", scan, folder=home)
    assert done.code == 6
    for line in (
        "part-00003.parquet does not match its recorded SHA-256: ",
        "part-00005.parquet has 0 bytes, not the ",
        "part-00006.parquet is missing",
        "part-00007.ok.json is missing or cannot be read",
        "part-00008.ok.json does not say what RUN_COMPLETE.json says",
        "latent_correlation.parquet does not match",
        "5 of 10 parts and 1 other files",
        "imgwas repair",
    ):
        assert line in done.text, done.text
    assert "part-00004" not in done.text


def test_a_flipped_byte_is_traced_to_its_column(home, scan):
    """Page checksums say which statistic is wrong."""
    import pyarrow.parquet as pq

    path = scan / "parts/part-00002.parquet"
    meta = pq.ParquetFile(path).metadata.row_group(0)
    names = [meta.column(i).path_in_schema for i in range(meta.num_columns)]
    column = meta.column(next(i for i, name in enumerate(names) if name.startswith("t.")))
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    path.write_bytes(content)
    done = command_line("verify", scan, folder=home)
    assert f"SHA-256: {column.path_in_schema}\n" in done.text, done.text


def test_repair_computes_the_damaged_parts_only(home, scan):
    damage_some(scan)
    kept = {n: (scan / f"parts/part-{n:05d}.parquet").stat().st_mtime_ns for n in (0, 1, 2, 4, 9)}
    done = command_line("repair", scan, folder=home)
    assert done.code == 0, done.text
    assert "resuming: 5 of 10 parts are done" in done.text
    assert files(scan) == files(home / "clean")
    for n, then in kept.items():
        assert (scan / f"parts/part-{n:05d}.parquet").stat().st_mtime_ns == then
    assert command_line("verify", scan, folder=home).code == 0
    done = command_line("repair", scan, folder=home)
    assert "nothing to repair" in done.text


@pytest.mark.parametrize("content", ["{", "[]", '{"parts": 3}', '{"parts": []}'])
def test_the_last_file_is_damaged(home, scan, content):
    (scan / "RUN_COMPLETE.json").write_text(content)
    done = command_line("verify", scan, folder=home)
    assert done.code == 6, done.text
    assert "RUN_COMPLETE.json" in done.text
    done = command_line("repair", scan, folder=home)
    assert done.code == 0, done.text
    assert files(scan) == files(home / "clean")


def test_the_last_file_lists_other_parts_than_there_are(home, scan):
    """As where a part was computed again by another machine, whose rounding differs."""
    parts = read_json(scan / "RUN_COMPLETE.json")["parts"]
    parts[2]["sha256"] = "0" * 64
    rewrite(scan / "RUN_COMPLETE.json", parts=parts)
    done = command_line(*COMMAND, "--out", scan, folder=home)
    assert done.code == 0, done.text
    assert command_line("verify", scan, folder=home).code == 0


def test_nothing_is_lost_when_the_inputs_are_gone(home, scan):
    flip(scan / "parts/part-00003.parquet", 0.5)
    before = files(scan)
    (home / "cohort/cohort.bed").rename(home / "cohort/away.bed")
    try:
        done = command_line("repair", scan, folder=home)
    finally:
        (home / "cohort/away.bed").rename(home / "cohort/cohort.bed")
    assert done.code == 3, done.text
    assert files(scan) == before


def test_other_inputs_are_refused(home, scan):
    flip(scan / "parts/part-00003.parquet", 0.5)
    before = files(scan)
    record_command(scan, ["imgwas", *COMMAND, "--out", "clean", "--maf", "0.1"])
    done = command_line("repair", scan, folder=home)
    assert done.code == 7, done.text
    record_command(scan, json.loads(before["run.json"])["command"])
    assert files(scan) == before


def test_a_scan_without_a_command(home, scan):
    record_command(scan, [])
    flip(scan / "parts/part-00003.parquet", 0.5)
    done = command_line("repair", scan, folder=home)
    assert done.code == 8
    assert "--mark" in done.text
    done = command_line("repair", scan, "--mark", folder=home)
    assert done.code == 0
    assert "1 parts are undone" in done.text
    assert command_line("verify", scan, folder=home).code == 20
    done = command_line(*COMMAND, "--out", scan, folder=home)
    assert "resuming: 9 of 10" in done.text
    assert imgwas.open_sumstats(scan).digest() == imgwas.open_sumstats(home / "clean").digest()


def test_verify_of_an_unfinished_run(home, scan):
    (scan / "RUN_COMPLETE.json").unlink()
    (scan / receipt(4)).unlink()
    assert command_line("verify", scan, folder=home).code == 20
    assert command_line("verify", scan, "--allow-partial", folder=home).code == 0
    flip(scan / "parts/part-00003.parquet", 0.5)
    done = command_line("verify", scan, "--allow-partial", folder=home)
    assert done.code == 6
    assert "part-00003" in done.text


def test_status(home, scan):
    done = command_line("status", scan, folder=home)
    assert done.code == 0
    assert "10 of 10 done (100%)" in done.text
    (scan / "RUN_COMPLETE.json").unlink()
    for number in (2, 3, 7):
        (scan / receipt(number)).unlink()
    for place, path in enumerate(sorted((scan / "parts").glob("*.ok.json"))):
        os.utime(path, (1000 + 6 * place, 1000 + 6 * place))
    (scan / "private").mkdir(exist_ok=True)
    for _ in range(2):
        attempts.begin(scan, 7)
    with joined(scan), locked(scan):
        done = command_line("status", scan, folder=home)
    assert done.code == 20
    assert "7 of 10 done (70%)" in done.text
    assert "missing   2-3, 7" in done.text
    assert "10.0 parts a minute, 18 s left" in done.text
    assert done.text.count(f"working   process {os.getpid()} on ") == 2
    assert "part 7 was begun 2 times" in done.text
    done = command_line("status", scan, "--json", folder=home)
    assert json.loads(done.text)["missing"] == [2, 3, 7]
    done = command_line("status", home / "cohort", folder=home)
    assert done.code == 3
