"""Agents bound by rules: one that is the command parser alone, and a wrapper that permits some actions only.

Invariant: no action leaves a `RestrictedAgent` that it may not do, whatever its backend says.
"""

from typing import Final

import structlog

from ...messages.data import Observation
from .base import ANSWER, Agent, DecidingAgent, Decision, NotPermitted, NotUnderstood, StatefulAgent
from .command_parser import CommandParser


class RuleBasedAgent(DecidingAgent):
    """See `actors.agents.command_parser`."""

    def __init__(self, rules: CommandParser) -> None:
        super().__init__()
        self._rules = rules

    async def _decide(self, observation: Observation) -> Decision:
        return self._rules.read(observation.text)


INGESTOR_ACTIONS: Final = ("assimilate",)
RETRIEVER_ACTIONS: Final = ("query", "retrieve", "prune")
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class RestrictedAgent(DecidingAgent):
    """Does what its backend decides, if it may. Else the rules read the command, unless it asks for more.

    The backend sees the command as it was given.
    """

    def __init__(self, role: str, permitted: tuple[str, ...], backend: Agent, rules: CommandParser) -> None:
        super().__init__()
        self._role = role
        self._permitted = permitted
        self._backend = backend
        self._rules = rules
        self._in_task = False

    @property
    def remembers(self) -> bool:
        """True if the backend does."""
        return isinstance(self._backend, StatefulAgent) and self._backend.remembers

    def begin(self) -> None:
        """See `StatefulAgent`."""
        self._in_task = False
        if isinstance(self._backend, StatefulAgent):
            self._backend.begin()

    def forget(self) -> None:
        """See `StatefulAgent`."""
        self._in_task = False
        if isinstance(self._backend, StatefulAgent):
            self._backend.forget()

    async def _decide(self, observation: Observation) -> Decision:
        thought = await self._backend.think(observation)
        action = await self._backend.act(observation)
        later, self._in_task = self._in_task, self._in_task or self.remembers
        if self._may(action.name):
            return Decision(thought, action)
        log.warning("action is not permitted", role=self._role, action=action.name, thought=thought)
        if later:  # what is observed now is not the command
            raise self._refusal(action.name)
        by_rules = self._by_rules(observation.text, action.name)
        if not self._may(by_rules.action.name):
            raise self._refusal(by_rules.action.name)
        why = f"the {self._role} may not {action.name}; by the rules: {by_rules.thought}"
        return Decision(why, by_rules.action)

    def _may(self, name: str) -> bool:
        return name in self._permitted or name == ANSWER

    def _by_rules(self, text: str, wanted: str) -> Decision:
        try:
            return self._rules.read(text)
        except NotUnderstood as error:
            raise self._refusal(wanted) from error

    def _refusal(self, wanted: str) -> NotPermitted:
        return NotPermitted(f"the {self._role} may only {', '.join(self._permitted)}, and not {wanted}")
