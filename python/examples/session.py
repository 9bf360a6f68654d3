"""Read your own commit on another machine, at once.

Nodes tell each other of commits ten times a second. Who cannot wait for that hands on a token.

Run three nodes first:   scripts/cluster up 3
Then:                    python python/examples/session.py
"""

from nodes import client_of

import aft


def main() -> None:
    key = f"cart/{aft.new_id()}"
    with client_of(1) as here, client_of(2) as there:
        stale = 0
        session = aft.Token()
        for number in range(20):
            with here.transaction(after=session) as txn:
                txn.put(key, b"%d" % number)
            session |= txn.token
            stale += there.get(key) != b"%d" % number
            # As text it fits into a cookie, a header, a message.
            with there.transaction(after=aft.Token.parse(str(session))) as txn:
                assert txn.get(key) == b"%d" % number
        print(f"without the token {stale} of 20 reads came too early, with it none")


if __name__ == "__main__":
    main()
