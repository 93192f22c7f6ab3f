"""Routing by the verb of a command; offline, and always the same."""

from collections.abc import Sequence
from typing import Final

from actors.agents.routing.base import Why, able, settle, which
from actors.agents.rules import Rules
from actors.agents.words import Word, words_of
from messages.dispatch import AgentCard, CommandUnclear, Routing

_POLITE: Final = (
    frozenset(("please", "can", "could", "would", "will", "just", "kindly", "force", "directly", "try", "to"))
    | frozenset(("i", "you", "we", "me", "us", "want", "need", "like", "let", "let's"))
    | frozenset(("first", "now", "then", "and", "also"))
)
"""Words that may stand before the verb of a command."""


class RuleRouter:
    """The verb that a command begins with decides; one that stands further back must be the only one."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    async def route(self, command: str, cards: Sequence[AgentCard]) -> Routing:
        """See `Router`."""
        return self.decide(command, cards)

    def sure_of(self, command: str) -> bool:
        """Whether the command begins with a verb of the language."""
        return self._leading(words_of(command)) is not None

    def decide(self, command: str, cards: Sequence[AgentCard]) -> Routing:
        """See `Router`."""
        words = words_of(command)
        verbs = [word.text.lower() for word in words if word.among(self._rules.verbs)]
        if not verbs:
            return self._ask(command, cards)
        action = self._rules.verbs[verbs[0]]
        others = [verb for verb in verbs[1:] if self._rules.verbs[verb] != action]
        if others and self._leading(words) is None:
            both = [card for verb in (verbs[0], others[0]) for card in able(self._rules.verbs[verb], cards)]
            meant = tuple(dict.fromkeys(both))
            if len(meant) > 1:
                return which(command, meant, Why("rules", ""), f"it says {verbs[0]!r} and {others[0]!r}")
        return settle(command, action, cards, Why("rules", f"{verbs[0]!r} means {action}"))

    def _leading(self, words: Sequence[Word]) -> str | None:
        """The verb that the command begins with, behind words of politeness."""
        for word in words:
            if not word.among(_POLITE):
                return word.text if word.among(self._rules.verbs) else None
        return None

    @staticmethod
    def _ask(command: str, cards: Sequence[AgentCard]) -> CommandUnclear:
        why = Why("rules", "")
        if not cards:
            return CommandUnclear(
                command=command,
                method="rules",
                reason="there are no agents",
                question="There is no agent to give this to: `agentfactory create NAME --type T` makes one.",
            )
        return which(command, cards, why, "no verb that is known, such as load, search, get or prune")
