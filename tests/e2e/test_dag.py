"""One transaction over several nodes: chains, branches, and what becomes of both when they end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import aft
import pytest
from aft._wire import aft_pb2 as wire
from aft._wire import anna_pb2 as anna

from cluster import Cluster, Node
from daemon import until
from wire import ABORTED, COMMITTED, RUNNING, Failed

LARGE = b"x" * 5_000_000


def begin(node: Node, **values: bytes) -> str:
    tid = node.raw.start().id
    if values:
        node.raw.put(values, tid)
    return tid


def go_on(tid: str, node: Node, *upstream: Node, **values: bytes) -> None:
    assert node.raw.go_on(tid, *(one.name for one in upstream)) == ""
    if values:
        node.raw.put(values, tid)


def commit(tid: str, node: Node, *also: Node) -> None:
    ended = node.raw.commit(tid, *(one.name for one in also))
    assert ended.status == COMMITTED, ended.detail


def aborts(tid: str, node: Node, *also: Node) -> str:
    """Commits, in vain; and that is final, wherever one asks."""
    ended = node.raw.commit(tid, *(one.name for one in also))
    assert ended.status == ABORTED, "it must not commit"
    return ended.detail


def see(cluster: Cluster, wanted: dict[str, bytes | None]) -> None:
    """All nodes get to read these values, all at once."""
    for node in cluster:
        first = node.raw.get(list(wanted))
        nothing_yet = dict.fromkeys(wanted)
        assert first in (nothing_yet, wanted)
        until(lambda node=node: node.raw.get(list(wanted)) == wanted)  # type: ignore[misc]


def test_a_chain_over_three_nodes(cluster: Cluster) -> None:
    a, b, c = cluster
    tid = begin(a, a=b"1", large=LARGE)
    go_on(tid, b, a, b=b"2")
    assert b.raw.get(["a", "b", "none"], tid) == {"a": b"1", "b": b"2", "none": None}
    go_on(tid, c, b, c=b"3", a=b"4")
    wanted = {"a": b"4", "b": b"2", "c": b"3", "large": LARGE}
    assert c.raw.get(list(wanted), tid) == wanted
    assert c.raw.get(list(wanted)) == dict.fromkeys(wanted), "seen by nobody else before the commit"
    commit(tid, c)
    assert c.raw.get(list(wanted)) == wanted, "where it committed it is seen at once"
    see(cluster, dict(wanted))
    cluster.wait_until_idle()
    for node in cluster:
        assert node.raw.commit(tid).status == COMMITTED, "asked again, anywhere"
        assert node.raw.abort(tid).status == COMMITTED


def test_there_and_back_and_on(cluster: Cluster) -> None:
    a, b, c = cluster
    tid = begin(a, a=b"1", k=b"a")
    go_on(tid, b, a, b=b"1", k=b"b")
    go_on(tid, a, b, a=b"2")
    assert a.raw.get(["a", "b", "k"], tid) == {"a": b"2", "b": b"1", "k": b"b"}
    go_on(tid, c, a, k=b"c")
    go_on(tid, b, c)
    assert b.raw.get("k", tid) == {"k": b"c"}
    commit(tid, b)
    see(cluster, {"a": b"2", "b": b"1", "k": b"c"})


@pytest.mark.parametrize("last", [0, 1, 2])
def test_branches_come_together(cluster: Cluster, last: int) -> None:
    source, left, right = cluster
    tid = begin(source, source=b"1")
    go_on(tid, left, source, left=b"1")
    go_on(tid, right, source, right=b"1")
    assert left.raw.get("right", tid) == {"right": None}, "parallel branches do not see each other"
    end = cluster[last]
    go_on(tid, end, *(node for node in (left, right) if node is not end))
    wanted = {"source": b"1", "left": b"1", "right": b"1", "end": b"1"}
    end.raw.put({"end": b"1"}, tid)
    # The left one has read that `right` is missing. What it writes itself it sees nevertheless.
    assert end.raw.get(list(wanted), tid) == wanted
    commit(tid, end)
    see(cluster, dict(wanted))


def test_of_two_values_the_deeper_one_counts_then_the_greater_node(cluster: Cluster) -> None:
    a, b, c = cluster
    tid = begin(a, deep=b"a")
    go_on(tid, b, a, same=b"b")
    go_on(tid, c, a, same=b"c")
    commit(tid, a, b, c)
    see(cluster, {"same": b"c", "deep": b"a"})
    tid = begin(c)
    go_on(tid, b, c, deepest=b"b, after c")
    go_on(tid, a, b, deepest=b"a, after b and c")
    commit(tid, b, a)
    see(cluster, {"deepest": b"a, after b and c"})


def test_what_was_read_elsewhere_binds(cluster_of: Callable[..., Cluster]) -> None:
    """The second node has heard of nothing, and yet shows no half of what the first one saw."""
    a, b = cluster_of(2, "--gossip-interval", "60000")
    a.raw.write({"k": b"1", "l": b"1"})
    tid = begin(a)
    assert a.raw.get("k", tid) == {"k": b"1"}
    go_on(tid, b, a)
    assert b.raw.get(["l", "k"], tid) == {"l": b"1", "k": b"1"}
    commit(tid, b)


def test_what_was_missing_elsewhere_binds(cluster: Cluster) -> None:
    a, b, _ = cluster
    tid = begin(a)
    assert a.raw.get("k", tid) == {"k": None}
    b.raw.write({"k": b"1", "l": b"1"})
    go_on(tid, b, a)
    assert b.raw.get("l", tid) == {"l": None}, "or half of a transaction would be seen"
    commit(tid, b)


def fracture(cluster: Cluster) -> str:
    """Two branches that each have read another half of a transaction."""
    a, b, c = cluster
    a.raw.write({"k": b"1", "l": b"1"})
    for node in (b, c):
        until(lambda node=node: node.raw.get("k") == {"k": b"1"})  # type: ignore[misc]
    tid = begin(a)
    go_on(tid, b, a)
    assert b.raw.get("k", tid) == {"k": b"1"}
    c.raw.write({"k": b"2", "l": b"2"})
    go_on(tid, c, a)
    assert c.raw.get("l", tid) == {"l": b"2"}
    return tid


def test_branches_that_do_not_fit_are_aborted(cluster: Cluster) -> None:
    a, b, c = cluster
    tid = fracture(cluster)
    why = a.raw.go_on(tid, b.name, c.name)
    assert "fraction" in why
    assert "start it again" in why
    for node in cluster:
        aborts(tid, node)
    cluster.wait_until_idle()


def test_branches_that_do_not_fit_are_not_committed(cluster: Cluster) -> None:
    a, b, c = cluster
    tid = fracture(cluster)
    assert "fraction" in aborts(tid, a, b, c)
    cluster.wait_until_idle()


def test_a_late_put_aborts(cluster: Cluster) -> None:
    a, b, _ = cluster
    tid = begin(a, a=b"1")
    go_on(tid, b, a, b=b"1")
    a.raw.put({"late": b"1"}, tid)
    assert a.name in aborts(tid, b)
    see(cluster, {"a": None, "b": None, "late": None})
    cluster.wait_until_idle()


def test_a_late_put_counts_if_its_node_is_named_or_merged(cluster: Cluster) -> None:
    a, b, _ = cluster
    for by_name in (True, False):
        late = f"late, {by_name}"
        tid = begin(a, a=b"1")
        go_on(tid, b, a, b=b"1")
        a.raw.put({late: b"1"}, tid)
        if by_name:
            commit(tid, b, a)
        else:
            go_on(tid, b, a)
            commit(tid, b)
        see(cluster, {late: b"1"})


def test_where_it_was_never_continued_it_is_refused(cluster: Cluster) -> None:
    a, b, _ = cluster
    tid = begin(a, a=b"1")
    with pytest.raises(Failed):
        b.raw.get("a", tid)
    assert b.raw.put_response({"b": b"1"}, tid).tuples[0].error
    commit(tid, a)
    see(cluster, {"a": b"1", "b": None})


def test_a_commit_is_passed_on_to_where_it_went(cluster: Cluster) -> None:
    a, b, c = cluster
    tid = begin(a, a=b"1")
    go_on(tid, b, a, b=b"1")
    go_on(tid, c, b, c=b"1")
    commit(tid, a)
    see(cluster, {"a": b"1", "b": b"1", "c": b"1"})


@pytest.mark.parametrize("where", [0, 1, 2])
def test_an_abort_anywhere_reaches_all(cluster: Cluster, where: int) -> None:
    a, b, c = cluster
    tid = begin(a, a=b"1")
    go_on(tid, b, a, b=b"1")
    go_on(tid, c, b, c=b"1")
    assert cluster[where].raw.abort(tid).status == ABORTED
    cluster.wait_until_idle()
    for node in cluster:
        with pytest.raises(Failed):
            node.raw.get("a", tid)
        aborts(tid, node)
    see(cluster, {"a": None, "b": None, "c": None})


def test_sinks_are_named(cluster: Cluster) -> None:
    a, b, c = cluster
    tid = begin(a, a=b"1")
    go_on(tid, b, a, b=b"1")
    go_on(tid, c, a, c=b"1")
    commit(tid, c, b)
    see(cluster, {"a": b"1", "b": b"1", "c": b"1"})
    cluster.wait_until_idle()


def test_naming_what_never_took_part(cluster: Cluster) -> None:
    """Schedules name nodes where nothing happened; such a commit is decided, one way or the other."""
    a, b, c = cluster
    tid = begin(a, a=b"1")
    ended = a.raw.commit(tid, b.name)
    assert ended.status != RUNNING
    assert c.raw.commit(tid).status == ended.status


def test_a_retry_on_another_node_shuts_out_the_first(cluster: Cluster) -> None:
    a, b, c = cluster
    first = a.raw.start("order-17").id
    a.raw.put({"k": b"first"}, first)
    go_on(first, b, a, b=b"first")
    second = c.raw.start("order-17").id
    c.raw.put({"k": b"second"}, second)
    commit(second, c)
    assert b.raw.commit(first).status == COMMITTED, "of the id, which took effect"
    see(cluster, {"k": b"second", "b": None})


def test_reads_over_nodes_commit_and_leave_nothing(cluster: Cluster) -> None:
    a, b, _ = cluster
    tid = begin(a)
    assert a.raw.get("k", tid) == {"k": None}
    go_on(tid, b, a)
    assert b.raw.get("k", tid) == {"k": None}
    commit(tid, b)
    cluster.wait_until_idle()


def test_cloudbursts_executors(cluster: Cluster) -> None:
    """What the original's client sends for a schedule of two functions, and all that it reads."""
    a, b, _ = cluster
    started = a.raw.call("start", a.raw.address("start").encode())
    tid = wire.TransactionTag.FromString(started).id
    a.raw.put({"argument": b"1"}, tid)
    onward = wire.MetadataRequest(tid=tid, address=a.name)
    onward.responseAddress = b.raw.address("continue")
    # It takes any text for success, and nothing else.
    assert b.raw.call("continue", onward.SerializeToString()).decode()
    request = anna.KeyRequest(response_address=b.raw.address("get"), request_id="1")
    request.tuples.add(key="argument")
    request.tuples.add(key="TRANSACTION_ID", payload=tid.encode())
    response = anna.KeyResponse.FromString(b.raw.call("get", request.SerializeToString()))
    (item,) = response.tuples
    assert (item.error, item.lattice_type) == (anna.NO_ERROR, anna.LWW)
    assert anna.LWWValue.FromString(item.payload).value == b"1"
    b.raw.put({"result": b"2"}, tid)
    ended = wire.CommitRequest(tid=tid, responseAddress=b.raw.address("commit"))
    # All nodes of the schedule but its own.
    ended.addresses.append(a.name)
    answer = b.raw.call("commit", ended.SerializeToString())
    assert wire.TransactionTag.FromString(answer).status == COMMITTED
    see(cluster, {"argument": b"1", "result": b"2"})


def test_many_at_once(cluster: Cluster) -> None:
    failures: list[BaseException] = []

    def chain(number: int) -> None:
        try:
            chains(number)
        except BaseException as error:
            failures.append(error)

    def chains(number: int) -> None:
        nodes = [cluster[(number + step) % 3] for step in range(3)]
        for round_ in range(5):
            with nodes[0].client.step() as txn:
                txn.put(f"{number}/{round_}/0", b"v")
            for step in (1, 2):
                with nodes[step].client.step(txn.token) as txn:
                    txn.put(f"{number}/{round_}/{step}", b"v")
            with nodes[0].client.join(txn.token) as txn:
                assert None not in txn.get_many(f"{number}/{round_}/{s}" for s in range(3)).values()

    for node in cluster:
        assert node.client
    threads = [threading.Thread(target=chain, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    cluster.wait_until_idle()
    keys = [f"{n}/{r}/{s}" for n in range(8) for r in range(5) for s in range(3)]
    see(cluster, dict.fromkeys(keys, b"v"))


def test_a_dag_of_the_python_client(cluster: Cluster) -> None:
    a, b, c = cluster
    tries = []

    def dag(order: str) -> aft.Token:
        tries.append(order)
        with a.client.step(id=order) as source:
            source.put("stock", b"1")
        if len(tries) == 1:
            a.restart()
        with b.client.step(source.token) as left, c.client.step(source.token) as right:
            left.put("left", left.get("stock") or b"")
            right.put("right", b"1")
        with a.client.join([left.token, right.token]) as last:
            assert (last.get("left"), last.get("right")) == (b"1", b"1")
        return last.token

    result = b.client.run_dag(dag, id="order-17")
    assert (result.replayed, result.attempts, len(tries)) == (False, 2, 2)
    assert result.value
    for node in cluster:
        with node.client.transaction(after=result.value) as reader:
            assert reader.get("left") == b"1"
        again = node.client.run_dag(dag, id="order-17")
        assert (again.replayed, again.id) == (True, "order-17")
