"""Command dispatcher: splits what a person says into commands, and routes each to an agent.

Consumes texts; produces one routing for each command in them, and publishes each as an event with its
reason; waits for the router and for whoever hears of it; unblocked by their limits.

Invariants: every command of a text gets exactly one routing, in order; after one that is unclear the rest
of the text is left undone, since it may build on it; an answer to a question is heard only right behind it.

A new command begins behind `;`, a full stop, `and`, `then` or a comma, where a verb of the language follows
at once: "load a.md and b.md as docs, then search all data" is two. Quotes keep names whole.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from typing import Final

from ....messages.conversations import AgentCard, ClarificationRequest, CommandRouted, Routing
from .base import CommandRouter, RouteReason, join_names, route_to
from .rule_router import RuleRouter

_QUOTED: Final = r"""(?<!\w)(?:"[^"]*"|'[^']*')"""
_JOINT: Final = re.compile(
    rf"{_QUOTED}|(?P<joint>\s*(?:;|\n|[.,](?=\s))\s*(?:(?:and|then|also|finally)\b\s*,?\s*)*"
    r"|\s+(?:(?:and|then|also|finally)\b\s*,?\s*)+)(?P<please>(?:please\s+)?)(?P<next>[\w-]*)",
    re.IGNORECASE,
)
_GOES_ON: Final = re.compile(r"[.:/]\S")
_END: Final = " \t\r\n;,"
_OPENING: Final = re.compile(r"^(?:\s*(?:first|and|then|also|finally)\b\s*,?)+\s+", re.IGNORECASE)


def split_commands(text: str, verbs: Container[str]) -> tuple[str, ...]:
    """The commands of a text, in order; none is empty.

    >>> split_commands("load a.md and b.md as docs, then get a.md from docs", {"load", "get"})
    ('load a.md and b.md as docs', 'get a.md from docs')
    """
    commands, start = [], 0
    for match in _JOINT.finditer(text):
        joint = match["joint"]
        if joint is None:
            continue
        whole = not _GOES_ON.match(text, match.end())  # "read.md" is no verb
        if ";" in joint or "\n" in joint or (whole and match["next"].lower() in verbs):
            commands.append(text[start : match.start()])
            start = match.start("please")
    commands.append(text[start:])
    trimmed = (_OPENING.sub("", command).strip(_END) for command in commands)
    return tuple(command for command in trimmed if command)


_TO_NAME: Final = re.compile(r"^\s*@?(?P<name>[A-Za-z0-9][\w.-]*)\s*:(?!:)\s+(?P<command>\S.*)$", re.DOTALL)
_ASK_NAME: Final = re.compile(
    r"^\s*(?:please\s+)?(?:ask|tell|let)\s+(?:the\s+)?(?P<name>[A-Za-z0-9][\w.-]*)(?:\s+agent)?\s+"
    r"(?:to\s+)?(?P<command>\S.*)$",
    re.DOTALL | re.IGNORECASE,
)
_ANSWER: Final = re.compile(
    r"^\s*(?:the\s+|@)?(?P<name>[A-Za-z0-9][\w.-]*?)(?:\s+agent)?\s*[.!]?\s*$", re.IGNORECASE
)


class CommandDispatcher:
    """See the module.

    A worked example::

        rules = RuleRouter()
        dispatcher = CommandDispatcher(rules, rules, cards_of_the_registry, system.publish)
        async for routing in dispatcher.route("load file::a.md as docs, then search all data"):
            ...                                       # ingestor, then retriever
    """

    def __init__(
        self,
        rules: RuleRouter,
        router: CommandRouter,
        discover: Callable[[], Sequence[AgentCard]],
        publish: Callable[[Routing], Awaitable[None]],
    ) -> None:
        """`rules` know where a command begins. `discover` tells who is there now; it is asked each time."""
        self._rules = rules
        self._router = router
        self._discover = discover
        self._publish = publish
        self._open: ClarificationRequest | None = None
        """The question that was asked last, until the next text."""

    async def route(self, text: str) -> AsyncIterator[Routing]:
        """Whose each command of a text is; the last may be a question.

        A command is routed when the one before it has been dealt with, so that agents that it made are seen.
        """
        asked, self._open = self._open, None
        if asked is not None and (answered := self._answer(asked, text)) is not None:
            await self._publish(answered)
            yield answered
            return
        for command in split_commands(text, self._rules.first_words(self._discover())):
            routing = await self._one(command)
            await self._publish(routing)
            if isinstance(routing, ClarificationRequest):
                self._open = routing
            yield routing
            if isinstance(routing, ClarificationRequest):
                return

    async def _one(self, command: str) -> Routing:
        cards = tuple(self._discover())
        for pattern in (_TO_NAME, _ASK_NAME):
            match = pattern.match(command)
            card = _named(match["name"], cards) if match else None
            if match and card is not None:
                return route_to(match["command"], card, RouteReason("named", f"it names {card.name}"))
        return await self._router.route(command, cards)

    def _answer(self, asked: ClarificationRequest, text: str) -> CommandRouted | None:
        """The command that was asked about, if the text is nothing but the name of an agent."""
        cards = [card for card in self._discover() if card.name in asked.candidates]
        match = _ANSWER.match(text)
        card = _named(match["name"], cards) if match else None
        if card is None:
            return None
        why = f"asked whether {join_names(asked.candidates, 'or')}, the answer was {card.name}"
        return route_to(asked.command, card, RouteReason("named", why))


def _named(name: str, cards: Sequence[AgentCard]) -> AgentCard | None:
    """The agent of this name, or of this name without `_agent`."""
    wanted = name.strip().lower()
    by_name = {card.role.lower(): card for card in cards} | {card.name.lower(): card for card in cards}
    return by_name.get(wanted)
