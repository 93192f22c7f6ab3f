"""What somebody looks for in the logs at level info: that an actor began, what it did, that it ended."""

import json
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

import agentfactory
from agentfactory.actors.coordinator.journal import Journal
from agentfactory.actors.coordinator.rollouts import MAX_SAMPLE_CHARACTERS, episode_sample
from agentfactory.actors.coordinator.run_state import JournaledState, RunState
from agentfactory.configs.roles import CurriculumSettings
from agentfactory.messages.adapters import AdapterRef
from agentfactory.messages.episodes import Rewards, Verdict
from agentfactory.messages.runs import RunStarted, StepFinished, TasksRewarded
from agentfactory.messages.tasks import Task
from agentfactory.messages.trajectories import Group, Trajectory
from agentfactory.messages.turns import ToolCall, ToolResult, Turn
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.system import ActorSystem
from agentfactory.runtime.telemetry import LogSettings, configure_logging


@pytest.fixture
def at_level_info() -> Iterator[None]:
    """Logging as a run has it, whatever other tests in this process have set up."""
    configured, before = structlog.is_configured(), structlog.get_config()
    configure_logging(LogSettings())
    yield
    structlog.configure(**before) if configured else structlog.reset_defaults()


class Idle(Actor):
    """Does nothing."""


@pytest.mark.usefixtures("at_level_info")
async def test_an_actor_that_starts_and_one_that_ends_say_so() -> None:
    with capture_logs() as logs:
        async with ActorSystem.open("local") as system:
            await system.spawn(Idle, name="idle")
    told = [(line["event"], line["log_level"]) for line in logs if line["event"].startswith("actor ")]
    assert ("actor started", "info") in told
    assert ("actor closed", "info") in told
    (started,) = [line for line in logs if line.get("kind") == "Idle"]
    assert started["start_s"] >= 0.0


@pytest.mark.usefixtures("at_level_info")
async def test_the_coordinators_log_has_the_turns_of_a_run_and_not_each_group(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    journal = Journal(tmp_path_factory.mktemp("run") / "journal.jsonl")
    with capture_logs() as logs:
        async with ActorSystem.open("local") as system:
            record = JournaledState(journal, RunState(CurriculumSettings()), system.topics)
            await record.add(RunStarted(run_id="r1", seed=1, at=1.0, settings_sha256="0"))
            await record.add(TasksRewarded(version=0, task_ids=("t",), rewards=(0.5,), at=2.0))
            await record.add(_step())
    journal.close()
    assert [line["event"] for line in logs if "actor" not in line["event"]] == [
        "run started",
        "step finished",
    ]
    (step,) = [line for line in logs if line["event"] == "step finished"]
    assert (step["policy"], step["version"], step["groups"]) == ("student", 1, 2)


def test_a_logger_that_spoke_before_speaks_at_the_level_that_is_set_later(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    log = structlog.get_logger("early")
    try:
        configure_logging(LogSettings(level="error", folder=str(folder)))
        log.info("not told")
        configure_logging(LogSettings(folder=str(folder)))
        log.info("told")
    finally:
        structlog.reset_defaults()
        configure_logging(LogSettings())
        structlog.reset_defaults()
    assert [json.loads(line)["event"] for line in (folder / "driver.log").read_text().splitlines()] == [
        "told"
    ]


def test_the_sample_of_a_group_is_a_judged_episode_with_a_call_and_short() -> None:
    sample = episode_sample(
        Group(group_id="g", trajectories=(_episode("a", ()), _episode("b", ("x" * 900,))))
    )
    assert sample is not None
    assert (sample.episode_id, sample.tool, sample.output, sample.correct) == ("b", "python", "144", True)
    assert len(sample.call) == MAX_SAMPLE_CHARACTERS
    assert episode_sample(Group(group_id="g", trajectories=())) is None
    unjudged = _episode("c", ()).model_copy(update={"verdict": None})
    assert episode_sample(Group(group_id="g", trajectories=(unjudged,))) is None


def test_the_face_names_all_that_it_has() -> None:
    assert set(agentfactory.__all__) <= set(dir(agentfactory))
    assert "Factory" in dir(agentfactory)


def _step() -> StepFinished:
    return StepFinished(
        policy="student",
        adapter=AdapterRef(policy="student", version=1),
        group_ids=("g0", "g1"),
        loss=0.1,
        clip_fraction=0.0,
        entropy=0.2,
        grad_norm=1.0,
        tokens=9,
        train_s=1.0,
        at=3.0,
    )


def _episode(name: str, calls: tuple[str, ...]) -> Trajectory:
    turn = Turn(
        prompt_ids=(1,),
        completion_ids=(2,),
        logprobs=(-1.0,),
        loss_mask=(0, 1),
        policy_version=0,
        finish_reason="stop",
        calls=tuple(ToolCall(tool="python", input=call) for call in calls),
        results=tuple(ToolResult(output="144", ok=True) for _ in calls),
    )
    return Trajectory(
        episode_id=name,
        group_id="g",
        task=Task(id="t", domain="math", description="What is 12*(7+5)?", difficulty=0.3),
        turns=(turn,),
        answer="144",
        verdict=Verdict(episode_id=name, correct=True, score=1.0),
        rewards=Rewards(total=1.0),
    )
