"""Sessions that move: what a token names is read on every node, or the start says why not."""

from __future__ import annotations

import time
from collections.abc import Callable

import aft
import pytest
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna

from anna import Server, ours
from cluster import Cluster
from wire import COMMITTED, RUNNING

QUIET = ("--gossip-interval", "60000")
DEADLINE_S = 4.0
SLACK_S = 1.0


def committed(cluster: Cluster, number: int, **values: bytes) -> bytes:
    """Commits values on a node; answers the token."""
    raw = cluster[number].raw
    tid = raw.start().id
    raw.put(values, tid)
    ended = raw.commit(tid)
    assert ended.status == COMMITTED
    return ended.token


@pytest.mark.parametrize("options", [(), QUIET])
def test_a_token_is_enough_on_another_node(
    cluster_of: Callable[..., Cluster], options: tuple[str, ...]
) -> None:
    cluster = cluster_of(2, *options)
    for round_ in range(10):
        wanted = {"k": b"%d" % round_, "l": b"%d" % round_}
        token = committed(cluster, 0, **wanted)
        began = time.monotonic()
        raw = cluster[1].raw
        tid = raw.start(None, token).id
        assert raw.get(["k", "l"], tid) == wanted
        assert raw.commit(tid).status == COMMITTED
        assert time.monotonic() - began < 1, "without gossip the store is asked, at once"


def test_several_tokens_and_an_id(cluster_of: Callable[..., Cluster]) -> None:
    cluster = cluster_of(3, *QUIET)
    tokens = [committed(cluster, number, **{f"k{number}": b"v"}) for number in (0, 1)]
    raw = cluster[2].raw
    tag = raw.start("order-17", *tokens)
    assert tag.id.startswith("order-17")
    assert raw.get(["k0", "k1"], tag.id) == {"k0": b"v", "k1": b"v"}
    raw.put({"k2": b"v"}, tag.id)
    last = raw.commit(tag.id)
    first = cluster[0].raw
    tid = first.start(None, last.token, *tokens).id
    assert first.get(["k0", "k1", "k2"], tid) == {"k0": b"v", "k1": b"v", "k2": b"v"}


def test_it_is_read_with_all_of_its_writes(cluster_of: Callable[..., Cluster]) -> None:
    """Of an older read set, too: the token's commit is indexed as a whole."""
    cluster = cluster_of(2, *QUIET)
    cluster[1].raw.write({"k": b"old", "l": b"old"})
    token = committed(cluster, 0, k=b"new", l=b"new")
    raw = cluster[1].raw
    tid = raw.start(None, token).id
    assert raw.get("k", tid) == {"k": b"new"}
    assert raw.get("l", tid) == {"l": b"new"}


def test_the_token_of_a_transaction_over_several_nodes(cluster_of: Callable[..., Cluster]) -> None:
    cluster = cluster_of(3, *QUIET)
    a, b, c = cluster
    with a.client.step() as first:
        first.put("a", b"1")
    with b.client.join(first.token) as last:
        last.put("b", b"1")
    with c.client.transaction(after=last.token) as reader:
        assert reader.get_many(["a", "b"]) == {"a": b"1", "b": b"1"}


def test_a_session_goes_along_with_a_transaction(cluster_of: Callable[..., Cluster]) -> None:
    a, b, c = cluster_of(3, *QUIET)
    wrote = a.client.run(lambda txn: txn.put("k", b"1")).token
    assert wrote
    with b.client.step(after=wrote) as first:
        first.put("other", b"1")
    with c.client.join(first.token) as last:
        assert last.get("k") == b"1", "although the first node never read it"


def test_after_the_node_that_committed_has_died(cluster_of: Callable[..., Cluster]) -> None:
    cluster = cluster_of(2, *QUIET)
    token = committed(cluster, 0, k=b"v")
    cluster[0].daemon.kill()
    raw = cluster[1].raw
    assert raw.get("k", raw.start(None, token).id) == {"k": b"v"}


def test_asked_again_the_token_is_the_same_or_as_good(cluster_of: Callable[..., Cluster]) -> None:
    a, b, c = cluster_of(3, *QUIET)
    tid = a.raw.start("order-17").id
    a.raw.put({"k": b"v"}, tid)
    a.raw.commit(tid)
    for node, answer in ((a, a.raw.commit(tid)), (b, b.raw.commit(tid)), (c, c.raw.start("order-17"))):
        assert answer.status == COMMITTED
        assert wire.CommitToken.FromString(answer.token).id == tid, node.name
        raw = next(other for other in (b, c) if other is not node).raw
        assert raw.get("k", raw.start(None, answer.token).id) == {"k": b"v"}


def test_without_writes_there_is_nothing_to_wait_for(cluster: Cluster) -> None:
    raw = cluster[0].raw
    assert raw.commit(raw.start().id).token == b""


def test_the_token_of_what_never_committed_is_refused_in_time(cluster: Cluster) -> None:
    unheard = wire.CommitToken(id="never")
    placed = wire.CommitToken(id="never", node=cluster[0].name, incarnation="gone", number=7)
    began = time.monotonic()
    asked = [(cluster[1].another(), token.SerializeToString()) for token in (unheard, placed)]
    for raw, token in asked:
        raw.push["start"].send(raw.start_request(None, token))
    with (
        pytest.raises(aft.StoreUnavailable),
        cluster[2].client.transaction(after=aft.Token(commits=(unheard.SerializeToString(),))),
    ):
        pytest.fail("the block must not run")
    for raw, _ in asked:
        tag = wire.TransactionTag.FromString(raw.receive("start"))
        assert (tag.id, tag.status) == ("", RUNNING)
        assert tag.error in (anna.NO_SERVERS, anna.TIMEOUT), "it may be tried again"
        assert tag.detail
    assert time.monotonic() - began < DEADLINE_S + SLACK_S


@ours
def test_while_the_store_is_away(cluster_of: Callable[..., Cluster], server: Server) -> None:
    cluster = cluster_of(2, *QUIET)
    token = committed(cluster, 0, k=b"v")
    server.misbehave(silent=True)
    began = time.monotonic()
    raw = cluster[1].raw
    tag = raw.start(None, token)
    assert time.monotonic() - began < DEADLINE_S + SLACK_S
    assert not tag.id
    assert cluster[0].raw.start(None, token).id, "its own node knows it"
    server.misbehave()
    assert raw.get("k", raw.start(None, token).id) == {"k": b"v"}


@pytest.mark.parametrize("text", ["x", "", "AAAA", "~", "x~y", "%%%", "ü"])
def test_what_is_no_token_is_refused(cluster_of: Callable[..., Cluster], text: str) -> None:
    raw = cluster_of(1).nodes[0].raw
    answer = wire.TransactionTag.FromString(
        raw.call("start", f"{raw.address('start')}~~{text}".encode())
    )
    assert (answer.id, answer.error) == ("", anna.INVALID)
    assert answer.detail
