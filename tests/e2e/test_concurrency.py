"""Reads among many commits: all of a commit is seen, or nothing of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon import Daemon
from wire import ABORTED, COMMITTED, Failed, Raw

KEYS = [f"group/{number}" for number in range(5)]
OTHERS = [f"other/{number}" for number in range(5)]


@contextmanager
def writers(ipc: Path, count: int) -> Iterator[list[int]]:
    """Clients that write all keys of a group together, again and again. Counts their commits."""
    stop = threading.Event()
    commits = [0] * count

    def write(writer: int) -> None:
        with Raw(ipc) as raw:
            while not stop.is_set():
                value = f"{writer}:{commits[writer]}".encode()
                tid = raw.start().id
                for key in KEYS if commits[writer] % 2 else reversed(KEYS):
                    raw.put({key: value}, tid)
                raw.put(dict.fromkeys(OTHERS, value), tid)
                assert raw.commit(tid).status == COMMITTED
                commits[writer] += 1

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield commits
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture(params=["memory", "embedded"])
def busy(start: Callable[..., Daemon], request: pytest.FixtureRequest) -> Iterator[Raw]:
    daemon = start("--storage", request.param)
    with Raw(daemon.ipc) as raw:
        raw.put(dict.fromkeys([*KEYS, *OTHERS], b"first"))
        with writers(daemon.ipc, 3):
            yield raw


def until_much_was_seen(look: Callable[[int], set[bytes | None]]) -> None:
    """Looks again and again; each time all keys must have one value, and in all there must be many."""
    seen: set[bytes | None] = set()
    deadline = time.monotonic() + 30
    number = 0
    while number < 150 or len(seen) < 30:
        assert time.monotonic() < deadline, f"only {len(seen)} states were seen"
        values = look(number)
        assert len(values) <= 1, values
        seen |= values
        number += 1


def test_several_keys_in_one_request_are_of_one_moment(busy: Raw) -> None:
    until_much_was_seen(lambda _: set(busy.get([*KEYS, *OTHERS]).values()))


def test_several_keys_one_after_the_other_fit_together(busy: Raw) -> None:
    def look(number: int) -> set[bytes | None]:
        tid = busy.start().id
        try:
            values = {busy.get(key, tid)[key] for key in (KEYS if number % 2 else reversed(KEYS))}
            # And what was read once does not change.
            values |= set(busy.get(OTHERS, tid).values())
            values |= set(busy.get(KEYS, tid).values())
        except Failed:
            return set()
        assert busy.commit(tid).status == COMMITTED
        return values

    until_much_was_seen(look)


def test_nothing_of_an_abort_is_seen(busy: Raw) -> None:
    with Raw(busy.directory) as doomed:
        for number in range(100):
            tid = doomed.start().id
            doomed.put({KEYS[0]: b"doomed", f"doomed/{number}": b"v"}, tid)
            assert busy.get(KEYS[0])[KEYS[0]] != b"doomed"
            assert doomed.abort(tid).status == ABORTED
            assert busy.get([KEYS[0], f"doomed/{number}"])[KEYS[0]] != b"doomed"
            assert busy.get(f"doomed/{number}") == {f"doomed/{number}": None}
