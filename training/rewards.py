"""Rewards of episodes and of proposed tasks.

Of the four parts of an episode's reward, uncertainty and novelty belong to the task: siblings share
them, so they cancel in a group-relative advantage and matter to methods that compare across tasks.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random

from ..configs.rewards import RewardWeights
from ..configs.roles import TeacherSettings
from ..messages.episodes import Rewards
from ..messages.tasks import TaskOutcome
from ..messages.trajectories import Group
from .reward_terms import JudgedEpisode, tool_use, uncertainty, weighted_sum

MAX_REWARDED_CALLS = 4
"""The Teacher earns nothing for tool calls beyond this many."""
ROUNDING = 1e-9


def majority_share(answers: Sequence[str | None]) -> float:
    """p̂: the share of the most frequent answer among all k episodes.

    Give answers in a canonical form ("0.5" and "1/2" are different strings). One that could not be
    parsed is None: it votes for nothing, yet its episode is one of the k.

    >>> majority_share(["4", "4", "5", None])
    0.5
    """
    votes = Counter(answer for answer in answers if answer is not None)
    return max(votes.values(), default=0) / len(answers) if answers else 0.0


def in_frontier(p_hat: float, width: float) -> bool:
    """Whether |p̂ − 0.5| ≤ width: neither too easy to teach anything nor hopeless."""
    return abs(p_hat - 0.5) <= width + ROUNDING


def episode_rewards(episode: JudgedEpisode, weights: RewardWeights) -> Rewards:
    """R = w_u·uncertainty + w_t·tool_use + w_n·novelty + w_c·correctness, with its parts.

    Where `weights` has terms, R is their weighted sum, and the four parts are for information.
    """
    parts = Rewards(
        uncertainty=uncertainty(episode.p_hat),
        tool_use=tool_use(episode.turns, episode.verdict),
        novelty=episode.task.novelty,
        correctness=episode.verdict.score,
    )
    if weights.terms:
        terms, total = weighted_sum(weights.terms, episode)
        return parts.model_copy(update={"terms": terms, "total": total})
    total = (
        weights.uncertainty * parts.uncertainty
        + weights.tool_use * parts.tool_use
        + weights.novelty * parts.novelty
        + weights.correctness * parts.correctness
    )
    return parts.model_copy(update={"total": total})


def teacher_rewards(
    outcomes: Sequence[TaskOutcome],
    cluster_sizes: Sequence[int],
    batch: int,
    settings: TeacherSettings,
) -> list[float]:
    """What each proposed task earns the Teacher, in order (Agent0, its curriculum reward).

    R_unc = 1 − 2|p̂ − 0.5|,   R_tool = γ·min(N_tool, 4),   R_rep = λ_rep·|cluster|/B
    R = R_format · max(0, λ_unc·R_unc + λ_tool·R_tool − R_rep)

    p̂ and N_tool are measured in the Student's episodes, with its tools. `cluster_sizes[i]` counts
    the tasks of the batch that are near-duplicates of task i, itself included: a task alone in its
    cluster pays λ_rep/B, the same small toll as every other such task, which cancels against the
    batch's mean. R_format is 1 here, since a malformed reply never becomes a task with an outcome.
    """
    if len(cluster_sizes) != len(outcomes):
        raise ValueError(f"{len(cluster_sizes)} cluster sizes for {len(outcomes)} outcomes")
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    return [
        max(
            0.0,
            settings.uncertainty_weight * uncertainty(outcome.majority_share)
            + settings.tool_weight * settings.tool_gain * min(outcome.tool_calls, MAX_REWARDED_CALLS)
            - settings.repetition_weight * cluster / batch,
        )
        for outcome, cluster in zip(outcomes, cluster_sizes, strict=True)
    ]


def shuffle_rewards(groups: Sequence[Group], rng: Random) -> tuple[Group, ...]:
    """Deal the totals of all trajectories of the batch out again at random.

    The control experiment: the same numbers are handed out, but they no longer say which episode was
    good. Whatever a policy still gains was not learned from its rewards. The parts stay as they are.
    """
    totals = [trajectory.rewards.total for group in groups for trajectory in group.trajectories]
    rng.shuffle(totals)
    dealt = iter(totals)
    return tuple(
        group.model_copy(
            update={
                "trajectories": tuple(
                    trajectory.model_copy(
                        update={"rewards": trajectory.rewards.model_copy(update={"total": next(dealt)})}
                    )
                    for trajectory in group.trajectories
                )
            }
        )
        for group in groups
    )
