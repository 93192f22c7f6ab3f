"""What MCP servers answer, made fit for a model to read; and what a model says, made fit for them."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from ...messages.turns import ToolResult
from .base import ToolError, failed, harmless
from .parameters import no_such_argument, write_schema

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

_OPEN: Final = ("patternProperties", "anyOf", "oneOf", "allOf", "if", "$ref")
"""Keywords that may allow arguments which `properties` does not name."""


def read_arguments(text: str, schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A call's arguments by name: a JSON object, or the bare text of the one parameter.

    Raises ToolError for an argument that there is not, and for one that is missing: servers are often silent
    about the first, and then do something else than was asked.
    """
    properties = schema.get("properties")
    names = list(properties) if isinstance(properties, dict) else []
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, dict):
        return _checked(value, names, schema)
    if len(names) == 1:
        return {names[0]: text}
    raise ToolError(f"expected a JSON object with {write_schema(dict(schema)) or 'the arguments'}")


def _checked(
    given: dict[str, JsonValue], names: Sequence[str], schema: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    summary = write_schema(dict(schema))
    closed = not schema.get("additionalProperties") and not any(key in schema for key in _OPEN)
    if closed and ("properties" in schema or "additionalProperties" in schema):
        for name in given:
            if name not in names:
                raise ToolError(no_such_argument(name, names, summary))
    required = schema.get("required")
    for needed in required if isinstance(required, list) else ():
        if isinstance(needed, str) and needed not in given:
            raise ToolError(f"argument {needed} is missing; expected {summary}")
    return given


def as_result(result: "CallToolResult", max_chars: int) -> ToolResult:
    """What a server's tool answered, as text; what is no text is named."""
    parts = [_shown(block) for block in result.content]
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    output = harmless("\n".join(parts), max_chars) or "(no output)"
    if result.is_error:
        return failed(output.removeprefix("Error: "))
    return ToolResult(output=output, ok=True)


def _shown(block: "ContentBlock") -> str:
    """One part of an answer: its text, a resource's text, or what it is that cannot be shown."""
    match block.type:
        case "text":
            return block.text
        case "resource_link":
            return f"(a link to {block.uri}: {block.description or block.title or block.name})"
        case "resource":
            resource = block.resource
            text = getattr(resource, "text", None)
            if isinstance(text, str):
                return text
            return f"({resource.uri}: {resource.mime_type or 'bytes'} that cannot be shown)"
        case _:
            return f"({getattr(block, 'mime_type', block.type)} that cannot be shown)"
