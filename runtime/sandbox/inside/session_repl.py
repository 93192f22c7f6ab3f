"""A Python session's own processes: they run cell after cell, and keep what those define.

Standard input is a socket. The first process says that it is there, hears a line, forks the worker, and from
then on only waits for the ends of others. The worker consumes frames, each a cell's code; it produces the
cell's output on standard output. Once the cell is over the worker forks: the fork says how it ended and is
the worker from then on, and the one before it ends, with every thread that the cell has left. Standard
library only, and in the sandbox.
"""

import builtins
import os
import socket
import sys
from contextlib import suppress
from types import ModuleType
from typing import Final, NoReturn

from . import process_attributes
from .cell_executor import CellExecutor
from .protocol import Ending, receive_frame

THERE: Final = "there"
"""Said by the first process, and by the first worker."""


class ReplSession:
    """The names of all cells so far."""

    def __init__(self) -> None:
        self._executor = CellExecutor()
        self._module = ModuleType("__main__")
        vars(self._module)["__builtins__"] = builtins
        sys.modules["__main__"] = self._module

    def run(self, code: str) -> Ending:
        """Run one cell, print its output; whatever it raises ends the cell and not the session."""
        return self._executor.run(code, vars(self._module), value_name="_")


def work(control: socket.socket) -> NoReturn:
    """Be the worker until the input ends."""
    say(control, THERE)
    session = ReplSession()
    while (code := receive_frame(control)) is not None:
        ending = session.run(code.decode("utf-8", "surrogatepass"))
        fork_and_say(control, ending)
    os._exit(0)


def fork_and_say(control: socket.socket, ending: str) -> None:
    """Go on as a fork. The one before it ends after the fork has spoken: an end before that is a crash."""
    waiting, spoken = os.pipe()
    if os.fork():
        os.close(spoken)
        os.read(waiting, 1)
        os._exit(0)
    os.close(waiting)
    say(control, ending)
    os.close(spoken)


def say(control: socket.socket, line: str) -> None:
    """One line; the kernel tells the client who has said it."""
    control.sendall(line.encode("ascii") + b"\n")


def main() -> NoReturn:
    """Be the first process."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(1, 2)
    process_attributes.set_child_subreaper()
    say(control, THERE)
    control.recv(1)
    if os.fork() == 0:
        work(control)
    control.close()
    with suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)
