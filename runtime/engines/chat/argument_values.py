"""Conversion of arguments written as plain text between tags to their parameter's type."""

from __future__ import annotations

import json
import math
from typing import Final

from pydantic import JsonValue

from ....messages.chat import JsonObject

_CONSTANTS: Final[dict[str, JsonValue]] = {
    "true": True, "True": True, "false": False, "False": False, "null": None, "None": None,
}  # fmt: skip
_MOST_TYPES: Final = 16
"""Of one parameter that are looked at."""


def read_value(text: str, schema: JsonObject, parameter: str) -> JsonValue:
    """The value that a text stands for: the first of the parameter's types that it can be.

    A parameter that the schema says nothing about gets what JSON reads in it, and otherwise the text.

    >>> read_value("3", {"properties": {"days": {"type": "integer"}}}, "days")
    3
    >>> read_value("3", {"properties": {"code": {"type": "string"}}}, "code")
    '3'
    """
    properties = schema.get("properties")
    stated = properties.get(parameter) if isinstance(properties, dict) else None
    types = _types(stated if isinstance(stated, dict) else {})
    value = _read_json(text)
    if not types:
        return text if isinstance(value, _Nothing) else value
    for name in types:
        if name == "string":
            return text
        if not isinstance(value, _Nothing) and _is(value, name):
            return value
    return text


def _types(schema: JsonObject) -> list[str]:
    """The types that a schema allows, in its order."""
    stated = schema.get("type")
    found = [stated] if isinstance(stated, str) else []
    if isinstance(stated, list):
        found += [name for name in stated if isinstance(name, str)]
    for key in ("anyOf", "oneOf"):
        choices = schema.get(key)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and isinstance(choice.get("type"), str):
                found.append(str(choice["type"]))
    listed = schema.get("enum")
    if not found and isinstance(listed, list) and all(isinstance(value, str) for value in listed):
        found = ["string"]
    return found[:_MOST_TYPES]


class _Nothing:
    """Stands for a text that is no JSON: None is a value."""


_NOTHING: Final = _Nothing()


def _read_json(text: str) -> JsonValue | _Nothing:
    stripped = text.strip()
    if stripped in _CONSTANTS:
        return _CONSTANTS[stripped]
    try:
        value: JsonValue = json.loads(stripped)
    except (ValueError, RecursionError):
        return _NOTHING
    return _NOTHING if isinstance(value, float) and not math.isfinite(value) else value


def _is(value: object, name: str) -> bool:
    """True if a value is of a JSON Schema's type."""
    if isinstance(value, bool):
        return name == "boolean"
    match name:
        case "integer":
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, int | float)
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "null":
            return value is None
    return False
