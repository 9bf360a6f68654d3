"""A source, two functions in parallel, and one that gathers: one transaction, tried again as a whole.

The thread pool stands for whatever runs functions elsewhere: Ray, Dask, Lambda, Cloudburst. What it has
to carry is a token, and an error.

Run three nodes first:   scripts/cluster up 3
Then:                    python python/examples/fan_in.py
"""

from concurrent.futures import ThreadPoolExecutor

from nodes import client_of

import aft

WORDS = b"the quick brown fox and the lazy dog"


def split(run: str, id: str) -> aft.Token:  # noqa: A002
    """Runs on node 1. The id says what is to be done once, however often it is tried."""
    with client_of(1) as client, client.step(id=id) as txn:
        half = len(WORDS) // 2
        txn.put_many({f"{run}/left": WORDS[:half], f"{run}/right": WORDS[half:]})
    return txn.token


def count(run: str, node: int, half: str, token: aft.Token) -> aft.Token:
    """Runs on node 2 for one half, and on node 3 for the other."""
    with client_of(node) as client, client.step(token) as txn:
        text = txn.get(f"{run}/{half}") or b""
        txn.put(f"{run}/{half}/letters", b"%d" % len(text.replace(b" ", b"")))
    return txn.token


def add(run: str, tokens: list[aft.Token]) -> tuple[int, aft.Token]:
    """Runs on node 1 again: both branches come together, and all of it commits."""
    with client_of(1) as client, client.join(tokens) as txn:
        found = txn.get_many([f"{run}/left/letters", f"{run}/right/letters"])
        total = sum(int(value or b"0") for value in found.values())
        txn.put(f"{run}/letters", b"%d" % total)
    return total, txn.token


def main() -> None:
    run = f"count-{aft.new_id()}"
    tries = []

    def dag(id: str) -> tuple[int, aft.Token]:  # noqa: A002
        with ThreadPoolExecutor() as pool:
            source = pool.submit(split, run, id).result()
            tries.append(source)
            left = pool.submit(count, run, 2, "left", source)
            right = pool.submit(count, run, 3, "right", source)
            if len(tries) == 1:
                raise aft.TransactionAborted("as if a machine had been lost: the whole is tried again")
            return pool.submit(add, run, [left.result(), right.result()]).result()

    with client_of(1) as client:
        result = client.run_dag(dag, id=run)
        assert result.value is not None
        total, session = result.value
        print(f"{total} letters, at try {result.attempts}")
        assert total == len(WORDS.replace(b" ", b""))
        assert client.run_dag(dag, id=run).replayed, "it is done, once"
    with client_of(3) as client, client.transaction(after=session) as txn:
        assert txn.get(f"{run}/letters") == b"%d" % total
        print("node 3 reads it")


if __name__ == "__main__":
    main()
