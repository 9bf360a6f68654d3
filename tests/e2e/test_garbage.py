"""What nobody needs is forgotten, in memory and on the disk, and nobody notices."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aft
import pytest

from daemon import Daemon, run, until
from wire import ABORTED, COMMITTED, Raw

# Garbage is looked for often, so that nobody has to wait for it.
EAGER = ("--collect-each", "0.02")
KEYS = [f"key/{number}" for number in range(20)]
# Transactions are over, and outcomes forgotten, almost at once.
SHORT = ("--txn-lifetime", "0.2", "--retry-window", "2", "--clock-bound", "0.001")
# Nobody runs a transaction on a store at rest, and nobody asks again.
AT_ONCE = ("--txn-lifetime", "0.001", "--retry-window", "0.01", "--clock-bound", "0.001")


@pytest.fixture
def client_of() -> Iterator[Callable[[Daemon], aft.Client]]:
    made: list[aft.Client] = []

    def client_of(daemon: Daemon) -> aft.Client:
        made.append(aft.Client(ipc_dir=str(daemon.ipc)))
        return made[-1]

    yield client_of
    for client in made:
        client.close()


def inspect(daemon: Daemon) -> dict[str, Any]:
    """What `aft inspect` says of a sidecar that runs."""
    done = run("inspect", "--node", daemon.admin_address, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def at_rest(data: Path) -> dict[str, int]:
    """What it counts in a store that nobody uses."""
    done = run("inspect", "--data-dir", str(data), "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["usage"])


def collect(data: Path, *options: str) -> dict[str, int]:
    """What `aft gc --once` deletes from a store that nobody uses."""
    done = run("gc", "--once", "--json", "--data-dir", str(data), *AT_ONCE, *options)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["swept"])


def overwrite(client: aft.Client, rounds: int, seed: int = 0) -> dict[str, bytes]:
    """Writes a few keys at a time, again and again; answers what is there in the end."""
    dice = random.Random(seed)
    client.put_many(dict.fromkeys(KEYS, b"first"))
    written = dict.fromkeys(KEYS, b"first")
    for number in range(rounds):
        some = dict.fromkeys(dice.sample(KEYS, 4), b"%d" % number)
        with client.transaction() as txn:
            txn.put_many(some)
        written |= some
    return written


def test_what_is_overwritten_is_forgotten(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    daemon = start(*EAGER)
    written = overwrite(client_of(daemon), 400)
    until(lambda: daemon.status()["node"]["versions"] == len(KEYS))
    usage = until(lambda: (now := inspect(daemon)["usage"])["versions"] == len(KEYS) and now)
    assert (usage["keys"], usage["superseded"]) == (len(KEYS), 0)
    # Each entry is of a commit with a version that is still there, but for the last.
    assert usage["log_entries"] <= len(KEYS) + 1
    assert usage["outcomes"] >= 400, "whoever asks again is told"
    assert daemon.counter("aft_garbage_total") > 0
    node = inspect(daemon)["node"]
    assert node["garbage"]["deleted"] >= 400 * 4
    assert node["garbage"]["gone"] == 0
    daemon.kill()
    again = start(*EAGER)
    assert again.status()["sidecar"]["commits_loaded"] <= len(KEYS) + 1
    assert client_of(again).get_many(KEYS) == written


def test_the_table_says_the_same(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    daemon = start("--collect-garbage", "false")
    client_of(daemon).put_many({f"key/{number}": b"v" for number in range(1_234)})
    done = run("inspect", "--node", daemon.admin_address)
    assert re.search(r"live keys +1,234$", done.stdout, re.MULTILINE), done.stdout
    assert "keeps everything" in done.stdout
    assert re.search(r"keys in memory +1,234$", done.stdout, re.MULTILINE)
    wrong = run("inspect", "--node", "127.0.0.1:1")
    assert wrong.returncode == 1
    assert "--admin" in wrong.stderr


class Groups:
    """Ten times as many keys as the index holds; those of a group are always written together."""

    count = 250
    bound = 100

    @staticmethod
    def keys(group: int) -> list[str]:
        return [f"group/{group}/{number}" for number in range(4)]

    @classmethod
    def write(cls, client: aft.Client, group: int, value: bytes) -> None:
        client.run(lambda txn: txn.put_many(dict.fromkeys(cls.keys(group), value)))

    @classmethod
    def read(cls, client: aft.Client, *groups: int) -> dict[int, bytes | None]:
        """Reads groups in one transaction, key by key; each is whole."""

        def read(txn: aft.Transaction) -> dict[int, bytes | None]:
            seen = {}
            for group in groups:
                values = {txn.get(key) for key in cls.keys(group)}
                assert len(values) == 1, f"group {group} was read by half: {values}"
                seen[group] = values.pop()
            return seen

        value = client.run(read).value
        assert value is not None
        return value


def test_more_keys_than_the_index_holds(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    options = (*EAGER, "--index-keys-max", str(Groups.bound))
    daemon = start(*options)
    client = client_of(daemon)
    for group in range(Groups.count):
        assert client.get(Groups.keys(group)[0]) is None, "a key that never was"
        Groups.write(client, group, b"%d" % group)
    for round_ in range(2):
        for first in range(0, Groups.count, 5):
            some = range(first, first + 5)
            assert Groups.read(client, *some) == {group: b"%d" % group for group in some}
        until(lambda: daemon.status()["node"]["keys"] <= Groups.bound * 1.1)
        assert inspect(daemon)["usage"]["keys"] == Groups.count * 4, round_
    garbage = daemon.status()["node"]["garbage"]
    assert garbage["evicted"] >= Groups.count * 4
    assert garbage["heads"] >= Groups.count * 4
    daemon.kill()
    again = start(*options)
    assert again.status()["node"]["keys"] <= Groups.bound * 1.1
    client = client_of(again)
    for group in range(Groups.count):
        assert Groups.read(client, group) == {group: b"%d" % group}
    assert client.get("group/none") is None


def test_groups_stay_whole_while_they_are_forgotten_and_written(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    # What is overwritten while the index does not know it is found by sweeping, after a lifetime.
    sweeping = ("--sweep-each", "0.2", "--txn-lifetime", "2", "--clock-bound", "0.001")
    daemon = start(*EAGER, *sweeping, "--index-keys-max", str(Groups.bound))
    client = client_of(daemon)
    for group in range(Groups.count):
        Groups.write(client, group, b"0")
    is_over = threading.Event()

    def write() -> dict[int, bytes | None]:
        dice = random.Random(1)
        last: dict[int, bytes | None] = {}
        for number in range(600):
            group = dice.randrange(Groups.count)
            value = b"%d" % number
            Groups.write(client, group, value)
            last[group] = value
        is_over.set()
        return last

    def read(seed: int) -> int:
        dice, mine = random.Random(seed), client_of(daemon)
        reads = 0
        while not is_over.is_set():
            Groups.read(mine, *dice.sample(range(Groups.count), 3))
            reads += 1
        return reads

    with ThreadPoolExecutor() as threads:
        readers = [threads.submit(read, seed) for seed in range(3)]
        last = threads.submit(write).result()
        assert all(reader.result() > 0 for reader in readers)
    assert Groups.read(client, *last) == last
    until(lambda: inspect(daemon)["usage"]["superseded"] == 0)
    assert daemon.status()["node"]["keys"] <= Groups.bound * 1.1


def test_values_in_memory_are_bounded_in_bytes(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    bound, size = 200_000, 10_000
    daemon = start(*EAGER, "--cache-bytes-max", str(bound))
    client = client_of(daemon)
    for number in range(100):
        client.put(f"key/{number}", b"%d" % number * size)
        assert daemon.counter("aft_cache_bytes") <= bound
    # Those that are read have their turn, too, and what is not in memory is in the store.
    for number in range(100):
        assert client.get(f"key/{number}") == b"%d" % number * size
        assert daemon.counter("aft_cache_bytes") <= bound
    assert inspect(daemon)["node"]["cached_bytes"] > size, "some are kept"


def test_what_was_overwritten_leaves_the_value_cache(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    daemon = start(*EAGER)
    client = client_of(daemon)
    for number in range(50):
        client.put("k", b"%d" % (number % 10) * 10_000)
    until(lambda: daemon.counter("aft_index_versions") == 1)
    assert 10_000 < daemon.counter("aft_cache_bytes") < 20_000
    assert client.get("k") == b"9" * 10_000


def test_a_long_transaction_keeps_what_it_may_read(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    daemon = start(*EAGER)
    client, others = client_of(daemon), client_of(daemon)
    client.put_many({"a": b"old", "b": b"old", "c": b"old"})
    with client.transaction() as txn:
        assert txn.get("a") == b"old"
        for number in range(100):
            others.put_many({"a": b"%d" % number, "b": b"%d" % number, "c": b"%d" % number})
        # Looked for several times.
        graces = daemon.counter("aft_grace_periods_total")
        assert inspect(daemon)["usage"]["superseded"] >= 3
        assert txn.get("b") == b"old", "it was committed together with what was read first"
        assert txn.get("c") == b"old"
        shown = inspect(daemon)
        assert shown["usage"]["superseded"] >= 3
        assert shown["node"]["oldest_transaction_ms"] > 0
        assert daemon.counter("aft_grace_periods_total") == graces, "it waits for the transaction"
    until(lambda: inspect(daemon)["usage"]["superseded"] == 0)
    assert others.get_many(["a", "b", "c"]) == dict.fromkeys("abc", b"99")
    assert daemon.status()["node"]["garbage"]["gone"] == 0


def test_outcomes_are_forgotten_when_nobody_may_ask(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    options = (*EAGER, *SHORT, "--sweep-each", "0.2")
    daemon = start(*options)
    with Raw(daemon.ipc) as raw:
        tid = raw.start().id
        raw.put({"k": b"1"}, tid)
        assert raw.commit(tid).status == COMMITTED
        given_up = raw.start().id
        assert raw.abort(given_up).status == ABORTED
    client = client_of(daemon)
    for number in range(50):
        client.put("k", b"%d" % number)

    def is_forgotten() -> bool:
        usage = inspect(daemon)["usage"]
        # Those stay of commits whose version or log entry is there.
        return bool(usage["remains"] == 0 and usage["outcomes"] <= 2)

    until(is_forgotten, 30)
    # What the node itself remembers goes with it.
    daemon.kill()
    again = start(*options)
    base = tid.partition(".")[0]
    with Raw(again.ipc) as raw:
        asked = raw.commit(tid)
        assert asked.status not in (COMMITTED, ABORTED)
        assert "no longer known" in asked.detail
        retried = raw.start(base)
        assert retried.id == ""
        assert "no longer known" in retried.detail
    with pytest.raises((aft.OutcomeUnknown, aft.InvalidRequest)):
        client_of(again).resolve(base, deadline=1)
    assert client_of(again).get("k") == b"49"


def test_what_was_kept_is_collected_at_rest(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client]
) -> None:
    daemon = start("--collect-garbage", "false")
    written = overwrite(client_of(daemon), 100)
    refused = run("gc", "--once", "--data-dir", str(daemon.data))
    assert refused.returncode == 1
    assert "in use" in refused.stderr
    refused = run("inspect", "--data-dir", str(daemon.data))
    assert "--node" in refused.stderr
    assert inspect(daemon)["usage"]["superseded"] == 400
    daemon.terminate()
    assert at_rest(daemon.data)["superseded"] == 400
    halves = [collect(daemon.data, "--share", share) for share in ("1/2", "2/2")]
    assert all(0 < half["versions"] < 400 for half in halves)
    assert sum(half["versions"] for half in halves) == 400
    # A record is found by the first only if all of its versions were its own.
    records = sum(half["records"] for half in halves) + collect(daemon.data)["records"]
    assert records >= 100 - len(KEYS)

    def is_clean() -> bool:
        collect(daemon.data)
        return at_rest(daemon.data)["remains"] == 0

    until(is_clean)
    usage = at_rest(daemon.data)
    assert (usage["keys"], usage["versions"], usage["superseded"]) == (len(KEYS), len(KEYS), 0)
    assert usage["log_entries"] <= len(KEYS) + 1
    assert usage["outcomes"] == usage["log_entries"]
    assert client_of(start()).get_many(KEYS) == written


def test_it_is_kept_if_so_told(
    start: Callable[..., Daemon], client_of: Callable[[Daemon], aft.Client], place: Path
) -> None:
    eager = (*EAGER, *SHORT, "--sweep-each", "0.02")
    keeper = start(*eager, "--collect-garbage", "false", name="keep", data=place / "kept")
    collector = start(*eager, name="collect", data=place / "collected")
    for daemon in (keeper, collector):
        overwrite(client_of(daemon), 100)
    until(lambda: inspect(collector)["usage"]["remains"] == 0)
    usage = inspect(keeper)["usage"]
    assert usage["versions"] == len(KEYS) + 400
    assert (usage["log_entries"], usage["outcomes"], usage["remains"]) == (101, 101, 0)
    assert keeper.status()["node"]["versions"] == len(KEYS) + 400
    assert keeper.counter("aft_garbage_total") == 0


def test_stores_without_a_count_say_so(start: Callable[..., Daemon], place: Path) -> None:
    for command in (["gc", "--once"], ["inspect"]):
        missing = run(*command, "--data-dir", str(place / "none"))
        assert missing.returncode == 1
        assert "no store" in missing.stderr
        assert not (place / "none").exists(), "none is made"
        memory = run(*command, "--storage", "memory")
        assert memory.returncode == 1
        assert "--node" in memory.stderr
    assert run("gc", "--share", "3/2").returncode == 2
    shown = inspect(start("--storage", "memory"))
    assert (shown["storage"], shown["usage"]["keys"]) == ("memory", 0)


def test_anna_does_not_count(
    sidecar: Daemon, client_of: Callable[[Daemon], aft.Client], server: Any
) -> None:
    client = client_of(sidecar)
    for number in range(3):
        client.put_many({"a": b"%d" % number, "b": b"v"})
    shown = inspect(sidecar)
    assert shown["usage"] is None
    assert shown["uncounted"]
    assert shown["node"]["versions"] == 6
    anna = ("--storage", "anna", "--anna-routing", server.routing, "--ip", "127.0.0.1")
    table = run("inspect", *anna).stdout
    assert "Not counted" in table
    refused = run("gc", "--once", *anna)
    assert refused.returncode == 1
    assert "keeps everything" in refused.stderr
