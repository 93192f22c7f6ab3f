"""Session of one agent in one environment, and its record as trajectories.

Consumes commands and tasks; produces steps, and a trajectory of each episode in the sink; waits for the
agent, the environment and the sink; unblocked by their own limits.

Invariants: an episode that ended is on disk before its outcome is returned; a command that cannot be
understood, or may not be carried out, is a step that was refused; a model or a data plane that fails is
raised, is no step and no episode. Commands are taken one after another.

Trajectories hold no tokens: behavioural cloning tokenizes the thought and the action in whatever form its
model speaks.
"""

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from ...configs.data import DataRewards
from ...messages.data import Action, ActionError, Observation, Retrieved, StepResult, TaskSpec
from ...messages.episodes import Rewards, StopReason
from ...messages.tasks import Task
from ...messages.trajectories import StoreTrajectories, Trajectory
from ...messages.turns import ToolCall, ToolResult, Turn
from ...runtime.ref import Ref
from ..observations import render
from .base import ANSWER, Agent, Environment, NotPermitted, NotUnderstood, StatefulAgent

_as_json: Final = json.JSONEncoder(ensure_ascii=False).encode


class AgentStep(NamedTuple):
    """One decision, and what it led to."""

    thought: str
    action: Action | None
    """None where the agent did not know, or was not allowed, what it was asked for."""
    result: StepResult

    @property
    def refused(self) -> bool:
        """True if it could not be done."""
        return isinstance(self.result.observation.data, ActionError)

    def without_content(self) -> "AgentStep":
        """The same without a blob's bytes: what may be kept for long."""
        data = self.result.observation.data
        if not isinstance(data, Retrieved):
            return self
        seen = self.result.observation.model_copy(update={"data": data.model_copy(update={"content": None})})
        return self._replace(result=self.result.model_copy(update={"observation": seen}))


class AgentEpisode(NamedTuple):
    """A task, from the command to its end."""

    id: str
    instruction: str
    steps: tuple[AgentStep, ...]

    @property
    def reward(self) -> float:
        """Of all steps together."""
        return sum(step.result.reward for step in self.steps)

    @property
    def answer(self) -> str | None:
        """The agent's last words; None if it only acted."""
        last = self.steps[-1].action if self.steps else None
        return str(dict(last.params).get("text", "")) if last is not None and last.name == ANSWER else None


def trajectory_of(episode: AgentEpisode, *, group_id: str, version: int, max_chars: int) -> Trajectory:
    """The record of an episode. `version`: the policy's; 0 for a model that is not ours."""
    now = time.time()
    return Trajectory(
        episode_id=episode.id,
        group_id=group_id,
        task=Task(
            id=episode.id, domain="data", description=episode.instruction, difficulty=0.0, created_at=now
        ),
        turns=tuple(_turn(step, version, max_chars) for step in episode.steps),
        answer=episode.answer,
        stop_reason=_stop_reason(episode.steps),
        rewards=Rewards(total=episode.reward),
        finished_at=now,
    )


def _turn(step: AgentStep, version: int, max_chars: int) -> Turn:
    action = step.action
    acts = action is not None and action.name != ANSWER
    return Turn(
        prompt_ids=(),
        completion_ids=(),
        logprobs=(),
        loss_mask=(),
        policy_version=version,
        text=step.thought,
        calls=(_call(action),) if action is not None and acts else (),
        results=(_result(step, max_chars),) if acts else (),
    )


def _result(step: AgentStep, max_chars: int) -> ToolResult:
    return ToolResult(
        output=render(step.result.observation, max_chars),
        ok=not step.refused,
        failure="error" if step.refused else "",
        reward=step.result.reward,
    )


def _call(action: Action) -> ToolCall:
    return ToolCall(tool=action.name, input=_as_json(dict(action.params)))


def _stop_reason(steps: Sequence[AgentStep]) -> StopReason:
    last = steps[-1].action if steps else None
    if last is None:
        return "no_action"
    return "answered" if last.name == ANSWER else "turn_limit"


MAX_STEPS = 16
"""Of a task that says nothing else."""
HISTORY = 1000
"""Steps that a session remembers."""
SHOWN_CHARACTERS = 2000
"""Of a blob, as a model and the record see it."""
STORE_TIMEOUT_S = 60.0
BY_HAND = "by hand"


class SessionStatistics(NamedTuple):
    """Totals of a session."""

    episodes: int = 0
    steps: int = 0
    reward: float = 0.0
    hits: int = 0
    """Blobs that the cache had."""
    misses: int = 0
    refused: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Hits among the blobs that were retrieved; None before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    def after(self, episode: AgentEpisode) -> "SessionStatistics":
        """With one more episode."""
        _, steps, reward, hits, misses, refused = self
        for step in episode.steps:
            data = step.result.observation.data
            steps += 1
            reward += step.result.reward
            if isinstance(data, Retrieved):
                hits += data.hit
                misses += not data.hit
            refused += step.refused
        return SessionStatistics(self.episodes + 1, steps, reward, hits, misses, refused)


class AgentSession:
    """See the module.

    A worked example::

        session = AgentSession("helper", agent, environment, sink=sink)
        step = await session.command("get notes.md from docs")
        print(step.thought, step.result.observation.text, step.result.reward)
    """

    def __init__(
        self,
        name: str,
        agent: Agent,
        environment: Environment,
        *,
        sink: Ref | None = None,
        rewards: DataRewards | None = None,
        version: int = 0,
    ) -> None:
        """`name`: the agent's, for the record. `sink` answers StoreTrajectories; None: nothing is recorded.

        `rewards` are the environment's; `version` is that of the policy behind the agent.
        """
        self.name = name
        self.statistics = SessionStatistics()
        self.history: deque[AgentStep] = deque(maxlen=HISTORY)
        """The newest steps, without the bytes of blobs."""
        self._agent = agent
        self._remembers = agent if isinstance(agent, StatefulAgent) and agent.remembers else None
        self._environment = environment
        self._sink = sink
        self._error_reward = (rewards or DataRewards()).error
        self._version = version
        self._group = f"{name}.{uuid.uuid4().hex[:12]}"
        self._one_at_a_time = asyncio.Lock()

    async def command(self, text: str) -> AgentStep:
        """Carry one command out: one decision, one step.

        Raises ModelError, what the data plane fails with, and CannotStore.
        """
        task = TaskSpec(instruction=text)
        async with self._one_at_a_time:
            return (await self._ended(task, await self._steps(task, 1))).steps[0]

    async def run(self, task: TaskSpec) -> AgentEpisode:
        """Work on a task until the agent answers, the environment ends it, or its steps are used up.

        An agent that does not remember takes one step. Raises what `command` raises.
        """
        async with self._one_at_a_time:
            if self._remembers is None:
                return await self._ended(task, await self._steps(task, 1))
            self._remembers.begin()
            try:
                return await self._ended(task, await self._steps(task, task.max_steps or MAX_STEPS))
            finally:
                self._remembers.forget()

    async def manual(self, action: Action) -> AgentStep:
        """Take a step that a person decided on; it is recorded like the agent's."""
        task = TaskSpec(instruction=action.model_dump_json())
        async with self._one_at_a_time:
            await self._environment.reset(task)
            step = AgentStep(BY_HAND, action, await self._environment.step(action))
            await self._ended(task, (step,))
        return step

    async def _steps(self, task: TaskSpec, limit: int) -> tuple[AgentStep, ...]:
        steps = [await self._step(await self._environment.reset(task))]
        while len(steps) < limit and not steps[-1].result.done:
            seen = steps[-1].result.observation
            shown = seen.model_copy(update={"text": render(seen, SHOWN_CHARACTERS)})
            steps.append(await self._step(shown))
        return tuple(steps)

    async def _step(self, seen: Observation) -> AgentStep:
        try:
            thought = await self._agent.think(seen)
            action = await self._agent.act(seen)
        except (NotUnderstood, NotPermitted) as error:
            refused = StepResult.refused(type(error).__name__, str(error), self._error_reward)
            return AgentStep(str(error), None, refused.model_copy(update={"done": True}))
        if action.name == ANSWER:
            said = Observation(text=str(dict(action.params).get("text", "")))
            return AgentStep(thought, action, StepResult(observation=said, reward=0.0, done=True))
        return AgentStep(thought, action, await self._environment.step(action))

    async def _ended(self, task: TaskSpec, steps: tuple[AgentStep, ...]) -> AgentEpisode:
        """Record the episode; it counts once it is on disk."""
        episode = AgentEpisode(uuid.uuid4().hex, task.instruction, steps)
        if self._sink is not None:
            record = trajectory_of(
                episode, group_id=self._group, version=self._version, max_chars=SHOWN_CHARACTERS
            )
            await self._sink.ask(StoreTrajectories.of([record]), timeout_s=STORE_TIMEOUT_S)
        self.statistics = self.statistics.after(episode)
        self.history.extend(step.without_content() for step in steps)
        return episode
