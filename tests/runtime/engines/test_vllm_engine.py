"""The real vLLM on a small Qwen2 with random weights, held to transformers and peft.

One engine for the file: it takes a minute to start on a processor.
"""

import asyncio
import importlib.util
import json
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import torch

from agentfactory.configs.errors import SettingsError
from agentfactory.configs.models import ModelSettings, VllmEngineSettings
from agentfactory.messages.generation import Completion
from agentfactory.runtime.engines.base import (
    AdapterRejected,
    BadRequest,
    Engine,
    EngineClosed,
    EngineFailed,
    PromptTooLong,
    UnknownAdapter,
)
from agentfactory.runtime.engines.registry import open_engine
from scripts.seed_model.tokenizer import EOS_ID, decode
from tests.runtime.small_model import (
    VOCABULARY_SIZE,
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
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of vLLM's own, at its import
]
START_S = 400.0
SETTINGS = VllmEngineSettings(max_context=128, max_batch=16, max_lora_rank=8, compile=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"), heads=2)  # vLLM has no kernel for smaller heads


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model: Model) -> AsyncIterator[Engine]:
    engine = open_engine(ModelSettings(source=str(model.folder)), SETTINGS)
    await asyncio.wait_for(engine.start(), START_S)
    yield engine
    await limited(engine.aclose())


async def test_a_batch_equals_generate_row_by_row(engine: Engine, model: Model) -> None:
    rng = random.Random(1)
    sizes = [(rng.randint(1, 60), rng.randint(1, 40)) for _ in range(24)]
    asked = [request(random_prompt(rng, prompt), max_tokens=tokens) for prompt, tokens in sizes]
    got = await limited(asyncio.gather(*map(engine.generate, asked)))
    same = [g.token_ids == greedy(model.reference, a) for g, a in zip(got, asked, strict=True)]
    assert sum(same) >= 23, "one near-tie may fall otherwise in another library's arithmetic"


async def test_a_completion_ends_with_eos_or_has_its_full_length(engine: Engine) -> None:
    asked = [request("Task:", temperature=1.0, seed=seed, max_tokens=60) for seed in range(30)]
    got = await limited(asyncio.gather(*map(engine.generate, asked)))
    ended = [each for each in got if each.finish_reason == "stop"]
    assert 0 < len(ended) < 30
    assert all(each.token_ids.index(EOS_ID) == len(each.token_ids) - 1 for each in ended)
    assert all(len(each.token_ids) == 60 for each in got if each.finish_reason == "length")


async def test_logprobs_are_those_of_the_distribution_that_was_sampled(engine: Engine, model: Model) -> None:
    asked = request("Task: 1+1\n", temperature=1.0, seed=5)
    got = await limited(engine.generate(asked))
    assert got.logprobs == pytest.approx(logprobs(model.reference, asked, got), abs=1e-3)


async def test_it_stops_after_the_token_that_completes_a_stop_string(engine: Engine) -> None:
    free = await limited(engine.generate(request("Task: 3\n", max_tokens=30)))
    text = decode(free.token_ids)
    stop = text[10:12]
    got = await limited(engine.generate(request("Task: 3\n", max_tokens=30, stop=(stop,))))
    assert got.finish_reason == "stop"
    assert decode(got.token_ids) == text[: text.index(stop) + len(stop)]


async def test_output_is_held_to_a_schema(engine: Engine) -> None:
    schema = json.dumps({"type": "integer", "minimum": 10, "maximum": 99})
    for seed in range(4):
        asked = request("Task: 3\n", temperature=1.0, seed=seed, max_tokens=60)
        held = asked.sampling.model_copy(update={"output_schema": schema})
        got = await limited(engine.generate(asked.model_copy(update={"sampling": held})))
        assert got.finish_reason == "stop"
        assert 10 <= int(decode(got.token_ids[:-1])) <= 99
    broken = asked.sampling.model_copy(update={"output_schema": '{"type": "nonsense"}'})
    with pytest.raises(BadRequest):
        await limited(engine.generate(asked.model_copy(update={"sampling": broken, "request_id": "b"})))


async def test_it_tells_of_tokens_while_it_samples_them(engine: Engine) -> None:
    heard: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    asked = request("Task: 1+1\n", temperature=1.0, seed=5, max_tokens=30)
    got = await limited(
        engine.generate(asked, lambda tokens, values: heard.append((tuple(tokens), tuple(values))))
    )
    again = await limited(engine.generate(request("Task: 1+1\n", temperature=1.0, seed=5, max_tokens=30)))
    told = [token for tokens, _ in heard for token in tokens]
    values = [value for _, values in heard for value in values]
    assert (told, values) == (list(got.token_ids[: len(told)]), list(got.logprobs[: len(told)]))
    assert len(heard) > 1
    assert again.token_ids == got.token_ids


async def test_an_adapter_answers_as_peft_does_and_the_base_stays(
    engine: Engine, model: Model, tmp_path: Path
) -> None:
    adapter = make_adapter(model, tmp_path, target_modules=["q_proj", "v_proj", "down_proj"])
    assert "student-v1" in await limited(engine.load_adapter(adapter.load))
    asked = request("Task: 12*3\n", adapter="student-v1", max_tokens=30)
    plain = request("Task: 12*3\n", max_tokens=30)
    got, base = await limited(asyncio.gather(engine.generate(asked), engine.generate(plain)))
    assert got.adapter == "student-v1"
    assert got.token_ids == greedy(adapter.reference, asked)
    assert base.token_ids == greedy(model.reference, plain)
    assert await limited(engine.unload_adapter("student-v1")) == ()
    with pytest.raises(UnknownAdapter, match="student-v1"):
        await limited(engine.generate(asked.model_copy(update={"request_id": "again"})))


async def test_a_version_loaded_anew_with_other_weights_is_never_served_as_the_old_one(
    engine: Engine, model: Model, tmp_path: Path
) -> None:
    old = make_adapter(model, tmp_path / "old", version=5)
    new = make_adapter(model, tmp_path / "new", version=6)
    renamed = new.load.adapter.model_copy(update={"version": 5})
    await limited(engine.load_adapter(old.load))
    asked = request("Task: 9-4\n", adapter="student-v5", max_tokens=30)
    first = await limited(engine.generate(asked))
    await limited(engine.load_adapter(new.load.model_copy(update={"adapter": renamed})))
    again = asked.model_copy(update={"request_id": "again"})
    second = await limited(engine.generate(again))
    assert first.token_ids == greedy(old.reference, asked)
    assert second.token_ids == greedy(new.reference, asked)
    await limited(engine.unload_adapter("student-v5"))


async def test_an_adapter_leaves_when_its_last_request_has_ended(
    engine: Engine, model: Model, tmp_path: Path
) -> None:
    await limited(engine.load_adapter(make_adapter(model, tmp_path, version=7).load))
    asked = [
        request("Task:", adapter="student-v7", max_tokens=90, temperature=1.0, seed=seed) for seed in range(8)
    ]
    running = [asyncio.ensure_future(engine.generate(each)) for each in asked]
    await asyncio.sleep(0)  # all of them have begun
    assert engine.statistics().running == 8
    assert "student-v7" not in await limited(engine.unload_adapter("student-v7"))
    assert all(task.done() for task in running)
    assert {task.result().adapter for task in running} == {"student-v7"}


async def test_an_adapter_that_does_not_fit_is_rejected_and_the_engine_goes_on(
    engine: Engine, model: Model, tmp_path: Path
) -> None:
    good = make_adapter(model, tmp_path / "good", version=2)
    broken = good.load.model_copy(update={"weights": good.load.weights[:-1] + b"\0"})
    with pytest.raises(AdapterRejected, match="sha256"):
        await limited(engine.load_adapter(broken))
    wide = make_adapter(model, tmp_path / "wide", version=3, r=16)
    with pytest.raises(AdapterRejected, match=r"its rank is 16, engine\.max_lora_rank is 8"):
        await limited(engine.load_adapter(wide.load))
    assert engine.statistics().adapters == ()
    assert (await limited(engine.generate(request("Task: 1\n")))).token_ids


async def test_aborted_requests_give_what_they_have_and_free_their_place(engine: Engine) -> None:
    asked = [request("Task:", max_tokens=110, temperature=1.0, seed=seed) for seed in range(16)]
    running = [asyncio.ensure_future(engine.generate(each)) for each in asked]
    await asyncio.sleep(0)
    engine.abort(tuple(each.request_id for each in asked))
    got = await limited(asyncio.gather(*running))
    assert {each.finish_reason for each in got} <= {"abort", "stop"}
    assert "abort" in {each.finish_reason for each in got}
    assert engine.statistics().running == 0


async def test_a_cancelled_request_frees_its_place(engine: Engine) -> None:
    task = asyncio.ensure_future(engine.generate(request("Task:", max_tokens=110)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.statistics().running == 0
    assert (await limited(engine.generate(request("Task: 1\n")))).token_ids


async def test_bad_requests_are_refused_by_what_is_wrong(engine: Engine) -> None:
    for prompt, error, words in (
        ((), BadRequest, "empty prompt"),
        ((VOCABULARY_SIZE,), BadRequest, "token ids go from 0 to"),
        ((5,) * 128, PromptTooLong, "the context holds 128"),
    ):
        with pytest.raises(error, match=words):
            await limited(engine.generate(request(prompt)))


async def test_where_vllm_cannot_sleep_that_is_said_at_the_start(model: Model) -> None:
    if torch.cuda.is_available():
        pytest.skip("vLLM can sleep on a GPU")
    engine = open_engine(ModelSettings(source=str(model.folder)), VllmEngineSettings(sleep=True))
    with pytest.raises(SettingsError, match=r"engine\.sleep: vLLM cannot sleep on this device"):
        await engine.start()


async def test_a_closed_engine_says_so(model: Model) -> None:
    engine = open_engine(ModelSettings(source=str(model.folder)), SETTINGS)
    with pytest.raises(EngineClosed, match="not started"):
        await engine.generate(request("Task:"))
    await engine.aclose()
    with pytest.raises(EngineClosed, match="closed"):
        await engine.generate(request("Task:"))


async def test_requests_of_an_engine_whose_processes_are_killed_fail_with_the_reason(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although vLLM itself hangs in its cleaning up, before it tells anybody, as it does now and then."""
    from vllm.v1.engine.utils import CoreEngineProcManager

    released = threading.Event()
    before = set(psutil.Process().children(recursive=True))
    engine = open_engine(ModelSettings(source=str(model.folder)), SETTINGS)
    await asyncio.wait_for(engine.start(), START_S)
    running = [
        asyncio.ensure_future(engine.generate(request("Task:", max_tokens=110, temperature=1.0, seed=seed)))
        for seed in range(4)
    ]
    await asyncio.sleep(0)
    monkeypatch.setattr(CoreEngineProcManager, "shutdown", lambda *_, **__: released.wait(600))
    for process in set(psutil.Process().children(recursive=True)) - before:
        process.kill()
    got = await limited(asyncio.gather(*running, return_exceptions=True))
    assert {type(each) for each in got} == {EngineFailed}
    assert all("vLLM" in str(each) for each in got)
    with pytest.raises(EngineFailed, match="died"):
        await limited(engine.generate(request("Task:")))
    released.set()
    await limited(engine.aclose())


async def test_closing_answers_what_runs(engine: Engine) -> None:
    """The last one of this file: the engine is gone afterwards."""
    asked = [request("Task:", max_tokens=110, temperature=1.0, seed=seed) for seed in range(8)]
    running = [asyncio.ensure_future(engine.generate(each)) for each in asked]
    await asyncio.sleep(0)
    await limited(engine.aclose())
    got = await limited(asyncio.gather(*running, return_exceptions=True))
    assert EngineClosed in {type(each) for each in got}
    assert {type(each) for each in got} <= {EngineClosed, Completion}
