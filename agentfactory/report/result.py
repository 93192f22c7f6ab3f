"""The content of `run.json` and of `--json`, from a replayed state."""

from pathlib import Path

from ..actors.coordinator.state import RunState
from ..messages.runs import RoundFinished, RoundSummary, RunResult


def run_result(run_dir: Path, state: RunState) -> RunResult:
    """What a run has come to, as far as its journal was replayed into `state`."""
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
    """When an unfinished run last wrote something that the state still holds.

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
