"""Sessions: an agent over real actors, and a record of every episode on disk."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from agentfactory.actors.agents.base import ANSWER, Agent, DecidingAgent, Decision, NotUnderstood
from agentfactory.actors.agents.command_parser import CommandParser
from agentfactory.actors.agents.rule_agents import RETRIEVER_ACTIONS, RestrictedAgent, RuleBasedAgent
from agentfactory.actors.agents.session import BY_HAND, AgentSession
from agentfactory.actors.environment import DataEnvironment
from agentfactory.actors.ingestor import Ingestor
from agentfactory.actors.retriever import Retriever
from agentfactory.actors.sink.actor import TrajectorySink
from agentfactory.actors.sink.segments import CannotStore, read_trajectories
from agentfactory.bridge.errors import BlobDamaged
from agentfactory.configs.roles import SinkSettings
from agentfactory.messages.data import Action, Observation, Retrieved, TaskSpec
from agentfactory.messages.trajectories import Trajectory
from agentfactory.runtime.ref import Ref
from agentfactory.runtime.system import ActorSystem
from tests.actors.data_plane import Plane, error_of, settings


class Desk:
    """Both tiers, the actors over them, and a sink."""

    def __init__(self, folder: Path) -> None:
        self.plane = Plane()
        self.folder = folder / "records"
        self.settings = settings(folder)
        self.ingestor: Ref
        self.retriever: Ref
        self.sink: Ref

    def session(self, agent: Agent) -> AgentSession:
        environment = DataEnvironment(self.ingestor, self.retriever, self.settings.rewards, timeout_s=30)
        return AgentSession("helper", agent, environment, sink=self.sink, rewards=self.settings.rewards)

    def records(self) -> list[Trajectory]:
        return list(read_trajectories(self.folder))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    async with ActorSystem.open("local") as system:
        desk.ingestor = await system.spawn(Ingestor, desk.settings, desk.plane.open, name="ingestor")
        desk.retriever = await system.spawn(Retriever, desk.settings, desk.plane.open, name="retriever")
        desk.sink = await system.spawn(TrajectorySink, SinkSettings(), desk.folder, name="sink")
        yield desk


class Scripted(DecidingAgent):
    """Does what it was told to in advance, step by step."""

    remembers = True

    def __init__(self, *actions: Action) -> None:
        super().__init__()
        self._actions = list(actions)
        self.seen: list[str] = []
        self.tasks = 0

    def begin(self) -> None:
        self.tasks += 1

    def forget(self) -> None:
        self.tasks -= 1

    async def _decide(self, observation: Observation) -> Decision:
        self.seen.append(observation.text)
        return Decision(f"step {len(self.seen)}", self._actions[len(self.seen) - 1])


LOAD = Action.of("assimilate", src="string:a.md::# hello", dst="docs")


async def test_each_command_is_an_episode_on_disk_with_its_reward(desk: Desk) -> None:
    session = desk.session(RuleBasedAgent(CommandParser()))
    commands = {
        "load 'string:a.md::# hello' as docs": 0.10,
        "get a.md from docs": 0.30,
        "force get a.md from docs": 0.20,
        "query docs": 0.10,
        "prune a.md from docs": 0.05,
        "get a.md from docs.": 0.20,
        "get b.md from docs": -0.50,
        "destroy docs": 0.05,
    }
    for number, (command, reward) in enumerate(commands.items(), start=1):
        step = await session.command(command)
        assert step.result.reward == reward
        record = desk.records()[-1]  # before the next command
        assert len(desk.records()) == number
        assert (record.task.domain, record.task.description) == ("data", command)
        assert record.rewards.total == reward
        (turn,) = record.turns
        assert turn.text == step.thought
        assert step.action is not None
        assert json.loads(turn.calls[0].input).keys() == dict(step.action.params).keys()
        assert (turn.results[0].reward, turn.results[0].ok) == (reward, reward > 0)
    assert len({record.episode_id for record in desk.records()}) == len(commands)
    assert len({record.group_id for record in desk.records()}) == 1
    assert session.statistics[:2] == (8, 8)
    assert session.statistics.reward == pytest.approx(0.5)
    assert (session.statistics.hits, session.statistics.misses, session.statistics.refused) == (1, 2, 1)
    assert session.statistics.hit_rate == pytest.approx(1 / 3)


async def test_what_is_remembered_holds_no_bytes_of_blobs(desk: Desk) -> None:
    session = desk.session(RuleBasedAgent(CommandParser()))
    await session.manual(LOAD)
    step = await session.command("get a.md from docs")
    assert isinstance(step.result.observation.data, Retrieved)
    assert step.result.observation.data.content == b"# hello"
    kept = session.history[-1].result.observation.data
    assert isinstance(kept, Retrieved)
    assert kept.content is None
    assert desk.records()[-1].turns[0].results[0].output == "# hello"


async def test_a_step_by_hand_is_recorded_too(desk: Desk) -> None:
    session = desk.session(RuleBasedAgent(CommandParser()))
    assert (await session.manual(LOAD)).result.reward == 0.10
    assert error_of((await session.manual(Action.of("fly"))).result) == "UnknownAction"
    assert [record.turns[0].text for record in desk.records()] == [BY_HAND, BY_HAND]
    assert [step.action for step in session.history] == [LOAD, Action.of("fly")]


async def test_what_is_not_understood_or_not_permitted_is_a_refused_step(desk: Desk) -> None:
    rules = CommandParser()
    session = desk.session(RestrictedAgent("retriever", RETRIEVER_ACTIONS, RuleBasedAgent(rules), rules))
    await session.manual(LOAD)
    assert error_of((await session.command("destroy docs")).result) == "NotPermitted"
    assert error_of((await session.command("get")).result) == "NotUnderstood"
    assert (await session.command("get a.md from docs")).result.reward == 0.30  # still there, and it goes on
    refused = desk.records()[1]
    assert (refused.turns[0].calls, refused.stop_reason, refused.rewards.total) == ((), "no_action", -0.5)


async def test_an_agent_works_on_a_task_step_by_step_and_answers(desk: Desk) -> None:
    agent = Scripted(
        LOAD, Action.of("retrieve", tag="docs", blob_name="a.md"), Action.of(ANSWER, text="# hello")
    )
    session = desk.session(agent)
    episode = await session.run(TaskSpec(instruction="Load a.md and say what is in it."))
    assert agent.seen[0] == "Load a.md and say what is in it."
    assert agent.seen[2] == "# hello"
    assert agent.tasks == 0
    assert (episode.answer, episode.reward) == ("# hello", pytest.approx(0.4))
    (record,) = desk.records()
    assert (record.answer, record.stop_reason, len(record.turns)) == ("# hello", "answered", 3)


async def test_a_task_ends_after_its_last_step(desk: Desk) -> None:
    query = Action.of("query", tag_pattern="*")
    session = desk.session(Scripted(*[query] * 40))
    assert len((await session.run(TaskSpec(instruction="look", max_steps=3))).steps) == 3
    assert len((await session.run(TaskSpec(instruction="look"))).steps) == 16
    by_rules = desk.session(RuleBasedAgent(CommandParser()))
    assert len((await by_rules.run(TaskSpec(instruction="query *"))).steps) == 1


async def test_a_failure_of_the_data_plane_is_no_episode(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def damaged(*_: object) -> None:
        raise BlobDamaged("")

    monkeypatch.setattr(desk.plane.store, "list", damaged)
    session = desk.session(RuleBasedAgent(CommandParser()))
    with pytest.raises(BlobDamaged):
        await session.command("list")
    assert desk.records() == []
    assert session.statistics.episodes == 0
    assert (await session.command("query *")).result.reward == 0.10


async def test_commands_given_at_once_are_taken_one_after_another(desk: Desk) -> None:
    session = desk.session(RuleBasedAgent(CommandParser()))
    await asyncio.gather(*(session.command(f"load string:{n}::x as t{n}") for n in range(20)))
    assert [record.task.description for record in desk.records()] == [
        f"load string:{n}::x as t{n}" for n in range(20)
    ]


async def test_a_record_that_cannot_be_written_is_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Sequence[object]:
        raise CannotStore("no space left")

    monkeypatch.setattr("agentfactory.actors.sink.segments.SegmentWriter.commit", full)
    session = desk.session(RuleBasedAgent(CommandParser()))
    with pytest.raises(CannotStore):
        await session.command("query *")
    assert session.statistics.episodes == 0


async def test_an_agent_that_is_not_understood_says_so_without_a_session() -> None:
    with pytest.raises(NotUnderstood):
        await RuleBasedAgent(CommandParser()).act(Observation(text="prune"))
