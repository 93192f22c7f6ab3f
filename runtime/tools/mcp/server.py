"""A box of tools as an MCP server.

Consumes MCP requests over stdio; produces the tools' results. Waits for the client; ends when it is gone.
"""

from typing import TYPE_CHECKING, Final

from ....messages.turns import ToolCall, ToolResult
from ..base import ToolError, failed
from ..tool_formats import mcp_format, written_arguments
from ..tool_set import ToolSet

if TYPE_CHECKING:
    from mcp.server import Server, ServerRequestContext
    from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

NAME: Final = "agentfactory"


def server_of(box: ToolSet, version: str) -> "Server[dict[str, object]]":
    """A server whose tools are those in the box, also those that come into it later. Start the box first."""
    import mcp_types as types
    from mcp.server import Server

    async def listed(
        _: "ServerRequestContext[dict[str, object]]", __: "PaginatedRequestParams | None"
    ) -> "ListToolsResult":
        return types.ListToolsResult(
            tools=[types.Tool.model_validate(mcp_format(tool)) for tool in box.tools]
        )

    async def called(
        _: "ServerRequestContext[dict[str, object]]", request: "CallToolRequestParams"
    ) -> "CallToolResult":
        result = await call_by_name(box, request.name, request.arguments or {})
        content = types.TextContent(type="text", text=result.output)
        return types.CallToolResult(content=[content], is_error=not result.ok)

    return Server(NAME, version=version, on_list_tools=listed, on_call_tool=called)


async def call_by_name(box: ToolSet, name: str, arguments: dict[str, object]) -> ToolResult:
    """Call a tool with arguments by name, as function-calling clients have them."""
    tool = box.find(name)
    try:
        text = written_arguments(tool, arguments) if tool else ""
    except (ToolError, ValueError, TypeError) as error:
        return failed(str(error))
    return await box.call(ToolCall(tool=name, input=text))


async def serve_stdio(box: ToolSet, version: str) -> None:
    """Serve until the client closes its end. Nothing else may write to standard output."""
    from mcp.server.stdio import stdio_server

    server = server_of(box, version)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
