"""The server, as any ZeroMQ client in any language sees it."""

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence

import pytest

from agentfactory.bridge import wire
from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.errors import StoreFull, URIResolveError
from agentfactory.bridge.frames import Header, MessageKind, Packet, pack_message, unpack_messages, zmq
from agentfactory.bridge.server.json_api import BundleResult
from agentfactory.configs.data import BridgeSettings
from agentfactory.configs.errors import BadInput
from agentfactory.messages.data import BlobMeta
from tests.bridge import fake_store
from tests.bridge.bridge_process import Served, connected, process, serving, until
from tests.bridge.fake_store import FakeStore

BIG = os.urandom(3_000_000)
Reply = dict[str, object]


@contextlib.asynccontextmanager
async def raw(kind: int, endpoint: str) -> AsyncIterator[zmq.asyncio.Socket]:
    with zmq.asyncio.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        yield socket


@contextlib.asynccontextmanager
async def plain(**settings: object) -> AsyncIterator[tuple[zmq.asyncio.Socket, Served]]:
    async with serving(**settings) as served, raw(zmq.REQ, served.server.endpoint) as socket:
        yield socket, served


async def ask(socket: zmq.asyncio.Socket, method: str, **params: object) -> Reply:
    await socket.send_json({"method": method, "params": params, "id": 7})
    return await answer(socket)


async def answer(socket: zmq.asyncio.Socket) -> Reply:
    reply = await socket.recv_json()
    assert isinstance(reply, dict)
    return reply


def keep(store: FakeStore, tag: str, name: str, data: bytes) -> None:
    store.keep((tag, name), data, BlobMeta())


async def test_a_req_socket_is_answered_and_the_id_comes_back_only_if_it_was_given() -> None:
    async with plain() as (socket, _):
        assert await ask(socket, "ping") == {"result": "pong", "id": 7}
        await socket.send(b'{"method": "ping"}')
        assert await answer(socket) == {"result": "pong"}
        await socket.send(b'{"method": "ping", "params": {}, "id": null}')
        assert await answer(socket) == {"result": "pong", "id": None}


async def test_a_dealer_without_the_delimiter_is_answered_without_it() -> None:
    async with serving() as served, raw(zmq.DEALER, served.server.endpoint) as socket:
        await socket.send(b'{"method": "ping", "id": "a"}')
        assert await socket.recv_multipart() == [b'{"result": "pong", "id": "a"}']
        await socket.send_multipart([b"", b'{"method": "ping"}'])
        assert await socket.recv_multipart() == [b"", b'{"result": "pong"}']


async def test_blobs_are_bundled_queried_retrieved_and_destroyed_in_json() -> None:
    async with plain() as (socket, _):
        bundled = await ask(socket, "context_bundle", src=["string::one", "string::two"], dst="docs")
        assert bundled["result"] == {"status": "ok", "tag": "docs", "stored": 2}
        assert (await ask(socket, "context_bundle", src="string::x", dst="other", format="text"))["result"]
        matches = [
            {"tag": "docs", "blob_name": "string-0", "size": 3},
            {"tag": "docs", "blob_name": "string-1", "size": 3},
        ]
        assert (await ask(socket, "context_query", tag_pattern="d*"))["result"] == {"matches": matches}
        found = await ask(socket, "context_query", tag_pattern="d*", blob_pattern="*-1")
        assert found["result"] == {"matches": matches[1:]}
        one = await ask(socket, "context_retrieve", tag="docs", blob_name="string-0")
        assert one["result"] == {"data": base64.b64encode(b"one").decode(), "encoding": "base64"}
        none = await ask(socket, "context_retrieve", tag="docs", blob_name="nothing")
        assert none == {"result": {"data": None, "encoding": "base64"}, "id": 7}
        gone = await ask(socket, "context_destroy", tags="docs")
        assert gone["result"] == {"status": "ok", "destroyed": ["docs"], "blobs": 2}
        gone = await ask(socket, "context_destroy", tags=["docs", "other"])
        assert gone["result"] == {"status": "ok", "destroyed": ["docs", "other"], "blobs": 1}


async def test_a_large_blob_is_retrieved_in_json_and_its_memory_given_back() -> None:
    async with plain() as (socket, served):
        keep(served.store, "docs", "a", BIG)
        reply = await ask(socket, "context_retrieve", tag="docs", blob_name="a")
        assert reply["result"] == {"data": base64.b64encode(BIG).decode(), "encoding": "base64"}
        assert reply["id"] == 7
        await until(lambda: served.server.statistics().buffered_bytes == 0)


async def test_a_blob_too_large_for_json_is_refused_with_advice() -> None:
    async with plain(bridge=BridgeSettings(max_message_mb=1)) as (socket, served):
        keep(served.store, "docs", "a", BIG)
        reply = await ask(socket, "context_retrieve", tag="docs", blob_name="a")
        assert "use the streaming client" in str(reply["error"])
        await socket.send(b'{"method": "ping", "params": {"x": "' + b"x" * (1 << 20) + b'"}}')
        assert "a request is one frame of at most 1048576 bytes" in str((await answer(socket))["error"])


async def test_a_resolver_that_is_plugged_in_is_used_and_its_errors_are_told() -> None:
    async def assimilate(sources: Sequence[str], tag: str, format: str) -> BundleResult:
        if sources[0] == "nope::":
            raise URIResolveError("nope:: is no scheme")
        if sources[0] == "bug::":
            raise ZeroDivisionError
        return BundleResult(f"{tag}/{format}", len(sources))

    async with plain(assimilate=assimilate) as (socket, _):
        reply = await ask(socket, "context_bundle", src=["a", "b"], dst="docs")
        assert reply["result"] == {"status": "ok", "tag": "docs/arrow", "stored": 2}
        reply = await ask(socket, "context_bundle", src="nope::", dst="docs")
        assert reply["error"] == "URIResolveError: nope:: is no scheme"
        assert "error" in await ask(socket, "context_bundle", src="bug::", dst="docs")
        assert "error" not in await ask(socket, "ping")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"", "request"),
        (b"\xff\x00", "request"),
        (b"[1, 2]", "request"),
        (b'{"params": {}}', "method"),
        (b'{"method": "nope"}', "this bridge knows ping, context_bundle"),
        (b'{"method": "context_query", "params": {"tag_pattern": 1}}', "context_query: tag_pattern"),
        (b'{"method": "context_retrieve", "params": {"tag": 1, "blob_name": "a"}}', "context_retrieve: tag"),
        (b'{"method": "context_bundle", "params": {"src": "file::x", "dst": "d"}}', "has no resolver"),
        (b"[" * 100_000, "request"),
    ],
)
async def test_what_is_no_request_gets_an_error_and_the_server_lives_on(request_: bytes, words: str) -> None:
    async with plain() as (socket, _):
        await socket.send(request_)
        assert words in str((await answer(socket))["error"])
        assert await ask(socket, "ping") == {"result": "pong", "id": 7}


async def test_a_client_that_asks_too_much_at_once_is_refused_and_others_are_served() -> None:
    async with serving(BridgeSettings(max_in_flight=4)) as served:
        served.store.gate.clear()
        async with raw(zmq.DEALER, served.server.endpoint) as socket:
            for number in range(6):
                params = {"src": "string::x", "dst": f"t{number}"}
                await socket.send_json({"method": "context_bundle", "params": params, "id": number})
            refused = [json.loads(await socket.recv()) for _ in range(2)]
            assert [reply["id"] for reply in refused] == [4, 5]
            assert all("read the answers first" in reply["error"] for reply in refused)
            async with raw(zmq.REQ, served.server.endpoint) as other:
                assert await ask(other, "ping") == {"result": "pong", "id": 7}
            served.store.gate.set()
            stored = [json.loads(await socket.recv()) for _ in range(4)]
            assert sorted(reply["id"] for reply in stored) == [0, 1, 2, 3]


async def test_our_client_waits_where_the_server_takes_no_more() -> None:
    async with connected(BridgeSettings(max_in_flight=4)) as (client, served):
        served.store.gate.clear()
        putting = [asyncio.create_task(client.put("docs", str(n), b"x")) for n in range(20)]
        await until(lambda: served.server.statistics().in_flight == 4)
        served.store.gate.set()
        await asyncio.gather(*putting)
        assert served.server.statistics().errors == 0


async def test_a_client_that_does_not_read_its_answers_does_not_stop_the_server() -> None:
    async with connected(buffer_mb=16) as (client, served):
        keep(served.store, "docs", "a", BIG)
        request = json.dumps({"method": "context_retrieve", "params": {"tag": "docs", "blob_name": "a"}})
        async with raw(zmq.DEALER, served.server.endpoint) as socket:
            socket.rcvhwm = 1
            for _ in range(60):
                await socket.send(request.encode())
            await until(lambda: served.server.statistics().in_flight > 40)
            assert served.server.statistics().buffered_bytes <= 16 << 20
            await client.put("docs", "b", b"x")
            assert await client.get("docs", "b") == b"x"
            for _ in range(60):
                assert len(await socket.recv()) > len(BIG)


def opening(number: int, tag: str = "docs", size: int = -1) -> Packet:
    words = wire.PutRequest(tag=tag, name=str(number), put_id=f"test-{tag}-{number}", size=size)
    return pack_message(MessageKind.PUT_OPEN, number, words)


async def head_of(socket: zmq.asyncio.Socket) -> Header:
    frames = await socket.recv_multipart()
    return next(unpack_messages(frames))[0]


async def test_a_stream_whose_client_is_silent_is_aborted_after_its_lease() -> None:
    async with serving(lease_s=1.5) as served, raw(zmq.DEALER, served.server.endpoint) as socket:
        await socket.send_multipart(opening(1))
        assert (await head_of(socket)).kind is MessageKind.CREDIT
        assert (served.store.writers, served.server.statistics().streams) == (1, 1)
        await until(lambda: (served.store.writers, served.server.statistics().streams) == (0, 0))
        assert served.server.statistics().buffered_bytes == 0


async def test_our_client_keeps_its_streams_while_its_source_is_slow() -> None:
    async with connected(lease_s=0.4) as (client, served):
        aborted = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield BIG
            with contextlib.suppress(TimeoutError):  # several leases
                await asyncio.wait_for(aborted.wait(), 1.5)
            yield BIG

        assert (await client.put("docs", "a", slow())).size == 2 * len(BIG)
        assert served.server.statistics().errors == 0


async def test_the_streams_of_a_connection_that_is_lost_are_aborted() -> None:
    async with serving() as served:
        async with raw(zmq.DEALER, served.server.endpoint) as socket:
            await socket.send_multipart(opening(1))
            assert (await head_of(socket)).kind is MessageKind.CREDIT
            assert served.store.writers == 1
        await until(lambda: (served.store.writers, served.server.statistics().clients) == (0, 0))


async def test_a_chunk_that_was_not_granted_ends_its_stream() -> None:
    async with serving() as served, raw(zmq.DEALER, served.server.endpoint) as socket:
        await socket.send_multipart(opening(1, size=10))
        await head_of(socket)
        await socket.send_multipart(pack_message(MessageKind.CHUNK, 1, body=b"x" * 11))
        head = await head_of(socket)
        assert (head.kind, head.correlation) == (MessageKind.ERROR, 1)
        assert "nobody has granted" in str(wire.error_from(head.words))
        await until(lambda: served.store.writers == 0)
        assert served.store.blobs == {}


async def test_a_put_that_is_shorter_than_it_said_is_not_kept() -> None:
    async with serving() as served, raw(zmq.DEALER, served.server.endpoint) as socket:
        await socket.send_multipart(opening(1, size=10))
        await head_of(socket)
        await socket.send_multipart(pack_message(MessageKind.CHUNK, 1, body=b"x" * 9))
        await socket.send_multipart(pack_message(MessageKind.END, 1))
        assert "9 bytes have come, 10 were announced" in str(wire.error_from((await head_of(socket)).words))
        await until(lambda: served.store.writers == 0)
        assert served.store.blobs == {}


async def test_credit_that_was_not_earned_ends_a_stream() -> None:
    async with serving() as served, raw(zmq.DEALER, served.server.endpoint) as socket:
        keep(served.store, "docs", "a", BIG)
        await socket.send_multipart(pack_message(MessageKind.GET, 1, wire.GetRequest(tag="docs", name="a")))
        assert (await head_of(socket)).kind is MessageKind.CHUNK
        await socket.send_multipart(pack_message(MessageKind.CREDIT, 1, wire.ChunkCredit(chunks=500)))
        assert "credit for 500 chunks that were not sent" in str(
            wire.error_from((await head_of(socket)).words)
        )
        await until(lambda: served.store.readers == 0)


async def test_a_write_that_fails_ends_its_stream_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(writer: fake_store.FakeWriter, chunk: bytes) -> None:
        if len(writer._data) >= 65_536:
            raise StoreFull("the store is full")
        writer._data += chunk

    monkeypatch.setattr(fake_store.FakeWriter, "write", full)
    async with connected() as (client, served):
        with pytest.raises(StoreFull, match="the store is full"):
            await client.put("docs", "a", BIG)
        assert served.store.blobs == {}
        await until(lambda: (served.store.writers, served.server.statistics().buffered_bytes) == (0, 0))


async def test_what_follows_a_failed_write_does_not_make_a_torn_blob(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(writer: fake_store.FakeWriter, chunk: bytes) -> None:
        if chunk == b"bad":
            raise StoreFull("the store is full")
        writer._data += chunk

    monkeypatch.setattr(fake_store.FakeWriter, "write", write)
    async with serving() as served, raw(zmq.DEALER, served.server.endpoint) as socket:
        await socket.send_multipart(opening(1))
        await head_of(socket)
        chunks = [pack_message(MessageKind.CHUNK, 1, body=data) for data in (b"bad", b"good")]
        await socket.send(
            b"".join(frame for chunk in (*chunks, pack_message(MessageKind.END, 1)) for frame in chunk)
        )
        assert "the store is full" in str(wire.error_from((await head_of(socket)).words))
        await until(lambda: (served.store.writers, served.server.statistics().in_flight) == (0, 0))
        assert served.store.blobs == {}


async def test_at_its_end_the_server_finishes_what_is_under_way_and_refuses_what_comes() -> None:
    async with plain() as (socket, served), BridgeClient(served.bridge) as client:
        served.store.gate.clear()
        putting = asyncio.create_task(client.put("docs", "a", b"x"))
        await until(lambda: served.server.statistics().in_flight)
        ending = asyncio.create_task(served.server.aclose())
        await until(lambda: served.server.statistics().draining)
        assert "about to end" in str((await ask(socket, "ping"))["error"])
        served.store.gate.set()
        assert (await putting).size == 1
        await ending
        assert served.store.closed


async def test_an_address_that_others_can_reach_needs_keys() -> None:
    for endpoint in ("tcp://0.0.0.0:*", "tcp://*:*", "tcp://10.0.0.1:5560"):
        with pytest.raises(BadInput, match="without a CURVE key the bridge listens on the loopback only"):
            async with serving(endpoint=endpoint):
                pass


async def test_an_address_that_is_taken_is_named() -> None:
    async with serving() as served:
        with pytest.raises(BadInput, match=f"{served.server.endpoint}: the bridge cannot listen there"):
            async with serving(endpoint=served.server.endpoint):
                pass


def test_the_process_says_where_it_listens_and_ends_in_good_order() -> None:
    with process() as running:
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(running.endpoint)
            socket.send(b'{"method": "ping"}')
            assert socket.recv() == b'{"result": "pong"}'
        assert running.stop() == 0
        assert "the bridge has ended" in running.read_log()


async def test_at_its_end_the_server_lets_go_of_streams_that_do_not_end() -> None:
    async with serving(drain_s=0.0) as served, raw(zmq.DEALER, served.server.endpoint) as socket:
        for number in range(1, 9):
            await socket.send_multipart(opening(number))
        keep(served.store, "docs", "a", BIG)
        await socket.send_multipart(pack_message(MessageKind.GET, 9, wire.GetRequest(tag="docs", name="a")))
        await until(lambda: (served.store.writers, served.store.readers) == (8, 1))
        await served.server.aclose()
        assert (served.store.writers, served.store.readers) == (0, 0)
