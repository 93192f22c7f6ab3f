"""Action formats: how a model is told of the actions, and how its reply is parsed into one.

`JsonActionFormat` is one JSON object, for chat models; `ReActFormat` is the Student's `Thought:`, `Action:`,
`Input:` and `Answer:`, for the adapters that were trained on it.
"""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, Protocol

from pydantic import JsonValue, ValidationError

from ...messages.chat import AssistantMessage, ConversationMessage, JsonObject, UserMessage
from ...messages.data import Action, Param
from ...runtime.tools.calls.parser import parse_reply
from ..environment import ACTIONS, format_parameter_errors
from .base import ANSWER, Decision


class UnreadableReply(ValueError):
    """The reply is no action; the message says why."""


class ActionFormat(Protocol):
    """One way of talking about actions."""

    system: str
    """The prompt before everything else."""
    examples: tuple[ConversationMessage, ...]
    """Shown after it."""
    schema: JsonObject | None
    """Schema that the model is held to where it can be; None where there is no JSON."""
    stop: tuple[str, ...]
    """Stop sequences of a reply."""

    def question(self, text: str, *, first: bool) -> str:
        """An observation as the model reads it; `first`: it is the command."""

    def read(self, text: str) -> Decision:
        """A reply. Raises Unreadable."""


def validated(action: Action) -> Action:
    """The action, whose parameters fit. Raises Unreadable."""
    if action.name == ANSWER:
        return action
    try:
        ACTIONS[action.name].model_validate(dict(action.params))
    except KeyError as error:
        raise UnreadableReply(f"{action.name!r} is no action") from error
    except ValidationError as error:
        raise UnreadableReply(f"{action.name}: {format_parameter_errors(error)}") from error
    return action


MAX_CHARACTERS: Final = 100_000
"""A longer reply is cut before it is read."""
_MAX_TRIES: Final = 32
"""Braces that may begin the object."""
_TEXT: Final[JsonObject] = {"type": "string"}
_TEXTS: Final[JsonObject] = {"type": "array", "items": _TEXT}
_FLAG: Final[JsonObject] = {"type": "boolean"}
_FORMAT: Final[JsonObject] = {"type": "string", "enum": ["arrow", "binary", "text"]}


class _Shape(NamedTuple):
    """An action in words, and its parameters as JSON schemas."""

    says: str
    params: dict[str, JsonObject]


SHAPES: Final[dict[str, _Shape]] = {
    "assimilate": _Shape(
        "store what the URIs in `src` name under the tag `dst`. A URI is file::PATH, folder::PATH, "
        "hdf5::PATH or mem::TAG/BLOB",
        {"src": _TEXTS, "dst": _TEXT, "format": _FORMAT},
    ),
    "query": _Shape("list what the cache holds; globs", {"tag_pattern": _TEXT, "blob_pattern": _TEXT}),
    "retrieve": _Shape(
        "fetch one blob; `force` goes past the cache", {"tag": _TEXT, "blob_name": _TEXT, "force": _FLAG}
    ),
    "prune": _Shape("let the cache forget blobs; the store keeps them", {"tag": _TEXT, "blob_names": _TEXTS}),
    "destroy": _Shape("remove tags with all their blobs, for good", {"tags": _TEXTS}),
    "list_blobs": _Shape("list what the store holds; globs", {"tag_pattern": _TEXT, "blob_pattern": _TEXT}),
    ANSWER: _Shape("touch nothing; say something to the person, or that the task is done", {"text": _TEXT}),
}
_GUIDE: Final = """\
You manage data in a store with a cache in front of it. A blob has a name and lies under a tag.
Reply with one JSON object and nothing else:
{{"thought": "why", "action": "its name", "params": {{…}}}}

Actions and their parameters:
{actions}

Without a tag, use {tag!r}. Take names exactly as they are written."""


class CommandExample(NamedTuple):
    """A command, and the reply that it should get."""

    command: str
    action: Action


class JsonActionFormat:
    """See `ActionFormat`. Only the permitted actions are told of, and read."""

    def __init__(
        self,
        permitted: Collection[str] = tuple(ACTIONS),
        *,
        default_tag: str = "default",
        system: str = "",
        examples: Sequence[CommandExample] = (),
    ) -> None:
        """`system` stands in place of our own prompt."""
        self._names = tuple(name for name in SHAPES if name in permitted or name == ANSWER)
        listing = "\n".join(_line(name) for name in self._names)
        self.system = system or _GUIDE.format(actions=listing, tag=default_tag)
        self.examples = tuple(message for example in examples for message in _shown(example))
        self.schema: JsonObject | None = _schema(self._names)
        self.stop: tuple[str, ...] = ()

    def question(self, text: str, *, first: bool) -> str:
        """The command as it is; what came of an action with that said."""
        return text if first else f"Observation: {text}"

    def read(self, text: str) -> Decision:
        """Find the object. Raises Unreadable."""
        found = _first_object(text[:MAX_CHARACTERS])
        name, params, thought = found.get("action"), found.get("params", {}), found.get("thought", "")
        if not isinstance(name, str) or name not in self._names:
            raise UnreadableReply(f"the action {_short(name)} is none of {', '.join(self._names)}")
        try:
            action = Action.model_validate({"name": name, "params": params})
        except ValidationError as error:
            raise UnreadableReply(f"{name}: params are no flat object of values: {_short(params)}") from error
        return Decision(thought if isinstance(thought, str) else "", validated(_without_nothing(action)))


def _line(name: str) -> str:
    shape = SHAPES[name]
    params = ", ".join(f'"{key}": {_kind(schema)}' for key, schema in shape.params.items())
    return f"- {name} {{{params}}}: {shape.says}."


def _kind(schema: JsonObject) -> str:
    return {"array": "[text, …]", "boolean": "true|false"}.get(str(schema["type"]), "text")


def _schema(names: Sequence[str]) -> JsonObject:
    """Every key is required and no other allowed, as strict servers want it."""
    params: list[JsonValue] = [_object(dict(SHAPES[name].params)) for name in names]
    action: JsonObject = {"type": "string", "enum": list(names)}
    return _object({"thought": _TEXT, "action": action, "params": {"anyOf": params}})


def _object(properties: dict[str, JsonObject]) -> JsonObject:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _shown(example: CommandExample) -> tuple[ConversationMessage, ConversationMessage]:
    action = example.action
    reply = {"thought": f"This asks for {action.name}.", "action": action.name, "params": dict(action.params)}
    return UserMessage(text=example.command), AssistantMessage(text=json.dumps(reply, ensure_ascii=False))


def _first_object(text: str) -> JsonObject:
    """The first JSON object that has an action. Raises Unreadable."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(_MAX_TRIES):
        if at < 0:
            break
        try:
            value, _ = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and "action" in value:
            return value
        at = text.find("{", at + 1)
    raise UnreadableReply(f"there is no JSON object with an action in it: {_short(text)}")


def _without_nothing(action: Action) -> Action:
    """A null, or an empty text for what has a default, says nothing."""
    told: dict[str, Param] = {key: value for key, value in action.params if value not in (None, "")}
    return Action.of(action.name, **told)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


class ReActFormat:
    """See `ActionFormat`: what an adapter was trained on is what it is asked in."""

    def __init__(self, system: str, read_input: Callable[[str, str], Action]) -> None:
        """`read_input` makes an action of its name and the line behind `Input:`."""
        self.system = system
        self.examples: tuple[ConversationMessage, ...] = ()
        self.schema: JsonObject | None = None
        self.stop: tuple[str, ...] = ("\nObservation:",)
        self._read_input = read_input

    def question(self, text: str, *, first: bool) -> str:
        """A task, or an observation."""
        return f"Task: {text}" if first else f"Observation: {text}"

    def read(self, text: str) -> Decision:
        """The first call, or the answer. Raises Unreadable."""
        reply = parse_reply(text)
        if reply.calls:
            call = reply.calls[0]
            return Decision(reply.thought, validated(self._read_input(call.tool, call.input)))
        if reply.answer is not None:
            return Decision(reply.thought, Action.of(ANSWER, text=reply.answer))
        raise UnreadableReply(f"there is no Action and no Answer: {text[:80]!r}")
