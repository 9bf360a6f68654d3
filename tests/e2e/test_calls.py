"""The socket on which requests of all kinds are answered on the connection by which they came."""

from __future__ import annotations

import contextlib
import random
import struct
import time
from collections.abc import Callable, Iterator

import aft as aft_client
import pytest
from aft._wire import aft_pb2 as aft
from aft._wire import anna_pb2 as anna

from daemon import Daemon, until
from wire import COMMITTED, KINDS, Calling, Ended, Raw, lww, response, tag

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
    asked = {}
    for number in range(200):
        request = anna.KeyRequest(request_id=str(number))
        request.tuples.add(key=f"k{number}")
        raw.send("get", request.SerializeToString())
        asked[raw.number] = str(number)
    answers = [raw.receive_numbered() for _ in asked]
    assert {number: response(answer).response_id for number, answer in answers} == asked


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


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (struct.pack(">IIB", 5, 1, 0), "0 is no kind of request"),
        (struct.pack(">IIB", 5, 1, 7), "7 is no kind of request"),
        (struct.pack(">IIB", 6, 1, 255) + b"x", "255 is no kind of request"),
        (struct.pack(">I", 4), "announces a request of 4 bytes"),
        (struct.pack(">I", 0xFFFFFFFF), "announces a request of 4294967295 bytes"),
        (b"GET / HTTP/1.1\r\n", "announces a request of"),
        # What a socket of ZeroMQ says first.
        (b"\xff" + bytes(8) + b"\x7f", "announces a request of"),
    ],
)
def test_what_is_no_request_ends_the_connection(
    daemon: Daemon, raw: Calling, sent: bytes, why: str
) -> None:
    with Calling(daemon.ipc) as bad:
        bad.stream.sendall(sent)
        with pytest.raises((Ended, ConnectionResetError)):
            bad.receive("")
    assert daemon.counter("aft_bad_requests_total") == 1
    assert why in daemon.logged()
    assert raw.start().id, "others are served"


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_do_no_harm(daemon: Daemon, raw: Calling, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(50):
        with Calling(daemon.ipc) as bad, contextlib.suppress(OSError):
            for _ in range(dice.randrange(4)):
                # Often a request that would be one.
                length = dice.choice([5, dice.randrange(2000), dice.randrange(1 << 32)])
                bad.stream.sendall(
                    struct.pack(">IIB", length, dice.randrange(1 << 32), dice.randrange(9))
                )
                bad.stream.sendall(dice.randbytes(dice.randrange(2000)))
    assert raw.start().id
    until(lambda: daemon.status()["sockets"]["callers"] == 1)


def test_a_request_may_come_in_pieces(daemon: Daemon, raw: Calling) -> None:
    with Calling(daemon.ipc) as slow:
        for byte in slow.frame("start", b""):
            assert raw.start().id, "others are served"
            slow.stream.sendall(bytes([byte]))
        assert tag(slow.receive("start")).id


def test_what_is_only_announced_takes_no_room(daemon: Daemon, raw: Calling) -> None:
    before = daemon.rss_bytes()
    announcing = [Calling(daemon.ipc) for _ in range(50)]
    for client in announcing:
        client.stream.sendall(struct.pack(">IIB", 100 * MIB, 1, 3) + bytes(10_000))
    assert raw.start().id
    until(lambda: daemon.status()["sockets"]["callers"] == 51)
    assert daemon.rss_bytes() - before < 50 * MIB
    for client in announcing:
        client.__exit__()
    until(lambda: daemon.status()["sockets"]["callers"] == 1)


def test_a_request_that_is_too_large_is_told_so(start: Callable[..., Daemon]) -> None:
    daemon = start("--storage", "memory", "--message-bytes-max", "100000", "--value-bytes-max", "50000")
    with Calling(daemon.ipc) as raw:
        raw.send("put", bytes(300_000))
        raw.send("abort", bytes(300_000))
        raw.send("start", b"")
        assert "message-bytes-max" in response(raw.receive("put")).detail
        assert "message-bytes-max" in tag(raw.receive("abort")).detail
        assert tag(raw.receive("start")).id
    with aft_client.Client(daemon.ipc) as client:
        with pytest.raises(aft_client.AftError, match="message-bytes-max"):
            client.put("k", bytes(300_000))
        client.put("k", b"v")
        assert client.get("k") == b"v"


def test_what_was_asked_for_is_done_also_if_nobody_waits(daemon: Daemon, raw: Calling) -> None:
    for number in range(20):
        with Calling(daemon.ipc) as hasty:
            tid = raw.start().id
            put = hasty.request("put", tid)
            put.tuples.add(key=f"k{number}", lattice_type=anna.LWW, payload=lww(b"v"))
            frames = hasty.frame("put", put.SerializeToString())
            hasty.stream.sendall(frames + hasty.frame("commit", hasty.commit_request(tid)))
        until(lambda number=number: raw.get(f"k{number}") == {f"k{number}": b"v"})  # type: ignore[misc]


def test_a_client_that_stops_reading_is_asked_for_nothing_more(daemon: Daemon, raw: Calling) -> None:
    raw.put({"large": bytes(4 * MIB)})
    before = daemon.rss_bytes()
    request = anna.KeyRequest()
    request.tuples.add(key="large")
    with Calling(daemon.ipc) as lazy:
        for _ in range(200):
            lazy.send("get", request.SerializeToString())
        until(lambda: daemon.status()["sockets"]["reply_bytes_queued"] > MIB)
        assert raw.get("large")["large"] == bytes(4 * MIB), "others are served"
        # 800 MB of answers were asked for.
        assert daemon.rss_bytes() - before < 50 * MIB
        until(lambda: daemon.status()["sockets"]["callers"] == 1)
    assert daemon.counter("aft_replies_dropped_total") >= 1
    assert daemon.status()["sockets"]["reply_bytes_queued"] == 0


def test_a_client_that_reads_late_gets_all(daemon: Daemon, raw: Calling) -> None:
    raw.put({"large": bytes(4 * MIB)})
    request = anna.KeyRequest()
    request.tuples.add(key="large")
    for _ in range(20):
        raw.send("get", request.SerializeToString())
    until(lambda: daemon.status()["sockets"]["reply_bytes_queued"] > MIB)
    for _ in range(20):
        answer = response(raw.receive("get"))
        assert anna.LWWValue.FromString(answer.tuples[0].payload).value == bytes(4 * MIB)


def test_many_clients(daemon: Daemon, raw: Calling) -> None:
    clients = [Calling(daemon.ipc) for _ in range(CLIENTS)]
    for client in clients:
        client.send("start", b"")
    assert len({tag(client.receive("start")).id for client in clients}) == CLIENTS
    status = daemon.status()["sockets"]
    assert (status["callers"], status["reply_sockets"]) == (CLIENTS + 1, 0)
    for client in clients:
        client.__exit__()
    until(lambda: daemon.status()["sockets"]["callers"] == 1)


def test_without_descriptors_to_spare_new_clients_wait(launch: Callable[..., Daemon]) -> None:
    # A shell that sets the limit becomes the daemon.
    limited = ("sh", "-c", 'ulimit -n 300; exec "$0" "$@"')
    daemon = launch("--storage", "memory", on=limited).wait_until_ready()
    clients = [Calling(daemon.ipc) for _ in range(200)]
    try:
        for client in clients:
            client.send("start", b"")
        until(lambda: "cannot take more clients now" in daemon.logged())
        for client in clients:
            assert tag(client.receive("start")).id
            client.__exit__()
    finally:
        for client in clients:
            client.__exit__()


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
