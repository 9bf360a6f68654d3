"""Two sidecars on one Anna that know of each other only what stands there."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from anna import IP, Reader, Server, storage
from daemon import Daemon, until
from ports import free_offset
from wire import COMMITTED, Failed, Raw

# They look for one another's commits each second.
SEEN_WITHIN_S = 2.5


class Pair:
    """Two sidecars, and the means to start each again."""

    def __init__(self, server: Server, start: Callable[..., Daemon]) -> None:
        self.server, self.start_one = server, start
        # Names that no other test has.
        self.offsets = {"one": free_offset(), "two": free_offset()}
        self.one, self.two = self.start("one"), self.start("two")

    def start(self, name: str) -> Daemon:
        more = ("--port-offset", self.offsets[name], "--anna-lands-within", "1")
        return self.start_one(*storage(self.server, *more), name=name)


@pytest.fixture
def pair(server: Server, start: Callable[..., Daemon]) -> Pair:
    return Pair(server, start)


def test_each_sees_what_the_other_commits(pair: Pair, prefix: str) -> None:
    keys = [f"{prefix}{number}" for number in range(5)]
    with Raw(pair.one.ipc) as one, Raw(pair.two.ipc) as two:
        for number, (writer, reader) in enumerate([(one, two), (two, one)] * 2):
            wanted: dict[str, bytes | None] = dict.fromkeys(keys, b"%d" % number)
            writer.write(dict.fromkeys(keys, b"%d" % number))
            begun = time.monotonic()
            until(lambda reader=reader, wanted=wanted: reader.get(keys) == wanted)  # type: ignore[misc]
            assert time.monotonic() - begun < SEEN_WITHIN_S
            # Whoever has read something commits something newer.
            assert writer.get(keys) == wanted
        assert one.start().address == f"{IP}:{pair.offsets['one']}"
        assert two.start().address == f"{IP}:{pair.offsets['two']}"


def test_large_values_and_many_keys(pair: Pair, prefix: str) -> None:
    values: dict[str, bytes] = {f"{prefix}{number}": b"%d" % number for number in range(1000)}
    values |= {prefix + "large": bytes(3 << 20), prefix + "empty": b""}
    with Raw(pair.one.ipc) as one, Raw(pair.two.ipc) as two:
        one.write(values)
        until(lambda: two.get(prefix + "empty") == {prefix + "empty": b""})
        assert two.get(list(values)) == values


def test_commits_of_the_other_are_seen_whole(pair: Pair, prefix: str) -> None:
    daemons = {"one": pair.one, "two": pair.two}
    keys = {name: [f"{prefix}{name}{number}" for number in range(5)] for name in daemons}
    for name, daemon in daemons.items():
        with Raw(daemon.ipc) as raw:
            raw.write(dict.fromkeys(keys[name], b"first"))
    for daemon in daemons.values():
        with Raw(daemon.ipc) as raw:
            until(lambda raw=raw: all(raw.get([*keys["one"], *keys["two"]]).values()))  # type: ignore[misc]
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            with Raw(daemons[name].ipc) as raw:
                for number in itertools.count():
                    if stop.is_set():
                        return
                    raw.write(dict.fromkeys(keys[name], b"%d" % number))
        except BaseException as failure:
            failures.append(failure)

    def watch(name: str, other: str) -> None:
        """Reads what the other writes."""
        seen: set[bytes | None] = set()
        deadline = time.monotonic() + 20
        try:
            with Raw(daemons[name].ipc) as raw:
                while len(seen) < 4:
                    assert time.monotonic() < deadline, f"{name} saw {seen}"
                    tid = raw.start().id
                    try:
                        values = {raw.get(key, tid)[key] for key in keys[other]}
                        values |= set(raw.get(keys[other], tid).values())
                    except Failed:
                        continue
                    assert len(values) == 1, values
                    assert raw.commit(tid).status == COMMITTED
                    seen |= values
        except BaseException as failure:
            failures.append(failure)

    writers = [threading.Thread(target=write, args=(name,)) for name in daemons]
    names = [("one", "two"), ("two", "one")]
    watchers = [threading.Thread(target=watch, args=both) for both in names]
    for thread in (*writers, *watchers):
        thread.start()
    for thread in watchers:
        thread.join()
    stop.set()
    for thread in writers:
        thread.join()
    assert not failures, failures


def test_the_plain_name_holds_the_newest_of_both(pair: Pair, store: Reader, prefix: str) -> None:
    key = prefix + "k"
    with Raw(pair.one.ipc) as one, Raw(pair.two.ipc) as two:
        for number in range(20):
            one.write({key: b"one %d" % number})
            two.write({key: b"two %d" % number})
        newest = {}

        def agree() -> bool:
            first, second = one.payloads([key])[key], two.payloads([key])[key]
            newest[key] = first.value
            return bool(first == second)

        until(agree)
        store.until_published(newest)


def test_one_dies_and_the_other_goes_on(pair: Pair, prefix: str) -> None:
    with Raw(pair.one.ipc) as one, Raw(pair.two.ipc) as two:
        for number in range(50):
            one.write({f"{prefix}{number}": b"v", prefix + "last": b"%d" % number})
        tids = [one.start().id for _ in range(10)]
        for number, tid in enumerate(tids):
            one.put({f"{prefix}open-{number}-{side}": b"v" for side in "ab"}, tid)
            one.push["commit"].send(one.commit_request(tid))
        pair.one.kill()
        until(lambda: two.get(prefix + "last") == {prefix + "last": b"49"})
        keys = [f"{prefix}{number}" for number in range(50)]
        assert two.get(keys) == dict.fromkeys(keys, b"v")
        two.write({prefix + "last": b"by two"})
    with Raw(pair.start("one").ipc) as one, Raw(pair.two.ipc) as two:
        until(lambda: one.get(prefix + "last") == {prefix + "last": b"by two"})
        for number, tid in enumerate(tids):
            ended = until(lambda tid=tid: one.commit(tid).status)  # type: ignore[misc]
            both = [f"{prefix}open-{number}-{side}" for side in "ab"]
            wanted = dict.fromkeys(both, b"v" if ended == COMMITTED else None)
            assert one.get(both) == wanted
            until(lambda both=both, wanted=wanted: two.get(both) == wanted)  # type: ignore[misc]
        # Its old log is cleared away behind it; the other still finds what comes after.
        one.write({prefix + "after": b"v"})
        until(lambda: two.get(prefix + "after") == {prefix + "after": b"v"})


def test_one_that_comes_later_knows_all(pair: Pair, prefix: str) -> None:
    values = {f"{prefix}{number}": b"%d" % number for number in range(100)}
    with Raw(pair.one.ipc) as one, Raw(pair.two.ipc) as two:
        for number, (key, value) in enumerate(values.items()):
            (one if number % 2 else two).write({key: value})
    pair.two.kill()
    with Raw(pair.start("two").ipc) as two:
        assert two.get(list(values)) == values, "before it says that it is ready"


def test_a_spinning_get_finds_what_the_other_commits(pair: Pair, prefix: str) -> None:
    """As Cloudburst waits for the result of a function that runs elsewhere."""
    key = prefix + "result"
    with Raw(pair.one.ipc) as one, Raw(pair.two.ipc) as two:
        tid = two.start().id
        assert two.get(key, tid) == {key: None}
        one.write({key: b"v"})
        begun = time.monotonic()
        until(lambda: two.get(key, tid)[key] == b"v")
        assert time.monotonic() - begun < SEEN_WITHIN_S
        assert two.commit(tid).status == COMMITTED


def test_two_of_one_name_are_noticed(
    serve: Callable[..., Daemon], server: Server, start: Callable[..., Daemon], offset: str
) -> None:
    both = [serve(), start(*storage(server, "--port-offset", offset), name="other")]
    for one in both:
        until(lambda one=one: "goes by the name" in one.logged())  # type: ignore[misc]
