"""Requests and replies of the binary dialect between the bridge and our client: the JSON part of a message.

A value of at most `INLINE_BYTES` travels inside its request or reply. A larger one is a stream:

    put  PUT_OPEN ->   <- CREDIT n   CHUNK.. ->   <- CREDIT 1..   END ->   <- REPLY info
    get  GET (credit n) ->   <- CHUNK info..   CREDIT 1.. ->   <- CHUNK (LAST)   CREDIT 1 ->

Invariants:
  - flow control: whoever sends chunks has been granted every one of them, so no side buffers more of one
    stream than the window: `window_chunks` pieces of `chunk_kb`;
  - every request gets one REPLY, ERROR or stream; either side may end a stream with ABORT or ERROR.
"""

from typing import Literal

from pydantic import Field

from ..configs.errors import BadInput
from ..messages.base import Message
from ..messages.data import BlobMatch, BlobMeta
from .cache.base import CacheUnavailable
from .errors import BadName, BlobDamaged, BridgeError, NoSuchBlob, StoreError, StoreFull, URIResolveError
from .frames import BadFrames, decode_json

INLINE_BYTES = 64 << 10
"""Larger values are streams, so that every byte beyond this has been granted before it is sent."""


class Busy(BridgeError):
    """The bridge holds as much of this client's, or of everybody's, as it will. Nothing was done."""


class Closing(BridgeError):
    """The bridge is about to end and takes no more requests. Nothing was done."""


# The titles name the models in error texts, which travel: they stay when a class is renamed.


class HelloRequest(Message, title="Hello"):
    """A client's first message."""

    client: str = Field(max_length=64)


class Welcome(Message):
    """The answer: what this bridge expects of its clients."""

    pid: int
    store: str
    store_id: str
    """Of the store behind it: bridges of one store say the same."""
    chunk_bytes: int
    window_chunks: int
    max_in_flight: int
    lease_s: float
    """A stream of which nothing is heard for this long is aborted."""


class PutRequest(Message, title="PutWords"):
    """Parameters of PUT and PUT_OPEN."""

    tag: str
    name: str
    put_id: str = Field(max_length=64)
    """Names this put: sent again under the same name, it is done once."""
    meta: BlobMeta = BlobMeta()
    size: int = Field(default=-1, ge=-1)
    """Bytes to come; -1 where the sender does not know."""


class GetRequest(Message, title="GetWords"):
    """Parameters of GET."""

    tag: str
    name: str
    credit: int = Field(default=1, ge=1, le=1 << 16)
    """Chunks that the receiver has room for."""
    offset: int = Field(default=0, ge=0)
    version: str = ""
    """With an offset: the version that the first part was of."""


class StatRequest(Message, title="NameWords"):
    """Parameters of STAT."""

    tag: str
    name: str


class ListRequest(Message, title="ListWords"):
    """Parameters of LIST."""

    tag_pattern: str
    name_pattern: str = "*"
    after: str = ""
    limit: int = Field(default=1000, ge=1, le=10_000)


class SearchRequest(Message, title="SearchWords"):
    """Parameters of SEARCH."""

    tag: str
    words: str
    k: int = Field(default=10, ge=1, le=100)


class SearchReply(Message):
    """Hits of the store's own search, the best first; None if this store has no search."""

    matches: tuple[BlobMatch, ...] | None


class DeleteRequest(Message, title="DeleteWords"):
    """Parameters of DELETE."""

    tag: str
    names: tuple[str, ...]


class DestroyRequest(Message, title="DestroyWords"):
    """Parameters of DESTROY."""

    tags: tuple[str, ...]


class CountReply(Message):
    """Number of blobs affected."""

    count: int


class CacheRequest(Message, title="CacheWords"):
    """Parameters of CACHE; the value to store is the body."""

    word: Literal["get", "get_many", "lengths", "gets", "set", "add", "compare_and_set", "delete", "flush"]
    keys: tuple[str, ...] = Field(default=(), max_length=1000)
    """One; any number for `get_many` and `lengths`; none for `flush`."""
    ttl_s: int = Field(default=0, ge=0)
    token: int = 0


class CacheReply(Message):
    """Answer of a cache command; the values found are the body, one after another."""

    sizes: tuple[int, ...] = ()
    """Of each key's value; -1 where there is none."""
    token: int = 0
    stored: bool = False
    refused: str = ""
    """Why the cache, which is well, does not take this item."""


class ChunkCredit(Message, title="Credit"):
    """Flow-control credit: so many more chunks may be sent."""

    chunks: int = Field(ge=1, le=1 << 16)


class KeepAlive(Message):
    """Streams that their client still wants."""

    streams: tuple[int, ...] = Field(max_length=1 << 16)


class ServerStatistics(Message):
    """Statistics of a bridge server."""

    pid: int
    uptime_s: float
    store: str
    """Kind of store behind it."""
    cache: str
    """Name of the cache that it serves to processes without one; empty if none."""
    requests: int
    errors: int
    """Requests answered with an error, undecodable ones among them."""
    bytes_in: int
    bytes_out: int
    """Bytes of values, as they travel."""
    clients: int
    """Those with requests under way."""
    in_flight: int
    streams: int
    buffered_bytes: int
    """Reserved for values that are on their way through."""
    lost_replies: int
    """Answers to clients that were gone, or did not read them."""
    draining: bool


class ErrorReply(Message):
    """Content of ERROR."""

    error: str
    """Name of the class."""
    message: str


_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        StoreError, StoreFull, BlobDamaged, NoSuchBlob, BadName, BadInput, URIResolveError,
        BridgeError, BadFrames, Busy, Closing, CacheUnavailable,
    )
}  # fmt: skip


def error_reply(error: Exception) -> ErrorReply:
    """An error as it travels: the nearest class that the other side knows."""
    name = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _ERRORS), "")
    if not name:
        return ErrorReply(error="BridgeError", message=f"the bridge failed at this: {type(error).__name__}")
    return ErrorReply(error=name, message=str(error))


def error_from(words: bytes) -> Exception:
    """The error that an ERROR carries."""
    try:
        said = decode_json(ErrorReply, words)
    except BadFrames as error:
        return error
    return _ERRORS.get(said.error, BridgeError)(said.message)
