"""An agent without a model: it knows the language of commands, works offline, and never changes its mind."""

from ...messages.data import Observation
from .base import DecidingAgent, Decision
from .rules import Rules


class RuleBasedAgent(DecidingAgent):
    """See `actors.agents.rules`."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules

    async def _decide(self, observation: Observation) -> Decision:
        return self._rules.read(observation.text)
