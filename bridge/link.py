"""The client's end of one endpoint: a DEALER socket, and whether a bridge answers there.

    connecting --- the bridge says Welcome ---> up --- disconnected, or silent ---> connecting

Invariants:
  - a link that lost its bridge gets a new socket, so nothing that was queued for the old one is ever sent;
  - every message that had arrived is handed on before the loss is told;
  - a link never gives up: it connects anew until it is closed. ZeroMQ's heartbeats find a peer that hangs.
"""

import asyncio
from typing import Protocol

import structlog

from . import wire
from .frames import EAGER, Buffer, Packed, receive, send_all
from .zeromq import recv_monitor_message, zmq

log = structlog.get_logger("bridge")

TURN = 64
"""Messages that are read before others of the loop have their turn."""
RETRY_S = 0.2
"""Before a bridge that was lost is tried again."""
HEARTBEAT_MS = 1000
_LOST: dict[int, str] = {
    zmq.EVENT_DISCONNECTED: "the connection broke",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the handshake failed: is that a bridge, with the same security?",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the bridge does not accept this client's key",
}


class Keys:
    """The CURVE keys of a client; all empty where nothing is encrypted."""

    def __init__(self, server: str, secret: str) -> None:
        self.server = server.encode()
        self._secret = secret.strip().encode()

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Encrypt what goes over a socket that is not connected yet."""
        if not self.server:
            return
        secret = self._secret or zmq.curve_keypair()[1]
        socket.curve_serverkey = self.server
        socket.curve_secretkey = secret
        socket.curve_publickey = zmq.curve_public(secret)


class Owner(Protocol):
    """Who hears of what happens."""

    def on_message(self, link: "Link", head: wire.Head, body: Buffer) -> None:
        """A message about a request or a stream."""

    def on_tried(self, link: "Link") -> None:
        """Nobody listens there, for now."""

    def on_up(self, link: "Link") -> None:
        """Requests can be sent."""

    def on_down(self, link: "Link") -> None:
        """What was under way is lost; `link.why` says why."""


class Link:
    """One endpoint."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, name: str, keys: Keys, owner: Owner
    ) -> None:
        self.endpoint = endpoint
        self.why = "no answer yet"
        self.welcome: wire.Welcome | None = None
        """What the bridge said when it came up; None while it is down."""
        self.tried = False
        """Whether it is known if a bridge answers there."""
        self.in_flight = 0
        self.heard_at = 0.0
        """By the loop's clock."""
        self._context = context
        self._name = name
        self._keys = keys
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._outbox: list[Packed] = []
        self._retired = False
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._connect()

    def __repr__(self) -> str:
        state = "up" if self.welcome else f"down ({self.why})"
        return f"<Link {self.endpoint}: {state}, {self.in_flight} in flight>"

    @property
    def has_room(self) -> bool:
        """Whether a request can be sent now."""
        return self.welcome is not None and not self._retired and self.in_flight < self.welcome.max_in_flight

    def send(self, message: Packed) -> None:
        """Send a message, with others of this turn of the loop.

        Never waits: credit and `max_in_flight` bound what is queued. To a bridge that was lost nothing is
        sent; whoever waits for the answer hears of the loss.
        """
        if self._socket is not None:
            self._outbox.append(message)
            if len(self._outbox) >= EAGER:
                self._flush()
            self._schedule()

    def retire(self) -> None:
        """Send no more requests; what is under way goes on until the bridge is gone."""
        self._retired = True

    def lose(self, why: str, retry_s: float = RETRY_S) -> None:
        """Take it for dead, and connect anew after a while."""
        was_up = self.welcome is not None
        self.close()
        self.why = why
        self._retry = self._loop.call_later(retry_s, self._connect)
        if was_up:
            log.warning("a bridge was lost", endpoint=self.endpoint, why=why)
            self._owner.on_down(self)

    def close(self, linger_ms: int = 0) -> None:
        """Let go of the socket; what was sent and has not left has `linger_ms`."""
        self.welcome = None
        self.in_flight = 0
        if linger_ms and self._socket is not None and self._outbox:
            send_all(self._socket, self._outbox)
        self._outbox.clear()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._socket is not None and self._monitor is not None:
            self._loop.remove_reader(self._socket.FD)
            self._loop.remove_reader(self._monitor.FD)
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._socket.close(linger=linger_ms)
        self._socket = self._monitor = None

    def _connect(self) -> None:
        self._retry = None
        self._retired = False
        socket = self._socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 0  # bounded by credit and `max_in_flight`, in both directions
        socket.reconnect_ivl = 50
        socket.reconnect_ivl_max = 1000
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = 5 * HEARTBEAT_MS
        self._keys.apply(socket)
        monitor = self._monitor = socket.get_monitor_socket(sum(_LOST) | zmq.EVENT_CONNECT_RETRIED)
        socket.connect(self.endpoint)
        self._loop.add_reader(socket.FD, self._read)
        self._loop.add_reader(monitor.FD, self._watch)
        self._loop.call_soon(self._watch)
        self.send(wire.pack(wire.Kind.HELLO, 0, wire.Hello(client=self._name)))

    def _watch(self) -> None:
        """Hear of a broken connection."""
        while self._monitor is not None:
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return
            if event["event"] == zmq.EVENT_CONNECT_RETRIED and not self.tried:
                self.tried = True
                self._owner.on_tried(self)
            why = _LOST.get(event["event"])
            if why is not None:
                self._read_all()
                self.lose(why)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._scheduled = False
        self._flush()
        self._read()  # the descriptor may have told of what came to the send only

    def _flush(self) -> None:
        if self._socket is not None and self._outbox:
            outbox, self._outbox = self._outbox, []
            send_all(self._socket, outbox)

    def _read(self) -> None:
        """All that has come, or the first `TURN` of it."""
        for _ in range(TURN):
            if not self._read_one():
                return
        self._schedule()

    def _read_all(self) -> None:
        while self._read_one():
            pass

    def _read_one(self) -> bool:
        if self._socket is None:
            return False
        try:
            frames = receive(self._socket)
        except zmq.Again:
            return False
        self.heard_at = self._loop.time()
        try:
            for head, body in wire.unpack(frames):
                self._handle(head, body)
                if self._socket is None:
                    break
        except wire.BadFrames as error:
            self.lose(f"it does not speak this dialect: {error}", 1.0)
        return True

    def _handle(self, head: wire.Head, body: Buffer) -> None:
        if head.correlation:
            self._owner.on_message(self, head, body)
        elif head.kind is wire.Kind.REPLY:
            self.welcome = wire.read_words(wire.Welcome, head.words)
            self.tried = True
            self._owner.on_up(self)
        elif head.kind is wire.Kind.ERROR:
            self.lose(str(wire.error_of(head.words)), 1.0)
