"""A store with damaged files is refused, or serves what it was given. It never serves something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from daemon import Daemon
from wire import Failed, Raw

KEYS = [f"k{number}" for number in range(60)]
REFUSED = 1


def value_of(key: str) -> bytes:
    return key.encode() * 200


@pytest.fixture
def whole(start: Callable[..., Daemon], place: Path) -> Path:
    """A store with data files and, since it was killed, with a journal."""
    daemon = start()
    with Raw(daemon.ipc) as raw:
        for key in KEYS[:30]:
            raw.put({key: value_of(key)})
    assert daemon.terminate() == 0
    daemon = start()
    with Raw(daemon.ipc) as raw:
        for key in KEYS[30:]:
            raw.put({key: value_of(key)})
    daemon.kill()
    return daemon.data.rename(place / "whole")


def files_of(store: Path) -> dict[str, bytes]:
    paths = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def old_lists(store: Path) -> set[str]:
    """The lists of files that `current` does not name any more.

    The engine removes them when it opens a store, also if it then finds damage in another part of it.
    """
    old = set()
    for current in store.rglob("current"):
        number = int.from_bytes(current.read_bytes()[:8], "little")
        lists = set(current.parent.glob("v*")) - {current.parent / f"v{number}"}
        old |= {str(path.relative_to(store)) for path in lists}
    return old


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # A journal ends with zeros that were allocated in advance.
    content[len(bytes(content).rstrip(b"\0")) // 2] ^= 0x10
    path.write_bytes(content)


def cut(path: Path) -> None:
    used = len(path.read_bytes().rstrip(b"\0"))
    os.truncate(path, used // 2)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, remove])
def test_damage_is_noticed(whole: Path, place: Path, damage: Callable[[Path], None]) -> None:
    names = [name for name, content in files_of(whole).items() if content]
    assert any(name.endswith(".jnl") for name in names)
    assert any("tables" in name for name in names)
    old = old_lists(whole)
    refused = set()
    for number, name in enumerate(names):
        data = place / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(whole, data)
        damage(data / name)
        before = files_of(data)
        daemon = Daemon(place, [], {}, f"{number}-")
        try:
            if is_refused(daemon):
                refused.add(name)
                assert str(data) in daemon.logged(), f"{name}: {daemon.logged()}"
                what_to_do = ("move", "name another directory")
                assert any(advice in daemon.logged() for advice in what_to_do), daemon.logged()
                after = files_of(data)
                before = {name: before[name] for name in before if name in after or name not in old}
                assert after == before, f"{name}: what cannot be used is left alone"
            else:
                with Raw(daemon.ipc) as raw:
                    check_values(raw, name)
        finally:
            daemon.kill()
        assert "panicked" not in daemon.logged(), f"{name}: {daemon.logged()}"
    assert {"format", "db/version"} <= refused
    assert any(name.endswith(".jnl") for name in refused)
    assert any(name.endswith("current") for name in refused)


def is_refused(daemon: Daemon) -> bool:
    assert daemon.process.stdout
    if daemon.process.stdout.readline().startswith("ready"):
        return False
    assert daemon.process.wait(20) == REFUSED, daemon.logged()
    return True


def check_values(raw: Raw, name: str) -> None:
    """A read may fail. It may not say something wrong."""
    for key in KEYS:
        with suppress(Failed):
            assert raw.get(key) == {key: value_of(key)}, f"with {name} damaged"


def test_a_refused_store_is_fine_again_once_restored(whole: Path, place: Path) -> None:
    journal = max(whole.rglob("*.jnl"), key=lambda path: path.stat().st_size)
    content = journal.read_bytes()
    for _ in range(2):
        flip(journal)
        shutil.copytree(whole, place / "data")
        daemon = Daemon(place, [], {}, "broken")
        assert is_refused(daemon)
        daemon.kill()
        shutil.rmtree(place / "data")
        journal.write_bytes(content)
    shutil.copytree(whole, place / "data")
    daemon = Daemon(place, [], {}, "restored").wait_until_ready()
    try:
        with Raw(daemon.ipc) as raw:
            assert raw.get(KEYS) == {key: value_of(key) for key in KEYS}
    finally:
        daemon.kill()
