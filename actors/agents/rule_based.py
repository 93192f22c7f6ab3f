"""An agent without a model: it knows the language of commands, works offline, and never changes its mind."""

from actors.agents.base import DecidingAgent, Decision
from actors.agents.rules import Rules
from messages.data import Observation


class RuleBasedAgent(DecidingAgent):
    """See `actors.agents.rules`."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules

    async def _decide(self, observation: Observation) -> Decision:
        return self._rules.read(observation.text)
