"""One transaction: two writes that nobody ever sees one without the other.

Run a sidecar first:   aft sidecar --ipc-dir /tmp/aft --storage memory
Then:                  AFT_IPC_DIR=/tmp/aft python examples/quickstart.py
"""

import aft


def main() -> None:
    with aft.Client() as client:
        with client.transaction() as txn:
            txn.put("user/7/name", b"Ada")
            txn.put("user/7/email", b"ada@example.com")
            print("inside: ", txn.get("user/7/name"))
            print("outside:", client.get("user/7/name"))
        print("after:  ", client.get_many(["user/7/name", "user/7/email"]))

        try:
            with client.transaction() as txn:
                txn.put("user/7/name", b"Grace")
                raise RuntimeError("something went wrong half-way")
        except RuntimeError as error:
            print("failed: ", error)
        print("still:  ", client.get("user/7/name"))


if __name__ == "__main__":
    main()
