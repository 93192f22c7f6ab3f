"""`@tool`: a typed function as a tool.

>>> @tool
... async def repeat(text: str, times: int = 2) -> str:
...     \"\"\"Says it again.
...
...     Args:
...         times: how often
...     \"\"\"
...     return text * times
>>> repeat.name, repeat.description
('repeat', 'Says it again.')
>>> repeat.parameters["required"]
['text']

`await repeat.call('{"text": "a", "times": 3}')` is `aaa`, and so is `await repeat.call("a")` `aa`.
"""

import inspect
from collections.abc import Awaitable, Callable
from copy import copy
from functools import partial
from typing import cast, get_type_hints

import anyio.to_thread
from pydantic import TypeAdapter, ValidationError

from ...messages.chat import JsonObject
from ...messages.turns import ToolResult
from ..sandbox.errors import AccessRefused
from .base import ToolError, failed
from .docstrings import docstring_of, read_docstring
from .parameters import BadSignature, Parameters


class FunctionTool:
    """A function that can be called with a text.

    A plain function is run in a thread. A ToolError or an AccessRefused of the function is an observation, so
    is a result of another type than the function promises; any other error is raised. A `str` is the
    observation itself, a `ToolResult` is taken as it is, all else is written as JSON.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        """Raises BadSignature where types or the docstring are missing."""
        self._function = function
        self._owner: object | None = None
        self._arguments = Parameters.of(function)
        self._result: TypeAdapter[object] = TypeAdapter(_result_type(function))  # type: ignore[arg-type]
        self.name = function.__name__
        self.description = read_docstring(docstring_of(function)).summary
        if not self.description:
            raise BadSignature(f"{function.__qualname__} needs a docstring: it is what a model is told")
        self.parameters: JsonObject | None = self._arguments.schema

    def __repr__(self) -> str:
        return f"<FunctionTool {self.name}({self._arguments.summary})>"

    def __get__(self, owner: object | None, _: type | None = None) -> "FunctionTool":
        """The tool of one object, where a method is the tool."""
        if owner is None:
            return self
        bound = copy(self)  # with the same model of the arguments: making one takes milliseconds
        bound._owner = owner
        return bound

    async def start(self) -> None:
        """Nothing to do: what a function needs is a part of the box that it is in."""

    async def call(self, text: str) -> ToolResult:
        """Read the arguments, do it, write the result."""
        try:
            arguments = self._arguments.read(text)
            value = await self._run(arguments)
        except ToolError as error:
            return failed(str(error), error.failure)
        except AccessRefused as error:
            return failed(str(error), "forbidden")
        if isinstance(value, ToolResult):
            return value
        try:
            value = self._result.validate_python(value)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            return failed(f"{self.name} gave back what it must not: {problem}", "crashed")
        output = value if isinstance(value, str) else self._result.dump_json(value).decode()
        return ToolResult(output=output, ok=True)

    async def _run(self, arguments: dict[str, object]) -> object:
        bound = self._function if self._owner is None else partial(self._function, self._owner)
        if inspect.iscoroutinefunction(self._function):
            return await cast(Awaitable[object], bound(**arguments))
        return await anyio.to_thread.run_sync(partial(bound, **arguments))

    async def aclose(self) -> None:
        """Nothing to let go of."""


def tool(function: Callable[..., object]) -> FunctionTool:
    """Make a tool of a function or a method: its name, types and docstring say all there is to say."""
    return FunctionTool(function)


def _result_type(function: Callable[..., object]) -> object:
    hints = get_type_hints(function, include_extras=True)
    if "return" not in hints:
        raise BadSignature(f"{function.__qualname__} needs the type of its result")
    return hints["return"]
