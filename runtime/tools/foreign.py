"""What MCP servers say, made fit for a model to read; and what a model says, made fit for them."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from pydantic import JsonValue

from messages.chat import JsonObject
from messages.turns import ToolResult
from runtime.tools.base import ToolError, failed, harmless
from runtime.tools.parameters import write_schema

if TYPE_CHECKING:
    from mcp_types import CallToolResult

ANY_OBJECT: Final[JsonObject] = {"type": "object"}
_MAX_SCHEMA_CHARACTERS: Final = 4000
_NOISE: Final = frozenset({"title", "examples", "$comment", "$schema"})


def read_arguments(text: str, schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A call's arguments by name: a JSON object, or the bare text of the one parameter. Raises ToolError."""
    properties = schema.get("properties")
    names = list(properties) if isinstance(properties, dict) else []
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, dict) and (len(names) != 1 or names[0] in value or not value):
        return cast(dict[str, JsonValue], value)
    if len(names) == 1:
        return {names[0]: text}
    raise ToolError(f"expected a JSON object with {write_schema(dict(schema)) or 'the arguments'}")


def tamed(schema: Mapping[str, object], max_description_chars: int) -> JsonObject:
    """A foreign schema, short enough to show; one that is too long says no more than "an object"."""
    try:
        text = json.dumps(_shortened(schema, max_description_chars)).replace("<|", "< |")
    except (ValueError, TypeError, RecursionError):
        return ANY_OBJECT
    if len(text) > _MAX_SCHEMA_CHARACTERS:
        return ANY_OBJECT
    return cast(JsonObject, json.loads(text))


def _shortened(value: object, limit: int, in_properties: bool = False) -> object:
    if isinstance(value, Mapping):
        return {
            key: harmless(part, limit)
            if key == "description" and isinstance(part, str)
            else _shortened(part, limit, key == "properties")
            for key, part in value.items()
            if in_properties or key not in _NOISE
        }
    return [_shortened(part, limit) for part in value] if isinstance(value, list) else value


def as_result(result: "CallToolResult", max_chars: int) -> ToolResult:
    """What a server's tool answered, as text; what is no text is named."""
    parts = []
    for block in result.content:
        text = getattr(block, "text", None)
        parts.append(text if isinstance(text, str) else f"({block.type} that cannot be shown)")
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    output = harmless("\n".join(parts), max_chars) or "(no output)"
    if result.is_error:
        return failed(output.removeprefix("Error: "))
    return ToolResult(output=output, ok=True)
