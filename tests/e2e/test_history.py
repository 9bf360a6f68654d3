"""Histories that the daemon writes are judged by a checker that knows nothing of how it works."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from daemon import Daemon, until
from isolation import INITIAL, Transaction, is_read_atomic, parse
from wire import COMMITTED, Failed, Raw


def work(ipc: Path, seed: int, transactions: int) -> None:
    """Reads and writes at random under a few keys."""
    dice = random.Random(seed)
    keys = [f"k{number}" for number in range(6)]
    with Raw(ipc) as raw:
        for number in range(transactions):
            tid = raw.start().id
            try:
                for step in range(dice.randrange(1, 7)):
                    some = dice.sample(keys, dice.randrange(1, 4))
                    if dice.random() < 0.6:
                        raw.get(some, tid)
                    else:
                        raw.put({key: f"{seed}/{number}/{step}".encode() for key in some}, tid)
            except Failed:
                continue
            assert raw.commit(tid).status == COMMITTED


def run(start: Callable[..., Daemon], place: Path, *arguments: str) -> list[str]:
    history = place / "history"
    daemon = start("--history", str(history), *arguments)
    workers = [threading.Thread(target=work, args=(daemon.ipc, seed, 150)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert daemon.terminate() == 0
    return history.read_text().splitlines()


def test_a_busy_history_is_read_atomic(start: Callable[..., Daemon], place: Path) -> None:
    transactions = parse(run(start, place))
    assert len(transactions) > 300
    assert sum(len(t.reads) for t in transactions.values()) > 500
    assert is_read_atomic(transactions)


def test_a_busy_history_with_one_read_changed_is_noticed(
    start: Callable[..., Daemon], place: Path
) -> None:
    """Somebody read two keys of one commit. Were one of them older, it would be a fraction."""
    transactions = parse(run(start, place))
    doctored = fractured_copies(transactions)
    assert len(doctored) > 20
    for copy in random.Random(1).sample(doctored, 20):
        assert not is_read_atomic(copy)


def fractured_copies(transactions: dict[int, Transaction]) -> list[dict[int, Transaction]]:
    """Copies of a history in each of which one read returns something older than it did.

    Something that is older for sure: what the writer's own session had written before, or nothing.
    """
    writer = {(k, v): n for n, t in transactions.items() for k, v in t.writes.items()}
    copies = []
    for number, transaction in transactions.items():
        for place, (key, value) in enumerate(transaction.reads):
            source = writer.get((key, value))
            beside = {writer.get(read) for read in transaction.reads if read[0] != key}
            once = [k for k, _ in transaction.reads].count(key) == 1
            if source is None or source not in beside or not once:
                continue
            session = transactions[source].session
            earlier = (t for n, t in transactions.items() if n < source and t.session == session)
            for older in {INITIAL, *(t.writes[key] for t in earlier if key in t.writes)}:
                reads = [*transaction.reads[:place], (key, older), *transaction.reads[place + 1 :]]
                copies.append({**transactions, number: replace(transaction, reads=reads)})
    return copies


def test_a_key_may_appear_during_a_transaction(start: Callable[..., Daemon], place: Path) -> None:
    daemon = start("--history", str(place / "history"))
    with Raw(daemon.ipc) as early, Raw(daemon.ipc) as late:
        reader = early.start().id
        assert early.get(["k"], reader) == {"k": None}
        writer = late.start().id
        late.put({"k": b"v"}, writer)
        assert late.commit(writer).status == COMMITTED
        assert early.get(["k"], reader) == {"k": b"v"}
        assert early.commit(reader).status == COMMITTED
    assert daemon.terminate() == 0
    assert is_read_atomic(parse((place / "history").read_text().splitlines()))


def test_what_the_store_held_before_is_part_of_it(start: Callable[..., Daemon], place: Path) -> None:
    run(start, place)
    assert is_read_atomic(parse(run(start, place)))


def test_a_fractured_history_is_noticed() -> None:
    good = ["w(1,1,1,1)", "w(2,2,1,1)", "w(1,3,2,2)", "w(2,4,2,2)", "r(1,3,3,3)", "r(2,4,3,3)"]
    assert is_read_atomic(parse(good))
    fractured = ["w(1,1,1,1)", "w(2,2,1,1)", "r(1,1,2,2)", "r(2,0,2,2)"]
    assert not is_read_atomic(parse(fractured)), "one write of a transaction, and not the other"
    dirty = ["w(1,1,1,1)", "r(1,9,2,2)"]
    assert not is_read_atomic(parse(dirty)), "a value that nobody committed"


def test_last_writer_wins_is_not_read_atomic(start: Callable[..., Daemon], place: Path) -> None:
    def fractures() -> bool:
        return not is_read_atomic(
            parse(run(start, place, "--consistency", "lww", "--storage", "memory"))
        )

    until(fractures, 60)
