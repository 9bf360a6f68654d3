"""How to test functions that use transactions, without a sidecar: python -m pytest examples/"""

import pytest

import aft
from aft.testing import FakeAft, Fault, Killed


def move(txn: aft.Transaction, source: str, target: str) -> None:
    """Take a value from one key to another."""
    txn.put(target, txn.get(source) or b"")
    txn.put(source, b"")


def test_it_moves() -> None:
    fake = FakeAft({"inbox": b"letter"})
    fake.client().run(lambda txn: move(txn, "inbox", "archive"))
    assert fake.values == {"inbox": b"", "archive": b"letter"}


def test_it_moves_once_although_the_store_fails_and_answers_get_lost() -> None:
    fake = FakeAft({"inbox": b"letter"})
    fake.fail_next("put", Fault.STORE_DOWN)
    fake.lose_next_commit_answer()
    result = fake.client().run(lambda txn: move(txn, "inbox", "archive"))
    assert result.attempts == 2
    assert fake.values == {"inbox": b"", "archive": b"letter"}


def test_a_crash_between_the_writes_loses_nothing() -> None:
    fake = FakeAft({"inbox": b"letter"})
    fake.kill_after_puts(1)
    with pytest.raises(Killed):
        fake.client().run(lambda txn: move(txn, "inbox", "archive"), id="move-1")
    assert fake.values == {"inbox": b"letter"}
    # The platform starts the function again.
    fake.client().run(lambda txn: move(txn, "inbox", "archive"), id="move-1")
    assert fake.values == {"inbox": b"", "archive": b"letter"}
