"""Router by a chat model: it is shown the agents and says whose command it is, or asks back.

A reply that names no agent is logged, and the rules decide; so they do where the model cannot be asked.
"""

import json
from collections.abc import Sequence
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ....messages.chat import JsonObject, SystemMessage, UserMessage
from ....messages.conversations import AgentCard, ClarificationRequest, Routing
from ....messages.generation import SamplingSettings
from ....runtime.llm.chat_model import ChatModel
from ....runtime.llm.errors import ModelError
from .base import RouteReason, ask_which, route_to
from .rule_router import RuleRouter

NOBODY: Final = "ask"
"""Reply in place of a name where the model has to ask back."""
MAX_TOKENS: Final = 200
MAX_REPLY: Final = 20_000
"""Characters of a reply that are looked at."""
_GUIDE: Final = """\
You give commands to agents. Choose the one agent that the command is for.
{agents}

Reply with one JSON object and nothing else:
{{"agent": "NAME", "reason": "why, in a few words"}}
Where the command could be for several agents, or for none, reply
{{"agent": "ask", "reason": "the question to ask back"}}"""
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class _Choice(BaseModel):
    """The model's reply."""

    model_config = ConfigDict(extra="ignore")

    agent: str
    reason: str = Field(default="", max_length=2000)


class LlmRouter:
    """See the module. The model is its opener's: it stays open."""

    def __init__(self, rules: RuleRouter, model: ChatModel) -> None:
        self._rules = rules
        self._model = model

    async def route(self, command: str, cards: Sequence[AgentCard]) -> Routing:
        """See `Router`."""
        if not cards:
            return self._rules.decide(command, cards)
        try:
            reply = await self._ask(command, cards)
        except ModelError as error:
            return self._by_rules(command, cards, str(error), "")
        choice = _read(reply)
        if choice is None:
            return self._by_rules(command, cards, "its reply is no choice", reply)
        if choice.agent == NOBODY:
            return _question(command, cards, choice.reason)
        for card in cards:
            if choice.agent in (card.name, card.role):
                return route_to(command, card, RouteReason("model", choice.reason or "the model chose it"))
        return self._by_rules(command, cards, f"it chose {choice.agent[:80]!r}, who is not there", reply)

    async def _ask(self, command: str, cards: Sequence[AgentCard]) -> str:
        can = self._model.capabilities
        guide = _GUIDE.format(agents="\n".join(map(_line, cards)))
        sampling = SamplingSettings(temperature=0.0 if can.temperature else 1.0, max_tokens=MAX_TOKENS)
        reply = await self._model.chat(
            [SystemMessage(text=guide), UserMessage(text=command)],
            sampling,
            output_schema=_schema(cards) if can.json_schema else None,
        )
        return reply.text

    def _by_rules(self, command: str, cards: Sequence[AgentCard], problem: str, reply: str) -> Routing:
        log.warning("the model did not route", model=self._model.name, problem=problem, reply=reply[:500])
        decided = self._rules.decide(command, cards)
        reason = f"by the rules, for {self._model.name} did not choose ({problem}): {decided.reason}"
        return decided.model_copy(update={"reason": reason})


def _question(command: str, cards: Sequence[AgentCard], question: str) -> ClarificationRequest:
    plain = ask_which(command, cards, RouteReason("model", ""), question or "the model is in doubt")
    return plain.model_copy(update={"question": f"{question} {plain.question}".strip()})


def _line(card: AgentCard) -> str:
    about = f" {card.description}" if card.description else ""
    return f"- {card.name}: may {', '.join(card.actions)}.{about}"


def _schema(cards: Sequence[AgentCard]) -> JsonObject:
    return {
        "type": "object",
        "properties": {
            "agent": {"type": "string", "enum": [*(card.name for card in cards), NOBODY]},
            "reason": {"type": "string"},
        },
        "required": ["agent", "reason"],
        "additionalProperties": False,
    }


def _read(reply: str) -> _Choice | None:
    """The first JSON object of a reply that is a choice."""
    decoder, text = json.JSONDecoder(), reply[:MAX_REPLY]
    at = text.find("{")
    while at >= 0:
        try:
            value, _ = decoder.raw_decode(text, at)
            return _Choice.model_validate(value)
        except (ValueError, ValidationError, RecursionError):
            at = text.find("{", at + 1)
    return None
