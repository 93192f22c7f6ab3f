"""Answers the requests of our own dialect (`bridge.wire`)."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ...messages.blobs import BlobInfo, BlobMatch, BlobMeta
from .. import wire
from ..cache.base import CacheBackend, CacheUnavailable
from ..errors import BridgeError, StoreError
from ..frames import Buffer
from ..store.base import BlobReader, Store
from ..wire import Kind
from .cache_words import answer_cache
from .lanes import Job, TwoStepJob
from .peers import Peers, Ticket
from .puts import Puts
from .streams import Flow, Incoming, Outgoing

Statistics = Callable[[], wire.ServerStatistics]
Handler = Callable[[Ticket, bytes, Buffer], None]


class Value(NamedTuple):
    """A small blob, read whole."""

    info: bytes
    data: bytes


class Binary:
    """Takes messages of our dialect; each becomes a ticket, or moves a stream on."""

    def __init__(
        self,
        peers: Peers,
        flow: Flow,
        store: Store,
        cache: CacheBackend | None,
        lease_s: float,
        statistics: Statistics,
    ) -> None:
        self._peers = peers
        self._flow = flow
        self._store = store
        self._cache = cache
        self._lease_s = lease_s
        self._statistics = statistics
        self._puts = Puts()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[Kind, Handler] = {
            Kind.HELLO: self._hello,
            Kind.PING: lambda ticket, words, body: ticket.answer_raw(b"", body),
            Kind.PUT: self._put,
            Kind.PUT_OPEN: self._put_open,
            Kind.GET: self._get,
            Kind.STAT: self._stat,
            Kind.LIST: self._list,
            Kind.SEARCH: self._search,
            Kind.DELETE: self._delete,
            Kind.DESTROY: self._destroy,
            Kind.STATISTICS: lambda ticket, words, body: ticket.answer(self._statistics()),
            Kind.CACHE: self._cache_word,
        }
        self._movers = {
            Kind.CHUNK: self._chunk,
            Kind.END: self._finish,
            Kind.CREDIT: self._credit,
            Kind.ABORT: self._abort,
        }

    def receive(self, client: bytes, frames: list[Buffer], draining: bool) -> None:
        """The messages that came together."""
        try:
            for head, body in wire.unpack(frames):
                self._receive(client, head, body, draining)
        except wire.BadFrames as error:  # where the next begins cannot be told
            self._refuse(client, error.correlation, error)

    def _receive(self, client: bytes, head: wire.Head, body: Buffer, draining: bool) -> None:
        try:
            if (handler := self._handlers.get(head.kind)) is not None:
                self._request(client, head, body, handler, draining)
            elif (mover := self._movers.get(head.kind)) is not None:
                mover(client, head, body)
            elif head.kind is Kind.KEEPALIVE:
                self._keep_alive(client, head)
            else:
                raise wire.BadFrames(f"{head.kind.name} is for clients to receive")
        except (BridgeError, StoreError) as error:
            self._refuse(client, head.correlation, error)

    async def aclose(self) -> None:
        """Cancel what has no other end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _request(
        self, client: bytes, head: wire.Head, body: Buffer, handler: Handler, draining: bool
    ) -> None:
        if draining and head.kind is not Kind.STATISTICS:
            raise wire.Closing("this bridge is about to end")
        peer = self._peers.begin(client)
        self._peers.counters.bytes_in += len(body)
        ticket = Ticket(self._peers, peer, head.correlation)
        try:
            ticket.hold(self._flow.budget, len(body))
            handler(ticket, head.words, body)
        except Exception as error:
            ticket.fail(error)

    def _refuse(self, client: bytes, correlation: int, error: Exception) -> None:
        """Answer something that did not become a request."""
        self._peers.note(error)
        self._peers.router.send(client, wire.pack(Kind.ERROR, correlation, wire.failed(error)))

    # requests

    def _hello(self, ticket: Ticket, words: bytes, _: Buffer) -> None:
        wire.read_words(wire.Hello, words)
        ticket.answer(
            wire.Welcome(
                pid=os.getpid(),
                store=self._store.kind,
                store_id=self._store.id,
                chunk_bytes=self._flow.chunk,
                window_chunks=self._flow.window,
                max_in_flight=self._peers.max_in_flight,
                lease_s=self._lease_s,
            )
        )

    def _put(self, ticket: Ticket, words: bytes, body: Buffer) -> None:
        put = wire.read_words(wire.PutWords, words)
        if len(body) > wire.INLINE_BYTES:
            raise wire.BadFrames(
                f"{len(body)} bytes in one message; more than {wire.INLINE_BYTES} are a stream"
            )
        if self._puts.answered(put.put_id, ticket) or not self._puts.join(put.put_id, ticket):
            return
        begin = partial(begin_storing, self._store, put.tag, put.name, put.meta, body)
        done = partial(self._puts.done, put.put_id)
        failed = partial(self._puts.failed, put.put_id)
        self._flow.lanes.write((put.tag, put.name), TwoStepJob(begin, done, failed))

    def _put_open(self, ticket: Ticket, words: bytes, _: Buffer) -> None:
        put = wire.read_words(wire.PutWords, words)
        if self._puts.answered(put.put_id, ticket):
            return
        self._puts.replace(put.put_id)
        begin = partial(self._store.put, put.tag, put.name, put.meta)
        stream = Incoming(ticket, self._flow, put.size, begin, partial(self._puts.remember, put.put_id))
        self._puts.opened(put.put_id, stream)

    def _get(self, ticket: Ticket, words: bytes, _: Buffer) -> None:
        get = wire.read_words(wire.GetWords, words)
        work = partial(read_value, self._store, get.tag, get.name, get.version, get.offset)
        done = partial(self._got, ticket, get)
        self._flow.lanes.read((get.tag, get.name), Job(work, done, ticket.fail))

    def _got(self, ticket: Ticket, get: wire.GetWords, found: Value | BlobReader) -> None:
        if isinstance(found, Value):
            ticket.answer_raw(found.info, found.data)
            return
        try:
            Outgoing(ticket, self._flow, found, get.offset, get.credit)
        except wire.BadFrames as error:
            ticket.fail(error)
            self._flow.lanes.lane().submit(Job(found.close, _nothing, self._peers.note))

    def _stat(self, ticket: Ticket, words: bytes, _: Buffer) -> None:
        stat = wire.read_words(wire.NameWords, words)

        def done(info: BlobInfo | None) -> None:
            ticket.answer_raw(b"" if info is None else info.model_dump_json().encode())

        work = partial(self._store.stat, stat.tag, stat.name)
        self._flow.lanes.read((stat.tag, stat.name), Job(work, done, ticket.fail))

    def _list(self, ticket: Ticket, words: bytes, _: Buffer) -> None:
        asked = wire.read_words(wire.ListWords, words)
        work = partial(self._store.list, asked.tag_pattern, asked.name_pattern, asked.after, asked.limit)
        self._flow.lanes.lane().submit(Job(work, ticket.answer, ticket.fail))

    def _search(self, ticket: Ticket, words: bytes, _: Buffer) -> None:
        asked = wire.read_words(wire.SearchWords, words)

        def done(found: Sequence[BlobMatch] | None) -> None:
            ticket.answer(wire.Found(matches=None if found is None else tuple(found)))

        work = partial(self._store.search, asked.tag, asked.words, asked.k)
        self._flow.lanes.lane().submit(Job(work, done, ticket.fail))

    def _delete(self, ticket: Ticket, words: bytes, _: Buffer) -> None:
        asked = wire.read_words(wire.DeleteWords, words)
        work = partial(self._store.delete, asked.tag, asked.names)
        job = Job(work, partial(_answer_count, ticket), ticket.fail)
        if len(asked.names) == 1:
            self._flow.lanes.write((asked.tag, asked.names[0]), job)
        else:
            self._flow.lanes.lane().submit(job)

    def _destroy(self, ticket: Ticket, words: bytes, _: Buffer) -> None:
        asked = wire.read_words(wire.DestroyWords, words)
        work = partial(self._store.destroy, asked.tags)
        self._flow.lanes.lane().submit(Job(work, partial(_answer_count, ticket), ticket.fail))

    def _cache_word(self, ticket: Ticket, words: bytes, body: Buffer) -> None:
        asked = wire.read_words(wire.CacheWords, words)
        if self._cache is None:
            raise CacheUnavailable("this bridge serves no cache")
        task = asyncio.create_task(answer_cache(self._cache, ticket, asked, bytes(body)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # streams: what comes for one that has ended was on its way when its client was told so

    def _chunk(self, client: bytes, head: wire.Head, body: Buffer) -> None:
        stream = self._peers.stream(client, head.correlation)
        if isinstance(stream, Incoming):
            self._peers.counters.bytes_in += len(body)
            stream.heard_at = time.monotonic()
            stream.chunk(body)

    def _finish(self, client: bytes, head: wire.Head, _: Buffer) -> None:
        stream = self._peers.stream(client, head.correlation)
        if isinstance(stream, Incoming):
            stream.heard_at = time.monotonic()
            stream.finish()

    def _credit(self, client: bytes, head: wire.Head, _: Buffer) -> None:
        credit = wire.read_words(wire.Credit, head.words)
        stream = self._peers.stream(client, head.correlation)
        if isinstance(stream, Outgoing):
            stream.heard_at = time.monotonic()
            stream.more(credit.chunks)

    def _abort(self, client: bytes, head: wire.Head, _: Buffer) -> None:
        stream = self._peers.stream(client, head.correlation)
        if stream is not None:
            stream.abort()

    def _keep_alive(self, client: bytes, head: wire.Head) -> None:
        now = time.monotonic()
        for correlation in wire.read_words(wire.KeepAlive, head.words).streams:
            stream = self._peers.stream(client, correlation)
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


def read_value(store: Store, tag: str, name: str, version: str, offset: int) -> Value | BlobReader:
    """A small blob whole; a large one open. Blocks. Raises NoSuchBlob, BlobDamaged."""
    reader = store.open(tag, name, digest=False)  # our client does that: once, at the far end
    try:
        info = reader.info
        if version and info.version != version:
            raise StoreError(f"{name!r} under {tag!r} has been put anew while it was being read")
        if offset > info.size:
            raise wire.BadFrames(f"offset {offset} of a blob of {info.size} bytes")
        if info.size > wire.INLINE_BYTES and offset < info.size:
            return reader
        value = Value(info.model_dump_json().encode(), reader.read(offset, info.size - offset))
    except BaseException:
        reader.close()
        raise
    reader.close()
    return value


def _nothing(_: None) -> None:
    """Nobody waits for it."""


def _answer_count(ticket: Ticket, count: int) -> None:
    ticket.answer(wire.Count(count=count))
