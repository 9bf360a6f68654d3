"""The sockets between nodes, spoken to by somebody who knows the original's messages, or none at all."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import zmq
from aft._wire import aft_pb2 as aft
from google.protobuf.message import DecodeError, Message

from cluster import Cluster, Node
from daemon import until
from wire import ABORTED, COMMITTED

GOSSIP, HANDED_OVER, COMMIT_ANSWERS, QUERIES, QUERIED, HAND_OVERS, COMMITS = PORTS = (
    *(7777, 9000, 9001, 9100, 9200, 10000, 10100),
)


class Peer:
    """A node of somebody else's making."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.inbox = self.context.socket(zmq.PULL)
        port = self.inbox.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self.outboxes: dict[str, zmq.Socket[bytes]] = {}

    def send(self, node: Node, port: int, message: bytes | Message) -> None:
        ip, _, offset = node.name.partition(":")
        endpoint = f"tcp://{ip}:{port + int(offset or 0)}"
        if endpoint not in self.outboxes:
            self.outboxes[endpoint] = self.context.socket(zmq.PUSH)
            self.outboxes[endpoint].connect(endpoint)
        frame = message if isinstance(message, bytes) else message.SerializeToString()
        self.outboxes[endpoint].send(frame)

    def receive(self) -> bytes:
        assert self.inbox.poll(5000), "no answer"
        return self.inbox.recv()

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def hand_over(peer: Peer, node: Node, tid: str) -> aft.TransactionRecord:
    peer.send(node, HAND_OVERS, f"{tid}~{peer.address}".encode())
    return aft.TransactionRecord.FromString(peer.receive())


def query(peer: Peer, node: Node, tid: str, key: str) -> aft.AftResponse:
    peer.send(node, QUERIES, aft.AftQuery(key=key, tid=tid, responseAddress=peer.address))
    return aft.AftResponse.FromString(peer.receive())


def test_a_transaction_is_handed_over(cluster: Cluster, peer: Peer) -> None:
    node = cluster[0]
    node.raw.write({"read": b"v", "beside": b"v"})
    tid = node.raw.start().id
    node.raw.get(["read", "missing"], tid)
    node.raw.put({"written": b"w"}, tid)
    record = hand_over(peer, node, tid)
    assert (record.id, record.error, record.replicaId) == (tid, "", node.name)
    assert list(record.writeSet) == ["written"]
    assert set(record.readSet) == {"read"}
    assert record.readSet["read"].startswith("data/read/")
    assert [set(commit.writeSet) for commit in record.commits] == [{"read", "beside"}]
    assert list(record.missing) == ["missing"]
    (visit,) = record.visited
    assert (visit.node, visit.puts) == (node.name, 1)
    # A question asked again gets the same answer.
    again = hand_over(peer, node, tid)
    assert (again.writeSet, again.visited) == (record.writeSet, record.visited)


def test_a_buffered_value_is_told(cluster: Cluster, peer: Peer) -> None:
    node, other, _ = cluster
    tid = node.raw.start().id
    node.raw.put({"k": b"v", "empty": b"", "large": b"x" * 3_000_000}, tid)
    for key, value in (("k", b"v"), ("empty", b""), ("large", b"x" * 3_000_000)):
        answer = query(peer, node, tid, key)
        assert (answer.key, answer.found, answer.data) == (key, True, value)
    assert not query(peer, node, tid, "other").found
    assert not query(peer, node, "no-such-transaction", "k").found
    # Who has gone on from there points back.
    assert other.raw.go_on(tid, node.name) == ""
    answer = query(peer, other, tid, "k")
    assert not answer.found
    assert answer.pointer == node.name
    assert node.raw.abort(tid).status == ABORTED
    assert not query(peer, node, tid, "k").found


def test_what_is_over_is_not_handed_over(cluster: Cluster, peer: Peer) -> None:
    node = cluster[0]
    assert hand_over(peer, node, "no-such-transaction").error
    tid = node.raw.start().id
    node.raw.put({"k": b"v"}, tid)
    assert node.raw.commit(tid).status == COMMITTED
    record = hand_over(peer, node, tid)
    assert record.error
    assert not record.visited


def test_a_part_is_not_persisted_for_the_originals_nodes(cluster: Cluster, peer: Peer) -> None:
    node = cluster[0]
    tid = node.raw.start().id
    node.raw.put({"k": b"v"}, tid)
    record = aft.TransactionRecord(id=tid, writeSet=["k"], status=COMMITTED, timestamp=1)
    request = aft.AftCommitRequest(record=record, responseAddress=peer.address)
    peer.send(node, COMMITS, request)
    answer = peer.receive()
    assert answer != b"success"
    assert b"hands its values out" in answer, "words that say why"
    assert node.raw.get("k") == {"k": None}
    assert node.raw.commit(tid).status == COMMITTED


def test_a_stranger_cannot_abort_what_committed_nor_commit_what_did_not(
    cluster: Cluster, peer: Peer
) -> None:
    """The network is trusted not to lie; but a message that is late is no lie, and does no harm."""
    node = cluster[0]
    tid = node.raw.start().id
    node.raw.put({"k": b"v"}, tid)
    assert node.raw.commit(tid).status == COMMITTED
    record = aft.TransactionRecord(id=tid, status=aft.ABORTED)
    peer.send(node, COMMITS, aft.AftCommitRequest(record=record, step=aft.COMMIT_STEP_OVER))
    hand_over(peer, node, tid)
    assert node.raw.commit(tid).status == COMMITTED
    assert node.raw.get("k") == {"k": b"v"}


def garbage(tid: str, reply_to: str) -> Iterator[bytes]:
    """Noise, and every message with noise in it."""
    dice = random.Random(1)
    record = aft.TransactionRecord(id=tid, writeSet=["k", ""], status=COMMITTED, timestamp=2**62)
    visit = aft.Visit(node="10.0.0.1", incarnation="x", steps=2**63, puts=2**63)
    record.visited.append(visit)
    record.held.add(key="k", visit=77, depth=2**31)
    record.reads.add(key="k", commit=99)
    record.reads.add(key="\u0000")
    messages: list[Message] = [
        record,
        aft.TransactionList(records=[record], origin="x", incarnation="y", first=9, last=3),
        aft.TransactionList(records=[record], origin="~", first=0, last=2**64 - 1),
        aft.TransactionList(origin="10.0.0.1", incarnation="y", first=1, last=2**64 - 1, resend=True),
        aft.AftQuery(key="", tid=tid, responseAddress=reply_to),
        aft.AftQuery(key="k", tid="", responseAddress="nonsense"),
        aft.AftQuery(key="k", tid=tid, responseAddress="ipc:///tmp/somewhere"),
        aft.AftResponse(key="k", found=True, data=b"x", number=1, tid=tid),
        *(
            aft.AftCommitRequest(record=record, step=step, number=1, hops=2**31, addresses=["", "~"])
            for step in aft.CommitStep.keys()
        ),
        aft.AftCommitResponse(number=1, values=[b"x"] * 3, status=COMMITTED),
        aft.AftCommitResponse(number=2**64 - 1, error="no", step=aft.COMMIT_STEP_FORWARD),
    ]
    texts = ["", "~", "~~~~", tid, f"{tid}~", f"{tid}~nonsense", f"{tid}~{reply_to}~a~b~c"]
    for text in texts:
        yield text.encode()
    for message in messages:
        whole = message.SerializeToString()
        yield whole
        for _ in range(20):
            at = dice.randrange(len(whole) + 1)
            yield whole[:at]
            yield whole[:at] + dice.randbytes(4) + whole[at + 4 :]
    for _ in range(100):
        yield dice.randbytes(dice.randrange(300))
    yield b"\xff" * 100_000


@pytest.mark.parametrize("port", PORTS)
def test_garbage_does_no_harm(cluster: Cluster, peer: Peer, port: int) -> None:
    node, other, _ = cluster
    tid = node.raw.start().id
    node.raw.put({"k": b"v"}, tid)
    for message in garbage("foreign", peer.address):
        peer.send(node, port, message)
    # Whatever is answered can be read, and it goes on.
    peer.send(node, HAND_OVERS, f"{tid}~{peer.address}".encode())

    def is_through() -> bool:
        try:
            return aft.TransactionRecord.FromString(peer.receive()).id == tid
        except DecodeError:
            return False

    until(is_through)
    assert node.daemon.is_alive()
    assert other.raw.go_on(tid, node.name) == ""
    assert other.raw.get("k", tid) == {"k": b"v"}
    assert other.raw.commit(tid).status == COMMITTED
    until(lambda: node.raw.get("k") == {"k": b"v"})
    for each in cluster:
        each.raw.write({"after": each.name.encode()})
