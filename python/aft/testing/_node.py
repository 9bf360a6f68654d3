"""A sidecar in memory: it takes the same bytes and gives the same answers, with no store behind it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from aft._requests import TRANSACTION_ID, Kind, last_writer_wins
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna
from aft.ids import base_of, new_id
from aft.testing._versions import NoFittingVersion, ReadSet, Versions

ADDRESS = "127.0.0.1"


@dataclass
class Running:
    """One attempt."""

    reads: ReadSet = field(default_factory=ReadSet)
    writes: dict[str, bytes] = field(default_factory=dict)


class Node:
    """What a sidecar knows. Takes a request, gives the answer and where it goes."""

    def __init__(self) -> None:
        self.versions = Versions()
        self.running: dict[str, Running] = {}
        self.outcomes: dict[str, wire.TransactionStatus] = {}
        self._current: dict[str, str] = {}
        self._nonces = itertools.count(1)
        self._serve: dict[Kind, Callable[[bytes], tuple[str, bytes]]] = {
            Kind.START: self._start,
            Kind.GET: self._get,
            Kind.PUT: self._put,
            Kind.CONTINUE: self._continue,
            Kind.COMMIT: self._commit,
            Kind.ABORT: self._abort,
        }

    def answer(self, kind: Kind, frame: bytes) -> tuple[str, bytes]:
        """Serve one request; returns the reply address and the reply."""
        return self._serve[kind](frame)

    def restart(self) -> None:
        """Forget what a sidecar forgets when it is restarted: the attempts that ran."""
        self.running.clear()
        self._current.clear()

    def end(self, attempt: str) -> None:
        """Abort an attempt. Its id stays open."""
        self.running.pop(attempt, None)
        if self._current.get(base_of(attempt)) == attempt:
            del self._current[base_of(attempt)]

    def _start(self, frame: bytes) -> tuple[str, bytes]:
        reply_to, _, brought = frame.decode().partition("~")
        if not brought:
            return reply_to, self._begin(new_id())
        base = base_of(brought)
        if base in self.outcomes:
            return reply_to, tag(base, self.outcomes[base])
        if base in self._current:
            self.end(self._current[base])
        return reply_to, self._begin(f"{base}.{next(self._nonces):x}")

    def _begin(self, attempt: str) -> bytes:
        self.running[attempt] = Running()
        self._current[base_of(attempt)] = attempt
        return tag(attempt, wire.RUNNING)

    def _continue(self, frame: bytes) -> tuple[str, bytes]:
        request = wire.MetadataRequest.FromString(frame)
        known = request.tid in self.running
        return request.responseAddress, b"" if known else b"no such transaction runs on this node"

    def _commit(self, frame: bytes) -> tuple[str, bytes]:
        request = wire.CommitRequest.FromString(frame)
        attempt, base = request.tid, base_of(request.tid)
        running = self.running.get(attempt)
        if running is not None:
            self.versions.commit(running.writes)
            self.outcomes[base] = wire.COMMITTED
            self.end(attempt)
        elif base in self._current:
            unknown = tag(attempt, wire.RUNNING, anna.UNDECIDED, "a newer attempt runs")
            return request.responseAddress, unknown
        outcome = self.outcomes.setdefault(base, wire.ABORTED)
        return request.responseAddress, tag(attempt, outcome)

    def _abort(self, frame: bytes) -> tuple[str, bytes]:
        attempt, _, reply_to = frame.decode().partition("~")
        base = base_of(attempt)
        if attempt in self.running:
            self.end(attempt)
            return reply_to, tag(attempt, wire.ABORTED)
        if base in self._current:
            return reply_to, tag(attempt, wire.ABORTED, anna.RETRY, "a newer attempt runs")
        return reply_to, tag(attempt, self.outcomes.setdefault(base, wire.ABORTED))

    def _get(self, frame: bytes) -> tuple[str, bytes]:
        request = anna.KeyRequest.FromString(frame)
        attempt, tuples = _split(request)
        running = Running() if attempt is None else self.running.get(attempt)
        if running is None:
            return _refused(request, anna.GET, tuples, anna.RETRY, "no such transaction runs here")
        theirs = [tuple_.key for tuple_ in tuples if tuple_.key not in running.writes]
        try:
            values = self.versions.read(theirs, running.reads)
        except NoFittingVersion:
            self.end(attempt or "")
            return _refused(request, anna.GET, tuples, anna.RETRY, "no version of a key fits")
        values |= running.writes
        response = anna.KeyResponse(type=anna.GET, response_id=request.request_id)
        for tuple_ in tuples:
            value = values[tuple_.key]
            if value is None:
                response.tuples.add(key=tuple_.key, error=anna.KEY_DNE)
            else:
                lattice, payload = last_writer_wins(value, timestamp=1)
                response.tuples.add(key=tuple_.key, lattice_type=lattice, payload=payload)
        return request.response_address, response.SerializeToString()

    def _put(self, frame: bytes) -> tuple[str, bytes]:
        request = anna.KeyRequest.FromString(frame)
        attempt, tuples = _split(request)
        running = Running() if attempt is None else self.running.get(attempt)
        if running is None:
            return _refused(request, anna.PUT, tuples, anna.RETRY, "no such transaction runs here")
        response = anna.KeyResponse(type=anna.PUT, response_id=request.request_id)
        for tuple_ in tuples:
            error = anna.NO_ERROR if tuple_.lattice_type == anna.LWW else anna.LATTICE
            response.tuples.add(key=tuple_.key, lattice_type=anna.LWW, error=error)
            if error == anna.NO_ERROR:
                running.writes[tuple_.key] = anna.LWWValue.FromString(tuple_.payload).value
        if attempt is None:
            self.versions.commit(running.writes)
        return request.response_address, response.SerializeToString()


def tag(
    id: str,  # noqa: A002
    status: wire.TransactionStatus,
    error: anna.AnnaError = anna.NO_ERROR,
    detail: str = "",
) -> bytes:
    """Write the answer to a start, commit or abort."""
    message = wire.TransactionTag(id=id, status=status, address=ADDRESS, error=error, detail=detail)
    return message.SerializeToString()


def _split(request: anna.KeyRequest) -> tuple[str | None, list[anna.KeyTuple]]:
    """Take the transaction's name out of the tuples."""
    ids = [tuple_ for tuple_ in request.tuples if tuple_.key == TRANSACTION_ID]
    tuples = [tuple_ for tuple_ in request.tuples if tuple_.key != TRANSACTION_ID]
    return (ids[0].payload.decode() if ids else None), tuples


def _refused(
    request: anna.KeyRequest,
    kind: anna.RequestType,
    tuples: list[anna.KeyTuple],
    error: anna.AnnaError,
    detail: str,
) -> tuple[str, bytes]:
    response = anna.KeyResponse(type=kind, response_id=request.request_id, error=error, detail=detail)
    for tuple_ in tuples:
        response.tuples.add(key=tuple_.key, error=error)
    return request.response_address, response.SerializeToString()
