"""The parameters of a function: their JSON Schema, and a model's arguments held to it.

Invariant: whatever text a model wrote is read into arguments that fit, or refused with a ToolError that
says which one is wrong and what was expected.
"""

import difflib
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

from ...messages.chat import JsonObject
from .base import ToolError
from .docstrings import docstring_of, read_docstring

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
REQUIRED: Final = inspect.Parameter.empty
_SHOWN_CHARACTERS: Final = 80
_FIRST_KEY: Final = re.compile(r"""\s*+\{\s*+["'](\w{1,64})["']\s*+:""")
_MAX_DEPTH: Final = 4
"""Of the types that a line shows."""
_FORMS: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameter(NamedTuple):
    """One of a function's parameters."""

    annotation: object
    """Its type: `int`, `list[str]`, `Literal["a", "b"]`, a pydantic model…"""
    default: object = REQUIRED
    description: str = ""


class OtherNames:
    """Names that an argument may have, too: `Annotated[str, OtherNames("path")]`. Nobody is told of them."""

    def __init__(self, *names: str) -> None:
        self.names = names


class BadSignature(TypeError):
    """A function whose signature does not say what a tool needs: a mistake in the program."""


class _Arguments(BaseModel):
    """Base of the models that arguments are read into."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, validate_default=False)


class Parameters:
    """The parameters of one tool."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._names = tuple(parameters)
        self._fields = {f"field_{number}": name for number, name in enumerate(parameters)}
        fields = dict(zip(self._fields, parameters.values(), strict=True))
        # Behind an alias each, since a parameter may have the name of one of the model's own methods.
        definitions = {field: _definition(self._fields[field], value) for field, value in fields.items()}
        self._model = create_model("Arguments", __base__=_Arguments, **definitions)  # type: ignore[call-overload]
        self._other_names = {other: name for name, value in parameters.items() for other in _others(value)}
        self._optional = frozenset(
            name for name, value in parameters.items() if value.default is not REQUIRED
        )
        self.schema: JsonObject = _without_titles(self._model.model_json_schema(by_alias=True))
        self._first_is_simple = _first_type(self.schema) in {"string", "number", "integer"}

    @classmethod
    def of(cls, function: Callable[..., object]) -> "Parameters":
        """Those of a function, `self` left out. Raises BadSignature where one has no type."""
        described = read_docstring(docstring_of(function)).parameters
        hints = typing.get_type_hints(function, include_extras=True)
        found: dict[str, Parameter] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if name == "self":
                continue
            if parameter.kind not in _FORMS or name not in hints:
                raise BadSignature(f"{function.__qualname__}: parameter {name} needs a name and a type")
            found[name] = Parameter(hints[name], parameter.default, described.get(name, ""))
        unknown = described.keys() - found.keys()
        if unknown:
            raise BadSignature(
                f"{function.__qualname__}: the docstring speaks of {', '.join(sorted(unknown))}"
            )
        return cls(found)

    @property
    def takes_bare_text(self) -> bool:
        """Whether a text that is no JSON object can stand for the first parameter."""
        return self._first_is_simple and self._optional >= set(self._names[1:])

    def read(self, text: str) -> dict[str, object]:
        """The arguments in a text. Raises ToolError."""
        given = self._as_object(text)
        if _LONE_SURROGATE.search(text if given is None else json.dumps(given, ensure_ascii=False)):
            raise ToolError("the input holds halves of characters, which no text can hold")
        if given is None:
            if not self._names and not text.strip():
                given = {}
            elif not self.takes_bare_text or (not text.strip() and self._names[0] not in self._optional):
                raise ToolError(f"expected a JSON object with {self.summary}{_found(text)}")
            else:
                given = {self._names[0]: text} if text.strip() else {}
        return self.check(given)

    def check(self, given: Mapping[str, object]) -> dict[str, object]:
        """Arguments as the function takes them, defaults left out. Raises ToolError."""
        try:
            arguments = self._model.model_validate(self._renamed(given))
        except ValidationError as error:
            found = error.errors(include_url=False)
            found.sort(key=lambda each: each["type"] != "extra_forbidden")
            raise ToolError("; ".join(map(self._explain, found[:3]))) from error
        values = arguments.__dict__
        return {
            self._fields[field]: values[field]
            for field in self._fields
            if field in arguments.model_fields_set
        }

    @property
    def summary(self) -> str:
        """The parameters in a line: `path: string, first: integer = 1`."""
        return write_schema(self.schema)

    def _renamed(self, given: Mapping[str, object]) -> dict[str, object]:
        """Each argument under its first name; an argument that stands there under both is refused later."""
        named: dict[str, object] = {}
        for name, value in given.items():
            first = self._other_names.get(name, name)
            named[name if first in given else first] = value
        return named

    def _as_object(self, text: str) -> dict[str, object] | None:
        """The text as a JSON object; None where it is a bare text that only looks like one."""
        if not text.lstrip().startswith("{"):
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            if self.takes_bare_text and not self._begins_with_a_name(text):
                return None
            raise ToolError(f"the input is not a JSON object ({error}); expected {self.summary}") from error
        return typing.cast(dict[str, object], value)

    def _begins_with_a_name(self, text: str) -> bool:
        """Whether a text begins like an object of these arguments, so that it was meant as one."""
        key = _FIRST_KEY.match(text)
        return key is not None and (key[1] in self._names or key[1] in self._other_names)

    def _explain(self, error: ErrorDetails) -> str:
        """Which argument is wrong, what was expected, what was there."""
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            return no_such_argument(name, self._names, self.summary)
        if error["type"] == "missing":
            return f"argument {name} is missing; expected {self.summary}"
        message = error["msg"].removeprefix("Value error, ")
        return f"argument {name}: {message}{_found(error['input'])}; expected {self.summary}"


def as_first_argument(text: str, schema: JsonObject | None) -> str:
    """A text that looks like an object as the first argument, unless it is one of these arguments."""
    properties = (schema or {}).get("properties")
    names = list(properties) if isinstance(properties, dict) else []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not names or (isinstance(value, dict) and value.keys() <= set(names)):
        return text
    return json.dumps({names[0]: text}, ensure_ascii=False)


def no_such_argument(name: str, names: Sequence[str], summary: str) -> str:
    """What is said of an argument that there is not: the nearest of those there are, or all of them."""
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {summary or 'none'}"
    return f"there is no argument {name[:_SHOWN_CHARACTERS]}; {hint}"


def write_schema(schema: JsonObject) -> str:
    """A JSON Schema of an object in a line, for a reader with little room.

    >>> write_schema({"properties": {"path": {"type": "string"}, "k": {"type": "integer", "default": 3}}})
    'path: string, k: integer = 3'
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return ""
    return ", ".join(f"{name}: {_write_type(value)}" for name, value in properties.items())


def _write_type(schema: object, depth: int = 0) -> str:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return "any"
    default = f" = {json.dumps(schema['default'])}" if "default" in schema else ""
    kind = schema.get("type", "object" if "$ref" in schema else "any")
    if isinstance(schema.get("enum"), list):
        kind = " | ".join(json.dumps(value) for value in schema["enum"])
    elif isinstance(schema.get("anyOf"), list):
        kind = " | ".join(_write_type(part, depth + 1) for part in schema["anyOf"])
    elif "const" in schema:
        kind = json.dumps(schema["const"])
    elif kind == "array":
        kind = f"[{_write_type(schema.get('items'), depth + 1)}]"
    elif isinstance(kind, list):
        kind = " | ".join(map(str, kind))
    return f"{kind}{default}"


def _definition(name: str, parameter: Parameter) -> tuple[object, object]:
    """What `create_model` wants to know of one field."""
    default = ... if parameter.default is REQUIRED else parameter.default
    return parameter.annotation, Field(default, alias=name, description=parameter.description or None)


def _others(parameter: Parameter) -> Iterator[str]:
    """The other names that a parameter's type says."""
    for part in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(part, OtherNames):
            yield from part.names


def _first_type(schema: JsonObject) -> object:
    properties = schema.get("properties")
    first = next(iter(properties.values()), None) if isinstance(properties, dict) else None
    return first.get("type") if isinstance(first, dict) else None


def _without_titles(schema: dict[str, typing.Any]) -> JsonObject:
    """Pydantic names every part; for a model that reads it, the names are noise."""
    schema.pop("title", None)
    schema.pop("description", None) if "properties" in schema else None
    for key in ("properties", "$defs"):
        for part in schema.get(key, {}).values():
            part.pop("title", None)
            if "properties" in part:
                _without_titles(part)
    return schema


def _found(value: object) -> str:
    shown = value.strip() if isinstance(value, str) else json.dumps(value, default=repr)
    if not shown:
        return ", found nothing"
    return f", found {shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + '…'}"
