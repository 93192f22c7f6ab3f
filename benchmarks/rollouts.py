"""What the loop costs the engine: tokens/s through the actors, against the engine fed directly.

    python -m benchmarks.rollouts

Through the actors, on Ray: Coordinator, Student (with its real sandboxed tool), Verifier, sink and
engine, with tasks that were drawn before and a Trainer that takes no time. Directly: the same engine
in this process is given the same episodes, turn by turn, prompts and observations as they were
recorded, with the same sampling settings, as fast as it takes them. The rate is tokens sampled a
second, from the first request to the last answer.
"""

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from random import Random

from agentfactory.actors.coordinator.journal import FILE, read_journal
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.actors.student.actor import STOP
from agentfactory.cluster.launch import spawn_actors, spawn_coordinator
from agentfactory.cluster.run_folder import create_run_folder
from agentfactory.configs.load import load_settings
from agentfactory.configs.settings import Settings
from agentfactory.messages.generation import Generate, SamplingSettings
from agentfactory.messages.runs import GroupFinished, GroupLeased, RunFailed, RunFinished, StartRun
from agentfactory.messages.tasks import Proposal, Proposals, ProposeTasks, Task
from agentfactory.messages.trajectories import Trajectory
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.engines.base import Engine
from agentfactory.runtime.engines.registry import open_engine
from agentfactory.runtime.on_ray.session import ray_session
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.tasks import arithmetic
from benchmarks.figures import Figures

GROUPS = 192
CONCURRENT_GROUPS = 64
REPEATS = 3
RUN_TIMEOUT_S = 300
CHANGES = {
    "loop.rounds": 1,
    "loop.batch_groups": GROUPS,
    "loop.max_groups_per_step": GROUPS,
    "loop.max_concurrent_groups": CONCURRENT_GROUPS,
    "loop.max_staleness": 0,
    "curriculum.domains": ["math"],  # what `PreparedTeacher` knows; no data plane is in the way
    "curriculum.frontier": 0.5,
    "curriculum.tolerance": 0.5,
    "evaluation.tasks": 1,
    "teacher.train": False,
    "trainer.simulate_s": 0.0,
    "runtime.dashboard": False,
}


class PreparedTeacher(Actor):
    """Hands out tasks that were drawn before, so that the engine works for Students alone."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)

    async def propose(self, message: ProposeTasks) -> Proposals:
        return Proposals(proposals=tuple(self._proposal(message) for _ in range(message.count)))

    def _proposal(self, message: ProposeTasks) -> Proposal:
        expression = arithmetic.sample_expression(self._rng, message.difficulty)
        task = Task(
            id=f"t{self._rng.getrandbits(64):016x}",
            domain="math",
            description=arithmetic.phrase(self._rng, expression),
            difficulty=message.difficulty,
            reference=str(arithmetic.evaluate(expression)),
            reference_kind="computed",
        )
        return Proposal(task=task)


async def through_the_actors(settings: Settings, folder: Path) -> tuple[float, list[Trajectory]]:
    """Tokens/s of a run's one round, and its episodes."""
    async with ActorSystem.open("ray") as system:
        ends = await system.topics.subscribe(RunFinished, RunFailed)
        crew = await spawn_actors(system, settings, folder)
        teacher = await system.spawn(PreparedTeacher, settings.seed, name="prepared-teacher")
        coordinator = await spawn_coordinator(system, settings, folder, crew._replace(teacher=teacher))
        await coordinator.ask(StartRun(), timeout_s=30)
        async with asyncio.timeout(RUN_TIMEOUT_S):
            end = await anext(aiter(ends))
    if isinstance(end, RunFailed):
        raise RuntimeError(end.reason)
    began = ended = 0.0
    tokens = 0
    for entry in read_journal(folder / FILE):
        if isinstance(entry, GroupLeased):
            began = began or entry.at
        elif isinstance(entry, GroupFinished):
            ended, tokens = entry.at, tokens + entry.tokens
    episodes = [t for t in read_trajectories(folder / "trajectories") if t.group_id.startswith("g")]
    return tokens / (ended - began), episodes


async def directly(settings: Settings, episodes: list[Trajectory]) -> float:
    """Tokens/s of the engine alone on the same episodes."""
    engine = open_engine(settings.model, settings.engine)
    await engine.start()
    groups = defaultdict(list)
    for episode in episodes:
        groups[episode.group_id].append(episode)
    slots = asyncio.Semaphore(CONCURRENT_GROUPS * settings.loop.group_size)
    student = settings.student
    try:
        await replay(engine, episodes[0], asyncio.Semaphore(1), "warm-up", student.temperature)
        began = time.perf_counter()
        counts = await asyncio.gather(
            *(
                replay(engine, e, slots, e.episode_id, student.temperature)
                for group in groups.values()
                for e in group
            )
        )
        return sum(counts) / (time.perf_counter() - began)
    finally:
        await engine.aclose()


async def replay(
    engine: Engine, episode: Trajectory, slots: asyncio.Semaphore, name: str, temperature: float
) -> int:
    """Feed one episode's recorded turns; each is as long as it was."""
    history: tuple[int, ...] = ()
    sampled = 0
    async with slots:
        for number, turn in enumerate(episode.turns):
            completion = await engine.generate(
                Generate(
                    request_id=f"{name}/{number}",
                    prompt_ids=history + turn.prompt_ids,
                    sampling=SamplingSettings(
                        temperature=temperature, max_tokens=max(1, len(turn.completion_ids)), stop=(STOP,)
                    ),
                    session=name,
                )
            )
            sampled += len(completion.token_ids)
            history += turn.prompt_ids + turn.completion_ids
        engine.end_sessions((name,))
    return sampled


async def compare(settings: Settings) -> float:
    """Our rate as a share of the engine's own, once."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = create_run_folder(settings, Path(folder) / "run").folder
        async with ray_session(dashboard=False):
            actors, episodes = await through_the_actors(settings, run_dir)
        alone = await directly(settings, episodes)
    print(f"through the actors {actors:.0f} tokens/s, directly {alone:.0f} tokens/s", flush=True)
    return actors / alone


def main() -> int:
    settings = load_settings("laptop", CHANGES)
    figures = Figures()
    ratios = [asyncio.run(compare(settings)) for _ in range(REPEATS)]
    figures.add("rollouts_vs_engine", statistics.median(ratios), "x", ">=", 0.9)
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
