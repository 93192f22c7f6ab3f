"""Interface of a command router, and the steps that all share: from an action to the agent for it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from ....messages.conversations import AgentCard, ClarificationRequest, CommandRouted, Routing, RoutingMethod


class CommandRouter(Protocol):
    """Finds the agent for one command."""

    async def route(self, command: str, cards: Sequence[AgentCard]) -> Routing:
        """Choose one of `cards`, or a question to ask back. In doubt it asks; it never guesses."""


class RouteReason(NamedTuple):
    """Method and reason by which a command was routed."""

    method: RoutingMethod
    reason: str
    score: float | None = None


def capable_agents(action: str, cards: Sequence[AgentCard]) -> tuple[AgentCard, ...]:
    """Agents that may take an action: those with the fewest others, since it is their special subject."""
    may = [card for card in cards if action in card.actions]
    least = min((len(card.actions) for card in may), default=0)
    return tuple(card for card in may if len(card.actions) == least)


def resolve(command: str, action: str, cards: Sequence[AgentCard], why: RouteReason) -> Routing:
    """The agent for an action, or a question where none or several could be meant."""
    choice = capable_agents(action, cards)
    if len(choice) == 1:
        return route_to(command, choice[0], why)
    if not choice:
        known = join_names(card.name for card in cards) or "none at all"
        return ClarificationRequest(
            command=command,
            method=why.method,
            reason=f"{why.reason}; no agent may {action}",
            question=f"No agent here may {action}: {known}. Create one that may, or run one by its name.",
        )
    return ask_which(command, choice, why, f"several agents may {action}")


def route_to(command: str, card: AgentCard, why: RouteReason) -> CommandRouted:
    """The command is this agent's."""
    return CommandRouted(
        command=command,
        agent=card.name,
        role=card.role,
        method=why.method,
        reason=why.reason,
        score=why.score,
    )


def ask_which(command: str, cards: Sequence[AgentCard], why: RouteReason, doubt: str) -> ClarificationRequest:
    """Ask who of them is meant."""
    return ClarificationRequest(
        command=command,
        method=why.method,
        reason=f"{why.reason}; {doubt}" if why.reason else doubt,
        question=f"Who is to do {command!r}: {join_names((card.name for card in cards), 'or')}?",
        candidates=tuple(card.name for card in cards),
    )


def join_names(names: Iterable[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, end = list(names) or [""]
    return f"{', '.join(most)} {last} {end}" if most else end
