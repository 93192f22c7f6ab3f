"""Actions as an agent writes them, steps as it sees them."""

import json
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentfactory.actors.environment import DataEnvironment, EnvironmentOver
from agentfactory.actors.ingestor import Ingestor
from agentfactory.actors.retriever import Retriever
from agentfactory.bridge.errors import BlobDamaged
from agentfactory.messages.data import Action, Observation, Retrieved, StepResult, TaskSpec
from agentfactory.runtime.system import ActorSystem
from tests.actors.data_plane import Plane, error_of, settings


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture
async def environment(plane: Plane, tmp_path: Path) -> AsyncIterator[DataEnvironment]:
    made = settings(tmp_path)
    async with ActorSystem.open("local") as system:
        ingestor = await system.spawn(Ingestor, made, plane.open, name="ingestor")
        retriever = await system.spawn(Retriever, made, plane.open, name="retriever")
        yield DataEnvironment(ingestor, retriever, made.rewards, timeout_s=30)


async def test_the_walk_from_assimilate_to_destroy_earns_what_the_table_says(
    environment: DataEnvironment,
) -> None:
    walk = [
        (Action.of("assimilate", src="string:a.md::# a", dst="docs"), 0.10),
        (Action.of("query", tag_pattern="docs"), 0.10),
        (Action.of("retrieve", tag="docs", blob_name="a.md"), 0.30),
        (Action.of("prune", tag="docs", blob_names=("a.md",)), 0.05),
        (Action.of("retrieve", tag="docs", blob_name="a.md"), 0.20),
        (Action.of("retrieve", tag="docs", blob_name="a.md", force=True), 0.20),
        (Action.of("list_blobs", tag_pattern="*"), 0.10),
        (Action.of("destroy", tags="docs"), 0.05),
        (Action.of("retrieve", tag="docs", blob_name="a.md"), -0.50),
    ]
    results = [await environment.step(action) for action, _ in walk]
    assert [result.reward for result in results] == [reward for _, reward in walk]
    trajectory = environment.trajectory
    assert [step.action for step in trajectory.steps] == [action for action, _ in walk]
    assert [step.result for step in trajectory.steps] == results
    assert trajectory.total_reward == pytest.approx(sum(reward for _, reward in walk))
    assert environment.observe() == results[-1].observation


@pytest.mark.parametrize(
    ("action", "error", "says"),
    [
        (Action.of("fly"), "UnknownAction", "'fly' is not one of assimilate, query, retrieve, prune"),
        (Action.of("retrieve", tag="docs"), "BadParameters", "retrieve: blob_name: Field required"),
        (Action.of("query", tag_pattern="*", size=3), "BadParameters", "query: size: Extra inputs"),
        (Action.of("retrieve", tag=3, blob_name="x"), "BadParameters", "retrieve: tag: Input should be"),
        (Action.of("prune", tag="docs", blob_names=()), "BadParameters", "prune: blob_names: "),
        (Action.of("assimilate", src="string::x", format="xml"), "BadParameters", "assimilate: format: "),
        (Action.of("assimilate", src="x.csv"), "URIResolveError", "has no scheme"),
    ],
)
async def test_what_does_not_fit_is_an_observation(
    environment: DataEnvironment, action: Action, error: str, says: str
) -> None:
    result = await environment.step(action)
    assert error_of(result) == error
    assert says in result.observation.text
    assert len(environment.trajectory.steps) == 1


async def test_a_reset_forgets_the_steps_and_shows_the_task(environment: DataEnvironment) -> None:
    await environment.step(Action.of("fly"))
    assert await environment.reset(TaskSpec(instruction="Load it.")) == Observation(text="Load it.")
    assert environment.observe() == Observation(text="Load it.")
    assert environment.trajectory.steps == ()
    assert await environment.reset() == Observation(text="")


async def test_the_last_step_of_a_task_is_the_end(environment: DataEnvironment) -> None:
    await environment.reset(TaskSpec(instruction="", max_steps=2))
    query = Action.of("query", tag_pattern="*")
    assert [(await environment.step(query)).done for _ in range(2)] == [False, True]
    with pytest.raises(EnvironmentOver):
        await environment.step(query)
    await environment.reset()
    assert not (await environment.step(query)).done


async def test_a_closed_environment_takes_no_steps(environment: DataEnvironment) -> None:
    await environment.close()
    with pytest.raises(EnvironmentOver):
        await environment.step(Action.of("query", tag_pattern="*"))
    with pytest.raises(EnvironmentOver):
        await environment.reset()


async def test_a_failure_of_the_data_plane_is_no_step(
    environment: DataEnvironment, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged(*_: object) -> None:
        raise BlobDamaged("")

    monkeypatch.setattr(plane.store, "list", damaged)
    with pytest.raises(BlobDamaged):
        await environment.step(Action.of("list_blobs"))
    assert environment.trajectory.steps == ()


def test_an_action_is_written_as_an_object() -> None:
    text = '{"name":"prune","params":{"tag":"docs","blob_names":["a","b"],"n":1}}'
    action = Action.model_validate_json(text)
    assert action == Action.of("prune", tag="docs", blob_names=("a", "b"), n=1)
    assert json.loads(action.model_dump_json()) == json.loads(text)
    assert hash(pickle.loads(pickle.dumps(action))) == hash(action)


def test_bytes_of_a_result_survive_json_and_pickle() -> None:
    data = Retrieved(tag="t", blob_name="b", size=256, hit=True, content=bytes(range(256)))
    result = StepResult(observation=Observation(text="", data=data), reward=0.3)
    assert StepResult.model_validate_json(result.model_dump_json()) == result
    assert pickle.loads(pickle.dumps(result)) == result
