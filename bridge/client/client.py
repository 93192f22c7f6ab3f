"""The client of the bridge: `async with BridgeClient(settings.bridge) as client`.

Thousands of tasks may share one; it belongs to the event loop, and the process, that opened it.

Invariants:
  - a request goes to one endpoint of those that are up, in turn; while none is up, or all have as many
    in flight as they take, it waits in a queue;
  - every wait has a limit: `request_timeout_ms` for an answer or the next piece of a stream,
    `connect_timeout_ms` for the first endpoint that is up;
  - when a bridge is lost, idempotent requests (reads, and puts of bytes, which carry an idempotency key) are
    retried within their limit; the rest fails with BridgeDown, since nobody knows whether it was done;
  - all bridges that are spoken to have one store: where one has another, every request is an error;
  - streams hold at most `window_chunks` pieces of `chunk_kb`, however large the blob is.
"""

import asyncio
import hashlib
import itertools
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from types import TracebackType

from ...configs.data import BridgeSettings
from ...configs.errors import AgentFactoryError
from ...messages.data import BlobInfo, BlobMatch, BlobMeta, BlobPage, BlobUpload
from .. import wire
from ..errors import BlobDamaged, BridgeError
from ..frames import Buffer, MessageKind, decode_json, encode_json, zmq
from .connection import ClientStream, ConnectionLost, CurveKeys, download, rechunk, slices, upload
from .dispatcher import Dispatcher, Response

ATTEMPTS = 4


class BlobStream:
    """`async with client.stream(tag, name) as blob:` then `blob.info` and `async for piece in blob`.

    If the bridge is lost on the way, the rest is asked of another, or of the same when it is back: of the
    same version only. Raises NoSuchBlob, StoreError (it was put anew meanwhile), BridgeDown; after the
    last piece BlobDamaged, if all together have another SHA-256 than what was put.
    """

    def __init__(self, dispatcher: Dispatcher, tag: str, name: str, window: int) -> None:
        self.info: BlobInfo
        """What the store knows of it, once the stream is open."""
        self._dispatcher = dispatcher
        self._tag = tag
        self._name = name
        self._window = window
        self._stream: ClientStream | None = None
        self._inline = memoryview(b"")
        self._offset = 0

    async def __aenter__(self) -> "BlobStream":
        await self._ask("")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream early."""
        if self._stream is not None:
            self._dispatcher.end(self._stream)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        digest = hashlib.sha256()
        if self._stream is None:
            digest.update(self._inline)
            self._check(digest)
            if len(self._inline):
                yield self._inline
            return
        loop = asyncio.get_running_loop()
        async for piece in self._pieces():
            digested = loop.run_in_executor(None, digest.update, piece)  # while others come and this is used
            try:
                yield piece
            finally:
                await digested
        self._check(digest)

    async def _pieces(self) -> AsyncIterator[memoryview]:
        """All pieces, resumed on another bridge where one is lost."""
        for attempt in range(ATTEMPTS):
            try:
                if self._stream is None:  # the rest came with the answer
                    yield self._inline
                    return
                async for piece in download(self._stream):
                    self._offset += len(piece)
                    yield piece
                return
            except ConnectionLost:
                if attempt == ATTEMPTS - 1:
                    raise
                await self._ask(self.info.version)

    def _check(self, digest: "hashlib._Hash") -> None:
        if digest.hexdigest() != self.info.sha256:
            raise BlobDamaged(
                f"{self._name!r} under {self._tag!r} came with another SHA-256 than it was put with"
            )

    async def _ask(self, version: str) -> None:
        """Request the rest from the current offset."""
        words = wire.GetRequest(
            tag=self._tag, name=self._name, credit=self._window, offset=self._offset, version=version
        )
        answer = await self._dispatcher.ask(MessageKind.GET, encode_json(words))
        self._stream = answer.stream
        if answer.stream is None:
            self._inline = memoryview(answer.body)
        if not version:
            self.info = BlobInfo.model_validate_json(answer.words)


Pieces = Callable[[int], AsyncIterator[memoryview]]
"""A value in pieces of a given size."""


class BridgeClient:
    """Reaches the blobs behind one or several bridges."""

    def __init__(self, settings: BridgeSettings) -> None:
        self._settings = settings
        self._name = uuid.uuid4().hex
        self._puts = itertools.count()
        self._pid = 0
        self._context: zmq.Context[zmq.Socket[bytes]]
        self._dispatcher: Dispatcher

    def __repr__(self) -> str:
        return f"<BridgeClient {self._dispatcher if self._pid else 'not open'}>"

    async def __aenter__(self) -> "BridgeClient":
        """Raises BridgeDown if none answers within `connect_timeout_ms`, BadInput if their stores differ."""
        secret = os.environ.get(self._settings.client_secret_env, "")
        if self._settings.server_key and not zmq.has("curve"):
            raise BridgeError("`server_key` is set, but this build of pyzmq has no CURVE (libsodium)")
        self._context = zmq.Context()
        keys = CurveKeys(self._settings.server_key, secret)
        self._dispatcher = Dispatcher(self._settings, self._context, self._name, keys)
        self._pid = os.getpid()
        try:
            await self.ping()
            await self._dispatcher.wait_until_tried()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Fail what is under way, and disconnect."""
        self._dispatcher.close()
        await asyncio.get_running_loop().run_in_executor(None, self._context.term)

    @property
    def store_id(self) -> str:
        """Of the store behind the bridges."""
        return self._dispatcher.store_id

    async def put(
        self,
        tag: str,
        name: str,
        data: Buffer | bytearray | AsyncIterator[bytes | memoryview],
        meta: BlobMeta | None = None,
    ) -> BlobInfo:
        """Store a value, or what an iterator yields; return once it is durable.

        Raises BadName, StoreFull, StoreError, BridgeDown. What an iterator yields cannot be sent twice:
        such a put fails with BridgeDown when its bridge is lost.
        """
        words = self._put_words(tag, name, meta or BlobMeta())
        if isinstance(data, bytes | bytearray | memoryview):
            view = memoryview(data).cast("B")
            if len(view) <= wire.INLINE_BYTES:
                return _info(await self._ask_to_put(words, bytes(view)))
            return await self._put_view(words, view)
        held = bytearray()
        async for piece in data:
            held += piece
            if len(held) > wire.INLINE_BYTES:
                return await self._put_stream(words, partial(rechunk, held, data))
        return _info(await self._ask_to_put(words, bytes(held)))

    async def put_many(self, tag: str, blobs: Sequence[BlobUpload]) -> list[BlobInfo | AgentFactoryError]:
        """Store values of at most `wire.INLINE_BYTES`, sent together; what came of each, in their order.

        Of each a BlobInfo once it is durable, or BadName, StoreFull, StoreError, BridgeDown.
        """
        asked = [self._asked_to_put(tag, blob) for blob in blobs]
        try:
            return [put if isinstance(put, AgentFactoryError) else await _outcome(put) for put in asked]
        finally:
            for put in asked:
                if not isinstance(put, AgentFactoryError):
                    put.cancel()  # if nobody waits for it any more

    async def get(self, tag: str, name: str) -> bytes:
        """A whole blob. Raises NoSuchBlob, BlobDamaged (its SHA-256 is another), StoreError, BridgeDown."""
        async with self.stream(tag, name) as blob:
            pieces = [piece async for piece in blob]
        if blob.info.size <= wire.INLINE_BYTES:
            return b"".join(pieces)
        return await asyncio.get_running_loop().run_in_executor(None, b"".join, pieces)

    def stream(self, tag: str, name: str) -> BlobStream:
        """Stream a blob: `async with client.stream(tag, name) as blob`."""
        return BlobStream(self._live(), tag, name, self._settings.window_chunks)

    async def stat(self, tag: str, name: str) -> BlobInfo | None:
        """Metadata of a blob; None if there is none."""
        answer = await self._ask(MessageKind.STAT, encode_json(wire.StatRequest(tag=tag, name=name)))
        return BlobInfo.model_validate_json(answer.words) if answer.words else None

    async def list(
        self, tag_pattern: str, name_pattern: str = "*", after: str = "", limit: int = 1000
    ) -> BlobPage:
        """Blobs whose tag and name match, a page at a time: give `page.next` as `after` for what follows."""
        words = wire.ListRequest(tag_pattern=tag_pattern, name_pattern=name_pattern, after=after, limit=limit)
        return BlobPage.model_validate_json((await self._ask(MessageKind.LIST, encode_json(words))).words)

    async def search(self, tag: str, words: str, k: int = 10) -> tuple[BlobMatch, ...] | None:
        """At most k (≤ 100) blobs of text that hold these words, the best first, by the store's own search.

        None if the store has none. Raises BadName, StoreError, BridgeDown.
        """
        request = wire.SearchRequest(tag=tag, words=words, k=k)
        return decode_json(
            wire.SearchReply, (await self._ask(MessageKind.SEARCH, encode_json(request))).words
        ).matches

    async def delete(self, tag: str, names: Sequence[str]) -> int:
        """Remove blobs for good; how many there were."""
        words = wire.DeleteRequest(tag=tag, names=tuple(names))
        return _count(await self._ask(MessageKind.DELETE, encode_json(words), repeat=False))

    async def destroy(self, tags: Sequence[str]) -> int:
        """Remove tags with all their blobs for good; how many blobs there were."""
        words = wire.DestroyRequest(tags=tuple(tags))
        return _count(await self._ask(MessageKind.DESTROY, encode_json(words), repeat=False))

    async def ping(self, body: Buffer = b"") -> Buffer:
        """Raises BridgeDown if nobody answers; else what was sent (at most `wire.INLINE_BYTES`)."""
        return (await self._ask(MessageKind.PING, b"", body)).body

    async def statistics(self) -> wire.ServerStatistics:
        """Statistics of the next bridge in turn."""
        answer = await self._ask(MessageKind.STATISTICS, b"")
        return wire.ServerStatistics.model_validate_json(answer.words)

    async def cache(self, words: wire.CacheRequest, value: bytes = b"") -> tuple[wire.CacheReply, bytes]:
        """Ask the bridge's cache; for `bridge.client.remote_cache`. Raises CacheUnavailable, BridgeDown."""
        reading = words.word in {"get", "get_many", "gets"}
        answer = await self._ask(MessageKind.CACHE, encode_json(words), value, repeat=reading)
        return decode_json(wire.CacheReply, answer.words), bytes(answer.body)

    def _live(self) -> Dispatcher:
        if self._pid != os.getpid():
            raise BridgeError("a client is not shared over a fork: open another in this process")
        return self._dispatcher

    def _ask(
        self, kind: MessageKind, words: bytes, body: Buffer = b"", repeat: bool = True
    ) -> asyncio.Future[Response]:
        return self._live().ask(kind, words, body, repeat)

    def _put_words(self, tag: str, name: str, meta: BlobMeta) -> wire.PutRequest:
        return wire.PutRequest(tag=tag, name=name, put_id=f"{self._name}-{next(self._puts)}", meta=meta)

    def _asked_to_put(self, tag: str, blob: BlobUpload) -> asyncio.Future[Response] | AgentFactoryError:
        try:
            return self._ask_to_put(self._put_words(tag, blob.name, blob.meta), blob.data)
        except AgentFactoryError as error:
            return error

    def _ask_to_put(self, words: wire.PutRequest, data: bytes) -> asyncio.Future[Response]:
        return self._ask(MessageKind.PUT, encode_json(words), data)

    async def _put_view(self, words: wire.PutRequest, view: memoryview) -> BlobInfo:
        """A large value that is all here: sent from the beginning again if the bridge is lost."""
        words = words.model_copy(update={"size": len(view)})
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._put_stream(words, partial(slices, view))
            except ConnectionLost:
                continue
        return await self._put_stream(words, partial(slices, view))

    async def _put_stream(self, words: wire.PutRequest, pieces: Pieces) -> BlobInfo:
        answer = await self._ask(MessageKind.PUT_OPEN, encode_json(words))
        stream = answer.stream
        if stream is None:  # a repeat of one that was done
            return _info(answer)
        welcome = stream.connection.welcome
        if welcome is None:
            raise ConnectionLost(f"{stream.connection.endpoint}: {stream.connection.why}")
        try:
            return BlobInfo.model_validate_json(await upload(stream, pieces(welcome.chunk_bytes)))
        finally:
            self._dispatcher.end(stream)


async def _outcome(asked: asyncio.Future[Response]) -> BlobInfo | AgentFactoryError:
    try:
        return _info(await asked)
    except AgentFactoryError as error:
        return error


def _info(answer: Response) -> BlobInfo:
    return BlobInfo.model_validate_json(answer.words)


def _count(answer: Response) -> int:
    return decode_json(wire.CountReply, answer.words).count
