"""Durable trajectories a second, against writing and fsyncing the same bytes in the same groups.

python -m benchmarks.sink
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path

from actors.sink.actor import TrajectorySink
from actors.sink.segments import Place
from benchmarks.figures import Figures, median
from configs.roles import SinkSettings
from messages.judging import Rewards, Verdict
from messages.tasks import Task
from messages.trajectories import StoreTrajectories, Trajectory
from messages.turns import ToolCall, ToolResult, Turn
from runtime.system import ActorSystem

SENDERS = 8
"""Groups that finish at about the same time in a run."""
REQUESTS = 30
"""Of each sender, one after the other."""
GROUP = 8
"""Trajectories of a request."""
REPEATS = 5


def trajectory(number: int) -> Trajectory:
    """A two-turn episode of about the laptop preset's size."""
    prompt, completion = tuple(range(20, 46)), tuple(range(30, 88))
    logprobs = tuple(-((i * 7919 + number) % 1000) / 1000.0 for i in range(len(completion)))
    turn = Turn(
        prompt_ids=prompt,
        completion_ids=completion,
        logprobs=logprobs,
        loss_mask=(0,) * len(prompt) + (1,) * len(completion),
        policy_version=3,
        text="Thought: I will use python.\nAction: python\nInput: print(12+34*5)",
        call=ToolCall(tool="python", input="print(12+34*5)"),
        result=ToolResult(output="182", ok=True),
    )
    return Trajectory(
        episode_id=f"e{number}",
        group_id=f"g{number // GROUP}",
        task=Task(id="t", domain="math", description="Compute 12+34*5.", difficulty=0.3, reference="182"),
        turns=(turn, turn),
        answer="182",
        verdict=Verdict(episode_id=f"e{number}", correct=True, score=1.0),
        rewards=Rewards(correctness=1.0, total=0.5),
    )


class RecordingSink(TrajectorySink):
    """Notes the bytes of each commit, so that the reference can write the same groups."""

    def __init__(self, folder: Path, commits: list[bytes]) -> None:
        super().__init__(SinkSettings(), folder)
        self._commits = commits

    async def start(self) -> None:
        await super().start()
        commit = self._writer.commit

        def recorded(lines: list[bytes]) -> list[Place]:
            self._commits.append(b"".join(lines))
            return commit(lines)

        self._writer.commit = recorded  # type: ignore[method-assign]


async def ours(folder: Path, commits: list[bytes]) -> float:
    """Seconds until every request of every sender is acknowledged."""
    requests = [
        [
            StoreTrajectories(
                trajectories=tuple(trajectory((sender * REQUESTS + number) * GROUP + i) for i in range(GROUP))
            )
            for number in range(REQUESTS)
        ]
        for sender in range(SENDERS)
    ]
    async with ActorSystem.open("local") as system:
        sink = await system.spawn(RecordingSink, folder, commits, name="sink")

        async def send(own: list[StoreTrajectories]) -> None:
            for request in own:
                await sink.ask(request, timeout_s=60)

        began = time.perf_counter()
        await asyncio.gather(*(send(own) for own in requests))
        return time.perf_counter() - began


def plain(folder: Path, commits: list[bytes]) -> float:
    """Seconds to write and fsync the same bytes in the same groups."""
    began = time.perf_counter()
    with (folder / "plain.jsonl").open("ab", buffering=0) as stream:
        for group in commits:
            stream.write(group)
            os.fsync(stream.fileno())
    return time.perf_counter() - began


def main() -> int:
    count = SENDERS * REQUESTS * GROUP
    ratios, rates, sizes = [], [], []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            commits: list[bytes] = []
            taken = asyncio.run(ours(Path(folder) / "ours", commits))
            ratios.append(plain(Path(folder), commits) / taken)
            rates.append(count / taken)
            sizes.append(count / len(commits))
    figures = Figures()
    figures.add("sink_durable_rate", median(rates), "trajectories/s")
    figures.add("sink_group", median(sizes), "trajectories/fsync")
    figures.add("sink_vs_plain_fsync", median(ratios), "x", ">=", 0.5)
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
