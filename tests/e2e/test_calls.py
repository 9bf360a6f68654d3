"""The socket on which requests of all kinds are answered on the connection by which they came."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest
import zmq
from aft._wire import aft_pb2 as aft
from aft._wire import anna_pb2 as anna

from daemon import Daemon, until
from wire import COMMITTED, KINDS, Calling, Raw, response, tag

MIB = 1 << 20
CLIENTS = 1500


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Calling]:
    client = Calling(daemon.ipc)
    with client:
        yield client


def test_both_ways_lead_to_the_same_transactions(daemon: Daemon, raw: Calling) -> None:
    with Raw(daemon.ipc) as addressed:
        tid = raw.start().id
        addressed.put({"k": b"v"}, tid)
        assert raw.get("k", tid) == {"k": b"v"}
        assert addressed.commit(tid).status == COMMITTED
        assert raw.commit(tid).status == COMMITTED


def test_answers_come_as_they_are_found(raw: Calling) -> None:
    numbers = range(500)
    for number in numbers:
        request = anna.KeyRequest(request_id=str(number))
        request.tuples.add(key=f"k{number}")
        raw.send("get", request.SerializeToString())
    found = {response(raw.receive("get")).response_id for _ in numbers}
    assert found == {str(number) for number in numbers}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_has_a_kind_is_answered(daemon: Daemon, raw: Calling, kind: str) -> None:
    dice = random.Random(kind)
    messages = [b"\0", b"~", b"\xff" * 100, bytes(100_000), f"ipc://{daemon.ipc}/{kind}".encode()]
    messages += [b"\xff" + dice.randbytes(dice.randrange(1, 200)) for _ in range(300)]
    for message in messages:
        raw.send(kind, message)
    for _ in messages:
        raw.receive(kind)
    assert daemon.counter("aft_bad_requests_total") == len(messages)
    assert raw.start().id


def test_a_reply_address_is_not_asked_for(daemon: Daemon, raw: Calling) -> None:
    wrong = f"ipc://{daemon.ipc}/get_0"
    answer = response(raw.call("get", anna.KeyRequest(response_address=wrong).SerializeToString()))
    assert answer.error == anna.INVALID
    assert "leave it empty" in answer.detail
    commit = aft.CommitRequest(tid="some-id", responseAddress=wrong)
    assert "leave it empty" in tag(raw.call("commit", commit.SerializeToString())).detail
    assert "leave it empty" in tag(raw.call("start", wrong.encode())).detail
    assert "leave it empty" in tag(raw.call("abort", b"some-id~" + wrong.encode())).detail


def test_messages_of_no_kind_are_counted(daemon: Daemon, raw: Calling) -> None:
    for frames in ([b""], [b"get"], [b"", b"x"], [b"GET", b"x"], [b"\xff" * 1000, b"x"], [b"call", b""]):
        raw.dealer.send_multipart(frames)
    until(lambda: daemon.counter("aft_bad_requests_total") == 6)
    assert "is no kind of request" in daemon.logged()
    raw.dealer.send_multipart([b"start", b"", b"more", b"and more"])
    assert tag(raw.receive("start")).id
    assert not raw.dealer.poll(100)


@pytest.mark.parametrize("type_", [zmq.REQ, zmq.PUSH, zmq.SUB, zmq.PAIR, zmq.ROUTER])
def test_sockets_of_other_types(daemon: Daemon, raw: Calling, type_: int) -> None:
    other = raw.context.socket(type_)
    other.linger = 0
    other.connect(f"ipc://{daemon.ipc}/call")
    if type_ == zmq.REQ:
        other.send_multipart([b"start", b""])
    assert raw.start().id


def test_a_client_that_stops_reading_costs_little(daemon: Daemon, raw: Calling) -> None:
    raw.put({"large": bytes(4 * MIB)})
    before = daemon.rss_bytes()
    lazy = raw.context.socket(zmq.DEALER)
    lazy.rcvhwm = 1
    lazy.connect(f"ipc://{daemon.ipc}/call")
    request = anna.KeyRequest()
    request.tuples.add(key="large")
    for _ in range(500):
        lazy.send_multipart([b"get", request.SerializeToString()])
    until(lambda: daemon.counter("aft_replies_dropped_total") > 100)
    assert raw.get("large")["large"] == bytes(4 * MIB), "others are served"
    # 2 GB of answers were asked for. 64 MiB of them may wait, and 64 messages in libzmq.
    assert daemon.rss_bytes() - before < 500 * MIB
    until(lambda: daemon.status()["sockets"]["reply_bytes_queued"] == 0)


def test_more_clients_than_libzmq_has_sockets(daemon: Daemon, raw: Calling) -> None:
    contexts, clients = [zmq.Context() for _ in range(CLIENTS // 500)], []
    try:
        for number in range(CLIENTS):
            socket = contexts[number % len(contexts)].socket(zmq.DEALER)
            socket.linger = 0
            socket.connect(f"ipc://{daemon.ipc}/call")
            clients.append(socket)
            socket.send_multipart([b"start", b""])
        ids = set()
        for socket in clients:
            assert socket.poll(12_000)
            ids.add(tag(socket.recv()).id)
        assert len(ids) == CLIENTS
        assert daemon.status()["sockets"]["reply_sockets"] == 0, "none is opened for them"
    finally:
        for context in contexts:
            context.destroy(linger=0)


def test_whoever_waits_is_answered_before_the_end(start: Callable[..., Daemon]) -> None:
    daemon = start()
    with Calling(daemon.ipc) as raw:
        tid = raw.start().id
        raw.put({"k": b"v"}, tid)
        raw.send("commit", raw.commit_request(tid))
        until(lambda: daemon.status()["node"]["transactions"] == 0)
        began = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - began < 5
        assert tag(raw.receive("commit")).status == COMMITTED
