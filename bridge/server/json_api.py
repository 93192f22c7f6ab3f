"""Handlers of the JSON dialect (`bridge.server.json_protocol`).

This dialect has no flow control, so a large answer stays reserved in the budget until ZeroMQ has sent its
bytes: a client that does not read blocks other large JSON answers, but the server's memory stays bounded.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import NamedTuple

from pydantic import JsonValue

from ...configs.errors import BadInput
from ...messages.data import BlobInfo, BlobMeta
from .. import wire
from ..errors import BadName, BridgeError, NoSuchBlob
from ..frames import Buffer, zmq
from ..store.base import BlobReader, Store
from . import json_protocol
from .json_protocol import (
    BundleParams,
    DestroyParams,
    Params,
    PingParams,
    QueryParams,
    RequestId,
    RetrieveParams,
)
from .memory_budget import MemoryBudget
from .serial_executor import SerialExecutors, StoreJob
from .sessions import ClientSession, SessionTable

MAX_MATCHES = 100_000
SENT_S = 0.01


class BundleResult(NamedTuple):
    """Result of `context_bundle`."""

    tag: str
    stored: int
    """Blobs."""


Assimilate = Callable[[Sequence[str], str, str], Awaitable[BundleResult]]
"""Reads what URIs name and stores it: `assimilate(sources, tag, format)`. Raises AgentFactoryError."""
DestroyTags = Callable[[Sequence[str]], Awaitable[int]]
"""Removes tags from the store, and from the caches in front of it; how many blobs. Raises the same."""


class PendingJsonReply:
    """One JSON request, until it is answered."""

    __slots__ = ("delimiter", "request_id", "reserved", "session")

    def __init__(self, session: ClientSession, request_id: RequestId, delimiter: bool) -> None:
        self.session = session
        self.request_id = request_id
        self.delimiter = delimiter
        self.reserved = 0


class JsonApi:
    """Handles JSON requests."""

    def __init__(
        self,
        sessions: SessionTable,
        executors: SerialExecutors,
        budget: MemoryBudget,
        store: Store,
        assimilate: Assimilate,
        destroy: DestroyTags | None,
        max_message: int,
    ) -> None:
        self._sessions = sessions
        self._executors = executors
        self._budget = budget
        self._store = store
        self._assimilate = assimilate
        self._destroy_tags = destroy
        self._max_message = max_message
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent: deque[tuple[zmq.MessageTracker, int]] = deque()

    def receive(self, client: bytes, frames: list[Buffer], delimiter: bool) -> None:
        """One message."""
        request_id = RequestId()
        try:
            if len(frames) != 1 or len(frames[0]) > self._max_message:
                raise json_protocol.MalformedRequest(
                    f"a request is one frame of at most {self._max_message} bytes; this one has "
                    f"{len(frames)} frames and {sum(map(len, frames))} bytes"
                )
            request_id, params = json_protocol.parse(frames[0])
            if isinstance(params, json_protocol.MalformedRequest):
                raise params
            if self._sessions.draining:
                raise wire.Closing("this bridge is about to end")
            pending = PendingJsonReply(self._sessions.begin(client), request_id, delimiter)
        except BridgeError as error:
            self._sessions.note(error)
            self._sessions.router.send_plain(client, json_protocol.failure(request_id, error), delimiter)
            return
        self._sessions.counters.bytes_in += len(frames[0])
        self._begin(pending, params)

    def _release_sent(self) -> None:
        """Give back what has been sent; ZeroMQ tells nobody, so it is asked while there is any."""
        for _ in range(len(self._unsent)):
            tracker, size = self._unsent.popleft()
            if tracker.done:
                self._budget.release(size)
            else:
                self._unsent.append((tracker, size))
        if self._unsent:
            self._executors.loop.call_later(SENT_S, self._release_sent)

    async def aclose(self) -> None:
        """Cancel what has no other end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, pending: PendingJsonReply, params: Params) -> None:
        failed = partial(self._fail, pending)
        match params:
            case PingParams():
                self._answer(pending, "pong")
            case BundleParams():
                self._do(pending, self._bundle(pending, params))
            case QueryParams():
                work = partial(find, self._store, params.tag_pattern, params.blob_pattern)
                done = partial(self._matched, pending)
                self._executors.new_executor().submit(StoreJob(work, done, failed))
            case RetrieveParams():
                self._retrieve(pending, params)
            case DestroyParams() if self._destroy_tags is not None:
                destroying = self._destroy_tags(params.all_tags)
                self._do(pending, self._destroy(pending, params, destroying))
            case DestroyParams():
                destroy = partial(self._store.destroy, params.all_tags)
                self._executors.new_executor().submit(
                    StoreJob(destroy, partial(self._destroyed, pending, params), failed)
                )

    def _do(self, pending: PendingJsonReply, work: Coroutine[None, None, None]) -> None:
        """Do what is not the store's work alone."""
        task = asyncio.create_task(self._answered(pending, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answered(self, pending: PendingJsonReply, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # the client is owed an answer whatever a resolver does
            self._fail(pending, error)
        except asyncio.CancelledError:
            self._fail(pending, wire.Closing("this bridge has ended before it was done"))
            raise

    async def _bundle(self, pending: PendingJsonReply, asked: BundleParams) -> None:
        bundled = await self._assimilate(asked.sources, asked.dst, asked.format)
        self._answer(pending, {"status": "ok", "tag": bundled.tag, "stored": bundled.stored})

    async def _destroy(
        self, pending: PendingJsonReply, asked: DestroyParams, destroying: Awaitable[int]
    ) -> None:
        self._destroyed(pending, asked, await destroying)

    def _matched(self, pending: PendingJsonReply, infos: list[BlobInfo]) -> None:
        self._answer(pending, json_protocol.matches(infos))

    def _destroyed(self, pending: PendingJsonReply, asked: DestroyParams, blobs: int) -> None:
        self._answer(pending, json_protocol.destroyed(asked.all_tags, blobs))

    def _retrieve(self, pending: PendingJsonReply, asked: RetrieveParams) -> None:
        def absent(error: Exception) -> None:
            if isinstance(error, NoSuchBlob):
                self._send(pending, json_protocol.blob(pending.request_id, None))
            else:
                self._fail(pending, error)

        work = partial(self._store.open, asked.tag, asked.blob_name)
        job = StoreJob(work, partial(self._opened, pending), absent)
        self._executors.read((asked.tag, asked.blob_name), job)

    def _opened(self, pending: PendingJsonReply, reader: BlobReader) -> None:
        """Reserve the bytes and their base64, then read."""
        size = reader.info.size
        needed = min(size + size * 4 // 3, self._budget.total)
        work = partial(encode, reader, pending.request_id, self._max_message)
        job = StoreJob(work, partial(self._send, pending), partial(self._fail, pending))

        def read() -> None:
            pending.reserved = needed
            self._executors.new_executor().submit(job)

        if self._budget.try_acquire(needed):
            read()
        else:
            self._budget.acquire_later(needed, read)

    def _answer(self, pending: PendingJsonReply, value: JsonValue) -> None:
        self._send(pending, json_protocol.result(pending.request_id, value))

    def _fail(self, pending: PendingJsonReply, error: Exception) -> None:
        self._sessions.note(error)
        self._send(pending, json_protocol.failure(pending.request_id, error))

    def _send(self, pending: PendingJsonReply, reply: bytes) -> None:
        self._sessions.counters.bytes_out += len(reply)
        tracker = self._sessions.router.send_plain(pending.session.identity, reply, pending.delimiter)
        if tracker is None or not pending.reserved:
            self._budget.release(pending.reserved)
        else:
            self._unsent.append((tracker, pending.reserved))
            if len(self._unsent) == 1:
                self._executors.loop.call_later(SENT_S, self._release_sent)
        self._sessions.end(pending.session)


def find(store: Store, tag_pattern: str, name_pattern: str) -> list[BlobInfo]:
    """All that match. Blocks. Raises BadInput if they are too many for one answer."""
    found: list[BlobInfo] = []
    after = ""
    while True:
        page = store.list(tag_pattern, name_pattern, after)
        found.extend(page.blobs)
        if len(found) > MAX_MATCHES:
            raise BadInput(f"more than {MAX_MATCHES} blobs match {tag_pattern!r}: ask for fewer")
        if not page.next:
            return found
        after = page.next


def encode(reader: BlobReader, request_id: RequestId, limit: int) -> bytes:
    """A blob as the reply that carries it. Blocks. Closes the reader."""
    try:
        if reader.info.size > limit:
            raise BadInput(
                f"{reader.info.name!r} has {reader.info.size} bytes, a JSON answer at most {limit}: "
                "use the streaming client"
            )
        return json_protocol.blob(request_id, reader.read(0, reader.info.size))
    finally:
        reader.close()


async def assimilate_text(store: Store, sources: Sequence[str], tag: str, format: str) -> BundleResult:
    """The least resolver: `string::text` becomes the blob `string-0` and so on. Raises BadName."""
    texts = [source.removeprefix("string::") for source in sources if source.startswith("string::")]
    if len(texts) != len(sources):
        raise BadInput("this bridge has no resolver: it takes `string::text` only")

    def put_all() -> None:
        for number, text in enumerate(texts):
            writer = store.put(
                tag, f"string-{number}", BlobMeta(content_type="text/plain", source="string::")
            )
            writer.write(text.encode())
            writer.commit()

    if not tag:
        raise BadName("`dst` names no tag")
    await asyncio.to_thread(put_all)
    return BundleResult(tag, len(texts))
