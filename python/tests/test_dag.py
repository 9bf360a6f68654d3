"""One transaction in several functions, on the nodes of the fake."""

from __future__ import annotations

import pickle

import pytest

import aft
from aft.testing import FakeAft, Fault


@pytest.fixture
def fake() -> FakeAft:
    return FakeAft({"stock": b"1", "price": b"1"}, nodes=3)


def test_a_chain_over_three_nodes(fake: FakeAft) -> None:
    with fake.client(0).step() as first:
        first.put("a", b"1")
    with fake.client(1).step(first.token) as second:
        assert second.get("a") == b"1"
        second.put("b", b"2")
    with fake.client(2).join(pickle.loads(pickle.dumps(second.token))) as last:
        assert last.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}
        assert fake.client(0).get("a") is None
    assert [first.node, second.node, last.node] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert fake.values | {"stock": b"", "price": b""} == {
        "a": b"1",
        "b": b"2",
        "stock": b"",
        "price": b"",
    }
    assert fake.requests["commit"] == 1
    assert fake.running == []


def test_there_and_back(fake: FakeAft) -> None:
    with fake.client(0).step() as first:
        first.put("a", b"1")
    with fake.client(1).step(first.token) as second:
        second.put("a", b"2")
    with fake.client(0).join(second.token) as last:
        assert last.get("a") == b"2"
        last.put("c", b"3")
    assert (fake.values["a"], fake.values["c"]) == (b"2", b"3")


def test_branches_come_together(fake: FakeAft) -> None:
    with fake.client(0).step() as source:
        source.put("both", b"source")
    with fake.client(1).step(source.token) as left:
        left.put_many({"left": b"1", "both": b"left"})
    with fake.client(2).step(source.token) as right:
        assert right.get("left") is None, "parallel branches do not see each other"
        right.put("right", b"1")
    with fake.client(0).join([left.token, right.token]) as last:
        assert last.get_many(["left", "right", "both"]) == {"left": b"1", "right": b"1", "both": b"left"}


def test_of_two_values_that_of_the_greater_node_counts(fake: FakeAft) -> None:
    with fake.client(0).step() as source:
        source.put("k", b"source")
    branches = []
    for node in (2, 1):
        with fake.client(node).step(source.token) as branch:
            branch.put("k", f"node {node}".encode())
        branches.append(branch.token)
    with fake.client(0).join(branches):
        pass
    assert fake.values["k"] == b"node 2"


def test_sinks_are_named_when_it_commits(fake: FakeAft) -> None:
    with fake.client(0).step() as source:
        source.put("source", b"1")
    with fake.client(1).step(source.token) as sink:
        sink.put("sink", b"1")
    with fake.client(2).join(source.token) as last:
        last.put("last", b"1")
        last.commit(also=[sink.token])
    assert {"source", "sink", "last"} <= set(fake.values)


def test_branches_that_read_a_fraction_together_are_aborted(fake: FakeAft) -> None:
    with fake.client(0).step() as source:
        pass
    with fake.client(1).step(source.token) as left:
        assert left.get("stock") == b"1"
    fake.client().put_many({"stock": b"2", "price": b"2"})
    with fake.client(2).step(source.token) as right:
        assert right.get("price") == b"2"
    with pytest.raises(aft.TransactionAborted, match="fraction"):
        fake.client(0).join([left.token, right.token]).__enter__()


def test_what_is_written_after_it_was_handed_on_aborts(fake: FakeAft) -> None:
    with fake.client(0).step() as first:
        pass
    with fake.client(1).step(first.token) as second:
        second.put("b", b"1")
    with fake.client(0).step(first.token) as late:
        late.put("late", b"1")
    with (
        pytest.raises(aft.TransactionAborted, match="after it had gone on"),
        fake.client(2).join(second.token),
    ):
        pass
    assert "b" not in fake.values


def test_a_step_that_raises_aborts_all_of_it(fake: FakeAft) -> None:
    with fake.client(0).step() as first:
        first.put("a", b"1")
    with pytest.raises(KeyError), fake.client(1).step(first.token):
        raise KeyError
    assert fake.running == []
    with pytest.raises(aft.TransactionAborted), fake.client(2).join(first.token):
        pytest.fail("the block must not run")


def test_a_lost_node_is_a_retry_of_the_whole(fake: FakeAft) -> None:
    tries = []

    def dag(id: str) -> aft.Token:  # noqa: A002
        with fake.client(0).step(id=id) as first:
            first.put("a", b"1")
        tries.append(first.attempt)
        if len(tries) == 1:
            fake.restart(0)
        with fake.client(1).join(first.token) as last:
            last.put("b", b"1")
        return last.token

    result = fake.client(2).run_dag(dag, id="order-17")
    assert (result.id, result.replayed, result.attempts) == ("order-17", False, 2)
    assert {aft.base_of(name) for name in tries} == {"order-17"}
    assert result.value is not None
    with fake.client(2).transaction(after=result.value) as reader:
        assert reader.get("b") == b"1"
    again = fake.client(1).run_dag(dag, id="order-17")
    assert (again.replayed, again.value) == (True, None)
    assert again.token == result.value
    assert len(tries) == 2


def test_not_knowing_how_it_ended_is_a_retry_under_the_same_id(fake: FakeAft) -> None:
    fake.fail_next("commit", Fault.LOSE_ANSWER, times=20)

    def dag(id: str) -> None:  # noqa: A002
        with fake.client(0).step(id=id) as first:
            first.put("a", b"1")
        with fake.client(1).join(first.token):
            pass

    result = fake.client().run_dag(dag, deadline=1000)
    assert (result.replayed, fake.values["a"]) == (True, b"1")


def test_a_dag_that_is_wrong_or_never_works_raises(fake: FakeAft) -> None:
    with pytest.raises(ZeroDivisionError):
        fake.client().run_dag(lambda _: 1 // 0)

    def other(_: str) -> None:
        raise aft.AlreadyCommitted("something else", "other")

    with pytest.raises(aft.AlreadyCommitted):
        fake.client().run_dag(other)

    def never(_: str) -> None:
        raise aft.TransactionAborted("never")

    with pytest.raises(aft.TransactionAborted):
        fake.client().run_dag(never, retries=2)


def test_a_session_goes_on_elsewhere(fake: FakeAft) -> None:
    first = fake.client(0).run(lambda txn: txn.put("a", b"1"))
    assert first.token is not None
    second = fake.client(1).run(lambda txn: txn.put("b", txn.get("a") or b""), after=first.token)
    assert second.token is not None
    assert len(second.token.commits) == 2, "a session goes on"
    with fake.client(2).step(after=second.token) as step:
        assert step.get_many(["a", "b"]) == {"a": b"1", "b": b"1"}
    assert step.token.commits == second.token.commits
    with fake.client(0).join(step.token) as last:
        last.put("c", b"1")
    assert len(last.token.commits) == 3
    assert fake.running == []


def test_a_session_that_is_not_readable_yet_is_a_retry(fake: FakeAft) -> None:
    other = FakeAft()
    token = other.client().run(lambda txn: txn.put("a", b"1")).token
    assert token is not None
    with pytest.raises(aft.StoreUnavailable, match="cannot be read"):
        fake.client().transaction(after=token).__enter__()


def test_a_transaction_without_writes_adds_nothing_to_a_session(fake: FakeAft) -> None:
    assert fake.client().run(lambda txn: txn.get("stock")).token == aft.Token()


def test_a_token_is_there_after_the_block(fake: FakeAft) -> None:
    with pytest.raises(KeyError), fake.client().step() as txn:
        with pytest.raises(aft.InvalidRequest, match="after the `with` block"):
            _ = txn.token
        raise KeyError
    with pytest.raises(aft.InvalidRequest, match="nothing to hand on"):
        _ = txn.token


def test_after_it_was_handed_on_nothing_is_done_here(fake: FakeAft) -> None:
    with fake.client().step() as txn:
        pass
    for call in (lambda: txn.put("a", b"1"), lambda: txn.get("a"), txn.commit, txn.abort):
        with pytest.raises(aft.InvalidRequest, match="was handed on"):
            call()


def test_half_of_the_writes_are_not_handed_on(fake: FakeAft) -> None:
    fake.fail_next("put", Fault.LOSE_REQUEST)
    refused = pytest.raises(aft.InvalidRequest, match="a write failed")
    unanswered = pytest.raises(aft.SidecarUnavailable)
    with refused, fake.client().step() as txn, unanswered:
        txn.put("a", b"1")
    assert fake.running == []


def test_wrong_tokens_are_refused_here(fake: FakeAft) -> None:
    client = fake.client()
    with client.step() as one:
        pass
    with client.step() as other:
        pass
    session = aft.Token()
    for tokens, why in (
        ([one.token, other.token], "two transactions"),
        ([], "no token"),
        (session, "give it as `after`"),
    ):
        with pytest.raises(aft.InvalidRequest, match=why):
            client.join(tokens).__enter__()
    with pytest.raises(aft.InvalidRequest, match="first step"):
        client.step(one.token, id="x").__enter__()
    with pytest.raises(aft.InvalidRequest, match="still runs"):
        client.transaction(after=one.token).__enter__()
    with pytest.raises(TypeError, match=r"Token\.parse"):
        client.join([str(one.token)]).__enter__()  # type: ignore[list-item]
    with pytest.raises(aft.InvalidRequest, match="two transactions"), client.join(one.token) as txn:
        txn.commit(also=other.token)
