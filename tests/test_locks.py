"""Locks of folders where it is hard: others' files, no links, lost answers, folders that go."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from imgwas.association import folder as run_folder
from imgwas.errors import WriteError
from imgwas.files import held_still, publish_once
from imgwas.locks import LockedError, alone, empty, holder_of, joined, locked, others

DEAD = {"host": socket.gethostname(), "pid": 2**22 + 1}


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def waits(work) -> threading.Thread:
    """Work in another thread that cannot go on before somebody has ended."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    return thread


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_that_may_not_be_read_is_somebodys(tmp_path, monkeypatch):
    """However old it is: its holder may live, and the folder may let us remove it."""
    real = Path.read_text

    def read(path: Path, *arguments: object, **options: object) -> str:
        text = real(path, *arguments, **options)
        if "of another user" in text:
            raise error(errno.EACCES)
        return text

    for name in (".lock", ".lock-0123456789abcdef"):
        (tmp_path / name).write_text("of another user, who keeps everybody from reading")
        os.utime(tmp_path / name, (1, 1))
    monkeypatch.setattr(Path, "read_text", read)
    with pytest.raises(LockedError, match="in use by another process"), locked(tmp_path):
        pass
    assert holder_of(tmp_path) == "unknown on an unknown machine"
    assert others(tmp_path) == ["unknown on an unknown machine"]
    assert inside(tmp_path) == [".lock", ".lock-0123456789abcdef"]
    with locked(tmp_path, break_lock=True):
        assert holder_of(tmp_path).startswith(f"{os.getpid()} on ")
    assert inside(tmp_path) == [".lock-0123456789abcdef"]


def test_a_lock_that_says_nothing_is_that_of_a_dead_run_unless_it_is_new(tmp_path):
    (tmp_path / ".lock").write_text("\0\0\0")
    with pytest.raises(LockedError), locked(tmp_path):
        pass
    os.utime(tmp_path / ".lock", (1, 1))
    with locked(tmp_path):
        pass
    assert inside(tmp_path) == []


def race(n: int, work) -> None:
    barrier = threading.Barrier(n)

    def run(number: int) -> None:
        barrier.wait()
        work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_one_of_many_publishes_where_there_are_no_links(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise error(number)

    monkeypatch.setattr(os, "link", refuse)
    for k in range(10):
        path, won = tmp_path / f"{k}.json", []
        race(6, lambda me, path=path, won=won: publish_once(path, me) and won.append(me))
        assert len(won) == 1
        assert json.loads(path.read_text()) == won[0]
    with locked(tmp_path), joined(tmp_path):
        assert len(others(tmp_path)) == 1
        with pytest.raises(LockedError), locked(tmp_path):
            pass
    assert len(inside(tmp_path)) == 10


def test_the_lost_answer_of_a_file_server_is_no_defeat(tmp_path, monkeypatch):
    """The link is made, its answer is lost, and asked again the server says that it is there."""
    link = os.link

    def twice(*names: Path) -> None:
        link(*names)
        link(*names)

    monkeypatch.setattr(os, "link", twice)
    assert publish_once(tmp_path / "a.json", 1)
    assert not publish_once(tmp_path / "a.json", 2)
    assert (tmp_path / "a.json").read_text() == "1\n"
    with locked(tmp_path):
        pass
    assert inside(tmp_path) == ["a.json"]


def test_a_lock_that_goes_while_one_is_refused_is_no_error(tmp_path, monkeypatch):
    """Its holder was there when the link was tried, and has gone when one looks whose it is."""

    def refuse(*_: object) -> None:
        raise error(errno.EEXIST)

    monkeypatch.setattr(os, "link", refuse)
    assert not publish_once(tmp_path / "a.json", 1)
    with pytest.raises(LockedError, match="in use by another process"), locked(tmp_path):
        pass
    assert inside(tmp_path) == []


def test_turns_are_kept_by_the_kernel_and_end_with_their_holder(tmp_path):
    with held_still(tmp_path):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_file_system_that_keeps_no_turns(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise error(errno.EBADF)

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".lock").write_text(json.dumps(DEAD))
    with locked(tmp_path), joined(tmp_path), alone(tmp_path) as working:
        assert len(working) == 1
        with pytest.raises(LockedError), locked(tmp_path):
            pass
    assert inside(tmp_path) == []


def test_a_folder_that_goes_meanwhile(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with locked(out), joined(out):
        shutil.rmtree(out)
    for enter in (locked, joined, alone):
        with pytest.raises(WriteError, match="out"), enter(out):
            pass


def test_a_dead_lock_in_a_folder_that_takes_nothing(tmp_path, monkeypatch):
    (tmp_path / ".lock").write_text(json.dumps(DEAD))

    def refuse(path: Path, **_: object) -> None:
        raise error(errno.EROFS)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(WriteError, match="cannot be written"), locked(tmp_path):
        pass


def test_a_folder_of_parts_is_emptied_and_no_lock_in_it(tmp_path):
    """Another run is on its way in: what it has put there must not go with the parts."""
    parts, theirs = tmp_path / "parts", "..lock.01234567-1.89ab.tmp"
    (parts / "more").mkdir(parents=True)
    with locked(parts, temporary=True):
        (parts / "a.h5").touch()
        (parts / theirs).touch()
        (parts / ".a.h5.01234567-1.89ab.tmp").touch()
        empty(parts)
        assert inside(parts) == [theirs, ".lock"]
    assert inside(parts) == [theirs]
    (parts / theirs).unlink()
    with pytest.raises(ValueError, match="to be kept"), locked(parts, temporary=True):
        raise ValueError("to be kept")
    assert inside(parts) == []
    with locked(parts, temporary=True):
        empty(parts)
    assert not parts.exists()


def test_nobody_joins_while_a_folder_is_cleared(tmp_path, monkeypatch):
    """A task that came between the look and the clearing would lose its parts."""
    out, found, late = tmp_path / "out", [], []
    run_folder.create(out)
    (out / "parts" / "part-00000.parquet").touch()
    clear = run_folder.clear

    def join() -> None:
        with joined(out):
            found.append([path.name for path in (out / "parts").iterdir()])

    def slowly(folder: Path) -> None:
        late.append(waits(join))
        clear(folder)

    monkeypatch.setattr(run_folder, "clear", slowly)
    run_folder.open_run(out, {"digest": "0"}, overwrite=True)
    late[0].join()
    assert found[-1] == []
    with joined(out), pytest.raises(run_folder.InconsistentError, match="tasks of an array work"):
        run_folder.open_run(out, {"digest": "0"}, overwrite=True)
