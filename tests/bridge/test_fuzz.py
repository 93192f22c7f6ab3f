"""Random and mutated frames against the real server process, while a normal client works."""

import asyncio
import json
import os
import random

from agentfactory.bridge import wire
from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.frames import MessageKind, pack_message, zmq
from agentfactory.messages.base import Message
from tests.bridge.bridge_process import SMALL, Process, process

FRAMES = 50_000
SEED = 20_240_607
SOCKETS = 4
BURST = 2500
GROWTH_MB = 48
"""Of the server's memory over the second half: buffers are reused, so it should be next to nothing."""

WORDS: list[tuple[MessageKind, Message | None, bytes]] = [
    (MessageKind.HELLO, wire.HelloRequest(client="fuzz"), b""),
    (MessageKind.PING, None, b"body"),
    (MessageKind.PUT, wire.PutRequest(tag="fuzz", name="a", put_id="p"), b"value" * 100),
    (MessageKind.PUT_OPEN, wire.PutRequest(tag="fuzz", name="b", put_id="q", size=100_000), b""),
    (MessageKind.GET, wire.GetRequest(tag="docs", name="large", credit=3), b""),
    (MessageKind.STAT, wire.StatRequest(tag="fuzz", name="a"), b""),
    (MessageKind.LIST, wire.ListRequest(tag_pattern="f*"), b""),
    (MessageKind.DELETE, wire.DeleteRequest(tag="fuzz", names=("a",)), b""),
    (MessageKind.DESTROY, wire.DestroyRequest(tags=("fuzz",)), b""),
    (MessageKind.STATISTICS, None, b""),
    (MessageKind.CACHE, wire.CacheRequest(word="get", keys=("k",)), b""),
    (MessageKind.CHUNK, None, b"chunk" * 1000),
    (MessageKind.PING, None, b"large" * 5000),
    (MessageKind.END, None, b""),
    (MessageKind.CREDIT, wire.ChunkCredit(chunks=2), b""),
    (MessageKind.ABORT, None, b""),
    (MessageKind.KEEPALIVE, wire.KeepAlive(streams=(1, 2, 3)), b""),
    (MessageKind.REPLY, None, b""),
]
METHODS = ("ping", "context_bundle", "context_query", "context_retrieve", "context_destroy", "nope")


def ours(chance: random.Random) -> list[bytes]:
    """A message of our dialect; often one that fits the ones before it."""
    kind, words, body = chance.choice(WORDS)
    packed = pack_message(kind, chance.randrange(1, 6), words, body)
    return [bytes(frame) for frame in packed]


def plain(chance: random.Random) -> list[bytes]:
    values = ("fuzz", "*", ["a", "b"], 7, None, {}, "string::x", "file::/etc/passwd")
    keys = ("src", "dst", "format", "tag_pattern", "tag", "blob_name", "tags")
    params = {key: chance.choice(values) for key in chance.sample(keys, 4)}
    request = {"method": chance.choice(METHODS), "params": params, "id": chance.choice(values)}
    return [json.dumps(request).encode()]


def noise(chance: random.Random) -> list[bytes]:
    return [
        chance.randbytes(chance.choice((0, 1, 4, 27, 28, 29, 300))) for _ in range(chance.randrange(1, 4))
    ]


def mutated(chance: random.Random, frames: list[bytes]) -> list[bytes]:
    """Bytes changed, cut or repeated; frames added, dropped or exchanged."""
    number = chance.randrange(len(frames))
    frame = bytearray(frames[number])
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(frame)) if frame else 0
        match chance.randrange(5):
            case 0 if frame:
                frame[at] = chance.randrange(256)
            case 1:
                del frame[at : at + chance.randrange(8)]
            case 2:
                frame[at:at] = chance.randbytes(chance.randrange(8))
            case 3:
                frame[at:at] = frame[:at]
            case 4:
                frames = [*frames, chance.randbytes(9)] if chance.random() < 0.5 else [b"", *frames]
                return frames
    return [*frames[:number], bytes(frame), *frames[number + 1 :]]


def message(chance: random.Random) -> list[bytes]:
    share = chance.random()
    if share < 0.15:
        return noise(chance)
    frames = ours(chance) if share < 0.8 else plain(chance)
    return mutated(chance, frames) if chance.random() < 0.6 else frames


def attack(endpoint: str, chance: random.Random, count: int) -> int:
    """Send from a fresh set of sockets, reading what comes; how many answers came. Blocks."""
    answers = 0
    with zmq.Context() as context:
        sockets = [context.socket(zmq.DEALER) for _ in range(SOCKETS)]
        for socket in sockets:
            socket.linger = 1000
            socket.connect(endpoint)
        for number in range(count):
            socket = chance.choice(sockets)
            socket.send_multipart(message(chance))
            if number % 50 == 0:
                while socket.poll(0):
                    socket.recv_multipart()
                    answers += 1
        for socket in sockets:
            while socket.poll(20):
                socket.recv_multipart()
                answers += 1
            socket.close()
    return answers


async def work(client: BridgeClient, large: bytes, stop: asyncio.Event) -> int:
    """What a normal client does meanwhile; how often."""
    rounds = 0
    while not stop.is_set():
        await client.put("docs", "small", b"%d" % rounds)
        assert await client.get("docs", "small") == b"%d" % rounds
        if rounds % 20 == 0:
            assert await client.get("docs", "large") == large
        rounds += 1
    return rounds


async def test_no_frames_harm_the_server() -> None:
    chance = random.Random(SEED)
    large = os.urandom(500_000)
    with process(lease_s=2.0) as running:
        bridge = SMALL.model_copy(update={"endpoints": (running.endpoint,)})
        async with BridgeClient(bridge) as client:
            await client.put("docs", "large", large)
            stop = asyncio.Event()
            working = asyncio.create_task(work(client, large, stop))
            answers, half = 0, 0.0
            for done in range(0, FRAMES, BURST):
                answers += await asyncio.to_thread(attack, running.endpoint, chance, BURST)
                if done == FRAMES // 2:
                    half = running.resident_mb()
            stop.set()
            assert await working > 100
            assert answers > FRAMES // 4
            await settled(client, running, half)


async def settled(client: BridgeClient, running: Process, half: float) -> None:
    """Nothing of it is left."""

    async def left() -> tuple[int, int, int]:
        seen = await client.statistics()
        return seen.streams, seen.buffered_bytes, seen.in_flight

    async with asyncio.timeout(120):
        while await left() != (0, 0, 1):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert running.resident_mb() - half < GROWTH_MB
    log = running.read_log()
    assert "a message could not be handled" not in log
    assert "the end of a job failed" not in log
    assert "failed unexpectedly" not in log, log[-3000:]
