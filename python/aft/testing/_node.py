"""A sidecar in memory: it takes the same bytes and gives the same answers, with no store behind it."""

from __future__ import annotations

import base64
from collections.abc import Callable

from aft._requests import TRANSACTION_ID, Kind, last_writer_wins
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna
from aft.ids import base_of, new_id
from aft.testing._cluster import Cluster, Held, Running, Visit
from aft.testing._versions import NoFittingVersion

ADDRESS = "127.0.0.1"


class Node:
    """What a sidecar knows. Takes a request, gives the answer and where it goes."""

    def __init__(self, cluster: Cluster | None = None, address: str = ADDRESS) -> None:
        self.address = address
        self.cluster = cluster or Cluster()
        self.versions = self.cluster.versions
        self.running = self.cluster.parts.setdefault(address, {})
        self.outcomes = self.cluster.outcomes
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
        attempts = list(self.running)
        self.running.clear()
        for attempt in attempts:
            if not self.cluster.is_running(attempt):
                self.end(attempt)

    def end(self, attempt: str) -> None:
        """Abort an attempt. Its id stays open."""
        self.cluster.end(attempt)

    def _start(self, frame: bytes) -> tuple[str, bytes]:
        reply_to, _, rest = frame.decode().partition("~")
        brought, *after = rest.split("~")
        for text in after:
            token = wire.CommitToken.FromString(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if self.outcomes.get(base_of(token.id)) != wire.COMMITTED:
                why = f"the commit {token.id} cannot be read on this node yet"
                return reply_to, self._tag("", wire.RUNNING, anna.NO_SERVERS, why)
        if not brought:
            return reply_to, self._begin(new_id())
        base = base_of(brought)
        if base in self.outcomes:
            return reply_to, self._tag(base, self.outcomes[base])
        if base in self.cluster.current:
            self.end(self.cluster.current[base])
        return reply_to, self._begin(f"{base}.{next(self.cluster.nonces):x}")

    def _begin(self, attempt: str) -> bytes:
        self.running[attempt] = Running()
        self.cluster.current[base_of(attempt)] = attempt
        return self._tag(attempt, wire.RUNNING)

    def _continue(self, frame: bytes) -> tuple[str, bytes]:
        request = wire.MetadataRequest.FromString(frame)
        why = self.cluster.go_on(request.tid, request.address, self.address)
        answer = f"{self.address}~{int(anna.RETRY)}~{why}" if why else self.address
        return request.responseAddress, answer.encode()

    def _commit(self, frame: bytes) -> tuple[str, bytes]:
        request = wire.CommitRequest.FromString(frame)
        attempt, base = request.tid, base_of(request.tid)
        why = ""
        if attempt in self.running:
            why = self.cluster.commit(attempt, self.address, list(request.addresses))
            self.outcomes[base] = wire.ABORTED if why else wire.COMMITTED
            self.end(attempt)
        elif base in self.cluster.current:
            unknown = self._tag(attempt, wire.RUNNING, anna.UNDECIDED, "an attempt still runs")
            return request.responseAddress, unknown
        outcome = self.outcomes.setdefault(base, wire.ABORTED)
        error = anna.RETRY if why else anna.NO_ERROR
        return request.responseAddress, self._tag(attempt, outcome, error, why)

    def _abort(self, frame: bytes) -> tuple[str, bytes]:
        attempt, _, reply_to = frame.decode().partition("~")
        base = base_of(attempt)
        if attempt in self.running:
            self.end(attempt)
            return reply_to, self._tag(attempt, wire.ABORTED)
        if base in self.cluster.current:
            why = "a newer attempt runs"
            return reply_to, self._tag(attempt, wire.ABORTED, anna.RETRY, why)
        return reply_to, self._tag(attempt, self.outcomes.setdefault(base, wire.ABORTED))

    def _get(self, frame: bytes) -> tuple[str, bytes]:
        request = anna.KeyRequest.FromString(frame)
        attempt, tuples = _split(request)
        running = Running() if attempt is None else self.running.get(attempt)
        if running is None:
            return _refused(request, anna.GET, tuples, anna.RETRY, "no such transaction runs here")
        theirs = [tuple_.key for tuple_ in tuples if tuple_.key not in running.writes]
        try:
            values = self.versions.read(theirs, running.reads)
            self._visit(running).steps += 1
        except NoFittingVersion:
            self.end(attempt or "")
            return _refused(request, anna.GET, tuples, anna.RETRY, "no version of a key fits")
        values |= {key: held.value for key, held in running.writes.items()}
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
        visit = self._visit(running)
        visit.steps, visit.puts = visit.steps + 1, visit.puts + 1
        response = anna.KeyResponse(type=anna.PUT, response_id=request.request_id)
        for tuple_ in tuples:
            error = anna.NO_ERROR if tuple_.lattice_type == anna.LWW else anna.LATTICE
            response.tuples.add(key=tuple_.key, lattice_type=anna.LWW, error=error)
            if error == anna.NO_ERROR:
                value = anna.LWWValue.FromString(tuple_.payload).value
                running.writes[tuple_.key] = Held(running.depth, self.address, value)
        if attempt is None:
            self.versions.commit({key: held.value for key, held in running.writes.items()})
        return request.response_address, response.SerializeToString()

    def _visit(self, running: Running) -> Visit:
        return running.visits.setdefault(self.address, Visit())

    def _tag(
        self,
        id: str,  # noqa: A002
        status: wire.TransactionStatus,
        error: anna.AnnaError = anna.NO_ERROR,
        detail: str = "",
    ) -> bytes:
        is_committed = status == wire.COMMITTED
        token = self.cluster.tokens.get(base_of(id), b"") if is_committed else b""
        return tag(id, status, error, detail, self.address, token)


def tag(
    id: str,  # noqa: A002
    status: wire.TransactionStatus,
    error: anna.AnnaError = anna.NO_ERROR,
    detail: str = "",
    address: str = ADDRESS,
    token: bytes = b"",
) -> bytes:
    """Write the answer to a start, commit or abort."""
    return wire.TransactionTag(
        id=id, status=status, address=address, error=error, detail=detail, token=token
    ).SerializeToString()


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
