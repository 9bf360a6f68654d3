"""What a transaction does and refuses, over the in-memory sidecar."""

from __future__ import annotations

import pytest

import aft
from aft.testing import FakeAft, Fault


def test_writes_take_effect_together_at_the_end() -> None:
    fake = FakeAft({"a": b"old"})
    client = fake.client()
    with client.transaction() as txn:
        txn.put("a", b"new")
        txn.put_many({"b": bytearray(b"2"), "c": memoryview(b"")})
        assert txn.get_many(["a", "b", "c", "d"]) == {"a": b"new", "b": b"2", "c": b"", "d": None}
        assert fake.values == {"a": b"old"}
        assert client.get("a") == b"old"
    assert fake.values == {"a": b"new", "b": b"2", "c": b""}
    assert fake.outcome(txn.id) is aft.Outcome.COMMITTED


def test_an_exception_aborts_and_passes() -> None:
    fake = FakeAft()
    with pytest.raises(ZeroDivisionError), fake.client().transaction() as txn:
        txn.put("a", b"1")
        _ = 1 / 0
    assert fake.values == {}
    assert fake.running == []
    assert fake.requests["abort"] == 1
    with pytest.raises(aft.InvalidRequest, match="was aborted"):
        txn.get("a")


def test_one_call_reads_one_moment_with_one_request() -> None:
    fake = FakeAft({"a": b"1", "b": b"2"})
    with fake.client().transaction() as txn:
        assert txn.get_many(k for k in ("a", "b", "a")) == {"a": b"1", "b": b"2"}
        assert txn.get_many([]) == {}
    assert fake.requests["get"] == 1


def test_each_with_block_is_a_transaction_of_its_own() -> None:
    fake = FakeAft()
    scope = fake.client().transaction()
    with scope as first:
        first.put("a", b"1")
    with scope as second:
        second.put("b", b"2")
    assert first.id != second.id
    assert fake.values == {"a": b"1", "b": b"2"}


def test_an_id_takes_effect_once() -> None:
    fake = FakeAft()
    client = fake.client()
    with client.transaction("order-17") as txn:
        txn.put("a", b"1")
    assert txn.id == "order-17"
    with pytest.raises(aft.AlreadyCommitted) as caught, client.transaction("order-17"):
        pytest.fail("the block must not run")
    assert caught.value.id == "order-17"


def test_a_settled_id_goes_on_under_the_one_that_follows() -> None:
    fake = FakeAft()
    client = fake.client()
    made = aft.new_id()
    assert client.resolve(made) is aft.Outcome.ABORTED
    with client.transaction(made) as txn:
        txn.put("a", b"1")
    assert txn.id != made
    # Whoever else was told to do it once finds that it was done.
    with pytest.raises(aft.AlreadyCommitted), fake.client().transaction(made):
        pytest.fail("the block must not run")


def test_a_new_attempt_fences_the_old_one() -> None:
    fake = FakeAft()
    client = fake.client()
    with pytest.raises(aft.TransactionAborted), client.transaction("x") as zombie:
        zombie.put("a", b"zombie")
        with client.transaction("x") as second:
            assert second.get("a") is None
            second.put("b", b"second")
        zombie.put("c", b"zombie")
    assert fake.values == {"b": b"second"}


def test_commit_and_abort_inside_the_block_end_it() -> None:
    fake = FakeAft()
    with fake.client().transaction() as txn:
        txn.put("a", b"1")
        txn.commit()
        with pytest.raises(aft.InvalidRequest, match="has committed"):
            txn.put("a", b"2")
    with fake.client().transaction() as txn:
        txn.put("a", b"3")
        txn.abort()
    assert fake.values == {"a": b"1"}
    assert fake.requests["commit"] == 1


@pytest.mark.parametrize("key", ["", "TRANSACTION_ID", "\ud800"])
def test_unusable_keys_are_refused_here(key: str) -> None:
    fake = FakeAft()
    for call in (fake.client().get, lambda k: fake.client().put(k, b"")):
        with pytest.raises(aft.InvalidRequest):
            call(key)
    assert fake.requests["get"] == fake.requests["put"] == 0


def test_values_must_be_bytes_and_keys_strings() -> None:
    client = FakeAft().client()
    with pytest.raises(TypeError, match="must be bytes, not str"):
        client.put("a", "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be bytes, not int"):
        client.put("a", 7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a str"):
        client.get(b"a")  # type: ignore[arg-type]


def test_half_of_the_writes_never_commit() -> None:
    fake = FakeAft()
    fake.fail_next("put", Fault.LOSE_REQUEST, after=1)
    refused = pytest.raises(aft.InvalidRequest, match="cannot commit the others")
    with refused, fake.client().transaction() as txn:
        txn.put("a", b"1")
        with pytest.raises(aft.SidecarUnavailable):
            txn.put("b", b"2")
    assert fake.values == {}
    assert fake.running == []


def test_a_single_refused_write_may_be_corrected() -> None:
    fake = FakeAft()
    with fake.client().transaction() as txn:
        with pytest.raises(aft.InvalidRequest):
            txn.put("", b"1")
        txn.put("a", b"1")
    assert fake.values == {"a": b"1"}


def test_outside_of_transactions() -> None:
    fake = FakeAft()
    client = fake.client()
    client.put_many({"a": b"1", "b": b"2"})
    client.put("c", b"3")
    assert client.get("b") == b"2"
    assert client.get_many(["a", "z"]) == {"a": b"1", "z": None}


def test_a_commit_that_is_not_answered_is_asked_again() -> None:
    fake = FakeAft()
    fake.fail_next("commit", Fault.UNDECIDED, times=3)
    with fake.client().transaction() as txn:
        txn.put("a", b"1")
    assert fake.requests["commit"] == 4
    assert fake.values == {"a": b"1"}


def test_an_outcome_that_stays_unknown_is_told_and_resolved_later() -> None:
    fake = FakeAft()
    client = fake.client()
    fake.lose_next_commit_answer(times=1000)
    with pytest.raises(aft.OutcomeUnknown) as caught, client.transaction() as txn:
        txn.put("a", b"1")
    assert caught.value.id == txn.attempt
    assert fake.requests["abort"] == 0, "an abort could not undo it"
    fake._plans.clear()
    assert client.resolve(caught.value) is aft.Outcome.COMMITTED
    assert client.resolve(txn.id) is aft.Outcome.COMMITTED


def test_resolving_an_id_does_not_commit_what_still_runs() -> None:
    fake = FakeAft()
    client = fake.client()
    with client.transaction() as txn:
        txn.put("a", b"half")
        with pytest.raises(aft.OutcomeUnknown) as caught:
            client.resolve(txn.id, deadline=1)
        assert caught.value.id == txn.id
        assert fake.values == {}
        txn.put("b", b"other half")
    assert fake.values == {"a": b"half", "b": b"other half"}
    assert client.resolve(txn.id) is aft.Outcome.COMMITTED


def test_a_lone_write_with_unknown_outcome_has_no_id_to_resolve() -> None:
    with pytest.raises(aft.InvalidRequest, match="read the key"):
        FakeAft().client().resolve(aft.OutcomeUnknown("unknown"))


def test_read_atomicity_of_the_fake() -> None:
    fake = FakeAft({"a": b"1", "b": b"1"})
    client = fake.client()
    with client.transaction() as reader:
        assert reader.get("a") == b"1"
        client.put_many({"a": b"2", "b": b"2"})
        assert reader.get("b") == b"1", "half of the other transaction"
        assert reader.get("a") == b"1", "reads repeat"
    with pytest.raises(aft.TransactionAborted, match="fits"), client.transaction() as reader:
        assert reader.get("c") is None
        client.put_many({"c": b"3", "d": b"3"})
        # A missing c says that the transaction which wrote d is not seen.
        reader.get("d")


def test_errors_can_be_pickled() -> None:
    import pickle

    for error in (
        aft.OutcomeUnknown("unknown", "x.1"),
        aft.SidecarUnavailable("gone", None, sent=True),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert str(again) == str(error)
