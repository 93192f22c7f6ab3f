"""Which of several chat models answers: the first that is sure enough, within time and money.

    async with Router(RouterSettings()) as router:
        routed = await router.ask("What is 2 + 2?")
        print(routed.reply.text, routed.decision)

`router` tells how a request goes through the chain; every rule has a file of its own: `planning`,
`confidence`, `estimating`, `circuit`, `results`, `calibration`, and `state` for what is remembered.
"""

from ..errors import NoAnswer, RouterClosed, StateDamaged, UnknownDecision
from .router import Router

__all__ = ["NoAnswer", "Router", "RouterClosed", "StateDamaged", "UnknownDecision"]
