"""A run under way, and the content of its `run.json`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from .actors.coordinator.journal import read_journal
from .actors.coordinator.run_state import RunState
from .cluster.run_folder import JOURNAL, check_resumable, open_run_folder
from .configs.errors import AgentFactoryError, BadInput
from .configs.files import write_atomically
from .configs.settings import Settings
from .messages.adapters import AdapterRef
from .messages.base import Event
from .messages.runs import (
    DescribeRun,
    DrainRun,
    RoundFinished,
    RoundSummary,
    RunFailed,
    RunFinished,
    RunResult,
)
from .runtime.errors import ActorDown
from .runtime.ref import ActorRef
from .runtime.system import ActorSystem
from .runtime.topics import Subscription


class RunError(AgentFactoryError):
    """A run ended badly; the message says why and how to go on."""

    def __init__(self, reason: str, run_dir: Path, exit_code: int = 1) -> None:
        super().__init__(reason, run_dir, exit_code)
        self.reason = reason
        self.run_dir = run_dir
        self.exit_code = exit_code  # type: ignore[misc]  # an instance may differ from its class

    def __str__(self) -> str:
        return (
            f"{self.reason.rstrip('.')}. The run is saved: `agentfactory resume {self.run_dir}` goes on, "
            f"and {self.run_dir / 'logs'} has the details"
        )


class Run:
    """A run under way: an async iterator over its events.

    The run itself does not depend on being watched. `result` waits for its end.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        system: ActorSystem,
        coordinator: ActorRef,
        events: Subscription,
    ) -> None:
        self.run_dir = folder
        self.settings = settings
        self.system = system
        self._coordinator = coordinator
        self._events = events
        self._end: RunFinished | RunFailed | None = None

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events as they happen, until the run has ended. Raises RunError if an actor is lost for good."""
        given_up = asyncio.ensure_future(self.system.wait_fatal())
        try:
            while self._end is None:
                for event in await self._next(given_up):
                    if isinstance(event, RunFinished | RunFailed):
                        self._end = event
                    yield event
        finally:
            given_up.cancel()

    async def result(self) -> RunResult:
        """Result of the run, also kept as `run.json`. Raises RunError for one that failed."""
        async for _ in self:
            pass
        if isinstance(self._end, RunFailed):
            raise RunError(self._end.reason, self.run_dir, self._end.exit_code)
        result = run_result(self.run_dir, read_state(self.run_dir, self.settings))
        write_atomically(self.run_dir / "run.json", result.model_dump_json(indent=2).encode())
        return result

    @property
    def drained(self) -> bool:
        """True if it ended because it was asked to, with work left for `resume`."""
        return isinstance(self._end, RunFinished) and self._end.reason == "drained"

    async def drain(self) -> None:
        """Lease nothing new, finish what runs, save, end."""
        timeout_s = self.settings.loop.drain_timeout_s + 30.0
        await self._coordinator.ask(DrainRun(), timeout_s=timeout_s)

    async def _next(self, given_up: "asyncio.Future[ActorDown]") -> tuple[Event, ...]:
        taking = asyncio.ensure_future(self._events.take())
        try:
            await asyncio.wait((taking, given_up), return_when=asyncio.FIRST_COMPLETED)
            if given_up.done():
                down = given_up.result()
                raise RunError(str(down), self.run_dir) from down
            events = await taking
        finally:
            taking.cancel()
        if not events:  # silence: make sure that somebody is still there
            await self._coordinator.ask(DescribeRun(), timeout_s=60.0)
        return events


def open_run(run_dir: Path) -> tuple[Path, Settings, RunState]:
    """A run's folder, its settings, and what it has come to. Raises BadInput."""
    folder, settings = open_run_folder(run_dir)
    check_resumable(folder)
    return folder, settings, replay(folder, settings)


def read_state(folder: Path, settings: Settings) -> RunState:
    """State of a run, from its journal. Raises BadInput, also where there is none."""
    if not (folder / JOURNAL).exists():
        raise BadInput(f"{folder}: the run has no {JOURNAL}: it ended before it began")
    return replay(folder, settings)


def replay(folder: Path, settings: Settings) -> RunState:
    """The state at the journal's end, or before the start where there is no journal. Raises BadInput."""
    state = RunState(settings.curriculum)
    if not (folder / JOURNAL).exists():
        return state
    for number, entry in enumerate(read_journal(folder / JOURNAL), start=1):
        try:
            state.apply(entry)
        except KeyError as error:
            raise BadInput(
                f"{folder / JOURNAL}: line {number}: nothing was leased under {error}; the journal is "
                "damaged. Cut it off before this line to resume from what is above"
            ) from error
    return state


def student_of(state: RunState, version: int | None) -> AdapterRef:
    """A version of the Student; None for the newest. Raises BadInput for one that the run does not have."""
    if version is None or version == state.version:
        return state.adapters["student"]
    if version == 0:
        return AdapterRef(policy="student", version=0)
    if version not in state.steps:
        raise BadInput(f"the run has no version {version}: it has 0 (the base model) to {state.version}")
    return state.steps[version].adapter


def extended(settings: Settings, state: RunState, rounds: int) -> Settings:
    """The settings with other rounds. Raises BadInput for fewer than the run has had."""
    if rounds < state.version:
        raise BadInput(f"--rounds {rounds}: the run has had {state.version} already; expected at least that")
    loop = settings.loop.model_copy(update={"rounds": rounds})
    return settings.model_copy(update={"loop": loop})


def run_result(run_dir: Path, state: RunState) -> RunResult:
    """Result of a run, as far as its journal was replayed into `state`."""
    finished = state.finished
    return RunResult(
        run_dir=str(run_dir),
        rounds=tuple(_summary(state, state.rounds[version]) for version in sorted(state.rounds)),
        episodes=state.episodes,
        failed=state.failed,
        dropped_stale=state.dropped_stale,
        tokens=state.tokens,
        wall_s=finished.wall_s if finished else state.wall_s(_last_known_at(state)),
    )


def _summary(state: RunState, finished: RoundFinished) -> RoundSummary:
    step = state.steps.get(finished.version)
    return RoundSummary(
        version=finished.version,
        pass_at_1=finished.pass_at_1,
        n=finished.n,
        ci95=finished.ci95,
        mean_reward=finished.mean_reward,
        tool_use=finished.tool_use,
        train_s=finished.train_s,
        rollout_s=finished.rollout_s,
        asked_difficulty=finished.asked_difficulty,
        proposed_difficulty=finished.proposed_difficulty,
        kl_to_base=step.kl_to_base if step else None,
        domains=finished.domains,
    )


def _last_known_at(state: RunState) -> float:
    """Time of the last entry of an unfinished run that the state still holds.

    Not the present: the folder may be that of a run that was stopped long ago.
    """
    return max(
        (
            *(entry.at for entry in state.rounds.values()),
            *(entry.at for entry in state.steps.values()),
            *(lease.at for lease in state.open.values()),
            *(finished.at for _, finished in state.ready.values()),
        ),
        default=0.0,
    )
