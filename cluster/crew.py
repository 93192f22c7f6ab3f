"""Building the system: every role in its place, in the order in which they need one another."""

from pathlib import Path

from actors.coordinator.actor import Coordinator
from actors.coordinator.crew import Crew
from actors.sink.actor import TrajectorySink
from actors.student.actor import Student
from actors.teacher.actor import Teacher
from actors.trainer.actor import Trainer
from actors.verifier.actor import Verifier
from configs.settings import Settings
from messages.adapters import Policy
from runtime.engines.actor import InferenceEngine
from runtime.groups import task_group
from runtime.ref import ActorRef, PoolRef
from runtime.system import ActorSystem
from runtime.transport import Resources


async def spawn_crew(system: ActorSystem, settings: Settings, run_dir: Path) -> Crew:
    """Spawn everyone but the Coordinator, at the same time where they do not need one another."""
    model, gpus = settings.model, 1.0 if settings.model.device == "cuda" else 0.0
    policies: dict[Policy, float] = {"student": settings.student.temperature}
    if settings.teacher.train:
        policies["teacher"] = settings.teacher.temperature
    weak = settings.student.sandbox.allow_weak
    spawned: dict[str, ActorRef] = {}
    pools: dict[str, PoolRef] = {}

    async def engine_and_its_users() -> None:
        half = Resources(gpus=gpus / 2)  # the engine and the Trainer share one GPU
        pools["engine"] = await system.spawn_pool(
            InferenceEngine, model, settings.engine, name="engine", copies=1, resources=half, mailbox=8192
        )
        engine = pools["engine"]
        archive = run_dir / "teacher-archive.jsonl"
        async with task_group() as group:
            group.start_soon(students, engine)
            spawned["teacher"] = await system.spawn(
                Teacher, settings.teacher, model, engine, archive, name="teacher"
            )

    async def students(engine: PoolRef) -> None:
        pools["student"] = await system.spawn_pool(
            Student,
            settings.student,
            model,
            engine,
            name="student",
            copies=settings.student.copies,
            mailbox=8192,
        )

    async def verifier() -> None:
        pools["verifier"] = await system.spawn_pool(
            Verifier, settings.verifier, weak, name="verifier", copies=settings.verifier.copies
        )

    async def sink() -> None:
        spawned["sink"] = await system.spawn(
            TrajectorySink, settings.sink, run_dir / "trajectories", system.topics, name="sink"
        )

    async def trainer() -> None:
        spawned["trainer"] = await system.spawn(
            Trainer,
            settings.trainer,
            model,
            policies,
            run_dir,
            settings.seed,
            name="trainer",
            resources=Resources(gpus=gpus / 2),
        )

    async with task_group() as group:
        for part in (trainer, engine_and_its_users, verifier, sink):
            group.start_soon(part)
    return Crew(
        engines=pools["engine"],
        teacher=spawned["teacher"],
        students=pools["student"],
        verifier=pools["verifier"],
        sink=spawned["sink"],
        trainer=spawned["trainer"],
        topics=system.topics,
    )


async def spawn_coordinator(system: ActorSystem, settings: Settings, run_dir: Path, crew: Crew) -> ActorRef:
    """Spawn the Coordinator; it waits for StartRun, or goes on where its journal ends."""
    return await system.spawn(Coordinator, settings, run_dir, crew, name="coordinator")
