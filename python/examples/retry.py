"""A function that may be started again by its platform, and still takes effect once.

Run a sidecar first:   aft sidecar --ipc-dir /tmp/aft --storage memory
Then:                  AFT_IPC_DIR=/tmp/aft python examples/retry.py
"""

import aft


@aft.transactional(retries=5, deadline=20)
def place_order(txn: aft.Transaction, order: str, item: str) -> int:
    """Take one item from stock and note the order, both or neither."""
    left = int(txn.get(f"stock/{item}") or b"10") - 1
    if left < 0:
        raise LookupError(f"{item} is sold out")
    txn.put(f"stock/{item}", b"%d" % left)
    txn.put(f"order/{order}", item.encode())
    return left


def handler(event: dict[str, str]) -> str:
    """What a serverless platform would call, and call again when it hears nothing."""
    # The event's own id: all deliveries of one event are one transaction.
    result = place_order.once(event["id"], event["order"], event["item"])
    if result.replayed:
        return "already placed"
    return f"placed at try {result.attempts}, {result.value} left"


def main() -> None:
    event = {"id": aft.new_id(), "order": "17", "item": "lamp"}
    for delivery in range(1, 4):
        print(f"delivery {delivery}:", handler(event))


if __name__ == "__main__":
    main()
