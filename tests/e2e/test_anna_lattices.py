"""Values of lattices other than last-writer-wins, put through a sidecar: Anna merges them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from aft._wire import anna_pb2 as anna
from google.protobuf.message import Message

from anna import Reader
from wire import COMMITTED, Raw, lww, response

Tuple = tuple[str, anna.LatticeType, bytes]


def elements(*values: bytes) -> bytes:
    return anna.SetValue(values=values).SerializeToString()


def put(raw: Raw, tuples: Iterable[Tuple], tid: str | None = None) -> anna.KeyResponse:
    request = raw.request("put", tid)
    for key, kind, payload in tuples:
        request.tuples.add(key=key, lattice_type=kind, payload=payload)
    answer = response(raw.call("put", request.SerializeToString()))
    assert answer.response_id == request.request_id
    assert [item.key for item in answer.tuples] == [key for key, *_ in tuples]
    return answer


def merged(raw: Raw, store: Reader, key: str, kind: anna.LatticeType, *values: Message) -> bytes:
    """What the key holds after these values were put: the same through the sidecar and in the store."""
    for value in values:
        answer = put(raw, [(key, kind, value.SerializeToString())])
        assert [item.error for item in answer.tuples] == [anna.NO_ERROR], answer.detail
    (found,) = raw.get_response([key]).tuples
    stored = store.get(key)
    assert (found.error, found.lattice_type) == (anna.NO_ERROR, kind)
    assert (stored.error, stored.lattice_type) == (anna.NO_ERROR, kind)
    # The same value: its maps are in no order.
    parse = type(values[0]).FromString
    assert parse(found.payload) == parse(stored.payload)
    return found.payload


@pytest.mark.parametrize("kind", [anna.SET, anna.ORDERED_SET])
def test_sets_are_united(executor: Raw, store: Reader, prefix: str, kind: anna.LatticeType) -> None:
    first = anna.SetValue(values=[b"b", b"a"])
    second = anna.SetValue(values=[b"c", b"a", b""])
    found = merged(executor, store, prefix + "set", kind, first, second)
    assert sorted(anna.SetValue.FromString(found).values) == [b"", b"a", b"b", b"c"]
    # What others add is there, too, also right after it was read.
    store.put(prefix + "set", kind, elements(b"d"))
    (now,) = executor.get_response([prefix + "set"]).tuples
    assert sorted(anna.SetValue.FromString(now.payload).values) == [b"", b"a", b"b", b"c", b"d"]


def test_the_lower_priority_wins(executor: Raw, store: Reader, prefix: str) -> None:
    values = [anna.PriorityValue(priority=p, value=b"%d" % p) for p in (5, 2, 9)]
    found = merged(executor, store, prefix + "priority", anna.PRIORITY, *values)
    assert anna.PriorityValue.FromString(found) == values[1]


def test_causal_values(executor: Raw, store: Reader, prefix: str) -> None:
    def single(value: bytes, **clock: int) -> anna.SingleKeyCausalValue:
        return anna.SingleKeyCausalValue(vector_clock=clock, values=[value])

    def many(value: bytes, **clock: int) -> anna.MultiKeyCausalValue:
        return anna.MultiKeyCausalValue(
            vector_clock=clock,
            values=[value],
            dependencies=[anna.KeyVersion(key="other", vector_clock={"x": 1})],
        )

    key = prefix + "single"
    found = merged(executor, store, key, anna.SINGLE_CAUSAL, single(b"1", a=1), single(b"2", a=2))
    assert anna.SingleKeyCausalValue.FromString(found) == single(b"2", a=2)
    found = merged(executor, store, key, anna.SINGLE_CAUSAL, single(b"3", a=1, b=1))
    both = anna.SingleKeyCausalValue.FromString(found)
    assert (dict(both.vector_clock), sorted(both.values)) == ({"a": 2, "b": 1}, [b"2", b"3"])
    key = prefix + "multi"
    found = merged(executor, store, key, anna.MULTI_CAUSAL, many(b"1", a=1), many(b"2", b=1))
    united = anna.MultiKeyCausalValue.FromString(found)
    assert (dict(united.vector_clock), sorted(united.values)) == ({"a": 1, "b": 1}, [b"1", b"2"])
    assert [one.key for one in united.dependencies] == ["other"]


def test_several_lattices_in_one_request(executor: Raw, store: Reader, prefix: str) -> None:
    best = anna.PriorityValue(priority=1, value=b"v").SerializeToString()
    tuples = [(prefix + "s", anna.SET, elements(b"x")), (prefix + "p", anna.PRIORITY, best)]
    answer = put(executor, tuples)
    assert [item.error for item in answer.tuples] == [anna.NO_ERROR] * 2
    assert store.elements(prefix + "s") == {b"x"}
    executor.write({prefix + "plain": b"v"})
    keys = [prefix + "p", prefix + "plain", prefix + "missing", prefix + "s"]
    found = executor.get_response(keys).tuples
    assert [item.key for item in found] == keys
    kinds = [item.lattice_type for item in found]
    assert kinds == [anna.PRIORITY, anna.LWW, anna.NONE, anna.SET]
    assert [item.error for item in found] == [0, 0, anna.KEY_DNE, 0]


ALL_BUT_LWW = [
    (anna.SET, elements(b"x")),
    (anna.ORDERED_SET, elements(b"x")),
    (anna.PRIORITY, anna.PriorityValue(priority=1, value=b"v").SerializeToString()),
    (
        anna.SINGLE_CAUSAL,
        anna.SingleKeyCausalValue(vector_clock={"a": 1}, values=[b"v"]).SerializeToString(),
    ),
    (
        anna.MULTI_CAUSAL,
        anna.MultiKeyCausalValue(vector_clock={"a": 1}, values=[b"v"]).SerializeToString(),
    ),
]


@pytest.mark.parametrize(("kind", "payload"), ALL_BUT_LWW)
def test_not_in_a_transaction(
    executor: Raw, store: Reader, prefix: str, kind: anna.LatticeType, payload: bytes
) -> None:
    key = prefix + "k"
    tid = executor.start().id
    answer = put(executor, [(key, kind, payload)], tid)
    assert [item.error for item in answer.tuples] == [anna.LATTICE]
    assert answer.detail
    # The rest of the transaction is not harmed.
    answer = put(executor, [(key, kind, payload), (prefix + "beside", anna.LWW, lww(b"v"))], tid)
    assert [item.error for item in answer.tuples] == [anna.LATTICE, anna.NO_ERROR]
    assert executor.commit(tid).status == COMMITTED
    store.until_published({prefix + "beside": b"v"})
    assert store.get(key).error == anna.KEY_DNE
    assert executor.get(key) == {key: None}


def test_a_set_cannot_be_read_in_a_transaction(executor: Raw, prefix: str) -> None:
    key = prefix + "set"
    put(executor, [(key, anna.SET, elements(b"x"))])
    tid = executor.start().id
    answer = executor.get_response([key], tid)
    (found,) = answer.tuples
    assert found.lattice_type == anna.NONE
    assert found.error not in (anna.NO_ERROR, anna.KEY_DNE), "it is there, and must not seem missing"
    assert "SET" in answer.detail
    executor.put({prefix + "k": b"v"}, tid)
    assert executor.commit(tid).status == COMMITTED


def test_last_writer_wins_and_others_do_not_go_together(
    executor: Raw, store: Reader, prefix: str
) -> None:
    tuples = [(prefix + "s", anna.SET, elements(b"x")), (prefix + "l", anna.LWW, lww(b"v"))]
    for request in (tuples, tuples[::-1]):
        answer = put(executor, request)
        assert all(item.error for item in answer.tuples)
        assert answer.detail
    executor.write({prefix + "after": b"v"})
    store.until_published({prefix + "after": b"v"})
    assert store.get(prefix + "s").error == anna.KEY_DNE
    assert executor.get(prefix + "l") == {prefix + "l": None}


@pytest.mark.parametrize("kind", [*range(2, 7), 0, 7, 99])
def test_a_bad_payload_is_refused(executor: Raw, store: Reader, prefix: str, kind: int) -> None:
    good = (prefix + "good", anna.SET, elements(b"x"))
    request = executor.request("put", None)
    request.tuples.add(key=good[0], lattice_type=good[1], payload=good[2])
    request.tuples.add(key=prefix + "bad", lattice_type=kind, payload=b"\xff\xff\xff")
    answer = response(executor.call("put", request.SerializeToString()))
    assert [item.key for item in answer.tuples] == [prefix + "good", prefix + "bad"]
    assert all(item.error for item in answer.tuples), "all of a request, or nothing"
    assert answer.detail
    assert store.get(prefix + "good").error == anna.KEY_DNE
    assert store.get(prefix + "bad").error == anna.KEY_DNE


def test_what_the_store_acknowledges_and_does_not_store_is_no_success(
    executor: Raw, store: Reader, prefix: str
) -> None:
    foreign, committed, mine = prefix + "foreign", prefix + "committed", prefix + "set"
    store.put_object(foreign, b"v")
    executor.write({committed: b"v"})
    store.until_published({committed: b"v"})
    for key in (foreign, committed):
        answer = put(executor, [(key, anna.SET, elements(b"x")), (mine, anna.SET, elements(b"x"))])
        assert answer.tuples[0].error not in (anna.NO_ERROR, anna.KEY_DNE)
        assert answer.tuples[1].error == anna.NO_ERROR, "each key is on its own"
        assert "type" in answer.detail
    value = store.lww(foreign)
    assert value
    assert value.value == b"v"
    assert executor.get([foreign, committed]) == {foreign: b"v", committed: b"v"}


def test_a_commit_to_a_key_that_is_a_set_in_the_store(executor: Raw, store: Reader, prefix: str) -> None:
    """It cannot be published, and that harms nobody: sidecars have the committed value."""
    key = prefix + "set"
    put(executor, [(key, anna.SET, elements(b"x"))])
    executor.write({key: b"committed", prefix + "beside": b"v"})
    assert executor.get(key) == {key: b"committed"}
    store.until_published({prefix + "beside": b"v"})
    assert store.elements(key) == {b"x"}
    for number in range(50):
        executor.write({key: b"%d" % number, prefix + "beside": b"%d" % number})
    store.until_published({prefix + "beside": b"49"})
    assert executor.get(key) == {key: b"49"}


def test_reserved_names(executor: Raw, store: Reader, prefix: str) -> None:
    nodes = store.elements("aft~nodes")
    for key in ("aft~nodes", f"aft~{prefix}", f"ANNA_METADATA|{prefix}"):
        answer = put(executor, [(key, anna.SET, elements(b"intruder"))])
        assert answer.tuples[0].error
        assert "reserved" in answer.detail
    assert store.elements("aft~nodes") == nodes
    assert store.get(f"ANNA_METADATA|{prefix}").error == anna.KEY_DNE
