"""The asyncio twin: the same promises, without blocking the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

import aft
import aft.aio
from aft._requests import Kind
from aft.aio._pool import CONVERSATIONS_MAX
from aft.testing import FakeAft, Fault
from tests.responder import Responder, until

T = TypeVar("T")


def go(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


def nothing(address: str, reply: bytes) -> list[tuple[str, bytes]]:
    return []


async def add_one(txn: aft.aio.AsyncTransaction) -> int:
    count = int(await txn.get("count") or b"0") + 1
    await txn.put("count", b"%d" % count)
    return count


def test_a_transaction(ipc_dir: Path, responder: Responder) -> None:
    async def work() -> None:
        async with aft.aio.AsyncClient(ipc_dir) as client:
            async with client.transaction() as txn:
                await txn.put("a", b"1")
                assert await txn.get_many(["a", "b"]) == {"a": b"1", "b": None}
                assert await client.get("a") is None
            assert await client.get("a") == b"1"
            await client.put("b", b"2")
            assert await client.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}
            assert await client.resolve(txn.id) is aft.Outcome.COMMITTED

    go(work())
    assert list(ipc_dir.glob("reply_*")) == []


def test_what_is_under_way_at_the_end_is_answered_and_disturbs_nobody(
    ipc_dir: Path, responder: Responder
) -> None:
    async def work() -> None:
        client, other = aft.aio.AsyncClient(ipc_dir), aft.aio.AsyncClient(ipc_dir)
        await other.put("a", b"1")
        responder.next(Kind.GET, responder.hold)
        under_way = asyncio.create_task(client.get("a"))
        await asyncio.to_thread(until, lambda: responder.held)
        await client.aclose()
        assert await asyncio.gather(*(other.get("a") for _ in range(10))) == [b"1"] * 10
        responder.release()
        assert await under_way == b"1"
        with pytest.raises(aft.InvalidRequest, match="closed"):
            await client.get("a")
        await other.aclose()

    go(work())
    assert list(ipc_dir.glob("reply_*")) == []


def test_a_client_is_made_without_a_loop_and_serves_one_after_the_other(
    ipc_dir: Path, responder: Responder
) -> None:
    async def many() -> None:
        await asyncio.gather(*(client.get("a") for _ in range(CONVERSATIONS_MAX * 2)))

    client = aft.aio.AsyncClient(ipc_dir)
    assert go(client.run(add_one)).value == 1
    go(many())
    assert go(client.run(add_one)).value == 2
    go(many())
    go(client.aclose())
    with pytest.raises(aft.InvalidRequest, match="closed"):
        go(client.get("a"))


def test_a_forked_process_uses_sockets_of_its_own(ipc_dir: Path, responder: Responder) -> None:
    client = aft.aio.AsyncClient(ipc_dir)
    go(client.put("a", b"parent"))
    before = set(ipc_dir.glob("reply_*"))
    child = os.fork()
    if child == 0:
        try:
            seen = go(client.get("a"))
            client._driver.exchange.close()
            os._exit(0 if seen == b"parent" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert set(ipc_dir.glob("reply_*")) == before
    assert go(client.get("a")) == b"parent"
    go(client.aclose())


def test_more_tasks_than_sockets(ipc_dir: Path, responder: Responder) -> None:
    async def work() -> None:
        async with aft.aio.AsyncClient(ipc_dir) as client:
            tasks = CONVERSATIONS_MAX * 3
            await asyncio.gather(*(client.put(f"k{n}", b"%d" % n) for n in range(tasks)))
            values = await asyncio.gather(*(client.get(f"k{n}") for n in range(tasks)))
            assert values == [b"%d" % n for n in range(tasks)]
            sockets.append(len(os.listdir(ipc_dir)))

    sockets: list[int] = []
    go(work())
    assert sockets[0] - len(Kind) <= CONVERSATIONS_MAX


def test_the_loop_is_free_while_an_answer_is_awaited(ipc_dir: Path, responder: Responder) -> None:
    async def work() -> None:
        async with aft.aio.AsyncClient(ipc_dir) as client:
            await client.get("warm")
            responder.next(Kind.GET, responder.hold)
            slow = asyncio.create_task(client.get("slow"))
            while not responder.held:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert await client.get("other") is None
            assert not slow.done()
            responder.release()
            assert await slow is None

    go(work())


def test_a_late_answer_reaches_nobody(ipc_dir: Path, responder: Responder) -> None:
    async def work() -> None:
        responder.node.versions.commit({"a": b"right", "b": b"wrong"})
        async with aft.aio.AsyncClient(ipc_dir, deadline=0.05) as client:
            responder.next(Kind.GET, responder.hold)
            with pytest.raises(aft.SidecarUnavailable, match="did not answer"):
                await client.get("b")
            responder.release()
            assert await client.get("a") == b"right"
            responder.next(Kind.START, responder.hold)
            with pytest.raises(aft.SidecarUnavailable, match="did not answer"):
                await client.transaction().__aenter__()
            (late,) = responder.node.running
            responder.release()
            async with client.transaction() as txn:
                assert txn.attempt != late

    go(work())


def test_a_cancelled_task_aborts_and_its_answer_reaches_nobody(
    ipc_dir: Path, responder: Responder
) -> None:
    async def work() -> None:
        async with aft.aio.AsyncClient(ipc_dir) as client:

            async def body(txn: aft.aio.AsyncTransaction) -> None:
                await txn.put("a", b"1")
                await txn.get("b")

            responder.next(Kind.GET, responder.hold)
            task = asyncio.create_task(client.run(body))
            while not responder.held:  # noqa: ASYNC110
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert responder.node.running == {}
            responder.release()
            assert await client.get("a") is None

    go(work())


def test_no_sidecar(ipc_dir: Path) -> None:
    async def work() -> None:
        async with aft.aio.AsyncClient(ipc_dir) as client:
            with pytest.raises(aft.SidecarUnavailable, match="start does not exist"):
                async with client.transaction():
                    pytest.fail("the block must not run")

    go(work())


def test_a_sidecar_that_comes_back_is_found(ipc_dir: Path) -> None:
    async def work() -> None:
        async with aft.aio.AsyncClient(ipc_dir) as client:
            first = Responder(ipc_dir)
            await client.put("a", b"1")
            first.close()
            with pytest.raises(aft.SidecarUnavailable):
                await client.put("a", b"2")
            second = Responder(ipc_dir)
            try:
                assert (await client.run(add_one, retries=1000)).value == 1
            finally:
                second.close()

    go(work())


@pytest.mark.parametrize("fault", [Fault.ABORT, Fault.STORE_DOWN, Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
@pytest.mark.parametrize("kind", ["start", "get", "put", "commit"])
def test_any_single_fault_is_cured(kind: str, fault: Fault) -> None:
    fake = FakeAft({"count": b"5"})
    fake.fail_next(kind, fault)
    assert go(fake.async_client().run(add_one)).value == 6
    assert fake.values == {"count": b"6"}


def test_an_exception_aborts_and_passes() -> None:
    async def work(fake: FakeAft) -> None:
        async with fake.async_client().transaction() as txn:
            await txn.put("a", b"1")
            raise KeyError("mine")

    fake = FakeAft()
    with pytest.raises(KeyError, match="mine"):
        go(work(fake))
    assert fake.running == []
    assert fake.values == {}


def test_a_dag_is_run_again_as_a_whole() -> None:
    fake = FakeAft(nodes=2)
    fake.fail_next("continue", Fault.ABORT)

    async def dag(id: str) -> aft.Token:  # noqa: A002
        async with fake.async_client().step(id=id) as first:
            await first.put("a", b"1")
        async with fake.async_client(1).join(first.token) as last:
            await last.put("b", await last.get("a") or b"")
        return last.token

    async def work() -> None:
        result = await fake.async_client().run_dag(dag, id="order-17")
        assert (result.id, result.attempts) == ("order-17", 2)
        assert result.value is not None
        await fake.async_client().run(lambda txn: txn.get("a"), after=result.value)
        assert (await fake.async_client().run_dag(dag, id="order-17")).replayed

    go(work())
    assert fake.values == {"a": b"1", "b": b"1"}


def test_ending_joining_and_handing_on() -> None:
    async def work(fake: FakeAft) -> None:
        client = fake.async_client()
        async with client.step() as first:
            await first.put("a", b"1")
        async with client.join(first.token) as second:
            assert (second.id, second.attempt, second.node) == (first.id, first.attempt, first.node)
            session = await second.commit()
        async with client.transaction(after=session) as reader:
            assert await reader.get("a") == b"1"
        async with client.transaction() as third:
            await third.put("b", b"1")
            await third.abort()

    fake = FakeAft()
    go(work(fake))
    assert fake.values == {"a": b"1"}


def test_decorated_functions() -> None:
    fake = FakeAft()

    @aft.aio.transactional(client=fake.async_client)
    async def greet(txn: aft.aio.AsyncTransaction, name: str) -> str:
        await txn.put("greeting", name.encode())
        return name

    assert go(greet("you")) == "you"
    assert go(greet.once("g-1", "me")).value == "me"
    assert go(greet.once("g-1", "me")).replayed
    assert fake.values == {"greeting": b"me"}
