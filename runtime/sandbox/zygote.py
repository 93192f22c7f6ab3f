"""The fork server: one warm process that does each piece of work in a fork of itself.

Started by `runtime.sandbox.forkserver` with an empty environment, no file descriptors but its
control socket (as standard input), and its own session. Standard library only.

Consumes `Setup` once, then `Work`; produces `Hello` once, then one `Answer` for each work that was
not cancelled. Waits for the control socket, its children's output and their deadlines.

Invariants: nothing that came from a model is looked at in this process, only in its children; a
child lives no longer than its deadline, its output limit, its cancellation or this process; this
process ends when its client does.
"""

import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from runtime.sandbox import seccomp, walls
from runtime.sandbox.frames import (
    Answer,
    Decoder,
    Ending,
    Hello,
    Setup,
    Work,
    encode,
    read_setup,
    read_work,
)
from runtime.sandbox.probe import try_to_break_out

Job = Callable[[str], Ending]
"""Does one piece of work in a child: prints its output, says how it ended."""

EXIT_CODES: Final[dict[int, Ending]] = {64: "ok", 65: "error", 66: "memory", 67: "forbidden"}
"""A child that ends with any other code ended before its work did."""
_CODES: Final = {ending: code for code, ending in EXIT_CODES.items()}
_NO_WALLS: Final = 70
_PROBE_TIMEOUT_S: Final = 10.0
_CHUNK: Final = 65536


def serve(prepare: Callable[[Setup], Job]) -> NoReturn:
    """Be the server until the client goes. `prepare` loads what the work needs, once."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    seccomp.die_with_parent()
    decoder = Decoder()
    bodies: list[bytes] = []
    while not bodies:
        bodies += decoder.feed(_receive(control))
    namespaces = walls.enter_namespaces()
    if "pid" in namespaces:
        _become_first_process(control)
    setup = read_setup(bodies.pop(0))
    try:
        job = prepare(setup)
    except ImportError as error:
        _send(control, {**_NO_HELLO, "error": f"cannot load {error.name}: {error}"})
        os._exit(1)
    gc.collect()
    gc.freeze()  # children then leave these objects, and the pages they lie on, alone
    Server(control, decoder, setup, job, namespaces).run()


class Server:
    """The loop of the warm process."""

    def __init__(
        self,
        control: socket.socket,
        decoder: Decoder,
        setup: Setup,
        job: Job,
        namespaces: tuple[str, ...],
    ) -> None:
        self._control = control
        self._decoder = decoder
        self._setup = setup
        self._job = job
        self._namespaces = namespaces
        self._walls = walls.plan(setup["memory_mb"], setup["reads"], "pid" in namespaces)
        self._children: dict[int, _Child] = {}  # by process id
        self._selector = selectors.DefaultSelector()
        self._deaths, self._death_writer = socket.socketpair()
        self._deaths.setblocking(False)
        self._death_writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._death_writer.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._deaths, selectors.EVENT_READ, self._reap)
        self._selector.register(control, selectors.EVENT_READ, self._hear)

    def run(self) -> NoReturn:
        """Probe the walls, say hello, serve."""
        walls.settle(self._walls)
        hello = self._probe()
        _send(self._control, hello)
        if hello["error"]:
            os._exit(1)
        while True:
            self._step()

    def _step(self) -> None:
        """Wait for whatever comes first, and see to it."""
        deadlines = [child.deadline for child in self._children.values() if child.ending is None]
        nearest = min(deadlines, default=None)
        wait_s = None if nearest is None else max(0.0, nearest - time.monotonic())
        for key, _ in self._selector.select(wait_s):
            callback: Callable[[], None] = key.data
            callback()
        now = time.monotonic()
        for child in self._children.values():
            if child.deadline <= now and child.ending is None:
                child.stop("timeout")

    def _hear(self) -> None:
        for body in self._decoder.feed(_receive(self._control)):
            work = read_work(body)
            if work["cancel"]:
                for child in self._children.values():
                    if child.id == work["id"]:
                        child.stop(None)
            else:
                self._fork(work, self._job, self._walls)

    def _fork(self, work: Work, job: Job, limits: walls.Walls) -> "_Child":
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _live_as_child(work, job, limits, writer)
        os.close(writer)
        os.set_blocking(reader, False)
        child = _Child(work, pid, reader, self._setup["output_bytes"])
        self._children[pid] = child
        self._selector.register(reader, selectors.EVENT_READ, partial(self._read, child))
        return child

    def _read(self, child: "_Child") -> None:
        if child.reader >= 0 and not child.read():
            self._close(child)

    def _reap(self) -> None:
        _drain(self._deaths)
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self._children.pop(pid, None)  # None: an orphan that this process 1 inherited
            if child is None:
                continue
            while child.reader >= 0 and child.read() and not child.blocked:
                pass
            self._close(child)
            child.ending = child.ending or EXIT_CODES.get(os.waitstatus_to_exitcode(status), "crashed")
            child.exit_code = os.waitstatus_to_exitcode(status)
            if not child.cancelled:
                _send(self._control, child.answer())

    def _close(self, child: "_Child") -> None:
        if child.reader >= 0:
            self._selector.unregister(child.reader)
            os.close(child.reader)
            child.reader = -1

    def _probe(self) -> Hello:
        """Find out what really holds, by trying to break out of it in a child."""
        work: Work = {"id": 0, "input": "", "timeout_s": _PROBE_TIMEOUT_S, "cancel": False}
        child = self._fork(work, try_to_break_out, self._walls)
        child.cancelled = True  # nobody waits for an answer
        while child.pid in self._children:
            self._step()
        held = child.ending == "ok" and self._walls.filter is not None
        found = child.output.decode("utf-8", "replace").strip()
        if not held and self._walls.filter is None:
            found = "there is no filter for this system"
        if not held:
            self._walls = self._walls._replace(filter=None)
        user = "nobody" if self._walls.nobody else "same"
        error = "" if held or self._setup["allow_weak"] else found or f"the probe {child.ending}"
        return {
            "error": error,
            "level": "seccomp" if held else "limits",
            "namespaces": list(self._namespaces),
            "user": user,
            "detail": found,
        }


class _Child:
    """One piece of work in progress."""

    def __init__(self, work: Work, pid: int, reader: int, output_bytes: int) -> None:
        self.id = work["id"]
        self.pid = pid
        self.reader = reader
        self.output = bytearray()
        self.deadline = time.monotonic() + work["timeout_s"]
        self.ending: Ending | None = None
        self.exit_code: int | None = None
        self.cancelled = False
        self.blocked = False
        """Whether the last read found nothing to read."""
        self._output_bytes = output_bytes

    def read(self) -> bool:
        """Take what the child wrote; False at the end of its output."""
        self.blocked = False
        try:
            chunk = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            self.blocked = True
            return True
        self.output += chunk[: self._output_bytes + 1 - len(self.output)]
        if len(self.output) > self._output_bytes:
            del self.output[self._output_bytes :]
            self.stop("output")
            return False
        return bool(chunk)

    def stop(self, ending: Ending | None) -> None:
        """Kill it. None: nobody wants its answer any more."""
        self.cancelled = self.cancelled or ending is None
        self.ending = self.ending or ending or "timeout"
        for kill in (os.killpg, os.kill):  # by group; by id if it has not made its group yet
            try:
                kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def answer(self) -> Answer:
        """What to tell the client."""
        output = self.output.decode("utf-8", "replace")
        return {"id": self.id, "ending": self.ending or "crashed", "output": output}


def _live_as_child(work: Work, job: Job, limits: walls.Walls, writer: int) -> NoReturn:
    """Everything a child does, from its first breath to its last."""
    code = _NO_WALLS
    try:
        os.setpgid(0, 0)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.closerange(3, 1024)
        try:
            walls.close(limits, cpu_s=int(work["timeout_s"]) + 2)
        except OSError as error:
            os.write(1, str(error).encode())
        else:
            code = _CODES.get(job(work["input"]), _NO_WALLS)
    finally:
        os._exit(code)


def _become_first_process(control: socket.socket) -> None:
    """Go on as process 1 of the new namespace; the process before it only waits for it."""
    pid = os.fork()
    if pid == 0:
        seccomp.die_with_parent()
        return
    control.close()
    _, status = os.waitpid(pid, 0)
    os._exit(abs(os.waitstatus_to_exitcode(status)) % 256)


def _receive(control: socket.socket) -> bytes:
    """The next bytes from the client; ends this process, and with it its children, if it is gone."""
    try:
        data = control.recv(_CHUNK)
    except ConnectionError:
        data = b""
    if not data:
        os._exit(0)
    return data


def _send(control: socket.socket, frame: Hello | Answer) -> None:
    try:
        control.sendall(encode(frame))
    except ConnectionError:
        os._exit(0)


def _drain(deaths: socket.socket) -> None:
    try:
        while deaths.recv(_CHUNK):
            pass
    except BlockingIOError:
        return


_NO_HELLO: Final[Hello] = {"error": "", "level": "", "namespaces": [], "user": "", "detail": ""}
