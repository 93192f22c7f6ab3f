"""The Student in each domain, from the task to the verdict, in this process and on Ray."""

import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import pytest_asyncio

from agentfactory.actors.domains import domain_named, domain_names
from agentfactory.actors.namespaces import new_namespace
from agentfactory.actors.student.actor import Student
from agentfactory.actors.verifier import Verifier
from agentfactory.cluster.data_plane.tiers import spawn_data_access
from agentfactory.configs.data import LIBRARY, BridgeSettings, CacheSettings, DataSettings, StoreSettings
from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import SandboxSettings, StudentSettings, TrialSettings, VerifierSettings
from agentfactory.data import DataPlane
from agentfactory.messages.episodes import JudgeSolution, Solution, SolveTask, Verdict
from agentfactory.messages.tasks import Task
from agentfactory.runtime.ref import Ref
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.tasks import arithmetic, code, logic
from agentfactory.training.tasks import multi_step as long
from tests.actors.scripted import DoesErrands, ScriptedInference, model_folder
from tests.free_ports import free_port

TIMEOUT_S = 180
STUDENT = StudentSettings(
    max_turns=12, max_tokens_per_turn=400, sandbox=SandboxSettings(timeout_s=10.0, allow_weak=True)
)
VERIFIER = VerifierSettings(timeout_s=30.0, trials=TrialSettings(timeout_s=10.0))

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Rooms(NamedTuple):
    """Who works on a task, and who judges it."""

    student: Ref
    verifier: Ref


class WorksItOut:
    """A Student that knows each domain's tasks by heart; in version 1 it slips in every answer."""

    def __init__(self) -> None:
        self._errands = DoesErrands()

    def __call__(self, prompt: str, adapter: str | None = None) -> str:
        task = prompt.rpartition("Task: ")[2].splitlines()[0]
        reply = self._reply(prompt, task)
        return reply.replace("Answer: ", "Answer: not ") if adapter == "student-v1" else reply

    def _reply(self, prompt: str, task: str) -> str:
        if "a Python function" in task:
            found = code.find_task(task)
            assert found is not None, task
            return f"Thought: I know it.\nAnswer: {code.solution(found)}"
        if asked := logic.find_task(task):
            return f"Answer: {logic.answer_of(asked)}"
        if "Work these steps out" in task:
            return _next_step(prompt, task)
        if "the folder" in task or "the file" in task:
            return self._errands(prompt, adapter=None)
        expression = arithmetic.find_expression(task)
        if "Observation: " in prompt:
            return f"Answer: {prompt.rpartition('Observation: ')[2].split()[0]}"
        return f"Thought: Use python.\nAction: python\nInput: print({expression})"


def _next_step(prompt: str, task: str) -> str:
    steps = long.find_steps(task)
    assert steps is not None, task
    seen = re.findall(r"Observation: (-?\d+)", prompt)
    values = long.results(steps)
    if len(seen) < len(values):
        return f"Action: python\nInput: print({values[len(seen)]})"
    return f"Answer: {', '.join(seen)}"


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def transport(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rooms(transport: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rooms]:
    model: ModelSettings = model_folder(tmp_path_factory.mktemp("model"))
    kind: Literal["local", "ray"] = "ray" if transport == "ray" else "local"
    state = tmp_path_factory.mktemp("state")
    settings = DataSettings(
        folder=str(state),
        store=StoreSettings(kind="embedded", folder=str(state / "store")),
        bridge=BridgeSettings(endpoints=(f"tcp://127.0.0.1:{free_port()}",)),
        cache=CacheSettings(kind="embedded"),
    )
    async with DataPlane.open(settings) as plane, ActorSystem.open(kind, backoff_s=0.01) as system:
        engine = await system.spawn(ScriptedInference, model, WorksItOut(), name="engine")
        data = await spawn_data_access(system, plane.settings)
        student = await system.spawn(Student, STUDENT, model, engine, None, data, name="student")
        verifier = await system.spawn(
            Verifier, VERIFIER, True, data.retriever, domain_names(), name="verifier"
        )
        yield Rooms(student, verifier)


_numbers = itertools.count()


async def worked_out(rooms: Rooms, task: Task, version: int = 0) -> tuple[Solution, Verdict]:
    episode_id = f"{task.id}-{next(_numbers)}"
    request = SolveTask(episode_id=episode_id, task=task, space=new_namespace("run", episode_id), pinned=True)
    adapter = request.adapter.model_copy(update={"version": version})
    request = request.model_copy(update={"adapter": adapter})
    solution = await rooms.student.ask(request, timeout_s=TIMEOUT_S)
    return solution, await rooms.verifier.ask(
        JudgeSolution(task=task, solution=solution), timeout_s=TIMEOUT_S
    )


def tasks_of(domain: str) -> list[Task]:
    found = domain_named(domain).task_generator(Path(LIBRARY)).held_out(3, seed=5)
    return [
        Task(
            id=f"{domain}-{number}",
            domain=domain,
            description=task.description,
            difficulty=task.difficulty,
            reference=task.reference,
            reference_kind=task.reference_kind,
            goal=task.goal,
        )
        for number, task in enumerate(found)
    ]


@pytest.mark.parametrize("domain", domain_names())
async def test_a_task_is_worked_out_and_judged_right(rooms: Rooms, domain: str) -> None:
    for task in tasks_of(domain):
        solution, verdict = await worked_out(rooms, task)
        assert verdict.correct, (task.description, solution.answer, verdict)
        assert verdict.score == 1.0
        assert verdict.breakdown


@pytest.mark.parametrize("domain", domain_names())
async def test_the_same_work_with_a_slip_in_the_answer_is_judged_wrong(rooms: Rooms, domain: str) -> None:
    for task in tasks_of(domain):
        solution, verdict = await worked_out(rooms, task, version=1)
        assert not verdict.correct, (task.description, solution.answer, verdict)
        assert verdict.score < 1.0
