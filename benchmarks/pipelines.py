"""How long a pipeline of many independent steps takes that each wait.

    python -m benchmarks.pipelines

The steps are asked of one actor, which answers each after 50 ms; the runner, the environments, the checks and
the state file are the real ones.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from agentfactory.actors.agents.command_parser import CommandParser
from agentfactory.actors.agents.rule_agents import RuleBasedAgent
from agentfactory.actors.environment import DataEnvironment
from agentfactory.actors.pipelines.plan import PipelinePlan
from agentfactory.actors.pipelines.run import PipelineRun
from agentfactory.actors.pipelines.state import StateFile
from agentfactory.actors.pipelines.step_runners import RoleBinding, RoleBindings
from agentfactory.configs.agents.pipelines import PipelineSpec
from agentfactory.configs.data import DataRewards
from agentfactory.messages.data import Observation, Query, QueryResult, StepResult
from agentfactory.messages.pipelines import PipelineBegun
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.system import ActorSystem
from benchmarks.figures import Figures, median

STEPS = 100
WAIT_S = 0.05
ROUNDS = 7


class Waiting(Actor):
    """Finds nothing, after a while."""

    concurrency = 1024

    async def query(self, message: Query) -> StepResult:
        await asyncio.sleep(WAIT_S)
        return StepResult(observation=Observation(text="", data=QueryResult(matches=())), reward=0.1)


def pipeline(chained: bool) -> PipelineSpec:
    """All at once, or each after the one before."""
    steps = [
        {
            "id": f"s{number}",
            "agent": "anyone",
            "inputs": {"tag_pattern": f"${{pipeline.tag}}-{number}"},
            "depends_on": [f"s{number - 1}"] if chained and number else [],
        }
        for number in range(STEPS)
    ]
    values = {"pipeline_id": "many", "agents": {"anyone": {"type": "rule_based"}}, "steps": steps}
    return PipelineSpec.model_validate({**values, "variables": {"tag": "docs"}})


async def seconds(system: ActorSystem, name: str, spec: PipelineSpec, folder: Path) -> float:
    """From the checked file to the result."""
    waiting = await system.spawn(Waiting, name=name)
    rewards = DataRewards()
    member = RoleBinding(
        name="anyone",
        agent=RuleBasedAgent(CommandParser()),
        open_environment=lambda: DataEnvironment(waiting, waiting, rewards, timeout_s=30),
        rewards=rewards,
    )
    began = time.perf_counter()
    plan = PipelinePlan.of(spec)
    state = StateFile(folder / "many.jsonl", PipelineBegun(pipeline_id="many", variables=()))
    result = await PipelineRun(plan, RoleBindings({"anyone": member}), state=state).run()
    taken = time.perf_counter() - began
    state.close()
    if not result.complete:
        raise RuntimeError(result.steps[0].reason)
    return taken


async def run() -> int:
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        async with ActorSystem.open("local") as system:
            busy = time.process_time()
            at_once = [
                await seconds(system, f"waiting-{number}", pipeline(chained=False), Path(folder))
                for number in range(ROUNDS)
            ]
            busy = (time.process_time() - busy) / ROUNDS
            chained = await seconds(system, "chained", pipeline(chained=True), Path(folder))
    print(f"# {' '.join(f'{taken:.3f}' for taken in at_once)}; one after another {chained:.2f}", flush=True)
    figures.add("pipeline_100_steps_of_50_ms", median(at_once), "s", "<=", 0.2)
    figures.add("pipeline_100_steps_processor", busy, "s")
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(asyncio.run(run()))
