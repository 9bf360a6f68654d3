"""What was answered COMMITTED is there, whole, whatever happens to the process or the disk."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from daemon import BINARY, Daemon, until
from wire import ABORTED, COMMITTED, NoAnswer, Raw

KEYS_EACH = 3
CLIENTS = 4
spawn = multiprocessing.get_context("spawn")


def keys_of(name: str) -> list[str]:
    return [f"{name}/{number}" for number in range(KEYS_EACH)]


def commit_until_it_dies(ipc: Path, client: int, round_number: int, out: Connection) -> None:
    """Commits transactions, and tells of each what was answered. Runs in a process of its own."""
    with Raw(ipc) as raw:
        for number in range(10_000):
            name = f"{round_number}/{client}/{number}"
            try:
                tid = raw.start().id
                raw.put({key: name.encode() for key in keys_of(name)}, tid)
                out.send((name, "sent"))
                out.send((name, raw.commit(tid).status))
            except (NoAnswer, OSError):
                return


def collect(
    pipes: list[Connection], seen: dict[str, object], enough: threading.Event, target: int
) -> None:
    """Reads what clients tell until all are gone."""
    committed = 0
    open_pipes = list(pipes)
    while open_pipes:
        for pipe in multiprocessing.connection.wait(open_pipes):
            assert isinstance(pipe, Connection)
            try:
                name, status = pipe.recv()
            except EOFError:
                open_pipes.remove(pipe)
                continue
            seen[name] = status
            committed += status == COMMITTED
            if committed >= target:
                enough.set()


def test_kill_dash_nine_under_load(start: Callable[..., Daemon]) -> None:
    seen: dict[str, object] = {}
    for round_number in range(4):
        daemon = start()
        pipes, clients, ends = [], [], []
        for client in range(CLIENTS):
            receiver, sender = spawn.Pipe(duplex=False)
            arguments = (daemon.ipc, client, round_number, sender)
            process = spawn.Process(target=commit_until_it_dies, args=arguments, daemon=True)
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
    daemon = start()
    with Raw(daemon.ipc) as raw:
        check_all(raw, seen)
    assert sum(status == COMMITTED for status in seen.values()) >= 200


def check_all(raw: Raw, seen: dict[str, object]) -> None:
    for name, status in seen.items():
        values = set(raw.get(keys_of(name)).values())
        assert len(values) == 1, f"{name} is there by half: {values}"
        if status == COMMITTED:
            assert values == {name.encode()}, f"{name} was acknowledged and is lost"
        if status == ABORTED:
            assert values == {None}, f"{name} was aborted and is there"


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
        assert daemon.process.wait(5) == 0
    with Raw(start().ipc) as raw:
        assert raw.get("k") == {"k": b"v"}


def test_sigterm_waits_for_nobody_for_ever(start: Callable[..., Daemon]) -> None:
    daemon = start()
    with Raw(daemon.ipc) as raw:
        raw.start()
        assert daemon.terminate(8) == 0


def test_a_store_in_use_is_refused(start: Callable[..., Daemon], place: Path) -> None:
    start()
    second = Daemon(place, [], {}, "second")
    assert second.process.wait(20) == 1
    assert "in use" in second.logged()
    second.kill()


def test_a_damaged_store_is_refused_with_what_to_do(start: Callable[..., Daemon], place: Path) -> None:
    daemon = start()
    with Raw(daemon.ipc) as raw:
        for number in range(50):
            raw.put({f"k{number}": os.urandom(500)})
    daemon.kill()
    whole = place / "whole"
    shutil.copytree(daemon.data, whole)
    journal = max(daemon.data.rglob("*.jnl"), key=lambda path: path.stat().st_mtime)
    content = bytearray(journal.read_bytes())
    middle = len(bytes(content).rstrip(b"\0")) // 2
    content[middle] ^= 0x10
    journal.write_bytes(content)
    for _ in range(2):
        broken = Daemon(place, [], {}, "broken")
        assert broken.process.wait(20) == 1
        assert "damaged" in broken.logged()
        assert "move" in broken.logged()
        broken.kill()
    shutil.rmtree(daemon.data)
    shutil.copytree(whole, daemon.data)
    with Raw(start().ipc) as raw:
        assert len(raw.get("k0")["k0"] or b"") == 500


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


def test_a_full_disk(small_disk: Path, place: Path) -> None:
    command = [
        BINARY,
        "sidecar",
        "--ipc-dir",
        str(place / "ipc"),
        "--data-dir",
        str(small_disk / "data"),
    ]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--admin", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout
    try:
        assert process.stdout.readline().startswith(b"ready")
        with Raw(place / "ipc") as raw:
            raw.put({"first": b"v"})
            filler = small_disk / "filler"
            with filler.open("wb") as file:
                free = os.statvfs(small_disk)
                file.write(bytes(max(0, free.f_bavail * free.f_frsize - (4 << 20))))
            tid = raw.start().id
            raw.put({"k": b"v"}, tid)
            full = raw.commit(tid)
            assert full.status == ABORTED
            assert "room" in full.detail or "full" in full.detail or "space" in full.detail
            assert raw.get(["first", "k"]) == {"first": b"v", "k": None}
            filler.unlink()

            def commits_again() -> bool:
                tid = raw.start().id
                raw.put({"k": b"w"}, tid)
                return raw.commit(tid).status == COMMITTED

            until(commits_again)
            assert raw.get("k") == {"k": b"w"}
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
