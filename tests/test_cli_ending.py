"""How the program ends: at once, with its exit code, with everything written and nothing left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("imgwas")


def python(text: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", text]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_what_was_registered_after_it_began_is_still_done(tmp_path):
    done = python(
        "import atexit, threading, time\n"
        "from imgwas_cli import main\n"
        "def run(args=None):\n"
        "    atexit.register(print, 'at exit')\n"
        "    threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()\n"
        "    print('ran', end=' ')\n"
        "    return 7\n"
        "main.run = run\n"
        "main.console()\n"
    )
    assert done.returncode == 7
    assert done.stdout.split() == ["ran", "thread", "at", "exit"]
    assert done.stderr == ""


def test_another_program_that_calls_it_ends_as_it_likes():
    """Only the program itself vanishes: what a caller registered, and its exit code, stand."""
    done = python(
        "import atexit, sys\n"
        "from imgwas_cli import main\n"
        "atexit.register(print, 'of the caller')\n"
        "try:\n"
        "    main.app(['--version'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "sys.exit(3)\n"
    )
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == "of the caller"


def test_a_bug_outside_the_commands_is_told():
    done = python(
        "from imgwas_cli import main\n"
        "def run(args=None):\n"
        "    raise RuntimeError('a bug')\n"
        "main.run = run\n"
        "main.console()\n"
    )
    assert done.returncode == 1
    assert "RuntimeError: a bug" in done.stderr


def test_output_that_is_closed_or_ends_early():
    """Code 0 and not a word where nothing listens; all of a long text where somebody does."""
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        command = f'"{PROGRAM}" --version {closed}'
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.stderr == "", closed
    command = f'"{PROGRAM}" associate --help | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    done = subprocess.run([PROGRAM, "associate", "--help"], capture_output=True, check=True)
    assert done.stdout.rstrip().endswith(b".")
