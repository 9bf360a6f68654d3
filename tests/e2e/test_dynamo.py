"""The daemon on DynamoDB. Needs an aft built with the feature `dynamodb`, as scripts/test does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import aft
import pytest

from daemon import Daemon, run, until
from dynamodb import DynamoDb, ours
from ministack import CREDENTIALS
from wire import Raw


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def dynamo(place: Path) -> Iterator[DynamoDb]:
    server = DynamoDb(place / "dynamodb")
    yield server
    server.kill()


def test_transactions_through_the_client_survive_a_kill(
    dynamo: DynamoDb, start: Callable[..., Daemon]
) -> None:
    daemon = start(*dynamo.options)
    assert f"dynamodb {dynamo.table}" in daemon.ready
    large = bytes(range(256)) * (12 << 10)
    with aft.Client(daemon.ipc) as client:
        with client.transaction() as txn:
            txn.put("a", b"1")
            txn.put("large", large)
        with client.transaction() as txn:
            assert (txn.get("a"), txn.get("large")) == (b"1", large)
            txn.put("a", b"2")
    assert daemon.status()["store"]["dynamodb_write_units"] > 0
    daemon.kill()
    again = start(*dynamo.options_without_create)
    assert again.ready.rstrip().endswith("commits=2")
    with aft.Client(again.ipc) as client, client.transaction() as txn:
        assert (txn.get("a"), txn.get("large"), txn.get("none")) == (b"2", large, None)


@pytest.mark.parametrize("gossip", [True, False])
def test_two_sidecars_on_one_table(
    dynamo: DynamoDb, start: Callable[..., Daemon], gossip: bool, offset: str
) -> None:
    offsets = {"one": offset, "two": str(int(offset) + 50)}
    daemons = {}
    for name, other in [("one", "two"), ("two", "one")]:
        peers = ["--peer", f"127.0.0.1:{offsets[other]}"] if gossip else []
        options = [*dynamo.options, "--port-offset", offsets[name], *peers]
        daemons[name] = start(*options, name=name)
    keys = [f"k{number}" for number in range(5)]
    with Raw(daemons["one"].ipc) as one, Raw(daemons["two"].ipc) as two:
        for number, (writer, reader) in enumerate([(one, two), (two, one)] * 3):
            wanted: dict[str, bytes | None] = dict.fromkeys(keys, b"%d" % number)
            writer.write(dict.fromkeys(keys, b"%d" % number))
            until(lambda reader=reader, wanted=wanted: reader.get(keys) == wanted)  # type: ignore[misc]


@ours
def test_a_server_that_goes_away_and_comes_back(dynamo: DynamoDb, start: Callable[..., Daemon]) -> None:
    daemon = start(*dynamo.options)
    with aft.Client(daemon.ipc) as client:
        with client.transaction() as txn:
            txn.put("k", b"before")
        dynamo.stop()
        with pytest.raises(aft.AftError), client.transaction() as txn:
            txn.put("k", b"meanwhile")
        dynamo.start()

        def writes() -> bool:
            try:
                with client.transaction() as txn:
                    txn.put("k", b"after")
            except aft.AftError:
                return False
            return True

        until(writes, 40)
        with client.transaction() as txn:
            assert txn.get("k") == b"after"


@ours
def test_a_server_that_comes_late(dynamo: DynamoDb, launch: Callable[..., Daemon]) -> None:
    dynamo.stop()
    daemon = launch(*dynamo.options)
    until(lambda: "waiting for DynamoDB" in daemon.logged())
    dynamo.start()
    daemon.wait_until_ready()


def test_what_cannot_work_is_said_at_the_start(
    dynamo: DynamoDb, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["sidecar", "--ipc-dir", str(place / "ipc"), "--admin", "127.0.0.1:0"]
    missing = run(*where, *dynamo.options_without_create)
    assert missing.returncode == 1
    assert dynamo.table in missing.stderr
    assert "--create" in missing.stderr
    nothing_left = run(*where, *dynamo.options, "--dynamodb-original", "AftData")
    assert nothing_left.returncode == 1
    assert "--dynamodb-original" in nothing_left.stderr
    assert '"AftData"' in nothing_left.stderr
    wrong = run("sidecar", "--check-config", "--dynamodb-table", "a b")
    assert wrong.returncode != 0
    assert "dynamodb-table" in wrong.stderr
    wrong = run("sidecar", "--check-config", "--dynamodb-endpoint", "localhost:8000")
    assert wrong.returncode != 0
    assert "http://" in wrong.stderr
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(place))
    nobody = run(*where, *dynamo.options)
    assert nobody.returncode == 1
    assert "credentials" in nobody.stderr
