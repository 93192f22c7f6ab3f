"""What the Teacher learns from: its own turns, rewarded by how the Student fared."""

import time
from collections.abc import Sequence

from ...messages.judging import Rewards
from ...messages.tasks import Task, TaskOutcome
from ...messages.trajectories import Group, Trajectory
from ...messages.turns import Turn


def teacher_group(
    version: int, outcomes: Sequence[TaskOutcome], totals: Sequence[float], rejected: Sequence[Turn]
) -> Group:
    """All proposals of a step as one group; those that came to nothing earn nothing (R_format = 0)."""
    group_id = f"teacher-v{version}"
    lessons = [
        _lesson(f"teach-{outcome.proposal.task.id}", group_id, outcome.proposal.task, turn, total)
        for outcome, total in zip(outcomes, totals, strict=True)
        if (turn := outcome.proposal.turn) is not None
    ]
    for number, turn in enumerate(rejected):
        task = Task(
            id=f"rejected-{version}-{number}",
            domain="none",
            description=turn.text or "(empty)",
            difficulty=0.0,
        )
        lessons.append(_lesson(f"teach-{task.id}", group_id, task, turn, 0.0))
    return Group(group_id=group_id, trajectories=tuple(lessons))


def _lesson(episode_id: str, group_id: str, task: Task, turn: Turn, total: float) -> Trajectory:
    return Trajectory(
        episode_id=episode_id,
        group_id=group_id,
        policy="teacher",
        task=task,
        turns=(turn,),
        rewards=Rewards(total=total),
        finished_at=time.time(),
    )
