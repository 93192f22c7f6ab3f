"""What the loop costs the engine: tokens/s through the actors, against the engine fed directly.

    python -m benchmarks.rollouts

Through the actors, on Ray: Coordinator, Student (with its real sandboxed tool), Verifier, sink and
engine, with a Trainer that takes no time. Directly: the same engine in this process is given the
same episodes, turn by turn, prompts and observations as they were recorded, as fast as it takes
them. The rate is tokens sampled a second from the first request to the last answer.
"""

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from actors.coordinator.journal import FILE, read_journal
from actors.sink.segments import read_trajectories
from agentfactory.factory import Factory
from benchmarks.figures import Figures
from configs.settings import Settings
from messages.generation import Generate, SamplingSettings
from messages.runs import GroupFinished, GroupLeased
from messages.trajectories import Trajectory
from runtime.engines.base import Engine, open_engine

GROUPS = 192
CONCURRENT_GROUPS = 64
REPEATS = 3
CHANGES = {
    "loop.rounds": 1,
    "loop.batch_groups": GROUPS,
    "loop.max_groups_per_step": GROUPS,
    "loop.max_concurrent_groups": CONCURRENT_GROUPS,
    "loop.max_staleness": 0,
    "curriculum.frontier": 0.5,
    "curriculum.tolerance": 0.5,
    "evaluation.tasks": 1,
    "teacher.train": False,
    "trainer.simulate_s": 0.0,
    "runtime.dashboard": False,
}


async def through_the_actors(folder: Path) -> tuple[float, list[Trajectory], Settings]:
    """Tokens/s of a run, and its episodes."""
    async with Factory.open("laptop", overrides=CHANGES) as factory:
        run = await factory.evolve(run_dir=folder)
        await run.result()
    began = ended = 0.0
    tokens = 0
    for entry in read_journal(folder / FILE):
        if isinstance(entry, GroupLeased):
            began = began or entry.at
        elif isinstance(entry, GroupFinished):
            ended, tokens = entry.at, tokens + entry.tokens
    episodes = [t for t in read_trajectories(folder / "trajectories") if t.group_id.startswith("g")]
    return tokens / (ended - began), episodes, factory.settings


async def directly(settings: Settings, episodes: list[Trajectory]) -> float:
    """Tokens/s of the engine alone on the same episodes."""
    engine = open_engine(settings.model, settings.engine)
    await engine.start()
    groups = defaultdict(list)
    for episode in episodes:
        groups[episode.group_id].append(episode)
    slots = asyncio.Semaphore(CONCURRENT_GROUPS * settings.loop.group_size)
    try:
        await replay(engine, episodes[0], asyncio.Semaphore(1), "warm-up")
        began = time.perf_counter()
        counts = await asyncio.gather(
            *(replay(engine, e, slots, e.episode_id) for group in groups.values() for e in group)
        )
        return sum(counts) / (time.perf_counter() - began)
    finally:
        await engine.aclose()


async def replay(engine: Engine, episode: Trajectory, slots: asyncio.Semaphore, name: str) -> int:
    """Feed one episode's recorded turns; each is as long as it was."""
    history: tuple[int, ...] = ()
    sampled = 0
    async with slots:
        for number, turn in enumerate(episode.turns):
            completion = await engine.generate(
                Generate(
                    request_id=f"{name}/{number}",
                    prompt_ids=history + turn.prompt_ids,
                    sampling=SamplingSettings(max_tokens=max(1, len(turn.completion_ids)), seed=number),
                    session=name,
                )
            )
            sampled += len(completion.token_ids)
            history += turn.prompt_ids + turn.completion_ids
        engine.end_sessions((name,))
    return sampled


def main() -> int:
    ratios = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            actors, episodes, settings = asyncio.run(through_the_actors(Path(folder) / "run"))
        alone = asyncio.run(directly(settings, episodes))
        ratios.append(actors / alone)
        print(f"through the actors {actors:.0f} tokens/s, directly {alone:.0f} tokens/s", flush=True)
    figures = Figures()
    figures.add("rollouts_vs_engine", statistics.median(ratios), "x", ">=", 0.9)
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
