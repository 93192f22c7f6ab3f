"""Does training overlap with rollouts? With an engine and a trainer that take equally long.

    python -m benchmarks.overlap

The loop is the real one (Coordinator, Students, Verifier, sink, leases, journal, adapters); only
the engine and the trainer take a fixed time instead of computing. A synchronous run needs the sum
of both for each step, an asynchronous one the longer of the two.
"""

import asyncio
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from agentfactory.actors.coordinator.actor import Coordinator
from agentfactory.actors.coordinator.journal import FILE, read_journal
from agentfactory.actors.coordinator.peers import ActorRefs
from agentfactory.actors.sink.actor import TrajectorySink
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.actors.student.actor import Student
from agentfactory.actors.trainer import Trainer
from agentfactory.actors.verifier import Verifier
from agentfactory.configs.load import load_settings
from agentfactory.configs.settings import Settings
from agentfactory.messages.adapters import SetPolicyVersion
from agentfactory.messages.runs import RunFailed, RunFinished, StartRun, StepFinished
from agentfactory.messages.tasks import Proposal, Proposals, ProposeTasks, Task
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.engines.actor import InferenceEngine
from agentfactory.runtime.system import ActorSystem
from benchmarks.figures import Figures

STEPS = 20
SECONDS = 0.4
"""What a batch of rollouts takes, and what a training step takes."""
BATCH = 4
GROUP = 2


class StandInTeacher(Actor):
    """Has as many tasks as anyone could want."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    async def propose(self, message: ProposeTasks) -> Proposals:
        return Proposals(
            proposals=tuple(
                Proposal(
                    task=Task(
                        id=f"t{(number := next(self._numbers))}",
                        domain="math",
                        description=f"Compute {number}+1.",
                        difficulty=message.difficulty,
                        reference="0",
                    )
                )
                for _ in range(message.count)
            )
        )

    async def use_policy(self, message: SetPolicyVersion) -> None:
        """It has no model."""


def settings(staleness: int) -> Settings:
    return load_settings(
        "laptop",
        {
            "engine": {"kind": "simulated", "seconds_per_request": SECONDS, "reply": "Answer: 0"},
            "trainer.simulate_s": SECONDS,
            "teacher.train": False,
            "loop.rounds": STEPS,
            "loop.batch_groups": BATCH,
            "loop.group_size": GROUP,
            "loop.max_staleness": staleness,
            "loop.max_concurrent_groups": BATCH,
            "curriculum.frontier": 0.5,
            "evaluation.tasks": 1,
            "evaluation.every": STEPS,
        },
    )


async def run(staleness: int, folder: Path) -> float:
    """Seconds from the first lease to the last step, the base evaluation left out."""
    chosen = settings(staleness)
    async with ActorSystem.open("local") as system:
        events = await system.topics.subscribe(StepFinished, RunFinished, RunFailed)
        crew = await spawn(system, chosen, folder)
        coordinator = await system.spawn(Coordinator, chosen, folder, crew, name="coordinator")
        began = time.perf_counter()
        await coordinator.ask(StartRun(), timeout_s=10)
        steps = 0
        async for event in events:
            if isinstance(event, RunFailed):
                raise RuntimeError(event.reason)
            steps += isinstance(event, StepFinished)
            if steps == STEPS:
                taken = time.perf_counter() - began
            if isinstance(event, RunFinished):
                return taken
    raise AssertionError("unreachable")


async def spawn(system: ActorSystem, chosen: Settings, folder: Path) -> ActorRefs:
    model = chosen.model
    engines = await system.spawn_pool(InferenceEngine, model, chosen.engine, name="engine", copies=1)
    return ActorRefs(
        engines=engines,
        teacher=await system.spawn(StandInTeacher, name="teacher"),
        students=await system.spawn_pool(Student, chosen.student, model, engines, name="student", copies=1),
        verifier=await system.spawn(Verifier, chosen.verifier, True, name="verifier"),
        sink=await system.spawn(TrajectorySink, chosen.sink, folder / "trajectories", None, name="sink"),
        trainer=await system.spawn(
            Trainer, chosen.trainer, model, {"student": 1.0}, folder, 0, name="trainer"
        ),
        topics=system.topics,
    )


def gaps(folder: Path) -> list[int]:
    """For each group that was trained on: how many versions old its oldest turn was by then."""
    trained = {
        group_id: entry.adapter.version - 1
        for entry in read_journal(folder / FILE)
        if isinstance(entry, StepFinished)
        for group_id in entry.group_ids
    }
    return [
        trained[trajectory.group_id] - trajectory.oldest_version
        for trajectory in read_trajectories(folder / "trajectories")
        if trajectory.group_id in trained
    ]


def main() -> int:
    ratios, worst = [], 0
    for _ in range(3):
        with tempfile.TemporaryDirectory() as synchronous, tempfile.TemporaryDirectory() as overlapped:
            at_0 = asyncio.run(run(0, Path(synchronous)))
            at_1 = asyncio.run(run(1, Path(overlapped)))
            ratios.append(at_1 / at_0)
            worst = max(worst, *gaps(Path(synchronous)))
            print(f"synchronous {at_0:.2f} s, overlapped {at_1:.2f} s", flush=True)
    figures = Figures()
    figures.add("overlap_async_vs_sync", statistics.median(ratios), "x", "<=", 0.56)
    figures.add("overlap_staleness_0_gap", worst, "versions", "<=", 0)
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
