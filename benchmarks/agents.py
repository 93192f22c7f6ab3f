"""Commands a second of agents by rules: sentence → action → actors → data plane → record on disk → answer.

python -m benchmarks.agents

Everything runs on one processor core. The rates are of processor time, so that a busy machine changes them
little: in `agents_commands` the cache is in this process, and the store is behind the bridge;
`agents_commands_bridge` reaches the cache over the bridge too, and counts this side of it.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from agentfactory.actors.agents.command_parser import CommandParser
from agentfactory.actors.agents.rule_agents import RuleBasedAgent
from agentfactory.actors.agents.session import AgentSession
from agentfactory.actors.environment import DataEnvironment
from agentfactory.actors.ingestor import Ingestor
from agentfactory.actors.retriever import Retriever
from agentfactory.actors.sink.actor import TrajectorySink
from agentfactory.bridge.cache.embedded import EmbeddedCache
from agentfactory.bridge.cache.tier import CacheTier
from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.client.tiered_store import OpenTieredStore, TieredStore
from agentfactory.cluster.data_plane.tiers import open_tiers
from agentfactory.configs.data import BridgeSettings, CacheSettings, DataSettings, StoreSettings
from agentfactory.configs.roles import SinkSettings
from agentfactory.data import DataPlane
from agentfactory.messages.data import Retrieved
from agentfactory.runtime.system import ActorSystem
from benchmarks.figures import Figures, median

PEOPLE = 64
"""Sessions that give commands at the same time, each one after the other."""
COMMANDS = 1280
ROUNDS = 5
TARGET = 2000
GET = "get api_reference.md from docs"
MIXED = (GET, "query docs", "find *.md in docs", "force get api_reference.md from docs")
TEXT = "# API\n" + "get, put, list.\n" * 60


def read_rules(rules: CommandParser) -> float:
    """Sentences that are read in a second, nothing done."""
    begin = time.process_time()
    for number in range(COMMANDS):
        rules.read(MIXED[number % len(MIXED)])
    return COMMANDS / (time.process_time() - begin)


class Rate(NamedTuple):
    """Answers a second."""

    processor: float
    """Of this process's time."""
    wall: float


async def rate(sessions: Sequence[AgentSession], commands: Sequence[str]) -> Rate:
    """How fast everybody is answered. Every answer is looked at."""
    turns = COMMANDS // len(sessions)

    async def person(session: AgentSession, number: int) -> None:
        for turn in range(turns):
            step = await session.command(commands[(number + turn) % len(commands)])
            assert step.result.reward > 0, step.result.observation.text
            seen = step.result.observation.data
            assert not isinstance(seen, Retrieved) or seen.content == TEXT.encode()

    processor, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(person(session, number) for number, session in enumerate(sessions)))
    done = turns * len(sessions)
    return Rate(done / (time.process_time() - processor), done / (time.perf_counter() - wall))


class Office:
    """Actors over one data plane, and people at work."""

    def __init__(self, folder: Path, system: ActorSystem, settings: DataSettings) -> None:
        self._folder = folder
        self._system = system
        self._settings = settings

    async def people(
        self, name: str, open_plane: OpenTieredStore, *, count: int, records: bool
    ) -> list[AgentSession]:
        """Sessions that share their actors; the blob that they ask for is there."""
        settings, system = self._settings, self._system
        ingestor = await system.spawn(Ingestor, settings, open_plane, name=f"ingestor-{name}")
        retriever = await system.spawn(Retriever, settings, open_plane, name=f"retriever-{name}")
        sink = None
        if records:
            folder = self._folder / name
            sink = await system.spawn(TrajectorySink, SinkSettings(), folder, name=f"sink-{name}")
        made = [DataEnvironment(ingestor, retriever, settings.rewards) for _ in range(count)]
        sessions = [AgentSession("bench", RuleBasedAgent(CommandParser()), one, sink=sink) for one in made]
        await sessions[0].command(f"load 'string:api_reference.md::{TEXT}' as docs")
        return sessions


async def measure(folder: Path, figures: Figures) -> None:
    """All figures, over one data plane."""
    settings = DataSettings(
        folder=str(folder / "plane"),
        bridge=BridgeSettings(endpoints=("tcp://127.0.0.1:15561",)),
        store=StoreSettings(kind="embedded", folder=str(folder / "store")),
        cache=CacheSettings(kind="embedded"),
    )
    near = EmbeddedCache(64 << 20)

    @asynccontextmanager
    async def cached_here(plane: DataSettings) -> AsyncIterator[TieredStore]:
        async with BridgeClient(plane.bridge) as client:
            yield TieredStore(client, CacheTier(plane.cache, [near]))

    async with DataPlane.open(settings) as data, ActorSystem.open("local") as system:
        office = Office(folder, system, data.settings)
        for name, opened, count, records, commands in (
            ("agents_commands", cached_here, PEOPLE, True, MIXED),
            ("agents_cached_gets", cached_here, PEOPLE, True, (GET,)),
            ("agents_commands_unrecorded", cached_here, PEOPLE, False, MIXED),
            ("agents_commands_bridge", open_tiers, PEOPLE, True, MIXED),
        ):
            sessions = await office.people(name, opened, count=count, records=records)
            await rate(sessions, commands)
            seen = [await rate(sessions, commands) for _ in range(ROUNDS)]
            print(f"# {name}: " + " ".join(f"{a.processor:.0f}/{a.wall:.0f}" for a in seen), flush=True)
            needed = name == "agents_commands"
            fast = median(one.processor for one in seen)
            figures.add(name, fast, "commands/s", *((">=", TARGET) if needed else ()))


def main() -> int:
    """Measure; 1 if the target is missed."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    figures = Figures()
    rules = CommandParser()
    figures.add("agents_rules_alone", median(read_rules(rules) for _ in range(ROUNDS)), "commands/s")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), figures))
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
