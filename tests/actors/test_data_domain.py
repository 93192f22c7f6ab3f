"""Errands in the data plane: spaces of their own, judged by what the store holds, cleared away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.actors.coordinator.episodes import NamespaceManager
from agentfactory.actors.coordinator.run_state import RunState
from agentfactory.actors.domains.data.judge import DataJudge
from agentfactory.actors.namespaces import ROOT, DataAccess, clear, new_namespace, sweep
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.actors.student.actor import Student
from agentfactory.actors.student.tools import NotStored
from agentfactory.actors.verifier import Verifier
from agentfactory.bridge.errors import BridgeDown
from agentfactory.configs.data import LIBRARY
from agentfactory.configs.errors import SettingsError
from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import CurriculumSettings, SandboxSettings, StudentSettings, VerifierSettings
from agentfactory.messages.data import BlobPage
from agentfactory.messages.episodes import EpisodeFailed, JudgeGroup, Solution, SolveTask, Verdict
from agentfactory.messages.runs import GroupFinished, RoundFinished, RunFinished
from agentfactory.messages.tasks import StoreSpec, Task
from agentfactory.messages.trajectories import Trajectory
from agentfactory.runtime.errors import ActorDown
from agentfactory.runtime.ref import Ref
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.tasks.data_tasks import answer_of, goal_of, parse_data_task
from agentfactory.training.tasks.documents import read_library
from tests.actors.data_plane import Plane, access
from tests.actors.scripted import DoesErrands, Script, ScriptedInference, model_folder, use_the_tool
from tests.actors.test_coordinator import Stage, settings, stage

TIMEOUT_S = 180
STUDENT = StudentSettings(max_turns=5, max_tokens_per_turn=200, sandbox=SandboxSettings(allow_weak=True))
GUIDE = "Load the folder samples as docs, then fetch setup_guide.md."


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture
def model(tmp_path: Path) -> ModelSettings:
    return model_folder(tmp_path / "model")


def task(text: str = GUIDE) -> Task:
    library = read_library(LIBRARY)
    errand = parse_data_task(text, library)
    assert errand is not None
    return Task(
        id="t",
        domain="data",
        description=text,
        difficulty=errand.difficulty,
        reference=answer_of(errand, library),
        reference_kind="computed",
        goal=goal_of(errand, library),
    )


class Room:
    """A Student, a judge, and the data plane that both work with."""

    def __init__(self, system: ActorSystem, student: Ref, data: DataAccess) -> None:
        self.system = system
        self.student = student
        self.data = data
        self._judge = DataJudge(data.retriever)

    async def solve(self, episode_id: str = "e", asked: Task | None = None) -> Solution:
        request = SolveTask(
            episode_id=episode_id, task=asked or task(), space=new_namespace("run", episode_id)
        )
        return await self.student.ask(request, timeout_s=TIMEOUT_S)

    async def judge(self, solution: Solution, asked: Task | None = None) -> Verdict:
        return await self._judge.judge(asked or task(), solution, solution.answer or "")


@asynccontextmanager
async def room(model: ModelSettings, plane: Plane, script: Script) -> AsyncIterator[Room]:
    async with ActorSystem.open("local", backoff_s=0.01) as system:
        engine = await system.spawn(ScriptedInference, model, script, name="engine")
        data = await access(system, plane)
        student = await system.spawn(Student, STUDENT, model, engine, None, data, name="student")
        yield Room(system, student, data)


def replies(*texts: str) -> Script:
    """A Student that says one thing after the other, whatever it sees."""
    return lambda prompt, adapter: texts[min(prompt.count("Observation: "), len(texts) - 1)]


LOAD = "Action: assimilate\nInput: folder::samples as docs"
FETCH = "Action: retrieve\nInput: docs/setup_guide.md"
ANSWER = "Answer: Run make."


@pytest.mark.parametrize(
    "text",
    [
        GUIDE,
        "Store the folder office as desk, then count its files.",
        "Load the file travel/hotel.txt as trip, then read it.",
        "Load the folder music as a and the folder lab as b, then fetch ph.txt of b.",
    ],
)
async def test_an_errand_that_is_done_to_the_letter_is_right(
    model: ModelSettings, plane: Plane, text: str
) -> None:
    async with room(model, plane, DoesErrands()) as here:
        solution = await here.solve(asked=task(text))
        verdict = await here.judge(solution, task(text))
    assert verdict.correct, verdict.explanation
    assert (verdict.score, [credit.score for credit in verdict.breakdown]) == (1.0, [1.0, 1.0])


async def test_each_step_s_reward_is_in_the_turn_that_took_it(model: ModelSettings, plane: Plane) -> None:
    lost = "Action: retrieve\nInput: docs/lost.md"
    async with room(model, plane, replies(LOAD, lost, FETCH, ANSWER)) as here:
        solution = await here.solve()
    assert [turn.results[0].reward if turn.results else None for turn in solution.turns] == [
        0.1,
        -0.5,
        0.3,
        None,
    ]
    assert [result.output for turn in solution.turns for result in turn.results] == [
        "stored 4 blobs (60 bytes) under 'docs'",
        "Error: there is no blob 'lost.md' under 'docs'",
        "Run make.\nThen run make test.",
    ]


async def test_the_agent_never_sees_its_space_and_the_store_does(model: ModelSettings, plane: Plane) -> None:
    seen: list[str] = []

    def script(prompt: str, adapter: str | None) -> str:
        seen.append(prompt)
        calls = (LOAD, "Action: list_blobs\nInput: *", "Action: query\nInput: *", "Action: destroy\nInput: x")
        return (*calls, ANSWER)[prompt.count("Observation: ")]

    async with room(model, plane, script) as here:
        await here.solve()
    assert {tag for tag, _ in plane.store.blobs} == {
        tag for tag, _ in plane.store.blobs if tag.startswith("episode.run.e.") and tag.endswith("/docs")
    }
    assert "docs/hello.txt, docs/notes.md, docs/setup_guide.md, docs/todo.txt" in seen[2]
    assert "Error: there is nothing under 'x'" in seen[4]
    assert all(ROOT not in prompt and str(LIBRARY) not in prompt for prompt in seen)


@pytest.mark.parametrize(
    "look",
    [
        "Action: list_blobs\nInput: *",
        "Action: query\nInput: *",
        "Action: retrieve\nInput: docs/setup_guide.md",
        'Action: retrieve\nInput: {"tag": "../e/docs", "blob_name": "setup_guide.md"}',
        "Action: destroy\nInput: docs",
        "Action: assimilate\nInput: mem::docs/setup_guide.md as mine",
        "Action: assimilate\nInput: file::../settings.py as mine",
        "Action: assimilate\nInput: hdf5::x as mine",
    ],
)
async def test_siblings_see_neither_one_another_s_tags_nor_anyone_s_nor_other_files(
    model: ModelSettings, plane: Plane, look: str
) -> None:
    await plane.store.put("docs", "setup_guide.md", b"of a person")
    async with room(model, plane, DoesErrands()) as here:
        first = await here.solve("first")
    async with room(model, plane, replies(look, ANSWER)) as here:
        (turn, _) = (await here.solve("second")).turns
        (result,) = turn.results
        assert result.output == "(nothing)" or not result.ok
        assert (await here.judge(first)).correct
    assert plane.store.named("docs") == {"setup_guide.md": b"of a person"}


async def test_the_store_is_believed_and_not_the_transcript(model: ModelSettings, plane: Plane) -> None:
    async with room(model, plane, DoesErrands()) as here:
        honest = await here.solve("honest")
        liar = honest.model_copy(update={"episode_id": "liar", "space": new_namespace("run", "liar")})
        verdict = await here.judge(liar)
        assert (verdict.correct, verdict.score) == (False, 0.5)
        assert verdict.explanation == "the store: docs/hello.txt is missing (and 3 more)"
        await plane.store.put(f"{honest.space}docs", "extra", b"")
        assert (await here.judge(honest)).explanation == "the store: docs/extra is too much"
        await plane.store.delete(f"{honest.space}docs", list(plane.store.named(f"{honest.space}docs")))
        for blob in (task().goal or StoreSpec(blobs=())).blobs:
            await plane.store.put(f"{honest.space}docs", blob.name, b"forged")
        assert "has other bytes" in (await here.judge(honest)).explanation


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("Run make.", True),
        ("`Run make`", True),
        ("run make.\nThen run make test.", True),
        ("Then run make test.", False),
        ("Run make. Buy ink. Hello.", False),
    ],
)
async def test_an_answer_is_the_first_line_of_the_blob(
    model: ModelSettings, plane: Plane, said: str, right: bool
) -> None:
    async with room(model, plane, replies(LOAD, f"Answer: {said}")) as here:
        verdict = await here.judge(await here.solve())
    assert (verdict.correct, verdict.score) == (right, float(right))


async def test_a_dead_data_plane_is_a_failure_and_never_a_zero(
    model: ModelSettings, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object) -> BlobPage:
        raise BridgeDown("no bridge answers")

    async with room(model, plane, DoesErrands()) as here:
        solution = await here.solve("before")
        monkeypatch.setattr(plane.store, "list", down)
        monkeypatch.setattr(plane.store, "fail", lambda name: BridgeDown("no bridge answers"))
        with pytest.raises(NotStored, match="no bridge answers"):
            await here.solve("after")
        with pytest.raises(BridgeDown):
            await here.judge(solution)
        settings = VerifierSettings()
        verifier = await here.system.spawn(Verifier, settings, True, here.data.retriever, name="verifier")
        group = await verifier.ask(JudgeGroup(task=task(), solutions=(solution,)), timeout_s=TIMEOUT_S)
    assert group.verdicts == ()
    assert group.failed == (("before", "no bridge answers"),)


async def test_a_student_without_data_plane_or_space_refuses_the_task(
    model: ModelSettings, plane: Plane
) -> None:
    async with room(model, plane, DoesErrands()) as here:
        with pytest.raises(SettingsError, match="a space of its own"):
            await here.student.ask(SolveTask(episode_id="e", task=task()), timeout_s=TIMEOUT_S)


async def test_a_space_is_cleared_and_the_others_stay(model: ModelSettings, plane: Plane) -> None:
    async with room(model, plane, DoesErrands()) as here:
        one, other = await here.solve("one"), await here.solve("other")
        await clear(here.data, [one.space, ""])
        assert {tag for tag, _ in plane.store.blobs} == {f"{other.space}docs"}
        await clear(here.data, [one.space])
        assert (await here.judge(other)).correct


async def test_a_sweep_takes_its_own_run_s_spaces_and_stale_ones(model: ModelSettings, plane: Plane) -> None:
    kept = {"docs", new_namespace("alive", "e") + "docs"}
    gone = {new_namespace("mine", "e") + "docs", new_namespace("dead", "e") + "docs"}
    for tag in kept | gone:
        info = await plane.store.put(tag, "a.md", b"")
        at = 0.0 if ".dead." in tag else time.time()
        plane.store.blobs[tag, "a.md"] = (info.model_copy(update={"stored_at": at}), b"")
    async with room(model, plane, DoesErrands()) as here:
        await sweep(here.data, "mine")
    assert {tag for tag, _ in plane.store.blobs} == kept


async def test_the_coordinators_spaces_are_those_of_its_run_and_a_failure_changes_no_verdict(
    model: ModelSettings, plane: Plane
) -> None:
    state = RunState(CurriculumSettings())
    state.run_id = "mine"
    for tag in (new_namespace("mine", "e") + "docs", new_namespace("alive", "e") + "docs"):
        info = await plane.store.put(tag, "a.md", b"")
        plane.store.blobs[tag, "a.md"] = (info.model_copy(update={"stored_at": time.time()}), b"")
    without = NamespaceManager(None, state)
    await without.clear(["episode.mine.x."])
    await without.collect_garbage()
    assert len(plane.store.blobs) == 2
    async with room(model, plane, DoesErrands()) as here:
        spaces = NamespaceManager(here.data, state)
        lookups = plane.store.lookups
        await spaces.clear(["", ""])
        assert plane.store.lookups == lookups, "there is nothing to clear"
        await spaces.collect_garbage()
        assert [tag.split(".")[1] for tag, _ in plane.store.blobs] == ["alive"]
    gone = NamespaceManager(here.data, state)  # its actors are stopped
    await gone.clear(["episode.mine.x."])
    await gone.collect_garbage()


def of_students(run: Stage) -> list[Trajectory]:
    return [t for t in read_trajectories(run.folder / "trajectories") if t.policy == "student"]


async def test_a_run_of_errands_leaves_nothing_in_the_store(
    tmp_path: Path, model: ModelSettings, plane: Plane
) -> None:
    chosen = settings(curriculum__domains=["data", "math"], teacher__max_tokens=120)
    script = DoesErrands()

    def both(prompt: str, adapter: str | None) -> str:
        is_errand = "Propose a data task" in prompt or "Task: Load" in prompt or "Task: Store" in prompt
        return script(prompt) if is_errand else use_the_tool(prompt)

    await plane.store.put("mine", "a.md", b"of another")
    async with stage(tmp_path / "run", model, chosen, both, plane=plane) as run:
        end = await run.until_the_end()
    assert isinstance(end, RunFinished)
    assert {round_.pass_at_1 for round_ in run.journal(RoundFinished)} == {1.0}
    assert {t.task.domain for t in of_students(run)} == {"data", "math"}
    assert all(t.verdict and t.verdict.correct for t in of_students(run))
    assert set(plane.store.blobs) == {("mine", "a.md")}


async def test_what_was_judged_is_cleared_without_waiting_for_the_end(
    tmp_path: Path, model: ModelSettings, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_sweep(*_: object) -> None:
        return None

    monkeypatch.setattr("agentfactory.actors.coordinator.episodes.sweep", no_sweep)
    chosen = settings(curriculum__domains=["data"], teacher__max_tokens=120, loop__rounds=1)
    async with stage(tmp_path / "run", model, chosen, DoesErrands(), plane=plane) as run:
        await run.until_the_end()
    judged = {group.group_id for group in run.journal(GroupFinished)} | {"eval"}
    left = {tag.split(".")[2].partition("-")[0] for tag, _ in plane.store.blobs}
    assert judged.isdisjoint(left)


async def test_an_ingestor_that_is_killed_in_the_middle_costs_an_attempt_and_no_score(
    tmp_path: Path, model: ModelSettings, plane: Plane
) -> None:
    chosen = settings(curriculum__domains=["data"], teacher__max_tokens=120, loop__rounds=1)
    plane.store.hold = asyncio.Event()
    async with stage(tmp_path / "run", model, chosen, DoesErrands(), plane=plane) as run:
        failures = await run.system.topics.subscribe(EpisodeFailed)
        async with asyncio.timeout(TIMEOUT_S):
            ending = asyncio.ensure_future(run.until_the_end())
            await plane.store.begun.wait()
            await run.system.kill("ingestor-0")
            plane.store.hold.set()
            end = await ending
            failed = await failures.take()
    assert isinstance(end, RunFinished)
    assert {(event.error, event.will_retry) for event in failed if isinstance(event, EpisodeFailed)} == {
        ("ActorDown", True)
    }
    assert all(t.verdict and t.verdict.correct for t in of_students(run))
    assert sum(group.failed for group in run.journal(GroupFinished)) == 0
    assert plane.store.blobs == {}


async def test_an_ingestor_that_dies_under_a_student_is_raised(model: ModelSettings, plane: Plane) -> None:
    plane.store.hold = asyncio.Event()
    async with room(model, plane, DoesErrands()) as here:
        solving = asyncio.ensure_future(here.solve())
        async with asyncio.timeout(TIMEOUT_S):
            await plane.store.begun.wait()
        await here.system.kill("ingestor-0")
        with pytest.raises(ActorDown):
            await solving
        plane.store.hold.set()
        assert (await here.judge(await here.solve())).correct
