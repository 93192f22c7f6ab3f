"""The words that the prompt itself understands; all else is for the agent."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

from pydantic import JsonValue, ValidationError

from ..configs.errors import BadInput
from ..configs.printable import printable
from ..configs.yaml_core import YamlSyntaxError, parse_yaml
from ..messages.conversations import AgentReply
from ..messages.data import Action
from .conversation import Conversation
from .replies import CommandReply, ReplyLine, of_history, of_routing, of_said, of_statistics

HELP: Final = (
    ("help", "this"),
    ("status", "steps, rewards and the cache's hit rate so far"),
    ("history", "all steps with their rewards"),
    ("list", "the agents there are"),
    ("observe", "what was seen last"),
    ("manual ACTION JSON", 'a step of your own, such as manual query {"tag_pattern": "*"}'),
    ("switch NAME", "go on with another agent"),
    ("configure KEY VALUE", "change a setting of this agent, such as configure agent.default_tag docs"),
    ("quit, exit", "the end"),
    ("anything else", "is for the agent: load file::notes.md as docs"),
)
WORDS: Final = (
    "help",
    "status",
    "history",
    "list",
    "observe",
    "manual",
    "switch",
    "configure",
    "quit",
    "exit",
)


class Quit(Exception):
    """The person has had enough."""


class _Input(NamedTuple):
    """A line, cut in two."""

    word: str
    rest: str


class ReplCommands:
    """Answers lines, one after another."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._alone: dict[str, Callable[[], CommandReply]] = {
            "help": _help,
            "status": self._status,
            "history": lambda: of_history(conversation.history),
            "list": self._list,
            "observe": self._observe,
        }

    async def answer(self, line: str) -> AsyncGenerator[CommandReply, None]:
        """Replies to a line, as they come. Raises Quit, and our errors in one sentence each."""
        said = _cut(line)
        if not said.word:
            return
        if not said.rest and said.word in {"quit", "exit"}:
            raise Quit
        if not said.rest and said.word in self._alone:
            yield self._alone[said.word]()
        elif said.word == "manual":
            yield _of(await self.conversation.manual(_action(said.rest)))
        elif said.word == "switch" and (not said.rest or _one_word(said.rest)):
            yield self._switch(said.rest)
        elif said.word == "configure":
            yield self._configure(said.rest)
        else:
            async for reply in self._to_the_agent(line.strip()):
                yield reply

    async def _to_the_agent(self, text: str) -> AsyncGenerator[CommandReply, None]:
        async for part in self.conversation.say(text):
            yield _of(part) if isinstance(part, AgentReply) else CommandReply(of_routing(part), {})

    def _status(self) -> CommandReply:
        return of_statistics(self.conversation.agent, self.conversation.statistics)

    def _observe(self) -> CommandReply:
        seen = self.conversation.seen
        text = printable(seen.text, lines=True) or "nothing has been seen yet"
        return CommandReply((ReplyLine(f"  {text}"),), seen.model_dump(mode="json"))

    def _list(self) -> CommandReply:
        registry = self.conversation.manager.registry
        lines, names = [], []
        for listed in registry.listed():
            blueprint = listed.blueprint
            mark = "*" if blueprint.name == self.conversation.agent else " "
            about = blueprint.blueprint.description
            lines.append(
                ReplyLine(f"{mark} {blueprint.name:<22} {blueprint.agent.type:<12} {about}".rstrip())
            )
            names.append(blueprint.name)
        lines += [ReplyLine(problem, "bad") for problem in registry.problems()]
        data: dict[str, JsonValue] = {"blueprints": list(names), "problems": list(registry.problems())}
        return CommandReply(tuple(lines), data)

    def _switch(self, name: str) -> CommandReply:
        if not name:
            raise BadInput("switch to whom? Say `switch NAME`; `list` shows the names")
        self.conversation.switch(name)
        return CommandReply((ReplyLine(f"now with {name}"),), {"agent": name})

    def _configure(self, rest: str) -> CommandReply:
        key, _, text = rest.partition(" ")
        if not key or not text.strip():
            raise BadInput(
                "configure what? Say `configure KEY VALUE`, such as `configure agent.default_tag docs`"
            )
        try:
            value = parse_yaml(text)
        except YamlSyntaxError as error:
            raise BadInput(f"configure {key}: {text.strip()!r} is not valid YAML") from error
        name = self.conversation.agent
        self.conversation.manager.configure(name, {key: value})
        line = ReplyLine(f"{name}: {key} is {value!r} from here on, in this session")
        return CommandReply((line,), {"agent": name, "key": key, "value": value})


def _help() -> CommandReply:
    lines = tuple(ReplyLine(f"  {word:<20} {about}") for word, about in HELP)
    return CommandReply(lines, {"commands": dict(HELP)})


def _of(said: AgentReply) -> CommandReply:
    return CommandReply(of_said(said), said.model_dump(mode="json"), said.ok)


def _cut(line: str) -> _Input:
    word, _, rest = line.strip().partition(" ")
    return _Input(word.lower(), rest.strip())


def _one_word(text: str) -> bool:
    return len(text.split()) == 1


def _action(text: str) -> Action:
    """`ACTION JSON`. Raises BadInput."""
    name, _, params = text.partition(" ")
    if not name:
        raise BadInput('manual what? Say `manual ACTION JSON`, such as `manual query {"tag_pattern": "*"}`')
    try:
        found = json.loads(params or "{}")
        if not isinstance(found, dict):
            raise BadInput(f"manual {name}: expected a JSON object, found {params.strip()[:80]}")
        return Action.model_validate({"name": name, "params": found})
    except ValidationError as error:
        problem = error.errors()[0]
        raise BadInput(f"manual {name}: {problem['msg']}, found {problem['input']!r}") from error
    except ValueError as error:
        raise BadInput(f"manual {name}: what follows is not JSON: {error}") from error
