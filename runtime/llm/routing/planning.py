"""Route planning: estimates of cost and latency, and the order of the models that fit time and budgets.

Functions of what is known, without any waiting.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from ....configs.chat_models import Prices
from ....messages.base import Message
from ....messages.chat import Usage
from ....messages.routing import Estimate
from ..usage import cost_of


class PlanCandidate(NamedTuple):
    """A model that has not been asked yet."""

    name: str
    estimate: Estimate | None
    """None where it cannot do what is asked for; `refusal` says why."""
    refusal: str | None = None
    """The reason not to ask it, whatever is left: capabilities, context, its circuit."""


class RemainingBudget(NamedTuple):
    """The rest of a budget; None: no limit."""

    cost: float | None = None
    tokens: int | None = None


class PlanInputs(NamedTuple):
    """Everything that a plan depends on."""

    candidates: Sequence[PlanCandidate]
    """As the settings list them."""
    first: str
    """The head of the chain, which goes before all others."""
    order: Literal["cost", "latency", "listed"] = "cost"
    of_request: RemainingBudget = RemainingBudget()
    of_day: RemainingBudget = RemainingBudget()
    left_s: float | None = None
    """Until the deadline."""


class RoutePlan(NamedTuple):
    """The models to ask in order, and the skipped ones."""

    order: tuple[str, ...]
    """To be asked, one after the other, until one is sure enough."""
    skipped: dict[str, str]
    """The others, each with the reason."""


def plan_route(inputs: PlanInputs) -> RoutePlan:
    """Sort out who cannot be asked, and order the rest."""
    skipped: dict[str, str] = {}
    fit: list[tuple[str, Estimate]] = []
    for name, estimate, refusal in inputs.candidates:
        if estimate is None or refusal is not None:
            skipped[name] = refusal or "it cannot be estimated"
        elif (why := _too_much(estimate, inputs)) is not None:
            skipped[name] = why
        else:
            fit.append((name, estimate))
    ordered = sorted(fit, key=lambda each: _rank(each[0], each[1], inputs))
    return RoutePlan(tuple(name for name, _ in ordered), skipped)


EXACT = 9
"""Decimals of money that count: sums of binary fractions are off beyond them."""


def over_budget(estimate: Estimate, left: RemainingBudget, whose: str) -> str | None:
    """The reason that a call of at most this does not fit the budget; None if it does."""
    if left.cost is not None and round(estimate.max_cost - left.cost, EXACT) > 0:
        return f"could cost {estimate.max_cost:.6g}, and {max(0.0, left.cost):.6g} is left of {whose} budget"
    if left.tokens is not None and estimate.max_tokens > left.tokens:
        return (
            f"could take {estimate.max_tokens} tokens, and {max(0, left.tokens)} are left of {whose} budget"
        )
    return None


def _too_much(estimate: Estimate, inputs: PlanInputs) -> str | None:
    left = inputs.left_s
    if left is not None and left <= 0.0:
        return "the deadline has passed"
    if left is not None and estimate.latency_s is not None and estimate.latency_s > left:
        return f"takes about {estimate.latency_s:.1f} s, and the deadline is in {left:.1f} s"
    return over_budget(estimate, inputs.of_request, "the request's") or over_budget(
        estimate, inputs.of_day, "the day's"
    )


def _rank(name: str, estimate: Estimate, inputs: PlanInputs) -> tuple[bool, float]:
    """Sorting keeps the order of equals, which is the settings'."""
    if inputs.order == "cost":
        value = estimate.cost
    elif inputs.order == "latency":
        value = float("inf") if estimate.latency_s is None else estimate.latency_s
    else:
        value = 0.0
    return name != inputs.first, value


WEIGHT = 0.1
"""Of the newest observation, once there are ten; before that all weigh the same."""
ENOUGH = 3
"""Replies before a latency is believed."""


class ModelHistory(Message):
    """History of a model: exponentially weighted means over its replies."""

    replies: int = 0
    failures: int = 0
    taken: int = 0
    completion_tokens: float = 0.0
    seconds: float = 0.0
    prompt_excess: float = Field(default=1.0, ge=1.0)
    """The largest number of prompt tokens counted by the server for each one that was expected."""

    def replied(self, expected: Usage, usage: Usage, seconds: float) -> "ModelHistory":
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

    def was_taken(self) -> "ModelHistory":
        """After a reply of its own was given."""
        return self.model_copy(update={"taken": self.taken + 1})

    def failed(self, seconds: float, *, too_slow: bool) -> "ModelHistory":
        """After a failure; one that was `too_slow` took at least this long."""
        seen: dict[str, float] = {"failures": self.failures + 1}
        if too_slow and seconds > self.seconds and self.replies:
            seen["seconds"] = _moved(self.seconds, seconds, max(WEIGHT, 1 / self.replies))
        return self.model_copy(update=seen)


def estimate_call(measured: Usage, prices: Prices | None, history: ModelHistory, samples: int) -> Estimate:
    """`measured` holds the prompt's tokens and the most that may be written.

    The most is a bound as long as the prompt is not counted higher than ever before: a tokenizer of
    ours counts exactly, else a token is three bytes, corrected by the highest count of the past.

    >>> expected = Usage(prompt_tokens=100, completion_tokens=50)
    >>> estimate_call(expected, Prices(prompt=1, completion=2), ModelHistory(), 1)
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
