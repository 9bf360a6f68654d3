"""What a Cloudburst executor does for one call, with the stand-in for its client.

Run a sidecar first:   aft sidecar --ipc-dir /tmp/aft --storage memory
Then:                  AFT_IPC_DIR=/tmp/aft python examples/cloudburst_style.py
"""

import time

from aft.cloudburst import AftIpcClient
from aft.lattices import LWWPairLattice


def main() -> None:
    kvs = AftIpcClient(thread_id=0)

    tag = kvs.start()
    found = kvs.get(["greeting"], txn_id=tag.id)["greeting"]
    name = found.reveal().decode() if found is not None else "nobody yet"
    kvs.put("greeting", LWWPairLattice(time.time_ns(), b"hello"), txn_id=tag.id)
    kvs.put("result", LWWPairLattice(time.time_ns(), f"read: {name}".encode()), txn_id=tag.id)
    kvs.commit(tag)

    result = kvs.get("result")["result"]
    print(result.reveal() if result is not None else None)
    kvs.close()


if __name__ == "__main__":
    main()
