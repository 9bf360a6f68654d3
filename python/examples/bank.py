"""A bank whose functions are killed at random, with aft and without.

Money moves between the two accounts of a pair, so a pair's sum never changes. Each transfer runs in a
process of its own; many of them are killed on the way (SIGKILL: before, between and after their writes)
and started again under the same id, as a serverless platform would. Meanwhile readers look at the pairs.

A read that finds another sum has seen a fraction of a transfer. A transfer whose id stands twice in its
pair's log was done twice. Both are counted, once through transactions and once with each key written on
its own, which is what the store alone gives.

Read atomicity does not prevent lost updates, so each pair has one transfer at a time here.

Run a sidecar first:   aft sidecar --ipc-dir /tmp/aft --data-dir /tmp/aft-data
Then:                  AFT_IPC_DIR=/tmp/aft python examples/bank.py
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol

import aft

START_BALANCE = 500
PAIR_SUM = 2 * START_BALANCE
#: Where a function may die, in the order in which it gets there.
KILL_POINTS = ("before the first write", "between two writes", "before the commit", "after the commit")

# Forked processes find everything imported, so that starting one takes milliseconds.
processes = multiprocessing.get_context("fork")


class Writes(Protocol):
    """What a transfer does its work through: a transaction, or the client itself."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


@dataclass(frozen=True)
class Transfer:
    """One movement of money, with an id of its own."""

    id: str
    run: str
    pair: int
    amount: int

    def key(self, name: str) -> str:
        return f"{self.run}/pair/{self.pair}/{name}"


@dataclass
class Counts:
    """What was seen in one run."""

    transfers: int = 0
    tries: int = 0
    kills: int = 0
    reads: int = 0
    fractured: int = 0
    doubled: int = 0
    unmarked: int = 0
    seconds: float = 0.0


def move(store: Writes, transfer: Transfer, reached: Callable[[str], None]) -> None:
    """Moves the money, writing one key after the other."""
    left, right = (int(store.get(transfer.key(side)) or START_BALANCE) for side in ("left", "right"))
    log = store.get(transfer.key("log")) or b""
    reached("before the first write")
    store.put(transfer.key("left"), b"%d" % (left - transfer.amount))
    reached("between two writes")
    store.put(transfer.key("right"), b"%d" % (right + transfer.amount))
    store.put(transfer.key("log"), log + transfer.id.encode() + b"\n")
    store.put(f"{transfer.run}/marker/{transfer.id}", b"done")
    reached("before the commit")


def with_aft(client: aft.Client, transfer: Transfer, reached: Callable[[str], None]) -> None:
    """The function as its author writes it: everything through one transaction, under the event's id."""
    client.run(lambda txn: move(txn, transfer, reached), id=transfer.id)
    reached("after the commit")


def without_aft(client: aft.Client, transfer: Transfer, reached: Callable[[str], None]) -> None:
    """The same function with each write on its own."""
    move(client, transfer, reached)
    reached("after the commit")


Mode = Callable[[aft.Client, Transfer, Callable[[str], None]], None]


def die_at(point: str | None) -> Callable[[str], None]:
    """Kills this process when it gets to `point`."""

    def reached(here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def function(mode: Mode, transfer: Transfer, kill_point: str | None) -> None:
    """What runs in a process of its own."""
    with aft.Client() as client:
        mode(client, transfer, die_at(kill_point))


class Delivery:
    """A transfer on its way: run again and again until a process got through it."""

    def __init__(self, mode: Mode, transfer: Transfer, kill_share: float, dice: random.Random) -> None:
        self.tries = self.kills = 0
        self._mode, self._transfer = mode, transfer
        self._kill_share, self._dice = kill_share, dice
        self._start()

    def _start(self) -> None:
        kill_point = self._dice.choice(KILL_POINTS) if self._dice.random() < self._kill_share else None
        self.process = processes.Process(target=function, args=(self._mode, self._transfer, kill_point))
        self.process.start()
        self.tries += 1

    def is_done(self) -> bool:
        """To be asked when the process has ended; starts the next if it was killed."""
        self.process.join()
        if self.process.exitcode == -signal.SIGKILL:
            self.kills += 1
            self._start()
            return False
        if self.process.exitcode != 0:
            raise SystemExit(f"a function ended with status {self.process.exitcode}; see above")
        return True


def deliver_all(
    name: str, mode: Mode, transfers: Sequence[Transfer], options: argparse.Namespace, counts: Counts
) -> None:
    """Delivers all transfers, those of different pairs at the same time."""
    dice = random.Random(options.seed)
    waiting = {pair: [t for t in transfers if t.pair == pair] for pair in range(options.pairs)}
    running: dict[int, Delivery] = {}
    done = 0
    while done < len(transfers):
        for pair in waiting:
            if pair not in running and waiting[pair]:
                running[pair] = Delivery(mode, waiting[pair].pop(0), options.kill_share, dice)
        wait([delivery.process.sentinel for delivery in running.values()])
        ended = [pair for pair, delivery in running.items() if delivery.process.exitcode is not None]
        for pair in (pair for pair in ended if running[pair].is_done()):
            delivery = running.pop(pair)
            counts.tries += delivery.tries
            counts.kills += delivery.kills
            done += 1
            show_progress(name, done, len(transfers))


def read_pairs(run: str, pairs: int, atomic: bool, stop: Any, reads: Any, fractured: Any) -> None:
    """Looks at the pairs until told to stop."""
    with aft.Client() as client:
        while not stop.is_set():
            for pair in range(pairs):
                keys = [f"{run}/pair/{pair}/{side}" for side in ("left", "right")]
                values = read_one(client, keys, atomic)
                with reads.get_lock():
                    reads.value += 1
                if sum(int(value or START_BALANCE) for value in values) != PAIR_SUM:
                    with fractured.get_lock():
                        fractured.value += 1


def read_one(client: aft.Client, keys: Sequence[str], atomic: bool) -> list[bytes | None]:
    """Reads keys one after the other, in a transaction or not."""
    if not atomic:
        return [client.get(key) for key in keys]
    values: list[bytes | None] = client.run(lambda txn: [txn.get(key) for key in keys]).value or []
    return values


def run_bank(name: str, mode: Mode, options: argparse.Namespace) -> Counts:
    """One whole run: transfers in all pairs at once, readers beside them, then the books."""
    run = f"{name}-{aft.new_id()}"
    counts = Counts(transfers=options.transfers)
    stop = processes.Event()
    reads, fractured = processes.Value(ctypes.c_long, 0), processes.Value(ctypes.c_long, 0)
    atomic = mode is with_aft
    readers = [
        processes.Process(
            target=read_pairs, args=(run, options.pairs, atomic, stop, reads, fractured), daemon=True
        )
        for _ in range(options.readers)
    ]
    for reader in readers:
        reader.start()
    began = time.monotonic()
    transfers = plan(run, options)
    deliver_all(name, mode, transfers, options, counts)
    counts.seconds = time.monotonic() - began
    stop.set()
    for reader in readers:
        reader.join()
        if reader.exitcode != 0:
            raise SystemExit(f"a reader ended with status {reader.exitcode}")
    counts.reads, counts.fractured = reads.value, fractured.value
    check_books(run, transfers, counts)
    return counts


def plan(run: str, options: argparse.Namespace) -> list[Transfer]:
    """Who pays whom how much."""
    dice = random.Random(options.seed)
    return [
        Transfer(id=aft.new_id(), run=run, pair=number % options.pairs, amount=dice.randint(1, 20))
        for number in range(options.transfers)
    ]


def check_books(run: str, transfers: Sequence[Transfer], counts: Counts) -> None:
    """Counts transfers done twice (by the pairs' logs) and transfers without their marker."""
    with aft.Client() as client:
        logged: list[str] = []
        for pair in sorted({transfer.pair for transfer in transfers}):
            logged += (client.get(f"{run}/pair/{pair}/log") or b"").decode().split()
        counts.doubled = sum(logged.count(transfer.id) > 1 for transfer in transfers)
        markers = [client.get(f"{run}/marker/{transfer.id}") for transfer in transfers]
        counts.unmarked = sum(
            marker is None or transfer.id not in logged
            for marker, transfer in zip(markers, transfers, strict=True)
        )


def show_progress(name: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        width = 30 * done // total
        bar = "#" * width + "." * (30 - width)
        print(f"\r{name:12} [{bar}] {done}/{total} transfers", end="", file=sys.stderr, flush=True)
        if done == total:
            print(file=sys.stderr)


def table(with_: Counts, without: Counts) -> str:
    """What was seen, side by side."""
    rows = [
        ("transfers", with_.transfers, without.transfers),
        ("functions started", with_.tries, without.tries),
        ("functions killed and retried", with_.kills, without.kills),
        ("pairs read", with_.reads, without.reads),
        ("fractured reads", with_.fractured, without.fractured),
        ("transfers done twice", with_.doubled, without.doubled),
        ("transfers lost", with_.unmarked, without.unmarked),
        ("seconds", round(with_.seconds, 1), round(without.seconds, 1)),
    ]
    lines = [f"{'':30}{'with aft':>12}{'without':>12}", "-" * 54]
    lines += [f"{label:30}{one!s:>12}{other!s:>12}" for label, one, other in rows]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--transfers", type=int, default=200, help="in each of the two runs")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of accounts, each served at once")
    parser.add_argument("--readers", type=int, default=2, help="processes that read")
    parser.add_argument("--kill-share", type=float, default=0.4, help="share of functions that die")
    parser.add_argument("--seed", type=int, default=1, help="of amounts and deaths")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    seen_with = run_bank("with aft", with_aft, options)
    seen_without = run_bank("without", without_aft, options)
    print(table(seen_with, seen_without))
    broken = seen_with.fractured or seen_with.doubled or seen_with.unmarked
    if broken:
        print("aft has broken its promise; please report this with the seed", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
