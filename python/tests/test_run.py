"""Running a function until it has committed once."""

from __future__ import annotations

import random

import pytest

import aft
from aft.testing import FakeAft, Fault, Killed

CURABLE = [
    Fault.ABORT,
    Fault.STORE_DOWN,
    Fault.NO_SIDECAR,
    Fault.LOSE_REQUEST,
    Fault.LOSE_ANSWER,
]


def add_one(txn: aft.Transaction) -> int:
    count = int(txn.get("count") or b"0") + 1
    txn.put("count", b"%d" % count)
    return count


def test_the_value_comes_back() -> None:
    fake = FakeAft()
    result = fake.client().run(add_one)
    assert (result.value, result.replayed, result.attempts) == (1, False, 1)
    assert fake.outcome(result.id) is aft.Outcome.COMMITTED


@pytest.mark.parametrize("kind", ["start", "get", "put", "commit"])
@pytest.mark.parametrize("fault", [Fault.ABORT, Fault.STORE_DOWN, Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
def test_any_single_fault_is_cured_and_the_effect_is_one(kind: str, fault: Fault) -> None:
    fake = FakeAft({"count": b"5"})
    fake.fail_next(kind, fault)
    result = fake.client().run(add_one)
    assert result.value == 6
    assert fake.values == {"count": b"6"}


@pytest.mark.parametrize("seed", range(40))
def test_many_random_faults_and_still_once(seed: int) -> None:
    dice = random.Random(seed)
    fake = FakeAft()
    client = fake.client()
    for _ in range(6):
        kind = dice.choice(["start", "get", "put", "commit"])
        fake.fail_next(kind, dice.choice(CURABLE), after=dice.randrange(6))
    for wanted in range(1, 6):
        client.run(add_one, id=f"order-{wanted}", deadline=1000)
        assert fake.values == {"count": b"%d" % wanted}


def test_retries_keep_the_id_and_never_abort_it() -> None:
    fake = FakeAft()
    fake.fail_next("put", Fault.STORE_DOWN, times=2)
    result = fake.client().run(add_one, id="order-17")
    assert (result.id, result.attempts) == ("order-17", 3)
    assert fake.requests["start"] == 3
    assert fake.requests["abort"] == 0


def test_a_retry_without_an_id_brings_that_of_the_first_try() -> None:
    fake = FakeAft()
    fake.fail_next("put", Fault.ABORT)
    seen: list[str] = []

    def work(txn: aft.Transaction) -> None:
        seen.append(txn.attempt)
        txn.put("a", b"1")

    result = fake.client().run(work)
    assert seen[0] == result.id
    assert aft.base_of(seen[1]) == result.id
    assert seen[1] != seen[0]


def test_an_id_that_took_effect_is_not_run_again() -> None:
    fake = FakeAft()
    fake.client().run(add_one, id="order-17")
    again = fake.client().run(add_one, id="order-17")
    assert (again.id, again.value, again.replayed, again.attempts) == ("order-17", None, True, 0)
    assert fake.values == {"count": b"1"}


def test_a_process_that_dies_between_writes_leaves_nothing_and_the_next_does_it_once() -> None:
    fake = FakeAft()

    def transfer(txn: aft.Transaction) -> None:
        txn.put("from", b"0")
        txn.put("to", b"1")

    fake.kill_after_puts(1)
    with pytest.raises(Killed):
        fake.client().run(transfer, id="transfer-1")
    assert fake.values == {}
    assert len(fake.running) == 1, "a dead process aborts nothing"
    fake.client().run(transfer, id="transfer-1")
    assert fake.values == {"from": b"0", "to": b"1"}
    assert fake.client().run(transfer, id="transfer-1").replayed


def test_a_sidecar_restart_is_a_retry() -> None:
    fake = FakeAft()
    restarts = iter([fake.restart])

    def work(txn: aft.Transaction) -> None:
        txn.put("a", b"1")
        for restart in restarts:
            restart()
        txn.put("b", b"2")

    result = fake.client().run(work)
    assert result.attempts == 2
    assert fake.values == {"a": b"1", "b": b"2"}


def test_other_errors_abort_and_are_not_retried() -> None:
    fake = FakeAft()
    calls = []

    def work(txn: aft.Transaction) -> None:
        calls.append(txn)
        txn.put("a", b"1")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fake.client().run(work)
    assert len(calls) == 1
    assert fake.running == []
    assert fake.requests["abort"] == 1
    assert fake.values == {}


def test_invalid_requests_are_not_retried() -> None:
    fake = FakeAft()
    with pytest.raises(aft.InvalidRequest):
        fake.client().run(lambda txn: txn.put("", b""))
    assert fake.requests["start"] == 1


def test_giving_up_after_the_retries_raises_the_last_error_and_aborts() -> None:
    fake = FakeAft()
    fake.fail_next("put", Fault.STORE_DOWN, times=100)
    with pytest.raises(aft.StoreUnavailable):
        fake.client().run(add_one, retries=3)
    assert fake.requests["start"] == 4
    assert fake.running == []


def test_no_try_begins_after_the_deadline() -> None:
    fake = FakeAft()
    fake.fail_next("put", Fault.LOSE_REQUEST, times=1000)
    with pytest.raises(aft.SidecarUnavailable):
        fake.client(deadline=1).run(add_one, retries=1000, deadline=10)
    assert 2 <= fake.requests["start"] <= 10


def test_a_commit_without_an_answer_is_never_run_again() -> None:
    fake = FakeAft()
    fake.lose_next_commit_answer(times=1000)
    calls = []

    def work(txn: aft.Transaction) -> None:
        calls.append(txn)
        txn.put("a", b"1")

    with pytest.raises(aft.OutcomeUnknown) as caught:
        fake.client().run(work, deadline=20)
    assert len(calls) == 1
    assert fake.requests["commit"] > 1
    fake._plans.clear()
    assert fake.client().resolve(caught.value) is aft.Outcome.COMMITTED


def test_a_commit_that_was_certainly_not_sent_is_run_again() -> None:
    fake = FakeAft()
    fake.fail_next("commit", Fault.NO_SIDECAR, times=2)
    result = fake.client().run(add_one)
    assert (result.value, result.attempts) == (1, 3)
    assert fake.requests["commit"] == 1


def test_a_commit_that_was_sent_once_is_asked_for_although_the_sidecar_is_away() -> None:
    fake = FakeAft()
    fake.lose_next_commit_answer()
    fake.fail_next("commit", Fault.NO_SIDECAR, times=5)
    result = fake.client().run(add_one)
    assert (result.value, result.attempts) == (1, 1)
    assert fake.values == {"count": b"1"}


def test_not_knowing_about_another_transaction_is_no_reason_to_run_again() -> None:
    fake = FakeAft()
    calls = []

    def work(txn: aft.Transaction) -> None:
        calls.append(txn)
        raise aft.OutcomeUnknown("of something else", "other")

    with pytest.raises(aft.OutcomeUnknown):
        fake.client().run(work)
    assert len(calls) == 1


def test_a_lost_answer_to_a_commit_is_found_out() -> None:
    fake = FakeAft()
    fake.lose_next_commit_answer()
    result = fake.client().run(add_one)
    assert (result.value, result.replayed, result.attempts) == (1, False, 1)
    assert fake.values == {"count": b"1"}


def test_a_settled_id_is_done_once_by_all_who_try() -> None:
    fake = FakeAft()
    made = aft.new_id()
    fake.client().resolve(made)
    first = fake.client().run(add_one, id=made)
    second = fake.client().run(add_one, id=made)
    assert first.id == second.id != made
    assert (first.replayed, second.replayed) == (False, True)
    assert fake.values == {"count": b"1"}


def test_the_function_may_end_the_transaction_itself() -> None:
    fake = FakeAft()

    def changed_my_mind(txn: aft.Transaction) -> str:
        txn.put("a", b"1")
        txn.abort()
        return "no"

    assert fake.client().run(changed_my_mind).value == "no"
    assert fake.values == {}


def test_decorated_functions() -> None:
    fake = FakeAft()
    fake.fail_next("commit", Fault.ABORT)

    @aft.transactional(client=fake.client, retries=2)
    def greet(txn: aft.Transaction, name: str, *, loud: bool = False) -> str:
        """Greet."""
        text = name.upper() if loud else name
        txn.put("greeting", text.encode())
        return text

    assert greet("you", loud=True) == "YOU"
    assert fake.values == {"greeting": b"YOU"}
    assert greet.__doc__ == "Greet."
    assert greet.once("g-1", "me").value == "me"
    assert greet.once("g-1", "somebody else").replayed
    assert fake.values == {"greeting": b"me"}


def test_a_decorator_without_arguments_uses_the_sidecar_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AFT_IPC_DIR", "/nonexistent/aft")
    from aft.decorator import default_client

    default_client.cache_clear()

    @aft.transactional
    def nothing(txn: aft.Transaction) -> None:
        pytest.fail("no sidecar")

    with pytest.raises(aft.SidecarUnavailable, match="directory /nonexistent/aft does not exist"):
        nothing._use_client().run(nothing._function, retries=0)
    default_client.cache_clear()


def test_pauses_grow_within_their_ceiling_and_are_drawn_in_full() -> None:
    policy = aft.RetryPolicy(retries=3, first_pause_s=0.1, longest_pause_s=1)
    assert [policy.pause_s(n, 1.0) for n in (1, 2, 3, 4, 5, 500)] == [0.1, 0.2, 0.4, 0.8, 1, 1]
    assert policy.pause_s(3, 0.0) == 0
    assert policy.pause_s(3, 0.5) == 0.2
