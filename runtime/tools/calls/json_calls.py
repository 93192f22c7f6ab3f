"""The shapes that calls have as JSON and as Python, and what they mean.

    {"name": "search", "arguments": {"query": "tides"}}          {"tool": "search", "input": "tides"}
    {"action": "search", "action_input": "tides"}                {"search": …} is no call
    {"type": "function", "function": {"name": "search", "arguments": "{\\"query\\": \\"tides\\"}"}}
    search("tides")        search(query="tides", k=3)

An object without one of these shapes is data.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from pydantic import JsonValue

from ....messages.turns import ToolCall
from .lenient_json import Arguments, ParsedLiteral, read_literal

Signatures = Mapping[str, Sequence[str]]
"""The names of the tools there are, each with its parameters' names in order; none where it takes a text."""

MAX_NAME: Final = 64
CODE_KEYS: Final = ("code", "input", "query", "expression")
_ARGUMENT_KEYS: Final = (
    "arguments", "parameters", "args", "kwargs", "input", "tool_input", "action_input", "params",
)  # fmt: skip
_NAME_KEYS: Final = ("name", "tool", "tool_name", "action", "function")
_LISTS: Final = ("tool_calls", "calls", "function_calls")
_WRAPPERS: Final = ("function", "function_call", "tool_call")
_ANSWERS: Final = ("final answer", "final_answer", "answer", "finish")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_NESTED: Final = 3
"""Wrappers within wrappers that are looked into."""


class ParsedCalls(NamedTuple):
    """The content of a value: calls, or an answer where it names one as a tool."""

    calls: tuple[ToolCall, ...] = ()
    answer: str | None = None


def read_shape(found: ParsedLiteral, tools: Signatures, *, sure: bool) -> ParsedCalls | None:
    """The calls of a value that was read; None if any part of it is none.

    `sure`: something else than the shape says that these are calls. Otherwise a known tool must be named
    or, where no tools are known, both a name and arguments must be there.
    """
    shaped = _read(found.value, tools, sure, _NESTED)
    if shaped is None or not (shaped.calls or shaped.answer):
        return None
    if found.cut and any(call.input == "{}" for call in shaped.calls):
        return None  # its arguments were to follow
    return shaped


def read_python(name: str, arguments: Arguments, tools: Signatures) -> ToolCall | None:
    """A call in Python's form; None where a value's parameter is not known."""
    tool = resolve(name, tools)
    given: dict[str, JsonValue] = {}
    if arguments.positional:
        parameters = tools.get(tool, ())
        if len(arguments.positional) == 1 and not arguments.named and len(parameters) <= 1:
            return make_call(tool, arguments.positional[0], tools)
        if len(arguments.positional) > len(parameters):
            return None
        given = dict(zip(parameters, arguments.positional, strict=False))
        if given.keys() & arguments.named.keys():
            return None
    return make_call(tool, given | arguments.named, tools)


def resolve(name: str, tools: Signatures) -> str:
    """The tool that is meant: as it is spelt, in lower case, with underscores, without what is before a dot.

    >>> resolve("functions.List Files", {"list_files": ()})
    'list_files'
    """
    name = name.strip()
    lower = name.lower()[:MAX_NAME]
    for candidate in (name, lower):
        if candidate in tools:
            return candidate
    plain = re.sub(r"[\s-]+", "_", lower)
    for candidate in (plain, plain.rpartition(".")[2]):
        if candidate in tools:
            return candidate
    return lower


def make_call(tool: str, given: JsonValue, tools: Signatures) -> ToolCall | None:
    """A call with its input as a tool reads it: the bare text where there is one text, else JSON."""
    tool = fix_surrogates(tool)
    if not tool:
        return None
    if isinstance(given, str):
        text = given.strip("\r\n").rstrip()
        return ToolCall(tool=tool, input=fix_surrogates(text)) if text else None
    if isinstance(given, dict):
        bare = single_text_argument(given, tools.get(tool, ()))
        if bare:
            return ToolCall(tool=tool, input=fix_surrogates(bare))
    try:
        text = _ENCODE({} if given is None else given)
    except (ValueError, RecursionError):
        return None
    return ToolCall(tool=tool, input=fix_surrogates(text))


def single_text_argument(given: Mapping[str, JsonValue], parameters: Sequence[str]) -> str | None:
    """The text of an object that has nothing else, for a tool with at most one parameter; else None."""
    if len(given) != 1 or len(parameters) > 1:
        return None
    ((key, value),) = given.items()
    if not isinstance(value, str) or key not in (parameters or CODE_KEYS):
        return None
    if parameters and value.lstrip().startswith("{"):
        return None  # a text that looks like an object itself: only inside of one it is plain what is meant
    return value.strip("\r\n").rstrip()


def fix_surrogates(text: str) -> str:
    """The text with halves of surrogate pairs put together or replaced: only that can be stored."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _read(value: JsonValue, tools: Signatures, sure: bool, depth: int) -> ParsedCalls | None:
    if isinstance(value, list):
        return _read_list(value, tools, sure, depth)
    if not isinstance(value, dict) or depth < 0:
        return None
    for key in _LISTS:
        inner = value.get(key)
        if isinstance(inner, list):
            return _read_list(inner, tools, sure, depth)
    for key in _WRAPPERS:
        inner = value.get(key)
        if isinstance(inner, dict):
            return _read(inner, tools, sure, depth - 1)
    return _read_one(value, tools, sure)


def _read_list(values: Sequence[JsonValue], tools: Signatures, sure: bool, depth: int) -> ParsedCalls | None:
    calls: list[ToolCall] = []
    for value in values:
        found = _read(value, tools, sure, depth - 1)
        if found is None or not found.calls:
            return None
        calls.extend(found.calls)
    return ParsedCalls(tuple(calls))


def _read_one(value: Mapping[str, JsonValue], tools: Signatures, sure: bool) -> ParsedCalls | None:
    value = {key.strip().lower(): part for key, part in value.items()}
    name_key = next((key for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
    arguments_key = next((key for key in _ARGUMENT_KEYS if key in value), None)
    if name_key is None:
        return None
    name = str(value[name_key])
    given = value[arguments_key] if arguments_key else None
    tool = resolve(name, tools)
    if tool not in tools:
        if name.strip().lower() in _ANSWERS and isinstance(given, str | int | float):
            return ParsedCalls(answer=fix_surrogates(str(given).strip()) or None)
        if not sure and (tools or arguments_key is None):
            return None
    call = make_call(tool, _opened(given), tools)
    return ParsedCalls((call,)) if call else None


def _opened(given: JsonValue) -> JsonValue:
    """Arguments that are themselves written as JSON text; other values are arguments as they are."""
    if not isinstance(given, str) or not given.lstrip().startswith("{"):
        return given
    found = read_literal(given, len(given) - len(given.lstrip()))
    inside = found is not None and not given[found.end :].strip() and isinstance(found.value, dict)
    return found.value if found and inside else given
