"""What the bridge costs: against a raw ZeroMQ echo, a one-at-a-time JSON client, and the store alone.

Each pair is measured in turn, several times; a figure is the median of the ratios. The server is the real
process. `ratios()` returns all of them; `python -m benchmarks.data_plane.wire` prints them.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.frames import zmq
from agentfactory.bridge.server.settings import ServerSettings
from agentfactory.bridge.store.base import Store
from agentfactory.configs.data import BridgeSettings, StoreSettings
from agentfactory.messages.data import BlobMeta
from benchmarks.figures import Figures, median

ROUNDS = 5
ASKERS = 64
SMALL = b"x" * 1024
LARGE_BYTES = 16 << 20
LARGE_BLOBS = 4
STEP = 1 << 20

Measure = Callable[[int], Awaitable[None]]


class Ratio(NamedTuple):
    """A figure and its target."""

    name: str
    value: float
    target: float
    ours: float
    theirs: float
    unit: str


async def rate(measure: Measure, count: int) -> float:
    """Units a second."""
    begin = time.perf_counter()
    await measure(count)
    return count / (time.perf_counter() - begin)


async def compare(
    name: str, unit: str, target: float, sides: tuple[Measure, Measure], counts: tuple[int, int]
) -> Ratio:
    """The median ratio over interleaved rounds."""
    ours, theirs = sides
    await ours(max(1, counts[0] // 5))
    await theirs(max(1, counts[1] // 5))
    pairs = [(await rate(ours, counts[0]), await rate(theirs, counts[1])) for _ in range(ROUNDS)]
    print(f"# {name}: " + " ".join(f"{a:.4g}/{b:.4g}" for a, b in pairs), flush=True)
    value = median(a / b for a, b in pairs)
    return Ratio(name, value, target, median(a for a, _ in pairs), median(b for _, b in pairs), unit)


async def from_askers(count: int, ask: Callable[[int], Awaitable[object]]) -> None:
    """`count` requests from 64 askers, each of which waits for its answer before it asks again."""

    async def asker(first: int) -> None:
        for number in range(first, count, ASKERS):
            await ask(number)

    async with asyncio.TaskGroup() as group:
        for first in range(ASKERS):
            group.create_task(asker(first))


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[str]:
    """A process that says where it listens."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        try:
            assert running.stdout is not None
            yield json.loads(running.stdout.readline())["endpoint"]
        finally:
            running.terminate()
            running.wait(20)


async def echo() -> None:
    """The raw server: `zmq.asyncio`, as a careful user would write it."""
    socket = zmq.asyncio.Context().socket(zmq.ROUTER)
    socket.bind("tcp://127.0.0.1:*")
    print(json.dumps({"endpoint": socket.get_string(zmq.LAST_ENDPOINT)}), flush=True)
    while True:
        await socket.send_multipart(await socket.recv_multipart())


@contextlib.asynccontextmanager
async def raw_client(endpoint: str) -> AsyncIterator[Measure]:
    """The raw client: one DEALER, one reader, a future for each request."""
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        waiting: dict[bytes, asyncio.Future[bytes]] = {}

        async def read() -> None:
            while True:
                number, body = await socket.recv_multipart()
                waiting.pop(number).set_result(body)

        async def ask(number: int) -> None:
            key = number.to_bytes(8, "big")
            answer = waiting[key] = asyncio.get_running_loop().create_future()
            await socket.send_multipart([key, SMALL])
            await answer

        reader = asyncio.create_task(read())
        yield lambda count: from_askers(count, ask)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


@contextlib.contextmanager
def json_client(endpoint: str, method: str, **params: str) -> Iterator[Measure]:
    """The synchronous client: REQ, JSON, one request in flight."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        request = {"method": method, "params": params, "id": 1}

        async def measure(count: int) -> None:
            for _ in range(count):
                socket.send(json.dumps(request).encode())
                assert json.loads(socket.recv())["result"]

        yield measure


def store_puts(store: Store, data: bytes) -> Measure:
    """The store alone: a blob in pieces."""

    async def measure(blobs: int) -> None:
        for number in range(blobs):
            writer = store.put("direct", f"large-{number}", BlobMeta())
            for begin in range(0, len(data), STEP):
                writer.write(memoryview(data)[begin : begin + STEP])
            writer.commit()

    return measure


def store_gets(store: Store) -> Measure:
    """The store alone: a blob in pieces."""

    async def measure(blobs: int) -> None:
        for number in range(blobs):
            reader = store.open("direct", f"large-{number}")
            for begin in range(0, reader.info.size, STEP):
                reader.read(begin, STEP)
            reader.close()

    return measure


async def small_ratios(bridge: BridgeSettings) -> AsyncIterator[Ratio]:
    """Round trips of 1 KB."""
    async with BridgeClient(bridge) as client:
        await client.put("bench", "small", SMALL)

        async def ping(_: int) -> None:
            await client.ping(SMALL)

        async def get(_: int) -> None:
            await client.get("bench", "small")

        async def put(number: int) -> None:
            await client.put("bench", f"small-{number % 256}", SMALL)

        def pipelined(ask: Callable[[int], Awaitable[object]]) -> Measure:
            return lambda count: from_askers(count, ask)

        with process("benchmarks.data_plane.wire", "echo") as endpoint:
            async with raw_client(endpoint) as raw:
                for name, ask, target in (("ping", ping, 0.6), ("get", get, 0.0), ("put", put, 0.0)):
                    sides = (pipelined(ask), raw)
                    yield await compare(f"bridge_{name}_vs_echo", "1/s", target, sides, (6_000, 6_000))
        with json_client(bridge.endpoints[0], "ping", text=SMALL.decode()) as serial:
            sides = (pipelined(ping), serial)
            yield await compare("bridge_ping_vs_req_json", "1/s", 8.0, sides, (12_000, 2_000))
        with json_client(bridge.endpoints[0], "context_retrieve", tag="bench", blob_name="small") as serial:
            sides = (pipelined(get), serial)
            yield await compare("bridge_get_vs_req_json", "1/s", 0.0, sides, (6_000, 1_000))


async def large_ratios(bridge: BridgeSettings, store: Store) -> AsyncIterator[Ratio]:
    """Blobs of 16 MiB."""
    data = os.urandom(LARGE_BYTES)
    async with BridgeClient(bridge) as client:

        async def puts(blobs: int) -> None:
            for number in range(blobs):
                await client.put("bench", f"large-{number}", data)

        async def gets(blobs: int) -> None:
            for number in range(blobs):
                await client.get("bench", f"large-{number}")

        async def streams(blobs: int) -> None:
            for number in range(blobs):
                async with client.stream("bench", f"large-{number}") as blob:
                    async for _ in blob:
                        pass

        counts = (LARGE_BLOBS, LARGE_BLOBS)
        yield await compare(
            "bridge_put_16mib_vs_store", "blobs/s", 0.7, (puts, store_puts(store, data)), counts
        )
        yield await compare("bridge_get_16mib_vs_store", "blobs/s", 0.7, (gets, store_gets(store)), counts)
        yield await compare(
            "bridge_stream_16mib_vs_store", "blobs/s", 0.0, (streams, store_gets(store)), counts
        )


async def ratios(server: Sequence[str], settings: ServerSettings, store: Store) -> list[Ratio]:
    """All figures. `server` is the module that serves, with what comes before its settings (JSON)."""
    with process(*server, settings.model_dump_json()) as endpoint:
        bridge = settings.bridge.model_copy(update={"endpoints": (endpoint,)})
        found = [ratio async for ratio in small_ratios(bridge)]
        return found + [ratio async for ratio in large_ratios(bridge, store)]


def main() -> int:
    """Measure with the store in memory that the tests use."""
    if sys.argv[1:] == ["echo"]:
        asyncio.run(echo())
        return 0
    from tests.bridge.fake_store import FakeStore

    figures = Figures()
    settings = ServerSettings(endpoint="tcp://127.0.0.1:*", store=StoreSettings(kind="embedded"))
    for ratio in asyncio.run(ratios(["tests.bridge.fake_store"], settings, FakeStore())):
        figures.add(ratio.name, ratio.value, "x", ">=", ratio.target)
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
