"""The fake that tests use."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, TypeVar

from aft import _core, _ipc
from aft._drive import Driver
from aft._flows import Settings
from aft._requests import Continue, Get, Kind, Put, Request, Start
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna
from aft.aio import AsyncClient
from aft.aio._drive import AsyncDriver
from aft.client import Client
from aft.results import Outcome
from aft.testing._cluster import Cluster
from aft.testing._faults import Fault, Killed, Plan
from aft.testing._node import Node, tag

R = TypeVar("R")

_OUTCOMES = {wire.COMMITTED: Outcome.COMMITTED, wire.ABORTED: Outcome.ABORTED}
_NOT_DONE = {
    Fault.STORE_DOWN: anna.NO_SERVERS,
    Fault.ABORT: anna.RETRY,
}
_MAY_BE_UNDECIDED = {Kind.COMMIT, Kind.ABORT}


class FakeAft:
    """A sidecar in memory, for tests of functions that use transactions.

    Its clients are the real ones, with the real retries, and speak the real protocol; only the
    sockets, the store and the clock are not there. Pauses and time-outs take no time.

    >>> fake = FakeAft({"stock": b"1"})
    >>> with fake.client().transaction() as txn:
    ...     txn.put("stock", b"0")
    >>> fake.values
    {'stock': b'0'}
    """

    def __init__(self, values: Mapping[str, bytes] | None = None, *, nodes: int = 1) -> None:
        """Hold ``values`` to begin with. With several ``nodes`` it is as many sidecars on one store."""
        self._lock = threading.Lock()
        self._cluster = Cluster()
        self._nodes = [Node(self._cluster, f"127.0.0.{number}") for number in range(1, nodes + 1)]
        self._plans: list[Plan] = []
        self._dead: set[str | None] = set()
        self._now_s = 0.0
        #: How often each kind of request arrived, such as ``requests["commit"]``.
        self.requests = {kind.value: 0 for kind in Kind}
        if values:
            self._cluster.versions.commit(dict(values))

    def client(self, node: int = 0, *, deadline: float = _core.DEADLINE_S) -> Client:
        """Make a client of this sidecar, or of one of them, counted from 0."""
        exchange = _Exchange(self, self._nodes[node])
        return Client._over(Driver(exchange, self._pass), self._settings(deadline))

    def async_client(self, node: int = 0, *, deadline: float = _core.DEADLINE_S) -> AsyncClient:
        """Make an asyncio client of this sidecar, or of one of them, counted from 0."""
        driver = AsyncDriver(_AsyncExchange(self, self._nodes[node]), self._pass_async)
        return AsyncClient._over(driver, self._settings(deadline))

    @property
    def values(self) -> dict[str, bytes]:
        """What is committed now, by key."""
        with self._lock:
            return self._cluster.versions.newest()

    @property
    def running(self) -> list[str]:
        """The attempts that neither committed nor were aborted."""
        with self._lock:
            return list(dict.fromkeys(name for node in self._nodes for name in node.running))

    def outcome(self, id: str) -> Outcome | None:  # noqa: A002
        """How an id ended, or ``None`` if it has not. Unlike ``Client.resolve`` this settles nothing."""
        with self._lock:
            return _OUTCOMES.get(self._cluster.outcomes.get(id, wire.RUNNING))

    def restart(self, node: int = 0) -> None:
        """Lose what runs there, as a sidecar that is restarted does."""
        with self._lock:
            self._nodes[node].restart()

    def fail_next(self, kind: str, fault: Fault, *, times: int = 1, after: int = 0) -> None:
        """Let something go wrong with requests of a kind: start, get, put, commit, abort or continue.

        It happens ``times`` times, after the first ``after`` such requests went well.
        """
        plan = Plan(Kind(kind), fault, times, after)
        if fault is Fault.UNDECIDED and plan.kind not in _MAY_BE_UNDECIDED:
            raise ValueError("only a commit or an abort can be undecided")
        self._plans.append(plan)

    def abort_next_commit(self, times: int = 1) -> None:
        """Let commits be answered with ABORTED, as under a conflict of attempts."""
        self.fail_next("commit", Fault.ABORT, times=times)

    def lose_next_commit_answer(self, times: int = 1) -> None:
        """Let commits take effect, and their callers not hear of it."""
        self.fail_next("commit", Fault.LOSE_ANSWER, times=times)

    def kill_after_puts(self, puts: int) -> None:
        """Raise ``Killed`` at the put after so many, as if the function's process died there."""
        self.fail_next("put", Fault.KILL, after=puts)

    def answer(self, node: Node, request: Request[R], within_s: float) -> R:
        """Serve one request of a client, or let it go wrong as planned."""
        with self._lock:
            fault = next((p.fault for p in self._plans if p.strikes(request.kind)), None)
            # A start is of the process that comes after.
            attempt = None if request.kind is Kind.START else request.about
            if fault is Fault.KILL:
                self._dead.add(attempt)
            if fault is Fault.KILL or (attempt is not None and attempt in self._dead):
                raise Killed(f"killed before {request.kind.value}")
            if fault is Fault.NO_SIDECAR:
                raise _ipc.unreachable("there is no sidecar: planned by the test", request.about)
            frame = None
            if fault is not Fault.LOSE_REQUEST:
                self.requests[request.kind.value] += 1
                frame = self._served(node, request, fault)
            if frame is None:
                self._now_s += within_s
                raise _ipc.unanswered(within_s, request.about)
            answer = request.decode(frame)
            assert answer is not None, "the fake sidecar answered something else"
            return answer

    def _served(self, node: Node, request: Request[R], fault: Fault | None) -> bytes | None:
        if fault is not None and fault in _NOT_DONE:
            return self._not_done(node, request, fault)
        _, frame = node.answer(request.kind, request.encode("fake"))
        if fault is Fault.LOSE_ANSWER:
            return None
        if fault is Fault.UNDECIDED:
            return tag(request.about or "", wire.RUNNING, anna.UNDECIDED, "not known yet")
        return frame

    def _not_done(self, node: Node, request: Request[Any], fault: Fault) -> bytes:
        error, detail = _NOT_DONE[fault], "planned by the test"
        about = request.about or ""
        if fault is Fault.ABORT:
            node.end(about)
        match request:
            case Get(number=number) | Put(number=number):
                response = anna.KeyResponse(response_id=number, error=error, detail=detail)
                return response.SerializeToString()
            case Continue():
                return f"{node.address}~{int(error)}~{detail}".encode()
            case Start():
                return tag("", wire.RUNNING, error, detail)
        status = wire.ABORTED if fault is Fault.ABORT else wire.RUNNING
        return tag(about, status, error, detail)

    def _settings(self, deadline: float) -> Settings:
        settings = _core.settings_for(deadline, None)
        settings.clock = lambda: self._now_s
        settings.draw = lambda: 0.5
        return settings

    def _pass(self, seconds: float) -> None:
        self._now_s += seconds

    async def _pass_async(self, seconds: float) -> None:
        self._now_s += seconds


class _Exchange:
    def __init__(self, fake: FakeAft, node: Node) -> None:
        self._fake = fake
        self._node = node

    def ask(self, request: Request[R], within_s: float) -> R:
        return self._fake.answer(self._node, request, within_s)

    def close(self) -> None:
        pass


class _AsyncExchange:
    def __init__(self, fake: FakeAft, node: Node) -> None:
        self._fake = fake
        self._node = node

    async def ask(self, request: Request[R], within_s: float) -> R:
        return self._fake.answer(self._node, request, within_s)

    def close(self) -> None:
        pass
