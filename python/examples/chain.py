"""Three functions on three machines, one transaction: each hands a token to the next.

Run three nodes first:   scripts/cluster up 3
Then:                    python python/examples/chain.py
"""

from nodes import client_of

import aft


def reserve(item: str) -> str:
    """Runs on node 1, and begins."""
    with client_of(1) as client, client.step() as txn:
        left = int(txn.get(f"stock/{item}") or b"10") - 1
        txn.put(f"stock/{item}", b"%d" % left)
    return str(txn.token)


def price(item: str, token: str) -> str:
    """Runs on node 2. It sees what the first one wrote, and nobody else does."""
    with client_of(2) as client, client.step(aft.Token.parse(token)) as txn:
        left = int(txn.get(f"stock/{item}") or b"0")
        txn.put(f"price/{item}", b"%d" % (100 if left > 5 else 200))
        assert client.get(f"price/{item}") is None, "seen by others before the commit"
    return str(txn.token)


def bill(item: str, token: str) -> tuple[str, aft.Token]:
    """Runs on node 3 and commits, all of it or nothing."""
    with client_of(3) as client, client.join(aft.Token.parse(token)) as txn:
        values = txn.get_many([f"stock/{item}", f"price/{item}"])
        text = f"{item}: {(values[f'price/{item}'] or b'').decode()}"
        txn.put(f"bill/{item}", text.encode())
    return text, txn.token


def main() -> None:
    item = f"lamp-{aft.new_id()}"
    text, session = bill(item, price(item, reserve(item)))
    print("billed", text)
    for node in (1, 2, 3):
        keys = [f"{kind}/{item}" for kind in ("stock", "price", "bill")]
        with client_of(node) as client, client.transaction(after=session) as txn:
            values = txn.get_many(keys)
        assert values == dict(zip(keys, [b"9", b"100", text.encode()], strict=True)), values
        print(f"node {node} reads all three")


if __name__ == "__main__":
    main()
