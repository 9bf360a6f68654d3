"""The client over real sockets: late answers, time-outs, absent sidecars, threads, forks."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import aft
from aft._ipc import IpcDir
from aft._requests import Kind
from aft._wire import anna_pb2 as anna
from tests.responder import Responder, until

SOON = 0.05


def nothing(address: str, reply: bytes) -> list[tuple[str, bytes]]:
    return []


def test_a_transaction(client: aft.Client, responder: Responder) -> None:
    with client.transaction() as txn:
        txn.put_many({"a": b"1", "large": b"x" * 3_000_000})
        assert txn.get_many(["a", "nope"]) == {"a": b"1", "nope": None}
    assert client.get("large") == b"x" * 3_000_000
    assert responder.node.versions.newest()["a"] == b"1"


@pytest.mark.parametrize("calls", [False], indirect=True)
def test_reply_sockets_are_in_the_directory_and_go_away(ipc_dir: Path, responder: Responder) -> None:
    own = {kind.value for kind in Kind}
    with aft.Client(ipc_dir) as client:
        assert {path.name for path in ipc_dir.iterdir()} == own, "a client opens nothing until asked"
        client.get("a")
        (extra,) = {path.name for path in ipc_dir.iterdir()} - own
        assert extra.startswith("reply_")
        assert (ipc_dir / extra).stat().st_mode & 0o777 == 0o660
        client.get("a")
        assert len(list(ipc_dir.iterdir())) == len(own) + 1
    assert {path.name for path in ipc_dir.iterdir()} == own
    with pytest.raises(aft.InvalidRequest, match="closed"):
        client.get("a")


@pytest.mark.parametrize("calls", [True], indirect=True)
def test_whoever_calls_leaves_no_files(ipc_dir: Path, responder: Responder) -> None:
    before = set(ipc_dir.iterdir())
    with aft.Client(ipc_dir) as client, client.transaction() as txn:
        txn.put("a", b"1")
        assert set(ipc_dir.iterdir()) == before


def test_a_sidecar_of_another_make_takes_over(ipc_dir: Path, calls: bool) -> None:
    with aft.Client(ipc_dir) as client:
        for makes_calls in (calls, not calls, calls):
            sidecar = Responder(ipc_dir, makes_calls)
            client.run(lambda txn: txn.put("a", b"1"), retries=1000)
            sidecar.close()
            # libzmq leaves the files of sockets behind, and a sidecar cleans up.
            for left in ipc_dir.iterdir():
                left.unlink()


@pytest.mark.parametrize("kind", list(Kind))
def test_a_late_answer_reaches_nobody(ipc_dir: Path, responder: Responder, kind: Kind) -> None:
    client = aft.Client(ipc_dir, deadline=SOON, commit_deadline=SOON)
    patient = aft.Client(ipc_dir)
    responder.node.versions.commit({"a": b"right", "b": b"wrong"})
    with patient.step() as ours:
        name = ours.attempt
        responder.next(kind, responder.hold, times=20)
        with pytest.raises((aft.SidecarUnavailable, aft.OutcomeUnknown)):
            use(client, kind, name)
        responder._mischief[kind].clear()
        assert responder.held
        responder.release()
        # The next answers fit what is asked, although the late one arrived first.
        assert client.get("a") == b"right"
        with client.transaction() as txn:
            assert txn.attempt != name
            txn.put("c", b"c")
        assert client.get("c") == b"c"
    client.close()
    patient.close()


def test_the_late_answer_to_a_start_is_not_the_next_ones(ipc_dir: Path, responder: Responder) -> None:
    with aft.Client(ipc_dir, deadline=SOON) as client:
        responder.next(Kind.START, responder.hold)
        with pytest.raises(aft.SidecarUnavailable):
            client.transaction().__enter__()
        (late,) = responder.node.running
        responder.release()
        with client.step() as txn:
            assert txn.attempt != late


def test_the_late_answer_to_a_continue_is_not_the_next_ones(ipc_dir: Path, responder: Responder) -> None:
    with aft.Client(ipc_dir, deadline=SOON) as client:
        with client.step() as txn:
            txn.put("a", b"1")
        responder.next(Kind.CONTINUE, responder.hold)
        with pytest.raises(aft.SidecarUnavailable):
            client.join(txn.token).__enter__()
        responder.release()
        with pytest.raises(aft.TransactionAborted):
            client.join(aft.Token("unknown", txn.token.node)).__enter__()


def use(client: aft.Client, kind: Kind, attempt: str) -> None:
    if kind is Kind.START:
        client.transaction().__enter__()
    elif kind is Kind.GET:
        client.get("b")
    elif kind is Kind.PUT:
        client.put("d", b"d")
    elif kind is Kind.CONTINUE:
        client.join(aft.Token(attempt, "127.0.0.1")).__enter__()
    elif kind is Kind.COMMIT:
        client.resolve(aft.OutcomeUnknown("", attempt))
    else:
        client.join(aft.Token(attempt, "127.0.0.1")).__enter__().abort()


def test_answers_to_other_requests_are_dropped_on_the_way(
    client: aft.Client, responder: Responder
) -> None:
    responder.node.versions.commit({"a": b"right"})
    foreign = anna.KeyResponse(response_id="other")
    foreign.tuples.add(key="a", lattice_type=anna.LWW, payload=b"\x12\x05wrong")

    def stuffed(address: str, reply: bytes) -> list[tuple[str, bytes]]:
        noise = [foreign.SerializeToString(), b"", b"\xff\xff\xff"]
        return [(address, frame) for frame in (*noise, reply, reply)]

    responder.next(Kind.GET, stuffed)
    assert client.get("a") == b"right"
    # The second copy of the answer waits in the socket that the next request uses.
    assert client.get("z") is None


def test_nobody_answers(ipc_dir: Path, responder: Responder) -> None:
    with aft.Client(ipc_dir, deadline=SOON) as client:
        responder.next(Kind.GET, nothing)
        with pytest.raises(aft.SidecarUnavailable, match="did not answer within") as caught:
            client.get("a")
        assert caught.value.sent
        assert "AFT_IPC_DIR" in caught.value.hint
        assert client.get("a") is None


def test_a_lost_answer_to_a_commit_is_asked_for_again(ipc_dir: Path, responder: Responder) -> None:
    with aft.Client(ipc_dir, deadline=SOON, commit_deadline=30) as client:
        responder.next(Kind.COMMIT, nothing, times=2)
        with client.transaction() as txn:
            txn.put("a", b"1")
    assert len(responder.seen[Kind.COMMIT]) == 3
    assert responder.node.versions.newest() == {"a": b"1"}


def test_no_directory(ipc_dir: Path) -> None:
    client = aft.Client(ipc_dir / "none")
    with pytest.raises(aft.SidecarUnavailable, match="none does not exist"):
        client.get("a")


def test_no_socket(client: aft.Client, ipc_dir: Path) -> None:
    began = time.monotonic()
    with pytest.raises(aft.SidecarUnavailable, match="get does not exist") as caught:
        client.get("a")
    assert not caught.value.sent
    assert time.monotonic() - began < 4, "it must not wait for what is not there"


def test_a_socket_that_a_dead_sidecar_left(client: aft.Client, ipc_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(ipc_dir / "start"))
    began = time.monotonic()
    with pytest.raises(aft.SidecarUnavailable, match="nobody listens at") as caught:
        client.transaction().__enter__()
    assert not caught.value.sent
    assert time.monotonic() - began < 4


def test_what_a_killed_sidecar_left_keeps_nobody_from_an_older_one(ipc_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(ipc_dir / "call"))
    older = Responder(ipc_dir, calls=False)
    try:
        with aft.Client(ipc_dir) as client:
            with pytest.raises(aft.SidecarUnavailable, match="nobody listens at"):
                client.get("a")
            assert client.get("a") is None
    finally:
        older.close()


@pytest.mark.parametrize("calls", [True], indirect=True)
def test_a_request_that_was_handed_over_in_part_is_no_part_of_the_next(
    client: aft.Client, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("a")

    def interrupted(connection: socket.socket, data: bytes) -> None:
        connection.send(data[: len(data) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "sendall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.get("b")
    responder.node.versions.commit({"a": b"right"})
    assert client.get("a") == b"right"


def test_somebody_listens_and_is_no_sidecar(ipc_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute, aft.Client(ipc_dir, deadline=0.2) as client:
        mute.bind(str(ipc_dir / "get"))
        mute.listen()
        with pytest.raises(aft.SidecarUnavailable, match="takes no requests") as caught:
            client.get("a")
        assert not caught.value.sent


def test_a_sidecar_that_comes_back_is_found(ipc_dir: Path, calls: bool) -> None:
    with aft.Client(ipc_dir) as client:
        first = Responder(ipc_dir, calls)
        client.put("a", b"1")
        first.close()
        with pytest.raises(aft.SidecarUnavailable):
            client.get("a")
        second = Responder(ipc_dir, calls)
        try:
            result = client.run(lambda txn: txn.get("a"), retries=1000)
            assert result.value is None
        finally:
            second.close()


def test_a_sidecar_that_ends_before_it_answers_is_not_waited_for(ipc_dir: Path, calls: bool) -> None:
    first = Responder(ipc_dir, calls)
    second = None
    with aft.Client(ipc_dir, deadline=10) as client, ThreadPoolExecutor(1) as pool:
        first.next(Kind.GET, first.hold)
        asked = pool.submit(client.get, "a")
        while not first.held:
            assert not asked.done()
        first.close()
        second = Responder(ipc_dir, calls)
        with pytest.raises(aft.SidecarUnavailable, match="ended before it answered") as caught:
            asked.result(30)
        assert caught.value.sent
    second.close()


def test_a_directory_that_was_emptied_is_used_anew(ipc_dir: Path, calls: bool) -> None:
    with aft.Client(ipc_dir) as client:
        first = Responder(ipc_dir, calls)
        assert client.get("a") is None
        first.close()
        for left in ipc_dir.iterdir():
            left.unlink()
        second = Responder(ipc_dir, calls)
        try:
            began = time.monotonic()
            client.run(lambda txn: None, retries=1000)
            assert time.monotonic() - began < 4, "the answer must find its way at once"
        finally:
            second.close()


def test_requests_never_wait_for_a_sidecar_to_come(ipc_dir: Path, calls: bool) -> None:
    with aft.Client(ipc_dir) as client:
        first = Responder(ipc_dir, calls)
        client.put("a", b"1")
        first.close()
        with pytest.raises(aft.SidecarUnavailable):
            client.put("a", b"2")
        second = Responder(ipc_dir, calls)
        try:
            client.run(lambda txn: txn.get("a"), retries=1000)
            assert second.seen[Kind.PUT] == []
        finally:
            second.close()


def test_many_threads_share_a_client(client: aft.Client, responder: Responder) -> None:
    together = threading.Barrier(16)

    def work(number: int) -> bytes | None:
        together.wait()
        with client.transaction() as txn:
            for step in range(10):
                txn.put(f"{number}/{step}", b"%d" % number)
        return client.get(f"{number}/9")

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16))) == [b"%d" % n for n in range(16)]
    assert len(responder.node.versions.newest()) == 160
    assert len(list(responder.directory.glob("reply_*"))) <= 16


def test_a_forked_process_uses_sockets_of_its_own(client: aft.Client, responder: Responder) -> None:
    client.put("a", b"parent")
    before = set(responder.directory.glob("reply_*"))
    child = os.fork()
    if child == 0:
        try:
            seen = client.get("a")
            client.put("b", b"child")
            client.close()
            os._exit(0 if seen == b"parent" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert set(responder.directory.glob("reply_*")) == before
    assert client.get_many(["a", "b"]) == {"a": b"parent", "b": b"child"}


@pytest.mark.parametrize("calls", [True], indirect=True)
def test_a_forked_process_keeps_no_connection_of_its_parent_open(
    client: aft.Client, responder: Responder
) -> None:
    client.get("a")
    (caller,) = responder.callers
    stays, goes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(goes)
        os.read(stays, 1)
        os._exit(0)
    client.close()
    try:
        until(lambda: caller not in responder.callers)
    finally:
        os.close(goes)
        os.close(stays)
        assert os.waitpid(child, 0)[1] == 0


def test_paths_that_do_not_fit_into_a_socket_address_are_refused_at_once() -> None:
    with pytest.raises(aft.InvalidRequest, match="107 bytes of a Unix socket"):
        aft.Client("/tmp/" + "x" * 90)
    directory = IpcDir("/tmp/" + "x" * (107 - 33 - 5))
    assert len(directory.new_reply_path()) <= 107


def test_the_directory_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFT_IPC_DIR", "/tmp/somewhere")
    assert IpcDir().path == "/tmp/somewhere"
    assert IpcDir("/tmp/else").path == "/tmp/else"
    monkeypatch.delenv("AFT_IPC_DIR")
    assert IpcDir().path == "/requests"


def test_deadlines_must_be_positive() -> None:
    with pytest.raises(aft.InvalidRequest, match="longer than 0"):
        aft.Client("/tmp", deadline=0)
