"""Answers the requests of the JSON dialect (`bridge.json_dialect`).

A client of this dialect gives no credit, so a large answer is reserved in the budget until ZeroMQ has let
go of its bytes; who does not read them keeps others from large JSON answers, but not the server's memory
from staying where it is.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import NamedTuple

from pydantic import JsonValue

from ...configs.errors import BadInput
from ...messages.blobs import BlobInfo, BlobMeta
from .. import json_dialect, wire
from ..errors import BadName, BridgeError, NoSuchBlob
from ..frames import Buffer
from ..json_dialect import Bundle, Destroy, Params, Ping, Query, Retrieve, Token
from ..store.base import BlobReader, Store
from ..zeromq import zmq
from .budget import Budget
from .lanes import Job, Lanes
from .peers import Peer, Peers

MAX_MATCHES = 100_000
SENT_S = 0.01


class Bundled(NamedTuple):
    """What `context_bundle` did."""

    tag: str
    stored: int
    """Blobs."""


Assimilate = Callable[[Sequence[str], str, str], Awaitable[Bundled]]
"""Reads what URIs name and stores it: `assimilate(sources, tag, format)`. Raises AgentFactoryError."""
DestroyTags = Callable[[Sequence[str]], Awaitable[int]]
"""Removes tags from the store, and from the caches in front of it; how many blobs. Raises the same."""


class PlainTicket:
    """One JSON request, until it is answered."""

    __slots__ = ("delimiter", "peer", "reserved", "token")

    def __init__(self, peer: Peer, token: Token, delimiter: bool) -> None:
        self.peer = peer
        self.token = token
        self.delimiter = delimiter
        self.reserved = 0


class Plain:
    """Takes JSON requests."""

    def __init__(
        self,
        peers: Peers,
        lanes: Lanes,
        budget: Budget,
        store: Store,
        assimilate: Assimilate,
        destroy: DestroyTags | None,
        max_message: int,
    ) -> None:
        self._peers = peers
        self._lanes = lanes
        self._budget = budget
        self._store = store
        self._assimilate = assimilate
        self._destroy_tags = destroy
        self._max_message = max_message
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent: deque[tuple[zmq.MessageTracker, int]] = deque()

    def receive(self, client: bytes, frames: list[Buffer], delimiter: bool, draining: bool) -> None:
        """One message."""
        token = Token()
        try:
            if len(frames) != 1 or len(frames[0]) > self._max_message:
                raise json_dialect.BadRequest(
                    f"a request is one frame of at most {self._max_message} bytes; this one has "
                    f"{len(frames)} frames and {sum(map(len, frames))} bytes"
                )
            token, params = json_dialect.parse(frames[0])
            if isinstance(params, json_dialect.BadRequest):
                raise params
            if draining:
                raise wire.Closing("this bridge is about to end")
            ticket = PlainTicket(self._peers.begin(client), token, delimiter)
        except BridgeError as error:
            self._peers.note(error)
            self._peers.router.send_plain(client, json_dialect.failure(token, error), delimiter)
            return
        self._peers.counters.bytes_in += len(frames[0])
        self._begin(ticket, params)

    def _release_sent(self) -> None:
        """Give back what has been sent; ZeroMQ tells nobody, so it is asked while there is any."""
        for _ in range(len(self._unsent)):
            tracker, size = self._unsent.popleft()
            if tracker.done:
                self._budget.give_back(size)
            else:
                self._unsent.append((tracker, size))
        if self._unsent:
            self._lanes.loop.call_later(SENT_S, self._release_sent)

    async def aclose(self) -> None:
        """Cancel what has no other end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, ticket: PlainTicket, params: Params) -> None:
        failed = partial(self._fail, ticket)
        match params:
            case Ping():
                self._answer(ticket, "pong")
            case Bundle():
                self._do(ticket, self._bundle(ticket, params))
            case Query():
                work = partial(find, self._store, params.tag_pattern, params.blob_pattern)
                done = partial(self._matched, ticket)
                self._lanes.lane().submit(Job(work, done, failed))
            case Retrieve():
                self._retrieve(ticket, params)
            case Destroy() if self._destroy_tags is not None:
                destroying = self._destroy_tags(params.all_tags)
                self._do(ticket, self._destroy(ticket, params, destroying))
            case Destroy():
                destroy = partial(self._store.destroy, params.all_tags)
                self._lanes.lane().submit(Job(destroy, partial(self._destroyed, ticket, params), failed))

    def _do(self, ticket: PlainTicket, work: Coroutine[None, None, None]) -> None:
        """Do what is not the store's work alone."""
        task = asyncio.create_task(self._answered(ticket, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answered(self, ticket: PlainTicket, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # the client is owed an answer whatever a resolver does
            self._fail(ticket, error)
        except asyncio.CancelledError:
            self._fail(ticket, wire.Closing("this bridge has ended before it was done"))
            raise

    async def _bundle(self, ticket: PlainTicket, asked: Bundle) -> None:
        bundled = await self._assimilate(asked.sources, asked.dst, asked.format)
        self._answer(ticket, {"status": "ok", "tag": bundled.tag, "stored": bundled.stored})

    async def _destroy(self, ticket: PlainTicket, asked: Destroy, destroying: Awaitable[int]) -> None:
        self._destroyed(ticket, asked, await destroying)

    def _matched(self, ticket: PlainTicket, infos: list[BlobInfo]) -> None:
        self._answer(ticket, json_dialect.matches(infos))

    def _destroyed(self, ticket: PlainTicket, asked: Destroy, blobs: int) -> None:
        self._answer(ticket, json_dialect.destroyed(asked.all_tags, blobs))

    def _retrieve(self, ticket: PlainTicket, asked: Retrieve) -> None:
        def absent(error: Exception) -> None:
            if isinstance(error, NoSuchBlob):
                self._send(ticket, json_dialect.blob(ticket.token, None))
            else:
                self._fail(ticket, error)

        work = partial(self._store.open, asked.tag, asked.blob_name)
        job = Job(work, partial(self._opened, ticket), absent)
        self._lanes.read((asked.tag, asked.blob_name), job)

    def _opened(self, ticket: PlainTicket, reader: BlobReader) -> None:
        """Reserve the bytes and their base64, then read."""
        size = reader.info.size
        needed = min(size + size * 4 // 3, self._budget.total)
        work = partial(encode, reader, ticket.token, self._max_message)
        job = Job(work, partial(self._send, ticket), partial(self._fail, ticket))

        def read() -> None:
            ticket.reserved = needed
            self._lanes.lane().submit(job)

        if self._budget.take_now(needed):
            read()
        else:
            self._budget.line_up(needed, read)

    def _answer(self, ticket: PlainTicket, value: JsonValue) -> None:
        self._send(ticket, json_dialect.result(ticket.token, value))

    def _fail(self, ticket: PlainTicket, error: Exception) -> None:
        self._peers.note(error)
        self._send(ticket, json_dialect.failure(ticket.token, error))

    def _send(self, ticket: PlainTicket, reply: bytes) -> None:
        self._peers.counters.bytes_out += len(reply)
        tracker = self._peers.router.send_plain(ticket.peer.identity, reply, ticket.delimiter)
        if tracker is None or not ticket.reserved:
            self._budget.give_back(ticket.reserved)
        else:
            self._unsent.append((tracker, ticket.reserved))
            if len(self._unsent) == 1:
                self._lanes.loop.call_later(SENT_S, self._release_sent)
        self._peers.end(ticket.peer)


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


def encode(reader: BlobReader, token: Token, limit: int) -> bytes:
    """A blob as the reply that carries it. Blocks. Closes the reader."""
    try:
        if reader.info.size > limit:
            raise BadInput(
                f"{reader.info.name!r} has {reader.info.size} bytes, a JSON answer at most {limit}: "
                "use the streaming client"
            )
        return json_dialect.blob(token, reader.read(0, reader.info.size))
    finally:
        reader.close()


async def assimilate_text(store: Store, sources: Sequence[str], tag: str, format: str) -> Bundled:
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
    return Bundled(tag, len(texts))
