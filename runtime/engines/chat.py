"""From messages to tokens and back, exactly as a model's own chat template has it.

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

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from jinja2 import Template, TemplateError, meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import JsonValue

from configs.errors import BadInput

Encode = Callable[[str], Sequence[int]]
Decode = Callable[[Sequence[int]], str]

_COMPLETION = "\ue000completion\ue001"
"""Stands for the completion in a rendered conversation; private-use characters, never tokenized."""


class ChatFormatError(BadInput):
    """A model's tokenizer files or chat template cannot be used."""


class ChatMessage(NamedTuple):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class _Source(NamedTuple):
    """What a chat format is made of, wherever it came from."""

    encode: Encode
    decode: Decode
    template: str
    specials: dict[str, str]
    """Named special tokens that templates may use: `bos_token`, `eos_token`, …"""
    eos_ids: frozenset[int]
    eos_texts: tuple[str, ...]


class ChatFormat:
    """One model's chat template and tokenizer."""

    def __init__(self, source: _Source) -> None:
        self._encode = source.encode
        self._decode = source.decode
        self._specials = source.specials
        self._eos_texts = source.eos_texts
        self._template = _compile(source.template)
        self.eos_ids = source.eos_ids
        self.takes_functions = _mentions(source.template, "tools")
        """Whether the template has a place for functions that the model may call."""

    @classmethod
    def load(cls, folder_or_name: str | Path) -> ChatFormat:
        """Read a model folder, or a hub name. Raises ChatFormatError."""
        folder = Path(folder_or_name)
        if (folder / "tokenizer.json").is_file():
            return cls(_read_folder(folder))
        return cls(_read_with_transformers(str(folder_or_name)))

    def opening(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """The first prompt: these messages, and what the template puts before the model's reply."""
        try:
            return self.encode(self._render(_forms(messages)))
        except ChatFormatError:
            merged = _without_system(messages)
            if merged == list(messages):
                raise
            return self.encode(
                self._render(_forms(merged))
            )  # some templates (Gemma's) refuse the system role

    def opening_with_functions(
        self, messages: Sequence[Mapping[str, JsonValue]], functions: Sequence[JsonValue]
    ) -> tuple[int, ...]:
        """The same in the words of chat templates (`runtime.engines.functions` has them)."""
        return self.encode(self._render(messages, list(functions) or None))

    def observation(self, text: str, *, cut_off: bool = False) -> tuple[int, ...]:
        """The tokens between a completion and the next one, with `text` as the user's message.

        The completion is taken to end with the eos that the model sampled; `cut_off` says that it
        does not (its length ran out), and then the template's eos is included.
        """
        tail = self._render(_forms(_conversation(text))).partition(_COMPLETION)[2]
        return self.encode(tail if cut_off else self._after_eos(tail))

    def encode(self, text: str) -> tuple[int, ...]:
        """The tokens of plain text; what a model wrote is never encoded again."""
        return tuple(self._encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without special tokens."""
        return self._decode(ids)

    def _after_eos(self, tail: str) -> str:
        """Drop the eos (and blanks before it) with which the template closes an assistant message."""
        body = tail.lstrip()
        for eos in self._eos_texts:
            if body.startswith(eos):
                return body.removeprefix(eos)
        return tail

    def _render(
        self, messages: Sequence[Mapping[str, JsonValue]], functions: list[JsonValue] | None = None
    ) -> str:
        try:
            return self._template.render(
                messages=list(messages),
                add_generation_prompt=True,
                tools=functions,
                **self._specials,
            )
        except TemplateError as error:
            raise ChatFormatError(f"the model's chat template refuses this conversation: {error}") from error


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


def _environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are written for: transformers' own environment, sandboxed."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    return environment


def _compile(template: str) -> Template:
    try:
        return _environment().from_string(template)
    except TemplateError as error:
        raise ChatFormatError(f"the model's chat template does not compile: {error}") from error


def _mentions(template: str, name: str) -> bool:
    """Whether a template that compiles reads this variable."""
    return name in meta.find_undeclared_variables(_environment().parse(template))


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _read_folder(folder: Path) -> _Source:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = _read_json(folder / "tokenizer_config.json")
    specials = _special_tokens(settings)
    eos_ids = _stored_eos_ids(folder)
    eos_id = tokenizer.token_to_id(specials.get("eos_token", ""))
    if eos_id is not None:
        eos_ids |= {eos_id}
    eos_texts = tuple(filter(None, (tokenizer.id_to_token(eos) for eos in sorted(eos_ids))))
    return _Source(
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        decode=tokenizer.decode,
        template=_find_template(folder, settings),
        specials=specials,
        eos_ids=frozenset(eos_ids),
        eos_texts=eos_texts,
    )


def _read_with_transformers(name: str) -> _Source:
    from transformers import AutoTokenizer, GenerationConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        template = tokenizer.get_chat_template()
    except (OSError, ValueError) as error:
        raise ChatFormatError(f"{name}: no tokenizer with a chat template: {error}") from error
    eos_ids = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    with contextlib.suppress(OSError):  # without generation_config.json the tokenizer's eos is all there is
        eos_ids |= _as_ids(GenerationConfig.from_pretrained(name).eos_token_id)
    return _Source(
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
        decode=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
        template=str(template),
        specials={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        eos_ids=frozenset(eos_ids),
        eos_texts=tuple(str(tokenizer.convert_ids_to_tokens(eos)) for eos in sorted(eos_ids)),
    )


def _find_template(folder: Path, settings: dict[str, object]) -> str:
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several named templates
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    if not isinstance(template, str):
        raise ChatFormatError(
            f"{folder}: neither chat_template.jinja nor tokenizer_config.json has a chat template; "
            "use an instruction-tuned model, or add a template"
        )
    return template


def _special_tokens(settings: dict[str, object]) -> dict[str, str]:
    """`{"eos_token": "<eos>"}` or `{"eos_token": {"content": "<eos>", …}}`, as texts."""
    specials: dict[str, str] = {}
    for name, token in settings.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            specials[name] = text
    return specials


def _stored_eos_ids(folder: Path) -> set[int]:
    """Every id at which this model stops, by `generation_config.json`, else by `config.json`."""
    for name in ("generation_config.json", "config.json"):
        eos_ids = _as_ids(_read_json(folder / name).get("eos_token_id"))
        if eos_ids:
            return eos_ids
    return set()


def _as_ids(value: object) -> set[int]:
    return set(value) if isinstance(value, list) else {value} if isinstance(value, int) else set()


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ChatFormatError(f"{path}: not valid JSON: {error}") from error
    return loaded if isinstance(loaded, dict) else {}
