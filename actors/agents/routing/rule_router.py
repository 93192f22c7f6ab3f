"""Router by the verb of a command; offline, and always the same."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ....messages.conversations import AgentCard, ClarificationRequest, Routing
from ..command_grammar import COURTESY
from ..command_parser import VERBS
from ..command_tokenizer import Word, tokenize
from .base import RouteReason, ask_which, capable_agents, resolve


class _Verb(NamedTuple):
    """A verb as it stands in a command."""

    at: int
    said: str
    action: str
    cards: tuple[AgentCard, ...]
    """Those who know it."""


class RuleRouter:
    """The verb that a command begins with decides; one that stands further back must be the only one.

    A word that only some agents know, by their own rules, is for them.
    """

    def __init__(self, own: Sequence[tuple[str, str]] = ()) -> None:
        """`own`: further words, or several in a row, and the actions that they mean."""
        self._known = (*own, *VERBS.items())

    async def route(self, command: str, cards: Sequence[AgentCard]) -> Routing:
        """See `Router`."""
        return self.decide(command, cards)

    def first_words(self, cards: Sequence[AgentCard]) -> frozenset[str]:
        """Words that a command may begin with."""
        said = (*self._known, *(word for card in cards for word in card.words))
        return frozenset(phrase.lower().split()[0] for phrase, _ in said)

    def sure_of(self, command: str, cards: Sequence[AgentCard]) -> bool:
        """True if the command begins with a verb that is known."""
        words = tokenize(command)
        verb = next(self._verbs(words, cards), None)
        return verb is not None and _leads(verb, words)

    def decide(self, command: str, cards: Sequence[AgentCard]) -> Routing:
        """See `Router`."""
        words = tokenize(command)
        verbs = list(self._verbs(words, cards))
        if not verbs:
            return _ask(command, cards)
        first = verbs[0]
        others = [verb for verb in verbs if verb.action != first.action]
        if others and not _leads(first, words):
            both = [card for verb in (first, others[0]) for card in capable_agents(verb.action, verb.cards)]
            meant = tuple(dict.fromkeys(both))
            if len(meant) > 1:
                doubt = f"it says {first.said!r} and {others[0].said!r}"
                return ask_which(command, meant, RouteReason("rules", ""), doubt)
        return resolve(
            command, first.action, first.cards, RouteReason("rules", f"{first.said!r} means {first.action}")
        )

    def _verbs(self, words: Sequence[Word], cards: Sequence[AgentCard]) -> Iterator[_Verb]:
        """All that are known, in order."""
        for at in range(len(words)):
            for said, action in self._known:
                if _stands(said, words, at):
                    yield _Verb(at, said, action, tuple(cards))
                    break
            else:
                yield from self._of_some(words, at, cards)

    @staticmethod
    def _of_some(words: Sequence[Word], at: int, cards: Sequence[AgentCard]) -> Iterator[_Verb]:
        for said, action in dict.fromkeys(word for card in cards for word in card.words):
            if _stands(said, words, at):
                yield _Verb(at, said, action, tuple(card for card in cards if (said, action) in card.words))
                return


def _stands(said: str, words: Sequence[Word], at: int) -> bool:
    phrase = said.lower().split()
    found = words[at : at + len(phrase)]
    return len(found) == len(phrase) and all(
        word.among((part,)) for word, part in zip(found, phrase, strict=True)
    )


def _leads(verb: _Verb, words: Sequence[Word]) -> bool:
    return all(word.among(COURTESY) for word in words[: verb.at])


def _ask(command: str, cards: Sequence[AgentCard]) -> ClarificationRequest:
    if not cards:
        return ClarificationRequest(
            command=command,
            method="rules",
            reason="there are no agents",
            question="There is no agent to give this to: `agentfactory create NAME --type T` makes one.",
        )
    doubt = "no verb that is known, such as load, search, get or prune"
    return ask_which(command, cards, RouteReason("rules", ""), doubt)
