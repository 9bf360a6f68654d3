"""Sidecars on Redis."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import aft
import pytest

from daemon import Daemon, run, until
from ports import free_offset
from redis_server import Redis
from tls import certificate
from wire import ABORTED, COMMITTED, Raw

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[..., Redis]]:
    """Makes servers that end with the test."""
    made: list[Redis] = []

    def make(*options: str, sentinel: bool = False) -> Redis:
        made.append(Redis(place, *options, sentinel=sentinel))
        return made[-1]

    yield make
    for redis in made:
        redis.kill()


@pytest.fixture
def redis(serve: Callable[..., Redis]) -> Redis:
    return serve(*DURABLE).start()


def on(redis: Redis, *more: str) -> tuple[str, ...]:
    return ("--storage", "redis", "--redis-url", redis.url, *more)


def test_transactions_with_the_client(redis: Redis, start: Callable[..., Daemon]) -> None:
    daemon = start(*on(redis))
    assert "redis 127.0.0.1" in daemon.ready
    with aft.Client(daemon.ipc) as client:
        with client.transaction() as txn:
            txn.put("a", b"1")
            txn.put("b/c", bytes(3 << 20))
        with client.transaction() as txn:
            assert txn.get("a") == b"1"
            assert txn.get("b/c") == bytes(3 << 20)
            assert txn.get("none") is None
    assert redis.cli("ZCARD", "aft:{0}:log") == "1"


def test_what_was_committed_survives_both(redis: Redis, start: Callable[..., Daemon]) -> None:
    daemon = start(*on(redis))
    with Raw(daemon.ipc) as raw:
        for number in range(50):
            raw.write({f"k{number}": b"%d" % number, "last": b"%d" % number})
        tid = raw.start().id
        raw.put({"open": b"v"}, tid)
    daemon.kill()
    redis.kill()
    redis.start()
    with Raw(start(*on(redis)).ipc) as raw:
        keys = [f"k{number}" for number in range(50)]
        assert raw.get(keys) == {f"k{n}": b"%d" % n for n in range(50)}
        assert raw.get("last") == {"last": b"49"}
        assert raw.commit(tid).status == ABORTED
        assert raw.get("open") == {"open": None}


def test_two_sidecars_with_gossip_and_without(redis: Redis, start: Callable[..., Daemon]) -> None:
    for prefix, gossips in (("with:", True), ("without:", False)):
        both = []
        one_at, two_at = free_offset(), free_offset()
        for name, offset, other in (("one", one_at, two_at), ("two", two_at, one_at)):
            peer = ("--peer", f"127.0.0.1:{other}") if gossips else ()
            more = ("--redis-prefix", prefix, "--port-offset", offset, *peer)
            both.append(start(*on(redis, *more), name=f"{prefix[:-1]}-{name}"))
        with Raw(both[0].ipc) as one, Raw(both[1].ipc) as two:
            for number, (writer, reader) in enumerate([(one, two), (two, one)] * 3):
                wanted: dict[str, bytes | None] = dict.fromkeys("abc", b"%d" % number)
                writer.write(dict.fromkeys("abc", b"%d" % number))
                until(lambda reader=reader, wanted=wanted: reader.get(list("abc")) == wanted)  # type: ignore[misc]
        for daemon in both:
            daemon.kill()


def test_a_server_that_dies_under_load(redis: Redis, start: Callable[..., Daemon]) -> None:
    daemon = start(*on(redis))
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        with Raw(daemon.ipc) as raw:
            for number in itertools.count():
                if stop.is_set():
                    return
                tid = raw.start().id
                raw.put({f"k{number}": b"%d" % number}, tid)
                # It answers "not known yet" while the store is away.
                if until(lambda tid=tid: raw.commit(tid).status, 30) == COMMITTED:  # type: ignore[misc]
                    acknowledged.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(2):
        before = len(acknowledged)
        until(lambda before=before: len(acknowledged) > before + 20)  # type: ignore[misc]
        redis.kill()
        redis.start()
    before = len(acknowledged)
    until(lambda: len(acknowledged) > before + 20)
    stop.set()
    writer.join()
    daemon.kill()
    with Raw(start(*on(redis)).ipc) as raw:
        values = raw.get([f"k{number}" for number in acknowledged])
        assert values == {f"k{number}": b"%d" % number for number in acknowledged}


def test_a_server_that_comes_later(serve: Callable[..., Redis], launch: Callable[..., Daemon]) -> None:
    redis = serve()
    daemon = launch(*on(redis))
    until(lambda: "waiting: cannot reach Redis" in daemon.logged())
    redis.start()
    with Raw(daemon.wait_until_ready().ipc) as raw:
        raw.write({"k": b"v"})
        assert raw.get("k") == {"k": b"v"}
    assert "neither an append-only file nor replicas" in daemon.logged()


def test_options_that_make_no_sense(serve: Callable[..., Redis], place: Path) -> None:
    redis = serve("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lfu").start()
    locked = serve().start()
    locked.cli("CONFIG", "SET", "requirepass", "right")
    locked.password = "right"
    for wanted, arguments in {
        "maxmemory-policy noeviction": on(redis),
        "NOAUTH": on(locked),
        "authentication failed": (
            "--storage",
            "redis",
            "--redis-url",
            locked.url.replace("//", "//:wrong@"),
        ),
        "redis-url": ("--storage", "redis", "--redis-url", "http://user:hush@127.0.0.1"),
        "redis-timeout": on(redis, "--redis-timeout", "0"),
        "redis-wait-timeout": on(redis, "--redis-wait", "1", "--redis-wait-timeout", "7"),
        "is no cluster": (
            "--storage",
            "redis",
            "--redis-url",
            ",".join([locked.url.replace("//", "//:right@")] * 2),
        ),
    }.items():
        given = ["--ipc-dir", str(place / "ipc"), "--admin", "127.0.0.1:0", *arguments]
        done = run("sidecar", *given)
        assert done.returncode != 0
        assert wanted in done.stderr, done.stderr
        assert "hush" not in done.stderr


def test_a_master_that_sentinels_watch(
    serve: Callable[..., Redis], start: Callable[..., Daemon]
) -> None:
    master = serve().start()
    replica = serve("--replicaof", "127.0.0.1", str(master.port)).start()
    until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"))
    sentinel = serve(sentinel=True).start()
    sentinel.cli("SENTINEL", "MONITOR", "mine", "127.0.0.1", str(master.port), "1")
    sentinel.cli("SENTINEL", "SET", "mine", "down-after-milliseconds", "500")
    sentinel.cli("SENTINEL", "SET", "mine", "failover-timeout", "2000")
    until(lambda: "slave0" in master.cli("INFO", "replication"))
    until(lambda: "num-slaves\n1" in sentinel.cli("SENTINEL", "MASTER", "mine"), 30)

    daemon = start(*on(sentinel, "--redis-sentinel", "mine", "--redis-wait", "1"))
    with Raw(daemon.ipc) as raw:
        raw.write({"before": b"v"})
    daemon.kill()
    daemon = start(*on(sentinel, "--redis-sentinel", "mine"))
    with Raw(daemon.ipc) as raw:
        master.kill()
        until(lambda: "role:master" in replica.cli("INFO", "replication"), 30)

        def is_written() -> bool:
            tid = raw.start().id
            raw.put({"after": b"v"}, tid)
            return bool(until(lambda: raw.commit(tid).status, 30) == COMMITTED)

        until(is_written, 60)
        assert raw.get(["before", "after"]) == {"before": b"v", "after": b"v"}
    assert replica.cli("ZCARD", "aft:{0}:log") == "2"


def test_tls(serve: Callable[..., Redis], place: Path) -> None:
    trusted, key = certificate(place)
    files = ("--tls-cert-file", str(trusted), "--tls-key-file", str(key))
    redis = serve(*files, "--tls-auth-clients", "no").start(plain=False)
    url = redis.url.replace("redis://", "rediss://")
    arguments = ("--storage", "redis", "--redis-url", url)
    trusting = Daemon(place, arguments, {"SSL_CERT_FILE": str(trusted)}, name="tls")
    try:
        with Raw(trusting.wait_until_ready().ipc) as raw:
            raw.write({"k": b"v"})
            assert raw.get("k") == {"k": b"v"}
    finally:
        trusting.kill()
    doubting = Daemon(place, arguments, {}, name="doubting")
    try:
        until(lambda: "certificate" in doubting.logged())
    finally:
        doubting.kill()
