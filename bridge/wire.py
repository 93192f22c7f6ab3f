"""The binary dialect between the bridge and our client.

A message is a fixed header, the operation's words (JSON of the models below) and a body of raw bytes;
nothing is base64. A large body is a frame of its own, after that of its header. Small messages that are
sent at the same time travel in one frame, one after another.

A value of at most `INLINE_BYTES` travels inside its request or reply. A larger one is a stream:

    put  PUT_OPEN ->   <- CREDIT n   CHUNK.. ->   <- CREDIT 1..   END ->   <- REPLY info
    get  GET (credit n) ->   <- CHUNK info..   CREDIT 1.. ->   <- CHUNK (LAST)   CREDIT 1 ->

Invariants:
  - whoever sends chunks has been granted every one of them, so no side buffers more of one stream than
    the window: `window_chunks` pieces of `chunk_kb`;
  - every request gets one REPLY, ERROR or stream; either side may end a stream with ABORT or ERROR;
  - what cannot be decoded is a BadFrames, which names what was wrong.
"""

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from ..configs.errors import BadInput
from ..messages.base import Message
from ..messages.blobs import BlobMatch, BlobMeta
from .cache.base import CacheUnavailable
from .errors import BadName, BlobDamaged, BridgeError, NoSuchBlob, StoreError, StoreFull, URIResolveError
from .frames import MAX_COALESCED, SEPARATE_FRAME_BYTES, Buffer, Packet

MAGIC = b"\xaaFWB"
VERSION = 1
INLINE_BYTES = 64 << 10
"""Larger values are streams, so that every byte beyond this has been granted before it is sent."""

_HEADER = struct.Struct("!4sBBHQIQ")
"""Magic, version, kind, flags, correlation, bytes of words, bytes of body."""
BODY_IN_NEXT_FRAME = 1
"""The body is the next frame; else it follows the words in this one."""
LAST_CHUNK = 2
"""The last chunk of a get."""


class MessageKind(IntEnum):
    """What a message is."""

    HELLO = 1
    PING = 2
    PUT = 3
    PUT_OPEN = 4
    GET = 5
    STAT = 6
    LIST = 7
    DELETE = 8
    DESTROY = 9
    STATISTICS = 10
    CACHE = 11
    SEARCH = 12
    CHUNK = 32
    END = 33
    CREDIT = 34
    ABORT = 35
    KEEPALIVE = 36
    REPLY = 64
    ERROR = 65


_KINDS = {int(kind): kind for kind in MessageKind}


class BadFrames(BridgeError):
    """Frames that are not a message of this dialect."""

    correlation = 0
    """Of that message, where it can be told."""


class Busy(BridgeError):
    """The bridge holds as much of this client's, or of everybody's, as it will. Nothing was done."""


class Closing(BridgeError):
    """The bridge is about to end and takes no more requests. Nothing was done."""


class Header(NamedTuple):
    """A message without its body."""

    kind: MessageKind
    flags: int
    correlation: int
    words: bytes


class HelloRequest(Message):
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


class PutRequest(Message):
    """Of PUT and PUT_OPEN."""

    tag: str
    name: str
    put_id: str = Field(max_length=64)
    """Names this put: sent again under the same name, it is done once."""
    meta: BlobMeta = BlobMeta()
    size: int = Field(default=-1, ge=-1)
    """Bytes to come; -1 where the sender does not know."""


class GetRequest(Message):
    """Of GET."""

    tag: str
    name: str
    credit: int = Field(default=1, ge=1, le=1 << 16)
    """Chunks that the receiver has room for."""
    offset: int = Field(default=0, ge=0)
    version: str = ""
    """With an offset: the version that the first part was of."""


class StatRequest(Message):
    """Of STAT."""

    tag: str
    name: str


class ListRequest(Message):
    """Of LIST."""

    tag_pattern: str
    name_pattern: str = "*"
    after: str = ""
    limit: int = Field(default=1000, ge=1, le=10_000)


class SearchRequest(Message):
    """Of SEARCH."""

    tag: str
    words: str
    k: int = Field(default=10, ge=1, le=100)


class SearchReply(Message):
    """What the store's own search found, the best first; None if this store has no search."""

    matches: tuple[BlobMatch, ...] | None


class DeleteRequest(Message):
    """Of DELETE."""

    tag: str
    names: tuple[str, ...]


class DestroyRequest(Message):
    """Of DESTROY."""

    tags: tuple[str, ...]


class CountReply(Message):
    """How many blobs there were."""

    count: int


class CacheRequest(Message):
    """Of CACHE; the value to store is the body."""

    word: Literal["get", "get_many", "lengths", "gets", "set", "add", "compare_and_set", "delete", "flush"]
    keys: tuple[str, ...] = Field(default=(), max_length=1000)
    """One; any number for `get_many` and `lengths`; none for `flush`."""
    ttl_s: int = Field(default=0, ge=0)
    token: int = 0


class CacheReply(Message):
    """The answer of a cache word; the values found are the body, one after another."""

    sizes: tuple[int, ...] = ()
    """Of each key's value; -1 where there is none."""
    token: int = 0
    stored: bool = False
    refused: str = ""
    """Why the cache, which is well, does not take this item."""


class ChunkCredit(Message):
    """So many chunks more may be sent."""

    chunks: int = Field(ge=1, le=1 << 16)


class KeepAlive(Message):
    """Streams that their client still wants."""

    streams: tuple[int, ...] = Field(max_length=1 << 16)


class ServerStatistics(Message):
    """What a bridge says of itself."""

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
    """Of ERROR."""

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

MessageT = TypeVar("WordsT", bound=Message)


def encode_json(words: Message) -> bytes:
    """Words as they travel. Raises BadName for text that has no UTF-8."""
    try:
        return words.model_dump_json().encode()
    except ValueError as error:
        raise BadName(f"a tag or a name cannot be written in UTF-8: {error}") from error


def pack(kind: MessageKind, correlation: int, words: Message | None = None, body: Buffer = b"") -> Packet:
    """A message as it travels. Raises BadName."""
    return pack_raw(kind, correlation, b"" if words is None else encode_json(words), body)


def pack_raw(kind: MessageKind, correlation: int, words: bytes, body: Buffer = b"", flags: int = 0) -> Packet:
    """The same for words that are JSON already."""
    size = len(body)
    if size >= SEPARATE_FRAME_BYTES:
        header = _HEADER.pack(MAGIC, VERSION, kind, flags | BODY_IN_NEXT_FRAME, correlation, len(words), size)
        return header + words, body
    header = _HEADER.pack(MAGIC, VERSION, kind, flags, correlation, len(words), size)
    return (b"".join((header, words, body)),)


def unpack(frames: Sequence[Buffer]) -> Iterator[tuple[Header, Buffer]]:
    """The messages, with their bodies, in frames that came together, one by one.

    Raises BadFrames where the next message cannot be told; what follows it is lost.
    """
    rest = iter(frames)
    room = 2 * MAX_COALESCED
    for frame in rest:
        data, at = bytes(frame), 0
        while at < len(data) or not data:
            try:
                if not room:
                    raise BadFrames(f"more than {2 * MAX_COALESCED} messages came together")
                head, body, end = _message(data, at, rest)
            except BadFrames as error:
                if len(data) - at >= _HEADER.size:
                    error.correlation = _HEADER.unpack_from(data, at)[4]
                raise
            yield head, body
            at = end
            room -= 1


def _message(data: bytes, at: int, rest: Iterator[Buffer]) -> tuple[Header, Buffer, int]:
    """The message that begins there, its body, and where the next begins."""
    head, begin, size = _header(data, at)
    end = begin
    body: Buffer | None
    if head.flags & BODY_IN_NEXT_FRAME:
        body = next(rest, None)
        if body is None or begin < len(data):
            raise BadFrames("the header promises a frame for the body, there is none")
    else:
        end = begin + size
        body = data[begin:end]
    if len(body) != size:
        raise BadFrames(f"the header promises a body of {size} bytes, there are {len(body)}")
    return head, body, end


def _header(data: bytes, at: int) -> tuple[Header, int, int]:
    """The message's head, where it ends, and how many bytes its body has."""
    if len(data) - at < _HEADER.size:
        raise BadFrames(f"a header has {_HEADER.size} bytes, there are {len(data) - at}")
    magic, version, number, flags, correlation, words_size, body_size = _HEADER.unpack_from(data, at)
    if magic != MAGIC:
        raise BadFrames("the header does not begin with this dialect's magic")
    if version != VERSION:
        raise BadFrames(
            f"version {version} of the dialect; this side speaks {VERSION}: use one release on both"
        )
    kind = _KINDS.get(number)
    if kind is None:
        raise BadFrames(f"unknown kind of message {number}")
    begin = at + _HEADER.size
    end = begin + words_size
    if end > len(data):
        raise BadFrames(f"the header promises {words_size} bytes of words, there are {len(data) - begin}")
    return Header(kind, flags, correlation, data[begin:end]), end, body_size


def decode_json(model: type[MessageT], words: bytes) -> MessageT:
    """The words of a message. Raises BadFrames, which names the field."""
    try:
        return model.model_validate_json(words)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadFrames(f"{model.__name__}: {where or 'words'}: {first['msg']}") from error


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
