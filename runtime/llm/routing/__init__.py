"""An LLM cascade: of a chain of chat models the first that is sure enough answers, within time and money.

    async with Router(RouterSettings()) as router:
        routed = await router.ask("What is 2 + 2?")
        print(routed.reply.text, routed.decision)

`router` is the whole; `session` takes one request through the chain; the rules are in `planning` (who is
asked next), `confidence`, `circuit_breaker` and `response_cache`; `state` is what outlives the process.
"""

from ..errors import NoAnswer, RouterClosed, StateDamaged, UnknownDecision
from .router import Router

__all__ = ["NoAnswer", "Router", "RouterClosed", "StateDamaged", "UnknownDecision"]
