"""One trial of a piece of code: what a child of the code judge's sandbox does.

It gets the code and one call, and says what the call returned. It never gets to see what is expected, so
there is nothing to read, to patch or to print that would make a wrong value right: whatever the code does
to this process, it has to come up with the value. Standard library only.
"""

import io
import json
import os
import sys
from typing import Final, NoReturn

from actors.domains.code.inspection import complaints
from runtime.sandbox import cell
from runtime.sandbox.frames import Ending, Setup
from runtime.sandbox.zygote import Job, serve

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes)
_SOURCE: Final = "<answer>"
_MAX_MESSAGE: Final = 200


class NotPlain(TypeError):
    """What was returned is not made of Python's own plain values."""


class Trial:
    """The job of the judge's sandbox: made once in the warm process, called once in each child."""

    def __init__(self, names: dict[str, object]) -> None:
        self._builtins = names

    def __call__(self, text: str) -> Ending:
        """`["inspect", code, …]`, `["call", code, call]` or `["run", code, stdin]`; says `[ok, text]`."""
        kind, code, *rest = json.loads(text)
        if kind == "inspect":
            return _say(True, json.dumps(complaints(code, *rest)))
        printed = io.StringIO()
        sys.stdout = sys.stderr = printed
        try:
            value = self._call(code, rest[0]) if kind == "call" else self._run(code, rest[0], printed)
        except MemoryError:
            return "memory"
        except BaseException as error:
            return _say(False, _describe(error))
        return _say(True, value)

    def _call(self, code: str, call: str) -> str:
        scope = self._scope()
        exec(compile(code, _SOURCE, "exec", dont_inherit=True), scope)  # noqa: S102 - what this process is for
        return write_value(eval(compile(call, "<test>", "eval", dont_inherit=True), scope))  # noqa: S307

    def _run(self, code: str, stdin: str, printed: io.StringIO) -> str:
        sys.stdin = io.StringIO(stdin)
        try:
            exec(compile(code, _SOURCE, "exec", dont_inherit=True), self._scope())  # noqa: S102
        except SystemExit as leaving:
            if leaving.code not in (None, 0):
                raise
        return printed.getvalue()

    def _scope(self) -> dict[str, object]:
        return {"__name__": "__main__", "__builtins__": self._builtins}


def write_value(value: object, depth: int = 0) -> str:
    """A value of Python's own plain types as a literal. Raises NotPlain for anything else.

    Only exact types: an object of the answer's own that claims to equal everything is not let out.
    """
    kind = type(value)
    if depth > 50:
        raise NotPlain("it is nested too deeply")
    if kind is float and value in (float("inf"), float("-inf")):
        return "1e999" if repr(value) == "inf" else "-1e999"
    if kind in _PLAIN:
        return repr(value)
    if kind in (list, tuple, set, frozenset):
        inner = [write_value(each, depth + 1) for each in value]  # type: ignore[attr-defined]
        if kind is list:
            return f"[{', '.join(inner)}]"
        if kind is tuple:
            return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
        return f"{{{', '.join(inner)}}}" if inner else "set()"
    if kind is dict:
        pairs = [
            f"{write_value(k, depth + 1)}: {write_value(v, depth + 1)}"
            for k, v in value.items()  # type: ignore[attr-defined]
        ]
        return f"{{{', '.join(pairs)}}}"
    raise NotPlain(f"it returned a {kind.__name__}")


def prepare(setup: Setup) -> Job:
    """Load all that a trial may need. Raises ImportError for a module that does not exist."""
    return Trial(cell.prepare_cell(setup).builtins)


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
    return "ok"
