"""Many transactions at once in one event loop.

Run a sidecar first:   aft sidecar --ipc-dir /tmp/aft --storage memory
Then:                  AFT_IPC_DIR=/tmp/aft python examples/async_.py
"""

import asyncio

import aft.aio


async def register(client: aft.aio.AsyncClient, number: int) -> str:
    async def work(txn: aft.aio.AsyncTransaction) -> str:
        await txn.put_many({f"sensor/{number}": b"on", f"sensor/{number}/room": b"kitchen"})
        return f"sensor/{number}"

    return (await client.run(work)).value or ""


async def main() -> None:
    async with aft.aio.AsyncClient() as client:
        names = await asyncio.gather(*(register(client, number) for number in range(100)))
        values = await client.get_many(names)
        print(sum(value == b"on" for value in values.values()), "sensors are on")


if __name__ == "__main__":
    asyncio.run(main())
