"""The process that holds IOWarp's client library: the pipe to it, the process itself, and the bridge's end.

The library reaches one runtime for as long as its process lives, and cannot go on when that runtime is
gone; a fault in it ends its process. So it gets a process that may die. That consumes frames
from the socket it inherited, issues every request to the runtime at once and answers in order, as the
runtime completes them. It ends when the bridge goes away, or when the runtime leaves a request open
for longer than the limit; the bridge (`ClientProcess`) then starts another one.

A frame is two lengths, a JSON head and raw bytes. A request's head is a word and its arguments, an
answer's is `ok` and the results, or `refused` and why. Requests are answered in the order they came in.

Seen with iowarp-core 2.3: a get of what is not there, or of more than is there, comes back as zeros with
success. Whoever asks has to check what comes.

The client process imports this module: it needs nothing but the standard library.
"""

import importlib
import json
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ...errors import StoreError

if TYPE_CHECKING:
    from .runtime import IOWarpRuntime


_LENGTHS: Final = struct.Struct(">II")

PUT: Final = "put"
"""[tag, name, searchable] with the bytes -> []"""
GET: Final = "get"
"""[tag, name, size] -> [] with the bytes, or with zeros if there is no such blob"""
DELETE: Final = "delete"
"""[tag, name, searchable] -> []"""
FIND: Final = "find"
"""[tag pattern, name pattern], regular expressions -> [[tag, name], …]"""
SEARCH: Final = "search"
"""[tag pattern, name pattern, words, limit] -> [[name, score], …], the best first"""

JsonHeader = list[object]


def send(link: socket.socket, head: JsonHeader, data: bytes | memoryview = b"") -> None:
    """Send one frame."""
    packed = json.dumps(head).encode()
    start = _LENGTHS.pack(len(packed), len(data)) + packed
    if len(data) < 1 << 16:
        link.sendall(start + data)
    else:
        link.sendall(start)
        link.sendall(data)


def receive(link: socket.socket) -> tuple[JsonHeader, bytes]:
    """Receive one frame. Raises EOFError at the end, OSError."""
    head_size, data_size = _LENGTHS.unpack(_exactly(link, _LENGTHS.size))
    head: JsonHeader = json.loads(_exactly(link, head_size))
    return head, _exactly(link, data_size)


def _exactly(link: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        got = link.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return bytes(buffer)


CORE_POOL: Final = 512
INDEX_POOL: Final = 564
START_LIMIT_S: Final = 30.0
"""For a runtime, and for its client."""
_WINDOW: Final = 64

PendingAnswer = Callable[[], tuple[JsonHeader, bytes]]


class RuntimeStuck(Exception):
    """The runtime did not complete a request in time."""


class IOWarpClient:
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

    def begin(self, head: JsonHeader, data: bytes) -> PendingAnswer:
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

    def _status(self, future: Any, what: str) -> PendingAnswer:
        def answer() -> tuple[JsonHeader, bytes]:
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
    client = IOWarpClient(limit_s, start_limit_s)
    send(link, ["ready"])
    answers: queue.Queue[PendingAnswer | None] = queue.Queue(_WINDOW)

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


def _begun(client: IOWarpClient, head: JsonHeader, data: bytes) -> PendingAnswer:
    """A request that the library does not take is an answer, and the next one's business goes on."""
    try:
        return client.begin(head, data)
    except (RuntimeError, TypeError, ValueError) as error:
        refusal = _refused(error)
        return lambda: refusal


def _refused(error: Exception) -> tuple[JsonHeader, bytes]:
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


_MAX_UNANSWERED: Final = 64
_BOOTSTRAP: Final = (
    "import sys; sys.path[:] = {path!r}; "
    "from agentfactory.bridge.store.iowarp.exec_with_pdeathsig import die_with_parent; "
    "die_with_parent({parent}); "
    "from agentfactory.bridge.store.iowarp.client import main; main()"
)

ClientReply = tuple[JsonHeader, bytes]


class ClientLost(StoreError):
    """The client process or its runtime went away before it answered; it is unknown what was done."""


class ClientProcess:
    """A client process. Threads may share it; it ends with the thread that made it."""

    def __init__(self, runtime: "IOWarpRuntime", limit_s: float) -> None:
        """`limit_s`: a request that the runtime does not complete in that time ends the process."""
        self._limit_s = limit_s
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._window = threading.BoundedSemaphore(_MAX_UNANSWERED)
        self._sending = threading.Lock()
        self._waiting: deque[Future[ClientReply]] = deque()
        self._broken = False
        bootstrap = _BOOTSTRAP.format(path=sys.path, parent=os.getpid())
        with theirs, runtime.open_log() as log:
            self.process: Final = subprocess.Popen(
                [sys.executable, "-c", bootstrap, *map(str, (theirs.fileno(), limit_s, START_LIMIT_S))],
                env=runtime.environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            ours.settimeout(START_LIMIT_S)
            receive(ours)
            ours.settimeout(None)
            _limit_sends(ours, limit_s)
        except (EOFError, OSError) as error:
            self.close()
            ours.close()
            raise ClientLost(
                f"its client does not start; the end of {runtime.log}:\n{runtime.log_tail()}"
            ) from error
        self._reader = threading.Thread(target=self._read, name="iowarp-answers", daemon=True)
        self._reader.start()

    def submit(self, head: JsonHeader, data: bytes = b"") -> Future[ClientReply]:
        """Send a request; its answer comes later. Raises ClientLost."""
        future: Future[ClientReply] = Future()
        if not self._window.acquire(timeout=self._limit_s):
            raise ClientLost("IOWarp does not keep up")
        with self._sending:
            if self._broken:
                self._window.release()
                raise ClientLost("IOWarp's client went away")
            self._waiting.append(future)
            try:
                send(self._socket, head, data)
            except OSError as error:  # the reader fails the future once the process is gone
                raise ClientLost("IOWarp's client went away, or stands still") from error
        return future

    def close(self) -> None:
        """End the process; what was not answered fails with ClientLost."""
        self.process.kill()
        self.process.wait()
        with suppress(OSError):  # the reader has seen the end
            self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        try:
            while True:
                answer = receive(self._socket)
                self._window.release()
                self._waiting.popleft().set_result(answer)
        except (EOFError, OSError):
            with self._sending:
                self._broken = True
            for future in self._waiting:
                self._window.release()
                future.set_exception(ClientLost("IOWarp's client went away"))
            self._socket.close()


def _limit_sends(link: socket.socket, limit_s: float) -> None:
    """A send that a stopped process leaves standing fails with BlockingIOError after `limit_s`."""
    seconds, part = divmod(limit_s, 1.0)
    limit = struct.pack("@ll", int(seconds), int(part * 1e6))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
