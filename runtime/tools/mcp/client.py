"""Tools of an MCP server, mounted into a box.

Consumes calls; produces one `ToolResult` for each. Waits for the server; unblocked by the deadline of the
call.

Invariants: a server that is dead, hangs or talks nonsense makes calls fail, never the actor that has it;
after such a failure the next call connects anew. What a server says of itself is foreign text: it is
shortened, and cannot end the turn that it is shown in.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Final, TextIO

import structlog
from pydantic import JsonValue

from ....configs.errors import AgentFactoryError
from ....configs.tools import McpServerSettings
from ....messages.chat import FUNCTION_NAME, JsonObject
from ....messages.turns import ToolResult
from ..base import ToolError, failed, sanitize_output
from .conversion import ANY_OBJECT, as_result, read_arguments, sanitize_schema

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import Tool

Calls = Callable[[str, dict[str, JsonValue]], Awaitable[ToolResult]]

_CONNECTION_CLOSED: Final = -32000
_TIMED_OUT: Final = -32001
_MAX_PAGES: Final = 20
_CLOSE_S: Final = 10.0
_NAMED_CHARACTERS: Final = 300
"""For the names of a server's tools in a sentence."""


class McpUnreachable(AgentFactoryError):
    """An MCP server cannot be started or reached, or does not speak MCP."""


class MountedTool:
    """One tool of a server, under the server's name and its own."""

    def __init__(
        self, name: str, description: str, parameters: JsonObject, call: Calls, foreign: str
    ) -> None:
        """`foreign`: what the server calls it."""
        self.name = name
        self.description = description
        self.parameters: JsonObject | None = parameters
        self._call = call
        self._foreign = foreign

    def __repr__(self) -> str:
        return f"<MountedTool {self.name}>"

    async def start(self) -> None:
        """Nothing to do: its server is a part of the box."""

    async def call(self, text: str) -> ToolResult:
        """Hand the call to the server."""
        try:
            arguments = read_arguments(text, self.parameters or ANY_OBJECT)
        except ToolError as error:
            return failed(str(error), error.failure)
        return await self._call(self._foreign, arguments)

    async def aclose(self) -> None:
        """Nothing to let go of."""


class McpServer:
    """A connection to one server. A part of the box that its tools are in."""

    def __init__(self, settings: McpServerSettings) -> None:
        self._settings = settings
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None
        self._closed = False
        self.tools: tuple[MountedTool, ...] = ()
        """What the server had to offer when it was started."""
        self.problems: tuple[str, ...] = ()
        """Why some of it, or all of it, is not among them: a sentence each."""

    def __repr__(self) -> str:
        state = "connected" if self._connection else "closed" if self._closed else "not connected"
        return f"<McpServer {self._settings.name} {state}, {len(self.tools)} tools>"

    async def start(self) -> None:
        """Connect and ask for the tools. A server that cannot be reached has none, and a problem."""
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                listed = await self._listed((await self._connected()).client)
        except (AgentFactoryError, TimeoutError) as error:
            await self._drop()
            name, limit = self._settings.name, f"{self._settings.start_timeout_s:g} s"
            why = str(error) or f"the MCP server {name} did not answer within {limit}"
            self._complain(f"{why}; everything else works, without its tools")
            return
        self.tools = tuple(self._mounted(tool, name) for tool, name in self._named(self._wanted(listed)))

    async def call(self, name: str, arguments: dict[str, JsonValue]) -> ToolResult:
        """Call a tool by the server's own name for it."""
        from mcp import MCPError

        limit_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                client = (await self._connected()).client
                result = await client.call_tool(name, arguments, read_timeout_seconds=limit_s)
        except TimeoutError:
            return self._timed_out()
        except McpUnreachable as error:
            return failed(str(error), "crashed")
        except MCPError as error:
            if error.error.code == _TIMED_OUT:
                return self._timed_out()
            if error.error.code == _CONNECTION_CLOSED:
                await self._drop()
                return failed(f"the MCP server {self._settings.name} is gone", "crashed")
            return failed(sanitize_output(error.error.message, self._settings.max_chars))
        except Exception as error:  # whatever a server's nonsense makes the client raise
            await self._drop()
            said = sanitize_output(f"{type(error).__name__}: {error}", self._settings.max_chars)
            return failed(
                f"the MCP server {self._settings.name} did not answer as it must ({said})", "crashed"
            )
        return as_result(result, self._settings.max_chars)

    async def aclose(self) -> None:
        """Disconnect; a program that was started for it is ended."""
        self._closed = True
        await self._drop()

    def _timed_out(self) -> ToolResult:
        limit = f"{self._settings.timeout_s:g} s"
        return failed(f"the MCP server {self._settings.name} did not answer within {limit}", "timeout")

    async def _connected(self) -> "_Connection":
        async with self._connecting:
            if self._closed:
                raise McpUnreachable(f"the MCP server {self._settings.name} was closed")
            if self._connection is None or self._connection.is_over:
                self._connection = await _Connection.open(self._settings)
            return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _listed(self, client: "Client") -> "list[Tool]":
        """All tools, page by page. Raises McpUnreachable."""
        found: list[Tool] = []
        cursor: str | None = None
        try:
            for _ in range(_MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                found += page.tools
                cursor = page.next_cursor
                if not cursor:
                    break
        except Exception as error:  # as in `call`
            said = f"{type(error).__name__}: {error}"
            raise McpUnreachable(f"the MCP server {self._settings.name} lists no tools ({said})") from error
        return found

    def _wanted(self, listed: "Sequence[Tool]") -> "Sequence[Tool]":
        """The tools that the settings name, or all; no more than may be."""
        server, most, names = self._settings.name, self._settings.max_tools, self._settings.tools
        there = [tool.name for tool in listed]
        for name in names:
            if name not in there:
                has = sanitize_output(", ".join(map(repr, there)) or "none", _NAMED_CHARACTERS)
                self._complain(f"the MCP server {server} has no tool {name!r}; it has: {has}")
        found = [tool for tool in listed if not names or tool.name in names]
        if len(found) > most:
            self._complain(f"the MCP server {server} has {len(found)} tools, {most} of them are taken")
        return found[:most]

    def _named(self, listed: "Sequence[Tool]") -> "list[tuple[Tool, str]]":
        """The tools with their names here, each another one; what has no place is a problem."""
        named: dict[str, Tool] = {}
        prefix = self._settings.name
        # One whose name needs no change keeps it, whichever the server names first.
        for tool in sorted(listed, key=lambda tool: _plain(tool.name) != tool.name):
            name = f"{prefix}_{_plain(tool.name)}"
            if not re.match(FUNCTION_NAME, name):
                self._complain(f"the tool {tool.name!r} of the MCP server {prefix} has no name that fits")
            elif name in named:
                number = next(n for n in count(2) if f"{name}_{n}" not in named)
                named[f"{name}_{number}"] = tool
                self._complain(
                    f"two tools of the MCP server {prefix} are called {name} here: {tool.name!r} is"
                    f" {name}_{number}, {named[name].name!r} is {name}"
                )
            else:
                named[name] = tool
        order = {id(tool): place for place, tool in enumerate(listed)}
        return [(tool, name) for name, tool in sorted(named.items(), key=lambda item: order[id(item[1])])]

    def _complain(self, sentence: str) -> None:
        self.problems = (*self.problems, sentence)
        structlog.get_logger().warning("mcp_server_problem", server=self._settings.name, problem=sentence)

    def _mounted(self, tool: "Tool", name: str) -> MountedTool:
        said = " ".join((tool.description or tool.name).split())
        return MountedTool(
            name=name,
            description=sanitize_output(said, self._settings.max_description_chars),
            parameters=sanitize_schema(tool.input_schema, self._settings.max_description_chars),
            call=self.call,
            foreign=tool.name,
        )


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name).lower()


class _Connection:
    """A client that is connected. It lives in a task of its own, which opens it and closes it."""

    def __init__(self, settings: McpServerSettings) -> None:
        self._settings = settings
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._leaving = asyncio.Event()
        self._task = asyncio.create_task(self._live(), name=f"mcp-{settings.name}")

    @classmethod
    async def open(cls, settings: McpServerSettings) -> "_Connection":
        """Connect. Raises McpUnreachable."""
        connection = cls(settings)
        try:
            async with asyncio.timeout(settings.start_timeout_s):
                await asyncio.shield(connection._ready)
        except BaseException as error:
            await connection.aclose()
            if isinstance(error, TimeoutError):
                limit = f"{settings.start_timeout_s:g} s"
                raise McpUnreachable(f"the MCP server {settings.name} said nothing within {limit}") from error
            raise
        return connection

    @property
    def client(self) -> "Client":
        """The client itself."""
        return self._ready.result()

    @property
    def is_over(self) -> bool:
        """Whether the connection ended by itself."""
        return self._task.done()

    async def _live(self) -> None:
        from mcp import Client, stdio_client
        from mcp.client.stdio import StdioServerParameters

        settings = self._settings
        try:
            async with AsyncExitStack() as stack:
                server: object = settings.url
                if settings.command:
                    program, *arguments = settings.command
                    started = StdioServerParameters(command=program, args=arguments, env=dict(settings.env))
                    server = stdio_client(started, errlog=stack.enter_context(_nowhere()))
                client = await stack.enter_async_context(Client(server))  # type: ignore[arg-type]
                self._ready.set_result(client)
                await self._leaving.wait()
        except Exception as error:  # the client's errors are of many types, and groups of them
            why = _innermost(error)
            failure = McpUnreachable(f"the MCP server {settings.name} cannot be reached: {why}")
            failure.__cause__ = error
            if not self._ready.done():
                self._ready.set_exception(failure)
            elif not self._leaving.is_set():
                structlog.get_logger().warning("mcp_connection_lost", server=settings.name, error=why)

    async def aclose(self) -> None:
        """Close the client; a server that does not let go is left after a while."""
        self._leaving.set()
        if not self._ready.done():
            self._task.cancel()
        await asyncio.wait([self._task], timeout=_CLOSE_S)
        self._task.cancel()
        if self._ready.done():
            self._ready.exception()  # whoever asked for it has heard of it, or is gone


def _nowhere() -> TextIO:
    """For what a server writes beside its protocol: it may be much, and nobody asked."""
    return open(os.devnull, "w", encoding="utf-8")


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
