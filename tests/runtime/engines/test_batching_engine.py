"""The transformers engine on a small Qwen2 with random weights: real torch, real peft."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from safetensors.torch import save_file
from transformers import Qwen2Config

from agentfactory.configs.errors import SettingsError
from agentfactory.configs.models import ModelSettings, TransformersEngineSettings
from agentfactory.messages.generation import Generate
from agentfactory.runtime.engines.base import (
    AdapterRejected,
    BadRequest,
    EngineClosed,
    EngineFailed,
    PromptTooLong,
    UnknownAdapter,
)
from agentfactory.runtime.engines.batching import scheduler
from agentfactory.runtime.engines.batching.engine import TransformersEngine
from agentfactory.runtime.engines.registry import open_engine
from scripts.seed_model.tokenizer import EOS_ID, decode
from tests.runtime.small_model import (
    LIMIT_S,
    Model,
    greedy,
    limited,
    logprobs,
    make_adapter,
    make_model,
    random_prompt,
    request,
)

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft calls it
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest_asyncio.fixture
async def engine(model: Model) -> AsyncIterator[TransformersEngine]:
    engine = unstarted(model)
    await limited(engine.start())
    yield engine
    await limited(engine.aclose())


def unstarted(model: Model, **settings: int) -> TransformersEngine:
    return TransformersEngine(
        ModelSettings(source=str(model.folder), device="cpu"), TransformersEngineSettings(**settings)
    )


def lasting(reference: torch.nn.Module, **fields: str) -> Generate:
    """A greedy request that does not meet an eos within its tokens."""
    asked = (request(f"Task: {i}\n", max_tokens=20, **fields) for i in range(100))  # type: ignore[arg-type]
    return next(each for each in asked if EOS_ID not in greedy(reference, each))


class Steps:
    """Holds the worker before its steps, and tells when it has made some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self._allowed = 0
        self._changed = threading.Condition()
        original = scheduler.Scheduler.step

        def step(this: scheduler.Scheduler) -> list[scheduler.FinishedSequence]:
            with self._changed:
                assert self._changed.wait_for(lambda: self.made < self._allowed, LIMIT_S)
            ended = original(this)
            with self._changed:
                self.made += 1
                self._changed.notify_all()
            return ended

        monkeypatch.setattr(scheduler.Scheduler, "step", step)

    def free(self) -> None:
        with self._changed:
            self._allowed = 1 << 30
            self._changed.notify_all()

    async def make(self, count: int) -> None:
        with self._changed:
            self._allowed = self.made + count
            self._changed.notify_all()
        await limited(asyncio.to_thread(self._wait))

    def _wait(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.made == self._allowed, LIMIT_S)


async def test_a_mixed_batch_with_joins_and_leaves_equals_generate_row_by_row(model: Model) -> None:
    engine = unstarted(model, max_batch=6)
    await limited(engine.start())
    rng = random.Random(1)
    sizes = [(rng.randint(1, 90), rng.randint(1, 40)) for _ in range(20)]
    asked = [request(random_prompt(rng, prompt), max_tokens=tokens) for prompt, tokens in sizes]
    got = await limited(asyncio.gather(*map(engine.generate, asked)))
    await limited(engine.aclose())
    assert [each.token_ids for each in got] == [greedy(model.reference, each) for each in asked]


async def test_a_completion_ends_with_eos_or_has_its_full_length(engine: TransformersEngine) -> None:
    asked = [request("Task:", temperature=1.0, seed=seed, max_tokens=60) for seed in range(30)]
    got = await limited(asyncio.gather(*map(engine.generate, asked)))
    ended = [each for each in got if each.finish_reason == "stop"]
    assert 0 < len(ended) < 30
    assert all(each.token_ids.index(EOS_ID) == len(each.token_ids) - 1 for each in ended)
    assert all(
        len(each.token_ids) == 60 and EOS_ID not in each.token_ids for each in got if each not in ended
    )


async def test_logprobs_are_those_of_the_model(engine: TransformersEngine, model: Model) -> None:
    asked = request("Task: 1+1\n", temperature=1.0, seed=5)
    got = await limited(engine.generate(asked))
    assert got.logprobs == pytest.approx(logprobs(model.reference, asked, got), abs=1e-4)
    assert all(round(value, 6) == value for value in got.logprobs)


async def test_a_session_prefills_only_what_is_new(engine: TransformersEngine, model: Model) -> None:
    rng = random.Random(2)
    prompts = [random_prompt(rng, 20) for _ in range(5)]
    known = [0] * 5
    for turn in range(4):
        asked = [request(p, session=f"s{i}", max_tokens=9 + i) for i, p in enumerate(prompts)]
        got = await limited(asyncio.gather(*map(engine.generate, asked)))
        assert [each.token_ids for each in got] == [greedy(model.reference, each) for each in asked]
        assert [each.cached_tokens for each in got] == known, f"turn {turn}"
        texts = [a.prompt_ids + g.token_ids for a, g in zip(asked, got, strict=True)]
        known = [len(text) - 1 for text in texts]
        prompts = [text + random_prompt(rng, 7) for text in texts]
    assert engine.statistics().cached_tokens > 0


async def test_a_session_that_goes_on_differently_loses_its_cache(
    engine: TransformersEngine, model: Model
) -> None:
    await limited(engine.generate(request("abcdef", session="s")))
    asked = request("abcxyz and so on and on and on and on and on", session="s")
    got = await limited(engine.generate(asked))
    assert got.cached_tokens == 0
    assert got.token_ids == greedy(model.reference, asked)


async def test_ended_sessions_are_not_reused(engine: TransformersEngine) -> None:
    first = request("abcdef", session="s")
    got = await limited(engine.generate(first))
    engine.end_sessions(("s", "unknown"))
    again = request(first.prompt_ids + got.token_ids + (5,), session="s")
    assert (await limited(engine.generate(again))).cached_tokens == 0


async def test_only_max_parked_sessions_are_kept(model: Model) -> None:
    engine = unstarted(model, max_parked=2)
    await limited(engine.start())
    rng = random.Random(9)
    asked = [request(random_prompt(rng, 10), session=f"s{i}", max_tokens=3) for i in range(3)]
    got = [await limited(engine.generate(each)) for each in asked]
    after = [
        request(a.prompt_ids + g.token_ids + (5,), session=a.session) for a, g in zip(asked, got, strict=True)
    ]
    reused = [(await limited(engine.generate(each))).cached_tokens > 0 for each in reversed(after)]
    await limited(engine.aclose())
    assert reused == [True, True, False]


async def test_a_seed_fixes_the_sample_whatever_shares_the_batch(engine: TransformersEngine) -> None:
    alone = await limited(engine.generate(request("Task: 7\n", temperature=1.0, seed=11, max_tokens=40)))
    rng = random.Random(4)
    crowd = [request(random_prompt(rng, rng.randint(1, 50)), temperature=1.0) for _ in range(12)]
    same = request("Task: 7\n", temperature=1.0, seed=11, max_tokens=40)
    got = await limited(asyncio.gather(*map(engine.generate, [*crowd, same])))
    assert got[-1].token_ids == alone.token_ids
    other = await limited(engine.generate(request("Task: 7\n", temperature=1.0, seed=12, max_tokens=40)))
    assert other.token_ids != alone.token_ids


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True, "lora_alpha": 3},
        {"alpha_pattern": {"v_proj": 16}, "rank_pattern": {"layers.0.self_attn.q_proj": 2}},
        {"target_modules": "all-linear", "r": 1},
    ],
    ids=["plain", "rslora", "patterns", "all-linear"],
)
async def test_an_adapter_answers_as_peft_does(
    engine: TransformersEngine, model: Model, tmp_path: Path, config: dict[str, object]
) -> None:
    adapter = make_adapter(model, tmp_path, **config)
    assert await limited(engine.load_adapter(adapter.load)) == ("student-v1",)
    asked = request("Task: 12*3\n", adapter="student-v1", max_tokens=40)
    plain = request("Task: 12*3\n", max_tokens=40)
    got, base = await limited(asyncio.gather(engine.generate(asked), engine.generate(plain)))
    assert got.adapter == "student-v1"
    assert got.token_ids == greedy(adapter.reference, asked)
    assert got.logprobs == pytest.approx(logprobs(adapter.reference, asked, got), abs=1e-4)
    assert base.token_ids == greedy(model.reference, plain), "the base must not change"
    assert base.token_ids != got.token_ids


async def test_versions_run_side_by_side_and_never_share_a_session(
    engine: TransformersEngine, model: Model, tmp_path: Path
) -> None:
    one = make_adapter(model, tmp_path / "1", version=1)
    two = make_adapter(model, tmp_path / "2", version=2)
    await limited(engine.load_adapter(one.load))
    assert await limited(engine.load_adapter(two.load)) == ("student-v1", "student-v2")
    first = request("Task: 1\n", adapter="student-v1", session="s")
    got = await limited(engine.generate(first))
    second = request(first.prompt_ids + got.token_ids + (9, 9), adapter="student-v2", session="s")
    answer = await limited(engine.generate(second))
    assert answer.cached_tokens == 0
    assert answer.token_ids == greedy(two.reference, second)


async def test_an_adapter_that_does_not_fit_is_rejected_and_the_others_stay(
    engine: TransformersEngine, model: Model, tmp_path: Path
) -> None:
    good = make_adapter(model, tmp_path / "good")
    await limited(engine.load_adapter(good.load))
    bad = make_adapter(model, tmp_path / "bad", version=2).load
    config = bad.config_json
    ref = bad.adapter
    spoiled = {
        "sha256": bad.model_copy(update={"weights": bad.weights[:-1] + b"\0\1"}),
        "wrong rank": bad.model_copy(update={"config_json": config.replace(b'"r": 4', b'"r": 8')}),
        "trained on": bad.model_copy(
            update={"config_json": config.replace(str(model.folder).encode(), b"/some/other")}
        ),
        "cannot be used": bad.model_copy(update={"config_json": b"{}"}),
        "plain LoRA": bad.model_copy(
            update={"config_json": config.replace(b'"use_dora": false', b'"use_dora": true')}
        ),
        "cannot be read": bad.model_copy(
            update={"weights": b"junk", "adapter": ref.model_copy(update={"sha256": ""})}
        ),
        "other weights": bad.model_copy(update={"adapter": ref.model_copy(update={"version": 1})}),
    }
    for reason, load in spoiled.items():
        with pytest.raises(AdapterRejected, match=reason):
            await limited(engine.load_adapter(load))
    asked = request("Task: 1\n", adapter="student-v1")
    assert (await limited(engine.generate(asked))).token_ids == greedy(good.reference, asked)
    assert engine.statistics().adapters == ("student-v1",)


async def test_loading_the_same_adapter_again_changes_nothing(
    engine: TransformersEngine, model: Model, tmp_path: Path
) -> None:
    adapter = make_adapter(model, tmp_path)
    await limited(engine.load_adapter(adapter.load))
    assert await limited(engine.load_adapter(adapter.load)) == ("student-v1",)


async def test_unloading_waits_for_running_requests_and_refuses_new_ones(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    engine = unstarted(model)
    await limited(engine.start())
    adapter = make_adapter(model, tmp_path)
    await limited(engine.load_adapter(adapter.load))
    asked = lasting(adapter.reference, adapter="student-v1", session="s")
    running = asyncio.create_task(engine.generate(asked))
    await steps.make(2)
    unloading = asyncio.create_task(engine.unload_adapter("student-v1"))
    late = asyncio.create_task(engine.generate(request("Task: 1\n", adapter="student-v1")))
    await steps.make(2)
    with pytest.raises(UnknownAdapter):
        await limited(late)
    assert not unloading.done()
    steps.free()
    assert (await limited(running)).token_ids == greedy(adapter.reference, asked)
    assert await limited(unloading) == ()
    with pytest.raises(UnknownAdapter):
        await limited(engine.unload_adapter("student-v1"))
    await limited(engine.aclose())


async def test_abort_answers_with_what_there_is_and_frees_the_row(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    engine = unstarted(model, max_batch=1)
    await limited(engine.start())
    first, queued = lasting(model.reference), request("b")
    running = asyncio.create_task(engine.generate(first))
    waiting = asyncio.create_task(engine.generate(queued))
    await steps.make(3)
    assert (engine.statistics().running, engine.statistics().waiting) == (1, 1)
    engine.abort((first.request_id, "unknown"))
    steps.free()
    got = await limited(running)
    assert got.finish_reason == "abort"
    assert len(got.token_ids) == len(got.logprobs) in (3, 4)
    assert (await limited(waiting)).finish_reason in ("stop", "length")
    assert engine.statistics().running == 0
    await limited(engine.aclose())


async def test_abort_reaches_requests_that_are_only_queued(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    engine = unstarted(model, max_batch=1, max_waiting=1)
    await limited(engine.start())
    asked = [lasting(model.reference) for _ in range(4)]
    tasks = [asyncio.create_task(engine.generate(each)) for each in asked]
    await steps.make(1)
    assert engine.statistics().waiting >= 2  # the third may be on its way to the worker
    engine.abort(tuple(each.request_id for each in asked))
    steps.free()
    got = await limited(asyncio.gather(*tasks))
    assert [each.finish_reason for each in got] == ["abort"] * 4
    await limited(engine.aclose())


async def test_a_cancelled_caller_aborts_its_request(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    engine = unstarted(model)
    await limited(engine.start())
    task = asyncio.create_task(engine.generate(lasting(model.reference)))
    await steps.make(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await limited(task)
    steps.free()
    await limited(engine.generate(request("b", max_tokens=2)))
    assert engine.statistics().running == 0
    await limited(engine.aclose())


async def test_a_duplicate_id_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    engine = unstarted(model)
    await limited(engine.start())
    asked = lasting(model.reference)
    task = asyncio.create_task(engine.generate(asked))
    await steps.make(1)
    with pytest.raises(BadRequest, match="already running"):
        await limited(engine.generate(asked))
    steps.free()
    await limited(task)
    await limited(engine.aclose())


async def test_callers_wait_for_room_and_are_all_served(model: Model) -> None:
    engine = unstarted(model, max_batch=2, max_waiting=1)
    await limited(engine.start())
    asked = [request(f"{i}", max_tokens=5) for i in range(20)]
    got = await limited(asyncio.gather(*map(engine.generate, asked)))
    assert [each.token_ids for each in got] == [greedy(model.reference, each) for each in asked]
    await limited(engine.aclose())


async def test_generation_ends_with_the_token_that_completes_a_stop_string(
    engine: TransformersEngine, model: Model
) -> None:
    free = await limited(engine.generate(request("Hello", temperature=1.0, seed=3, max_tokens=60)))
    text = decode(list(free.token_ids))
    stop = text[20:23]
    got = await limited(
        engine.generate(request("Hello", temperature=1.0, seed=3, max_tokens=60, stop=("never mind", stop)))
    )
    end = text.index(stop) + len(stop)
    assert (got.finish_reason, got.token_ids) == ("stop", free.token_ids[:end])


async def test_the_context_bounds_prompt_and_completion(model: Model) -> None:
    engine = unstarted(model, max_context=100)
    await limited(engine.start())
    asked = request((5,) * 98, temperature=1.0, seed=1, max_tokens=50)
    got = await limited(engine.generate(asked))
    assert len(got.token_ids) <= 2
    assert got.finish_reason in ("length", "stop")
    with pytest.raises(PromptTooLong, match="100 tokens"):
        await limited(engine.generate(request((5,) * 100)))
    await limited(engine.aclose())


async def test_requests_that_cannot_be_served_are_refused_and_harm_nobody(engine: TransformersEngine) -> None:
    with pytest.raises(BadRequest, match="empty prompt"):
        await limited(engine.generate(request("")))
    with pytest.raises(BadRequest, match="another model"):
        await limited(engine.generate(request((4000,))))
    with pytest.raises(UnknownAdapter, match="nobody-v3"):
        await limited(engine.generate(request("a", adapter="nobody-v3")))
    assert (await limited(engine.generate(request("a", max_tokens=1)))).finish_reason in ("length", "stop")


async def test_a_failing_step_fails_everyone_who_waits_and_everyone_after(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = unstarted(model, max_batch=2, max_waiting=1)
    await limited(engine.start())

    def broken(this: object, row: object, token: int) -> None:
        raise ZeroDivisionError("the arithmetic unit is on fire")

    monkeypatch.setattr(
        "agentfactory.runtime.engines.batching.sequence.StoppingCriteria.finish_reason", broken
    )
    tasks = [engine.generate(request("a")) for _ in range(6)]
    for error in await limited(asyncio.gather(*tasks, return_exceptions=True)):
        assert isinstance(error, EngineFailed)
        assert "the arithmetic unit is on fire" in str(error)
        assert isinstance(error.__cause__, ZeroDivisionError)
    with pytest.raises(EngineFailed):
        await limited(engine.generate(request("a")))
    with pytest.raises(EngineFailed):
        await limited(engine.unload_adapter("student-v1"))
    await limited(engine.aclose())


async def test_closing_answers_everything_that_waits(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    engine = unstarted(model, max_batch=1, max_waiting=1)
    await limited(engine.start())
    tasks = [asyncio.create_task(engine.generate(lasting(model.reference))) for _ in range(4)]
    await steps.make(1)
    closing = asyncio.create_task(engine.aclose())
    await asyncio.sleep(0)
    steps.free()
    await limited(closing)
    results = await limited(asyncio.gather(*tasks, return_exceptions=True))
    assert all(isinstance(each, EngineClosed) for each in results)
    with pytest.raises(EngineClosed):
        await limited(engine.generate(request("a")))
    await limited(engine.aclose())


async def test_a_model_that_is_not_there_fails_the_start(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    engine = TransformersEngine(ModelSettings(source=str(tmp_path)), TransformersEngineSettings())
    with pytest.raises(Exception, match="cannot be loaded"):
        await limited(engine.start())
    await limited(engine.aclose())


async def test_statistics_add_up(engine: TransformersEngine) -> None:
    asked = [request(f"Task: {i}\n", max_tokens=7) for i in range(9)]
    got = await limited(asyncio.gather(*map(engine.generate, asked)))
    seen = engine.statistics()
    assert seen.requests == 9
    assert seen.running == seen.waiting == 0
    assert seen.generated_tokens == sum(len(each.token_ids) for each in got)
    assert seen.prompt_tokens == sum(len(each.prompt_ids) for each in asked)
    assert seen.steps >= 7
    assert seen.busy_s > 0


async def test_a_model_that_does_not_fit_is_refused_with_what_would_help(tmp_path: Path) -> None:
    Qwen2Config(
        vocab_size=4_000_000_000,  # a terabyte of embeddings
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        architectures=["Qwen2ForCausalLM"],
    ).save_pretrained(tmp_path)
    save_file({"model.norm.weight": torch.ones(64)}, tmp_path / "model.safetensors", {"format": "pt"})
    engine = open_engine(ModelSettings(source=str(tmp_path), device="cpu"), TransformersEngineSettings())
    with pytest.raises(SettingsError, match=r"does not fit: .*allocate .*; take a smaller model"):
        await engine.start()
    await engine.aclose()
