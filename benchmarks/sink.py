"""Durable trajectories a second, against writing and fsyncing the same bytes in the same groups.

python -m benchmarks.sink
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from agentfactory.actors.sink.actor import TrajectorySink
from agentfactory.actors.sink.segments import SegmentOffset
from agentfactory.configs.roles import SinkSettings
from agentfactory.messages.episodes import Rewards, Verdict
from agentfactory.messages.tasks import Task
from agentfactory.messages.trajectories import StoreTrajectories, Trajectory
from agentfactory.messages.turns import ToolCall, ToolResult, Turn
from agentfactory.runtime.system import ActorSystem
from benchmarks.figures import Figures, median

SENDERS = 48
"""Groups under way at once in the laptop preset."""
REQUESTS = 6
"""Of each sender, one after the other."""
GROUP = 8
"""Trajectories of a request."""
REPEATS = 5


class Episode(NamedTuple):
    """The size of an episode."""

    turns: int
    prompt: int
    completion: int
    """Tokens of a turn."""


LANGUAGE_MODEL = Episode(turns=4, prompt=128, completion=256)
"""A ReAct episode of a language model of some billion parameters."""
SEED_MODEL = Episode(turns=2, prompt=26, completion=58)
"""One of the laptop preset: characters are its tokens, and few of them."""


def trajectory(number: int, size: Episode) -> Trajectory:
    """An episode with the log-probabilities and texts of a real one's length."""
    logprobs = tuple(-((i * 7919 + number) % 1_000_003) / 1_000_003 for i in range(size.completion))
    turn = Turn(
        prompt_ids=tuple(range(20, 20 + size.prompt)),
        completion_ids=tuple(range(30, 30 + size.completion)),
        logprobs=logprobs,
        loss_mask=(0,) * size.prompt + (1,) * size.completion,
        policy_version=3,
        text="x" * size.completion,
        calls=(ToolCall(tool="python", input="print(12+34*5)"),),
        results=(ToolResult(output="182", ok=True),),
    )
    return Trajectory(
        episode_id=f"e{number}",
        group_id=f"g{number // GROUP}",
        task=Task(id="t", domain="math", description="Compute 12+34*5.", difficulty=0.3, reference="182"),
        turns=(turn,) * size.turns,
        answer="182",
        verdict=Verdict(episode_id=f"e{number}", correct=True, score=1.0),
        rewards=Rewards(correctness=1.0, total=0.5),
    )


def requests(size: Episode) -> list[list[StoreTrajectories]]:
    """What each sender sends; its lines are written already, as they are in the sender's process."""
    lines = StoreTrajectories.of([trajectory(0, size)]).lines
    return [
        [
            StoreTrajectories(
                episode_ids=tuple(f"e{sender}-{number}-{i}" for i in range(GROUP)), lines=lines * GROUP
            )
            for number in range(REQUESTS)
        ]
        for sender in range(SENDERS)
    ]


class RecordingSink(TrajectorySink):
    """Notes the bytes of each commit, so that the reference can write the same groups."""

    def __init__(self, folder: Path, commits: list[list[bytes]]) -> None:
        super().__init__(SinkSettings(), folder)
        self._commits = commits

    async def start(self) -> None:
        await super().start()
        commit = self._writer.commit

        def recorded(lines: list[bytes]) -> list[SegmentOffset]:
            self._commits.append(lines)
            return commit(lines)

        self._writer.commit = recorded  # type: ignore[method-assign]


async def ours(folder: Path, size: Episode, commits: list[list[bytes]]) -> float:
    """Seconds until every request of every sender is acknowledged."""
    work = requests(size)
    async with ActorSystem.open("local") as system:
        sink = await system.spawn(RecordingSink, folder, commits, name="sink")

        async def send(own: list[StoreTrajectories]) -> None:
            for request in own:
                await sink.ask(request, timeout_s=60)

        began = time.perf_counter()
        await asyncio.gather(*(send(own) for own in work))
        return time.perf_counter() - began


def plain(folder: Path, commits: list[list[bytes]]) -> float:
    """Seconds to write and fsync the same bytes in the same groups."""
    groups = [b"".join(lines) for lines in commits]
    began = time.perf_counter()
    with (folder / "plain.jsonl").open("ab", buffering=0) as stream:
        for group in groups:
            stream.write(group)
            os.fsync(stream.fileno())
    return time.perf_counter() - began


def measure(size: Episode) -> tuple[float, float]:
    """Our rate, trajectories a second, and its share of the plain one's."""
    count = SENDERS * REQUESTS * GROUP
    rates, ratios = [], []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            commits: list[list[bytes]] = []
            taken = asyncio.run(ours(Path(folder) / "ours", size, commits))
            rates.append(count / taken)
            ratios.append(plain(Path(folder), commits) / taken)
    return median(rates), median(ratios)


def main() -> int:
    figures = Figures()
    rate, ratio = measure(LANGUAGE_MODEL)
    figures.add("sink_durable_rate", rate, "trajectories/s")
    figures.add("sink_vs_plain_fsync", ratio, "x", ">=", 0.5)
    rate, ratio = measure(SEED_MODEL)
    figures.add("sink_durable_rate_seed_model", rate, "trajectories/s")
    figures.add("sink_vs_plain_fsync_seed_model", ratio, "x")
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
