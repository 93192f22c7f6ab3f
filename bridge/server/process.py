"""The server as a process: a readiness line on stdout, logs on stderr, an end in good order on SIGTERM."""

import asyncio
import gc
import json
import os
import signal
import sys

import structlog

from ..cache.base import CacheBackend
from ..store.base import Store
from .plain import Assimilate, DestroyTags
from .service import BridgeServer
from .settings import ServerSettings

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
