"""Tokens while a request runs: from the engine, and through its actor."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest_asyncio

from agentfactory.configs.models import SEED_MODEL, ModelSettings, TransformersEngineSettings
from agentfactory.messages.generation import Generate, SamplingSettings, StreamTokens
from agentfactory.runtime.engines.actor import InferenceEngine
from agentfactory.runtime.engines.batching.engine import TransformersEngine
from agentfactory.runtime.engines.chat.format import ChatFormat, ChatMessage
from agentfactory.runtime.engines.token_stream import TokenStream
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem

LIMIT_S = 180.0
numbers = itertools.count()


def request(*, max_tokens: int = 24, live: bool = False) -> Generate:
    prompt = ChatFormat.load(SEED_MODEL).opening([ChatMessage("user", "Task: What is 12*(7+5)?")])
    sampling = SamplingSettings(max_tokens=max_tokens, temperature=0.0)
    return Generate(request_id=f"live-{next(numbers)}", prompt_ids=prompt, sampling=sampling, live=live)


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[ActorRef]:
    async with ActorSystem.open("local") as system:
        yield await system.spawn(
            InferenceEngine, ModelSettings(device="cpu"), TransformersEngineSettings(), name="engine"
        )


async def test_an_engine_tells_of_each_step_but_the_last_before_it_answers() -> None:
    engine = TransformersEngine(ModelSettings(device="cpu"), TransformersEngineSettings())
    await engine.start()
    heard: list[tuple[tuple[int, ...], tuple[float, ...]]] = []

    def listen(token_ids: Sequence[int], logprobs: Sequence[float]) -> None:
        heard.append((tuple(token_ids), tuple(logprobs)))

    try:
        whole = await engine.generate(request(), listen)
        unheard = await engine.generate(request())
    finally:
        await engine.aclose()
    assert [len(tokens) for tokens, _ in heard] == [1] * 23
    assert tuple(token for tokens, _ in heard for token in tokens) == whole.token_ids[:-1]
    assert tuple(value for _, values in heard for value in values) == whole.logprobs[:-1]
    assert unheard.token_ids == whole.token_ids


async def test_a_follower_sees_the_tokens_that_the_completion_has(engine: ActorRef) -> None:
    asked = request(live=True)
    answer = asyncio.ensure_future(engine.ask(asked, timeout_s=LIMIT_S))
    await asyncio.sleep(0)  # it goes out first
    seen: tuple[int, ...] = ()
    pieces, ended = 0, False
    while not ended:
        follow = StreamTokens(request_id=asked.request_id, after=len(seen))
        fresh = await engine.ask(follow, timeout_s=LIMIT_S)
        seen, ended, pieces = seen + fresh.token_ids, fresh.ended, pieces + 1
    whole = await answer
    assert seen == whole.token_ids[: len(seen)]
    assert len(seen) >= 1
    assert pieces > 1


async def test_whoever_follows_what_does_not_run_hears_that_it_has_ended(engine: ActorRef) -> None:
    fresh = await engine.ask(StreamTokens(request_id="nobody's"), timeout_s=LIMIT_S)
    assert fresh.ended
    assert fresh.token_ids == ()


async def test_a_follower_that_is_slow_gets_all_that_it_missed() -> None:
    live = TokenStream()
    waiting = asyncio.ensure_future(live.beyond(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    live.add([5], [-0.5])
    assert (await waiting).token_ids == (5,)
    live.add([6], [-0.6])
    live.add([7, 8], [-0.7, -0.8])
    fresh = await live.beyond(1)
    assert (fresh.token_ids, fresh.logprobs, fresh.ended) == ((6, 7, 8), (-0.6, -0.7, -0.8), False)
    live.end()
    assert (await live.beyond(4)).ended
