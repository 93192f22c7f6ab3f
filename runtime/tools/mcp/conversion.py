"""Conversion between MCP and our tools: schemas, arguments and results.

A server's schema becomes short enough to show and complete in itself. References into the schema itself are
replaced by what they point to; one that leads back into itself, or elsewhere, becomes "any". A schema that is
too long loses, until it fits: the length of its descriptions, the descriptions, the detail of nested values,
and at last parameters, those that may be left out first. What was left out is said in the schema's own
description.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from pydantic import JsonValue

from ....messages.chat import JsonObject
from ....messages.turns import ToolResult
from ..base import ToolError, failed, sanitize_output
from ..parameters import no_such_argument, write_schema

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

ANY_OBJECT: Final[JsonObject] = {"type": "object"}
MAX_CHARACTERS: Final = 4000
_MAX_DEPTH: Final = 24
_MAX_NODES: Final = 4000
"""Of a schema with its references replaced, which may double at each step."""
_NOISE: Final = frozenset({"title", "examples", "$comment", "$schema", "$id", "$anchor"})
_DEFINITIONS: Final = frozenset({"$defs", "definitions"})
_LITERAL: Final = frozenset({"enum", "const", "default", "required"})
"""Keywords whose values are no schemas."""
_SHORTER: Final = ((80, 8), (0, 8), (0, 2), (0, 1))
"""How long descriptions may be and how deep values may be described, step by step."""
_NAMED_CHARACTERS: Final = 300
"""For the names of parameters that were left out."""


class _Unfit(ValueError):
    """A schema that is too deep or too large to be replaced by anything but "any object"."""


def sanitize_schema(schema: Mapping[str, object], max_description_chars: int) -> JsonObject:
    """A foreign schema as a model may read it, at most `MAX_CHARACTERS` of JSON."""
    try:
        plain = _Resolver(schema).resolve(schema, ())
        steps = ((max_description_chars, _MAX_DEPTH), *_SHORTER)
        for limit, depth in steps:
            shown = cast(dict[str, object], _shortened(plain, min(limit, max_description_chars), depth))
            if _length(shown) <= MAX_CHARACTERS:
                return _sanitize(shown)
        return _sanitize(_with_fewer(shown))
    except (ValueError, TypeError, RecursionError):
        return ANY_OBJECT


class _Resolver:
    """Replaces the references of one schema."""

    def __init__(self, root: Mapping[str, object]) -> None:
        self._root = root
        self._nodes = 0

    def resolve(self, value: object, within: tuple[str, ...], depth: int = 0) -> object:
        """The value without references. Raises _Unfit."""
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise _Unfit
        if isinstance(value, list):
            return [self.resolve(part, within, depth + 1) for part in value]
        if not isinstance(value, Mapping):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str):
            return self._replaced(reference, value, within, depth)
        return {
            key: part if key in _LITERAL else self._part(key, part, within, depth)
            for key, part in value.items()
            if key not in _NOISE and not (depth == 0 and key in _DEFINITIONS)
        }

    def _part(self, key: str, part: object, within: tuple[str, ...], depth: int) -> object:
        """One keyword's value. A parameter that does not fit costs the others nothing."""
        if key != "properties" or not isinstance(part, Mapping):
            return self.resolve(part, within, depth + 1)
        found: dict[str, object] = {}
        for name, inner in part.items():
            try:
                found[name] = self.resolve(inner, within, depth + 2)
            except _Unfit:
                if depth or self._nodes > _MAX_NODES:
                    raise
                found[name] = {}
        return found

    def _replaced(
        self, reference: str, value: Mapping[str, object], within: tuple[str, ...], depth: int
    ) -> object:
        beside = {key: part for key, part in value.items() if key != "$ref"}
        target = None if reference in within else self._look_up(reference)
        if isinstance(target, Mapping):
            return self.resolve({**target, **beside}, (*within, reference), depth + 1)
        return self.resolve(beside, within, depth + 1)

    def _look_up(self, reference: str) -> object:
        """What a JSON pointer points to; None for one that leads nowhere, or out of the schema."""
        if not reference.startswith("#"):
            return None
        found: object = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


def _shortened(value: object, limit: int, depth: int, names: bool = False) -> object:
    """The schema with descriptions of at most `limit` characters, and nothing below `depth` values."""
    if isinstance(value, list):
        return [_shortened(part, limit, depth) for part in value]
    if not isinstance(value, Mapping):
        return value
    if not names and depth < 0:
        return {"type": value["type"]} if "type" in value else {}
    return dict(_parts(value, limit, depth, names))


def _parts(value: Mapping[str, object], limit: int, depth: int, names: bool) -> Iterator[tuple[str, object]]:
    for key, part in value.items():
        if names:
            yield key, _shortened(part, limit, depth - 1)
        elif key == "description" and isinstance(part, str):
            if limit:
                yield key, sanitize_output(part, limit)
        elif key in _LITERAL:
            yield key, part
        else:
            yield (
                key,
                _shortened(part, limit, depth if key == "properties" else depth - 1, key == "properties"),
            )


def _with_fewer(schema: dict[str, object]) -> dict[str, object]:
    """The schema with as many parameters as fit, those that must be given first."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        raise _Unfit
    required = schema.get("required")
    needed = [name for name in properties if name in required] if isinstance(required, list) else []
    order = [*needed, *(name for name in properties if name not in needed)]
    kept: dict[str, object] = {}
    room = MAX_CHARACTERS - _NAMED_CHARACTERS - 2 * _length({"required": needed})
    for name in order:
        room -= _length({name: properties[name]}) + 2
        if room < 0:
            break
        kept[name] = properties[name]
    left_out = [name for name in order if name not in kept]
    said = f"{len(left_out)} more parameters are not shown: {', '.join(left_out)}"
    said = sanitize_output(said, _NAMED_CHARACTERS // 2)
    shown = {"type": "object", "description": said, "properties": kept, "additionalProperties": True}
    return {**shown, "required": [name for name in needed if name in kept]} if needed else shown


def _length(value: object) -> int:
    return len(json.dumps(value))


def _sanitize(schema: Mapping[str, object]) -> JsonObject:
    """The schema without what looks like a chat template's markup, in names and values, too."""
    text = json.dumps(schema).replace("<|", "< |")
    if len(text) > MAX_CHARACTERS:
        raise _Unfit
    return cast(JsonObject, json.loads(text))


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
    output = sanitize_output("\n".join(parts), max_chars) or "(no output)"
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
