"""The Coordinator's parts, around peers of a test's own."""

from collections.abc import Iterable
from typing import TypeVar

from agentfactory.actors.coordinator.episodes import EpisodeRunner, GroupRunner, NamespaceManager
from agentfactory.actors.coordinator.publisher import PolicyPublisher
from agentfactory.actors.coordinator.run_state import RunState
from agentfactory.configs.errors import AgentFactoryError
from agentfactory.configs.rewards import RewardWeights
from agentfactory.configs.roles import CurriculumSettings, LoopSettings
from agentfactory.messages.adapters import AdapterLoaded, AdapterRef, LoadAdapter
from agentfactory.messages.base import Event, Message
from agentfactory.messages.episodes import Solution, Verdict
from agentfactory.messages.runs import GroupLeased
from agentfactory.messages.tasks import Proposal, Task
from agentfactory.messages.turns import ToolCall, Turn
from agentfactory.runtime.topics import Publish
from tests.actors.peers import Peer

E = TypeVar("E", bound=Event)
TASK = Task(id="t", domain="math", description="Compute 1+1.", difficulty=0.3, novelty=1.0)
NEWEST = AdapterRef(policy="student", version=3)
FAILS = AgentFactoryError("the engine is out of memory")


def turn(text: str = "", version: int = 0, calls: int = 0, tokens: int = 1) -> Turn:
    return Turn(
        text=text,
        prompt_ids=(),
        completion_ids=(1,) * tokens,
        logprobs=(-1.0,) * tokens,
        loss_mask=(1,) * tokens,
        policy_version=version,
        calls=tuple(ToolCall(tool="python", input=f"{n}") for n in range(calls)),
    )


def solution(episode_id: str, *turns: Turn, space: str = "") -> Solution:
    return Solution(
        episode_id=episode_id, task_id="t", answer="2", turns=turns, stop_reason="answered", space=space
    )


def verdict(episode_id: str, correct: bool = True) -> Verdict:
    return Verdict(episode_id=episode_id, correct=correct, score=float(correct))


def lease(group_id: str = "g", episodes: int = 4) -> GroupLeased:
    ids = tuple(f"{group_id}-{n}" for n in range(episodes))
    return GroupLeased(group_id=group_id, proposal=Proposal(task=TASK), episode_ids=ids, version=0, at=0.0)


class Parts:
    """A Coordinator's parts around peers of one's own."""

    def __init__(self, student: Peer, verifier: Peer, sink: Peer, attempts: int = 3) -> None:
        self.engine = Peer(lambda message: loaded(message))
        self.hub = Peer()
        self.loop = LoopSettings(group_size=4, episode_attempts=attempts)
        self.publisher = PolicyPublisher(
            self.engine.pool(), Peer().pool(), Peer().ref("teacher"), self.hub.topics()
        )
        self.state = RunState(CurriculumSettings())
        self.spaces = NamespaceManager(None, self.state)
        self.cleared: list[str] = []
        self.spaces.clear = self.clear  # type: ignore[method-assign]
        self.episodes = EpisodeRunner(
            self.loop, student.ref(), self.publisher, self.hub.topics(), self.spaces
        )
        self.groups = GroupRunner(self.loop, RewardWeights(), 0.25, self.episodes, verifier.ref(), sink.ref())

    async def clear(self, spaces: Iterable[str]) -> None:
        self.cleared += [space for space in spaces if space]

    def published(self, kind: type[E]) -> list[E]:
        events = [message.event for message in self.hub.heard if isinstance(message, Publish)]
        return [event for event in events if isinstance(event, kind)]


def loaded(message: Message) -> AdapterLoaded:
    """An engine's answer, which has taken what it was sent."""
    return AdapterLoaded(names=(message.adapter.name or "",) if isinstance(message, LoadAdapter) else ())
