"""What asking a model will take, learned from what it took before."""

import math

from pydantic import Field

from ...configs.chat_models import Prices
from ...messages.base import Message
from ...messages.chat import Usage
from ...messages.routing import Estimate
from ..models.tally import cost_of

WEIGHT = 0.1
"""Of the newest observation, once there are ten; before that all weigh the same."""
ENOUGH = 3
"""Replies before a latency is believed."""


class History(Message):
    """What is remembered of a model: exponentially weighted means over its replies."""

    replies: int = 0
    failures: int = 0
    taken: int = 0
    completion_tokens: float = 0.0
    seconds: float = 0.0
    prompt_excess: float = Field(default=1.0, ge=1.0)
    """The largest number of prompt tokens counted by the server for each one that was expected."""

    def replied(self, expected: Usage, usage: Usage, seconds: float) -> "History":
        """After a reply: what `ChatModel.measure` expected, and what it took."""
        replies = self.replies + 1
        weight = max(WEIGHT, 1 / replies)
        excess = usage.prompt_tokens / expected.prompt_tokens if expected.prompt_tokens else 1.0
        return self.model_copy(
            update={
                "replies": replies,
                "completion_tokens": _moved(self.completion_tokens, usage.completion_tokens, weight),
                "seconds": _moved(self.seconds, seconds, weight),
                "prompt_excess": max(self.prompt_excess, excess),
            }
        )

    def was_taken(self) -> "History":
        """After a reply of its own was given."""
        return self.model_copy(update={"taken": self.taken + 1})

    def failed(self, seconds: float, *, too_slow: bool) -> "History":
        """After a failure; one that was `too_slow` took at least this long."""
        seen: dict[str, float] = {"failures": self.failures + 1}
        if too_slow and seconds > self.seconds and self.replies:
            seen["seconds"] = _moved(self.seconds, seconds, max(WEIGHT, 1 / self.replies))
        return self.model_copy(update=seen)


def estimate(measured: Usage, prices: Prices | None, history: History, samples: int) -> Estimate:
    """`measured` holds the prompt's tokens and the most that may be written.

    The most is a bound as long as the prompt is not counted higher than ever before: a tokenizer of
    ours counts exactly, else a token is three bytes, corrected by the highest count of the past.

    >>> estimate(Usage(prompt_tokens=100, completion_tokens=50), Prices(prompt=1, completion=2), History(), 1)
    Estimate(cost=0.0002, max_cost=0.0002, tokens=150, max_tokens=150, latency_s=None)
    """
    prompt = math.ceil(measured.prompt_tokens * history.prompt_excess)
    most = measured.completion_tokens
    likely = min(most, math.ceil(history.completion_tokens)) if history.replies else most
    share = likely / history.completion_tokens if history.completion_tokens else 1.0
    return Estimate(
        cost=samples * _cost(prompt, likely, prices),
        max_cost=samples * _cost(prompt, most, prices),
        tokens=samples * (prompt + likely),
        max_tokens=samples * (prompt + most),
        latency_s=history.seconds * min(1.0, share) if history.replies >= ENOUGH else None,
    )


def _cost(prompt: int, completion: int, prices: Prices | None) -> float:
    return cost_of(Usage(prompt_tokens=prompt, completion_tokens=completion), prices) or 0.0


def _moved(mean: float, value: float, weight: float) -> float:
    return mean + weight * (value - mean)
