"""``imgwas doctor`` sees what is wrong with a machine, and says nothing it should not."""

from __future__ import annotations

import errno
import json
import os
import platform
import resource
import socket
import time
from pathlib import Path

import pandas as pd
import pytest

from imgwas import doctor
from tests.cli_cohort import imgwas


@pytest.fixture
def look(tmp_path):
    """Findings by name."""
    return lambda: {
        f"{one.topic} {one.name}": one for one in doctor.examine(tmp_path, arithmetic=False)
    }


def test_this_machine_is_fit_and_nothing_is_left(tmp_path, monkeypatch):
    # a real name may be a word of the report, such as "memory", and a real home may be "/"
    machine, real_home = "machine-of-somebody", str(Path.home())
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    monkeypatch.setattr(platform, "node", lambda: machine)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", machine, "6", "1", "x86")))
    monkeypatch.setenv("HOME", str(tmp_path.parent / "home-of-somebody"))
    done = imgwas("doctor", tmp_path, folder=tmp_path)
    assert done.code == 0, done.text
    assert "this machine is fit" in done.text
    assert "standard errors of statsmodels" in done.text
    assert "somebody" not in done.text
    assert len(real_home) < 5 or real_home not in done.text
    assert not list(tmp_path.iterdir())


def test_json_has_every_finding(tmp_path):
    done = imgwas("doctor", "--json", "--no-arithmetic", folder=tmp_path)
    found = json.loads(done.text)
    assert found["fit"] is True
    names = {one["name"] for one in found["findings"]}
    assert {"numpy", "GPU", "space", "writing", "open files", "plink2", "text"} <= names
    assert {one["level"] for one in found["findings"]} <= {"good", "note", "bad"}


def test_an_absent_library_is_bad_and_an_absent_extra_is_not(look, monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda n: "" if n in ("scipy", "h5py") else real(n))
    found = look()
    assert found["libraries scipy"].level == "bad"
    assert found["libraries scipy"].do == "pip install --upgrade scipy"
    assert found["libraries [hdf5]"].level == "note"
    assert found["libraries [hdf5]"].do == "pip install 'imgwas[hdf5]'"
    assert not any("[test]" in name or "[lint]" in name for name in found)


def test_an_old_library_is_bad(monkeypatch, tmp_path):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "1.9" if name == "scipy" else real(name))
    done = imgwas("doctor", "--no-arithmetic", folder=tmp_path)
    assert done.code == 9
    assert "1.9, at least 1.12 is needed" in done.text


def test_limits_of_a_container_are_seen(look, monkeypatch):
    limits = {"cpu.max": ["50000 100000", "max 100000"], "memory.max": ["max", "536870912"]}
    monkeypatch.setattr(doctor, "_cgroup_files", lambda name, _: iter(limits[name]))
    found = look()
    assert "a quota of 0.5" in found["processor cores for this process"].value
    assert found["processor cores for this process"].do == "--threads 1"
    assert found["memory limit of this process"].value == "537 MB"
    assert found["memory limit of this process"].level == "note"


def test_few_open_files_are_noted(look, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert look()["system open files"].do == "ulimit -n 4096"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_takes_nothing_is_bad(tmp_path, monkeypatch, number):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    done = imgwas("doctor", tmp_path, "--no-arithmetic", folder=tmp_path)
    assert done.code == 9
    assert os.strerror(number) in done.text
    assert not list(tmp_path.iterdir())


def test_a_clock_that_is_wrong_is_noted(look, monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    assert look()["folder clock"].level == "note"


@pytest.mark.parametrize("apart", [0.01, float("nan")])
def test_wrong_arithmetic_is_bad(monkeypatch, apart):
    wrong = pd.DataFrame({"difference": [1e-6, apart]})
    monkeypatch.setattr("imgwas.association.associate", lambda *_, **__: None)
    monkeypatch.setattr("imgwas.association.selfcheck.check_scan", lambda *_, **__: wrong)
    (finding,) = doctor._arithmetic()
    assert finding.level == "bad"
    assert "computes wrongly" in finding.do
