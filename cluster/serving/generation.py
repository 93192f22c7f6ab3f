"""Asking an engine: once for the whole, or following it while it writes.

Giving up, in either way, cancels the ask, which aborts the request in the engine. An engine that was
restarted has lost its adapters: the first request for one loads it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import NamedTuple

from ...messages.adapters import LoadAdapter
from ...messages.generation import Completion, DescribeEngine, EngineStatistics, Generate, StreamTokens
from ...runtime.engines.base import UnknownAdapter
from ...runtime.ref import PoolRef, Ref

DESCRIBE_S = 5.0
LOAD_S = 600.0
"""How long one adapter may take to load."""


class GenerationDelta(NamedTuple):
    """Tokens that have come since the piece before."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    whole: Completion | None = None
    """With the last piece: all of it."""


class Sampler:
    """One engine, or a pool of them, with the adapters that it is to serve.

    `adapters`: by name, what reads their files (it blocks).
    """

    def __init__(
        self, engine: Ref, adapters: Mapping[str, Callable[[], LoadAdapter]], timeout_s: float
    ) -> None:
        self._engine = engine
        self._adapters = adapters
        self._timeout_s = timeout_s

    async def load_all(self) -> None:
        """Load every adapter on every replica. Raises AdapterRejected, BadInput."""
        for name in self._adapters:
            for replica in self._replicas():
                await self._load(replica, name)

    async def at_once(self, request: Generate) -> AsyncGenerator[GenerationDelta, None]:
        """A completion in one piece. Raises what the engine raises."""
        whole = await self._answer(self._replica(), request)
        yield GenerationDelta(whole.token_ids, whole.logprobs, whole)

    async def follow(self, request: Generate) -> AsyncGenerator[GenerationDelta, None]:
        """The same in as many pieces as the engine makes of it."""
        replica = self._replica()
        answer = asyncio.ensure_future(self._answer(replica, request.model_copy(update={"live": True})))
        answer.add_done_callback(_mark_seen)
        await asyncio.sleep(0)  # the request goes out before the first question about it
        known, ended = 0, False
        try:
            while not ended:
                question = StreamTokens(request_id=request.request_id, after=known)
                fresh = await replica.ask(question, timeout_s=self._timeout_s)
                known, ended = known + len(fresh.token_ids), fresh.ended
                if fresh.token_ids:
                    yield GenerationDelta(fresh.token_ids, fresh.logprobs)
            whole = await answer
            yield GenerationDelta(whole.token_ids[known:], whole.logprobs[known:], whole)
        finally:
            answer.cancel()

    async def statistics(self) -> EngineStatistics:
        """Sum over the replicas that answer. Raises what an ask raises, if none does."""
        asked = [replica.ask(DescribeEngine(), timeout_s=DESCRIBE_S) for replica in self._replicas()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        known = [answer for answer in answers if isinstance(answer, EngineStatistics)]
        if not known:
            raise next(answer for answer in answers if isinstance(answer, BaseException))
        return EngineStatistics(
            running=sum(one.running for one in known),
            waiting=sum(one.waiting for one in known),
            requests=sum(one.requests for one in known),
            generated_tokens=sum(one.generated_tokens for one in known),
            prompt_tokens=sum(one.prompt_tokens for one in known),
            cached_tokens=sum(one.cached_tokens for one in known),
            steps=sum(one.steps for one in known),
            busy_s=sum(one.busy_s for one in known),
            adapters=known[0].adapters,
        )

    async def _answer(self, replica: Ref, request: Generate) -> Completion:
        try:
            return await replica.ask(request, timeout_s=self._timeout_s)
        except UnknownAdapter:
            if request.adapter is None or request.adapter not in self._adapters:
                raise
        await self._load(replica, request.adapter)
        return await replica.ask(request, timeout_s=self._timeout_s)

    async def _load(self, replica: Ref, name: str) -> None:
        await replica.ask(await asyncio.to_thread(self._adapters[name]), timeout_s=LOAD_S)

    def _replicas(self) -> tuple[Ref, ...]:
        return self._engine.members if isinstance(self._engine, PoolRef) else (self._engine,)

    def _replica(self) -> Ref:
        """The replica that is asked and followed: one and the same."""
        return self._engine.least_loaded() if isinstance(self._engine, PoolRef) else self._engine


def _mark_seen(answer: asyncio.Future[Completion]) -> None:
    """An error that nobody waits for any more was met while following."""
    if not answer.cancelled():
        answer.exception()
