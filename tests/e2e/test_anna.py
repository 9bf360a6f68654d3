"""The sidecar on Anna: what is promised holds there too, and others find the results in the store."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import aft
import pytest
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna
from google.protobuf.message import Message

from anna import EXTERNAL, Reader, Server, storage
from daemon import Daemon, until
from wire import ABORTED, COMMITTED, Raw, response

ours = pytest.mark.skipif(bool(EXTERNAL), reason="needs a store that can be told to misbehave")


@pytest.fixture
def server(place: Path) -> Iterator[Server]:
    server = Server(place / "anna")
    yield server
    server.kill()


@pytest.fixture
def store(server: Server) -> Iterator[Reader]:
    reader = Reader(server.routing)
    yield reader
    reader.close()


@pytest.fixture
def offset() -> str:
    """Makes the node's name this test's own on an Anna that others use."""
    return str(os.getpid() % 600 * 100 + next(_offsets))


_offsets = iter(range(100))


@pytest.fixture
def sidecar(server: Server, start: Callable[..., Daemon], offset: str) -> Daemon:
    return start(*storage(server, "--port-offset", offset, "--anna-lands-within", "1"))


@pytest.fixture
def client(sidecar: Daemon) -> Iterator[aft.Client]:
    with aft.Client(sidecar.ipc) as client:
        yield client


def fresh(name: str) -> str:
    return f"{name}/{uuid.uuid4()}"


def pair_of(stored: anna.LWWValue | None) -> wire.KeyValuePair:
    assert stored
    pair: wire.KeyValuePair = wire.KeyValuePair.FromString(stored.value)
    return pair


def merge_request(raw: Raw, key: str, kind: int, payload: bytes) -> anna.KeyRequest:
    request = raw.request("put", None)
    request.tuples.add(key=key, lattice_type=kind, payload=payload)
    return request


def put_raw(raw: Raw, request: anna.KeyRequest) -> anna.KeyResponse:
    return response(raw.call("put", request.SerializeToString()))


def test_a_transaction_is_read_back(client: aft.Client) -> None:
    keys = [fresh("a/b"), fresh("ключ"), fresh("k" * 300)]
    values = [b"", b"small", os.urandom(3 << 20)]
    with client.transaction() as txn:
        for key, value in zip(keys, values, strict=True):
            txn.put(key, value)
        assert txn.get(keys[2]) == values[2]
    with client.transaction() as txn:
        assert txn.get_many(keys) == dict(zip(keys, values, strict=True))


def test_results_stand_under_their_plain_names_after_the_commit(
    client: aft.Client, store: Reader
) -> None:
    key, hidden = fresh("result"), fresh("funcs:f")
    transaction = client.transaction()
    with transaction as txn:
        txn.put(key, b"value")
        txn.put(hidden, b"function")
        assert store.lww(key) is None
    until(lambda: store.lww(key))
    stored = store.lww(key)
    pair = pair_of(stored)
    assert stored
    assert (pair.key, pair.value, pair.timestamp) == (key, b"value", stored.timestamp)
    assert store.lww(hidden) is None
    assert client.get(hidden) == b"function"


def write_and_fail(client: aft.Client, key: str) -> None:
    with client.transaction() as txn:
        txn.put(key, b"value")
        raise ZeroDivisionError


def test_nothing_stands_there_after_an_abort(client: aft.Client, store: Reader) -> None:
    key, after = fresh("aborted"), fresh("after")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(client, key)
    client.put(after, b"value")
    until(lambda: store.lww(after))
    assert store.lww(key) is None


def test_the_plain_name_never_goes_back(client: aft.Client, store: Reader) -> None:
    key = fresh("contended")
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            client.put(key, str(number).encode())
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        stored = store.lww(key)
        if stored:
            seen.append((stored.timestamp, int(pair_of(stored).value)))
    writer.join()
    assert seen == sorted(seen)
    until(lambda: pair_of(store.lww(key)).value == b"99")


def test_values_of_others_are_found(sidecar: Daemon, store: Reader) -> None:
    key = fresh("object")
    with Raw(sidecar.ipc) as raw:
        tid = raw.start().id
        assert raw.get(key, tid) == {key: None}
        store.put_lww(key, 17, b"by others")
        until(lambda: raw.get(key, tid)[key] == b"by others")
        assert raw.get(key, tid) == {key: b"by others"}
        assert raw.commit(tid).status == COMMITTED


def test_cached_keys_are_reported(
    server: Server, start: Callable[..., Daemon], store: Reader, offset: str
) -> None:
    more = ("--port-offset", offset, "--anna-cache-report", "0.1")
    daemon = start(*storage(server, *more))
    key = fresh("cached")
    with aft.Client(daemon.ipc) as client:
        client.put(key, b"value")
        name = f"ANNA_METADATA|cache_ip|{os.environ.get('AFT_TEST_IP', '127.0.0.1')}"

        def reported() -> bool:
            stored = store.lww(name)
            return bool(stored) and key in anna.StringSet.FromString(stored.value).keys  # type: ignore[union-attr]

        until(reported)
        # Cloudburst's scheduler reads it through the sidecar.
        assert client.get(name)


@pytest.mark.parametrize("kind", [anna.SET, anna.ORDERED_SET])
def test_sets_merge_in_the_store(sidecar: Daemon, kind: int) -> None:
    key = fresh("set")
    with Raw(sidecar.ipc) as raw:
        for element in (b"b", b"a", b"b"):
            payload = anna.SetValue(values=[element]).SerializeToString()
            answer = put_raw(raw, merge_request(raw, key, kind, payload))
            assert [(i.key, i.error) for i in answer.tuples] == [(key, anna.NO_ERROR)]
        (found,) = raw.get_response([key]).tuples
        assert found.lattice_type == kind
        assert sorted(anna.SetValue.FromString(found.payload).values) == [b"a", b"b"]
        # In a transaction neither is possible.
        tid = raw.start().id
        assert raw.get_response([key], tid).tuples[0].lattice_type == anna.NONE
        request = merge_request(raw, key, kind, payload)
        request.tuples.add(key="TRANSACTION_ID", payload=tid.encode())
        answer = put_raw(raw, request)
        assert [i.error for i in answer.tuples] == [anna.LATTICE]
        assert raw.commit(tid).status == COMMITTED


def merged(raw: Raw, kind: int, *values: Message) -> bytes:
    """What a key holds after these values were written."""
    key = fresh("merged")
    for value in values:
        answer = put_raw(raw, merge_request(raw, key, kind, value.SerializeToString()))
        assert answer.tuples[0].error == anna.NO_ERROR
    (found,) = raw.get_response([key]).tuples
    assert found.lattice_type == kind
    return bytes(found.payload)


def test_priorities_and_causal_values_merge_in_the_store(sidecar: Daemon) -> None:
    low = anna.PriorityValue(priority=1, value=b"low")
    high = anna.PriorityValue(priority=9, value=b"high")
    old = anna.SingleKeyCausalValue(vector_clock={"a": 1}, values=[b"old"])
    new = anna.SingleKeyCausalValue(vector_clock={"a": 2}, values=[b"new"])
    with Raw(sidecar.ipc) as raw:
        found = merged(raw, anna.PRIORITY, low, high)
        assert anna.PriorityValue.FromString(found).value == b"low"
        found = merged(raw, anna.SINGLE_CAUSAL, new, old)
        assert list(anna.SingleKeyCausalValue.FromString(found).values) == [b"new"]


def test_what_the_store_does_not_take_is_an_error(sidecar: Daemon, store: Reader) -> None:
    key = fresh("lww")
    store.put_lww(key, 5, b"value")
    with Raw(sidecar.ipc) as raw:
        payload = anna.SetValue(values=[b"x"]).SerializeToString()
        answer = put_raw(raw, merge_request(raw, key, anna.SET, payload))
        assert answer.tuples[0].error != anna.NO_ERROR
        assert "type" in answer.detail
        for bad in (
            merge_request(raw, key, anna.SET, b"\xff\xff"),
            merge_request(raw, key, 99, payload),
            merge_request(raw, "", anna.SET, payload),
        ):
            assert put_raw(raw, bad).tuples[0].error != anna.NO_ERROR
    found = store.lww(key)
    assert found
    assert found.value == b"value"


def test_reserved_names_are_kept_from_the_store(client: aft.Client, store: Reader) -> None:
    nodes = store.get("aft~nodes")
    assert nodes.lattice_type == anna.SET
    theirs = f"ANNA_METADATA|{uuid.uuid4()}"
    for key in ("aft~nodes", f"aft~o~{uuid.uuid4()}", theirs):
        client.put(key, b"mine")
        assert client.get(key) == b"mine"
    after = fresh("after")
    client.put(after, b"value")
    until(lambda: store.lww(after))
    assert store.get("aft~nodes").lattice_type == anna.SET
    assert store.lww(theirs) is None


def test_a_restart_keeps_what_was_committed_and_its_outcomes(
    server: Server, start: Callable[..., Daemon], offset: str
) -> None:
    options = storage(server, "--port-offset", offset, "--anna-lands-within", "1")
    first = start(*options)
    key, base = fresh("kept"), f"id-{uuid.uuid4()}"
    with Raw(first.ipc) as raw:
        tid = raw.start(base).id
        raw.put({key: b"value"}, tid)
        assert raw.commit(tid).status == COMMITTED
    first.kill()
    again = start(*options)
    with Raw(again.ipc) as raw:
        assert raw.get(key) == {key: b"value"}
        # What the dead one sent may still land: until then "ask again", afterwards the truth.
        until(lambda: raw.start(base).status == COMMITTED)
        unknown = f"id-{uuid.uuid4()}"
        until(lambda: raw.commit(unknown).status == ABORTED)
        # The dead one's log is taken over, so that the next start need not think of it.
        until(lambda: again.status()["store"]["logs_to_take_over"] == 0)
    assert again.terminate() == 0
    third = start(*options)
    with Raw(third.ipc) as raw:
        assert raw.start(base).status == COMMITTED, "after an orderly end nothing is waited for"
        assert raw.get(key) == {key: b"value"}


def transfer(client: aft.Client, account: str, marker: str) -> None:
    """Writes a pair that must always be seen equal, and a key that says that it was done."""

    def write(txn: aft.Transaction) -> None:
        txn.put(f"x/{account}", marker.encode())
        txn.put(f"y/{account}", marker.encode())
        txn.put(f"m{marker}", b"done")

    client.run(write)


def work_until(stop: threading.Event, ipc: Path, account: str, told: list[str]) -> None:
    with aft.Client(ipc) as client:
        for count in range(1_000_000):
            if stop.is_set():
                return
            marker = f"{account}-{count}"
            try:
                transfer(client, account, marker)
            except aft.AftError:
                continue
            told.append(marker)


def read_until(
    stop: threading.Event, ipc: Path, account: str, fractures: list[object], reads: list[int]
) -> None:
    with aft.Client(ipc) as client:
        while not stop.is_set():
            try:
                with client.transaction() as txn:
                    x, y = txn.get(f"x/{account}"), txn.get(f"y/{account}")
            except aft.AftError:
                continue
            reads.append(1)
            if x != y:
                fractures.append((x, y))


class Load:
    """Writers and a reader, as long as the block lasts."""

    def __init__(self, ipc: Path, writers: int = 3) -> None:
        self.stop = threading.Event()
        self.told: list[str] = []
        self.fractures: list[object] = []
        self.reads: list[int] = []
        accounts = [str(uuid.uuid4()) for _ in range(writers)]
        work = [(work_until, (self.stop, ipc, account, self.told)) for account in accounts]
        read = (read_until, (self.stop, ipc, accounts[0], self.fractures, self.reads))
        self.threads = [threading.Thread(target=f, args=a) for f, a in [*work, read]]  # type: ignore[arg-type]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def progress(self, count: int) -> None:
        goal = len(self.told) + count
        until(lambda: len(self.told) >= goal and self.reads, 60)

    def check(self, client: aft.Client) -> None:
        assert self.fractures == []
        lost = [marker for marker in self.told if client.get(f"m{marker}") != b"done"]
        assert lost == []


@ours
def test_faults_of_the_store_do_not_show(server: Server, sidecar: Daemon) -> None:
    server.misbehave(
        drop_requests=0.05, drop_replies=0.05, delay_ms=[0, 10], twice=0.1, reorder=0.1, seed=1
    )
    with Load(sidecar.ipc) as load:
        load.progress(30)
        server.misbehave(wrong_thread=0.2)
        load.progress(30)
        for turn in (1, 2, 1):
            server.post("/move", rotate=turn)
            load.progress(10)
        server.misbehave(no_servers=True, silent=True)
        server.misbehave()
        load.progress(10)
    with aft.Client(sidecar.ipc) as client:
        load.check(client)


@ours
def test_a_store_that_comes_back_is_used_again(server: Server, sidecar: Daemon) -> None:
    with Load(sidecar.ipc) as load:
        for _ in range(2):
            load.progress(20)
            server.kill()
            server.start()
        load.progress(20)
    with aft.Client(sidecar.ipc) as client:
        load.check(client)


@ours
def test_requests_are_answered_while_the_store_is_away(server: Server, sidecar: Daemon) -> None:
    with Raw(sidecar.ipc) as raw:
        tid = raw.start().id
        raw.put({"k": b"value"}, tid)
        server.kill()
        begun = time.monotonic()
        absent = raw.get_response(["nobody knows"], raw.start().id)
        assert time.monotonic() - begun < 5
        assert absent.tuples[0].lattice_type == anna.NONE
        assert absent.tuples[0].error not in (anna.NO_ERROR, anna.KEY_DNE)
        assert absent.detail
        outcome = raw.commit(tid)
        assert time.monotonic() - begun < 16
        assert outcome.status != COMMITTED
        assert outcome.detail
        server.start()
        if outcome.status == ABORTED:
            assert raw.commit(tid).status == ABORTED
        else:
            until(lambda: raw.commit(tid).status == COMMITTED)
        until(lambda: raw.put_response({"k2": b"value"}).tuples[0].error == anna.NO_ERROR)


def test_the_sidecar_dies_in_the_middle_of_commits(
    server: Server, start: Callable[..., Daemon], offset: str
) -> None:
    options = storage(server, "--port-offset", offset, "--anna-lands-within", "1")
    daemon = start(*options)
    with Load(daemon.ipc) as load:
        for _ in range(3):
            load.progress(30)
            daemon.kill()
            daemon = start(*options)
        load.progress(30)
    with aft.Client(daemon.ipc) as client:
        load.check(client)


@ours
def test_a_store_that_forgot_everything_hangs_nobody(server: Server, sidecar: Daemon) -> None:
    with Raw(sidecar.ipc) as raw:
        raw.put({"k": b"value"})
        server.post("/forget")
        answer = raw.put_response({"k2": b"value"})
        assert answer.tuples[0].error == anna.NO_ERROR
        assert raw.get("k2") == {"k2": b"value"}


@ours
def test_waiting_for_the_store_costs_nothing(server: Server, sidecar: Daemon) -> None:
    server.kill()

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{sidecar.process.pid}/stat").read_text().split()
        return int(fields[13]) + int(fields[14])

    with Raw(sidecar.ipc) as raw:
        before, begun = cpu_ticks(), time.monotonic()
        raw.get_response(["nobody knows"])
        share = (cpu_ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)
    assert share < 0.5


def test_two_sidecars_of_one_name_are_noticed(
    server: Server, sidecar: Daemon, start: Callable[..., Daemon], offset: str
) -> None:
    other = start(*storage(server, "--port-offset", offset), name="other")
    until(lambda: "goes by the name" in sidecar.logged())
    until(lambda: "goes by the name" in other.logged())


def test_a_store_that_is_not_there_is_waited_for(
    place: Path, start: Callable[..., Daemon], server: Server, offset: str
) -> None:
    if EXTERNAL:
        pytest.skip("needs a store that can be stopped")
    server.kill()
    daemon = Daemon(place, storage(server, "--port-offset", offset), {}, "early")
    try:
        until(lambda: "waiting for Anna" in daemon.logged())
        server.start()
        daemon.wait_until_ready()
        with aft.Client(daemon.ipc) as client:
            client.put("k", b"value")
    finally:
        daemon.kill()
