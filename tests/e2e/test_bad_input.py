"""Nothing that a client sends stops the daemon; where it says to whom, it is told what is wrong."""

from __future__ import annotations

import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

import pytest
import zmq
from aft._wire import anna_pb2 as anna

from daemon import Daemon, run, until
from wire import ABORTED, COMMITTED, KINDS, NoAnswer, Raw, lww, response, tag

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _serves_on(daemon: Daemon) -> Iterator[None]:
    yield
    assert daemon.is_alive()
    # Not one that may get late answers to what it sent.
    with Raw(daemon.ipc) as other:
        other.put({"still": b"here"})
        assert other.get("still") == {"still": b"here"}
    until(lambda: daemon.status()["sockets"]["requests_waiting"] == 0)
    assert "panicked" not in daemon.logged()


def bad_requests(daemon: Daemon) -> float:
    return daemon.counter("aft_bad_requests_total")


@pytest.mark.parametrize("kind", KINDS)
def test_rubbish(daemon: Daemon, raw: Raw, kind: str) -> None:
    dice = random.Random(kind)
    messages = [b"", b"\0", b"~", b"\xff" * 100, bytes(100_000)]
    messages += [dice.randbytes(dice.randrange(200)) for _ in range(500)]
    messages += [dice.choice([b"\x0a", b"\x12", b"\x1a"]) + message for message in messages]
    for message in messages:
        raw.push[kind].send(message)
    until(lambda: bad_requests(daemon) == len(messages))


@pytest.mark.parametrize("kind", ["get", "put", "commit", "continue"])
def test_every_beginning_of_a_request(daemon: Daemon, raw: Raw, kind: str) -> None:
    """Whatever names its reply address is answered, whatever does not is counted."""
    message = whole_request(raw, kind)
    for length in range(len(message) + 1):
        raw.push[kind].send(message[:length])
    answers = 0

    def all_noticed() -> bool:
        nonlocal answers
        while raw.pull[kind].poll(0):
            raw.pull[kind].recv()
            answers += 1
        # What is answered may be counted, too; the whole one at least is answered.
        return answers >= 1 and answers + bad_requests(daemon) >= len(message) + 1

    until(all_noticed)


def whole_request(raw: Raw, kind: str) -> bytes:
    if kind == "commit":
        return raw.commit_request("some-id")
    if kind == "continue":
        return raw.go_on_request("some-id", "10.9.8.7")
    keys = raw.request(kind, None)
    for number in range(3):
        keys.tuples.add(key=f"k{number}", lattice_type=anna.LWW, payload=lww(b"v"))
    return keys.SerializeToString()


def test_messages_in_several_frames(daemon: Daemon, raw: Raw) -> None:
    """All of this protocol's messages are one frame. More of them are no new requests."""
    raw.push["start"].send_multipart([b"rubbish", raw.address("start").encode()])
    raw.push["start"].send_multipart([raw.address("start").encode(), b"more", b"", b"and more"])
    assert tag(raw.receive("start")).id
    assert not raw.pull["start"].poll(100)
    until(lambda: bad_requests(daemon) == 1)


@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_do_not_speak_zeromq(daemon: Daemon, raw: Raw, kind: str) -> None:
    dice = random.Random(kind)
    connections = []
    for number in range(60):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(daemon.ipc / kind))
        connections.append(connection)
        # Some say nothing, some rubbish, some begin as ZeroMQ does and go on with rubbish.
        greeting = b"\xff\0\0\0\0\0\0\0\1\x7f\3" if number % 3 == 2 else b""
        with suppress(OSError):
            connection.sendall(greeting + (dice.randbytes(500) if number % 3 else b""))
    raw.get("x")
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("type_", [zmq.REQ, zmq.SUB, zmq.PAIR, zmq.DEALER, zmq.PULL])
def test_sockets_of_other_types(daemon: Daemon, raw: Raw, type_: int) -> None:
    for kind in KINDS:
        other = raw.context.socket(type_)
        other.linger = 0
        other.connect(f"ipc://{daemon.ipc}/{kind}")
        if type_ in (zmq.REQ, zmq.PAIR, zmq.DEALER):
            with suppress(zmq.Again):
                other.send(raw.address(kind).encode(), zmq.DONTWAIT)
    assert raw.start().id


@pytest.mark.parametrize("kind", ["get", "put"])
def test_a_message_cut_off_behind_its_address_is_answered(daemon: Daemon, raw: Raw, kind: str) -> None:
    request = anna.KeyRequest(response_address=raw.address(kind), request_id="r")
    message = request.SerializeToString() + b"\x12\x7f\x0a"
    answer = response(raw.call(kind, message))
    assert (answer.response_id, answer.error) == ("r", anna.INVALID)
    assert bad_requests(daemon) == 1


def test_reply_addresses_elsewhere_are_not_answered(daemon: Daemon, raw: Raw, place: Path) -> None:
    (place / "elsewhere").mkdir()
    outside = raw.context.socket(zmq.PULL)
    outside.bind(f"ipc://{place}/elsewhere/get_0")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    addresses = [
        "",
        "get_0",
        "ipc://",
        f"tcp://127.0.0.1:{port}",
        f"ipc://{place}/elsewhere/get_0",
        f"ipc://{daemon.ipc}/../elsewhere/get_0",
        "ipc://@abstract",
        *(f"ipc://{daemon.ipc}/{kind}" for kind in KINDS),
    ]
    for address in addresses:
        request = anna.KeyRequest(response_address=address)
        request.tuples.add(key="k")
        raw.push["get"].send(request.SerializeToString())
        raw.push["start"].send(address.encode())
        raw.push["abort"].send(f"t~{address}".encode())
    until(lambda: bad_requests(daemon) >= 3 * len(addresses))
    assert not outside.poll(100)
    listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.accept()
    listener.close()


def test_nobody_listens(daemon: Daemon, raw: Raw) -> None:
    for number in range(200):
        raw.push["start"].send(f"ipc://{daemon.ipc}/nobody_{number % 3}".encode())
        request = anna.KeyRequest(response_address=f"ipc://{daemon.ipc}/nobody_{number % 3}")
        request.tuples.add(key="k", lattice_type=anna.LWW, payload=lww(b"v"))
        raw.push["put"].send(request.SerializeToString())
    assert raw.start().id


def test_a_reply_address_that_is_no_socket(daemon: Daemon, raw: Raw) -> None:
    (daemon.ipc / "file").write_text("precious")
    (daemon.ipc / "folder").mkdir()
    (daemon.ipc / "dangling").symlink_to("nowhere")
    for name in ("file", "folder", "dangling", ".aft.lock", "x" * 90, "x" * 200, " ", "\n", "ключ"):
        raw.push["start"].send(f"ipc://{daemon.ipc}/{name}".encode())
    assert raw.start().id
    assert (daemon.ipc / "file").read_text() == "precious"


LISTENER = """
import sys, zmq
socket = zmq.Context().socket(zmq.PULL)
socket.bind(sys.argv[1])
print("bound", flush=True)
print("answered" if socket.poll(10_000) else "no answer", flush=True)
sys.stdin.read()
"""


def test_a_client_that_was_killed_and_came_back(daemon: Daemon, raw: Raw) -> None:
    """A restarted function binds the same reply address as before."""
    name = f"ipc://{daemon.ipc}/again"
    command = [sys.executable, "-c", LISTENER, name]
    for _ in range(10):
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as client:
            assert client.stdout
            assert client.stdout.readline() == "bound\n"
            raw.push["start"].send(name.encode())
            assert client.stdout.readline() == "answered\n"
            client.kill()


def test_a_client_that_stops_reading_costs_little(daemon: Daemon, raw: Raw) -> None:
    raw.put({"large": bytes(4 * MIB)})
    before = daemon.rss_bytes()
    lazy = raw.context.socket(zmq.PULL)
    lazy.rcvhwm = 1
    lazy.bind(f"ipc://{daemon.ipc}/lazy")
    request = anna.KeyRequest(response_address=f"ipc://{daemon.ipc}/lazy")
    request.tuples.add(key="large")
    for _ in range(500):
        raw.push["get"].send(request.SerializeToString())
    until(lambda: daemon.counter("aft_replies_dropped_total") > 100)
    assert raw.get("large")["large"] == bytes(4 * MIB), "others are served"
    # 2 GB of answers were asked for. 64 MiB of them may wait, and 32 messages in libzmq.
    assert daemon.rss_bytes() - before < 400 * MIB
    until(lambda: daemon.status()["sockets"]["reply_bytes_queued"] == 0)


def test_keys_that_are_none(daemon: Daemon, raw: Raw) -> None:
    raw.put({"good": b"v"})
    answer = raw.get_response(["", "good", "x" * 40_000])
    assert [item.error for item in answer.tuples] == [anna.INVALID, 0, anna.INVALID]
    tid = raw.start().id
    answer = raw.put_response({"": b"1", "fine": b"2"}, tid)
    assert [(item.key, item.error) for item in answer.tuples] == [("", anna.INVALID), ("fine", 0)]
    assert raw.get("fine", tid) == {"fine": b"2"}


def test_a_key_that_is_not_text(raw: Raw) -> None:
    request = anna.KeyRequest(response_address=raw.address("put"), request_id="r")
    request.tuples.add(key="KEY", lattice_type=anna.LWW, payload=lww(b"v"))
    answer = response(raw.call("put", request.SerializeToString().replace(b"KEY", b"\xff\xfe\xfd")))
    assert (answer.response_id, answer.error) == ("r", anna.INVALID)
    assert len(answer.tuples) == 1, "clients count the tuples"
    assert answer.tuples[0].error


def test_no_keys_and_two_transactions(raw: Raw) -> None:
    assert raw.get_response([]).error == anna.INVALID
    tid = raw.start().id
    assert raw.get_response([], tid).error == anna.INVALID
    request = raw.request("get", tid)
    request.tuples.add(key="TRANSACTION_ID", payload=b"other")
    request.tuples.add(key="k")
    answer = response(raw.call("get", request.SerializeToString()))
    assert [(item.key, item.error) for item in answer.tuples] == [("k", anna.INVALID)]


@pytest.mark.parametrize("tid", ["", "a/b", "a~b", "x" * 1000, "é", "."])
def test_ids_that_are_none(raw: Raw, tid: str) -> None:
    assert raw.get_response(["k"], tid).tuples[0].error
    assert raw.put_response({"k": b"v"}, tid).tuples[0].error
    assert raw.commit(tid).status == ABORTED
    if "~" not in tid:
        assert raw.abort(tid).status == ABORTED
    if tid:
        begun = raw.start(tid)
        assert (begun.id, begun.error) == ("", anna.INVALID)
    assert raw.get("k") == {"k": None}


def test_other_lattices_and_other_payloads(raw: Raw) -> None:
    tid = raw.start().id
    request = raw.request("put", tid)
    request.tuples.add(key="set", lattice_type=anna.SET, payload=b"")
    request.tuples.add(key="none", payload=lww(b"v"))
    request.tuples.add(key="bytes", lattice_type=anna.LWW, payload=b"\xff\xff")
    request.tuples.add(key="good", lattice_type=anna.LWW, payload=lww(b"v"))
    answer = response(raw.call("put", request.SerializeToString()))
    errors = {item.key: item.error for item in answer.tuples}
    assert errors == {"set": anna.LATTICE, "none": anna.LATTICE, "bytes": anna.LATTICE, "good": 0}
    assert raw.commit(tid).status == COMMITTED
    seen = raw.get(["set", "none", "bytes", "good"])
    assert seen == {"set": None, "none": None, "bytes": None, "good": b"v"}


def test_a_lone_put_is_all_or_nothing(raw: Raw) -> None:
    request = raw.request("put", None)
    request.tuples.add(key="set", lattice_type=anna.SET, payload=b"")
    request.tuples.add(key="good", lattice_type=anna.LWW, payload=lww(b"v"))
    answer = response(raw.call("put", request.SerializeToString()))
    assert all(item.error for item in answer.tuples)
    assert raw.get("good") == {"good": None}


def test_a_message_over_the_limit(start: Callable[..., Daemon]) -> None:
    limits = ["--message-bytes-max", "100000", "--value-bytes-max", "50000"]
    with Raw(start("--storage", "memory", *limits, name="small").ipc) as raw:
        answer = raw.put_response({"k": bytes(150_000)})
        assert answer.error == anna.INVALID
        assert "message-bytes-max" in answer.detail
        assert raw.get("k") == {"k": None}
        # Far over the limit, the connection is cut.
        with Raw(raw.directory) as huge, pytest.raises(NoAnswer):
            huge.call("put", bytes(2_000_000), 0.3)
        raw.put({"k": b"v"})
        assert raw.get("k") == {"k": b"v"}


def test_a_transaction_that_writes_too_much(start: Callable[..., Daemon]) -> None:
    limits = ["--txn-bytes-max", "300000", "--buffer-bytes-max", "500000"]
    daemon = start("--storage", "memory", *limits, name="small")
    with Raw(daemon.ipc) as raw:
        first, second = raw.start().id, raw.start().id
        for tid, max_kb in ((first, 300), (second, 200)):
            errors: list[int] = []
            for number in range(10):
                answer = raw.put_response({f"{tid}/{number}": bytes(50_000)}, tid)
                errors.append(answer.tuples[0].error)
            assert max_kb // 50 - 1 <= errors.count(0) <= max_kb // 50, errors
            assert answer.detail
        assert raw.commit(first).status == COMMITTED
        assert raw.put_response({f"{second}/more": bytes(50_000)}, second).tuples[0].error == 0


def test_a_transaction_of_very_many_keys(daemon: Daemon, raw: Raw) -> None:
    """It may be refused. It may not keep the others waiting."""
    tid = raw.start().id
    for batch in range(10):
        answer = raw.put_response({f"{batch}/{number}": b"" for number in range(60_000)}, tid)
        assert answer.error in (anna.NO_ERROR, anna.INVALID), answer.detail
    with Raw(daemon.ipc) as other:
        raw.push["commit"].send(raw.commit_request(tid))
        began = time.monotonic()
        assert other.start().id
        assert time.monotonic() - began < 4
    assert tag(raw.receive("commit")).status == COMMITTED
    assert daemon.rss_bytes() < 1000 * MIB


def test_an_answer_that_would_be_too_large(daemon: Daemon, raw: Raw) -> None:
    """Each of the two requests is small, and what they ask for is 3 TB."""
    # Whatever the daemon does, it will not take the machine's memory.
    resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (8 << 30, 8 << 30))
    raw.put({"large": bytes(50 * MIB)})
    for tid in (None, raw.start().id):
        answer = raw.get_response(["large"] * 60_000, tid)
        assert answer.error == anna.INVALID
        assert answer.detail
        assert {item.lattice_type for item in answer.tuples} == {anna.NONE}
        assert raw.get("large", tid) == {"large": bytes(50 * MIB)}


def test_more_transactions_than_may_run(start: Callable[..., Daemon]) -> None:
    with Raw(start("--storage", "memory", "--txn-max", "10", name="small").ipc) as raw:
        running = [raw.start().id for _ in range(10)]
        refused = raw.start()
        assert (refused.id, refused.error) == ("", anna.NO_SERVERS)
        assert "txn-max" in refused.detail
        raw.abort(running[0])
        assert raw.start().id


def test_a_hundred_thousand_transactions_left_behind(start: Callable[..., Daemon]) -> None:
    daemon = start("--storage", "memory", "--txn-timeout", "3", name="many")
    with Raw(daemon.ipc) as raw:
        wanted, sent, answered = 100_000, 0, 0
        while answered < wanted:
            while sent < wanted and sent - answered < 500:
                raw.push["start"].send(raw.address("start").encode())
                sent += 1
            tag(raw.receive("start"))
            answered += 1
        assert daemon.rss_bytes() < 500 * MIB
        raw.put({"k": b"v"})
        until(lambda: daemon.status()["node"]["transactions"] == 0, 60)
        assert raw.get("k") == {"k": b"v"}


def test_ten_thousand_reply_addresses(daemon: Daemon, raw: Raw) -> None:
    for number in range(10_000):
        raw.push["start"].send(f"ipc://{daemon.ipc}/address_{number}".encode())
    assert raw.start().id, "those who listen are answered"
    assert daemon.status()["node"]["transactions"] > 10_000
    assert daemon.status()["sockets"]["reply_sockets"] <= 700
    assert daemon.rss_bytes() < 300 * MIB


def test_more_listeners_than_reply_sockets(daemon: Daemon, raw: Raw) -> None:
    """The sockets are capped, and still each of these clients gets every answer."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 1100)
    listeners = []
    for number in range(1000):
        listener = context.socket(zmq.PULL)
        listener.bind(f"ipc://{daemon.ipc}/listener_{number}")
        listeners.append(listener)
    for _ in range(2):
        for begin in range(0, 1000, 50):
            for number in range(begin, begin + 50):
                raw.push["start"].send(f"ipc://{daemon.ipc}/listener_{number}".encode())
            for number in range(begin, begin + 50):
                assert listeners[number].poll(10_000), f"no answer to client {number}"
                assert tag(listeners[number].recv()).id
    assert daemon.status()["sockets"]["reply_sockets"] <= 700
    context.destroy(linger=0)


def test_a_second_sidecar_is_refused(daemon: Daemon) -> None:
    second = run(
        "sidecar", "--ipc-dir", str(daemon.ipc), "--storage", "memory", "--admin", "127.0.0.1:0"
    )
    assert second.returncode == 1
    assert f"process {daemon.process.pid}" in second.stderr
    assert "--ipc-dir" in second.stderr


def test_a_dead_sidecars_sockets_are_taken_over(start: Callable[..., Daemon]) -> None:
    dead = start("--storage", "memory", name="dead")
    dead.kill()
    assert (dead.ipc / "get").exists(), "a killed daemon leaves its sockets"
    heir = start("--storage", "memory", name="dead")
    with Raw(heir.ipc) as client:
        assert client.start().id
