"""A client of the sidecar that needs no more than a socket: what one in another language has to do.

Run a sidecar first:   aft sidecar --ipc-dir /tmp/aft --storage memory
Then:                  AFT_IPC_DIR=/tmp/aft python examples/without_client.py
"""

import os
import socket
import struct

from aft._wire.aft_pb2 import COMMITTED, CommitRequest, TransactionTag
from aft._wire.anna_pb2 import LWW, KeyRequest, KeyResponse, LWWValue

START, GET, PUT, CONTINUE, COMMIT, ABORT = range(1, 7)


class Connection:
    """One request at a time."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.environ["AFT_IPC_DIR"] + "/call")
        self.stream = self.socket.makefile("rwb")

    def call(self, kind: int, message: bytes) -> bytes:
        """Send a request and wait for its answer."""
        self.stream.write(struct.pack(">IIB", 5 + len(message), 1, kind) + message)
        self.stream.flush()
        length, _number = struct.unpack(">II", self.stream.read(8))
        return self.stream.read(length - 4)

    def close(self) -> None:
        """Close it."""
        self.stream.close()
        self.socket.close()


def main() -> None:
    sidecar = Connection()
    txn = TransactionTag.FromString(sidecar.call(START, b"")).id

    put = KeyRequest(request_id="1")
    put.tuples.add(key="TRANSACTION_ID", payload=txn.encode())
    value = LWWValue(value=b"Ada").SerializeToString()
    put.tuples.add(key="user/7/name", lattice_type=LWW, payload=value)
    sidecar.call(PUT, put.SerializeToString())

    commit = CommitRequest(tid=txn).SerializeToString()
    ended = TransactionTag.FromString(sidecar.call(COMMIT, commit))
    print("committed:", ended.status == COMMITTED)

    get = KeyRequest(request_id="2")
    get.tuples.add(key="user/7/name")
    found = KeyResponse.FromString(sidecar.call(GET, get.SerializeToString())).tuples[0]
    print("found:    ", LWWValue.FromString(found.payload).value)
    sidecar.close()


if __name__ == "__main__":
    main()
