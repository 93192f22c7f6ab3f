"""The Ray actor that an actor of ours lives in.

Consumes exchanges and control calls; produces answers; waits for the cell; an exchange is unblocked
by the first answer, by the client's next exchange, or after `port.POLL_S`.
"""

import asyncio
import os
import time
import uuid

import psutil
import structlog

from ...configs.errors import AgentFactoryError
from ..cell import CLOSE_S, Cell, RestartPolicy
from ..local import mark_seen, ready_or_dead
from ..telemetry import LogSettings, Metrics, configure_logging
from ..transport import ProcessStatistics, SpawnSpec
from ..watchdog import LoopWatch
from .failure import Failure
from .link import flush_channels
from .port import Port
from .wire import Batch, Exchanged

log = structlog.get_logger("host")

IDLE_PORT_S = 600.0
MEMORY_LOOK_S = 0.5
FLUSH_S = 1.0
"""Time for the actor's last messages to leave the process before whoever stopped it kills it."""
REPLY_S = 0.05
"""Time for the last answers to do so: their exchanges have been released."""


class ActorHost:
    """Hosts one cell. Ray restarts the process; the cell restarts the actor inside it."""

    def __init__(self, spec: SpawnSpec, logging: LogSettings, stall_s: float) -> None:
        configure_logging(logging, actor=spec.name)
        policy = RestartPolicy(spec.max_restarts, spec.backoff_s, spec.start_timeout_s)
        self._cell = Cell(spec.name, lambda: spec.actor(*spec.args), spec.mailbox, policy)
        self._start_timeout_s = spec.start_timeout_s
        self._metrics = Metrics(spec.name)
        self._ports: dict[str, Port] = {}
        self._watch = LoopWatch(stall_s)
        self._process = psutil.Process()
        self._name = uuid.uuid4().hex
        self._memory_mb = 0
        self._memory_seen_at = 0.0
        self._life: asyncio.Task[None] | None = None

    async def wait_ready(self) -> Failure | None:
        """Return once the actor has started, or with the error if it cannot (Ray would drop its cause)."""
        try:
            await ready_or_dead(self._cell, self._live(), self._start_timeout_s)
        except AgentFactoryError as error:
            return Failure.of(error)
        return None

    async def exchange(self, client: str, batch: Batch) -> Exchanged:
        """Deliver a batch, and bring back the answers that are ready."""
        self._live()
        port = self._port(client)
        await port.deliver(batch)
        answers = await port.collect()
        return Exchanged(answers, port.held, self._name, self._memory())

    async def describe(self) -> ProcessStatistics | Failure:
        """What the actor is doing, or why the supervisor gave up on it; Ray's metrics hear of it, too."""
        self._live()
        gave_up = self._cell.gave_up()
        if gave_up is not None:
            return Failure.of(gave_up)
        lag_ms = self._watch.worst_lag_ms()
        self._metrics.take({**self._cell.measures(), "memory_mb": self._memory(), "lag_ms": lag_ms})
        self._metrics.export()
        return ProcessStatistics(self._cell.statistics(), os.getpid(), self._memory(), lag_ms)

    async def stop(self, grace_s: float) -> None:
        """Let what is in hand finish, answer the rest, close the actor."""
        life = self._live()
        await self._cell.stop(grace_s)
        seen = self._cell.statistics()
        log.info("actor stopped", handled=seen.handled, restarts=seen.restarts, memory_mb=self._memory())
        life.cancel()
        await asyncio.wait((life,), timeout=2 * CLOSE_S)
        await self._watch.aclose()
        await flush_channels(FLUSH_S)
        await asyncio.sleep(REPLY_S)

    def _live(self) -> asyncio.Task[None]:
        """The actor's life; begun by the first call, since `__init__` has no running loop."""
        if self._life is None:
            self._watch.start()
            self._life = asyncio.create_task(self._cell.run(), name=self._cell.name)
            self._life.add_done_callback(mark_seen)
        return self._life

    def _port(self, client: str) -> Port:
        port = self._ports.get(client)
        if port is None:
            forget_before = time.monotonic() - IDLE_PORT_S
            for other in [name for name, p in self._ports.items() if p.idle and p.used_at < forget_before]:
                del self._ports[other]
            port = self._ports[client] = Port(self._cell)
        return port

    def _memory(self) -> int:
        """Resident memory in MB, at most half a second old: looking costs as much as a message."""
        now = time.monotonic()
        if now - self._memory_seen_at > MEMORY_LOOK_S:
            self._memory_mb, self._memory_seen_at = self._process.memory_info().rss >> 20, now
        return self._memory_mb
