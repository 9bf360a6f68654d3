"""Judges a history for read atomicity, knowing nothing of timestamps.

After Biswas and Enea, "On the Complexity of Checking Transactional Consistency" (OOPSLA 2019): let SO
be the order of transactions in a session and WR lead from the writer of a value to whoever reads it. If
t3 reads x from t1, and another t2 that wrote x comes before t3 in SO or WR, then t2 must come before t1.
The history is read-atomic if SO, WR and all these orders together have no cycle.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

LINE = re.compile(r"([rw])\((\d+),(\d+),(\d+),(\d+)\)")
INITIAL = 0


@dataclass
class Transaction:
    session: int
    writes: dict[int, int] = field(default_factory=dict)
    reads: list[tuple[int, int]] = field(default_factory=list)


def parse(lines: Iterable[str]) -> dict[int, Transaction]:
    """Transactions by number, in the order of the file. Reads of own writes are left out."""
    transactions: dict[int, Transaction] = {}
    for line in lines:
        match = LINE.fullmatch(line.strip())
        assert match, f"not an operation: {line!r}"
        letter, (key, value, session, number) = match[1], map(int, match.groups()[1:])
        transaction = transactions.setdefault(number, Transaction(session))
        assert transaction.session == session
        if letter == "w":
            transaction.writes[key] = value
        elif key not in transaction.writes:
            transaction.reads.append((key, value))
        else:
            assert transaction.writes[key] == value, f"{number} does not read its own write of {key}"
    return transactions


def is_read_atomic(transactions: dict[int, Transaction]) -> bool:
    """Whether all transactions together are read-atomic."""
    writer = {(k, v): n for n, t in transactions.items() for k, v in t.writes.items()}
    writers: dict[int, list[int]] = defaultdict(list)
    for (key, _), number in writer.items():
        writers[key].append(number)
    before: dict[int, set[int]] = defaultdict(set)
    last: dict[int, int] = {}
    earlier: dict[int, set[int]] = defaultdict(set)
    for number, transaction in transactions.items():
        if transaction.session in last:
            previous = last[transaction.session]
            earlier[number] = earlier[previous] | {previous}
        last[transaction.session] = number
        for key, value in transaction.reads:
            if value != INITIAL and (key, value) not in writer:
                return False
    for number, transaction in transactions.items():
        read_from = {writer[key, v] for key, v in transaction.reads if v != INITIAL} - {number}
        visible = earlier[number] | read_from
        before[number] |= visible
        for key, value in transaction.reads:
            source = writer.get((key, value), INITIAL)
            for other in set(writers[key]) & visible - {source}:
                before[source].add(other)
    # The initial state comes before all.
    return INITIAL not in before and not has_cycle(before)


def has_cycle(before: dict[int, set[int]]) -> bool:
    state: dict[int, int] = {}
    for root in list(before):
        stack = [(root, iter(before[root]))] if root not in state else []
        state.setdefault(root, 1)
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[node] = 2
                stack.pop()
            elif state.get(following) == 1:
                return True
            elif following not in state:
                state[following] = 1
                stack.append((following, iter(before.get(following, ()))))
    return False
