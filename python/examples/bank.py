"""A bank whose functions are killed at random, with aft and without.

Money moves between the two accounts of a pair. Each transfer is a function in a process of its own that
writes four keys: both accounts, the pair's log and a marker. Many of these processes are killed with
SIGKILL, at chosen places between their writes or at any moment, and the same transfer is started again
under the same id, as a serverless platform would. Meanwhile readers look at the pairs.

Each account names the transfer that wrote it last. A read that finds two different names has seen a
fraction of a transfer. A transfer that stands twice in its pair's log, or an account that does not hold
what the transfers amount to, shows what was done twice. All this is counted, once through transactions
and once with each key written on its own, which is what the store alone gives.

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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any, Protocol

import aft

START_BALANCE = 500
SIDES = ("left", "right")
#: Where a function may die, in the order in which it gets there.
KILL_POINTS = ("before the first write", "between two writes", "before the commit", "after the commit")
ANY_MOMENT = "at any moment"
#: How long after its start a function may be killed that is killed at any moment.
MOMENT_MAX_S = 0.06
#: The exit status of a function that found its work done by an earlier try.
WAS_DONE = 10

# Forked processes find everything imported, so that starting one takes milliseconds.
processes = multiprocessing.get_context("fork")


class Store(Protocol):
    """What a function does its work through: a transaction, or the client itself."""

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


@dataclass(frozen=True)
class Account:
    """What is stored under an account's key."""

    balance: int = START_BALANCE
    #: The transfer that wrote it.
    by: str = ""

    @classmethod
    def parse(cls, value: bytes | None) -> Account:
        if value is None:
            return cls()
        balance, by = value.decode().split()
        return cls(int(balance), by)

    def __bytes__(self) -> bytes:
        return f"{self.balance} {self.by}".encode()


Reached = Callable[[str], None]


def move(store: Store, transfer: Transfer, reached: Reached) -> None:
    """Moves the money, writing one key after the other."""
    left, right = (Account.parse(store.get(transfer.key(side))) for side in SIDES)
    log = store.get(transfer.key("log")) or b""
    reached("before the first write")
    store.put(transfer.key("left"), bytes(Account(left.balance - transfer.amount, transfer.id)))
    reached("between two writes")
    store.put(transfer.key("right"), bytes(Account(right.balance + transfer.amount, transfer.id)))
    store.put(transfer.key("log"), log + transfer.id.encode() + b"\n")
    store.put(f"{transfer.run}/marker/{transfer.id}", b"done")
    reached("before the commit")


@aft.transactional
def move_in_one_transaction(txn: aft.Transaction, transfer: Transfer, reached: Reached) -> None:
    """The function as its author writes it for aft."""
    move(txn, transfer, reached)


def with_aft(transfer: Transfer, reached: Reached) -> bool:
    """Runs the function under the transfer's id. Tells whether an earlier try had done it."""
    return move_in_one_transaction.once(transfer.id, transfer, reached).replayed


def without_aft(transfer: Transfer, reached: Reached) -> bool:
    """Runs the same function with each key read and written on its own."""
    with aft.Client() as client:
        move(client, transfer, reached)
    return False


def read_with_aft(client: aft.Client, keys: Sequence[str]) -> list[bytes | None]:
    """Reads keys one after the other in one transaction."""
    values: list[bytes | None] = client.run(lambda txn: [txn.get(key) for key in keys]).value or []
    return values


def read_without_aft(client: aft.Client, keys: Sequence[str]) -> list[bytes | None]:
    return [client.get(key) for key in keys]


@dataclass(frozen=True)
class Way:
    """How functions and readers get to the store."""

    name: str
    write: Callable[[Transfer, Reached], bool]
    read: Callable[[aft.Client, Sequence[str]], list[bytes | None]]


WITH = Way("with aft", with_aft, read_with_aft)
WITHOUT = Way("without", without_aft, read_without_aft)


@dataclass
class Counts:
    """What was seen in one run."""

    transfers: int = 0
    started: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    was_done: int = 0
    reads: int = 0
    fractured: int = 0
    doubled: int = 0
    lost: int = 0
    accounts_wrong: int = 0
    seconds: float = 0.0

    def is_faultless(self) -> bool:
        return not (self.fractured or self.doubled or self.lost or self.accounts_wrong)


# The functions' side.


def function(way: Way, transfer: Transfer, kill_point: str | None) -> None:
    """What runs in a process of its own."""

    def reached(here: str) -> None:
        if here == kill_point:
            os.kill(os.getpid(), signal.SIGKILL)

    was_done = way.write(transfer, reached)
    reached("after the commit")
    if was_done:
        sys.exit(WAS_DONE)


class Delivery:
    """A transfer on its way: run again and again until a process got through it."""

    def __init__(self, way: Way, transfer: Transfer, kill_share: float, dice: random.Random) -> None:
        self._way, self._transfer = way, transfer
        self._kill_share, self._dice = kill_share, dice
        self._start()

    def _start(self) -> None:
        dies = self._dice.random() < self._kill_share
        self._killed = self._dice.choice([*KILL_POINTS, ANY_MOMENT]) if dies else None
        self.kill_at: float | None = None
        if self._killed == ANY_MOMENT:
            self.kill_at = time.monotonic() + self._dice.random() * MOMENT_MAX_S
        self.process = processes.Process(
            target=function, args=(self._way, self._transfer, self._killed), daemon=True
        )
        self.process.start()

    def kill(self) -> None:
        self.kill_at = None
        self.process.kill()

    def is_done(self, counts: Counts) -> bool:
        """To be asked when the process has ended; starts the next if it was killed."""
        self.process.join()
        counts.started += 1
        status = self.process.exitcode
        if status == -signal.SIGKILL:
            counts.kills[self._killed or "by somebody else"] += 1
            self._start()
            return False
        if status not in (0, WAS_DONE):
            raise SystemExit(f"a function ended with status {status}; see above")
        counts.was_done += status == WAS_DONE
        return True


def deliver_all(
    way: Way, transfers: Sequence[Transfer], options: argparse.Namespace, show: Show
) -> None:
    """Delivers all transfers: one at a time in each pair, the pairs beside each other."""
    dice = random.Random(options.seed)
    waiting = {pair: [t for t in transfers if t.pair == pair] for pair in range(options.pairs)}
    running: dict[int, Delivery] = {}
    done = 0
    while done < len(transfers):
        for pair in waiting:
            if pair not in running and waiting[pair]:
                running[pair] = Delivery(way, waiting[pair].pop(0), options.kill_share, dice)
        deaths = [delivery.kill_at for delivery in running.values() if delivery.kill_at is not None]
        pause = max(0.0, min(deaths) - time.monotonic()) if deaths else None
        wait([delivery.process.sentinel for delivery in running.values()], pause)
        for pair, delivery in list(running.items()):
            if delivery.process.exitcode is not None:
                if delivery.is_done(show.counts):
                    del running[pair]
                    done += 1
                    show.progress(done)
            elif delivery.kill_at is not None and delivery.kill_at <= time.monotonic():
                delivery.kill()


# The readers' side.


def read_pairs(way: Way, run: str, pairs: int, stop: Any, reads: Any, fractured: Any) -> None:
    """Looks at the pairs until told to stop."""
    dice = random.Random(os.getpid())
    with aft.Client() as client:
        while not stop.is_set():
            sides = dice.sample(SIDES, 2)
            keys = [f"{run}/pair/{dice.randrange(pairs)}/{side}" for side in sides[:1]]
            keys.append(keys[0].removesuffix(sides[0]) + sides[1])
            one, other = map(Account.parse, way.read(client, keys))
            with reads.get_lock():
                reads.value += 1
            if one.by != other.by:
                with fractured.get_lock():
                    fractured.value += 1


# The whole.


def run_bank(way: Way, options: argparse.Namespace) -> Counts:
    """One whole run: transfers in all pairs at once, readers beside them, then the books."""
    run = f"{way.name.replace(' ', '-')}-{aft.new_id()}"
    counts = Counts(transfers=options.transfers)
    stop = processes.Event()
    reads, fractured = processes.Value(ctypes.c_long, 0), processes.Value(ctypes.c_long, 0)
    arguments = (way, run, options.pairs, stop, reads, fractured)
    readers = [
        processes.Process(target=read_pairs, args=arguments, daemon=True) for _ in range(options.readers)
    ]
    for reader in readers:
        reader.start()
    began = time.monotonic()
    transfers = plan(run, options)
    deliver_all(way, transfers, options, Show(way, counts, reads, fractured))
    counts.seconds = time.monotonic() - began
    stop.set()
    for reader in readers:
        reader.join()
        if reader.exitcode != 0:
            raise SystemExit(f"a reader ended with status {reader.exitcode}; see above")
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
    """Counts what was done twice or not at all, and accounts that are wrong now."""
    with aft.Client() as client:
        for pair in sorted({transfer.pair for transfer in transfers}):
            own = [transfer for transfer in transfers if transfer.pair == pair]
            logged = Counter((client.get(own[0].key("log")) or b"").decode().split())
            marked = [client.get(f"{run}/marker/{transfer.id}") is not None for transfer in own]
            counts.doubled += sum(logged[transfer.id] > 1 for transfer in own)
            counts.lost += sum(
                not (mark and logged[transfer.id]) for mark, transfer in zip(marked, own, strict=True)
            )
            moved = sum(transfer.amount for transfer in own)
            left, right = (Account.parse(client.get(own[0].key(side))) for side in SIDES)
            counts.accounts_wrong += left.balance != START_BALANCE - moved
            counts.accounts_wrong += right.balance != START_BALANCE + moved


class Show:
    """Tells how far a run is: a bar for those who watch, a few lines for a log."""

    def __init__(self, way: Way, counts: Counts, reads: Any, fractured: Any) -> None:
        self.counts = counts
        self._way, self._reads, self._fractured = way, reads, fractured
        self._is_watched = sys.stderr.isatty()

    def progress(self, done: int) -> None:
        total = self.counts.transfers
        quarter = max(1, total // 4)
        if not self._is_watched and done % quarter and done != total:
            return
        width = 24 * done // total
        bar = "#" * width + "." * (24 - width)
        deaths = f"{self.counts.kills.total()} killed"
        seen = f"{self._fractured.value} of {self._reads.value} reads fractured"
        line = f"{self._way.name:9} [{bar}] {done}/{total} transfers, {deaths}, {seen}"
        begin, end = ("\r\x1b[K", "" if done < total else "\n") if self._is_watched else ("", "\n")
        print(f"{begin}{line}", end=end, file=sys.stderr, flush=True)


def table(with_: Counts, without: Counts) -> str:
    """What was seen, side by side."""
    rows: list[tuple[str, object, object] | None] = [
        ("transfers", with_.transfers, without.transfers),
        ("functions started", with_.started, without.started),
        *(
            (f"  killed {place}", with_.kills[place], without.kills[place])
            for place in places(with_, without)
        ),
        ("retries told that it was done", with_.was_done, "-"),
        ("pairs read", with_.reads, without.reads),
        ("seconds", f"{with_.seconds:.1f}", f"{without.seconds:.1f}"),
        None,
        ("fractured reads", with_.fractured, without.fractured),
        ("transfers logged twice", with_.doubled, without.doubled),
        ("transfers lost", with_.lost, without.lost),
        ("accounts wrong at the end", with_.accounts_wrong, without.accounts_wrong),
    ]
    line = "-" * 58
    lines = [line if row is None else f"{row[0]:34}{row[1]!s:>12}{row[2]!s:>12}" for row in rows]
    return "\n".join([f"{'':34}{'with aft':>12}{'without':>12}", line, *lines])


def places(*all_counts: Counts) -> list[str]:
    seen = {place for counts in all_counts for place in counts.kills}
    known = [*KILL_POINTS, ANY_MOMENT]
    return [place for place in known if place in seen] + sorted(seen.difference(known))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--transfers", type=int, default=400, help="in each of the two runs (400)")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of accounts, side by side (4)")
    parser.add_argument("--readers", type=int, default=2, help="processes that read (2)")
    parser.add_argument(
        "--kill-share", type=float, default=0.4, help="share of functions that die (0.4)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of amounts and deaths (1)")
    options = parser.parse_args()
    if options.transfers < 1 or options.pairs < 1 or not 0 <= options.kill_share < 1:
        parser.error("there must be transfers and pairs, and not all functions can die")
    return options


def main() -> int:
    options = arguments()
    print(
        f"{options.transfers} transfers in {options.pairs} pairs, {options.readers} readers;",
        f"{options.kill_share:.0%} of the functions are killed and started again",
        file=sys.stderr,
    )
    seen_with = run_bank(WITH, options)
    seen_without = run_bank(WITHOUT, options)
    print()
    print(table(seen_with, seen_without))
    if not seen_with.is_faultless():
        print("aft has broken its promise; please report this with the seed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
