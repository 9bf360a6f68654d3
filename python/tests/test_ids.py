from __future__ import annotations

import time
import uuid

import pytest

import aft
from aft.ids import successor
from aft.testing import FakeAft


def test_new_ids_are_version_7_and_tell_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid.UUID(aft.new_id()) for _ in range(200)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 200
    for one in made:
        assert one.version == 7
        assert one.variant == uuid.RFC_4122
        assert before <= one.int >> 80 <= after


def test_all_random_bits_are_used() -> None:
    seen = [uuid.UUID(aft.new_id()).int for _ in range(200)]
    random_bits = (1 << 76) - 1 & ~(0b11 << 62)
    ever_one = ever_zero = 0
    for number in seen:
        ever_one |= number
        ever_zero |= ~number
    assert ever_one & ever_zero & random_bits == random_bits


def test_an_attempt_belongs_to_its_base() -> None:
    assert aft.base_of("order-17.3f") == "order-17"
    assert aft.base_of("order-17") == "order-17"


def test_the_successor_of_an_id_is_the_same_for_everybody() -> None:
    made = aft.new_id()
    assert successor(made) == successor(made)
    assert successor(made) not in {made, successor(successor(made))}
    # It is as old as what it follows, and so forgotten with it.
    assert uuid.UUID(successor(made)).int >> 80 == uuid.UUID(made).int >> 80
    assert uuid.UUID(successor(made)).version == 7


def test_the_successor_of_a_name_is_a_usable_id() -> None:
    following = successor("order-17")
    assert following != successor("order-18")
    assert all(c.isalnum() or c in "-_:" for c in following)


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "a~b", "x" * 129, ".x", "a.b.c", "ü", "a\n"])
def test_what_cannot_name_a_transaction_is_refused_here(bad: str) -> None:
    fake = FakeAft()
    client = fake.client()
    calls = (
        lambda: client.run(lambda txn: None, id=bad),
        lambda: client.transaction(bad).__enter__(),
        lambda: client.step(id=bad).__enter__(),
        lambda: client.resolve(bad),
    )
    for call in calls:
        with pytest.raises(aft.InvalidRequest, match="not a usable transaction id"):
            call()
    assert set(fake.requests.values()) == {0}
