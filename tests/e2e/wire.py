"""A client that knows only the wire: what Cloudburst's executors send and read, and nothing else."""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import zmq
from aft._wire import aft_pb2 as aft
from aft._wire import anna_pb2 as anna

KINDS = ("start", "get", "put", "continue", "commit", "abort")
RUNNING, COMMITTED, ABORTED = aft.RUNNING, aft.COMMITTED, aft.ABORTED
_numbers = itertools.count()


class NoAnswer(Exception):
    """Nothing came in time."""


class Raw:
    """One executor thread: a PUSH socket per kind and reply sockets of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.context = zmq.Context()
        self.name = f"{os.getpid()}_{next(_numbers)}"
        self.connect()

    def connect(self) -> None:
        self.push = {kind: self._push(kind) for kind in KINDS}
        self.pull = {kind: self._pull(kind) for kind in KINDS}

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def _push(self, kind: str) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.PUSH)
        socket.linger = 0
        socket.connect(f"ipc://{self.directory}/{kind}")
        return socket

    def _pull(self, kind: str) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.PULL)
        socket.bind(self.address(kind))
        return socket

    def address(self, kind: str) -> str:
        return f"ipc://{self.directory}/{kind}_{self.name}"

    def receive(self, kind: str, seconds: float = 12.0) -> bytes:
        socket = self.answers(kind)
        if not socket.poll(int(seconds * 1000)):
            raise NoAnswer(kind)
        return socket.recv()

    def answers(self, kind: str) -> zmq.Socket[bytes]:
        """Where answers of this kind arrive."""
        return self.pull[kind]

    def send(self, kind: str, message: bytes) -> None:
        self.push[kind].send(message)

    def call(self, kind: str, message: bytes, seconds: float = 12.0) -> bytes:
        self.send(kind, message)
        return self.receive(kind, seconds)

    def start(self, base: str | None = None, *after: bytes) -> aft.TransactionTag:
        """Begins a transaction that sees the commits whose tokens are in `after`."""
        return tag(self.call("start", self.start_request(base, *after)))

    def start_request(self, base: str | None, *after: bytes) -> bytes:
        tokens = [base64.urlsafe_b64encode(token).decode().rstrip("=") for token in after]
        parts = [self.address("start"), *([base or "", *tokens] if base or tokens else [])]
        return "~".join(parts).encode()

    def commit(self, tid: str, *addresses: str) -> aft.TransactionTag:
        """Commits, with the branches that ended at the nodes `addresses`."""
        return tag(self.call("commit", self.commit_request(tid, *addresses)))

    def abort(self, tid: str) -> aft.TransactionTag:
        return tag(self.call("abort", f"{tid}~{self.address('abort')}".encode()))

    def go_on(self, tid: str, *upstream: str) -> str:
        """Continues from nodes. Answers the first reason why not, or nothing."""
        for node in upstream:
            address, *refusal = self.call("continue", self.go_on_request(tid, node)).decode().split("~")
            assert address
            if refusal:
                number, *why = refusal
                assert int(number) != anna.NO_ERROR
                return "~".join(why)
        return ""

    def go_on_request(self, tid: str, upstream: str) -> bytes:
        request = aft.MetadataRequest(
            tid=tid, responseAddress=self.address("continue"), address=upstream
        )
        return request.SerializeToString()

    def get_response(self, keys: Sequence[str], tid: str | None = None) -> anna.KeyResponse:
        request = self.request("get", tid)
        for key in keys:
            request.tuples.add(key=key)
        return response(self.call("get", request.SerializeToString()))

    def get(self, keys: Sequence[str] | str, tid: str | None = None) -> dict[str, bytes | None]:
        """Values by key, as an executor sees them. Raises what a read that failed says."""
        answer = self.get_response([keys] if isinstance(keys, str) else keys, tid)
        return {item.key: value_of(item, answer.detail) for item in answer.tuples}

    def put_response(self, values: Mapping[str, bytes], tid: str | None = None) -> anna.KeyResponse:
        request = self.request("put", tid)
        for key, value in values.items():
            request.tuples.add(key=key, lattice_type=anna.LWW, payload=lww(value))
        return response(self.call("put", request.SerializeToString(), 30))

    def put(self, values: Mapping[str, bytes], tid: str | None = None) -> None:
        answer = self.put_response(values, tid)
        failed = [item for item in answer.tuples if item.error]
        assert not failed, answer.detail
        assert {item.key for item in answer.tuples} == set(values)

    def write(self, values: Mapping[str, bytes], base: str | None = None) -> str:
        """Commits values in a transaction, and names it."""
        tid = self.start(base).id
        self.put(values, tid)
        ended = self.commit(tid)
        assert ended.status == COMMITTED, ended.detail
        return tid

    def payloads(self, keys: Sequence[str], tid: str | None = None) -> dict[str, anna.LWWValue]:
        """What a GET hands out, timestamps and all."""
        tuples = self.get_response(keys, tid).tuples
        return {item.key: anna.LWWValue.FromString(item.payload) for item in tuples}

    def commit_request(self, tid: str, *addresses: str) -> bytes:
        request = aft.CommitRequest(tid=tid, responseAddress=self.address("commit"), addresses=addresses)
        return request.SerializeToString()

    def request(self, kind: str, tid: str | None) -> anna.KeyRequest:
        request = anna.KeyRequest(response_address=self.address(kind), request_id=f"r{next(_numbers)}")
        if tid is not None:
            request.tuples.add(key="TRANSACTION_ID", payload=tid.encode())
        return request


class Calling(Raw):
    """The same over one connection, by which the answers come back."""

    def connect(self) -> None:
        self.dealer: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self.dealer.linger = 0
        self.dealer.connect(f"ipc://{self.directory}/call")

    def address(self, kind: str) -> str:
        return ""

    def send(self, kind: str, message: bytes) -> None:
        self.dealer.send_multipart([kind.encode(), message])

    def answers(self, kind: str) -> zmq.Socket[bytes]:
        return self.dealer


class Failed(Exception):
    """A read that failed, with its error code."""

    def __init__(self, error: int, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error


def lww(value: bytes, timestamp: int = 1) -> bytes:
    return anna.LWWValue(timestamp=timestamp, value=value).SerializeToString()


def value_of(item: anna.KeyTuple, detail: str = "") -> bytes | None:
    if item.lattice_type == anna.LWW:
        assert item.error == anna.NO_ERROR
        return anna.LWWValue.FromString(item.payload).value
    assert item.lattice_type == anna.NONE
    if item.error != anna.KEY_DNE:
        raise Failed(item.error, detail)
    return None


def tag(message: bytes) -> aft.TransactionTag:
    return aft.TransactionTag.FromString(message)


def response(message: bytes) -> anna.KeyResponse:
    return anna.KeyResponse.FromString(message)
