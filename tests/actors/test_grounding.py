"""Texts at hand: a Teacher that makes its tasks from passages, a Student that looks them up."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.actors.searcher import Searcher
from agentfactory.actors.student.actor import Student
from agentfactory.actors.teacher.actor import Teacher
from agentfactory.configs.data import SearchSettings
from agentfactory.configs.errors import AgentFactoryError, BadInput, SettingsError
from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import RetrieveSettings, SandboxSettings, StudentSettings, TeacherSettings
from agentfactory.messages.episodes import SolveTask
from agentfactory.messages.search import PassageRef, SamplePassages, Search, UpdateIndex
from agentfactory.messages.tasks import ProposeTasks, Task
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem
from tests.actors.scripted import Script, ScriptedInference, WhatWasSeen, model_folder
from tests.bridge.fake_blobs import FakeBlobs

TIMEOUT_S = 180
TEACHER = TeacherSettings(grounding_tag="docs", require_reference=True, max_attempts=2, oversample=1.0)
STUDENT = StudentSettings(
    max_turns=3,
    max_tokens_per_turn=200,
    sandbox=SandboxSettings(timeout_s=5.0, allow_weak=True),
    retrieve=RetrieveSettings(tags=("docs",)),
)


@pytest.fixture
def model(tmp_path: Path) -> ModelSettings:
    return model_folder(tmp_path / "model")


@pytest.fixture
async def blobs() -> FakeBlobs:
    store = FakeBlobs()
    await store.text("ports.md", "The bridge listens on 5560.")
    await store.text("sizes.md", "The cache holds 512 megabytes.")
    return store


@asynccontextmanager
async def library(
    model: ModelSettings, blobs: FakeBlobs, script: Script
) -> AsyncIterator[tuple[ActorSystem, ActorRef, ActorRef]]:
    async with ActorSystem.open("local") as system:
        engine = await system.spawn(ScriptedInference, model, script, name="engine")
        settings = SearchSettings(embedder="ngrams", max_age_s=0.0)
        yield system, engine, await system.spawn(Searcher, settings, lambda: blobs, name="searcher")


def number_at_hand(prompt: str, adapter: str | None) -> str:
    """A Teacher whose task is about the first number of the passage it was given."""
    found = re.search(r"<passage>\D*(\d+)", prompt)
    return f"Task: Compute {found[1]}+1." if found else "Task: Compute 1+1."


async def test_a_grounded_task_remembers_the_passage_it_was_made_from(
    model: ModelSettings, blobs: FakeBlobs
) -> None:
    async with library(model, blobs, number_at_hand) as (system, engine, searcher):
        teacher = await system.spawn(Teacher, TEACHER, model, engine, None, searcher, name="teacher")
        answer = await teacher.ask(ProposeTasks(count=2, domain="math", difficulty=0.3), timeout_s=TIMEOUT_S)
    sources = {proposal.task.description: proposal.task.source for proposal in answer.proposals}
    assert sources == {
        "Compute 5560+1.": PassageRef(tag="docs", blob="ports.md", start=0, end=27),
        "Compute 512+1.": PassageRef(tag="docs", blob="sizes.md", start=0, end=30),
    }


async def test_without_grounding_the_prompt_is_what_it_was(model: ModelSettings, blobs: FakeBlobs) -> None:
    settings = TEACHER.model_copy(update={"grounding_tag": ""})
    seen: list[str] = []

    def script(prompt: str, adapter: str | None) -> str:
        seen.append(prompt)
        return "Task: Compute 2+2."

    async with library(model, blobs, script) as (system, engine, searcher):
        teacher = await system.spawn(Teacher, settings, model, engine, None, searcher, name="teacher")
        answer = await teacher.ask(ProposeTasks(count=1, domain="math", difficulty=0.3), timeout_s=TIMEOUT_S)
    assert answer.proposals[0].task.source is None
    assert "Propose a math task of difficulty 0.30." in seen[0]
    assert "passage" not in seen[0]


async def test_grounding_without_texts_says_so(model: ModelSettings, blobs: FakeBlobs) -> None:
    settings = TEACHER.model_copy(update={"grounding_tag": "pictures"})
    await blobs.put("pictures", "a.png", b"...")
    async with library(model, blobs, number_at_hand) as (system, engine, searcher):
        teacher = await system.spawn(Teacher, settings, model, engine, None, searcher, name="teacher")
        with pytest.raises(BadInput, match="there is no text under the tag 'pictures'"):
            await teacher.ask(ProposeTasks(count=1, domain="math", difficulty=0.3), timeout_s=TIMEOUT_S)


async def test_a_role_that_needs_a_searcher_and_has_none_is_refused(model: ModelSettings) -> None:
    async with ActorSystem.open("local") as system:
        engine = await system.spawn(ScriptedInference, model, number_at_hand, name="engine")
    with pytest.raises(SettingsError, match=r"teacher\.grounding_tag"):
        Teacher(TEACHER, model, engine, None)
    with pytest.raises(SettingsError, match=r"student\.retrieve\.tags"):
        Student(STUDENT, model, engine)


async def test_a_student_looks_a_fact_up_and_answers_with_it(model: ModelSettings, blobs: FakeBlobs) -> None:
    def script(prompt: str, adapter: str | None) -> str:
        found = re.search(r"Observation: \[1\] docs/ports.md\s+The bridge listens on (\d+)", prompt)
        return f"Answer: {found[1]}" if found else "Action: retrieve\nInput: On which port does it listen?"

    task = Task(id="t", domain="math", description="Which port is it?", difficulty=0.3)
    async with library(model, blobs, script) as (system, engine, searcher):
        student = await system.spawn(Student, STUDENT, model, engine, searcher, name="student")
        solution = await student.ask(SolveTask(episode_id="e", task=task), timeout_s=TIMEOUT_S)
        seen = await engine.ask(WhatWasSeen(), timeout_s=TIMEOUT_S)
    assert solution.answer == "5560"
    assert len(seen.requests) == 2


async def test_the_searcher_searches_samples_and_updates(model: ModelSettings, blobs: FakeBlobs) -> None:
    async with library(model, blobs, number_at_hand) as (_, _, searcher):
        report = await searcher.ask(UpdateIndex(tag="docs"), timeout_s=TIMEOUT_S)
        found = await searcher.ask(Search(tag="docs", question="megabytes", k=1), timeout_s=TIMEOUT_S)
        drawn = await searcher.ask(SamplePassages(tag="docs", count=9), timeout_s=TIMEOUT_S)
        with pytest.raises(AgentFactoryError, match="no blobs under the tag 'nowhere'"):
            await searcher.ask(Search(tag="nowhere", question="x"), timeout_s=TIMEOUT_S)
    assert (report.blobs, report.embedder) == (2, "ngrams")
    assert [passage.blob for passage in found.passages] == ["sizes.md"]
    assert len(drawn.passages) == 2


async def test_a_tag_that_cannot_be_warmed_stops_nobody(model: ModelSettings, blobs: FakeBlobs) -> None:
    settings = SearchSettings(embedder="ngrams")
    async with ActorSystem.open("local") as system:
        warm = ("nowhere", "docs")
        searcher = await system.spawn(Searcher, settings, lambda: blobs, warm, name="searcher")
        found = await searcher.ask(Search(tag="docs", question="port", k=1), timeout_s=TIMEOUT_S)
    assert found.passages[0].tag == "docs"
