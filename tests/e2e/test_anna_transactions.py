"""Transactions of a sidecar whose store is Anna."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import aft
import pytest
from aft._wire import anna_pb2

from anna import Reader
from daemon import Daemon, until
from wire import ABORTED, COMMITTED, RUNNING, Raw


def test_a_transaction_reads_its_own_writes_and_others_only_what_is_committed(
    executor: Raw, prefix: str
) -> None:
    a, b = prefix + "a", prefix + "b"
    tid, other = executor.start().id, executor.start().id
    executor.put({a: b"1"}, tid)
    assert executor.get([a, b], tid) == {a: b"1", b: None}
    executor.put({a: b"2", b: b"3"}, tid)
    assert executor.get([a, b], tid) == {a: b"2", b: b"3"}
    assert executor.get([a, b], other) == {a: None, b: None}
    assert executor.get([a, b]) == {a: None, b: None}
    assert executor.commit(tid).status == COMMITTED
    assert executor.get([a, b]) == {a: b"2", b: b"3"}
    # Who has been told that both are missing sees one appear only with the other.
    assert executor.get(a, other) == {a: None}
    assert executor.get([a, b], other) == {a: b"2", b: b"3"}


def test_reads_in_a_transaction_are_repeatable(executor: Raw, prefix: str) -> None:
    a, b = prefix + "a", prefix + "b"
    executor.write({a: b"old", b: b"old"})
    tid = executor.start().id
    assert executor.get(a, tid) == {a: b"old"}
    executor.write({a: b"new", b: b"new"})
    assert executor.get([a, b], tid) == {a: b"old", b: b"old"}
    assert executor.commit(tid).status == COMMITTED
    assert executor.get([a, b]) == {a: b"new", b: b"new"}


def test_nothing_of_an_aborted_transaction_is_seen(executor: Raw, store: Reader, prefix: str) -> None:
    a, b = prefix + "a", prefix + "b"
    executor.write({a: b"kept"})
    tid = executor.start().id
    executor.put({a: b"doomed", b: b"doomed"}, tid)
    assert executor.abort(tid).status == ABORTED
    assert executor.commit(tid).status == ABORTED
    assert executor.get([a, b]) == {a: b"kept", b: None}
    executor.write({prefix + "after": b"v"})
    until(lambda: store.published(prefix + "after"))
    assert store.published(a) == b"kept"
    assert store.published(b) is None


def test_an_id_has_one_outcome(executor: Raw, prefix: str) -> None:
    key, base = prefix + "k", prefix + "order"
    first = executor.write({key: b"first"}, base)
    for _ in range(3):
        assert executor.commit(first).status == COMMITTED
        assert executor.commit(base).status == COMMITTED
        assert executor.abort(base).status == COMMITTED
        again = executor.start(base)
        assert again.status == COMMITTED
    assert executor.get(key) == {key: b"first"}
    given_up = executor.start(prefix + "given-up").id
    executor.put({key: b"given up"}, given_up)
    retried = executor.start(prefix + "given-up").id
    assert executor.commit(given_up).status == RUNNING, "its id is open: another attempt runs"
    executor.put({key: b"retried"}, retried)
    assert executor.commit(retried).status == COMMITTED
    assert executor.commit(given_up).status == COMMITTED
    assert executor.get(key) == {key: b"retried"}


def test_an_id_that_never_was_is_settled_when_asked_for(executor: Raw, prefix: str) -> None:
    assert executor.commit(prefix + "never").status == ABORTED
    assert executor.start(prefix + "never").status == ABORTED, "and it stays so"


@pytest.mark.parametrize("size", [16 << 10, 1 << 20, 8 << 20])
def test_large_values(serve: Callable[..., Daemon], store: Reader, prefix: str, size: int) -> None:
    values = {f"{prefix}{number}": os.urandom(size) for number in range(2)}
    values[prefix + "small"] = b"beside"
    daemon = serve()
    with Raw(daemon.ipc) as raw:
        raw.write(values)
        assert raw.get(list(values)) == values
        store.until_published(values)
    assert daemon.terminate() == 0
    with Raw(serve().ipc) as raw:
        assert raw.get(list(values)) == values, "from the store, not from a cache"


def test_values_and_keys_come_back_as_they_were(
    serve: Callable[..., Daemon], store: Reader, prefix: str
) -> None:
    values = {
        prefix + "empty": b"",
        prefix + "zero": b"\0",
        prefix + "like/a/path": b"1",
        prefix + "///": b"2",
        prefix + "ключ\n~ \U0001f511": b"3",
        prefix.ljust(16 << 10, "a"): b"4",
        prefix + "like a value": anna_pb2.LWWValue(timestamp=9, value=b"in").SerializeToString(),
        "data/" + prefix + "/1/2": b"5",
        "transactions/" + prefix: b"6",
        "Transactions" + prefix: b"7",
    }
    daemon = serve()
    with Raw(daemon.ipc) as raw:
        raw.write(values)
        assert raw.get(list(values)) == values
    assert daemon.terminate() == 0
    with Raw(serve().ipc) as raw:
        assert raw.get(list(values)) == values
        store.until_published(values)


def test_the_longest_key(executor: Raw, store: Reader, prefix: str) -> None:
    key = prefix.ljust(32 << 10, "a")
    executor.write({key: b"v", prefix + "other": b"w"})
    assert executor.get(key) == {key: b"v"}
    store.until_published({key: b"v", prefix + "other": b"w"})


def test_two_thousand_keys_in_one_transaction(serve: Callable[..., Daemon], prefix: str) -> None:
    values = {f"{prefix}{number}": b"%d" % number for number in range(2_000)}
    daemon = serve()
    with Raw(daemon.ipc) as raw:
        raw.write(values)
        assert raw.get(list(values)) == values
    assert daemon.terminate() == 0
    with Raw(serve().ipc) as raw:
        assert raw.get(list(values)) == values


def test_the_python_client(sidecar: Daemon, prefix: str) -> None:
    with aft.Client(sidecar.ipc) as client:
        with client.transaction() as txn:
            txn.put(prefix + "a", b"1")
            txn.put_many({prefix + "b": b"2", prefix + "c": b""})
            assert txn.get(prefix + "a") == b"1"
        wanted = {prefix + "a": b"1", prefix + "b": b"2", prefix + "c": b"", prefix + "d": None}
        assert client.get_many(list(wanted)) == wanted
        identity = aft.new_id()
        for _ in range(2):
            assert client.run(lambda txn: txn.put(prefix + "a", b"9"), id=identity).id == identity
        assert client.get(prefix + "a") == b"9"


def test_a_get_of_many_keys_is_of_one_moment(sidecar: Daemon, prefix: str) -> None:
    keys = [f"{prefix}{number}" for number in range(6)]
    stop = threading.Event()

    def write(writer: int) -> None:
        with Raw(sidecar.ipc) as raw:
            number = 0
            while not stop.is_set():
                raw.write(dict.fromkeys(keys, b"%d:%d" % (writer, number)))
                number += 1

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    with Raw(sidecar.ipc) as raw:
        raw.write(dict.fromkeys(keys, b"first"))
        for thread in writers:
            thread.start()
        try:
            seen: set[bytes | None] = set()
            deadline = time.monotonic() + 30
            while len(seen) < 50:
                assert time.monotonic() < deadline, f"only {len(seen)} states were seen"
                values = set(raw.get(keys).values())
                tid = raw.start().id
                one_by_one = {raw.get(key, tid)[key] for key in keys}
                assert len(values) == len(one_by_one) == 1
                seen |= values
        finally:
            stop.set()
            for thread in writers:
                thread.join()
