"""What Cloudburst's programs, which know nothing of sidecars, find in Anna, and what they put there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from aft._wire import anna_pb2

from anna import IP, Reader, Server, ours
from daemon import Daemon, until
from wire import ABORTED, COMMITTED, Raw


def test_a_committed_value_is_found_under_its_plain_name(
    executor: Raw, store: Reader, prefix: str
) -> None:
    a, b = prefix + "a", prefix + "b"
    before = time.time_ns()
    tid = executor.write({a: b"1", b: b""})
    pair = until(lambda: store.pair(a))
    assert (pair.key, pair.value, pair.tid) == (a, b"1", tid)
    assert before - 10**9 < pair.timestamp < time.time_ns() + 10**9
    other = until(lambda: store.pair(b))
    assert (other.value, other.timestamp, other.mark) == (b"", pair.timestamp, pair.mark)
    assert executor.payloads([a])[a].timestamp == pair.timestamp


def test_the_plain_name_of_a_key_never_goes_back(sidecar: Daemon, store: Reader, prefix: str) -> None:
    key, count = prefix + "k", 60
    last: dict[int, bytes] = {}

    def write(writer: int) -> None:
        with Raw(sidecar.ipc) as raw:
            for number in range(count):
                raw.write({key: b"%d:%d" % (writer, number)})
            last[writer] = raw.payloads([key])[key].value

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(2)]
    for thread in writers:
        thread.start()
    seen = [0]
    while any(thread.is_alive() for thread in writers):
        pair = store.pair(key)
        seen.append(pair.timestamp if pair else 0)
    for thread in writers:
        thread.join()
    assert seen == sorted(seen)
    assert len(last) == 2
    with Raw(sidecar.ipc) as raw:
        newest = raw.payloads([key])[key]
    until(lambda: store.published(key) == newest.value)
    pair = store.pair(key)
    assert pair
    assert pair.timestamp == newest.timestamp


def test_nothing_is_published_before_the_commit(executor: Raw, store: Reader, prefix: str) -> None:
    key = prefix + "k"
    tid = executor.start().id
    executor.put({key: b"not yet", prefix + "large": bytes(2 << 20)}, tid)
    executor.write({prefix + "other": b"v"})
    until(lambda: store.published(prefix + "other"))
    assert store.get(key).error == anna_pb2.KEY_DNE
    assert store.get(prefix + "large").error == anna_pb2.KEY_DNE
    assert executor.commit(tid).status == COMMITTED
    assert until(lambda: store.published(key)) == b"not yet"


def test_prefixes_that_are_not_published(
    serve: Callable[..., Daemon], store: Reader, prefix: str
) -> None:
    daemon = serve("--anna-unpublished", f"{prefix}secret/,{prefix}tmp")
    values = {prefix + "secret/a": b"1", prefix + "tmp": b"2", prefix + "tmpfile": b"3"}
    shown = {prefix + "secret": b"4", prefix + "tm": b"5", "x" + prefix + "tmp": b"6"}
    with Raw(daemon.ipc) as raw:
        raw.write(values | shown)
        assert raw.get([*values, *shown]) == values | shown
        store.until_published(shown)
    assert daemon.terminate() == 0
    for key in values:
        assert store.get(key).error == anna_pb2.KEY_DNE
    with Raw(serve().ipc) as raw:
        assert raw.get(list(values)) == values


def test_names_of_ours_and_of_annas_are_not_touched(executor: Raw, store: Reader, prefix: str) -> None:
    nodes = store.elements("aft~nodes")
    assert nodes
    foreign = f"ANNA_METADATA|{prefix}"
    store.put_object(foreign, b"Anna's own")
    values = {
        "aft~nodes": b"1",
        f"aft~{prefix}": b"2",
        foreign: b"3",
        f"ANNA_METADATA{prefix}": b"4",
        prefix + "plain": b"5",
    }
    store.put_object(f"aft~{prefix}foreign", b"v")
    assert executor.get([f"aft~{prefix}foreign"]) == {f"aft~{prefix}foreign": None}
    executor.write(values)
    assert executor.get(list(values)) == values
    until(lambda: store.published(prefix + "plain"))
    assert store.elements("aft~nodes") == nodes
    value = store.lww(foreign)
    assert value
    assert value.value == b"Anna's own"
    assert store.get(f"aft~{prefix}").error == anna_pb2.KEY_DNE
    assert store.get(f"ANNA_METADATA{prefix}").error == anna_pb2.KEY_DNE


def test_a_spinning_get_finds_what_others_put(executor: Raw, store: Reader, prefix: str) -> None:
    key, later = prefix + "object", prefix + "later"
    tid = executor.start().id
    response = executor.get_response([key], tid)
    assert [(item.error, item.lattice_type) for item in response.tuples] == [
        (anna_pb2.KEY_DNE, anna_pb2.NONE)
    ]
    store.put_lww(key, 17, b"from outside")
    asked = time.monotonic()
    assert until(lambda: executor.get(key, tid)[key]) == b"from outside"
    assert time.monotonic() - asked < 2
    for _ in range(3):
        assert executor.get([key, later], tid) == {key: b"from outside", later: None}
    assert executor.payloads([key], tid)[key].timestamp == 17
    assert executor.commit(tid).status == COMMITTED
    assert executor.get(key) == {key: b"from outside"}
    # A commit is newer than whatever others put.
    executor.write({key: b"committed"})
    assert executor.get(key) == {key: b"committed"}
    until(lambda: store.published(key) == b"committed")
    store.put_object(key, b"too late")
    assert executor.get(key) == {key: b"committed"}


def test_what_others_change_is_never_read_as_two_values_in_one_transaction(
    executor: Raw, store: Reader, prefix: str
) -> None:
    key = prefix + "object"
    store.put_lww(key, 10, b"1")
    tid = executor.start().id
    assert executor.get(key, tid) == {key: b"1"}
    store.put_lww(key, 11, b"2")
    response = executor.get_response([key], tid)
    if response.tuples[0].error:
        assert response.tuples[0].lattice_type == anna_pb2.NONE
        assert "changed" in response.detail
        assert executor.commit(tid).status == ABORTED
    else:
        assert executor.get(key, tid) == {key: b"1"}
    assert until(lambda: executor.get(key)[key] == b"2")


@ours
def test_spinning_on_a_missing_key_is_cheap_for_the_store(
    executor: Raw, server: Server, prefix: str
) -> None:
    tid = executor.start().id
    before, begun, spins = server.requests(), time.monotonic(), 0
    while time.monotonic() < begun + 1:
        assert executor.get(prefix + "missing", tid) == {prefix + "missing": None}
        spins += 1
    asked = server.requests() - before
    assert spins > 200
    # Once in 20 ms, and what the sidecar does in the background.
    assert asked < 120, f"{asked} requests for {spins} gets"


def test_what_is_cached_is_told_to_the_scheduler(
    serve: Callable[..., Daemon], store: Reader, prefix: str
) -> None:
    daemon = serve("--anna-cache-report", "0.1")

    def cached() -> set[str]:
        value = store.lww(f"ANNA_METADATA|cache_ip|{IP}")
        return set(anna_pb2.StringSet.FromString(value.value).keys) if value else set()

    store.put_object(prefix + "foreign", b"v")
    with Raw(daemon.ipc) as raw:
        raw.write({prefix + "a": b"1", prefix + "b": b"2", f"aft~{prefix}": b"3"})
        raw.get([prefix + "a", prefix + "b", prefix + "missing"])
        ours = {prefix + "a", prefix + "b"}
        until(lambda: ours <= cached())
        assert not {f"aft~{prefix}", prefix + "missing"} & cached()
        raw.write({prefix + "c": b"3"})
        until(lambda: prefix + "c" in cached())
