"""The box that an actor keeps its tools in."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

import anyio

from ...configs.errors import AgentFactoryError
from ...messages.turns import ToolCall, ToolResult
from ..tasks import task_group
from .base import Tool, ToolResource, failed
from .calls.json_calls import Signatures
from .tool_formats import prompt_line

_TOO_MANY: Final = failed("too many calls in one reply; write this one again later", "forbidden")


class DuplicateTool(AgentFactoryError):
    """Two tools of one box have the same name."""


class ToolSet:
    """Tools by name.

    Invariant: every call is answered by one `ToolResult`, an unknown name by one that lists the
    names there are.
    """

    def __init__(self, tools: Iterable[Tool], parts: Iterable[ToolResource] = ()) -> None:
        """`parts`: what the tools share; started before them, closed after them. Raises DuplicateTool."""
        self._parts = tuple(parts)
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """Put a tool in that is ready for its first call. Raises DuplicateTool."""
        if tool.name in self._tools:
            raise DuplicateTool(f"two tools are called {tool.name}; rename one of them")
        self._tools[tool.name] = tool

    def put(self, tool: Tool) -> None:
        """Put a tool in that is ready, in place of the one of its name if there is one."""
        self._tools[tool.name] = tool

    def __repr__(self) -> str:
        return f"<ToolSet {', '.join(self._tools)}>"

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools, in the order they were given."""
        return tuple(self._tools.values())

    def find(self, name: str) -> Tool | None:
        """The tool of this name."""
        return self._tools.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The tools, in the order they were given."""
        return tuple(self._tools)

    @property
    def signatures(self) -> Signatures:
        """Each tool's name with its parameters in order, for what reads calls out of text."""
        return {name: _parameters(tool) for name, tool in self._tools.items()}

    @property
    def descriptions(self) -> str:
        """The tools as a prompt shows them, one a line."""
        return "\n".join(map(prompt_line, self._tools.values()))

    async def start(self) -> None:
        """Start the parts, then all tools; if one fails, those already started are closed again."""
        started: list[ToolResource] = []
        try:
            for part in (*self._parts, *self._tools.values()):
                await part.start()
                started.append(part)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await _close(started)
            raise

    async def call(self, call: ToolCall) -> ToolResult:
        """Hand the call to its tool; the result says how long it took."""
        tool = self._tools.get(call.tool)
        if tool is None:
            there_are = ", ".join(self._tools) or "none"
            return ToolResult(
                output=f"Error: there is no tool {call.tool}; the tools are: {there_are}",
                ok=False,
                failure="unknown_tool",
            )
        started = time.perf_counter()
        result = await tool.call(call.input)
        if result.duration_s:
            return result
        return result.model_copy(update={"duration_s": time.perf_counter() - started})

    async def call_all(self, calls: Sequence[ToolCall], at_most: int) -> tuple[ToolResult, ...]:
        """Carry out the calls of one reply at the same time; a result for each, in their order.

        Calls beyond the first `at_most` are refused. They start in their order, so that a tool that
        takes one call at a time takes them in it. What a tool raises cancels the others.
        """
        results = [_TOO_MANY] * len(calls)

        async def one(index: int, call: ToolCall) -> None:
            results[index] = await self.call(call)

        if len(calls) == 1:
            return (await self.call(calls[0]),)
        async with task_group() as group:
            for index, call in enumerate(calls[:at_most]):
                group.start_soon(one, index, call)
        return tuple(results)

    async def aclose(self) -> None:
        """Close all tools, then the parts, the last one first; the first error is raised at the end."""
        await _close((*self._parts, *self._tools.values()))


def _parameters(tool: Tool) -> tuple[str, ...]:
    properties = tool.parameters.get("properties") if tool.parameters else None
    return tuple(properties) if isinstance(properties, dict) else ()


async def _close(parts: Sequence[ToolResource]) -> None:
    errors: list[Exception] = []
    for part in reversed(parts):
        try:
            await part.aclose()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
