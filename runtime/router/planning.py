"""Which models may be asked, and in which order: a function of what is known, without any waiting."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ...messages.routing import Estimate


class Candidate(NamedTuple):
    """A model that has not been asked yet."""

    name: str
    estimate: Estimate | None
    """None where it cannot do what is asked for; `refusal` says why."""
    refusal: str | None = None
    """Why it cannot be asked, whatever is left: capabilities, context, its circuit."""


class Purse(NamedTuple):
    """What is left; None: no limit."""

    cost: float | None = None
    tokens: int | None = None


class Situation(NamedTuple):
    """All that a plan depends on."""

    candidates: Sequence[Candidate]
    """As the settings list them."""
    first: str
    """The head of the chain, which goes before all others."""
    order: Literal["cost", "latency", "listed"] = "cost"
    of_request: Purse = Purse()
    of_day: Purse = Purse()
    left_s: float | None = None
    """Until the deadline."""


class Plan(NamedTuple):
    """What to do."""

    order: tuple[str, ...]
    """To be asked, one after the other, until one is sure enough."""
    skipped: dict[str, str]
    """The others, each with the reason."""


def plan(situation: Situation) -> Plan:
    """Sort out who cannot be asked, and order the rest."""
    skipped: dict[str, str] = {}
    fit: list[tuple[str, Estimate]] = []
    for name, estimate, refusal in situation.candidates:
        if estimate is None or refusal is not None:
            skipped[name] = refusal or "it cannot be estimated"
        elif (why := _too_much(estimate, situation)) is not None:
            skipped[name] = why
        else:
            fit.append((name, estimate))
    ordered = sorted(fit, key=lambda each: _rank(each[0], each[1], situation))
    return Plan(tuple(name for name, _ in ordered), skipped)


EXACT = 9
"""Decimals of money that count: sums of binary fractions are off beyond them."""


def over_budget(estimate: Estimate, left: Purse, whose: str) -> str | None:
    """Why an ask that takes at most this does not fit; None if it does."""
    if left.cost is not None and round(estimate.max_cost - left.cost, EXACT) > 0:
        return f"could cost {estimate.max_cost:.6g}, and {max(0.0, left.cost):.6g} is left of {whose} budget"
    if left.tokens is not None and estimate.max_tokens > left.tokens:
        return (
            f"could take {estimate.max_tokens} tokens, and {max(0, left.tokens)} are left of {whose} budget"
        )
    return None


def _too_much(estimate: Estimate, situation: Situation) -> str | None:
    left = situation.left_s
    if left is not None and left <= 0.0:
        return "the deadline has passed"
    if left is not None and estimate.latency_s is not None and estimate.latency_s > left:
        return f"takes about {estimate.latency_s:.1f} s, and the deadline is in {left:.1f} s"
    return over_budget(estimate, situation.of_request, "the request's") or over_budget(
        estimate, situation.of_day, "the day's"
    )


def _rank(name: str, estimate: Estimate, situation: Situation) -> tuple[bool, float]:
    """Sorting keeps the order of equals, which is the settings'."""
    if situation.order == "cost":
        value = estimate.cost
    elif situation.order == "latency":
        value = float("inf") if estimate.latency_s is None else estimate.latency_s
    else:
        value = 0.0
    return name != situation.first, value
