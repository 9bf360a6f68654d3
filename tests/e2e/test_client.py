"""The Python client and the daemon together, when the daemon dies and comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import aft

from daemon import Daemon

WORKERS = 3


def test_each_function_takes_effect_once_while_the_daemon_dies(start: Callable[..., Daemon]) -> None:
    daemon = start()
    stop = threading.Event()
    done: list[list[str]] = [[] for _ in range(WORKERS)]

    def work(worker: int) -> None:
        """Counts one up, again and again, and notes under which ids it did."""

        def count_up(txn: aft.Transaction) -> None:
            count = int(txn.get(f"count/{worker}") or b"0") + 1
            txn.put(f"count/{worker}", b"%d" % count)
            txn.put(f"by/{worker}/{count}", txn.id.encode())

        policy = aft.RetryPolicy(retries=1000, longest_pause_s=0.2)
        with aft.Client(daemon.ipc, deadline=0.5, commit_deadline=30) as client:
            while not stop.is_set():
                identity = aft.new_id()
                while True:
                    try:
                        result = client.run(count_up, id=identity, retries=policy, deadline=60)
                    except aft.OutcomeUnknown as unknown:
                        if client.resolve(unknown, deadline=60) is aft.Outcome.ABORTED:
                            continue
                        done[worker].append(identity)
                    else:
                        done[worker].append(result.id)
                    break

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(WORKERS)]
    for thread in workers:
        thread.start()
    try:
        deadline = time.monotonic() + 120
        for death in range(1, 5):
            enough = death * 40
            while sum(map(len, done)) < enough:
                assert not stop.wait(0.01)
                assert time.monotonic() < deadline, "they come to a standstill"
            daemon.kill()
            daemon = start()
    finally:
        stop.set()
        for thread in workers:
            thread.join()
    with aft.Client(daemon.ipc) as client:
        for worker, ids in enumerate(done):
            assert len(ids) > 10
            assert client.get(f"count/{worker}") == b"%d" % len(ids)
            names = [f"by/{worker}/{number}" for number in range(1, len(ids) + 1)]
            assert [value and value.decode() for value in client.get_many(names).values()] == ids
