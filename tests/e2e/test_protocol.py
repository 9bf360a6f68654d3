"""What one node promises its executors, over real sockets."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from aft._wire import aft_pb2 as aft
from aft._wire import anna_pb2 as anna

from daemon import Daemon, until
from wire import ABORTED, COMMITTED, KINDS, RUNNING, Calling, Failed, Raw, lww, response, tag, value_of

MIB = 1 << 20

#: How executors speak to the daemon.
Speak: TypeAlias = type[Raw]


@pytest.fixture(params=[Raw, Calling], ids=["addressed", "called"])
def speak(request: pytest.FixtureRequest) -> Speak:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def raw(daemon: Daemon, speak: Speak) -> Iterator[Raw]:
    with speak(daemon.ipc) as client:
        yield client


def test_a_transaction_from_start_to_commit(raw: Raw) -> None:
    begun = raw.start()
    assert begun.status == RUNNING
    assert begun.address == "127.0.0.1"
    assert begun.id
    raw.put({"a": b"1", "b/c": b""}, begun.id)
    assert raw.get(["a", "b/c", "none"], begun.id) == {"a": b"1", "b/c": b"", "none": None}
    assert raw.get(["a", "b/c"]) == {"a": None, "b/c": None}, "nobody else sees it yet"
    done = raw.commit(begun.id)
    assert (done.id, done.status) == (begun.id, COMMITTED)
    assert raw.get(["a", "b/c"]) == {"a": b"1", "b/c": b""}


def test_answers_echo_what_was_asked(raw: Raw) -> None:
    tid = raw.start().id
    request = raw.request("put", None)
    request.tuples.add(
        key="x", lattice_type=anna.LWW, payload=anna.LWWValue(value=b"1").SerializeToString()
    )
    # The transaction's id may stand anywhere among the keys.
    request.tuples.add(key="TRANSACTION_ID", payload=tid.encode())
    request.tuples.add(
        key="y", lattice_type=anna.LWW, payload=anna.LWWValue(value=b"2").SerializeToString()
    )
    answer = response(raw.call("put", request.SerializeToString()))
    assert answer.response_id == request.request_id
    assert answer.type == anna.PUT
    assert [(item.key, item.error) for item in answer.tuples] == [("x", 0), ("y", 0)]
    answer = raw.get_response(["y", "x", "y"], tid)
    assert answer.type == anna.GET
    assert [item.key for item in answer.tuples] == ["y", "x", "y"]
    assert [value_of(item) for item in answer.tuples] == [b"2", b"1", b"2"]


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("kind", ["put", "get"])
def test_the_transactions_id_may_stand_anywhere(raw: Raw, kind: str, position: int) -> None:
    tid = raw.start().id
    raw.put({"x": b"1", "y": b"2"}, tid)
    tuples = [
        anna.KeyTuple(key="x", lattice_type=anna.LWW, payload=lww(b"1")),
        anna.KeyTuple(key="y", lattice_type=anna.LWW, payload=lww(b"2")),
    ]
    tuples.insert(position, anna.KeyTuple(key="TRANSACTION_ID", payload=tid.encode()))
    request = anna.KeyRequest(tuples=tuples, response_address=raw.address(kind), request_id="r")
    answer = response(raw.call(kind, request.SerializeToString()))
    assert [(item.key, item.error) for item in answer.tuples] == [("x", 0), ("y", 0)]
    assert raw.get(["x", "y"]) == {"x": None, "y": None}, "it was taken into the transaction"
    assert raw.get("TRANSACTION_ID") == {}, "it is no key of anybody's"


def test_a_kind_in_the_message_does_not_matter(raw: Raw) -> None:
    """The socket says what is asked for."""
    request = raw.request("get", None)
    request.type = anna.PUT
    request.tuples.add(key="k")
    answer = response(raw.call("get", request.SerializeToString()))
    assert (answer.type, answer.tuples[0].error) == (anna.GET, anna.KEY_DNE)


@pytest.mark.parametrize(
    "value",
    [lww(b"inner"), lww(b""), aft.KeyValuePair(key="k", value=b"inner", tid="t").SerializeToString()],
    ids=["an LWWValue", "an empty LWWValue", "a KeyValuePair"],
)
def test_values_are_wrapped_once_whatever_they_look_like(raw: Raw, value: bytes) -> None:
    tid = raw.start().id
    raw.put({"k": value}, tid)
    assert raw.payloads(["k"], tid)["k"].value == value, "its own write"
    assert raw.commit(tid).status == COMMITTED
    assert raw.payloads(["k"])["k"].value == value
    assert raw.payloads(["k"], raw.start().id)["k"].value == value


def test_what_was_committed_later_is_newer(raw: Raw) -> None:
    """Whatever timestamps the writers sent, and also between keys, if one was read."""
    newest = 0
    for number in range(20):
        tid = raw.start().id
        raw.get([f"k{number - 1}"], tid)
        request = raw.request("put", tid)
        payload = lww(b"v", timestamp=1 << 62 if number % 2 else 0)
        request.tuples.add(key=f"k{number}", lattice_type=anna.LWW, payload=payload)
        raw.call("put", request.SerializeToString())
        assert raw.commit(tid).status == COMMITTED
        timestamp = raw.payloads([f"k{number}"])[f"k{number}"].timestamp
        assert timestamp > newest
        newest = timestamp


def test_a_get_is_answered_by_exactly_one_message(raw: Raw) -> None:
    raw.put({"k": b"v"})
    raw.get(["k", "missing", "k"])
    assert not raw.has_answer("get", 0.2)


def test_missing_keys_say_so_and_may_appear_later(raw: Raw) -> None:
    tid = raw.start().id
    answer = raw.get_response(["later"], tid)
    assert [(i.lattice_type, i.error) for i in answer.tuples] == [(anna.NONE, anna.KEY_DNE)]
    raw.put({"later": b"now"})
    until(lambda: raw.get("later", tid) == {"later": b"now"})


def test_asking_for_a_missing_key_stays_cheap(start: Callable[..., Daemon], speak: Speak) -> None:
    daemon = start()
    with speak(daemon.ipc) as raw:
        tid = raw.start().id
        raw.get("later", tid)
        before, began = daemon.rss_bytes(), time.monotonic()
        for _ in range(2_000):
            assert raw.get("later", tid) == {"later": None}
        assert time.monotonic() - began < 10
        assert daemon.rss_bytes() - before < 32 * MIB
        raw.put({"later": b"now"})
        until(lambda: raw.get("later", tid) == {"later": b"now"})


def test_reads_are_repeatable_until_written(raw: Raw) -> None:
    raw.put({"k": b"1"})
    tid = raw.start().id
    assert raw.get("k", tid) == {"k": b"1"}
    raw.put({"k": b"2"})
    assert raw.get("k", tid) == {"k": b"1"}
    raw.put({"k": b"mine"}, tid)
    assert raw.get("k", tid) == {"k": b"mine"}


def test_a_newer_half_is_not_shown_next_to_an_older_one(raw: Raw) -> None:
    raw.put({"k": b"1", "l": b"1"})
    tid = raw.start().id
    assert raw.get("k", tid) == {"k": b"1"}
    raw.put({"k": b"2", "l": b"2"})
    assert raw.get("l", tid) == {"l": b"1"}, "k was read before the second write"


def test_an_older_half_is_not_shown_next_to_a_newer_one(raw: Raw) -> None:
    raw.put({"k": b"1", "l": b"1"})
    tid = raw.start().id
    raw.put({"k": b"2", "l": b"2"})
    assert raw.get("k", tid) == {"k": b"2"}
    raw.put({"l": b"3"})
    assert raw.get("l", tid)["l"] in (b"2", b"3")


def test_a_key_seen_missing_excludes_the_commit_that_wrote_it(raw: Raw) -> None:
    raw.put({"k": b"1"})
    tid = raw.start().id
    assert raw.get("l", tid) == {"l": None}
    raw.put({"k": b"2", "l": b"2"})
    assert raw.get("k", tid) == {"k": b"1"}


def test_last_writer_wins_reads_the_newest_of_each_key(
    start: Callable[..., Daemon], speak: Speak
) -> None:
    with speak(start("--storage", "memory", "--consistency", "lww").ipc) as raw:
        raw.put({"k": b"1", "l": b"1"})
        tid = raw.start().id
        assert raw.get("k", tid) == {"k": b"1"}
        raw.put({"k": b"2", "l": b"2"})
        assert raw.get("l", tid) == {"l": b"2"}


def test_a_transaction_belongs_to_its_id_and_not_to_a_socket(
    daemon: Daemon, raw: Raw, speak: Speak
) -> None:
    tid = raw.start().id
    with speak(daemon.ipc) as other:
        other.put({"k": b"v"}, tid)
        assert raw.get("k", tid) == {"k": b"v"}
        assert other.commit(tid).status == COMMITTED
    assert raw.get("k") == {"k": b"v"}


def test_asking_again_gives_the_same_answer(raw: Raw) -> None:
    written, read_only, undone = raw.start().id, raw.start().id, raw.start().id
    raw.put({"k": b"v"}, written)
    raw.put({"k": b"never"}, undone)
    assert raw.abort(undone).status == ABORTED
    for _ in range(3):
        assert raw.commit(written).status == COMMITTED
        assert raw.abort(written).status == COMMITTED
        assert raw.commit(read_only).status == COMMITTED
        assert raw.abort(undone).status == ABORTED
        assert raw.commit(undone).status == ABORTED
    assert raw.get("k") == {"k": b"v"}


def test_asking_again_before_the_first_answer(start: Callable[..., Daemon], speak: Speak) -> None:
    with speak(start().ipc) as raw:
        tid = raw.start().id
        raw.put({"k": b"v"}, tid)
        for _ in range(5):
            raw.send("commit", raw.commit_request(tid))
        answers = [tag(raw.receive("commit")) for _ in range(5)]
        assert [(answer.id, answer.status) for answer in answers] == [(tid, COMMITTED)] * 5


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_nothing_is_read_or_written_after_the_end(raw: Raw, end: str) -> None:
    tid = raw.start().id
    raw.put({"k": b"v"}, tid)
    raw.commit(tid) if end == "commit" else raw.abort(tid)
    with pytest.raises(Failed):
        raw.get("k", tid)
    answer = raw.put_response({"k": b"late"}, tid)
    assert [item.key for item in answer.tuples] == ["k"]
    assert answer.tuples[0].error
    assert answer.detail
    assert raw.get("k") == {"k": b"v" if end == "commit" else None}


def test_an_unknown_id_is_settled_for_good(raw: Raw) -> None:
    unknown = str(uuid.uuid4())
    with pytest.raises(Failed):
        raw.get("k", unknown)
    assert raw.put_response({"k": b"v"}, unknown).tuples[0].error
    assert raw.commit(unknown).status == ABORTED
    again = raw.start(unknown)
    assert again.status == ABORTED
    assert raw.commit(unknown).status == ABORTED
    assert raw.get("k") == {"k": None}


def test_a_retry_gets_an_empty_buffer_and_fences_the_earlier_attempt(raw: Raw) -> None:
    first = raw.start("order-1")
    assert (first.status, first.id.split(".")[0]) == (RUNNING, "order-1")
    raw.put({"k": b"first", "only": b"first"}, first.id)
    second = raw.start("order-1")
    assert second.status == RUNNING
    assert second.id != first.id
    assert raw.get(["k", "only"], second.id) == {"k": None, "only": None}
    assert raw.put_response({"k": b"zombie"}, first.id).tuples[0].error
    with pytest.raises(Failed):
        raw.get("k", first.id)
    assert raw.commit(first.id).status != COMMITTED
    raw.put({"k": b"second"}, second.id)
    assert raw.commit(second.id).status == COMMITTED
    assert raw.get(["k", "only"]) == {"k": b"second", "only": None}
    assert raw.start("order-1").status == COMMITTED, "it is not done twice"


def test_a_race_of_retries_takes_effect_once(start: Callable[..., Daemon], speak: Speak) -> None:
    """As when a platform starts a function again that was only slow."""
    daemon = start()
    rivals = [f"rival{number}" for number in range(4)]
    ends: list[dict[str, int]] = [{} for _ in rivals]

    def deliver(rival: str, seen: dict[str, int]) -> None:
        with speak(daemon.ipc) as raw:
            for number in range(30):
                while (begun := raw.start(f"order-{number}")).status == RUNNING:
                    raw.put_response({f"{number}/{rival}": b"done"}, begun.id)
                    raw.commit(begun.id)
                seen[f"{number}"] = begun.status

    threads = [threading.Thread(target=deliver, args=pair) for pair in zip(rivals, ends, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with speak(daemon.ipc) as raw:
        for number in range(30):
            done = raw.get([f"{number}/{rival}" for rival in rivals])
            (end,) = {seen[f"{number}"] for seen in ends}
            assert sum(value is not None for value in done.values()) == (end == COMMITTED), done


def test_a_late_commit_of_an_earlier_attempt_does_not_stop_the_retry(
    start: Callable[..., Daemon],
) -> None:
    with Raw(start().ipc) as raw:
        for number in range(100):
            first = raw.start(f"order-{number}").id
            raw.put({f"k{number}": b"first"}, first)
            raw.send("start", raw.start_request(f"order-{number}"))
            raw.send("commit", raw.commit_request(first))
            second, late = tag(raw.receive("start")), tag(raw.receive("commit"))
            assert second.status == (COMMITTED if late.status == COMMITTED else RUNNING)
            if second.status == RUNNING:
                raw.put({f"k{number}": b"second"}, second.id)
                assert raw.commit(second.id).status == COMMITTED


def test_a_retry_of_an_id_the_node_made(raw: Raw) -> None:
    first = raw.start().id
    raw.put({"k": b"lost"}, first)
    second = raw.start(first).id
    assert second != first
    raw.put({"k": b"kept"}, second)
    assert raw.commit(second).status == COMMITTED
    assert raw.start(first).status == COMMITTED
    assert raw.get("k") == {"k": b"kept"}


def test_an_aborted_attempt_may_be_tried_again(raw: Raw) -> None:
    first = raw.start("order-2").id
    assert raw.abort(first).status == ABORTED
    second = raw.start("order-2")
    assert second.status == RUNNING
    raw.put({"k": b"v"}, second.id)
    assert raw.commit(second.id).status == COMMITTED


def test_an_id_older_than_the_retry_window_is_refused(raw: Raw) -> None:
    old = uuid.UUID("01890000-0000-7000-8000-000000000000")
    answer = raw.start(str(old))
    assert (answer.id, answer.error) == ("", anna.INVALID)


def test_an_idle_transaction_is_forgotten(start: Callable[..., Daemon], speak: Speak) -> None:
    daemon = start("--storage", "memory", "--txn-timeout", "0.3")
    with speak(daemon.ipc) as raw:
        tid = raw.start().id
        raw.put({"k": b"v"}, tid)
        until(lambda: daemon.status()["node"]["transactions"] == 0)
        with pytest.raises(Failed) as gone:
            raw.get("k", tid)
        assert gone.value.error == anna.RETRY
        assert raw.commit(tid).status == ABORTED
        assert raw.get("k") == {"k": None}


def test_a_transaction_in_use_is_not_idle(start: Callable[..., Daemon], speak: Speak) -> None:
    with speak(start("--storage", "memory", "--txn-timeout", "1").ipc) as raw:
        tid, began = raw.start().id, time.monotonic()
        raw.put({"k": b"v"}, tid)
        while time.monotonic() < began + 2.5:
            assert raw.get(["k", "none"], tid) == {"k": b"v", "none": None}
        assert raw.commit(tid).status == COMMITTED


def test_a_transaction_lives_only_so_long(start: Callable[..., Daemon], speak: Speak) -> None:
    limits = ["--txn-timeout", "0.4", "--txn-lifetime", "0.5", "--retry-window", "10"]
    daemon = start("--storage", "memory", *limits)
    with speak(daemon.ipc) as raw:
        tid = raw.start().id

        def is_over() -> bool:
            return raw.put_response({"k": b"v"}, tid).tuples[0].error == anna.RETRY

        until(is_over)
        assert raw.commit(tid).status == ABORTED
        assert raw.get("k") == {"k": None}


def test_requests_without_a_transaction_are_one_each(daemon: Daemon, raw: Raw) -> None:
    raw.put({"a": b"1", "b": b"1"})
    assert raw.get(["a", "b"]) == {"a": b"1", "b": b"1"}
    assert raw.payloads(["a"])["a"].timestamp == raw.payloads(["b"])["b"].timestamp
    assert daemon.status()["node"]["transactions"] == 0, "nothing is left of them"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_answer_goes_to_the_address_in_the_request(
    raw: Raw, kind: str, speak: Speak
) -> None:
    """Not to where the last one of its kind went."""
    with speak(raw.directory) as other:
        tid = other.start().id
        for client in (raw, other, raw):
            if kind == "start":
                assert client.start().id
            elif kind == "get":
                client.get("k", tid)
            elif kind == "put":
                client.put({"k": b"v"}, tid)
            elif kind == "continue":
                client.go_on(tid, "127.0.0.1")
            elif kind == "commit":
                assert client.commit(tid).status == COMMITTED
            else:
                assert client.abort(tid).status == ABORTED


def test_many_keys_at_once(raw: Raw) -> None:
    keys = [f"k{number}" for number in range(20_000)]
    raw.put(dict.fromkeys(keys, b"v"))
    began = time.monotonic()
    assert raw.get(keys) == dict.fromkeys(keys, b"v")
    assert time.monotonic() - began < 5, "what a get may take"
    answer = raw.get_response(keys * 4)
    assert answer.error == anna.INVALID
    assert "65536" in answer.detail


def test_values_of_any_size(raw: Raw) -> None:
    sizes = [0, 1, 4096, 100_000, 64 * MIB]
    tid = raw.start().id
    for size in sizes:
        value = bytes(size)
        raw.put({f"k{size}": value}, tid)
        assert raw.get(f"k{size}", tid) == {f"k{size}": value}
    assert raw.commit(tid).status == COMMITTED
    for size in sizes:
        assert raw.get(f"k{size}") == {f"k{size}": bytes(size)}


def test_a_value_over_the_limit_is_refused_alone(raw: Raw) -> None:
    tid = raw.start().id
    answer = raw.put_response({"large": bytes(64 * MIB + 1), "small": b"s"}, tid)
    assert [(item.key, item.error) for item in answer.tuples] == [("large", anna.INVALID), ("small", 0)]
    assert "67108864" in answer.detail
    assert raw.commit(tid).status == COMMITTED
    assert raw.get(["large", "small"]) == {"large": None, "small": b"s"}


def test_keys_are_any_text(raw: Raw) -> None:
    keys = ["a/b/c", "ключ", "with space", "new\nline", "~", "x" * 10_000, "data/a/1/t"]
    raw.put({key: key.encode() for key in keys})
    assert raw.get(keys) == {key: key.encode() for key in keys}


def test_continue_from_this_node_and_from_nowhere(raw: Raw) -> None:
    tid = raw.start().id
    assert raw.go_on("unknown", "127.0.0.1"), "an answer that says why not"
    assert raw.go_on(tid, "127.0.0.1") == ""
    assert "10.9.8.7" in raw.go_on(tid, "10.9.8.7")
    raw.put({"k": b"v"}, tid)
    assert raw.commit(tid).status == COMMITTED
