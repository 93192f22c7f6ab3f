"""Who asks, and what they are owed.

Invariants:
  - a client is known only while something of it is under way, so clients that come and go leave nothing;
  - no client has more than `max_in_flight` requests under way: the next is refused with Busy;
  - each request is answered once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from ...configs.errors import AgentFactoryError
from ...messages.base import Message
from .. import wire
from ..cache.base import CacheUnavailable
from ..frames import Buffer
from .budget import Budget
from .router import Router

log = structlog.get_logger("bridge")


class Stream(Protocol):
    """A value on its way, in pieces."""

    heard_at: float
    """By `time.monotonic()`: when its client last showed that it wants it."""

    def abort(self) -> None:
        """Forget it, and tell nobody."""


@dataclass(slots=True)
class Peer:
    """A client with something under way."""

    identity: bytes
    in_flight: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)


@dataclass(slots=True)
class Counters:
    """What `statistics` reports."""

    requests: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    started_at: float = field(default_factory=time.monotonic)


class Peers:
    """All clients with something under way."""

    def __init__(self, max_in_flight: int) -> None:
        self.counters = Counters()
        self.max_in_flight = max_in_flight
        self.router: Router
        self.idle: Callable[[], None] = lambda: None
        """Called when nothing is under way any more."""
        self._known: dict[bytes, Peer] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def in_flight(self) -> int:
        """Requests under way, of all."""
        return sum(peer.in_flight for peer in self._known.values())

    def streams(self) -> list[Stream]:
        """All that are open."""
        return [stream for peer in self._known.values() for stream in peer.streams.values()]

    def with_streams(self) -> list[bytes]:
        """Clients that have any."""
        return [peer.identity for peer in self._known.values() if peer.streams]

    def stream(self, identity: bytes, correlation: int) -> Stream | None:
        """An open stream of this client."""
        peer = self._known.get(identity)
        return None if peer is None else peer.streams.get(correlation)

    def begin(self, identity: bytes) -> Peer:
        """Count a request in. Raises Busy."""
        self.counters.requests += 1
        peer = self._known.get(identity)
        if peer is None:
            peer = self._known[identity] = Peer(identity)
        if peer.in_flight >= self.max_in_flight:
            raise wire.Busy(f"{peer.in_flight} requests of this client are under way: read the answers first")
        peer.in_flight += 1
        return peer

    def end(self, peer: Peer) -> None:
        """Count it out."""
        peer.in_flight -= 1
        if not peer.in_flight:
            del self._known[peer.identity]
            if not self._known:
                self.idle()

    def lost(self, identity: bytes) -> None:
        """A client is gone: so are its streams."""
        peer = self._known.get(identity)
        for stream in [] if peer is None else list(peer.streams.values()):
            stream.abort()

    def note(self, error: Exception) -> None:
        """Count an error; one that nobody foresaw is written down."""
        self.counters.errors += 1
        if not isinstance(error, AgentFactoryError | CacheUnavailable):
            log.error("a request failed unexpectedly", exc_info=error)


class Ticket:
    """One request of our own dialect, until it is answered."""

    __slots__ = ("_budget", "_held", "_peers", "correlation", "peer")

    def __init__(self, peers: Peers, peer: Peer, correlation: int) -> None:
        self._peers = peers
        self._budget: Budget | None = None
        self._held = 0
        self.peer = peer
        self.correlation = correlation

    def hold(self, budget: Budget, size: int) -> None:
        """Reserve the request's body until the end. Raises Busy."""
        if not budget.squeeze_in(size):
            raise wire.Busy(f"the bridge has no room for {size} bytes more; try again")
        self._budget, self._held = budget, size

    def answer(self, words: Message) -> None:
        """The answer, and the end of the request."""
        self.answer_raw(words.model_dump_json().encode())

    def answer_raw(self, words: bytes, body: Buffer = b"") -> None:
        """The same, with words that are JSON already."""
        self.send(wire.Kind.REPLY, words, body)
        self.end()

    def fail(self, error: Exception) -> None:
        """An error as the answer, and the end of the request."""
        self._peers.note(error)
        self.send(wire.Kind.ERROR, wire.failed(error).model_dump_json().encode())
        self.end()

    def send(self, kind: wire.Kind, words: bytes, body: Buffer = b"", flags: int = 0) -> None:
        """A message about this request, which goes on."""
        self._peers.counters.bytes_out += len(body)
        self._peers.router.send(self.peer.identity, wire.pack_raw(kind, self.correlation, words, body, flags))

    def note(self, error: Exception) -> None:
        """Count an error that the client does not hear of."""
        self._peers.note(error)

    def end(self) -> None:
        """Nothing more is owed."""
        if self._budget is not None:
            self._budget.give_back(self._held)
        self._peers.end(self.peer)
