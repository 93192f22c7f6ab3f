"""Engines without a model."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from agentfactory.configs.models import (
    EngineSettings,
    ModelSettings,
    SimulatedEngineSettings,
    TransformersEngineSettings,
    VllmEngineSettings,
)
from agentfactory.messages.adapters import AdapterRef, LoadAdapter
from agentfactory.messages.generation import Completion, Generate, SamplingSettings
from agentfactory.runtime.engines.base import (
    BadRequest,
    Engine,
    EngineClosed,
    EngineError,
    EngineFailed,
    UnknownAdapter,
)
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.engines.registry import open_engine
from agentfactory.runtime.engines.simulated import EOS_ID, ScriptedEngine, SimulatedEngine, read, spell
from scripts.seed_model.tokenizer import save_tokenizer

T = TypeVar("T")
FOREVER = SimulatedEngineSettings(seconds_per_request=3600)


async def limited(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, 120)


def request(text: str = "hi", *, id: str = "1", adapter: str | None = None, max_tokens: int = 99) -> Generate:
    sampling = SamplingSettings(max_tokens=max_tokens)
    return Generate(request_id=id, prompt_ids=spell(text), sampling=sampling, adapter=adapter)


def adapter(version: int) -> LoadAdapter:
    return LoadAdapter(adapter=AdapterRef(policy="student", version=version), config_json=b"", weights=b"")


def waits(engine: ScriptedEngine, count: int = 1) -> "list[asyncio.Task[Completion]]":
    return [asyncio.create_task(engine.generate(request(id=str(i)))) for i in range(count)]


async def test_the_simulated_engine_always_gives_its_reply() -> None:
    engine: Engine = SimulatedEngine(SimulatedEngineSettings(reply="Answer: 4"))
    await engine.start()
    got = await limited(engine.generate(request()))
    assert read(got.token_ids) == "Answer: 4"
    assert (got.token_ids[-1], got.finish_reason, len(got.logprobs)) == (EOS_ID, "stop", len(got.token_ids))
    assert engine.statistics().requests == 1


async def test_it_spells_with_the_models_own_tokenizer(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    engine = open_engine(ModelSettings(source=str(tmp_path)), SimulatedEngineSettings(reply="Answer: 4"))
    got = await limited(engine.generate(request()))
    chat = ChatFormat.load(tmp_path)
    assert chat.decode(got.token_ids) == "Answer: 4"
    assert got.token_ids[-1] in chat.eos_ids


async def test_a_script_is_played_in_order_and_its_errors_are_raised() -> None:
    engine = ScriptedEngine(["one", EngineFailed("broken"), "two"])
    assert read((await limited(engine.generate(request()))).token_ids) == "one"
    with pytest.raises(EngineFailed, match="broken"):
        await limited(engine.generate(request()))
    assert read((await limited(engine.generate(request()))).token_ids) == "two"
    with pytest.raises(EngineError, match="no reply left"):
        await limited(engine.generate(request()))
    assert len(engine.seen) == 4


async def test_a_function_replies_by_prompt_and_adapter() -> None:
    engine = ScriptedEngine(lambda prompt, name: f"{read(prompt)} from {name}")
    await limited(engine.load_adapter(adapter(1)))
    got = await limited(engine.generate(request("hi", adapter="student-v1")))
    assert read(got.token_ids) == "hi from student-v1"


async def test_a_long_reply_is_cut_at_max_tokens() -> None:
    got = await limited(ScriptedEngine(["abcdef"]).generate(request(max_tokens=3)))
    assert (read(got.token_ids), got.finish_reason) == ("abc", "length")


async def test_abort_answers_at_once() -> None:
    engine = SimulatedEngine(FOREVER)
    (task,) = waits(engine)
    await asyncio.sleep(0)
    engine.abort(("0", "unknown"))
    got = await limited(task)
    assert (got.finish_reason, got.token_ids) == ("abort", ())
    assert engine.statistics().running == 0


async def test_a_cancelled_caller_leaves_nothing_behind() -> None:
    engine = SimulatedEngine(FOREVER)
    (task,) = waits(engine)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await limited(task)
    assert engine.statistics().running == 0


async def test_closing_answers_those_who_wait() -> None:
    engine = SimulatedEngine(FOREVER)
    tasks = waits(engine, 3)
    await asyncio.sleep(0)
    await engine.aclose()
    results = await limited(asyncio.gather(*tasks, return_exceptions=True))
    assert all(isinstance(each, EngineClosed) for each in results)
    with pytest.raises(EngineClosed):
        await limited(engine.generate(request()))


async def test_adapters_come_and_go_and_unloading_waits() -> None:
    engine = SimulatedEngine(FOREVER)
    assert await limited(engine.load_adapter(adapter(0))) == ()
    assert await limited(engine.load_adapter(adapter(1))) == ("student-v1",)
    running = asyncio.create_task(engine.generate(request(adapter="student-v1")))
    await asyncio.sleep(0)
    unloading = asyncio.create_task(engine.unload_adapter("student-v1"))
    await asyncio.sleep(0)
    with pytest.raises(UnknownAdapter):
        await limited(engine.generate(request(id="2", adapter="student-v1")))
    assert not unloading.done()
    engine.abort(("1",))
    await limited(running)
    assert await limited(unloading) == ()


async def test_a_running_id_is_refused() -> None:
    engine = SimulatedEngine(FOREVER)
    (task,) = waits(engine)
    await asyncio.sleep(0)
    with pytest.raises(BadRequest):
        await limited(engine.generate(request(id="0")))
    engine.abort(("0",))
    await limited(task)


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        (SimulatedEngineSettings(), "SimulatedEngine"),
        (TransformersEngineSettings(), "TransformersEngine"),
        (VllmEngineSettings(), "VllmEngine"),
    ],
)
def test_settings_choose_the_engine(settings: EngineSettings, engine: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    model = ModelSettings(source=str(tmp_path))
    assert type(open_engine(model, settings)).__name__ == engine
