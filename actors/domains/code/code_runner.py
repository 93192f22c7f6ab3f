"""Runner of one test of a piece of code: the job of a child of the code judge's sandbox.

It gets the code and one call, and says what the call returned; or it is the program, reads its standard
input and writes its standard output. It never gets to see what is expected, so there is nothing to read,
to patch or to print that would make a wrong value right: whatever the code does to this process, it has
to come up with the value. Standard library only.
"""

import atexit
import errno
import io
import json
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Final, NoReturn, cast

from ....runtime.sandbox.inside.fork_server import CODES, Job, serve
from ....runtime.sandbox.inside.protocol import Ending, Setup
from ....runtime.sandbox.inside.python_cell import prepare_python_cell
from .lint import lint_issues

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes)
_KINDS: Final[tuple[type, ...]] = (
    list, tuple, set, frozenset, type({}.keys()), type({}.items()), bytearray,
)  # fmt: skip
_CONTAINERS: Final[dict[type, Callable[..., Iterator[object]]]] = {kind: kind.__iter__ for kind in _KINDS}  # type: ignore[attr-defined]
"""Iterator of each; a subclass has no say in it. The views of a dictionary equal sets."""
_SOURCE: Final = "<answer>"
_exit: Final = os._exit
_MAX_MESSAGE: Final = 200


class NotPlain(TypeError):
    """The returned value is not made of Python's own plain values."""


class CodeRunner:
    """The job of the judge's sandbox: made once in the warm process, called once in each child."""

    def __init__(self, names: dict[str, object]) -> None:
        self._builtins = names

    def __call__(self, text: str) -> Ending:
        """`["inspect", code, …]` and `["call", code, call]` say `[ok, text]`; `["run", code]` just prints."""
        kind, code, *rest = json.loads(text)
        if kind == "inspect":
            return _say(True, json.dumps(lint_issues(code, *rest)))
        try:
            if kind == "run":
                self._run(code)
                return "ok"
            sys.stdout = sys.stderr = io.StringIO()
            return _say(True, self._call(code, rest[0]))
        except MemoryError:
            return "memory"
        except BaseException as error:
            return _say(False, _describe(error))

    def _call(self, code: str, call: str) -> str:
        scope = self._scope()
        exec(compile(code, _SOURCE, "exec", dont_inherit=True), scope)  # noqa: S102 - what this process is for
        return write_value(eval(compile(call, "<test>", "eval", dont_inherit=True), scope))  # noqa: S307

    def _run(self, code: str) -> None:
        """Be the program, as `python FILE` is, to its end: what it left to do then is done."""
        os.fstat, os._exit = fstat_of_pipe, exit_process
        sys.stdin, sys.stdout, sys.stderr = streams = [
            open(number, mode, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 - for good
            for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        ]
        try:
            exec(compile(code, _SOURCE, "exec", dont_inherit=True), self._scope())  # noqa: S102
        except SystemExit as leaving:
            if leaving.code not in (None, 0):
                raise
        finally:
            atexit._run_exitfuncs()
            for stream in (sys.stdout, *streams[1:]):
                with suppress(AttributeError, ValueError):  # of the program's own making, or closed
                    stream.flush()

    def _scope(self) -> dict[str, object]:
        module = sys.modules["__main__"] = ModuleType("__main__")
        vars(module)["__builtins__"] = self._builtins
        return vars(module)


class SynchronousThread(threading.Thread):
    """A thread that does its work when it is started: there is one thread behind the walls.

    Programs put their work into one thread for its larger stack, and wait for that.
    """

    def start(self) -> None:
        """Do all of it."""
        self.run()

    def join(self, timeout: float | None = None) -> None:
        """It is done."""

    def is_alive(self) -> bool:
        """It is done."""
        return False


def fstat_of_pipe(fd: int) -> os.stat_result:
    """Status of a pipe; a program asks for the size of its input, which the walls do not let it."""
    if fd not in (0, 1, 2):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return os.stat_result((stat.S_IFIFO | 0o600, 0, 0, 1, os.getuid(), os.getgid(), 0, 0, 0, 0))


def exit_process(status: int) -> NoReturn:
    """End at once, as `os._exit` does; the server tells an end of the program's own by its code."""
    _exit(CODES["error" if status else "ok"])


def write_value(value: object, depth: int = 0) -> str:
    """A value of Python's own plain types as a literal. Raises NotPlain for anything else.

    Scalars have to be of the exact types: an object of the answer's own that claims to equal everything is
    not let out. What is derived from a container (`Counter`, a named tuple) stands for what it contains, as
    it does where Python compares it; the container's own methods say what that is.
    """
    kind = type(value)
    if depth > 50:
        raise NotPlain("it is nested too deeply")
    if kind is float and value in (float("inf"), float("-inf")):
        return "1e999" if repr(value) == "inf" else "-1e999"
    if kind in _PLAIN:
        return repr(value)
    if issubclass(kind, dict):
        pairs = dict.items(cast(dict[object, object], value))
        written = [f"{write_value(k, depth + 1)}: {write_value(v, depth + 1)}" for k, v in pairs]
        return f"{{{', '.join(written)}}}"
    for container, walk in _CONTAINERS.items():
        if issubclass(kind, container):
            return _written(container, [write_value(each, depth + 1) for each in walk(value)])
    raise NotPlain(f"it returned a {kind.__name__}")


def _written(container: type, members: list[str]) -> str:
    inner = ", ".join(members)
    if container is list:
        return f"[{inner}]"
    if container is tuple:
        return f"({inner}{',' if len(members) == 1 else ''})"
    if container is bytearray:
        return repr(bytes(map(int, members)))
    return f"{{{inner}}}" if members else "set()"


def prepare(setup: Setup) -> Job:
    """Load all that a trial may need. Raises ImportError for a module that does not exist."""
    threading.Thread = SynchronousThread  # type: ignore[misc]
    return CodeRunner(prepare_python_cell(setup).builtins)


def main() -> NoReturn:
    """Be the code judge's server."""
    serve(prepare)


def _describe(error: BaseException) -> str:
    """Survives whatever the error's own methods do."""
    try:
        message = str(error)[:_MAX_MESSAGE]
    except BaseException:
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _say(ok: bool, text: str) -> Ending:
    """The last line of the output; what the code may have written before is another line."""
    data = ("\n" + json.dumps([ok, text])).encode()
    while data:
        data = data[os.write(1, data) :]
    return "ok" if ok else "error"
