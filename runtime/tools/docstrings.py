"""Parser of docstrings: what a function does, and what each parameter means.

Read are the forms that are in use: a section `Args:` (or `Arguments:`, `Parameters:`) with `name: meaning` or
`name (type): meaning`, and `:param name: meaning` or `:param type name: meaning`.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from typing import Final, NamedTuple

DROPS_DOCSTRINGS: Final = 2
"""`sys.flags.optimize` of `python -OO`."""

_SECTION: Final = re.compile(r"^(\w[\w ]*):\s*$")
_PARAMETERS: Final = ("args", "arguments", "parameters", "params")
_ENTRY: Final = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s+(.*)$")
_FIELD: Final = re.compile(r"^\s*:(\w+)(?:\s+[^:]*?(\w+))?\s*:\s*(.*)$")


class Documentation(NamedTuple):
    """A docstring, taken apart."""

    summary: str
    """All that stands before the first section, as one paragraph."""
    parameters: dict[str, str]
    """What each one means, for those that the docstring speaks of."""


def docstring_of(function: Callable[..., object]) -> str | None:
    """A function's docstring, from its source where Python was told to drop docstrings (-OO)."""
    if function.__doc__ or sys.flags.optimize < DROPS_DOCSTRINGS:
        return function.__doc__
    try:
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # there is no source, or it is a lambda's
        return None
    return ast.get_docstring(found) if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None


def read_docstring(text: str | None) -> Documentation:
    """Take a docstring apart; an empty one says nothing.

    >>> read_docstring("Adds.\\n\\nArgs:\\n    a: one\\n    b: the\\n        other").parameters
    {'a': 'one', 'b': 'the other'}
    """
    summary: list[str] = []
    parameters: dict[str, str] = {}
    section, current = "", ""
    for line in inspect.cleandoc(text or "").splitlines():
        heading, field = _SECTION.match(line), _FIELD.match(line)
        entry = _ENTRY.match(line) if section in _PARAMETERS else None
        if field:
            section, current = "field", field[2] if field[1] == "param" and field[2] else ""
            if current:
                parameters[current] = field[3]
        elif heading:
            section, current = heading[1].lower(), ""
        elif entry:
            current, parameters[entry[1]] = entry[1], entry[2]
        elif current and line.strip():
            parameters[current] += f" {line.strip()}"
        elif not section:
            summary.append(line.strip())
    return Documentation(" ".join(filter(None, summary)), parameters)
