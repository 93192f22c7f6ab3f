r"""Function-call syntax of the model families, and a reader for each.

    <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>         Hermes, Qwen, Granite
    <tool_call><function=f><parameter=a>1</parameter></function>        Qwen Coder, Nemotron, Seed
    <tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value>            GLM
    <invoke name="f"><parameter name="a">1</parameter></invoke>         MiniMax and others
    [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]                  Mistral; also f[ARGS]{"a": 1}
    <|tool_call_start|>[f(a=1)]<|tool_call_end|>                        LFM; also Llama, Olmo
    <|tool_call>call:f{a:1}<tool_call|>                                 Gemma
    <｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜>         DeepSeek
    <|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{…}     Kimi
    to=functions.f<|channel|>commentary json<|message|>{"a": 1}         gpt-oss (harmony)
    <|START_ACTION|>[{"tool_name": "f", "parameters": {"a": 1}}]        Cohere
    <|python_tag|>{"name": "f", "parameters": {"a": 1}}                 Llama; also without the tag

Marks that are special tokens are part of the text here. A place where something opens and no call can be
read stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from pydantic import JsonValue

from ....messages.chat import JsonObject
from ...tools.calls.json_calls import fix_surrogates
from ...tools.calls.lenient_json import ParsedLiteral, read_arguments, read_literal, skip_space
from .argument_values import read_value

Schemas = Mapping[str, JsonObject]
"""The functions there are, each with the JSON Schema of its parameters."""

_NAME: Final = r"[\w.\-]{1,64}"
_OPENING: Final = re.compile(
    r"(?P<json><(?:\w+:)?(?:tool_calls?|toolcall|function_calls?|tool_use)>"
    r"|<\|tool_calls?\|>|<\|tool_call_start\|>|\[TOOL_CALLS\]|<\|python_tag\|>|<\|START_ACTION\|>"
    r"|<\|action_start\|>\s*<\|plugin\|>|<\|tools_prefix\|>|\bfunctools(?=\s*\[))"
    rf"|(?P<gemma><\|tool_call>call:|<start_function_call>call:)(?P<gemma_name>{_NAME})\s*(?=\{{)"
    rf"|<｜tool▁call▁begin｜>\s*(?:function<｜tool▁sep｜>)?(?P<deepseek>{_NAME})\s*(?:<｜tool▁sep｜>)?"
    rf"|<\|tool_call_begin\|>\s*(?:functions\.)?(?P<kimi>{_NAME})(?::\d+)?\s*<\|tool_call_argument_begin\|>"
    rf"|\bto=(?:functions\.)?(?P<harmony>{_NAME})[^<]{{0,32}}(?:<\|(?:channel|constrain)\|>[^<]{{0,32}})*<\|message\|>"
    r"|(?P<xml><(?:\w+:)?(?=function=|invoke\s+name=))"
)
_BLOCK: Final = re.compile(
    rf"""<(?:\w+:)?(?:function=|invoke\s+name=)["']?(?P<name>{_NAME})["']?\s*>"""
    r"(?P<body>.*?)(?:</(?:\w+:)?(?:function|invoke)>|(?=</(?:\w+:)?tool_call>|<\|)|\Z)",
    re.DOTALL,
)
_PARAMETER: Final = re.compile(
    r"""<(?:\w+:)?parameter(?:(?P<coder>=)|\s+name=)["']?(?P<key>[^"'<>\n]+?)["']?\s*>"""
    r"(?P<value>(?:(?!</?(?:\w+:)?parameter[=\s>]).)*+)</(?:\w+:)?parameter>",
    re.DOTALL,
)
_PAIR: Final = re.compile(
    r"<arg_key>(?P<key>[^<>]*+)</arg_key>\s*<arg_value>(?P<value>(?:(?!</?arg_value>).)*+)</arg_value>",
    re.DOTALL,
)
_NAMED: Final = re.compile(rf"(?P<name>{_NAME})\s*(?P<pairs><arg_key>|</tool_call>)")
_MISTRAL: Final = re.compile(rf"(?P<name>{_NAME})(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*(?=\{{)")
_PYTHON: Final = re.compile(rf"(?P<name>{_NAME})\(")
_FENCE: Final = re.compile(r"```\w*\s*")
_CLOSING: Final = re.compile(
    r"(?:\s*(?:</(?:\w+:)?(?:tool_calls?|toolcall|function_calls?|tool_use|function|invoke)>|```"
    r"|<\|/tool_calls?\|>|<\|tool_call_end\|>|<tool_call\|>|<end_function_call>|<\|END_ACTION\|>"
    r"|<\|action_end\|>|<\|tools_suffix\|>|<｜tool▁call▁end｜>|<\|call\|>))*"
)
_STRINGS: Final = re.compile(r"(<\|\"\|>|<escape>)(.*?)\1", re.DOTALL)
"""Gemma's quotes around a string."""
_NAME_KEYS: Final = ("name", "tool_name", "tool", "function", "action")
_ARGUMENT_KEYS: Final = ("arguments", "parameters", "args", "input", "tool_input", "kwargs", "params")
_INNER_KEYS: Final = ("function", "tool_call", "function_call", "tool_calls")
_SEPARATORS: Final = " \t\r\n,;"
_NESTED: Final = 3
"""Wrappers within wrappers that are looked into."""


class WrittenCall(NamedTuple):
    """A call as a model wrote it."""

    name: str
    arguments: JsonObject


class Calls(NamedTuple):
    """The calls of one place, and where the text goes on behind them."""

    calls: tuple[WrittenCall, ...]
    end: int


def next_opening(text: str, at: int) -> re.Match[str] | None:
    """The next place where calls may stand."""
    return _OPENING.search(text, at)


def read_place(text: str, opening: re.Match[str], schemas: Schemas) -> Calls | None:
    """The calls behind an opening; None where none can be read."""
    kind = next(name for name in _READERS if opening[name])
    found = _READERS[kind](text, opening, schemas)
    if found is None or not found.calls:
        return None
    closing = _CLOSING.match(text, found.end)
    return found._replace(end=closing.end() if closing else found.end)


def read_bare(text: str, schemas: Schemas) -> tuple[WrittenCall, ...]:
    """The calls of a text that is nothing but JSON, as Llama writes them; all of known functions."""
    at = skip_space(text, 0)
    found = _read_objects(text, at, schemas) if text[at : at + 1] in ("{", "[") else None
    known = found is not None and all(call.name in schemas for call in found.calls)
    return found.calls if found and known and not text[found.end :].strip(_SEPARATORS) else ()


def encode_arguments(arguments: JsonObject) -> str | None:
    """Arguments as JSON; None where they hold what JSON does not know."""
    try:
        return fix_surrogates(json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        return None


def _read_json(text: str, opening: re.Match[str], schemas: Schemas) -> Calls | None:
    """Calls behind a mark that names no function."""
    at = skip_space(text, opening.end())
    fence = _FENCE.match(text, at)
    at = fence.end() if fence else at
    if text[at : at + 1] in ("{", "["):
        found = _read_objects(text, at, schemas)
        return found or (_read_python(text, at + 1, "]") if text[at] == "[" else None)
    if text[at : at + 1] == "<":
        return _read_blocks(text, at, schemas)
    named = _NAMED.match(text, at)
    if named is not None:
        return _read_pairs(text, named, schemas)
    mistral = _MISTRAL.match(text, at)
    if mistral is not None:
        return _read_object_of(mistral["name"], text, mistral.end())
    return _read_python(text, at, "")


def _read_objects(text: str, at: int, schemas: Schemas) -> Calls | None:
    """Objects or lists of them, one after another, commas or semicolons between them or not."""
    calls: list[WrittenCall] = []
    end = at
    while text[at : at + 1] in ("{", "["):
        found = read_literal(text, at)
        inside = None if found is None else _calls_of(found, schemas)
        if found is None or inside is None:
            break
        calls += inside
        at = end = found.end
        while text[at : at + 1] and text[at] in _SEPARATORS:
            at += 1
    return Calls(tuple(calls), end) if calls else None


def _calls_of(found: ParsedLiteral, schemas: Schemas) -> list[WrittenCall] | None:
    calls = _unwrap(found.value, schemas, _NESTED)
    if calls is None or (found.cut and not all(call.arguments for call in calls)):
        return None  # its arguments were to follow
    return calls


def _unwrap(value: JsonValue, schemas: Schemas, depth: int) -> list[WrittenCall] | None:
    if depth < 0:
        return None
    if isinstance(value, list):
        inside = [_unwrap(part, schemas, depth - 1) for part in value]
        if any(part is None for part in inside):
            return None
        return [call for part in inside if part is not None for call in part]
    if not isinstance(value, dict):
        return None
    for key in _INNER_KEYS:
        if isinstance(value.get(key), dict | list):
            return _unwrap(value[key], schemas, depth - 1)
    call = _named(value) or _by_key(value, schemas)
    return None if call is None else [call]


def _named(value: JsonObject) -> WrittenCall | None:
    """`{"name": …, "arguments": …}` in one of its spellings."""
    name = next((text for key in _NAME_KEYS if isinstance(text := value.get(key), str) and text), None)
    if name is None:
        return None
    given = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
    if isinstance(given, str):
        found = read_literal(given, skip_space(given, 0))
        given = found.value if found and not given[found.end :].strip() else given
    arguments = {} if given is None or given == "" else given
    return WrittenCall(name, arguments) if isinstance(arguments, dict) else None


def _by_key(value: JsonObject, schemas: Schemas) -> WrittenCall | None:
    """`{"f": {…}}`."""
    if len(value) != 1:
        return None
    ((name, given),) = value.items()
    return WrittenCall(name, given) if name in schemas and isinstance(given, dict) else None


def _read_blocks(text: str, at: int, schemas: Schemas) -> Calls | None:
    """`<function=f>…</function>`, one or more."""
    calls: list[WrittenCall] = []
    end = at
    while (block := _BLOCK.match(text, at)) is not None:
        pairs = _PARAMETER.finditer(block["body"])
        calls.append(_typed(block["name"], {pair["key"]: _unpad(pair) for pair in pairs}, schemas))
        end = block.end()
        at = skip_space(text, end)
    return Calls(tuple(calls), end) if calls else None


def _read_xml(text: str, opening: re.Match[str], schemas: Schemas) -> Calls | None:
    return _read_blocks(text, opening.start(), schemas)


def _read_pairs(text: str, named: re.Match[str], schemas: Schemas) -> Calls:
    given: dict[str, str] = {}
    at = named.start("pairs")
    while (pair := _PAIR.match(text, at)) is not None:
        given[pair["key"].strip()] = pair["value"]
        at = skip_space(text, pair.end())
    return Calls((_typed(named["name"], given, schemas),), at)


def _read_python(text: str, at: int, closing: str) -> Calls | None:
    """`f(a=1)`, several with commas or on lines of their own, up to the bracket that closes their list."""
    calls: list[WrittenCall] = []
    at = skip_space(text, at)
    while (name := _PYTHON.match(text, at)) is not None:
        arguments = read_arguments(text, name.end())
        if arguments is None or arguments.positional:
            break
        calls.append(WrittenCall(name["name"], arguments.named))
        at = skip_space(text, arguments.end)
        at = skip_space(text, at + 1) if text[at : at + 1] == "," else at
    if closing and text[at : at + 1] == closing:
        at += 1
    return Calls(tuple(calls), at) if calls else None


def _read_gemma(text: str, opening: re.Match[str], schemas: Schemas) -> Calls | None:
    """An object whose keys stand without quotes, and whose strings have marks of their own for them."""
    ends = [
        place
        for mark in ("<tool_call|>", "<end_function_call>")
        if (place := text.find(mark, opening.end())) >= 0
    ]
    end = min(ends, default=len(text))
    body = _STRINGS.sub(lambda string: json.dumps(string[2]), text[opening.end() : end])
    found = _read_object_of(opening["gemma_name"], body, 0)
    return found and found._replace(end=end)


def _read_named(text: str, opening: re.Match[str], schemas: Schemas) -> Calls | None:
    """Arguments behind a mark that names the function."""
    name = opening["deepseek"] or opening["kimi"] or opening["harmony"]
    at = skip_space(text, opening.end())
    fence = _FENCE.match(text, at)
    if text.startswith("<", at):
        return _read_after_wrapper(text, at, schemas)
    return _read_object_of(name, text, fence.end() if fence else at)


def _read_after_wrapper(text: str, at: int, schemas: Schemas) -> Calls | None:
    wrapped = _OPENING.match(text, at)
    return read_place(text, wrapped, schemas) if wrapped and (wrapped["json"] or wrapped["xml"]) else None


def _read_object_of(name: str, text: str, at: int) -> Calls | None:
    found = read_literal(text, at) if text[at : at + 1] == "{" else None
    if found is None or not isinstance(found.value, dict):
        return None
    return Calls((WrittenCall(name, found.value),), found.end)


def _typed(name: str, given: Mapping[str, str], schemas: Schemas) -> WrittenCall:
    """A call whose values were all written as text."""
    schema = schemas.get(name, {})
    return WrittenCall(name, {key: read_value(text, schema, key) for key, text in given.items()})


def _unpad(pair: re.Match[str]) -> str:
    """A value without the line breaks that set it off from its tags, which belong to Qwen Coder's form."""
    text = pair["value"]
    padded = pair["coder"] or (len(text) > 1 and text[0] == text[-1] == "\n")
    return text.removeprefix("\n").removesuffix("\n") if padded else text


_Read = Callable[[str, re.Match[str], Schemas], Calls | None]
_READERS: Final[Mapping[str, _Read]] = {
    "json": _read_json,
    "gemma": _read_gemma,
    "deepseek": _read_named,
    "kimi": _read_named,
    "harmony": _read_named,
    "xml": _read_xml,
}
