"""What is asked of the sidecar, as bytes, and how its answers are read. No input or output here.

Each request also knows its own answer: replies of earlier requests that were given up can still
arrive, and must not be taken for the answer to a later one.
"""

from __future__ import annotations

import enum
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from google.protobuf.message import DecodeError

from aft import _calls
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna
from aft.ids import base_of
from aft.tokens import in_start_request

R = TypeVar("R")

TRANSACTION_ID = "TRANSACTION_ID"
"""The key of the tuple that carries the transaction id; not usable as a user key."""

_numbers = itertools.count(1)


class Kind(enum.Enum):
    """What can be asked; also the file names of the sidecar's sockets for one kind each."""

    START = "start"
    GET = "get"
    PUT = "put"
    CONTINUE = "continue"
    COMMIT = "commit"
    ABORT = "abort"

    @property
    def code(self) -> int:
        """What stands for it where requests of all kinds are taken."""
        return _CODES[self]


_CODES = {kind: code for code, kind in enumerate(Kind, 1)}


class Status(enum.Enum):
    """How far a transaction is."""

    RUNNING = wire.RUNNING
    COMMITTED = wire.COMMITTED
    ABORTED = wire.ABORTED


@dataclass(frozen=True)
class Tag:
    """The answer to everything that is not about keys."""

    id: str
    status: Status
    address: str = ""
    error: int = anna.NO_ERROR
    detail: str = ""
    token: bytes = b""
    """Names a commit to other nodes, if it is one that has something to show."""


@dataclass(frozen=True)
class Item:
    """One key of an answer."""

    timestamp: int = 0
    value: bytes | None = None
    error: int = anna.NO_ERROR


@dataclass(frozen=True)
class Items:
    """The answer to get and put."""

    by_key: Mapping[str, Item]
    error: int = anna.NO_ERROR
    detail: str = ""


class Request(ABC, Generic[R]):
    """Something to be sent to the socket ``kind`` or to ``call``, and answered with one message."""

    kind: ClassVar[Kind]

    @property
    @abstractmethod
    def about(self) -> str | None:
        """The transaction it is about, for error messages."""

    @abstractmethod
    def encode(self, reply_to: str) -> bytes:
        """Write the request, with the address that waits for the answer."""

    @abstractmethod
    def decode(self, frame: bytes) -> R | None:
        """Read the answer; ``None`` if it is the answer to something else."""

    def called(self, number: int) -> bytes:
        """Write the request to be answered on the connection by which it goes."""
        return _calls.request(number, self.kind.code, self.encode(""))


@dataclass(frozen=True)
class Start(Request[Tag]):
    """Begin a transaction, or a new attempt at the id that the caller brings.

    It is to see the commits ``after``.
    """

    id: str | None = None
    after: Sequence[bytes] = ()

    kind = Kind.START

    @property
    def about(self) -> str | None:
        return self.id

    def encode(self, reply_to: str) -> bytes:
        parts = [reply_to, self.id or "", *map(in_start_request, self.after)]
        return "~".join(parts).rstrip("~").encode()

    def decode(self, frame: bytes) -> Tag | None:
        tag = _tag(frame)
        if tag is None or (self.id and tag.id and base_of(tag.id) != base_of(self.id)):
            return None
        return tag


@dataclass(frozen=True)
class _OfAttempt(Request[Tag]):
    attempt: str

    @property
    def about(self) -> str | None:
        return self.attempt

    def decode(self, frame: bytes) -> Tag | None:
        tag = _tag(frame)
        # Of a request of which it kept nothing the sidecar cannot say the id.
        is_own = tag is not None and (tag.id == self.attempt or (not tag.id and tag.error))
        return tag if is_own else None


@dataclass(frozen=True)
class Commit(_OfAttempt):
    """Let the transaction take effect, or ask again how it ended."""

    addresses: Sequence[str] = ()

    kind = Kind.COMMIT

    def encode(self, reply_to: str) -> bytes:
        request = wire.CommitRequest(
            tid=self.attempt, responseAddress=reply_to, addresses=self.addresses
        )
        return request.SerializeToString()


@dataclass(frozen=True)
class Abort(_OfAttempt):
    """Give the attempt up."""

    kind = Kind.ABORT

    def encode(self, reply_to: str) -> bytes:
        return f"{self.attempt}~{reply_to}".encode()


@dataclass(frozen=True)
class Continue(Request[Tag]):
    """Go on with a transaction that ran on another node."""

    attempt: str
    upstream: str

    kind = Kind.CONTINUE

    @property
    def about(self) -> str | None:
        return self.attempt

    def encode(self, reply_to: str) -> bytes:
        request = wire.MetadataRequest(tid=self.attempt, responseAddress=reply_to, address=self.upstream)
        return request.SerializeToString()

    def decode(self, frame: bytes) -> Tag:
        # The node's address; if it refuses, also the number of an error, and words.
        address, _, rest = frame.decode(errors="replace").partition("~")
        number, _, detail = rest.partition("~")
        error = int(number) if number.isdecimal() else anna.NO_ERROR
        return Tag(self.attempt, Status.RUNNING, address, error, detail)


@dataclass(frozen=True)
class _OfKeys(Request[Items]):
    attempt: str | None
    number: str = field(default_factory=lambda: str(next(_numbers)), kw_only=True)

    @property
    def about(self) -> str | None:
        return self.attempt

    def decode(self, frame: bytes) -> Items | None:
        try:
            response = anna.KeyResponse.FromString(frame)
        except DecodeError:
            return None
        # Of a request of which it kept nothing the sidecar cannot say the number.
        is_unnamed_error = not response.response_id and response.error
        if response.response_id != self.number and not is_unnamed_error:
            return None
        return Items(
            {tuple_.key: _item(tuple_) for tuple_ in response.tuples},
            response.error,
            response.detail,
        )

    def _request(self, kind: anna.RequestType, reply_to: str) -> anna.KeyRequest:
        request = anna.KeyRequest(type=kind, response_address=reply_to, request_id=self.number)
        if self.attempt is not None:
            request.tuples.add(key=TRANSACTION_ID, payload=self.attempt.encode())
        return request


@dataclass(frozen=True)
class Get(_OfKeys):
    """Read keys as of one moment."""

    keys: Sequence[str]

    kind = Kind.GET

    def encode(self, reply_to: str) -> bytes:
        request = self._request(anna.GET, reply_to)
        for key in self.keys:
            request.tuples.add(key=key)
        return request.SerializeToString()


@dataclass(frozen=True)
class Put(_OfKeys):
    """Write keys. The values are lattice values, already serialized, each with its type."""

    writes: Mapping[str, tuple[anna.LatticeType, bytes]]

    kind = Kind.PUT

    def encode(self, reply_to: str) -> bytes:
        request = self._request(anna.PUT, reply_to)
        for key, (lattice, payload) in self.writes.items():
            request.tuples.add(key=key, lattice_type=lattice, payload=payload)
        return request.SerializeToString()


def last_writer_wins(value: bytes, timestamp: int = 0) -> tuple[anna.LatticeType, bytes]:
    """Wrap a value as the sidecar wants it. Its timestamp is chosen at commit, not here."""
    return anna.LWW, anna.LWWValue(timestamp=timestamp, value=value).SerializeToString()


def _tag(frame: bytes) -> Tag | None:
    try:
        tag = wire.TransactionTag.FromString(frame)
        return Tag(tag.id, Status(tag.status), tag.address, tag.error, tag.detail, tag.token)
    except (DecodeError, ValueError):
        return None


def _item(tuple_: anna.KeyTuple) -> Item:
    if tuple_.error == anna.KEY_DNE:
        return Item()
    if tuple_.error != anna.NO_ERROR or tuple_.lattice_type == anna.NONE:
        return Item(error=tuple_.error)
    if tuple_.lattice_type != anna.LWW:
        return Item(error=anna.LATTICE)
    try:
        value = anna.LWWValue.FromString(tuple_.payload)
    except DecodeError:
        return Item(error=anna.LATTICE)
    return Item(value.timestamp, value.value)
