"""Texts at hand, through the Factory: a real bridge, a grounded Teacher, Students that look things up."""

import itertools
import re
from pathlib import Path

import pytest

from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.configs.load import load_settings
from agentfactory.configs.models import EngineSettings, ModelSettings, SimulatedEngineSettings
from agentfactory.configs.roles import RetrieveSettings
from agentfactory.configs.settings import Settings
from agentfactory.factory import Factory
from agentfactory.messages.search import PassageRef
from agentfactory.runtime.engines.base import AdapterStoreFactory
from tests.actors.scripted import ScriptedInference
from tests.cluster.test_data_plane import settings as data_settings

PORTS = "The bridge listens on 5560."
CACHES = "The cache holds 512 megabytes."
_numbers = itertools.count(2)


def by_the_book(prompt: str, adapter: str | None) -> str:
    """A Teacher that asks for the number of its passage, a Student that looks numbers up."""
    passage = re.search(r"<passage>\D*(\d+)", prompt)
    if passage:
        return f"Task: Compute {passage[1]}+{next(_numbers)}."
    seen = re.findall(r"Observation: \[1\] docs/\S+\s+\D*(\d+)", prompt)
    asked = re.search(r"(\d+)\+(\d+)", prompt)
    if seen and asked:
        return f"Answer: {int(seen[-1]) + int(asked[2])}"
    return f"Action: retrieve\nInput: What is {asked[1] if asked else 5560} for?"


class ByTheBook(ScriptedInference):
    """Stands where the engine stands."""

    def __init__(
        self, model: ModelSettings, settings: EngineSettings, open_store: AdapterStoreFactory | None = None
    ) -> None:
        super().__init__(model, by_the_book, open_adapter_store=open_store)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The laptop's, made small, with an engine that follows the script above and a trainer that waits."""
    monkeypatch.setattr("agentfactory.cluster.launch.InferenceEngine", ByTheBook)
    monkeypatch.setattr("agentfactory.factory.InferenceEngine", ByTheBook)
    laptop = load_settings(
        "laptop",
        {
            "loop.rounds": 1,
            "loop.batch_groups": 2,
            "loop.group_size": 2,
            "loop.max_groups_per_step": 4,
            "loop.max_concurrent_groups": 2,
            "curriculum.frontier": 0.5,
            "curriculum.domains": ["math"],
            "evaluation.tasks": 2,
            "teacher.train": False,
            "teacher.grounding_tag": "docs",
            "trainer.simulate_s": 0.0,
            "runtime.transport": "local",
        },
    )
    student = laptop.student.model_copy(update={"retrieve": RetrieveSettings(tags=("docs",), passages=1)})
    return laptop.model_copy(
        update={
            "engine": SimulatedEngineSettings(),
            "student": student,
            "data": data_settings(tmp_path),
        }
    )


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "ports.md").write_text(PORTS)
    (folder / "caches.md").write_text(CACHES)
    return folder


@pytest.mark.slow  # it imports torch and peft
async def test_a_run_makes_its_tasks_from_stored_texts_and_its_students_look_into_them(
    settings: Settings, tmp_path: Path, docs: Path
) -> None:
    async with Factory.open(settings) as factory:
        await factory.ingest(f"folder::{docs}", tag="docs")
        assert [p.blob for p in await factory.search("docs", "How many megabytes?", k=1)] == ["caches.md"]
        run = await factory.evolve(run_dir=tmp_path / "run")
        result = await run.result()
    trained = [t for t in read_trajectories(run.run_dir / "trajectories") if t.group_id.startswith("g")]
    assert result.failed == 0
    assert trained
    places = {
        "5560": PassageRef(tag="docs", blob="ports.md", start=0, end=len(PORTS)),
        "512": PassageRef(tag="docs", blob="caches.md", start=0, end=len(CACHES)),
    }
    for episode in trained:
        (number,) = re.findall(r"(\d+)\+", episode.task.description)
        first, last = episode.turns
        assert episode.task.source == places[number]
        ((call, answered),) = first.exchanges
        assert answered is not None
        assert (call.tool, answered.ok) == ("retrieve", True)
        assert answered.output.startswith(f"[1] docs/{places[number].blob}")
        assert episode.verdict is not None
        assert episode.verdict.correct, last.text


async def test_a_task_is_solved_with_the_retrieve_tool(settings: Settings, docs: Path) -> None:
    async with Factory.open(settings) as factory:
        await factory.ingest(f"folder::{docs}", tag="docs")
        solution = await factory.solve("What is 5560+1?")
    assert solution.answer == "5561"
    assert [call.tool for turn in solution.turns for call in turn.calls] == ["retrieve"]
