"""The client against the daemon itself, if it was built. AFT_BIN names it, or it is in ../target."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import aft
import aft.aio
from aft.cloudburst import AftIpcClient
from aft.lattices import LWWPairLattice

REPOSITORY = Path(__file__).parents[2]
CANDIDATES = (
    os.environ.get("AFT_BIN", ""),
    str(REPOSITORY / "target/release/aft"),
    str(REPOSITORY / "target/debug/aft"),
)
BINARY = next((path for path in CANDIDATES if path and os.access(path, os.X_OK)), None)

pytestmark = pytest.mark.skipif(BINARY is None, reason="the daemon is not built")


class Sidecar:
    """A daemon of the test's own."""

    def __init__(self, ipc_dir: Path, *options: str) -> None:
        assert BINARY is not None
        command = [BINARY, "sidecar", "--ipc-dir", str(ipc_dir), "--admin", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("ready")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def sidecar(ipc_dir: Path) -> Iterator[Sidecar]:
    daemon = Sidecar(ipc_dir, "--storage", "memory")
    yield daemon
    daemon.end()


def add_one(txn: aft.Transaction) -> int:
    count = int(txn.get("count") or b"0") + 1
    txn.put("count", b"%d" % count)
    return count


def test_a_transaction(sidecar: Sidecar, client: aft.Client) -> None:
    with client.transaction() as txn:
        txn.put_many({"a": b"1", "empty": b"", "umlaut/ü": b"2", "large": b"x" * 5_000_000})
        assert txn.get("a") == b"1"
        assert client.get("a") is None
    wanted = {"a": b"1", "empty": b"", "umlaut/ü": b"2", "large": b"x" * 5_000_000, "none": None}
    assert client.get_many(wanted) == wanted


def test_once(sidecar: Sidecar, client: aft.Client) -> None:
    made = aft.new_id()
    assert client.run(add_one, id=made).value == 1
    assert client.run(add_one, id=made).replayed
    with pytest.raises(aft.AlreadyCommitted), client.transaction(made):
        pytest.fail("the block must not run")
    assert client.get("count") == b"1"
    assert client.resolve(made) is aft.Outcome.COMMITTED


def test_a_name_can_be_an_id_and_a_bad_one_is_refused(sidecar: Sidecar, client: aft.Client) -> None:
    assert client.run(add_one, id="order-17").id == "order-17"
    for bad in ("", "a b", "a/b", "a~b", "x" * 200):
        with pytest.raises(aft.InvalidRequest):
            client.run(add_one, id=bad)


def test_a_settled_id_goes_on_under_the_one_that_follows(sidecar: Sidecar, client: aft.Client) -> None:
    for made in (aft.new_id(), "order-17"):
        assert client.resolve(made) is aft.Outcome.ABORTED
        first = client.run(add_one, id=made)
        assert first.id != made
        assert client.run(add_one, id=made).replayed
    assert client.get("count") == b"2"


def test_resolving_an_id_does_not_commit_what_still_runs(sidecar: Sidecar, client: aft.Client) -> None:
    with client.transaction() as txn:
        txn.put("a", b"half")
        with pytest.raises(aft.OutcomeUnknown):
            client.resolve(txn.id, deadline=0.1)
        assert client.get("a") is None
        txn.put("b", b"other half")
    assert client.get_many(["a", "b"]) == {"a": b"half", "b": b"other half"}


def test_an_attempt_is_fenced_by_the_next(sidecar: Sidecar, client: aft.Client) -> None:
    with pytest.raises(aft.TransactionAborted), client.transaction("x") as zombie:
        zombie.put("a", b"zombie")
        with client.transaction("x") as second:
            assert second.get("a") is None
            second.put("b", b"second")
        zombie.put("c", b"zombie")
    assert client.get_many(["a", "b", "c"]) == {"a": None, "b": b"second", "c": None}


def test_an_abort_leaves_nothing(sidecar: Sidecar, client: aft.Client) -> None:
    with pytest.raises(KeyError), client.transaction("x") as txn:
        txn.put("a", b"1")
        raise KeyError
    assert client.get("a") is None
    assert client.run(add_one, id="x").value == 1


def test_another_function_goes_on(sidecar: Sidecar, client: aft.Client) -> None:
    with client.step() as first:
        first.put("a", b"1")
    assert client.get("a") is None
    with client.join(first.token) as second:
        assert second.get("a") == b"1"
        assert second.node == first.node
    assert client.get("a") == b"1"
    over = pytest.raises(aft.InvalidRequest, match="has committed already")
    with over, client.join(first.token):
        pytest.fail("the block must not run")
    with client.transaction(after=second.token) as third:
        assert third.get("a") == b"1"


def test_unknown_transactions_are_retryable(sidecar: Sidecar, ipc_dir: Path) -> None:
    kvs = AftIpcClient(0, None, ipc_dir=ipc_dir)
    with pytest.raises(aft.TransactionAborted):
        kvs.get("a", txn_id="unknown")
    tag = kvs.start()
    assert kvs.put("a", LWWPairLattice(1, b"1"), txn_id=tag.id) == {"a": True}
    value = kvs.get("a", txn_id=tag.id)["a"]
    assert value is not None
    assert value.reveal() == b"1"
    kvs.commit(tag)
    kvs.close()


def test_threads(sidecar: Sidecar, client: aft.Client) -> None:
    def work(number: int) -> None:
        with client.transaction() as txn:
            txn.put_many({f"{number}/{step}": b"v" for step in range(5)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(80)))
    assert None not in client.get_many(f"{n}/{s}" for n in range(80) for s in range(5)).values()


def test_asyncio(sidecar: Sidecar, ipc_dir: Path) -> None:
    async def work() -> None:
        async with aft.aio.AsyncClient(ipc_dir) as client:
            async with client.transaction() as txn:
                await txn.put("a", b"1")
            values = await asyncio.gather(*(client.get("a") for _ in range(300)))
            assert values == [b"1"] * 300

    asyncio.run(work())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_in_the_middle_is_a_retry_and_loses_nothing(
    ipc_dir: Path, tmp_path: Path, client: aft.Client, how: signal.Signals
) -> None:
    store = ("--storage", "embedded", "--data-dir", str(tmp_path))
    daemons = [Sidecar(ipc_dir, *store)]
    client.run(add_one, id="before")

    def restarted_once(txn: aft.Transaction) -> int:
        if len(daemons) == 1:
            txn.put("other", b"1")
            daemons[0].end(how)
            daemons.append(Sidecar(ipc_dir, *store))
        return add_one(txn)

    result = client.run(restarted_once, id="order-17", retries=1000, deadline=60)
    assert (result.value, result.replayed) == (2, False)
    assert client.run(add_one, id="before").replayed
    assert client.get_many(["count", "other"]) == {"count": b"2", "other": None}
    daemons[-1].end()
