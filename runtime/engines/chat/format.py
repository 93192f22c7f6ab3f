"""Chat format of a model: messages to tokens and back, exactly as its own chat template has it.

A conversation is never tokenized twice: the opening is rendered once, the model's tokens stay as
they were sampled, and each observation is rendered as the *difference* that the template puts
between the end of one assistant message and the start of the next.

    chat = ChatFormat.load(folder)
    prompt = chat.opening([ChatMessage("system", "Be brief."), ChatMessage("user", "Task: 2+2?")])
    completion = (await engine.generate(...)).token_ids          # ends with eos
    prompt += completion + chat.observation("Observation: 4")    # the next prompt

Light on purpose: the `tokenizers` library and a sandboxed jinja2, so that a process that only
talks to engines starts without transformers. Only hub names and folders without `tokenizer.json`
go through AutoTokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import JsonValue

from ....messages.chat import TokenLogprob
from .template import CALL_SHAPES, DEFAULT, WITH_TOOLS, CallShape, ChatFormatError, ChatTemplate, write_call
from .tokenizer import Decode, Encode, TokenizerFiles, read_tokenizer_files

__all__ = ["ChatFormat", "ChatFormatError", "ChatMessage", "Decode", "Encode"]

_COMPLETION: Final = "\ue000completion\ue001"
"""Stands for the completion in a rendered conversation; private-use characters, never tokenized."""


class ChatMessage(NamedTuple):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatFormat:
    """One model's chat template and tokenizer."""

    def __init__(self, files: TokenizerFiles) -> None:
        self._encode = files.encode
        self._decode = files.decode
        self._decode_all = files.decode_all
        self._special_texts = files.special_texts
        self._spell = files.spell
        self._specials = files.specials
        self._eos_texts = files.eos_texts
        self._template = ChatTemplate(files.templates[DEFAULT])
        with_tools = files.templates.get(WITH_TOOLS)
        self._tools_template = self._template if with_tools is None else ChatTemplate(with_tools)
        self.eos_ids = files.eos_ids
        self.takes_functions = "tools" in self._tools_template.variables
        """The template has a place for functions that the model may call."""
        self.has_channels = "<|message|>" in self._tools_template.source
        """The model writes thoughts, calls and answers as messages of their own (gpt-oss)."""

    @classmethod
    def load(cls, folder_or_name: str | Path) -> ChatFormat:
        """Read a model folder, or a hub name. Raises ChatFormatError."""
        return cls(read_tokenizer_files(folder_or_name))

    def opening(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """The first prompt: these messages, and what the template puts before the model's reply."""
        try:
            return self.encode(self._render(_forms(messages)))
        except ChatFormatError:
            merged = _without_system(messages)
            if merged == list(messages):
                raise
            return self.encode(self._render(_forms(merged)))  # some templates (Gemma's) have no system role

    def opening_with_functions(
        self, messages: Sequence[Mapping[str, JsonValue]], functions: Sequence[JsonValue]
    ) -> tuple[int, ...]:
        """The same in the words of chat templates (`runtime.engines.chat.function_calling` has them)."""
        told = messages if self.call_shape is None else [self.call_shape(message) for message in messages]
        return self.encode(self._render(told, list(functions) or None))

    @cached_property
    def call_shape(self) -> CallShape | None:
        """The shape in which the template shows a message's calls; None where it shows them in none.

        Templates differ in whether they take arguments as objects or as text, and in what they make of a
        message with calls that says nothing beside.
        """
        found = next((shape for shape in CALL_SHAPES if self._shows_calls(shape)), None)
        reads_calls = "tool_calls" in self._template.source  # though not those of any function
        return CALL_SHAPES[0] if found is None and reads_calls else found

    def _shows_calls(self, shape: CallShape) -> bool:
        """True if a call's name, its arguments and its result come through."""
        marks = [f"\ue000{part}\ue001" for part in ("name", "key", "value", "result")]
        told: list[dict[str, JsonValue]] = [
            {"role": "user", "content": "."},
            shape(write_call(marks[0], {marks[1]: marks[2]}, "call00000")),
            {"role": "tool", "tool_call_id": "call00000", "name": marks[0], "content": marks[3]},
        ]
        try:
            text = self._render(told)
        except ChatFormatError:
            return False
        return all(mark in text for mark in marks)

    def observation(self, text: str, *, cut_off: bool = False) -> tuple[int, ...]:
        """The tokens between a completion and the next one, with `text` as the user's message.

        The completion is taken to end with the eos that the model sampled; `cut_off` says that it
        does not (its length ran out), and then the template's eos is included.
        """
        _, found, tail = self._render(_forms(_conversation(text))).partition(_COMPLETION)
        if not found:
            raise ChatFormatError("the model's chat template leaves out what the model said before")
        return self.encode(tail if cut_off else self._after_eos(tail))

    def encode(self, text: str) -> tuple[int, ...]:
        """The tokens of plain text; what a model wrote is never encoded again. Raises ChatFormatError."""
        try:
            return tuple(self._encode(text))
        except (TypeError, UnicodeEncodeError) as error:
            raise ChatFormatError("the text holds half of a surrogate pair, which is no character") from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without special tokens."""
        return self._decode(ids)

    def decode_marked(self, ids: Sequence[int]) -> str:
        """The text of `ids` with the special tokens that calls are marked with, without the end."""
        return self._decode_all([token for token in ids if token not in self.eos_ids])

    def without_specials(self, text: str) -> str:
        """A text of `decode_marked` as `decode` would have it."""
        return self._specials_pattern.sub("", text) if self._special_texts else text

    def token_logprob(self, token_id: int, logprob: float) -> TokenLogprob:
        """A sampled token as whoever asked for log-probabilities reads it."""
        data = self._spell(token_id)
        text = data.decode("utf-8", "backslashreplace")
        return TokenLogprob(text=text, logprob=logprob, token_id=token_id, utf8=tuple(data))

    def _after_eos(self, tail: str) -> str:
        """Drop the eos (and blanks before it) with which the template closes an assistant message."""
        body = tail.lstrip()
        for eos in self._eos_texts:
            if body.startswith(eos):
                return body.removeprefix(eos)
        return tail

    def _render(
        self, messages: Sequence[Mapping[str, JsonValue]], functions: Sequence[JsonValue] | None = None
    ) -> str:
        template = self._tools_template if functions else self._template
        if self._reads_parts:
            messages = [_in_parts(message) for message in messages]
        return template.render(messages, functions, self._specials)

    @cached_property
    def _specials_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(filter(None, self._special_texts), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)))

    @cached_property
    def _reads_parts(self) -> bool:
        """The template reads messages as lists of parts only, and would leave a plain text out."""
        asked: dict[str, JsonValue] = {"role": "user", "content": _COMPLETION}

        def shows(message: dict[str, JsonValue]) -> bool:
            try:
                return _COMPLETION in self._template.render([message], None, self._specials)
            except ChatFormatError:
                return False

        return not shows(asked) and shows(_in_parts(asked))


def _in_parts(message: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A message whose text is a part, as templates of models that see pictures, too, have it."""
    text = message.get("content")
    return {**message, "content": [{"type": "text", "text": text}] if text else text}


def _forms(messages: Sequence[ChatMessage]) -> list[dict[str, JsonValue]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _conversation(observation: str) -> list[ChatMessage]:
    return [
        ChatMessage("user", "."),
        ChatMessage("assistant", _COMPLETION),
        ChatMessage("user", observation),
    ]


def _without_system(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The system messages' text, moved to the front of the first user message."""
    system = "".join(f"{message.content}\n\n" for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if system and rest:
        rest[0] = rest[0]._replace(content=system + rest[0].content)
    return rest
