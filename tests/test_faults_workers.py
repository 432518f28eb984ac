"""Faults of worker processes that need no cluster to be seen. Rows H12 to H15 and I4."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import imgwas
from imgwas.cluster import check_versions, versions_here
from imgwas.errors import MissingLibraryError
from tests.source_tree import ROOT


class Workers:
    """A client whose workers answer as they are told."""

    def __init__(self, *answers: object) -> None:
        self.answers = answers

    def run(self, function: object, on_error: str) -> dict[str, object]:
        assert function is versions_here
        assert on_error == "return"
        return {f"tcp://{k}": answer for k, answer in enumerate(self.answers)}


def test_workers_of_the_same_environment_are_welcome():
    check_versions(Workers(versions_here(), versions_here()))
    check_versions(Workers())


@pytest.mark.parametrize("name", ["imgwas", "numpy", "distributed", "python"])
def test_workers_with_another_version_are_refused(name):
    """H12: the version is named, and where it runs."""
    other = {**versions_here(), name: "0.0.7"}
    with pytest.raises(MissingLibraryError, match=rf"tcp://1 has {name} 0.0.7, here ") as refusal:
        check_versions(Workers(versions_here(), other))
    assert refusal.value.exit_code == 9


def test_workers_without_imgwas_are_refused():
    with pytest.raises(MissingLibraryError, match="tcp://0 has no imgwas"):
        check_versions(Workers(ModuleNotFoundError("imgwas")))


@pytest.mark.slow
def test_a_script_without_a_guard_is_explained(tmp_path):
    """H14: workers run the script again; nothing multiplies and nothing hangs."""
    script = tmp_path / "script.py"
    script.write_text("import imgwas\nwith imgwas.local_cluster(2):\n    print('started')\n")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "worker processes run the script again" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr
    assert "bootstrapping" not in done.stderr
    assert "started" not in done.stdout


@pytest.mark.slow
def test_a_script_with_a_guard_works(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import imgwas\nif __name__ == '__main__':\n"
        "    with imgwas.local_cluster(1) as client:\n"
        "        print('started', client.submit(sum, [1, 2]).result())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "started 3" in done.stdout


STUBBORN = """
import time
from imgwas.stopping import stop_wishes
with stop_wishes() as wish:
    print("ready", flush=True)
    while wish[0] is None:
        time.sleep(0.01)
    print("heard", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_at_once(number):
    """I4: whoever asks twice does not wait for the work to reach a good place."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    # two signals at once are one: the second goes when the first has been heard
    assert process.stdout.readline() == b"heard\n", "the first signal is a wish"
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=120) == 128 + number
    process.stdout.close()


def test_an_optional_library_that_is_absent_names_its_extra(monkeypatch, tmp_path):
    """H13: the words to type are in the message."""
    from imgwas.images import store

    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "hearts.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(MissingLibraryError, match=r"imgwas\[hdf5\]") as refusal:
        store.open_store(Path(tmp_path / "hearts.h5"))
    assert refusal.value.exit_code == 9
    assert imgwas.ImgwasError in type(refusal.value).__mro__
