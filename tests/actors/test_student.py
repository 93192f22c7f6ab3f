"""The Student's turns, token by token."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.actors.domains import domain_named
from agentfactory.actors.student.actor import Student
from agentfactory.actors.student.tools import toolkit
from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import SandboxSettings, StudentSettings
from agentfactory.messages.adapters import AdapterRef, SetPolicyVersion
from agentfactory.messages.episodes import Solution, SolveTask
from agentfactory.messages.tasks import Task
from agentfactory.messages.turns import ToolCall
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem
from tests.actors.scripted import Script, ScriptedInference, WhatWasSeen, model_folder, use_the_tool

TIMEOUT_S = 180
SETTINGS = StudentSettings(
    max_turns=4, max_tokens_per_turn=200, sandbox=SandboxSettings(timeout_s=5.0, allow_weak=True)
)


@pytest.fixture
def model(tmp_path: Path) -> ModelSettings:
    return model_folder(tmp_path / "model")


@asynccontextmanager
async def student(
    model: ModelSettings, script: Script, settings: StudentSettings = SETTINGS
) -> AsyncIterator[tuple[ActorRef, ActorRef]]:
    async with ActorSystem.open("local") as system:
        engine = await system.spawn(ScriptedInference, model, script, name="engine")
        yield await system.spawn(Student, settings, model, engine, name="student"), engine


def request(name: str = "e", description: str = "Compute 12+34*5.", **fields: object) -> SolveTask:
    task = Task(id="t", domain="math", description=description, difficulty=0.3)
    return SolveTask.model_validate({"episode_id": name, "task": task, **fields})


async def solve(model: ModelSettings, script: Script, message: SolveTask | None = None) -> Solution:
    async with student(model, script) as (ref, _):
        return await ref.ask(message or request(), timeout_s=TIMEOUT_S)


async def test_it_calls_the_tool_reads_the_observation_and_answers(model: ModelSettings) -> None:
    solution = await solve(model, use_the_tool)
    assert solution.answer == "182"
    assert solution.stop_reason == "answered"
    first, second = solution.turns
    assert first.calls == (ToolCall(tool="python", input="print(12+34*5)"),)
    assert [result.output for result in first.results] == ["182"]
    assert (second.calls, second.results) == ((), ())
    assert solution.tool_calls == 1


async def test_the_turns_hold_every_token_that_the_engine_saw(model: ModelSettings) -> None:
    async with student(model, use_the_tool) as (ref, engine):
        solution = await ref.ask(request(), timeout_s=TIMEOUT_S)
        seen = await engine.ask(WhatWasSeen(), timeout_s=TIMEOUT_S)
    first, second = solution.turns
    assert seen.requests[0].prompt_ids == first.prompt_ids
    assert seen.requests[1].prompt_ids == first.prompt_ids + first.completion_ids + second.prompt_ids


async def test_only_the_policys_own_tokens_count_in_the_loss(model: ModelSettings) -> None:
    solution = await solve(model, use_the_tool)
    chat = ChatFormat.load(model.locate())
    for turn in solution.turns:
        own = [t for t, bit in zip(turn.prompt_ids + turn.completion_ids, turn.loss_mask, strict=True) if bit]
        assert chat.decode(own) == turn.text
        assert "Observation" not in turn.text


async def test_a_tool_that_fails_is_an_observation_and_the_episode_goes_on(model: ModelSettings) -> None:
    def script(prompt: str, adapter: str | None) -> str:
        return "Answer: 0" if "Observation" in prompt else "Action: python\nInput: 1/0"

    solution = await solve(model, script)
    (result,) = solution.turns[0].results
    assert not result.ok
    assert "ZeroDivisionError" in result.output
    assert solution.answer == "0"


async def test_a_tool_that_loops_is_stopped_and_the_episode_goes_on(model: ModelSettings) -> None:
    def script(prompt: str, adapter: str | None) -> str:
        return "Answer: 1" if "Observation" in prompt else "Action: python\nInput: while True: pass"

    solution = await solve(model, script)
    (result,) = solution.turns[0].results
    assert result.failure == "timeout"
    assert solution.answer == "1"


@pytest.mark.parametrize("rubbish", ["", "\x00\ufffd)))", "Action:", "Thought: " + "a" * 150, "Answer:"])
async def test_rubbish_ends_the_episode_without_an_answer(model: ModelSettings, rubbish: str) -> None:
    solution = await solve(model, lambda prompt, adapter: rubbish)
    assert solution.answer is None
    assert solution.stop_reason == "no_action"
    assert len(solution.turns) == 1


async def test_a_model_that_never_stops_calling_ends_at_the_turn_limit(model: ModelSettings) -> None:
    solution = await solve(model, lambda prompt, adapter: "Action: python\nInput: 1")
    assert solution.stop_reason == "turn_limit"
    assert len(solution.turns) == SETTINGS.max_turns


async def test_a_reply_that_is_cut_off_says_so(model: ModelSettings) -> None:
    solution = await solve(model, lambda prompt, adapter: "Thought: " + "a" * 500)
    assert solution.stop_reason == "token_limit"


async def test_each_turn_samples_with_the_newest_version_it_knows(model: ModelSettings) -> None:
    newer = AdapterRef(policy="student", version=3)
    async with student(model, lambda prompt, adapter: f"Answer: {adapter}") as (ref, _):
        before = await ref.ask(request("a"), timeout_s=TIMEOUT_S)
        await ref.tell(SetPolicyVersion(adapter=newer))
        after = await ref.ask(request("b"), timeout_s=TIMEOUT_S)
        await ref.tell(SetPolicyVersion(adapter=AdapterRef(policy="student", version=2)))
        still = await ref.ask(request("c"), timeout_s=TIMEOUT_S)
    assert (before.answer, before.turns[0].policy_version) == ("None", 0)
    assert (after.answer, after.turns[0].policy_version) == ("student-v3", 3)
    assert (still.answer, still.turns[0].policy_version) == ("student-v3", 3)


async def test_a_restarted_student_learns_the_version_from_the_lease(model: ModelSettings) -> None:
    leased = request(adapter=AdapterRef(policy="student", version=5))
    solution = await solve(model, lambda prompt, adapter: f"Answer: {adapter}", leased)
    assert solution.answer == "student-v5"


async def test_a_pinned_episode_keeps_its_version(model: ModelSettings) -> None:
    pinned = request(adapter=AdapterRef(policy="student", version=1), pinned=True)
    async with student(model, lambda prompt, adapter: f"Answer: {adapter}") as (ref, _):
        await ref.tell(SetPolicyVersion(adapter=AdapterRef(policy="student", version=3)))
        solution = await ref.ask(pinned, timeout_s=TIMEOUT_S)
    assert solution.answer == "student-v1"


async def test_the_engine_hears_when_an_episode_has_ended(model: ModelSettings) -> None:
    async with student(model, use_the_tool) as (ref, engine):
        await ref.ask(request("x"), timeout_s=TIMEOUT_S)
        seen = await engine.ask(WhatWasSeen(), timeout_s=TIMEOUT_S)
    assert seen.ended_sessions == ("x",)
    assert {r.session for r in seen.requests} == {"x"}


async def test_many_episodes_run_at_once_and_no_more_than_allowed(model: ModelSettings) -> None:
    settings = SETTINGS.model_copy(update={"concurrent_episodes": 3})
    async with student(model, use_the_tool, settings) as (ref, _):
        solutions = await asyncio.gather(
            *(ref.ask(request(f"e{i}", f"Compute {i}+1."), timeout_s=TIMEOUT_S) for i in range(12))
        )
    assert [s.answer for s in solutions] == [str(i + 1) for i in range(12)]


async def test_it_has_the_tools_that_the_settings_name_and_each_episode_its_own_files(
    model: ModelSettings, tmp_path: Path
) -> None:
    wanted = {
        "tools": ["python", "math", "write_file", "list_files", "plan"],
        "toolbox": {"workspace": str(tmp_path / "workspace"), "sandbox": {"allow_weak": True}},
    }
    settings = StudentSettings.model_validate({**SETTINGS.model_dump(), **wanted})
    replies = {
        "write": 'Action: write_file\nInput: {"path": "a.txt", "content": "mine"}',
        "look": "Action: list_files\nInput: .",
        "solve": 'Action: math\nInput: {"expression": "x^2=4", "action": "solve"}',
        "plan": 'Action: plan\nInput: {"steps": [{"id": "a", "tool": "math", "input": "6*7"}]}',
    }

    def script(prompt: str, adapter: str | None) -> str:
        word = next(word for word in replies if f"Task: {word}" in prompt)
        return "Answer: done" if "Observation" in prompt.rpartition("Task:")[2] else replies[word]

    async with student(model, script, settings) as (ref, _):
        said = {}
        for word in replies:
            solution = await ref.ask(request(word, description=word), timeout_s=TIMEOUT_S)
            said[word] = solution.turns[0].results[0].output
    assert said["write"] == "wrote 4 bytes to a.txt"
    assert said["look"] == "(nothing)"
    assert said["solve"] == "x = -2; x = 2"
    assert said["plan"] == "a (math) done: 42"


async def test_the_prompt_says_what_each_tool_takes(tmp_path: Path) -> None:
    box = {"workspace": str(tmp_path), "sandbox": {"allow_weak": True}}
    kit = toolkit(StudentSettings.model_validate({"tools": ["python", "write_file"], "toolbox": box}))
    async with kit.box("e") as toolbox:
        system, user = domain_named("math").opening("Compute 1+1.", toolbox.tools, 0)
    assert "\n- python: runs Python code" in system.content
    assert "gone. Input: JSON {path: string, content: string}" in system.content
    assert "Compute 1+1." in user.content


async def test_several_calls_of_one_reply_are_all_carried_out_and_their_results_are_named_in_order(
    model: ModelSettings,
) -> None:
    calls = (
        "<tool name=\"python\">import time; time.sleep(0.05); print('one')</tool>\n"
        '<tool name="python">print(\'two\')</tool>\n<tool name="weather">Oslo</tool>'
    )

    solution = await solve(model, lambda prompt, adapter: "Answer: 5" if "Observation:" in prompt else calls)
    first, second = solution.turns
    assert [call.tool for call in first.calls] == ["python", "python", "weather"]
    assert [result.ok for result in first.results] == [False, True, False]  # time is not among the modules
    assert solution.tool_calls == 3
    read = ChatFormat.load(model.locate()).decode(second.prompt_ids)
    assert "Observation:\n1 (python): " in read
    assert "\n2 (python): two\n3 (weather): Error: there is no tool weather" in read


async def test_calls_beyond_the_limit_of_a_turn_are_refused_and_the_others_run(model: ModelSettings) -> None:
    calls = "".join(f'<tool name="python">print({n})</tool>' for n in range(4))
    settings = SETTINGS.model_copy(update={"max_calls_per_turn": 2, "max_turns": 1})
    async with student(model, lambda prompt, adapter: calls, settings) as (ref, _):
        solution = await ref.ask(request(), timeout_s=TIMEOUT_S)
    results = solution.turns[0].results
    assert [result.output for result in results[:2]] == ["0", "1"]
    assert [result.failure for result in results[2:]] == ["forbidden", "forbidden"]


async def test_a_student_that_has_the_tool_carries_out_a_plan(model: ModelSettings, tmp_path: Path) -> None:
    steps = [{"id": "a", "tool": "python", "input": "print(6*7)"}]
    plan = json.dumps({"steps": [*steps, {"id": "b", "tool": "python", "input": "print($a+1)"}]})

    def script(prompt: str, adapter: str | None) -> str:
        done = "b (python) done: " in prompt
        return (
            f"Answer: {prompt.split('b (python) done: ')[1][:2]}" if done else f"Action: plan\nInput: {plan}"
        )

    settings = StudentSettings.model_validate(
        SETTINGS.model_dump()
        | {"tools": ("python", "plan"), "toolbox": {"workspace": str(tmp_path / "work")}}
    )
    async with student(model, script, settings) as (ref, _):
        solution = await ref.ask(request(), timeout_s=TIMEOUT_S)
    assert solution.answer == "43"
