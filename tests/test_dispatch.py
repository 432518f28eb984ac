"""How parts are handed to a cluster, by a cluster in this process that misbehaves."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from imgwas.association import attempts, dispatch, engines
from imgwas.association.folder import ranges
from imgwas.errors import IncompleteError, WriteError
from tests.dry import dry_task


class Future:
    """Done when somebody asks for it."""

    def __init__(self, key: str, outcome) -> None:
        self.key, self.outcome = key, outcome

    def add_done_callback(self, tell) -> None:
        tell(self)

    def result(self, timeout: float):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def release(self) -> None:
        self.outcome = None


class KilledWorker(Exception):
    """As dask names it."""


class Lost(Future):
    """Never done."""

    def add_done_callback(self, tell) -> None:
        pass


class FakeClient:
    """What the dispatch uses of a dask client."""

    cluster = type("LocalCluster", (), {})()

    def __init__(self, behave, threads: int = 2) -> None:
        self.behave, self.threads, self.status = behave, threads, "running"
        self.known, self.most, self.calls, self.cancelled = 0, 0, Counter(), []

    def nthreads(self) -> dict[str, int]:
        return {"worker": self.threads}

    def submit(self, function, parts, *, key, **_):
        assert function is engines.run_parts
        self.calls.update(parts)
        self.sizes = [*getattr(self, "sizes", []), len(parts)]
        return self.behave(key, parts)

    def cancel(self, futures, force) -> None:
        self.cancelled += futures


def receipt(part: int, seconds: float = 0.001) -> dict:
    return {"part": part, "start": part * 10, "stop": part * 10 + 10, "seconds": seconds}


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "save_task", lambda *_: None)
    monkeypatch.setattr(dispatch, "TICK_S", 0.02)
    return dry_task(tmp_path, 1600)


ALL = range(1600)


def run(task, client, parts=ALL, stop=lambda: False) -> Counter:
    done: Counter = Counter()
    dispatch.run_on_client(
        task, parts, client=client, digest="0" * 64, stop=stop,
        on_variants=lambda n: done.update({"variants": n}),
        on_receipt=lambda r: done.update([r["part"]]),
    )  # fmt: skip
    return done


def test_every_part_once_and_quick_ones_together(task):
    client = FakeClient(lambda key, parts: Future(key, [receipt(part) for part in parts]))
    done = run(task, client)
    assert done.pop("variants") == 16_000
    assert done == Counter(ALL)
    assert client.calls == done
    assert client.sizes[0] == 1
    assert max(client.sizes) == dispatch.MOST_TOGETHER
    assert client.sizes[-1] < 4, "the last ones are shared out"


def test_slow_parts_travel_alone(task):
    client = FakeClient(lambda key, parts: Future(key, [receipt(part, 20.0) for part in parts]))
    run(task, client, range(300))
    assert set(client.sizes) == {1}


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError("1 TB")])
def test_an_error_that_passes_is_no_failure(task, error):
    failed: Counter = Counter()

    def behave(key, parts):
        if 17 in parts and failed[17] < 2:
            failed[17] += 1
            return Future(key, error)
        return Future(key, [receipt(part) for part in parts])

    done = run(task, FakeClient(behave), range(100))
    assert set(done) == {"variants", *range(100)}


def test_a_part_that_always_fails_is_named_and_the_others_finish(task):
    def behave(key, parts):
        bad = {"part": 17, "error": "OSError: [Errno 5] Input/output error"}
        return Future(key, [bad if part == 17 else receipt(part) for part in parts])

    client, done = FakeClient(behave), Counter()
    with pytest.raises(IncompleteError) as caught:
        dispatch.run_on_client(task, range(100), client=client, digest="0" * 64,
                               on_variants=lambda n: None,
                               on_receipt=lambda r: done.update([r["part"]]))  # fmt: skip
    assert set(done) == set(range(100)) - {17}
    assert client.calls[17] == 1 + dispatch.TRY_AGAIN
    text = str(caught.value)
    assert "1 of 1600 parts could not be computed; all others are finished" in text
    assert "part 17: variants 170 to 179 (7:17001 to 7:17901): OSError" in text
    assert caught.value.exit_code == 20


def test_a_part_that_kills_its_workers_is_not_sent_for_ever(task):
    def behave(key, parts):
        if 5 in parts:
            attempts.begin(task.out, 5) if attempts.count(task.out, 5) < attempts.MOST else None
            if attempts.count(task.out, 5) < attempts.MOST:
                return Future(key, KilledWorker())
            parts = [part for part in parts if part != 5]
            dead = {"part": 5, "died": True, "error": "its worker died 4 times"}
            return Future(key, [dead, *map(receipt, parts)])
        return Future(key, [receipt(part) for part in parts])

    client = FakeClient(behave)
    with pytest.raises(IncompleteError, match=r"part 5: variants 50 to 59 .*its worker died 4"):
        run(task, client, range(50))
    assert client.calls[5] == attempts.MOST
    assert all(client.calls[part] >= 1 for part in range(50))


def test_parts_that_were_only_waiting_on_workers_that_died_are_not_blamed(task):
    deaths: Counter = Counter()

    def behave(key, parts):
        if deaths[parts[0]] < 10:
            deaths.update(parts)
            return Future(key, KilledWorker())
        return Future(key, [receipt(part) for part in parts])

    done = run(task, FakeClient(behave), range(30))
    assert set(done) == {"variants", *range(30)}


def test_a_refusal_of_ours_ends_the_run(task):
    client = FakeClient(lambda key, parts: Future(key, WriteError("No space left")))
    with pytest.raises(WriteError):
        run(task, client)
    assert sum(client.sizes) <= dispatch.WINDOW_FROM


def test_nothing_moves(task, monkeypatch):
    monkeypatch.setattr(dispatch, "PATIENCE_S", 0.1)
    start = time.monotonic()
    with pytest.raises(IncompleteError, match="no part was finished within"):
        run(task, FakeClient(lambda key, parts: Lost(key, None)))
    assert time.monotonic() - start < 60  # and not the ten minutes of its default


def test_waiting_in_a_queue_is_not_too_long(task, monkeypatch):
    """Without workers yet, jobs of a cluster are waited for."""
    monkeypatch.setattr(dispatch, "PATIENCE_S", 0.01)
    client = FakeClient(lambda key, parts: Lost(key, None), threads=0)
    client.cluster = object()
    looks = []

    def stop() -> bool:
        looks.append(1)
        return len(looks) > 10

    run(task, client, range(3), stop=stop)
    client.cluster = FakeClient.cluster
    with pytest.raises(IncompleteError, match="0 worker threads"):
        run(task, client, range(3))


def test_the_scheduler_goes_away(task):
    def behave(key, parts):
        client.status = "connecting"
        return Future(key, RuntimeError("FutureCancelledError"))

    client = FakeClient(behave)
    with pytest.raises(IncompleteError, match="the scheduler no longer answers"):
        run(task, client)


def test_stopping_takes_back_what_waits(task, monkeypatch):
    monkeypatch.setattr(dispatch, "GRACE_S", 0.1)
    client = FakeClient(lambda key, parts: Lost(key, None))
    run(task, client, stop=lambda: True)
    assert len(client.cancelled) == sum(client.sizes) == dispatch.WINDOW_FROM


def test_ranges():
    assert ranges([]) == ""
    assert ranges([3]) == "3"
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert ranges(range(0, 100, 2), limit=3) == "0, 2, 4, ..."
