"""The bytes, against the descriptors and against each other."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pool

from aft._requests import (
    TRANSACTION_ID,
    Abort,
    Commit,
    Continue,
    Get,
    Item,
    Put,
    Start,
    Status,
    last_writer_wins,
)
from aft._verdict import exception
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna
from aft.errors import (
    AftError,
    InvalidRequest,
    OutcomeUnknown,
    StoreUnavailable,
    TransactionAborted,
)

REPLY = "ipc:///requests/reply_1"


def test_start_abort_are_bare_strings() -> None:
    assert Start().encode(REPLY) == REPLY.encode()
    assert Start("x").encode(REPLY) == f"{REPLY}~x".encode()
    assert Start("x", [b"\xff\xfe", b"a"]).encode(REPLY) == f"{REPLY}~x~__4~YQ".encode()
    assert Start(None, [b"a"]).encode(REPLY) == f"{REPLY}~~YQ".encode()
    assert Abort("x.1").encode(REPLY) == f"x.1~{REPLY}".encode()


def test_commit_and_continue_name_attempt_address_and_nodes() -> None:
    commit = wire.CommitRequest.FromString(Commit("x.1", ["10.0.0.1"]).encode(REPLY))
    assert (commit.tid, commit.responseAddress, list(commit.addresses)) == ("x.1", REPLY, ["10.0.0.1"])
    onward = wire.MetadataRequest.FromString(Continue("x.1", "10.0.0.2").encode(REPLY))
    assert (onward.tid, onward.responseAddress, onward.address) == ("x.1", REPLY, "10.0.0.2")


def test_the_answer_to_continue_names_the_node_and_why_not() -> None:
    onward = Continue("x.1", "10.0.0.2")
    went_on = onward.decode(b"10.0.0.1:7")
    assert (went_on.address, went_on.error, went_on.detail) == ("10.0.0.1:7", anna.NO_ERROR, "")
    refused = onward.decode(f"10.0.0.1~{int(anna.RETRY)}~a~b".encode())
    assert (refused.address, refused.error, refused.detail) == ("10.0.0.1", anna.RETRY, "a~b")


def test_the_transaction_id_travels_as_a_tuple() -> None:
    request = anna.KeyRequest.FromString(Get("x.1", ["k", "l"]).encode(REPLY))
    by_key = {tuple_.key: tuple_.payload for tuple_ in request.tuples}
    assert by_key == {TRANSACTION_ID: b"x.1", "k": b"", "l": b""}
    assert request.type == anna.GET
    assert request.response_address == REPLY
    alone = anna.KeyRequest.FromString(Get(None, ["k"]).encode(REPLY))
    assert [tuple_.key for tuple_ in alone.tuples] == ["k"]


def test_a_value_is_wrapped_once() -> None:
    request = anna.KeyRequest.FromString(Put("x", {"k": last_writer_wins(b"v")}).encode(REPLY))
    (tuple_,) = (t for t in request.tuples if t.key == "k")
    assert tuple_.lattice_type == anna.LWW
    assert anna.LWWValue.FromString(tuple_.payload).value == b"v"


def test_requests_for_keys_have_numbers_of_their_own() -> None:
    assert len({Get(None, ["k"]).number for _ in range(100)}) == 100


def test_an_answer_to_another_request_is_not_taken() -> None:
    get = Get("x", ["k"])
    theirs = anna.KeyResponse(response_id="other")
    assert get.decode(theirs.SerializeToString()) is None
    assert get.decode(b"\xff\xff") is None
    other = wire.TransactionTag(id="y.1", status=wire.COMMITTED).SerializeToString()
    assert Commit("x.1").decode(other) is None
    assert Abort("x.1").decode(other) is None
    assert Start("x").decode(other) is None
    assert Commit("x.1").decode(b"\xff\xff") is None


def test_a_start_takes_any_attempt_at_its_id() -> None:
    for name in ("x", "x.7"):
        tag = Start("x").decode(wire.TransactionTag(id=name).SerializeToString())
        assert tag is not None
        assert tag.status is Status.RUNNING
    refused = Start("x").decode(wire.TransactionTag(error=anna.INVALID).SerializeToString())
    assert refused is not None
    assert refused.id == ""


@pytest.mark.parametrize(
    ("tuple_", "item"),
    [
        (anna.KeyTuple(key="k", error=anna.KEY_DNE), Item()),
        (anna.KeyTuple(key="k", error=anna.RETRY), Item(error=anna.RETRY)),
        (anna.KeyTuple(key="k", lattice_type=anna.SET), Item(error=anna.LATTICE)),
        (anna.KeyTuple(key="k", lattice_type=anna.LWW, payload=b"\xff"), Item(error=anna.LATTICE)),
        (anna.KeyTuple(key="k", lattice_type=anna.LWW), Item(value=b"")),
    ],
)
def test_tuples_are_read(tuple_: anna.KeyTuple, item: Item) -> None:
    get = Get("x", ["k"])
    response = anna.KeyResponse(response_id=get.number, tuples=[tuple_])
    items = get.decode(response.SerializeToString())
    assert items is not None
    assert items.by_key == {"k": item}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (anna.TIMEOUT, StoreUnavailable),
        (anna.NO_SERVERS, StoreUnavailable),
        (anna.LATTICE, InvalidRequest),
        (anna.RETRY, TransactionAborted),
        (anna.INVALID, InvalidRequest),
        (anna.UNDECIDED, OutcomeUnknown),
        (99, InvalidRequest),
    ],
)
def test_each_code_says_what_to_do(code: int, kind: type[AftError]) -> None:
    error = exception(code, "", "x")
    assert type(error) is kind
    assert error.id == "x"
    assert error.hint
    assert error.hint in str(error)
    assert "said so" in str(exception(code, "said so", None))


def test_descriptors_do_not_take_names_that_others_use() -> None:
    pool = descriptor_pool.Default()
    for name in ("anna.proto", "aft.proto"):
        with pytest.raises(KeyError):
            pool.FindFileByName(name)
    for name in ("KeyRequest", "TransactionTag"):
        with pytest.raises(KeyError):
            pool.FindMessageTypeByName(name)
    assert wire.DESCRIPTOR.name == "aft/_wire/aft.proto"
