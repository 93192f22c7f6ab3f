"""The bridge server, assembled, and the process that runs it.

Consumes: messages of both dialects on one ROUTER socket. Produces: answers. Waits for: the store, in
threads. Unblocked by: the store's answers, and credit from clients. As a process (`run`) it writes a
readiness line to stdout and logs to stderr, and drains on SIGTERM.

Invariants:
  - memory is bounded whatever the clients do: values in flight are at most `buffer_mb` (`MemoryBudget`),
    plus what ZeroMQ holds: at most `RECEIVE_HWM` unread messages and, for each client that does not read
    its answers, `send_hwm` answers of at most `wire.INLINE_BYTES`;
  - the streams of a client whose connection is lost are aborted within two ticks, those of one that is
    silent after a lease;
  - at the end what is in flight gets `drain_s`, new requests are refused, and the store is closed last.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from types import TracebackType

import structlog

from ...configs.errors import BadInput
from .. import wire
from ..cache.base import CacheBackend
from ..frames import AsyncioAuthenticator, MessageKind, pack_message, zmq
from ..store.base import Store
from .binary_api import BinaryApi
from .curve import check_endpoint, configure_curve, server_secret
from .json_api import Assimilate, DestroyTags, JsonApi, assimilate_text
from .memory_budget import MemoryBudget
from .serial_executor import SerialExecutors
from .sessions import RouterSocket, SessionTable
from .settings import ServerSettings
from .streams import StreamConfig

log = structlog.get_logger("bridge")

RECEIVE_HWM = 512
HEARTBEAT_MS = 2000
TICK_S = 0.25
LINGER_MS = 1000
STORE_S = 20.0
"""At the end: for the store's calls that are under way."""
PROBE = pack_message(MessageKind.KEEPALIVE, 0)


class BridgeServer:
    """Serves one store. `async with` starts it, and ends it in good order."""

    def __init__(
        self,
        settings: ServerSettings,
        store: Store,
        assimilate: Assimilate | None = None,
        cache: CacheBackend | None = None,
        destroy: DestroyTags | None = None,
    ) -> None:
        self.endpoint = ""
        """Where it listens, once it does."""
        self._settings = settings
        self._store = store
        self._assimilate = assimilate or partial(assimilate_text, store)
        self._destroy = destroy
        self._cache = cache
        self._sessions = SessionTable(settings.bridge.max_in_flight)
        self._budget = MemoryBudget(max(settings.buffer_mb << 20, 4 * settings.bridge.chunk_kb << 10))
        self._authenticator: AsyncioAuthenticator | None = None
        self._executors: SerialExecutors
        self._binary: BinaryApi
        self._json: JsonApi
        self._context: zmq.Context[zmq.Socket[bytes]]
        self._tick_timer: asyncio.TimerHandle

    def __repr__(self) -> str:
        return (
            f"<BridgeServer {self.endpoint or 'not started'}: {len(self._sessions)} clients, {self._budget}>"
        )

    async def __aenter__(self) -> "BridgeServer":
        try:
            self.start()
        except BaseException:
            self._store.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def start(self) -> None:
        """Listen. Raises BadInput for an address or a key that cannot be used."""
        bridge = self._settings.bridge
        secret = server_secret(self._settings)
        check_endpoint(self._settings.endpoint, encrypted=bool(secret))
        self._context = zmq.Context()
        socket = self._bind(secret)
        self.endpoint = socket.get_string(zmq.LAST_ENDPOINT)
        self._executors = SerialExecutors(
            asyncio.get_running_loop(), self._settings.threads, self._store.put_threads
        )
        config = StreamConfig(self._executors, self._budget, bridge.chunk_kb << 10, bridge.window_chunks)
        self._binary = BinaryApi(
            self._sessions, config, self._store, self._cache, self._settings.lease_s, self.statistics
        )
        limit = bridge.max_message_mb << 20
        self._json = JsonApi(
            self._sessions, self._executors, self._budget, self._store, self._assimilate, self._destroy, limit
        )
        self._sessions.router = RouterSocket(
            socket, self._binary.receive, self._json.receive, self._sessions.lost
        )
        self._tick()
        log.info("the bridge listens", endpoint=self.endpoint, store=self._store.kind, curve=bool(secret))

    async def aclose(self) -> None:
        """Finish what is under way, refuse what comes, and let go of the store."""
        if self._sessions.draining:
            return
        self._sessions.draining = True
        await self._drain()
        for stream in self._sessions.streams():
            stream.abort()
        await self._json.aclose()
        await self._binary.aclose()
        self._tick_timer.cancel()
        quiet = await self._executors.aclose(STORE_S)
        self._sessions.router.close(LINGER_MS)
        if self._authenticator is not None:
            self._authenticator.stop()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._context.term)
        if quiet:
            await loop.run_in_executor(None, self._store.close)
        log.info("the bridge has ended", **self.statistics().model_dump(exclude={"store", "cache"}))

    def statistics(self) -> wire.ServerStatistics:
        """Statistics of this server."""
        counters = self._sessions.counters
        return wire.ServerStatistics(
            pid=os.getpid(),
            uptime_s=time.monotonic() - counters.started_at,
            store=self._store.kind,
            cache=self._cache.name if self._cache else "",
            requests=counters.requests,
            errors=counters.errors,
            bytes_in=counters.bytes_in,
            bytes_out=counters.bytes_out,
            clients=len(self._sessions),
            in_flight=self._sessions.in_flight,
            streams=len(self._sessions.streams()),
            buffered_bytes=self._budget.used,
            lost_replies=self._sessions.router.lost_replies,
            draining=self._sessions.draining,
        )

    def _bind(self, secret: bytes) -> zmq.Socket[bytes]:
        bridge = self._settings.bridge
        socket = self._context.socket(zmq.ROUTER)
        socket.router_mandatory = True
        socket.rcvhwm = RECEIVE_HWM
        # Never reached by a client that reads: all its requests, and a full window of each.
        socket.sndhwm = bridge.max_in_flight * (bridge.window_chunks + 1)
        socket.maxmsgsize = (bridge.max_message_mb << 20) * 2  # beyond, the connection is cut
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = 5 * HEARTBEAT_MS
        try:
            if secret:
                allowed = self._settings.allowed_clients
                self._authenticator = configure_curve(self._context, socket, secret, allowed)
            socket.bind(self._settings.endpoint)
        except (zmq.ZMQError, BadInput) as error:
            socket.close(linger=0)
            self._context.term()
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"{self._settings.endpoint}: the bridge cannot listen there ({error})") from error
        return socket

    def _tick(self) -> None:
        """Abort what was abandoned.

        ZeroMQ tells of a lost connection only to who sends over it: so each client with streams is sent to.
        """
        for client in self._sessions.with_streams():
            self._sessions.router.send(client, PROBE)
        silent_since = time.monotonic() - self._settings.lease_s
        for stream in self._sessions.streams():
            if stream.heard_at < silent_since:
                log.warning("a stream was abandoned by its client")
                stream.abort()
        self._tick_timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    async def _drain(self) -> None:
        """Wait until nothing is under way, at most `drain_s`."""
        idle = asyncio.Event()
        self._sessions.idle = idle.set
        if len(self._sessions):
            with suppress(TimeoutError):
                await asyncio.wait_for(idle.wait(), self._settings.drain_s)


SWITCH_S = 0.0005
"""How long a thread of the store may keep the interpreter from the loop."""
YOUNG_OBJECTS = 20_000
"""Made before the youngest are searched for cycles: with Python's 700 that is a quarter of a put."""


def run(
    settings: ServerSettings,
    store: Store,
    assimilate: Assimilate | None = None,
    cache: CacheBackend | None = None,
    destroy: DestroyTags | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises BadInput for an address or a key that cannot be used."""
    configure_logging()
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what was imported stays
    gc.set_threshold(YOUNG_OBJECTS)
    asyncio.run(_serve(BridgeServer(settings, store, assimilate, cache, destroy)))


def configure_logging() -> None:
    """JSON lines on stderr."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


async def _serve(server: BridgeServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with server:
        line = {"event": "ready", "endpoint": server.endpoint, "pid": os.getpid()}
        print(json.dumps(line), flush=True)
        await stop.wait()
