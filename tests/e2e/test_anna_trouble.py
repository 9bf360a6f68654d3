"""Anna in trouble: whoever asks is answered in time, what was answered holds, and it goes on after."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aft._wire import aft_pb2 as aft
from aft._wire import anna_pb2 as anna

from anna import IP, Reader, Server, cpu_seconds, ours, storage
from daemon import Daemon, until
from isolation import INITIAL, Transaction, is_read_atomic
from wire import ABORTED, COMMITTED, RUNNING, Failed, Raw, tag

pytestmark = ours

KEYS = 6
SESSIONS = 12
# What the deadlines of the promises are exceeded by on a busy machine.
SLACK_S = 1.0


class Workload:
    """Sessions that read and write at random, and what each saw. A value names its transaction."""

    def __init__(self, ipc: Path, prefix: str) -> None:
        self.ipc, self.prefix = ipc, prefix
        self.stop = threading.Event()
        self.done: list[list[Transaction]] = [[] for _ in range(SESSIONS)]
        self.failures: list[BaseException] = []
        self.details: set[str] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.session, args=(n,)) for n in range(SESSIONS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()
        assert not self.failures, self.failures

    def session(self, session: int) -> None:
        try:
            with Raw(self.ipc) as raw:
                dice = random.Random(session)
                for number in range(1, 1_000_000):
                    if self.stop.is_set():
                        return
                    self.transaction(raw, dice, session, number)
        except BaseException as failure:
            self.failures.append(failure)
            self.stop.set()

    def transaction(self, raw: Raw, dice: random.Random, session: int, number: int) -> None:
        value = number * SESSIONS + session
        seen = Transaction(session)
        reads: dict[int, int] = {}
        tid = raw.start(f"{self.prefix}{value}").id
        if not tid:
            return
        try:
            for _ in range(dice.randrange(1, 5)):
                some = dice.sample(range(KEYS), dice.randrange(1, 4))
                if dice.random() < 0.5:
                    found = raw.get([self.name(key) for key in some], tid)
                    for key in some:
                        read = int(found[self.name(key)] or INITIAL)
                        if key in seen.writes:
                            assert read == value, "it does not read its own write"
                        else:
                            # What was missing may appear; all else is repeatable.
                            assert reads.get(key) in (None, INITIAL, read)
                            reads[key] = read
                else:
                    raw.put({self.name(key): b"%d" % value for key in some}, tid)
                    seen.writes |= dict.fromkeys(some, value)
        except Failed as failed:
            self.details.add(str(failed))
            if failed.error in (anna.TIMEOUT, anna.NO_SERVERS):
                raw.abort(tid)
        if self.settle(raw, tid):
            seen.reads = list(reads.items())
            self.done[session].append(seen)

    def settle(self, raw: Raw, tid: str) -> bool:
        """Commits, and asks until it is known how that ended."""

        def status() -> int | None:
            ended = raw.commit(tid)
            if ended.status != COMMITTED:
                self.details.add(ended.detail)
                assert ended.detail
            return None if ended.status == RUNNING else ended.status

        return bool(until(status, 60) == COMMITTED)

    def name(self, key: int) -> str:
        return f"{self.prefix}k{key}"

    def commits(self) -> int:
        return sum(map(len, self.done))

    def progress(self, count: int) -> None:
        """Waits for so many more commits."""
        goal = self.commits() + count
        until(lambda: self.failures or self.commits() >= goal, 60)

    def check(self) -> None:
        history: dict[int, Transaction] = {}
        for transactions in self.done:
            for transaction in transactions:
                history[len(history) + 1] = transaction
        assert sum(len(t.reads) for t in history.values()) > len(history) / 2
        assert is_read_atomic(history)

    def newest(self, raw: Raw) -> dict[str, bytes | None]:
        return raw.get([self.name(key) for key in range(KEYS)])


def judge(work: Workload, serve: Callable[..., Daemon], daemon: Daemon) -> None:
    """What was seen fits together; nothing of it is lost when the sidecar has to ask the store."""
    work.check()
    with Raw(daemon.ipc) as raw:
        before = work.newest(raw)
    assert all(before.values())
    daemon.kill()
    with Raw(serve().ipc) as raw:
        assert work.newest(raw) == before


FAULTS: dict[str, dict[str, object]] = {
    "lost": {"drop_requests": 0.1, "drop_replies": 0.1, "seed": 1},
    "late, doubled, out of order": {
        "delay_ms": [0, 40],
        "twice": 0.5,
        "reorder": 0.5,
        "seed": 2,
    },
    "misdirected": {"wrong_thread": 0.3, "twice": 0.1, "seed": 3},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_transactions_through_faults(
    server: Server, serve: Callable[..., Daemon], prefix: str, fault: str
) -> None:
    # Hardly anything is cached, so that reads, too, meet the faults.
    daemon = serve("--cache-bytes-max", "20")
    work = Workload(daemon.ipc, prefix)
    with work.running():
        work.progress(20)
        server.misbehave(**FAULTS[fault])
        work.progress(30)
        if fault == "misdirected":
            for _ in range(3):
                server.post("/move", rotate=1)
                work.progress(20)
        server.misbehave()
        work.progress(20)
    judge(work, serve, daemon)


def test_transactions_through_outages(server: Server, serve: Callable[..., Daemon], prefix: str) -> None:
    daemon = serve("--cache-bytes-max", "20")
    work = Workload(daemon.ipc, prefix)
    with work.running():
        work.progress(20)
        before = server.count("address_requests")
        server.misbehave(no_servers=True)
        until(lambda: server.count("address_requests") > before + 20)
        server.misbehave()
        work.progress(20)
        server.misbehave(silent=True)
        until(lambda: server.count("requests_dropped") > 20)
        server.misbehave()
        work.progress(20)
        for _ in range(2):
            server.kill()
            server.start()
            work.progress(20)
        assert server.process
        server.process.send_signal(signal.SIGSTOP)
        # It reads on where it was: what it was sent meanwhile is done late. All sessions may be waiting
        # for one write of the log, so that they are told nothing before commits are.
        work.details.clear()
        until(lambda: work.details or work.failures, 20)
        server.process.send_signal(signal.SIGCONT)
        work.progress(20)
    judge(work, serve, daemon)


class Asked(threading.Thread):
    """One request, how it was answered, and after how long."""

    def __init__(self, ipc: Path, ask: Callable[[Raw], object]) -> None:
        super().__init__()
        self.ipc, self.ask = ipc, ask
        self.answer: object = None
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        with Raw(self.ipc) as raw:
            begun = time.monotonic()
            self.answer = self.ask(raw)
            self.seconds = time.monotonic() - begun


def tag_of(answer: object) -> aft.TransactionTag:
    assert isinstance(answer, aft.TransactionTag)
    return answer


def error_of(answer: object) -> tuple[int, str]:
    """What an answer says went wrong."""
    if isinstance(answer, anna.KeyResponse):
        assert answer.tuples
        errors = {item.error for item in answer.tuples}
        assert len(errors) == 1
        assert all(item.error or not item.payload for item in answer.tuples)
        return errors.pop(), answer.detail
    return tag_of(answer).error, tag_of(answer).detail


@pytest.mark.parametrize("trouble", ["gone", "silent"])
def test_everybody_is_answered_in_time_while_the_store_is_away(
    server: Server, start: Callable[..., Daemon], offset: str, prefix: str, trouble: str
) -> None:
    daemon = start(*storage(server, "--port-offset", offset, "--cache-bytes-max", "5000"))
    cached, cold = prefix + "cached", prefix + "cold"
    with Raw(daemon.ipc) as raw:
        raw.write({cold: b"v" * 10_000})
        raw.write({cached: b"c"})
        doomed, reading = raw.start().id, raw.start().id
        tids = [raw.start().id, raw.start(prefix + "id").id]
        for tid in (doomed, *tids):
            raw.put({prefix + tid: b"v"}, tid)
        if trouble == "gone":
            server.kill()
        else:
            server.misbehave(silent=True)
        used, begun = cpu_seconds(daemon.process.pid), time.monotonic()
        quick = {
            "a get of an unknown key": lambda r: r.get_response([prefix + "unknown"], reading),
            "a get of what is not cached": lambda r: r.get_response([cold]),
            "a get of both kinds": lambda r: r.get_response([cached, cold]),
            "a start under an id": lambda r: r.start(prefix + "other"),
            "a set": lambda r: put_set(r, prefix + "set"),
        }
        slow = {
            "a commit": lambda r: r.commit(tids[0]),
            "a commit under an id": lambda r: r.commit(tids[1]),
            "a commit of nobody's": lambda r: r.commit(prefix + "nobody"),
            "an abort of nobody's": lambda r: r.abort(prefix + "nobody-either"),
            "a put without a transaction": lambda r: r.put_response({prefix + "alone": b"v"}),
        }
        requests = quick | slow if trouble == "gone" else quick
        asked = {what: Asked(daemon.ipc, ask) for what, ask in requests.items()}
        # What needs no store is served.
        assert raw.get(cached) == {cached: b"c"}
        fresh = raw.start()
        assert fresh.id
        raw.put({prefix + "fresh": b"v"}, fresh.id)
        assert raw.get(prefix + "fresh", fresh.id) == {prefix + "fresh": b"v"}
        assert raw.abort(doomed).status == ABORTED
        assert time.monotonic() - begun < 2
        for one in asked.values():
            one.join()
        for what, one in asked.items():
            error, detail = error_of(one.answer)
            assert one.seconds < (4 if what in quick else 10) + SLACK_S, what
            assert error not in (anna.NO_ERROR, anna.KEY_DNE), what
            assert detail, what
        told: list[int] = [RUNNING, RUNNING]
        if trouble == "gone":
            told = [tag_of(asked[what].answer).status for what in list(slow)[:4]]
            assert told[2:] == [RUNNING, RUNNING]
            # A commit that was not even sent may be over.
            assert set(told[:2]) <= {RUNNING, ABORTED}
        share = (cpu_seconds(daemon.process.pid) - used) / (time.monotonic() - begun)
        assert share < 0.2, "it spins"
        if trouble == "gone":
            server.start()
        else:
            server.misbehave()
        for tid, before in zip(tids, told, strict=False):
            after = until(lambda tid=tid: raw.commit(tid).status)  # type: ignore[misc]
            assert after == (before or COMMITTED)
            assert raw.get(prefix + tid) == {prefix + tid: b"v" if after == COMMITTED else None}
        assert until(lambda: raw.commit(prefix + "nobody").status) == ABORTED
        until(lambda: raw.start(prefix + "other").id)
        assert raw.get(cold) == {cold: b"v" * 10_000}
        assert raw.get(prefix + "unknown", reading) == {prefix + "unknown": None}
        assert raw.commit(fresh.id).status == COMMITTED


def put_set(raw: Raw, key: str) -> anna.KeyResponse:
    request = raw.request("put", None)
    payload = anna.SetValue(values=[b"x"]).SerializeToString()
    request.tuples.add(key=key, lattice_type=anna.SET, payload=payload)
    return anna.KeyResponse.FromString(raw.call("put", request.SerializeToString()))


def test_what_was_not_answered_while_the_store_was_away_takes_effect_once(
    server: Server, sidecar: Daemon, prefix: str
) -> None:
    """Its clients give up and come again under the same id; many of them, more than once."""
    bases = [f"{prefix}{number}" for number in range(40)]
    with Raw(sidecar.ipc) as raw:
        first = {base: raw.start(base).id for base in bases}
        for base, tid in first.items():
            raw.put({base: b"first"}, tid)
        server.misbehave(silent=True)
        for tid in first.values():
            raw.push["commit"].send(raw.commit_request(tid))
        again = Asked(sidecar.ipc, lambda r: [r.start(base) for base in bases[:1]])
        server.misbehave(drop_replies=0.3, seed=4)
        told = {answer.id: answer for answer in (tag(raw.receive("commit")) for _ in bases)}
        again.join()
        server.misbehave()
        committed = 0
        for base, tid in first.items():
            until(lambda tid=tid: told[tid].status or told.update({tid: raw.commit(tid)}))  # type: ignore[misc]
            if told[tid].status == ABORTED:
                # Nobody had said yet where in the store it belongs.
                assert told[tid].detail
                assert raw.get(base) == {base: None}
                continue
            committed += 1
            assert raw.start(base).status == COMMITTED
            assert raw.get(base) == {base: b"first"}
        assert committed > len(bases) / 2


def test_what_cannot_be_published_now_is_published_later(
    server: Server, sidecar: Daemon, store: Reader, prefix: str
) -> None:
    keys: list[str] = []
    with Raw(sidecar.ipc) as raw:

        def commits_without_routing() -> bool:
            """Where the commit goes is known ahead, where its key's value goes is not."""
            server.misbehave()
            keys.append(f"{prefix}{len(keys)}")
            tid = raw.start().id
            raw.put({keys[-1]: b"v"}, tid)
            server.misbehave(no_servers=True)
            return raw.commit(tid).status == COMMITTED

        until(commits_without_routing, 30)
        begun = time.monotonic()
        # It is either tried again and again, or was given up.
        until(lambda: not sidecar.status()["node"]["store_operations"] or time.monotonic() > begun + 4)
        server.misbehave()
        store.until_published({keys[-1]: b"v"}, 5)


@pytest.fixture
def forgetful(place: Path) -> Iterator[Server]:
    """A store in memory."""
    server = Server()
    yield server
    server.kill()


def test_a_store_that_comes_back_empty(
    forgetful: Server, start: Callable[..., Daemon], offset: str, prefix: str
) -> None:
    options = storage(forgetful, "--port-offset", offset, "--cache-bytes-max", "100")
    daemon = start(*options)
    lost, beside, after = prefix + "lost", prefix + "beside", prefix + "after"
    with Raw(daemon.ipc) as raw:
        raw.write({lost: b"v" * 1000, beside: b"w" * 1000})
        tid = raw.start().id
        raw.put({after: b"1"}, tid)
        forgetful.kill()
        forgetful.start()
        # It must not seem that the key never was.
        answer = raw.get_response([lost])
        assert [item.error for item in answer.tuples] == [anna.RETRY]
        assert "no longer stored" in answer.detail
        reading = raw.start().id
        assert raw.get_response([beside], reading).tuples[0].error == anna.RETRY
        assert raw.commit(reading).status == ABORTED
        assert raw.commit(tid).status == COMMITTED
        assert raw.get(after) == {after: b"1"}
        raw.write({lost: b"again"})
        assert raw.get(lost) == {lost: b"again"}


@pytest.mark.parametrize("commits", [1, 2000])
def test_what_is_committed_after_the_store_forgot_all_is_found_after_a_restart(
    forgetful: Server, start: Callable[..., Daemon], offset: str, prefix: str, commits: int
) -> None:
    options = storage(forgetful, "--port-offset", offset, "--anna-lands-within", "1")
    daemon = start(*options)
    with Raw(daemon.ipc) as raw:
        for number in range(commits):
            tid = raw.start().id
            raw.put({f"{prefix}{number}": b"v"}, tid)
            raw.push["commit"].send(raw.commit_request(tid))
        assert all(tag(raw.receive("commit")).status == COMMITTED for _ in range(commits))
        forgetful.post("/forget")
        raw.write({prefix + "after": b"kept"}, prefix + "id")
        # It looks once a second whether the store still knows of its log.
        with Reader(forgetful.routing) as store:
            until(lambda: store.elements("aft~nodes"))
            until(lambda: store.lww(f"aft~g~{IP}:{offset}"))
    daemon.kill()
    with Raw(start(*options).ipc) as raw:
        assert raw.get(prefix + "after") == {prefix + "after": b"kept"}
        until(lambda: raw.start(prefix + "id").status == COMMITTED)


def test_idle_it_asks_little(server: Server, sidecar: Daemon, prefix: str) -> None:
    with Raw(sidecar.ipc) as raw:
        raw.write({prefix + "k": b"v"})
    pid = sidecar.process.pid
    used, asked, begun = cpu_seconds(pid), server.requests(), time.monotonic()
    until(lambda: time.monotonic() > begun + 1.5)
    assert cpu_seconds(pid) - used < 0.15
    assert server.requests() - asked < 60


def test_waiting_for_the_store_costs_nothing(server: Server, sidecar: Daemon, prefix: str) -> None:
    server.kill()
    used, begun = cpu_seconds(sidecar.process.pid), time.monotonic()
    with Raw(sidecar.ipc) as raw:
        assert raw.get_response([prefix + "unknown"]).tuples[0].error
    assert cpu_seconds(sidecar.process.pid) - used < 0.5 * (time.monotonic() - begun)
