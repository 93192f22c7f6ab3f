"""A real server in this process, in front of an engine of the test's choosing."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from openai import AsyncOpenAI

from agentfactory.cluster.serving.generation import Sampler
from agentfactory.cluster.serving.http_server import bind, running, url_of
from agentfactory.cluster.serving.routes import build
from agentfactory.cluster.serving.served_model import ServedModel
from agentfactory.configs.http_servers import ServingSettings
from agentfactory.configs.models import SEED_MODEL, ModelSettings, SimulatedEngineSettings
from agentfactory.messages.generation import Completion, EngineStatistics, Generate
from agentfactory.runtime.engines.actor import InferenceEngine
from agentfactory.runtime.engines.base import Engine, EngineError, OnTokens
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.engines.simulated import Reply, ScriptedEngine
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem

SEED = ChatFormat.load(SEED_MODEL)


class EngineOf(InferenceEngine):
    """The real actor around an engine that the test made."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(ModelSettings(), SimulatedEngineSettings())
        self._engine = engine


class HeldEngine(ScriptedEngine):
    """Tells of its first token, and ends when the test says so."""

    def __init__(
        self, script: Reply | Sequence[str | EngineError] = lambda prompt, adapter: "Answer: 4"
    ) -> None:
        super().__init__(script, SEED)
        self.asked = asyncio.Semaphore(0)
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.in_hand = 0

    async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
        self.in_hand += 1
        self.asked.release()
        try:
            if on_tokens is not None:
                on_tokens(SEED.encode("A"), [-0.25])
            await self.go_on.wait()
            return await super().generate(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.in_hand -= 1

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(running=self.in_hand)


class Served(NamedTuple):
    """Where it is, and how to talk to it."""

    url: str
    client: AsyncOpenAI
    service: ServedModel
    system: ActorSystem


@asynccontextmanager
async def served(
    engine: Engine,
    *,
    chat: ChatFormat = SEED,
    keys: Sequence[str] = (),
    models: Mapping[str, str | None] | None = None,
    **settings: int | float | str,
) -> AsyncIterator[Served]:
    serving = ServingSettings.model_validate({"port": 0, "embedder": "ngrams", "drain_s": 5, **settings})
    async with ActorSystem.open("local") as system:
        ref: ActorRef = await system.spawn(EngineOf, engine, name="engine")
        service = ServedModel(Sampler(ref, {}, serving.timeout_s), chat, models or {"seed": None}, serving)
        with bind(serving) as listening:
            async with running(build(service, tuple(keys)), serving.drain_s, listening):
                url = url_of(listening)
                key = keys[0] if keys else "none"
                async with AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=30) as client:
                    yield Served(url, client, service, system)


def asking(text: str = "Task: What is 2+2?") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
