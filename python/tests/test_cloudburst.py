"""The stand-in behaves as Cloudburst's executors expect."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import aft
from aft._requests import Kind
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna
from aft.cloudburst import AftIpcClient
from aft.lattices import LWWPairLattice
from tests.responder import Responder


@pytest.fixture
def kvs(ipc_dir: Path, responder: Responder) -> Iterator[AftIpcClient]:
    client = AftIpcClient(3, None, ipc_dir=ipc_dir, deadline=0.2)
    yield client
    client.close()


def nothing(address: str, reply: bytes) -> list[tuple[str, bytes]]:
    return []


def test_what_an_executor_does_for_a_call(kvs: AftIpcClient) -> None:
    tag = kvs.start()
    assert kvs.get("f", txn_id=tag.id) == {"f": None}
    assert kvs.put("result", LWWPairLattice(10, b"42"), txn_id=tag.id) == {"result": True}
    assert kvs.put(["a", "b"], [LWWPairLattice(1, b"1"), b"2"], txn_id=tag.id) == {
        "a": True,
        "b": True,
    }
    assert kvs.get(["a", "result"], txn_id=tag.id)["result"] is not None
    kvs.commit(tag)
    value = kvs.get("result")["result"]
    assert value is not None
    assert value.reveal() == b"42"


def test_requests_without_a_transaction(kvs: AftIpcClient) -> None:
    assert kvs.put("error", b"oh") == {"error": True}
    assert kvs.get(["error", "dag"])["dag"] is None


def test_a_dag_is_committed_on_all_its_nodes(kvs: AftIpcClient, responder: Responder) -> None:
    tag = kvs.start()
    locations = {"f": "10.0.0.1:0", "g": "10.0.0.2:1", "h": "10.0.0.2:3"}
    with pytest.raises(aft.TransactionAborted, match=r"10\.0\.0\.2"):
        kvs.commit(tag, ip_address="10.0.0.1", schedule=SimpleNamespace(locations=locations))
    request = wire.CommitRequest.FromString(responder.seen[Kind.COMMIT][0])
    assert list(request.addresses) == ["10.0.0.2"]


def test_continuing_here_asks_nobody(kvs: AftIpcClient, responder: Responder) -> None:
    tag = kvs.start()
    assert kvs.continue_txn(tag.id, "10.0.0.1", my_ip="10.0.0.1").id == tag.id
    assert responder.seen[Kind.CONTINUE] == []
    with pytest.raises(aft.TransactionAborted, match=r"10\.0\.0\.2"):
        kvs.continue_txn(tag.id, "10.0.0.2", my_ip="10.0.0.1")
    (frame,) = responder.seen[Kind.CONTINUE]
    assert wire.MetadataRequest.FromString(frame).address == "10.0.0.2"


def test_commit_and_abort_raise_unless_that_is_what_happened(kvs: AftIpcClient) -> None:
    tag = kvs.start()
    kvs.abort(tag)
    with pytest.raises(RuntimeError):
        kvs.commit(tag)
    tag = kvs.start()
    kvs.commit(tag)
    with pytest.raises(RuntimeError, match="taken effect"):
        kvs.abort(tag)


def test_what_can_never_be_read_is_raised_rather_than_spun_for(kvs: AftIpcClient) -> None:
    with pytest.raises(aft.TransactionAborted):
        kvs.get("a", txn_id="unknown")
    with pytest.raises(aft.TransactionAborted):
        kvs.put("a", b"1", txn_id="unknown")


def test_what_may_be_read_later_is_none(kvs: AftIpcClient, responder: Responder) -> None:
    def store_down(address: str, reply: bytes) -> list[tuple[str, bytes]]:
        response = anna.KeyResponse.FromString(reply)
        for tuple_ in response.tuples:
            tuple_.error = anna.NO_SERVERS
            tuple_.lattice_type = anna.NONE
        return [(address, response.SerializeToString())]

    responder.node.versions.commit({"a": b"1"})
    responder.next(Kind.GET, store_down)
    assert kvs.get("a") == {"a": None}
    assert kvs.get("a") != {"a": None}


def test_a_get_without_an_answer_is_none_and_logged(
    kvs: AftIpcClient, responder: Responder, caplog: pytest.LogCaptureFixture
) -> None:
    responder.node.versions.commit({"a": b"1", "b": b"2"})
    responder.next(Kind.GET, responder.hold)
    with caplog.at_level(logging.ERROR):
        assert kvs.get(["a", "b"]) == {"a": None, "b": None}
    assert "did not answer" in caplog.text
    responder.release()
    value = kvs.get("b")["b"]
    assert value is not None
    assert value.reveal() == b"2"


def test_after_a_put_without_an_answer_the_rest_is_not_committed(
    kvs: AftIpcClient, responder: Responder
) -> None:
    tag = kvs.start()
    responder.next(Kind.PUT, nothing)
    assert kvs.put("a", b"1", txn_id=tag.id) == {"a": False}
    assert kvs.put("b", b"2", txn_id=tag.id) == {"b": True}
    with pytest.raises(RuntimeError, match="must not be committed"):
        kvs.commit(tag)
    assert responder.node.versions.newest() == {}


def test_other_lattices_are_refused_in_words(kvs: AftIpcClient) -> None:
    @dataclass
    class SetLattice:
        val: set[bytes]

        def reveal(self) -> set[bytes]:
            return self.val

        def serialize(self) -> tuple[anna.SetValue, int]:
            return anna.SetValue(values=self.val), anna.SET

    tag = kvs.start()
    with pytest.raises(aft.InvalidRequest, match="last-writer-wins"):
        kvs.put("a", SetLattice({b"1"}), txn_id=tag.id)
    kvs.abort(tag)


def test_values_come_back_as_the_lattice_that_is_wanted(ipc_dir: Path, responder: Responder) -> None:
    responder.node.versions.commit({"a": b"1"})

    class Theirs(LWWPairLattice):
        pass

    client = AftIpcClient(ipc_dir=ipc_dir, lattice=Theirs)
    assert client.get("a")["a"] == Theirs(1, b"1")
    client.close()


def test_lattices() -> None:
    old, new = LWWPairLattice(1, b"old"), LWWPairLattice(2, b"new")
    assert old.merge(new) is new
    assert new.merge(old) is new
    old.assign((3, b"newer"))
    assert new.merge(old).reveal() == b"newer"
