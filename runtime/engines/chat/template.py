"""Chat templates, rendered as transformers renders them, in a process that never imports transformers.

The contract is that of `transformers.utils.chat_template_utils`: jinja2's immutable sandbox with
`trim_blocks` and `lstrip_blocks`, loop controls, the block `generation` (which marks what training
counts in its loss, and adds nothing to the text), `tojson` without HTML escapes, `raise_exception` and
`strftime_now`. A template is foreign code: whatever goes wrong inside of it is a ChatFormatError.

Templates differ in how they take a message with function calls: `CALL_SHAPES` has the known ways.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import ClassVar, Final, NoReturn

from jinja2 import TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import JsonValue

from ....configs.errors import BadInput
from ....messages.chat import JsonObject

DEFAULT: Final = "default"
WITH_TOOLS: Final = "tool_use"
"""The name of the template that takes over where a model has one for tools."""


class ChatFormatError(BadInput):
    """A model's tokenizer files or chat template cannot be used."""


class ChatTemplate:
    """One template, compiled. Raises ChatFormatError where it does not compile."""

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            parsed = _environment().parse(source)
            self._template = _environment().from_string(parsed)
        except (TemplateError, RecursionError) as error:
            raise ChatFormatError(f"the model's chat template does not compile: {error}") from error
        self.variables = frozenset(meta.find_undeclared_variables(parsed))
        """Variables that it reads, such as `tools`."""

    def render(
        self,
        messages: Sequence[Mapping[str, JsonValue]],
        tools: Sequence[JsonValue] | None,
        specials: Mapping[str, str],
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """The text of a conversation. Raises ChatFormatError."""
        try:
            return self._template.render(
                messages=list(messages),
                tools=list(tools) if tools else None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **specials,
            )
        except Exception as error:
            what = str(error) or type(error).__name__
            raise ChatFormatError(f"the model's chat template refuses this conversation: {what}") from error


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`: its body, as it is."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]  # jinja2 declares a variable of instances

    def parse(self, parser: Parser) -> nodes.Node:
        """A scope of its own, as in transformers, where the body is the body of a call."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: nodes.Callable) -> str:  # type: ignore[name-defined]
        return str(caller())


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    """The environment that chat templates are written for."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as a model reads it: jinja2's own filter escapes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


CallShape = Callable[[Mapping[str, JsonValue]], JsonObject]
"""Puts a message into a template's shape; messages without calls stay as they are."""


def write_call(name: str, arguments: JsonObject, call_id: str, content: str = "") -> JsonObject:
    """An assistant's message with one call; arguments are an object."""
    function: JsonObject = {"name": name, "arguments": arguments}
    call: JsonObject = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def _as_it_is(message: Mapping[str, JsonValue]) -> JsonObject:
    return dict(message)


def _silent(message: Mapping[str, JsonValue]) -> JsonObject:
    """The content beside calls is null rather than an empty text (DeepSeek R1)."""
    silent = bool(message.get("tool_calls")) and not message.get("content")
    return {**message, "content": None} if silent else {**message}


def _with_texts(message: Mapping[str, JsonValue]) -> JsonObject:
    """Arguments are JSON text, as in OpenAI's own requests (DeepSeek V3)."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return {**message}
    return {**message, "tool_calls": [_with_text(call) for call in calls]}


def _with_text(call: JsonValue) -> JsonValue:
    if not isinstance(call, dict) or not isinstance(call["function"], dict):
        return call
    function = call["function"]
    text = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def _silent_with_texts(message: Mapping[str, JsonValue]) -> JsonObject:
    return _silent(_with_texts(message))


CALL_SHAPES: Final[tuple[CallShape, ...]] = (_as_it_is, _silent, _with_texts, _silent_with_texts)
