"""Parser of the function calls in a reply, complete or still being streamed.

Calls in a family's own marks are read wherever they stand outside of thoughts (`call_formats`); without
any, a reply that is nothing but JSON, and then the forms that agents use in plain text: `<tool …>`,
ReAct's labels, fences, and Python's calls on lines of their own. These count for known functions only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from uuid import uuid4

from ....messages.chat import FunctionCall, FunctionSpec, JsonObject
from ....messages.turns import ToolCall
from ...tools.calls.call_formats import TAGS
from ...tools.calls.parser import parse_reply
from .argument_values import read_value
from .call_formats import Schemas, WrittenCall, encode_arguments, next_opening, read_bare, read_place

MAX_TRIES: Final = 32
"""Places that look like calls and are none, after which the rest is text; each may cost a look at it all."""

_THOUGHT: Final = re.compile(r"<(think|thinking)>.*?(?:</\1>|\Z)", re.DOTALL)
_UNOPENED: Final = re.compile(r"\A(?:(?!<think).)*?</think(?:ing)?>", re.DOTALL)
_SHOWN: Final = re.compile(r"(?:<\|channel\|>\s*final|\bto=user)[^<]{0,32}<\|message\|>")
"""Behind it stands what the user is to read, where replies go through channels."""
_ENDS: Final = re.compile(r"<\|(?:end|start|call|return|eom|eot)\|>")
_HIDDEN: Final = re.compile(r"\bto=|analysis")
_PLAIN: Final = re.compile(
    rf"<(?:{'|'.join(TAGS)})\b|```|^[ \t>*_#`-]{{0,8}}action\b|^[ \t]{{0,3}}[{{\[]",
    re.IGNORECASE | re.MULTILINE,
)
"""Possible beginning of a call in plain text."""
_UNFINISHED: Final = re.compile(r"(?:<[^\s<>]{0,40}|<\|[^<>]{0,60}|\[[A-Z_]{0,12}|`{1,2}|\bto=[\w.]{0,64})\Z")
"""The end of a text that may turn out to be such a beginning."""
_LONGEST_MARK: Final = 128
"""Characters that `_SHOWN` may take."""
_LAST_LINE: Final = re.compile(r"^[ \t>*_#`-]{0,8}([\w.]{0,64})[ \t]{0,8}\Z", re.MULTILINE)


class TextAndCalls(NamedTuple):
    """A reply, split into text and calls."""

    text: str
    """Outside of its calls; a call that cannot be read stays in here."""
    calls: tuple[FunctionCall, ...]


class Visible(NamedTuple):
    """The part of an unfinished text that can be shown."""

    end: int
    holds: bool
    """A call may have begun there: nothing behind it can be shown before the reply's end."""


class CallParser:
    """Reads the replies to requests that offer these functions.

    `strip` takes special tokens out of a text; `channels` says that the model writes what it thinks, its
    calls and its answer into messages of their own (gpt-oss).
    """

    def __init__(
        self,
        functions: Sequence[FunctionSpec],
        strip: Callable[[str], str] = str,
        *,
        channels: bool = False,
    ) -> None:
        self._schemas: Schemas = {function.name: function.parameters for function in functions}
        self._strip = strip
        self._channels = channels
        self._words = (*self._schemas, "action", "functools")
        names = "|".join(map(re.escape, self._schemas))
        self._lines = re.compile(rf"^[ \t]{{0,3}}(?:{names})\(", re.MULTILINE) if names else None

    def read(self, text: str, *, begun: bool = False) -> TextAndCalls:
        """Take a reply apart, or the rest of one that has begun: then its first blanks belong to it."""
        text = _answer_of(text) if self._channels and not self._schemas else text
        if not self._schemas:
            return TextAndCalls(self._strip(text), ())
        rest, calls = self._read_marked(text)
        if calls:
            said = self._strip(_answer_of(rest) if self._channels else rest).rstrip()
            return TextAndCalls(said if begun else said.lstrip(), tuple(calls))
        plain = self._strip(_answer_of(text) if self._channels else text)
        bare = read_bare(plain, self._schemas)
        if bare:
            return TextAndCalls("", tuple(filter(None, map(_as_call, bare))))
        return self._read_plain(plain)

    def hidden(self, text: str, known: int) -> int:
        """Characters at the beginning that nobody is to see, once the answer has begun behind them.

        `known`: characters that were looked at before.
        """
        shown = _SHOWN.search(text, max(0, known - _LONGEST_MARK)) if self._channels else None
        return shown.end() if shown else 0

    def visible(self, text: str) -> Visible:
        """The part of an unfinished text that can be shown: up to where a call may begin."""
        if self._channels and ("<|" in text or not text.strip()):
            return Visible(0, False)
        opening = min(self._openings(text), default=None) if self._schemas else None
        if opening is not None:
            return Visible(opening, True)
        unfinished = _UNFINISHED.search(text)
        places = [len(text), *([unfinished.start()] if unfinished else [])]
        line = _LAST_LINE.search(text) if self._schemas else None
        if line and any(word.startswith((line[1], line[1].lower())) for word in self._words):
            places.append(line.start())
        return Visible(min(places), False)

    def show(self, text: str) -> str:
        """Text as a client sees it."""
        return self._strip(text)

    def _openings(self, text: str) -> list[int]:
        """Places where a call may have begun, one for each syntax."""
        found = [next_opening(text, 0), _PLAIN.search(text)]
        if self._lines is not None:
            found.append(self._lines.search(text))
        return [match.start() for match in found if match]

    def _read_marked(self, text: str) -> tuple[str, list[FunctionCall]]:
        """The text outside of the calls in marks, and the calls."""
        thoughts = _thoughts(text)
        calls: list[FunctionCall] = []
        kept: list[str] = []
        at = done = tries = 0
        while tries < MAX_TRIES and (opening := next_opening(text, at)) is not None:
            at = next((end for start, end in thoughts if start <= opening.start() < end), 0)
            if at:
                continue
            found = read_place(text, opening, self._schemas)
            read = [call for each in found.calls if (call := _as_call(each))] if found else []
            at = max(found.end, opening.end()) if found and read else opening.end()
            tries += not read
            if read:
                kept.append(text[done : opening.start()])
                calls += read
                done = at
        return "".join((*kept, text[done:])), calls

    def _read_plain(self, text: str) -> TextAndCalls:
        """Calls of known functions in the forms of plain text; what is said before them is the text."""
        signatures = {name: _parameters(schema) for name, schema in self._schemas.items()}
        reply = parse_reply(text, signatures)
        calls = [self._from_text(call) for call in reply.calls if call.tool in self._schemas]
        if not calls or len(calls) < len(reply.calls):
            return TextAndCalls(text, ())
        return TextAndCalls(reply.thought, tuple(filter(None, calls)))

    def _from_text(self, call: ToolCall) -> FunctionCall | None:
        """A call whose input is a text: an object of arguments, or the one argument's bare text."""
        schema = self._schemas[call.tool]
        names = _parameters(schema)
        given = _read_object(call.input)
        if given is not None and not (len(names) == 1 and names[0] not in given and given):
            arguments: JsonObject = {
                key: read_value(value, schema, key) if isinstance(value, str) and key in names else value
                for key, value in given.items()
            }
        else:
            name = names[0] if names else "input"
            arguments = {name: read_value(call.input, schema, name)}
        return _as_call(WrittenCall(call.tool, arguments))


def _answer_of(text: str) -> str:
    """Of a reply in channels: what is neither thought nor a call."""
    shown = _SHOWN.search(text)
    if shown is not None:
        return _ENDS.split(text[shown.end() :], maxsplit=1)[0]
    if "<|message|>" not in text:
        return _ENDS.sub("", text)
    parts = (message.partition("<|message|>") for message in _ENDS.split(text))
    return "".join(body for header, mark, body in parts if mark and not _HIDDEN.search(header))


def _thoughts(text: str) -> list[tuple[int, int]]:
    """Spans of thoughts; the prompt may have opened the first one."""
    found = [match.span() for match in _THOUGHT.finditer(text)]
    unopened = _UNOPENED.match(text) if "</think" in text else None
    return [unopened.span(), *found] if unopened else found


def _as_call(written: WrittenCall) -> FunctionCall | None:
    arguments = encode_arguments(written.arguments)
    if arguments is None:
        return None
    return FunctionCall(id=f"call_{uuid4().hex}", name=written.name, arguments=arguments)


def _parameters(schema: JsonObject) -> tuple[str, ...]:
    properties = schema.get("properties")
    return tuple(properties) if isinstance(properties, dict) else ()


def _read_object(text: str) -> JsonObject | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
