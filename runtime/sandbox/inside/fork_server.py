"""The fork server: one warm process that forks itself for each piece of work.

Started by `runtime.sandbox.fork_server_client` with an empty environment, no file descriptors but its
control socket (as standard input), and its own session. Standard library only.

Consumes `Setup` once, then `Work`; produces `ServerHello` once, then one `Exit` for each work. Waits for the
control socket and its children's ends.

Invariants: whatever this process has in memory, its children inherit, so it never has anything of
theirs: what a child works on lies behind descriptors that only the child reads, and what it prints goes
straight to the client. A child has no other descriptors, and lives no longer than this process; this
process ends when its client does.
"""

import gc
import os
import selectors
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from . import confinement, process_attributes
from .protocol import (
    Ending,
    Exit,
    FrameDecoder,
    ServerHello,
    Setup,
    Work,
    encode,
    read_input,
    read_setup,
    read_work,
    receive,
    write_input,
)
from .selftest import escapes_from_python_sandbox

Job = Callable[[str], Ending]
"""Does one piece of work in a child: prints its output, says how it ended."""

EXIT_CODES: Final[dict[int, Ending]] = {64: "ok", 65: "error", 66: "memory", 67: "forbidden"}
"""A child that ends with any other code ended before its work did."""
CODES: Final = {ending: code for code, ending in EXIT_CODES.items()}
_NOT_CONFINED: Final = 70
_PROBE_CPU_S: Final = 10
_PROBE_ID: Final = 0
_PROBE_OUTPUT_BYTES: Final = 4096
_CHUNK: Final = 4096


def serve(prepare: Callable[[Setup], Job]) -> NoReturn:
    """Be the server until the client goes. `prepare` loads what the work needs, once."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    process_attributes.die_with_parent()
    decoder = FrameDecoder()
    bodies: list[bytes] = []
    while not bodies:
        bodies += decoder.feed(_hear(control)[0])
    namespaces = confinement.enter_namespaces()
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
    ForkServer(control, decoder, setup, job, namespaces).run()


class ForkServer:
    """The loop of the warm process."""

    def __init__(
        self,
        control: socket.socket,
        decoder: FrameDecoder,
        setup: Setup,
        job: Job,
        namespaces: tuple[str, ...],
    ) -> None:
        self._control = control
        self._decoder = decoder
        self._setup = setup
        self._job = job
        self._namespaces = namespaces
        self._confinement = confinement.plan(setup["memory_mb"], setup["reads"], "pid" in namespaces)
        self._children: dict[int, int] = {}  # the work's id by process id
        self._descriptors: list[int] = []
        self._probed: Ending | None = None
        self._selector = selectors.DefaultSelector()
        self._deaths, self._death_writer = socket.socketpair()
        self._deaths.setblocking(False)
        self._death_writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._death_writer.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._deaths, selectors.EVENT_READ, self._reap)
        self._selector.register(control, selectors.EVENT_READ, self._hear)

    def run(self) -> NoReturn:
        """Confine this process, have the self-test run, say hello, serve."""
        no_text = write_input(b"")  # nothing can be written once confined
        confinement.confine_server(self._confinement)
        hello = self._probe(no_text)
        _send(self._control, hello)
        if hello["error"]:
            os._exit(1)
        while True:
            self._step()

    def _step(self) -> None:
        """Wait for whatever comes first, and see to it."""
        for key, _ in self._selector.select():
            callback: Callable[[], None] = key.data
            callback()

    def _hear(self) -> None:
        data, descriptors = _hear(self._control)
        self._descriptors += descriptors
        for body in self._decoder.feed(data):
            work = read_work(body)
            if work["kill"]:
                self._kill(work["id"])
            else:
                count = 3 if work["stdin"] else 2
                handed, self._descriptors = self._descriptors[:count], self._descriptors[count:]
                self._fork(work, self._job, *handed)

    def _fork(self, work: Work, job: Job, text: int, output: int, stdin: int = 0) -> None:
        """Begin it; the descriptors are the child's alone from here on."""
        pid = os.fork()
        if pid == 0:
            os.dup2(output, 1)
            os.dup2(output if self._setup["stderr"] else 0, 2)  # 0 is the null device here
            os.dup2(stdin, 0)
            _live_as_child(work["cpu_s"], job, self._confinement, text)
        for descriptor in (text, output, stdin):
            if descriptor:
                os.close(descriptor)
        self._children[pid] = work["id"]

    def _kill(self, number: int) -> None:
        for pid in [pid for pid, work in self._children.items() if work == number]:
            for kill in (os.killpg, os.kill):  # by group; by id if it has not made its group yet
                with suppress(ProcessLookupError):
                    kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        _drain(self._deaths)
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._children.pop(pid, None)  # None: an orphan that this process 1 inherited
            ending = EXIT_CODES.get(os.waitstatus_to_exitcode(status), "crashed")
            if number == _PROBE_ID:
                self._probed = ending
            elif number is not None:
                _send(self._control, {"id": number, "ending": ending})

    def _probe(self, text: int) -> ServerHello:
        """Find out what really holds, by trying to break out of it in a child."""
        reader, writer = os.pipe()
        work: Work = {"id": _PROBE_ID, "cpu_s": _PROBE_CPU_S, "stdin": False, "kill": False}
        self._fork(work, escapes_from_python_sandbox, text, writer)
        while self._probed is None:
            self._step()
        held = self._probed == "ok" and self._confinement.filter is not None
        found = os.read(reader, _PROBE_OUTPUT_BYTES).decode("utf-8", "replace").strip()
        os.close(reader)
        if not held and self._confinement.filter is None:
            found = "there is no filter for this system"
        if not held:
            self._confinement = self._confinement._replace(filter=None)
        user = "nobody" if self._confinement.nobody else "same"
        error = "" if held or self._setup["allow_weak"] else found or f"the probe {self._probed}"
        return {
            "error": error,
            "level": "seccomp" if held else "limits",
            "namespaces": list(self._namespaces),
            "user": user,
            "detail": found,
        }


def _live_as_child(cpu_s: int, job: Job, limits: confinement.Confinement, text: int) -> NoReturn:
    """Everything a child does once its standard streams are its own, to its end."""
    code = _NOT_CONFINED
    end = os._exit  # the work may put something else in its place
    try:
        os.setpgid(0, 0)
        given = read_input(text).decode("utf-8", "surrogatepass")
        os.closerange(3, 1024)
        try:
            confinement.confine_child(limits, cpu_s)
        except OSError as error:
            os.write(1, str(error).encode())
        else:
            code = CODES.get(job(given), _NOT_CONFINED)
    finally:
        end(code)


def _become_first_process(control: socket.socket) -> None:
    """Go on as process 1 of the new namespace; the process before it only waits for it."""
    pid = os.fork()
    if pid == 0:
        process_attributes.die_with_parent()
        return
    control.close()
    _, status = os.waitpid(pid, 0)
    os._exit(abs(os.waitstatus_to_exitcode(status)) % 256)


def _hear(control: socket.socket) -> tuple[bytes, list[int]]:
    """What the client says; ends this process, and with it its children, if it is gone."""
    data, descriptors = receive(control)
    if not data:
        os._exit(0)
    return data, descriptors


def _send(control: socket.socket, frame: ServerHello | Exit) -> None:
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


_NO_HELLO: Final[ServerHello] = {"error": "", "level": "", "namespaces": [], "user": "", "detail": ""}
