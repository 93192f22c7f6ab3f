"""Tools as others want to hear of them: OpenAI's function calling, MCP, and a line of a prompt."""

import json
from collections.abc import Mapping
from typing import Final

from ...messages.chat import FunctionSpec, JsonObject
from .base import Tool, ToolError, ToolSpec, sanitize_output
from .parameters import write_schema

INPUT: Final = "input"
_MAX_CHARACTERS: Final = 600
"""Of a tool's parameters in a prompt: foreign ones may be many."""
TEXT: Final[JsonObject] = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}
"""For a tool that takes nothing but a text."""


def function_spec(tool: Tool) -> FunctionSpec:
    """As chat models are told of it (`messages.chat.ChatRequest.tools`)."""
    return FunctionSpec(name=tool.name, description=tool.description, parameters=tool.parameters or TEXT)


def openai_format(tool: Tool) -> JsonObject:
    """An entry of `tools` in OpenAI's chat completions."""
    return {"type": "function", "function": function_spec(tool).model_dump(mode="json")}


def mcp_format(tool: Tool) -> JsonObject:
    """An entry of the answer to MCP's `tools/list`."""
    return {"name": tool.name, "description": tool.description, "inputSchema": tool.parameters or TEXT}


def prompt_line(tool: ToolSpec) -> str:
    """A line of a prompt. A tool of several parameters says what JSON it takes."""
    properties = (tool.parameters or TEXT)["properties"]
    if not isinstance(properties, dict) or len(properties) < 2:
        return f"{tool.name}: {tool.description}"
    written = sanitize_output(write_schema(tool.parameters or TEXT), _MAX_CHARACTERS)
    return f"{tool.name}: {tool.description} Input: JSON {{{written}}}"


def written_arguments(tool: Tool, arguments: Mapping[str, object]) -> str:
    """Arguments by name as the text that the tool is called with. Raises ToolError."""
    if tool.parameters is not None:
        return json.dumps(arguments, ensure_ascii=False)
    text = arguments.get(INPUT)
    if len(arguments) != 1 or not isinstance(text, str):
        raise ToolError(f'{tool.name} takes one argument, {{"{INPUT}": string}}')
    return text
