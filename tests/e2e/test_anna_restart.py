"""The sidecar dies or is ended, and comes back to what it had put into Anna."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from anna import Reader, Server, ours, storage
from daemon import Daemon, until
from wire import ABORTED, COMMITTED, RUNNING, NoAnswer, Raw

CLIENTS = 3
KEYS_EACH = 3
spawn = multiprocessing.get_context("spawn")


@dataclass
class Try:
    """What a client knows of one transaction."""

    tid: str
    status: int | None = None


def keys_of(name: str) -> list[str]:
    return [f"{name}/{number}" for number in range(KEYS_EACH)]


def work_until_it_dies(ipc: Path, name: str, out: Connection) -> None:
    """Commits, and tells of each transaction what was answered. Runs in a process of its own."""
    dice = random.Random(name)
    with Raw(ipc) as raw:
        for number in range(10_000):
            base = f"{name}-{number}"
            # Some values are too large to be stored with their commit.
            size = 1 << 20 if dice.random() < 0.05 else dice.randrange(3_000)
            try:
                tid = until(lambda base=base: raw.start(base).id)  # type: ignore[misc]
                raw.put({key: base.encode() + bytes(size) for key in keys_of(base)}, tid)
                out.send((base, Try(tid)))
                ended = raw.abort(tid) if dice.random() < 0.1 else raw.commit(tid)
                out.send((base, Try(tid, ended.status)))
            except (NoAnswer, OSError):
                return


class Crowd:
    """Clients in processes of their own, and what they were told."""

    def __init__(self, ipc: Path, name: str) -> None:
        self.seen: dict[str, Try] = {}
        self.committed = 0
        self.pipes: list[Connection] = []
        self.processes = []
        for client in range(CLIENTS):
            receiver, sender = spawn.Pipe(duplex=False)
            arguments = (ipc, f"{name}-{client}", sender)
            process = spawn.Process(target=work_until_it_dies, args=arguments, daemon=True)
            process.start()
            sender.close()
            self.pipes.append(receiver)
            self.processes.append(process)
        self.collector = threading.Thread(target=self.collect)
        self.collector.start()

    def collect(self) -> None:
        open_pipes = list(self.pipes)
        while open_pipes:
            for pipe in wait(open_pipes):
                assert isinstance(pipe, Connection)
                try:
                    name, told = pipe.recv()
                except EOFError:
                    open_pipes.remove(pipe)
                    continue
                self.seen[name] = told
                self.committed += told.status == COMMITTED

    def end(self) -> dict[str, Try]:
        for process in self.processes:
            process.kill()
            process.join()
        self.collector.join()
        return self.seen


def is_there(raw: Raw, name: str) -> bool:
    values = set(raw.get(keys_of(name)).values())
    shown = {value and value.rstrip(b"\0") for value in values}
    assert shown in ({name.encode()}, {None}), f"{name} is there by half: {shown}"
    return shown != {None}


def settled(raw: Raw, one: Try) -> int:
    """How it ended, as soon as that is known."""

    def status() -> int | None:
        ended = raw.commit(one.tid)
        assert ended.status != RUNNING or ended.detail
        return None if ended.status == RUNNING else ended.status + 1

    return int(until(status)) - 1


def check(raw: Raw, store: Reader, seen: dict[str, Try]) -> None:
    """What was answered holds; the rest is all or nothing, and asking for it tells which."""
    for name, one in seen.items():
        if one.status == COMMITTED:
            assert is_there(raw, name), f"{name} was acknowledged and is lost"
        if one.status == ABORTED:
            assert not is_there(raw, name), f"{name} was aborted and is there"
    for name, one in seen.items():
        committed = (one.status or settled(raw, one)) == COMMITTED
        assert is_there(raw, name) == committed
        if committed:
            assert until(lambda name=name: raw.start(name).status) == COMMITTED  # type: ignore[misc]
        else:
            assert store.get(keys_of(name)[0]).error, f"{name} never took effect and is in the store"


def test_kill_dash_nine_in_the_middle_of_commits(
    serve: Callable[..., Daemon], store: Reader, prefix: str
) -> None:
    seen: dict[str, Try] = {}
    daemon = serve()
    for number in range(2):
        crowd = Crowd(daemon.ipc, f"{prefix}{number}")
        until(lambda crowd=crowd: crowd.committed > 40, 60)  # type: ignore[misc]
        daemon.kill()
        seen |= crowd.end()
        daemon = serve()
    with Raw(daemon.ipc) as raw:
        check(raw, store, seen)
        published = {keys_of(n)[0] for n, one in seen.items() if one.status == COMMITTED}
        until(lambda: all(store.lww(key) for key in published))
    daemon.kill()
    # What was found out stays so.
    with Raw(serve().ipc) as raw:
        for name, one in seen.items():
            assert is_there(raw, name) == (one.status == COMMITTED or is_settled(raw, one))


def is_settled(raw: Raw, one: Try) -> bool:
    return settled(raw, one) == COMMITTED


def test_what_the_store_is_told_late_by_a_dead_sidecar_counts_or_does_not(
    server: Server, serve: Callable[..., Daemon], prefix: str
) -> None:
    """A commit whose outcome nobody knows: what is answered for it once is so for ever."""
    daemon = serve()
    bases = [f"{prefix}{number}" for number in range(30)]
    with Raw(daemon.ipc) as raw:
        tids = []
        for base in bases:
            tids.append(raw.start(base).id)
            raw.put({key: base.encode() for key in keys_of(base)}, tids[-1])
        for tid in tids:
            raw.push["commit"].send(raw.commit_request(tid))
        raw.receive("commit")
        daemon.kill()
    with Raw(serve().ipc) as raw:
        told = [settled(raw, Try(tid)) for tid in tids]
        assert COMMITTED in told
        for base, tid, status in zip(bases, tids, told, strict=True):
            assert is_there(raw, base) == (status == COMMITTED)
            assert raw.start(base).status == status
            assert raw.commit(tid).status == status


def test_ids_that_clients_bring_are_served_at_once_after_a_crash(
    server: Server, start: Callable[..., Daemon], offset: str, prefix: str
) -> None:
    options = (*storage(server, "--port-offset", offset), "--anna-lands-within", "600")
    daemon = start(*options)
    with Raw(daemon.ipc) as raw:
        done = raw.write({prefix + "done": b"v"}, prefix + "id-done")
        open_tid = raw.start(prefix + "id-open").id
        raw.put({prefix + "open": b"v"}, open_tid)
    daemon.kill()
    with Raw(start(*options).ipc) as raw:
        assert raw.get(prefix + "done") == {prefix + "done": b"v"}
        assert raw.commit(done).status == COMMITTED
        assert raw.start(prefix + "id-done").status == COMMITTED
        raw.write({prefix + "retried": b"v"}, prefix + "id-retried")
        assert raw.commit(open_tid).status == ABORTED
        assert raw.start(prefix + "id-open").status == ABORTED
        assert raw.get([prefix + "open", prefix + "retried"]) == {
            prefix + "open": None,
            prefix + "retried": b"v",
        }


def test_after_an_orderly_end_nothing_is_waited_for(
    server: Server, start: Callable[..., Daemon], store: Reader, offset: str, prefix: str
) -> None:
    options = (*storage(server, "--port-offset", offset), "--anna-lands-within", "600")
    base, key = prefix + "id", prefix + "k"
    daemon = start(*options)
    with Raw(daemon.ipc) as raw:
        raw.write({key: b"v", prefix + "large": bytes(2 << 20)}, base)
    assert daemon.terminate() == 0
    daemon = start(*options)
    with Raw(daemon.ipc) as raw:
        assert raw.start(base).status == COMMITTED
        assert raw.commit(base).status == COMMITTED
        retried = prefix + "retried"
        raw.write({key: b"w"}, retried)
        assert raw.commit(prefix + "never").status == ABORTED
        assert raw.get(key) == {key: b"w"}
        store.until_published({key: b"w", prefix + "large": bytes(2 << 20)})
    assert daemon.terminate() == 0
    with Raw(start(*options).ipc) as raw:
        assert raw.start(retried).status == COMMITTED
        assert raw.start(prefix + "never").status == ABORTED
        assert raw.get(key) == {key: b"w"}


def test_what_was_committed_right_before_the_end_is_published(
    serve: Callable[..., Daemon], store: Reader, prefix: str
) -> None:
    values = {f"{prefix}{number}": b"%d" % number for number in range(300)}
    daemon = serve()
    with Raw(daemon.ipc) as raw:
        raw.write(values)
    assert daemon.terminate() == 0
    serve()
    store.until_published(values)


def test_what_was_committed_right_before_a_crash_is_published(
    serve: Callable[..., Daemon], store: Reader, prefix: str
) -> None:
    values = {f"{prefix}{number}": b"%d" % number for number in range(300)}
    daemon = serve()
    with Raw(daemon.ipc) as raw:
        raw.write(values)
    daemon.kill()
    serve()
    store.until_published(values)


def test_the_end_comes_with_the_last_transaction(sidecar: Daemon, prefix: str) -> None:
    with Raw(sidecar.ipc) as raw:
        tid = raw.start().id
        raw.put({prefix + "k": b"v"}, tid)
        sidecar.process.terminate()
        until(lambda: not (started := raw.start().id) or raw.abort(started).status != ABORTED)
        assert raw.abort(tid).status == ABORTED
        assert sidecar.process.wait(3) == 0


def test_the_log_of_a_dead_sidecar_is_taken_over(serve: Callable[..., Daemon], prefix: str) -> None:
    """So that the starts to come need not think of it."""
    daemon = serve()
    with Raw(daemon.ipc) as raw:
        raw.write({prefix + "k": b"v"})
    for _ in range(2):
        daemon.kill()
        daemon = serve()
        with Raw(daemon.ipc) as raw:
            assert raw.get(prefix + "k") == {prefix + "k": b"v"}
        until(lambda daemon=daemon: not daemon.status()["store"]["logs_to_take_over"])  # type: ignore[misc]


def test_timestamps_go_on_after_a_restart(
    serve: Callable[..., Daemon], store: Reader, prefix: str
) -> None:
    key, last = prefix + "k", 0
    for number in range(4):
        daemon = serve()
        with Raw(daemon.ipc) as raw:
            raw.write({key: b"%d" % number})
            timestamp = raw.payloads([key])[key].timestamp
            assert timestamp > last
            last = timestamp
            store.until_published({key: b"%d" % number})
        daemon.kill()


@ours
def test_a_store_that_is_not_there_is_waited_for(
    launch: Callable[..., Daemon], server: Server, offset: str, prefix: str
) -> None:
    server.kill()
    for comes in (False, True):
        daemon = launch(*storage(server, "--port-offset", offset), name=f"early{comes}")
        until(lambda daemon=daemon: "waiting for Anna" in daemon.logged())  # type: ignore[misc]
        if comes:
            server.start()
            with Raw(daemon.wait_until_ready().ipc) as raw:
                raw.write({prefix + "k": b"v"})
        else:
            daemon.terminate(6)
