"""A client that knows only the wire: what Cloudburst's executors send and read, and nothing else."""

from __future__ import annotations

import base64
import itertools
import os
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import zmq
from aft._wire import aft_pb2 as aft
from aft._wire import anna_pb2 as anna

if TYPE_CHECKING:
    from typing_extensions import Self

KINDS = ("start", "get", "put", "continue", "commit", "abort")
RUNNING, COMMITTED, ABORTED = aft.RUNNING, aft.COMMITTED, aft.ABORTED
_numbers = itertools.count()


class NoAnswer(Exception):
    """Nothing came in time."""


class Ended(Exception):
    """The connection was closed by the sidecar."""


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def _push(self, kind: str) -> zmq.Socket[bytes]:
        push = self.context.socket(zmq.PUSH)
        push.linger = 0
        push.connect(f"ipc://{self.directory}/{kind}")
        return push

    def _pull(self, kind: str) -> zmq.Socket[bytes]:
        pull = self.context.socket(zmq.PULL)
        pull.bind(self.address(kind))
        return pull

    def address(self, kind: str) -> str:
        return f"ipc://{self.directory}/{kind}_{self.name}"

    def receive(self, kind: str, seconds: float = 12.0) -> bytes:
        if not self.has_answer(kind, seconds):
            raise NoAnswer(kind)
        return self.pull[kind].recv()

    def has_answer(self, kind: str, seconds: float) -> bool:
        """Whether one comes in this time."""
        return bool(self.pull[kind].poll(int(seconds * 1000)))

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
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.connect(f"{self.directory}/call")
        #: The number of the request that was sent last.
        self.number = 0

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def address(self, kind: str) -> str:
        return ""

    def frame(self, kind: str, message: bytes) -> bytes:
        """A request under the next number, as it is sent."""
        self.number += 1
        head = struct.pack(">IIB", 5 + len(message), self.number, KINDS.index(kind) + 1)
        return head + message

    def send(self, kind: str, message: bytes) -> None:
        self.stream.sendall(self.frame(kind, message))

    def receive(self, kind: str, seconds: float = 12.0) -> bytes:
        return self.receive_numbered(seconds)[1]

    def receive_numbered(self, seconds: float = 12.0) -> tuple[int, bytes]:
        """The next answer, and to which request it is."""
        self.stream.settimeout(seconds)
        length, number = struct.unpack(">II", self._exactly(8))
        return number, self._exactly(length - 4)

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                some = self.stream.recv(count - len(data))
            except TimeoutError:
                raise NoAnswer from None
            if not some:
                raise Ended
            data += some
        return bytes(data)

    def has_answer(self, kind: str, seconds: float) -> bool:
        return bool(select.select([self.stream], [], [], seconds)[0])


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
