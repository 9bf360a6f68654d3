"""What was answered COMMITTED is there, whole, whatever happens to the process or the disk."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from aft._wire import aft_pb2 as aft

from daemon import Daemon, until
from wire import ABORTED, COMMITTED, NoAnswer, Raw, lww, tag

KEYS_EACH = 3
CLIENTS = 4
spawn = multiprocessing.get_context("spawn")


def keys_of(name: str) -> list[str]:
    return [f"{name}/{number}" for number in range(KEYS_EACH)]


@dataclass
class Try:
    """What a client knows of one transaction."""

    tid: str
    status: int | None = None


def work_until_it_dies(ipc: Path, client: int, round_number: int, out: Connection) -> None:
    """Commits and aborts, and tells of each what was answered. Runs in a process of its own."""
    dice = random.Random(f"{client} {round_number}")
    with Raw(ipc) as raw:
        for number in range(10_000):
            name = f"{round_number}-{client}-{number}"
            try:
                tid = raw.start(name).id
                for key in keys_of(name):
                    raw.put({key: name.encode() + bytes(dice.randrange(3_000))}, tid)
                out.send((name, Try(tid)))
                ended = raw.abort(tid) if dice.random() < 0.1 else raw.commit(tid)
                out.send((name, Try(tid, ended.status)))
            except (NoAnswer, OSError):
                return


def collect(pipes: list[Connection], seen: dict[str, Try], enough: threading.Event, target: int) -> None:
    """Reads what clients tell until all are gone."""
    committed = 0
    open_pipes = list(pipes)
    while open_pipes:
        for pipe in multiprocessing.connection.wait(open_pipes):
            assert isinstance(pipe, Connection)
            try:
                name, told = pipe.recv()
            except EOFError:
                open_pipes.remove(pipe)
                continue
            seen[name] = told
            committed += told.status == COMMITTED
            if committed >= target:
                enough.set()


def test_kill_dash_nine_under_load(start: Callable[..., Daemon]) -> None:
    seen: dict[str, Try] = {}
    for round_number in range(5):
        daemon = start()
        with Raw(daemon.ipc) as raw:
            check_all(raw, seen)
        pipes, clients, ends = [], [], []
        for client in range(CLIENTS):
            receiver, sender = spawn.Pipe(duplex=False)
            arguments = (daemon.ipc, client, round_number, sender)
            process = spawn.Process(target=work_until_it_dies, args=arguments, daemon=True)
            process.start()
            pipes.append(receiver)
            clients.append(process)
            ends.append(sender)
        for sender in ends:
            sender.close()
        enough = threading.Event()
        target = random.Random(round_number).randrange(50, 300)
        collector = threading.Thread(target=collect, args=(pipes, seen, enough, target))
        collector.start()
        assert enough.wait(60)
        daemon.kill()
        for process in clients:
            process.kill()
            process.join()
        collector.join()
    with Raw(start().ipc) as raw:
        check_all(raw, seen)
        check_asking_again(raw, seen)
    assert sum(one.status == COMMITTED for one in seen.values()) >= 250
    assert sum(one.status == ABORTED for one in seen.values()) >= 10


def is_there(raw: Raw, name: str) -> bool:
    values = set(raw.get(keys_of(name)).values())
    shown = {value and value.rstrip(b"\0") for value in values}
    assert shown in ({name.encode()}, {None}), f"{name} is there by half: {shown}"
    return shown != {None}


def check_all(raw: Raw, seen: dict[str, Try]) -> None:
    for name, one in seen.items():
        there = is_there(raw, name)
        if one.status == COMMITTED:
            assert there, f"{name} was acknowledged and is lost"
        if one.status == ABORTED:
            assert not there, f"{name} was aborted and is there"


def check_asking_again(raw: Raw, seen: dict[str, Try]) -> None:
    """Those whose answer was lost are told the truth, and what they are told stays."""
    for name, one in seen.items():
        there = is_there(raw, name)
        if one.status is None:
            assert raw.commit(one.tid).status == (COMMITTED if there else ABORTED)
        if there:
            assert raw.start(name).status == COMMITTED
        assert is_there(raw, name) == there


def journals(daemon: Daemon) -> dict[str, bytes]:
    """What they hold; they end with zeros that were allocated in advance."""
    return {path.name: path.read_bytes().rstrip(b"\0") for path in daemon.data.rglob("*.jnl")}


def test_a_sidecar_that_ends_leaves_nothing_to_be_read_again(start: Callable[..., Daemon]) -> None:
    for round_number in range(3):
        daemon = start()
        with Raw(daemon.ipc) as raw:
            expected = {f"k{earlier}": b"v" * 1000 for earlier in range(round_number)}
            assert raw.get(list(expected)) == expected
            raw.put({f"k{round_number}": b"v" * 1000})
        assert any(journals(daemon).values())
        assert daemon.terminate() == 0
        assert set(journals(daemon).values()) == {b""}


def test_a_commit_is_known_after_a_restart(start: Callable[..., Daemon]) -> None:
    daemon = start()
    with Raw(daemon.ipc) as raw:
        tid, open_tid = raw.start("order-7").id, raw.start("order-8").id
        raw.put({"k": b"v"}, tid)
        raw.put({"k": b"never"}, open_tid)
        assert raw.commit(tid).status == COMMITTED
    daemon.kill()
    with Raw(start().ipc) as raw:
        assert raw.start("order-7").status == COMMITTED
        assert raw.commit(tid).status == COMMITTED
        assert raw.commit(open_tid).status == ABORTED
        assert raw.start("order-8").status == ABORTED
        assert raw.get("k") == {"k": b"v"}


def test_sigterm_answers_what_runs_and_exits_0(start: Callable[..., Daemon]) -> None:
    daemon = start()
    with Raw(daemon.ipc) as raw:
        tid = raw.start().id
        raw.put({"k": b"v"}, tid)
        daemon.process.terminate()
        until(lambda: raw.start().id == "")
        assert raw.get("k", tid) == {"k": b"v"}, "a running transaction gets its grace time"
        assert raw.commit(tid).status == COMMITTED
        # What was started until it drained may use up the grace time.
        assert daemon.process.wait(8) == 0
    with Raw(start().ipc) as raw:
        assert raw.get("k") == {"k": b"v"}


def test_sigterm_waits_for_nobody_for_ever(start: Callable[..., Daemon]) -> None:
    daemon = start()
    with Raw(daemon.ipc) as raw:
        raw.start()
        # The transaction gets its five seconds.
        assert daemon.terminate(6) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_was_asked_before_the_end_is_answered(
    start: Callable[..., Daemon], how: signal.Signals
) -> None:
    daemon = start()
    with Raw(daemon.ipc) as raw:
        tids = [raw.start().id for _ in range(100)]
        for number, tid in enumerate(tids):
            raw.put({f"k{number}": b"v"}, tid)
        for tid in tids:
            raw.push["commit"].send(raw.commit_request(tid))
        daemon.process.send_signal(how)
        answers = [tag(raw.receive("commit")) for _ in tids]
        assert {(answer.id, answer.status) for answer in answers} == {(tid, COMMITTED) for tid in tids}
        assert daemon.process.wait(5) == 0
    with Raw(start().ipc) as raw:
        keys = [f"k{number}" for number in range(100)]
        assert raw.get(keys) == dict.fromkeys(keys, b"v")


def test_values_come_back_from_the_disk_as_they_were(start: Callable[..., Daemon]) -> None:
    values = {
        "empty": b"",
        "byte": b"\0",
        "page": os.urandom(4096),
        "large": os.urandom(20 << 20),
        "like a pair": aft.KeyValuePair(key="k", value=b"inner", tid="t").SerializeToString(),
        "like a value": lww(b"inner"),
        "key/with/slashes": b"1",
        "ключ\n~": b"2",
    }
    daemon = start()
    with Raw(daemon.ipc) as raw:
        raw.put(values)
        raw.put({"many": b"1"})
        raw.put({"many": b"2"})
        before = raw.payloads(["many"])["many"].timestamp
    daemon.kill()
    with Raw(start().ipc) as raw:
        assert raw.get(list(values)) == values
        assert raw.payloads(["many"])["many"].value == b"2"
        assert raw.payloads(["many"])["many"].timestamp == before
        raw.put({"many": b"3"})
        assert raw.payloads(["many"])["many"].timestamp > before
        assert raw.get("many") == {"many": b"3"}


def test_a_store_in_use_is_refused(start: Callable[..., Daemon], place: Path) -> None:
    start()
    second = Daemon(place, [], {}, "second")
    assert second.process.wait(20) == 1
    assert "in use" in second.logged()
    second.kill()


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    disk = place / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk(small_disk: Path, start: Callable[..., Daemon]) -> None:
    data = small_disk / "data"
    daemon = start(data=data)
    filler = small_disk / "filler"
    kept: dict[str, bytes | None] = {"first": b"v", "refused": None}
    with Raw(daemon.ipc) as raw:
        raw.put({"first": b"v"})
        filler.write_bytes(bytes(16 << 20))
        refused, written = None, 0
        while refused is None:
            key, value = f"large{written}", os.urandom(1 << 20)
            tid = raw.start().id
            raw.put({key: value}, tid)
            ended = raw.commit(tid)
            if ended.status == COMMITTED:
                kept[key] = value
                written += 1
                assert written < 64, "there is no room for more"
            else:
                assert ended.status == ABORTED
                refused = ended
                kept[key] = None
        assert written > 5
        assert any(word in refused.detail for word in ("room", "full", "space")), refused.detail
        assert raw.get(list(kept)) == kept, "reads are served"
        filler.unlink()

        def commits_again() -> bool:
            tid = raw.start().id
            raw.put({"after": b"w"}, tid)
            return raw.commit(tid).status == COMMITTED

        until(commits_again)
        kept["after"] = b"w"
        assert raw.get(list(kept)) == kept
    daemon.kill()
    daemon = start(data=data)
    with Raw(daemon.ipc) as raw:
        assert raw.get(list(kept)) == kept
