"""Handlers of the binary dialect (`bridge.wire`)."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ...messages.data import BlobInfo, BlobMatch, BlobMeta
from .. import wire
from ..cache.base import CacheBackend, CacheUnavailable
from ..errors import BridgeError, StoreError
from ..frames import BadFrames, Buffer, Header, MessageKind, decode_json, pack_message, unpack_messages
from ..store.base import BlobReader, Store
from .cache_api import reply_from_cache
from .idempotency_cache import IdempotencyCache
from .serial_executor import PipelinedJob, StoreJob
from .sessions import PendingReply, SessionTable
from .streams import DownloadStream, StreamConfig, UploadStream

Statistics = Callable[[], wire.ServerStatistics]
Handler = Callable[[PendingReply, bytes, Buffer], None]


class SmallBlob(NamedTuple):
    """A small blob, read whole."""

    info: bytes
    data: bytes


class BinaryApi:
    """Handles binary messages; each becomes a pending reply, or advances a stream."""

    def __init__(
        self,
        sessions: SessionTable,
        config: StreamConfig,
        store: Store,
        cache: CacheBackend | None,
        lease_s: float,
        statistics: Statistics,
    ) -> None:
        self._sessions = sessions
        self._config = config
        self._store = store
        self._cache = cache
        self._lease_s = lease_s
        self._statistics = statistics
        self._puts = IdempotencyCache()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[MessageKind, Handler] = {
            MessageKind.HELLO: self._hello,
            MessageKind.PING: lambda reply, words, body: reply.answer_raw(b"", body),
            MessageKind.PUT: self._put,
            MessageKind.PUT_OPEN: self._put_open,
            MessageKind.GET: self._get,
            MessageKind.STAT: self._stat,
            MessageKind.LIST: self._list,
            MessageKind.SEARCH: self._search,
            MessageKind.DELETE: self._delete,
            MessageKind.DESTROY: self._destroy,
            MessageKind.STATISTICS: lambda reply, words, body: reply.answer(self._statistics()),
            MessageKind.CACHE: self._cache_word,
        }
        self._movers = {
            MessageKind.CHUNK: self._chunk,
            MessageKind.END: self._finish,
            MessageKind.CREDIT: self._credit,
            MessageKind.ABORT: self._abort,
        }

    def receive(self, client: bytes, frames: list[Buffer]) -> None:
        """The messages that came together."""
        try:
            for head, body in unpack_messages(frames):
                self._receive(client, head, body)
        except BadFrames as error:  # where the next begins cannot be told
            self._refuse(client, error.correlation, error)

    def _receive(self, client: bytes, head: Header, body: Buffer) -> None:
        try:
            if (handler := self._handlers.get(head.kind)) is not None:
                self._request(client, head, body, handler)
            elif (mover := self._movers.get(head.kind)) is not None:
                mover(client, head, body)
            elif head.kind is MessageKind.KEEPALIVE:
                self._keep_alive(client, head)
            else:
                raise BadFrames(f"{head.kind.name} is for clients to receive")
        except (BridgeError, StoreError) as error:
            self._refuse(client, head.correlation, error)

    async def aclose(self) -> None:
        """Cancel what has no other end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _request(self, client: bytes, head: Header, body: Buffer, handler: Handler) -> None:
        if self._sessions.draining and head.kind is not MessageKind.STATISTICS:
            raise wire.Closing("this bridge is about to end")
        session = self._sessions.begin(client)
        self._sessions.counters.bytes_in += len(body)
        reply = PendingReply(self._sessions, session, head.correlation)
        try:
            reply.hold(self._config.budget, len(body))
            handler(reply, head.words, body)
        except Exception as error:
            reply.fail(error)

    def _refuse(self, client: bytes, correlation: int, error: Exception) -> None:
        """Answer something that did not become a request."""
        self._sessions.note(error)
        self._sessions.router.send(
            client, pack_message(MessageKind.ERROR, correlation, wire.error_reply(error))
        )

    # requests

    def _hello(self, reply: PendingReply, words: bytes, _: Buffer) -> None:
        decode_json(wire.HelloRequest, words)
        reply.answer(
            wire.Welcome(
                pid=os.getpid(),
                store=self._store.kind,
                store_id=self._store.id,
                chunk_bytes=self._config.chunk,
                window_chunks=self._config.window,
                max_in_flight=self._sessions.max_in_flight,
                lease_s=self._lease_s,
            )
        )

    def _put(self, reply: PendingReply, words: bytes, body: Buffer) -> None:
        put = decode_json(wire.PutRequest, words)
        if len(body) > wire.INLINE_BYTES:
            raise BadFrames(f"{len(body)} bytes in one message; more than {wire.INLINE_BYTES} are a stream")
        if self._puts.answered(put.put_id, reply) or not self._puts.join(put.put_id, reply):
            return
        begin = partial(begin_storing, self._store, put.tag, put.name, put.meta, body)
        done = partial(self._puts.done, put.put_id)
        failed = partial(self._puts.failed, put.put_id)
        self._config.executors.write((put.tag, put.name), PipelinedJob(begin, done, failed))

    def _put_open(self, reply: PendingReply, words: bytes, _: Buffer) -> None:
        put = decode_json(wire.PutRequest, words)
        if self._puts.answered(put.put_id, reply):
            return
        self._puts.replace(put.put_id)
        begin = partial(self._store.put, put.tag, put.name, put.meta)
        stream = UploadStream(reply, self._config, put.size, begin, partial(self._puts.remember, put.put_id))
        self._puts.opened(put.put_id, stream)

    def _get(self, reply: PendingReply, words: bytes, _: Buffer) -> None:
        get = decode_json(wire.GetRequest, words)
        work = partial(read_value, self._store, get.tag, get.name, get.version, get.offset)
        done = partial(self._got, reply, get)
        self._config.executors.read((get.tag, get.name), StoreJob(work, done, reply.fail))

    def _got(self, reply: PendingReply, get: wire.GetRequest, found: SmallBlob | BlobReader) -> None:
        if isinstance(found, SmallBlob):
            reply.answer_raw(found.info, found.data)
            return
        try:
            DownloadStream(reply, self._config, found, get.offset, get.credit)
        except BadFrames as error:
            reply.fail(error)
            self._config.executors.new_executor().submit(StoreJob(found.close, _nothing, self._sessions.note))

    def _stat(self, reply: PendingReply, words: bytes, _: Buffer) -> None:
        stat = decode_json(wire.StatRequest, words)

        def done(info: BlobInfo | None) -> None:
            reply.answer_raw(b"" if info is None else info.model_dump_json().encode())

        work = partial(self._store.stat, stat.tag, stat.name)
        self._config.executors.read((stat.tag, stat.name), StoreJob(work, done, reply.fail))

    def _list(self, reply: PendingReply, words: bytes, _: Buffer) -> None:
        asked = decode_json(wire.ListRequest, words)
        work = partial(self._store.list, asked.tag_pattern, asked.name_pattern, asked.after, asked.limit)
        self._config.executors.new_executor().submit(StoreJob(work, reply.answer, reply.fail))

    def _search(self, reply: PendingReply, words: bytes, _: Buffer) -> None:
        asked = decode_json(wire.SearchRequest, words)

        def done(found: Sequence[BlobMatch] | None) -> None:
            reply.answer(wire.SearchReply(matches=None if found is None else tuple(found)))

        work = partial(self._store.search, asked.tag, asked.words, asked.k)
        self._config.executors.new_executor().submit(StoreJob(work, done, reply.fail))

    def _delete(self, reply: PendingReply, words: bytes, _: Buffer) -> None:
        asked = decode_json(wire.DeleteRequest, words)
        work = partial(self._store.delete, asked.tag, asked.names)
        job = StoreJob(work, partial(_answer_count, reply), reply.fail)
        if len(asked.names) == 1:
            self._config.executors.write((asked.tag, asked.names[0]), job)
        else:
            self._config.executors.new_executor().submit(job)

    def _destroy(self, reply: PendingReply, words: bytes, _: Buffer) -> None:
        asked = decode_json(wire.DestroyRequest, words)
        work = partial(self._store.destroy, asked.tags)
        self._config.executors.new_executor().submit(
            StoreJob(work, partial(_answer_count, reply), reply.fail)
        )

    def _cache_word(self, reply: PendingReply, words: bytes, body: Buffer) -> None:
        asked = decode_json(wire.CacheRequest, words)
        if self._cache is None:
            raise CacheUnavailable("this bridge serves no cache")
        task = asyncio.create_task(reply_from_cache(self._cache, reply, asked, bytes(body)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # streams: what comes for one that has ended was on its way when its client was told so

    def _chunk(self, client: bytes, head: Header, body: Buffer) -> None:
        stream = self._sessions.stream(client, head.correlation)
        if isinstance(stream, UploadStream):
            self._sessions.counters.bytes_in += len(body)
            stream.heard_at = time.monotonic()
            stream.chunk(body)

    def _finish(self, client: bytes, head: Header, _: Buffer) -> None:
        stream = self._sessions.stream(client, head.correlation)
        if isinstance(stream, UploadStream):
            stream.heard_at = time.monotonic()
            stream.finish()

    def _credit(self, client: bytes, head: Header, _: Buffer) -> None:
        credit = decode_json(wire.ChunkCredit, head.words)
        stream = self._sessions.stream(client, head.correlation)
        if isinstance(stream, DownloadStream):
            stream.heard_at = time.monotonic()
            stream.more(credit.chunks)

    def _abort(self, client: bytes, head: Header, _: Buffer) -> None:
        stream = self._sessions.stream(client, head.correlation)
        if stream is not None:
            stream.abort()

    def _keep_alive(self, client: bytes, head: Header) -> None:
        now = time.monotonic()
        for correlation in decode_json(wire.KeepAlive, head.words).streams:
            stream = self._sessions.stream(client, correlation)
            if stream is not None:
                stream.heard_at = now


def begin_storing(store: Store, tag: str, name: str, meta: BlobMeta, data: Buffer) -> Callable[[], BlobInfo]:
    """Put a value that is whole; what it returns waits for the end. Both block."""
    writer = store.put(tag, name, meta)
    try:
        writer.write(data)
        return writer.begin_commit()
    except BaseException:
        writer.abort()
        raise


def read_value(store: Store, tag: str, name: str, version: str, offset: int) -> SmallBlob | BlobReader:
    """A small blob whole; a large one open. Blocks. Raises NoSuchBlob, BlobDamaged."""
    reader = store.open(tag, name, digest=False)  # our client does that: once, at the far end
    try:
        info = reader.info
        if version and info.version != version:
            raise StoreError(f"{name!r} under {tag!r} has been put anew while it was being read")
        if offset > info.size:
            raise BadFrames(f"offset {offset} of a blob of {info.size} bytes")
        if info.size > wire.INLINE_BYTES and offset < info.size:
            return reader
        value = SmallBlob(info.model_dump_json().encode(), reader.read(offset, info.size - offset))
    except BaseException:
        reader.close()
        raise
    reader.close()
    return value


def _nothing(_: None) -> None:
    """Discard the result."""


def _answer_count(reply: PendingReply, count: int) -> None:
    reply.answer(wire.CountReply(count=count))
