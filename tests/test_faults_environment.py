"""Faults of the machine around a run: text, clocks, disks, names, links. Groups H, I and J.

The names of the rows are those of the fault tables that the project is built against; which test
covers which row is in ``tests/fault_matrix.py``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import threadpoolctl

import imgwas
from imgwas.errors import WriteError
from imgwas.files import publish, write_error
from tests.cli_cohort import imgwas as command_line
from tests.cli_cohort import people, replaced, write_cohort
from tests.source_tree import ROOT, modules
from tests.test_cli_bad_inputs import COMMAND

PROGRAM = [sys.executable, "-m", "imgwas_cli.main"]


@pytest.fixture
def cohort(tmp_path):
    write_cohort(tmp_path)
    return tmp_path


def digest_of(out: Path) -> str:
    return imgwas.open_sumstats(out).digest()


def scan(folder: Path, *more: object) -> None:
    words = replaced([*COMMAND, "--threads", "1"], *more)
    done = command_line(*words, folder=folder)
    assert done.code == 0, done.text


# --- H4: names of folders -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"), [("out ", 0), ("ö ü", 0), ("-out", 0), ("x" * 255, 0), ("x" * 256, 5)]
)
def test_odd_names_of_the_folder_of_results(cohort, name, code):
    """H4: a blank at the end, other alphabets, a dash, as long as a name may be, and one more."""
    words = [f"--out={name}" if word == "out" else word for word in COMMAND if word != "--out"]
    done = command_line(*words, "--threads", "1", folder=cohort)
    assert done.code == code, done.text
    assert "Traceback" not in done.text
    if code:
        assert "File name too long" in done.text
    else:
        assert imgwas.open_sumstats(cohort / name).n_variants == 30


def test_a_tilde_is_the_home_folder(cohort, monkeypatch):
    """H4: where no shell expands it, the tilde of an input is the home folder."""
    monkeypatch.setenv("HOME", str(cohort))
    assert len(imgwas.read_latents("~/latents.tsv").sample_ids) == 41
    assert imgwas.open_genotypes("~/cohort").n_variants == 30


# --- H5: the temporary file lies beside the target ----------------------------------------------


def test_files_are_renamed_within_their_folder(tmp_path, monkeypatch):
    """H5: on another file system a rename would fail with EXDEV."""
    moves = []
    real = Path.replace

    def seen(self: Path, target: Path) -> Path:
        moves.append((self.parent, Path(target).parent))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", seen)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with publish(tmp_path / "a.txt", "w") as stream:
        stream.write("x")
    assert moves == [(tmp_path, tmp_path)]


# --- H7: text -----------------------------------------------------------------------------------

LOCALES = {
    "plain": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.parametrize("name", ["plain", pytest.param("latin", marks=pytest.mark.slow)])
def test_the_locale_changes_no_byte(cohort, name):
    """H7: ids, latents and a folder in other alphabets, under a locale that knows none."""
    one = people()[3]
    for file in ("cohort.fam", "latents.tsv", "covar.tsv"):
        text = (cohort / file).read_text(encoding="utf-8").replace(one, "Łódź東京")
        (cohort / file).write_text(text.replace("z1\t", "größe\t"), encoding="utf-8")
    scan(cohort, "--out", "here")
    words = [word.replace("out", "zwölf") if word == "out" else word for word in COMMAND]
    done = subprocess.run(
        [*PROGRAM, *words, "--threads", "1"], cwd=cohort, capture_output=True, check=False,
        env={**os.environ, **LOCALES[name]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert digest_of(cohort / "zwölf") == digest_of(cohort / "here")
    assert "größe" in imgwas.open_sumstats(cohort / "zwölf").latents
    assert "Łódź" not in done.stderr.decode("utf-8", "replace")


def test_numbers_are_read_and_written_with_points_in_every_locale(cohort):
    """H7: numbers are never read or written by rules of a country."""
    import locale

    before = locale.setlocale(locale.LC_ALL)
    scan(cohort, "--out", "plain")
    for name in ("de_DE.UTF-8", "tr_TR.UTF-8", "fr_FR.UTF-8"):
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        try:
            scan(cohort, "--out", name)
        finally:
            locale.setlocale(locale.LC_ALL, before)
        assert digest_of(cohort / name) == digest_of(cohort / "plain")
    source = [(ROOT / m).read_text(encoding="utf-8") for m in modules()]
    assert not [text for text in source if "locale.atof" in text or "setlocale" in text]


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_private_files_are_private_under_any_umask(cohort, mask):
    before = os.umask(mask)
    try:
        scan(cohort)
    finally:
        os.umask(before)
    assert (cohort / "out/private").stat().st_mode & 0o077 == 0
    assert imgwas.open_sumstats(cohort / "out").verify() == []


# --- H8: output that nobody takes ---------------------------------------------------------------


@pytest.mark.slow
def test_a_full_output_is_said(cohort):
    """H8: findings that nobody could read were not found."""
    words = ["check", *COMMAND[1:], "--json"]
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, *words], cwd=cohort, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 5, done.stderr
    assert b"cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr


# --- H9: clocks ---------------------------------------------------------------------------------


def test_a_clock_that_stands_still_or_goes_back(cohort, monkeypatch):
    """H9: two attempts in the same second keep both logs, and times are no condition."""
    now = [2_000_000_000.0]

    def back() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", back)
    scan(cohort)
    monkeypatch.setattr(time, "time", lambda: 1.0)
    (cohort / "out/RUN_COMPLETE.json").unlink()
    scan(cohort)
    scan(cohort)
    assert {p.name for p in (cohort / "out").glob("log-*")} == {f"log-{k}.txt" for k in (1, 2, 3)}
    assert imgwas.open_sumstats(cohort / "out").verify() == []


# --- H15: threads within threads ----------------------------------------------------------------


def test_workers_of_a_scan_do_not_start_threads_of_their_own(cohort, monkeypatch):
    """H15: products run on one thread each, whatever the environment asks for."""
    from imgwas.association import parts

    seen = set()
    real = parts.scan_rows

    def look(*args, **kwargs):
        for pool in threadpoolctl.threadpool_info():
            if pool["user_api"] == "blas":
                seen.add(pool["num_threads"])
        return real(*args, **kwargs)

    for module in list(sys.modules.values()):
        if getattr(module, "scan_rows", None) is real:
            monkeypatch.setattr(module, "scan_rows", look)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        scan(cohort, "--threads", "2")
    assert seen == {1}


# --- I2, I3, I18: writing -----------------------------------------------------------------------


def test_results_are_never_written_through_a_memory_map():
    """I2: a full disk under a memory map kills the process without a word."""
    for module in modules():
        text = (ROOT / module).read_text(encoding="utf-8")
        for mode in ('mmap_mode="r+"', 'mmap_mode="w+"', "open_memmap"):
            assert mode not in text, f"{module}: {mode}"
        maps = re.findall(r"mmap\.mmap\([^\n]*", text)
        assert all("access=mmap.ACCESS_READ" in call for call in maps), module
        assert all('"r"' in call for call in re.findall(r"np\.memmap\([^\n]*", text)), module


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left for"),
        (errno.EDQUOT, "No space left for"),
        (errno.EFBIG, "No space left for"),
        (errno.EROFS, "cannot be written (Read-only file system)"),
        (errno.EACCES, "cannot be written (Permission denied)"),
        (errno.EIO, "failed (Input/output error)"),
        (errno.EMFILE, "failed (Too many open files)"),
    ],
)
def test_every_way_a_disk_refuses_is_told(tmp_path, monkeypatch, number, words):
    """I3: quota, file size, inodes, read-only, a broken disk: one class, the system's words."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WriteError) as refusal, publish(tmp_path / "x.bin") as stream:
        stream.write(b"1")
    assert words in str(refusal.value)
    assert refusal.value.exit_code == 5
    assert not list(tmp_path.iterdir())
    assert str(write_error(tmp_path / "x.bin", OSError(number, os.strerror(number))))


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """I18: written, synced, renamed, and the folder synced, in this order."""
    steps = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    with publish(tmp_path / "a.bin") as stream:
        stream.write(b"content")
    assert steps == ["file", "rename", "folder"]


# --- I19: what was finished is damaged later ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("run.json", lambda old: old.replace(b'"part_size": 16', b'"part_size": 61')),
        ("run.json", lambda old: old[: len(old) // 2]),
        ("RUN_COMPLETE.json", lambda old: old.replace(b'"n_variants": 30', b'"n_variants": 31')),
        ("RUN_COMPLETE.json", lambda old: old[:20]),
        ("parts/part-00001.parquet", lambda old: old[:200] + bytes([old[200] ^ 4]) + old[201:]),
        ("parts/part-00001.parquet", lambda old: b""),
        ("latent_correlation.parquet", lambda old: old[:-9]),
    ],
)
def test_damaged_results_are_noticed_and_the_same_command_heals_them(cohort, name, damage):
    scan(cohort, "--part-size", "16")
    before = digest_of(cohort / "out")
    path = cohort / "out" / name
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    verified = command_line("verify", "out", folder=cohort)
    assert verified.code == 6, verified.text
    scan(cohort, "--part-size", "16")
    assert command_line("verify", "out", folder=cohort).code == 0
    assert digest_of(cohort / "out") == before


# --- I22: another version -----------------------------------------------------------------------


def test_parts_of_another_major_version_are_not_mixed(cohort, monkeypatch):
    scan(cohort)
    (cohort / "out/RUN_COMPLETE.json").unlink()
    for module in list(sys.modules.values()):
        if module.__name__.startswith("imgwas.association") and hasattr(module, "__version__"):
            monkeypatch.setattr(module, "__version__", "99.0.0")
    done = command_line(*COMMAND, "--threads", "1", folder=cohort)
    assert done.code == 7
    assert "imgwas_major was" in done.text


# --- J: hostile names and places ----------------------------------------------------------------

HOSTILE = [
    "../../x",
    "/etc/x",
    "CON",
    "a/b",
    "%s%n{0}",
    "<script>alert(1)</script>",
    "=1+1",
    "é" * 200,
]


def test_names_lead_nowhere_and_mean_nothing(cohort, caplog):
    """J1 to J4: latents named like paths, markup, formats and formulae stay names."""
    rows = "".join(
        f"{one}\t" + "\t".join(str((i * (k + 1)) % 11) for k in range(len(HOSTILE))) + "\n"
        for i, one in enumerate(people())
    )
    table = "IID\t" + "\t".join(HOSTILE) + "\n" + rows
    (cohort / "latents.tsv").write_text(table, encoding="utf-8")
    scan(cohort)
    before = {p for p in cohort.rglob("*") if p.is_file()}
    done = command_line("export", "out", "--format", "regenie", "--out", "exported", folder=cohort)
    assert done.code == 0, done.text
    new = {p for p in cohort.rglob("*") if p.is_file()} - before
    assert new
    assert {p.parent for p in new} == {cohort / "exported"}
    assert len([p for p in new if p.name.endswith(".gz")]) == len(HOSTILE)
    assert all(len(p.name.encode()) <= 255 for p in new)
    assert tuple(imgwas.open_sumstats(cohort / "out").latents) == tuple(HOSTILE)


def test_control_characters_do_not_reach_terminal_or_log(cohort):
    """J3: an escape sequence in the name of a file is written out."""
    odd = cohort / "la\x1b[31mtents\n.tsv"
    shutil.copy(cohort / "latents.tsv", odd)
    words = [odd.name if word == "latents.tsv" else word for word in COMMAND]
    done = command_line(*words, "--threads", "1", folder=cohort)
    assert done.code == 0, done.text
    logs = "".join(p.read_text() for p in (cohort / "out").glob("log-*.txt"))
    assert "\x1b" not in done.text + logs
    assert "la\\x1b[31mtents" in logs


@pytest.mark.slow
def test_settings_lying_in_the_folder_are_not_read(cohort):
    """J6: neither modules nor settings of other programs in the current folder."""
    (cohort / "marker").mkdir()
    for name in ("numpy", "yaml", "dask", "pyarrow", "sitecustomize", "imgwas"):
        (cohort / f"{name}.py").write_text(
            "open('marker/ran', 'w').close()\nraise SystemExit(77)\n"
        )
    for name in ("dask.yaml", "distributed.yaml", ".imgwas.yaml", "config.yaml"):
        (cohort / name).write_text("x: !!python/object/apply:os.system ['touch marker/ran']\n")
    program = shutil.which("imgwas", path=str(Path(sys.executable).parent))
    assert program is not None
    done = subprocess.run(
        [program, *COMMAND, "--threads", "1"], cwd=cohort, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list((cohort / "marker").iterdir())


@pytest.mark.parametrize("name", ["log-1.txt", ".lock", "run.json", "private/.gitignore"])
def test_links_planted_in_the_folder_of_results_are_not_followed(cohort, name):
    """J7: whoever may write there first must not make us write elsewhere."""
    victim = cohort / "victim"
    victim.write_text("mine")
    before = hashlib.sha256(victim.read_bytes()).hexdigest()
    link = cohort / "out" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(victim)
    command_line(*COMMAND, "--threads", "1", folder=cohort)
    assert hashlib.sha256(victim.read_bytes()).hexdigest() == before


def test_a_link_instead_of_the_private_folder_is_refused(cohort):
    """J7: what is of single people goes nowhere else."""
    (cohort / "elsewhere").mkdir()
    (cohort / "out").mkdir()
    (cohort / "out/private").symlink_to(cohort / "elsewhere")
    done = command_line(*COMMAND, "--threads", "1", folder=cohort)
    assert done.code == 21, done.text
    assert "private" in done.text
    assert not list((cohort / "elsewhere").iterdir())
