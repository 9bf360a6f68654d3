"""The daemon on DynamoDB and on S3. Needs an aft built with both features, as scripts/test does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import aft
import pytest

from daemon import Daemon, run, until
from dynamodb import DynamoDb
from ministack import CREDENTIALS, Ministack
from ports import free_offset
from s3 import S3
from tls import TlsFront, certificate
from wire import Raw


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=[DynamoDb, S3])
def store(request: pytest.FixtureRequest, place: Path) -> Iterator[Ministack]:
    server: Ministack = request.param(place / "server")
    yield server
    server.kill()


@pytest.fixture
def ours(store: Ministack) -> Ministack:
    """A server that can be stopped."""
    if not store.is_ours:
        pytest.skip("needs a server that can be stopped")
    return store


def test_transactions_through_the_client_survive_a_kill(
    store: Ministack, start: Callable[..., Daemon]
) -> None:
    daemon = start(*store.options)
    assert store.name in daemon.ready
    large = bytes(range(256)) * (12 << 10)
    with aft.Client(daemon.ipc) as client:
        with client.transaction() as txn:
            txn.put("a", b"1")
            txn.put("large", large)
        with client.transaction() as txn:
            assert (txn.get("a"), txn.get("large")) == (b"1", large)
            txn.put("a", b"2")
    assert daemon.status()["store"][store.used] > 0
    daemon.kill()
    again = start(*store.options_without_create)
    assert again.ready.rstrip().endswith("commits=2")
    with aft.Client(again.ipc) as client, client.transaction() as txn:
        assert (txn.get("a"), txn.get("large"), txn.get("none")) == (b"2", large, None)


@pytest.mark.parametrize("gossip", [True, False])
def test_two_sidecars_on_one_store(store: Ministack, start: Callable[..., Daemon], gossip: bool) -> None:
    offsets = {"one": free_offset(), "two": free_offset()}
    daemons = {}
    for name, other in [("one", "two"), ("two", "one")]:
        peers = ["--peer", f"127.0.0.1:{offsets[other]}"] if gossip else []
        options = [*store.options, "--port-offset", offsets[name], *peers]
        daemons[name] = start(*options, name=name)
    keys = [f"k{number}" for number in range(5)]
    with Raw(daemons["one"].ipc) as one, Raw(daemons["two"].ipc) as two:
        for number, (writer, reader) in enumerate([(one, two), (two, one)] * 3):
            wanted: dict[str, bytes | None] = dict.fromkeys(keys, b"%d" % number)
            writer.write(dict.fromkeys(keys, b"%d" % number))
            until(lambda reader=reader, wanted=wanted: reader.get(keys) == wanted)  # type: ignore[misc]


def test_what_is_superseded_goes_and_can_be_counted(
    store: Ministack, start: Callable[..., Daemon]
) -> None:
    daemon = start(*store.options)
    with aft.Client(daemon.ipc) as client:
        for number in range(20):
            with client.transaction() as txn:
                txn.put("a", b"%d" % number)
                txn.put("b", b"%d" % number)

        def counted() -> bool:
            found = run("inspect", "--node", daemon.admin_address, "--json")
            usage = json.loads(found.stdout)["usage"]
            return (usage["keys"], usage["versions"], usage["log_entries"]) == (2, 2, 1)

        until(counted, 40)
    assert daemon.terminate() == 0
    at_rest = run("inspect", *store.options_without_create, "--json")
    usage = json.loads(at_rest.stdout)["usage"]
    assert (usage["keys"], usage["superseded"], usage["outcomes"]) == (2, 0, 20)
    collected = run("gc", "--once", *store.options_without_create, "--json")
    assert collected.returncode == 0, collected.stderr
    swept = json.loads(collected.stdout)["swept"]
    assert (swept["versions"], swept["outcomes"]) == (0, 0)
    again = start(*store.options_without_create)
    assert again.ready.rstrip().endswith("commits=1")
    with aft.Client(again.ipc) as client, client.transaction() as txn:
        assert (txn.get("a"), txn.get("b")) == (b"19", b"19")


def test_a_server_that_goes_away_and_comes_back(ours: Ministack, start: Callable[..., Daemon]) -> None:
    daemon = start(*ours.options)
    with aft.Client(daemon.ipc) as client:
        with client.transaction() as txn:
            txn.put("k", b"before")
        ours.stop()
        with pytest.raises(aft.AftError), client.transaction() as txn:
            txn.put("k", b"meanwhile")
        ours.start()

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


def test_tls(ours: Ministack, launch: Callable[..., Daemon], place: Path) -> None:
    trusted, key = certificate(place)
    with TlsFront(ours.port, trusted, key) as front:
        options = [front.url if option == ours.url else option for option in ours.options]
        trusting = launch(*options, environment={"SSL_CERT_FILE": str(trusted)}, name="trusting")
        with aft.Client(trusting.wait_until_ready().ipc) as client:
            with client.transaction() as txn:
                txn.put("k", b"v")
            with client.transaction() as txn:
                assert txn.get("k") == b"v"
        doubting = launch(*options, name="doubting")
        until(lambda: "certificate" in doubting.logged(), 40)


def test_a_server_that_comes_late(ours: Ministack, launch: Callable[..., Daemon]) -> None:
    ours.stop()
    daemon = launch(*ours.options)
    until(lambda: f"waiting for {ours.title}" in daemon.logged())
    ours.start()
    daemon.wait_until_ready()


def test_what_cannot_work_is_said_at_the_start(
    store: Ministack, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["sidecar", "--ipc-dir", str(place / "ipc"), "--admin", "127.0.0.1:0"]
    missing = run(*where, *store.options_without_create)
    assert missing.returncode == 1
    assert store.name in missing.stderr
    assert "--create" in missing.stderr
    wrong = run("sidecar", "--check-config", f"--{store.option}", "a b")
    assert wrong.returncode != 0
    assert store.option in wrong.stderr
    endpoint = store.option.split("-")[0] + "-endpoint"
    wrong = run("sidecar", "--check-config", f"--{endpoint}", "localhost:9000")
    assert wrong.returncode != 0
    assert "http://" in wrong.stderr
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(place))
    nobody = run(*where, *store.options)
    assert nobody.returncode == 1
    assert "credentials" in nobody.stderr


def test_what_the_original_left_must_be_there(place: Path) -> None:
    where = ["sidecar", "--ipc-dir", str(place / "ipc"), "--admin", "127.0.0.1:0"]
    server = DynamoDb(place / "server")
    try:
        nothing_left = run(*where, *server.options, "--dynamodb-original", "AftData")
    finally:
        server.kill()
    assert nothing_left.returncode == 1
    assert "--dynamodb-original" in nothing_left.stderr
    assert '"AftData"' in nothing_left.stderr
