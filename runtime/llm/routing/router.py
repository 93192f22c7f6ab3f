"""The router: one request, a chain of models, the first reply that is sure enough.

It plans synchronously (`planning`), asks the plan's first model, judges the reply (`confidence`), and
plans again with what is left of time and money, until a reply reaches the threshold. If none does, the
surest is given, and the decision says so.

Waits for: the cache tier, models; unblocked by each model's `timeout_s` and the request's deadline.
Invariants: an ask begins only after the most it can take was set aside, so the budgets hold however many
ask at once; errors are never cached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from ....configs.chat_models import RouterSettings
from ....configs.errors import SettingsError
from ....messages.chat import ChatRequest, UserMessage
from ....messages.routing import ModelReport, Routed, RouteDecision, RouterReport
from ..errors import NoAnswer, RouterClosed
from .chain_model import ChainModel, build_chain_model
from .confidence import calibration_error
from .response_cache import (
    BlobCacheTier,
    CachedReply,
    InMemoryResponseCache,
    ResponseCache,
    TieredResponseCache,
    chain_key,
    task_key,
)
from .session import RoutingSession
from .state import PendingDecision, RouterState

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def utc_day() -> str:
    """Today, as 2026-01-31."""
    return datetime.now(UTC).date().isoformat()


class Router:
    """See the module. Open it with `async with`, or with `start` and `aclose`.

    async with Router(RouterSettings()) as router:
        routed = await router.ask("What is 2 + 2?")
        await router.tell(routed.decision.decision_id, correct=routed.reply.text.endswith("4"))
        print(router.report())
    """

    def __init__(
        self,
        settings: RouterSettings,
        *,
        tier: BlobCacheTier | None = None,
        today: Callable[[], str] = utc_day,
    ) -> None:
        """`tier`: the cache tier of a data plane, for the replies that are cached; None: this process.

        Raises SettingsError for a missing package or key, and where nothing tells how sure a model is.
        """
        self.settings = settings
        self._today = today
        self._chain = chain_key(settings)
        self._members = {entry.name: build_chain_model(entry, settings.circuit) for entry in settings.chain}
        self._cache = _open_cache(settings, tier)
        self._stack = AsyncExitStack()
        self._opened: RouterState | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Open the memory and the models. Raises SettingsError, StateDamaged, CannotWrite."""
        async with AsyncExitStack() as stack:
            self._opened = stack.enter_context(RouterState(Path(self.settings.folder)))
            for name, member in self._members.items():
                try:
                    await stack.enter_async_context(member.model)
                except SettingsError as error:
                    raise SettingsError(f"chain: {name}: {error}") from error
            self._stack = stack.pop_all()

    async def aclose(self) -> None:
        """Close the models; what still runs fails."""
        await self._stack.aclose()
        self._opened = None

    async def ask(self, task: str, *, deadline_s: float | None = None) -> Routed:
        """`route`, for a task in plain text, with the settings' sampling."""
        request = ChatRequest(messages=(UserMessage(text=task),), sampling=self.settings.sampling)
        return await self.route(request, deadline_s=deadline_s)

    async def route(self, request: ChatRequest, *, deadline_s: float | None = None) -> Routed:
        """A reply, and how it was found. Raises NoAnswer with each model's reason; CannotWrite.

        `deadline_s` bounds all asks together. A reply that came before it is given, sure enough or not.
        """
        started = _now()
        state = self._state
        state.increment("requests")
        key = task_key(request, self._chain)
        cache = self._cache_for(request)
        cached = await cache.get(key) if cache is not None else None
        if cached is not None:
            return self._again(key, cached, started)
        limit_s = self.settings.deadline_s if deadline_s is None else deadline_s
        session = RoutingSession(
            request, list(self._members.values()), self.settings, state, self._today, limit_s
        )
        while not session.accepted and (order := session.plan().order):
            await session.ask(order[0])
        routed = self._conclude(session, key, started, request)
        if cache is not None and routed.decision.accepted:
            await cache.put(key, _cached_reply(routed))
        return routed

    async def tell(self, decision_id: str, correct: bool) -> None:
        """The outcome of a decision, once known. A wrong reply is not given again. Raises UnknownDecision."""
        waiting = self._state.take_outcome(decision_id, correct)
        if not correct and self._cache is not None:
            await self._cache.invalidate(waiting.task_key)

    def report(self) -> RouterReport:
        """Counts, spending and calibration, over all that its folder remembers."""
        state, day = self._state, self._today()
        cost, tokens = state.spent(day)
        return RouterReport(
            requests=state.count_of("requests"),
            cache_hits=state.count_of("cache_hits"),
            unanswered=state.count_of("unanswered"),
            day=day,
            day_cost=cost,
            day_tokens=tokens,
            models=tuple(self._report(member) for member in self._members.values()),
        )

    @property
    def _state(self) -> RouterState:
        if self._opened is None:
            raise RouterClosed("the router is not open; use `async with Router(…) as router`")
        return self._opened

    def _cache_for(self, request: ChatRequest) -> ResponseCache | None:
        greedy = request.sampling.temperature == 0.0
        return self._cache if greedy or self.settings.cache.sampled else None

    def _again(self, key: str, cached: CachedReply, started: float) -> Routed:
        """A reply that was cached: it costs nothing now."""
        self._state.increment("cache_hits")
        decision = RouteDecision(
            decision_id=uuid4().hex,
            task_key=key,
            model=cached.model,
            accepted=True,
            cache_hit=True,
            confidence=cached.confidence,
            latency_s=_now() - started,
        )
        cost = None if cached.reply.cost is None else 0.0
        return self._decided(Routed(reply=cached.reply.model_copy(update={"cost": cost}), decision=decision))

    def _conclude(self, session: RoutingSession, key: str, started: float, request: ChatRequest) -> Routed:
        best = session.best
        decision = RouteDecision(
            decision_id=uuid4().hex,
            task_key=key,
            model=best.member.entry.name if best else None,
            accepted=session.accepted,
            confidence=best.confidence if best else None,
            cost=session.cost,
            tokens=session.tokens,
            latency_s=_now() - started,
            considered=session.considered(),
        )
        if best is None:
            self._state.increment("unanswered")
            error = NoAnswer(decision)
            log.warning("route_unanswered", decision=decision.decision_id, error=str(error))
            raise error
        self._state.update_history(best.member.key, lambda history: history.was_taken())
        reply = best.reply if request.logprobs else best.reply.model_copy(update={"tokens": ()})
        return self._decided(Routed(reply=reply, decision=decision))

    def _decided(self, routed: Routed) -> Routed:
        decision = routed.decision
        assert decision.model is not None
        assert decision.confidence is not None
        key, sure = self._members[decision.model].key, decision.confidence.value
        self._state.add_decision(decision.decision_id, PendingDecision(key, sure, decision.task_key))
        log.info(
            "routed",
            decision=decision.decision_id,
            model=decision.model,
            accepted=decision.accepted,
            confidence=sure,
            cost=decision.cost,
            latency_s=decision.latency_s,
            cache_hit=decision.cache_hit,
        )
        return routed

    def _report(self, member: ChainModel) -> ModelReport:
        history, bins = self._state.history(member.key), self._state.bins(member.key)
        return ModelReport(
            model=member.entry.name,
            replies=history.replies,
            failures=history.failures,
            taken=history.taken,
            mean_completion_tokens=history.completion_tokens,
            mean_latency_s=history.seconds,
            circuit=member.circuit.state(_now()),
            told=sum(each.told for each in bins),
            right=sum(each.right for each in bins),
            bins=bins,
            calibration_error=calibration_error(bins),
        )


def _open_cache(settings: RouterSettings, tier: BlobCacheTier | None) -> ResponseCache | None:
    entries = settings.cache.entries
    if not entries:
        return None
    return InMemoryResponseCache(entries) if tier is None else TieredResponseCache(tier, entries)


def _cached_reply(routed: Routed) -> CachedReply:
    decision = routed.decision
    assert decision.model is not None
    assert decision.confidence is not None
    return CachedReply(model=decision.model, reply=routed.reply, confidence=decision.confidence)


def _now() -> float:
    return asyncio.get_running_loop().time()
