"""Routing session: one request on its way through the chain, its calls, their outcomes and the next plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ....configs.chat_models import RouterSettings
from ....messages.chat import ChatReply, ChatRequest, Usage
from ....messages.routing import Confidence, Estimate, Outcome, RouteCandidate
from ..errors import ContextTooLong, ModelError, ModelTimeout, RateLimited, RequestRefused, Unsupported
from .chain_model import (
    ChainModel,
    SampledRequest,
    SampleResults,
    ask_samples,
    charge,
    mean_usage,
    sampled_request,
)
from .confidence import score_replies
from .planning import PlanCandidate, PlanInputs, RemainingBudget, RoutePlan, estimate_call, plan_route
from .state import RouterState

REQUEST_ERRORS = (RequestRefused, ContextTooLong, Unsupported)
"""Errors that say nothing about the model."""
WITHHELD = ("filtered", "abort")
"""Finish reasons of a reply that was withheld."""


class AvailableReply(NamedTuple):
    """A reply that may be given."""

    member: ChainModel
    reply: ChatReply
    confidence: Confidence
    whole: bool
    """Not cut off at `max_tokens`."""


class CallUsage(NamedTuple):
    """Cost, tokens and time of one call."""

    most: Estimate
    cost: float
    tokens: int
    seconds: float


class RoutingSession:
    """See the module. `plan` and `ask` in turn, until `accepted` or nobody is left."""

    def __init__(
        self,
        request: ChatRequest,
        members: Sequence[ChainModel],
        settings: RouterSettings,
        state: RouterState,
        today: Callable[[], str],
        deadline_s: float | None,
    ) -> None:
        self._settings = settings
        self._state = state
        self._today = today
        self._deadline = None if deadline_s is None else _now() + deadline_s
        self._members = {member.entry.name: member for member in members}
        self._requests = {
            name: sampled_request(request, member.entry, member.model.capabilities)
            for name, member in self._members.items()
        }
        self._measured = {name: self._measure(name) for name in self._members}
        self._plan = RoutePlan((), {})
        self._records: dict[str, RouteCandidate] = {}
        self._available: list[AvailableReply] = []
        self.cost = 0.0
        self.tokens = 0

    @property
    def accepted(self) -> bool:
        """True once a reply is sure enough."""
        return bool(self._available) and self._is_sure_enough(self._available[-1])

    @property
    def best(self) -> AvailableReply | None:
        """The reply to give: the surest of the whole ones; of two as sure, the later."""
        return max(
            reversed(self._available), key=lambda found: (found.whole, found.confidence.value), default=None
        )

    def plan(self) -> RoutePlan:
        """The order of the models not asked yet, from the present budgets and circuits."""
        budget = self._settings.budget
        left = RemainingBudget(
            None if budget.request_cost is None else budget.request_cost - self.cost,
            None if budget.request_tokens is None else budget.request_tokens - self.tokens,
        )
        self._plan = plan_route(
            PlanInputs(
                candidates=[self._candidate(name) for name in self._members if name not in self._records],
                first=self._settings.chain[0].name,
                order=self._settings.order,
                of_request=left,
                of_day=self._state.remaining(self._today(), budget),
                left_s=self._left_s(),
            )
        )
        return self._plan

    async def ask(self, name: str) -> None:
        """Ask one model, within its budgets and the deadline; what comes of it is in `considered`."""
        member, asked, most, day = (
            self._members[name],
            self._requests[name],
            self._estimate(name),
            self._today(),
        )
        assert most is not None, "a plan holds only what can be estimated"
        refusal = self._state.reserve(day, most, self._settings.budget)
        if refusal is not None:  # another process was quicker
            self._note(name, most, outcome="skipped", reason=refusal)
            return
        member.circuit.begin(_now())
        started = _now()
        cost, tokens = most.max_cost, most.max_tokens
        try:
            answers = await self._answers(member, asked)
            if answers is not None:
                cost, tokens = charge(answers, most, asked.samples)
        except BaseException:
            member.circuit.abandoned()
            raise
        finally:
            self._state.settle(day, most, cost, tokens)
        self.cost += cost
        self.tokens += tokens
        used = CallUsage(most, cost, tokens, _now() - started)
        if answers is None:
            self._deadline_passed(name, used)
        else:
            self._answered(name, answers, used)

    def considered(self) -> tuple[RouteCandidate, ...]:
        """The record of every model: those that were asked, in that order, then the others."""
        best = self.best
        seen = dict(self._records)
        if best is not None:
            name = best.member.entry.name
            why = seen[name].reason + ("" if self._is_sure_enough(best) else "; none was surer")
            seen[name] = seen[name].model_copy(update={"outcome": "taken", "reason": why})
        rest = [name for name in (*self._plan.skipped, *self._plan.order) if name not in seen]
        return (*seen.values(), *map(self._unasked, rest))

    async def _answers(self, member: ChainModel, asked: SampledRequest) -> SampleResults | None:
        """None if the deadline came first."""
        try:
            async with asyncio.timeout(self._left_s()) as limit:
                return await ask_samples(member.model, asked, member.entry)
        except TimeoutError:
            if not limit.expired():
                raise
            return None

    def _deadline_passed(self, name: str, used: CallUsage) -> None:
        """The deadline may have been short: it is no failure of the model's, but a hint at its pace."""
        member = self._members[name]
        member.circuit.abandoned()
        self._state.update_history(member.key, lambda history: history.failed(used.seconds, too_slow=True))
        self._note(name, used.most, used, outcome="failed", reason="no answer before the deadline")

    def _answered(self, name: str, answers: SampleResults, used: CallUsage) -> None:
        member, measured = self._members[name], self._measured[name]
        if not answers.replies:
            self._failed(name, answers.errors[0], used)
            return
        member.circuit.succeeded()
        assert isinstance(measured, Usage)
        usage = mean_usage(answers.replies)
        self._state.update_history(member.key, lambda history: history.replied(measured, usage, used.seconds))
        given = [reply for reply in answers.replies if reply.finish_reason not in WITHHELD]
        if not given:
            reason = f"it withheld its answer ({answers.replies[0].finish_reason})"
            self._note(name, used.most, used, outcome="failed", reason=reason)
            return
        reply, confidence = score_replies(given, member.entry)
        found = AvailableReply(member, reply, confidence, whole=reply.finish_reason != "length")
        self._available.append(found)
        self._note(
            name, used.most, used, outcome="unsure", reason=self._verdict(found), confidence=confidence
        )

    def _failed(self, name: str, error: ModelError, used: CallUsage) -> None:
        member = self._members[name]
        if isinstance(error, REQUEST_ERRORS):
            member.circuit.abandoned()
        else:
            member.circuit.failed(_now(), error.retry_after_s if isinstance(error, RateLimited) else None)
        slow = isinstance(error, ModelTimeout)
        self._state.update_history(member.key, lambda history: history.failed(used.seconds, too_slow=slow))
        self._note(name, used.most, used, outcome="failed", reason=str(error))

    def _verdict(self, found: AvailableReply) -> str:
        value, threshold = found.confidence.value, self._settings.threshold
        if not found.whole:
            return "its reply was cut off at max_tokens"
        if self._is_sure_enough(found):
            return f"sure enough: {value:.2f} of {threshold:g}"
        return f"not sure enough: {value:.2f} of {threshold:g}"

    def _is_sure_enough(self, found: AvailableReply) -> bool:
        return found.whole and found.confidence.value >= self._settings.threshold

    def _note(
        self,
        name: str,
        most: Estimate,
        used: CallUsage | None = None,
        *,
        outcome: Outcome,
        reason: str,
        confidence: Confidence | None = None,
    ) -> None:
        self._records[name] = RouteCandidate(
            model=name,
            outcome=outcome,
            reason=reason,
            estimate=most,
            confidence=confidence,
            cost=used.cost if used else 0.0,
            tokens=used.tokens if used else 0,
            latency_s=used.seconds if used else 0.0,
        )

    def _unasked(self, name: str) -> RouteCandidate:
        skipped = self._plan.skipped.get(name)
        return RouteCandidate(
            model=name,
            outcome="not_needed" if skipped is None else "skipped",
            reason="a reply before was sure enough" if skipped is None else skipped,
            estimate=self._estimate(name),
        )

    def _candidate(self, name: str) -> PlanCandidate:
        measured = self._measured[name]
        if isinstance(measured, ModelError):
            return PlanCandidate(name, None, str(measured))
        return PlanCandidate(name, self._estimate(name), self._members[name].circuit.refusal(_now()))

    def _estimate(self, name: str) -> Estimate | None:
        measured, member = self._measured[name], self._members[name]
        if isinstance(measured, ModelError):
            return None
        history = self._state.history(member.key)
        return estimate_call(measured, member.entry.model.prices, history, self._requests[name].samples)

    def _measure(self, name: str) -> Usage | ModelError:
        try:
            return self._members[name].model.measure(self._requests[name].request)
        except ModelError as error:
            return error

    def _left_s(self) -> float | None:
        return None if self._deadline is None else self._deadline - _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
