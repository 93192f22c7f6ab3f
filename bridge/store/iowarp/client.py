"""The process that holds IOWarp's client library.

The library reaches one runtime for as long as its process lives, and cannot go on when that runtime is
gone; a fault in it ends its process. So it gets a process that may die: this one. It consumes frames
from the socket it inherited, issues every request to the runtime at once and answers in order, as the
runtime completes them. It ends when the bridge goes away, or when the runtime leaves a request open
for longer than the limit; the bridge then starts another one.

Seen with iowarp-core 2.3: a get of what is not there, or of more than is there, comes back as zeros with
success. Whoever asks has to check what comes.
"""

import importlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from .frames import DELETE, FIND, GET, PUT, SEARCH, Head, receive, send

CORE_POOL: Final = 512
INDEX_POOL: Final = 564
START_LIMIT_S: Final = 30.0
"""For a runtime, and for its client."""
_WINDOW: Final = 64

Answer = Callable[[], tuple[Head, bytes]]


class RuntimeStuck(Exception):
    """The runtime did not complete a request in time."""


class Client:
    """IOWarp's client. `Any` is its library, which has no types."""

    def __init__(self, limit_s: float, start_limit_s: float) -> None:
        """`limit_s` bounds each request, `start_limit_s` the wait for a runtime that is starting."""
        importlib.import_module("iowarp_core")  # sets the library paths
        cte = importlib.import_module("clio_cte_core_ext")
        self._limit_s = limit_s
        if not cte.clio_init(cte.RuntimeMode.kClient, False):
            raise RuntimeStuck("no runtime answers")
        self._core: Any = cte.Client(cte.PoolId(CORE_POOL, 0))
        self._index: Any = cte.Client(cte.PoolId(INDEX_POOL, 0))
        self._await_storage(cte, start_limit_s)
        self._tag = lru_cache(4096)(self._find_tag)

    def begin(self, head: Head, data: bytes) -> Answer:
        """Issue a request; what is returned waits for it."""
        word, *args = head
        if word == PUT:
            tag, name, searchable = args
            pool = self._index if searchable else self._core
            return self._status(pool.AsyncPutBlob(self._tag(tag), name, data), "put")
        if word == DELETE:
            tag, name, searchable = args
            pool = self._index if searchable else self._core
            future = pool.AsyncDelBlob(self._tag(tag), name)
            return lambda: (["ok", self._done(future)], b"")
        if word == GET:
            tag, name, size = args
            got = self._core.AsyncGetBlob(self._tag(tag), name, size)
            return lambda: (["ok"], self._result(got))
        if word == FIND:
            found = self._core.AsyncBlobQuery(*args)
            return lambda: (["ok", *map(list, self._result(found))], b"")
        if word == SEARCH:
            hits = self._index.AsyncSemanticSearch(*args)
            return lambda: (["ok", *([hit.blob_name, hit.score] for hit in self._result(hits))], b"")
        raise ValueError(f"unknown request {word!r}")

    def _status(self, future: Any, what: str) -> Answer:
        def answer() -> tuple[Head, bytes]:
            code = self._done(future)
            return (["ok"] if code == 0 else ["refused", f"IOWarp refused a {what} (code {code})"]), b""

        return answer

    def _find_tag(self, tag: str) -> Any:
        return self._result(self._core.AsyncGetOrCreateTag(tag))

    def _done(self, future: Any) -> int:
        code = future.wait(self._limit_s)
        if code is None:
            raise RuntimeStuck
        return int(code)

    def _result(self, future: Any) -> Any:
        try:
            return future.result(self._limit_s)
        except TimeoutError as error:
            raise RuntimeStuck from error

    def _await_storage(self, cte: Any, limit_s: float) -> None:
        """The runtime answers before it has set up its storage: ask until it has."""
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            with suppress(RuntimeError, TimeoutError):
                if self._core.AsyncListTargets(cte.PoolQuery.Local()).result(1.0):
                    return
            time.sleep(0.02)
        raise RuntimeStuck("the runtime has no storage")


def serve(link: socket.socket, limit_s: float, start_limit_s: float) -> None:
    """Answer requests until the other side goes away. Raises RuntimeStuck."""
    client = Client(limit_s, start_limit_s)
    send(link, ["ready"])
    answers: queue.Queue[Answer | None] = queue.Queue(_WINDOW)

    def read() -> None:
        try:
            while True:
                answers.put(_begun(client, *receive(link)))
        except (EOFError, OSError):
            answers.put(None)
        except RuntimeStuck as error:
            _end(error)

    threading.Thread(target=read, daemon=True).start()
    while (answer := answers.get()) is not None:
        try:
            head, data = answer()
        except RuntimeError as error:
            head, data = _refused(error)
        send(link, head, data)


def _begun(client: Client, head: Head, data: bytes) -> Answer:
    """A request that the library does not take is an answer, and the next one's business goes on."""
    try:
        return client.begin(head, data)
    except (RuntimeError, TypeError, ValueError) as error:
        refusal = _refused(error)
        return lambda: refusal


def _refused(error: Exception) -> tuple[Head, bytes]:
    return ["refused", f"IOWarp: {error}"], b""


def _end(error: Exception | None = None) -> None:
    """End at once: the library's own end waits for a runtime that may be gone."""
    if error is not None:
        print(f"client: {error!r}", file=sys.stderr, flush=True)
    os._exit(1 if error else 0)


def main() -> None:
    """Arguments: the socket's number, and the limits in seconds of a request and of the start."""
    link = socket.socket(fileno=int(sys.argv[1]))
    try:
        serve(link, float(sys.argv[2]), float(sys.argv[3]))
    except Exception as error:
        _end(error)
    _end()
