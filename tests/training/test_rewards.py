from collections.abc import Sequence
from random import Random

import pytest

from agentfactory.configs.rewards import RewardWeights
from agentfactory.configs.roles import TeacherSettings
from agentfactory.messages.episodes import Verdict
from agentfactory.messages.tasks import Proposal, Task, TaskOutcome
from agentfactory.messages.trajectories import Group
from agentfactory.messages.turns import ToolCall, ToolResult, Turn
from agentfactory.training.reward_terms import JudgedEpisode, tool_use, uncertainty
from agentfactory.training.rewards import (
    episode_rewards,
    in_frontier,
    majority_share,
    shuffle_rewards,
    teacher_rewards,
)

RIGHT = Verdict(episode_id="e", correct=True, score=1.0)
ALMOST = Verdict(episode_id="e", correct=False, score=0.9)


def call(text: str, ok: bool = True) -> Turn:
    return Turn(
        prompt_ids=(1,),
        completion_ids=(2,),
        logprobs=(-1.0,),
        loss_mask=(0, 1),
        policy_version=0,
        calls=(ToolCall(tool="python", input=text),),
        results=(ToolResult(output="", ok=ok, failure="" if ok else "error"),),
    )


def episode(turns: Sequence[Turn], verdict: Verdict, p_hat: float, novelty: float) -> JudgedEpisode:
    task = Task(id="t", domain="math", description="", difficulty=0.5, novelty=novelty)
    return JudgedEpisode(task, turns, "2", verdict, p_hat)


def test_answers_that_do_not_parse_vote_for_nothing_but_count_as_episodes() -> None:
    assert majority_share(["4", None, None, None]) == 0.25
    assert majority_share([None, None]) == 0.0
    assert majority_share([]) == 0.0


def test_uncertainty_peaks_at_an_even_split() -> None:
    assert [uncertainty(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_the_frontier_includes_its_edges() -> None:
    assert [in_frontier(p, 0.25) for p in (0.125, 0.25, 0.5, 0.75, 0.875)] == [False, True, True, True, False]
    assert all(in_frontier(p, 0.2) for p in (0.3, 0.7))
    assert all(in_frontier(p, 0.5) for p in (0.0, 1.0))


def test_one_useful_call_earns_the_full_part() -> None:
    assert tool_use([call("1+1")], RIGHT) == 1.0


def test_no_call_earns_nothing() -> None:
    assert tool_use([], RIGHT) == 0.0


def test_failed_and_repeated_calls_are_needless() -> None:
    assert tool_use([call("1+1"), call(" 1+1 ")], RIGHT) == 0.5
    assert tool_use([call("1+", ok=False), call("1+1")], RIGHT) == 0.5
    assert tool_use([call("1+", ok=False)], RIGHT) == 0.0


def test_a_call_without_a_result_is_needless() -> None:
    unanswered = call("2").model_copy(update={"results": ()})
    assert tool_use([call("1+1"), unanswered], RIGHT) == 0.5


def test_padding_with_more_successful_calls_does_not_pay() -> None:
    failed = call("1+", ok=False)
    few = tool_use([failed, call("1")], RIGHT)
    assert tool_use([failed, call("1"), call("2"), call("3")], RIGHT) == few


def test_a_wrong_answer_with_a_call_never_beats_a_right_answer_without() -> None:
    weights = RewardWeights(tool_use=1.0, correctness=0.01)
    wrong = episode_rewards(episode([call("1")], ALMOST, 0.5, 1.0), weights)
    right = episode_rewards(episode([], RIGHT, 0.5, 1.0), weights)
    assert wrong.tool_use == 0.0
    assert wrong.total < right.total


def test_the_total_is_the_weighted_sum_of_the_parts() -> None:
    rewards = episode_rewards(episode([call("1"), call("1")], RIGHT, 0.75, 0.4), RewardWeights())
    assert (rewards.uncertainty, rewards.tool_use, rewards.novelty, rewards.correctness) == (
        0.5,
        0.5,
        0.4,
        1.0,
    )
    assert rewards.total == pytest.approx(0.3 * 0.5 + 0.3 * 0.5 + 0.2 * 0.4 + 0.2 * 1.0)


def outcome(p_hat: float, tool_calls: float) -> TaskOutcome:
    task = Task(id="t", domain="math", description="", difficulty=0.5)
    return TaskOutcome(proposal=Proposal(task=task), majority_share=p_hat, tool_calls=tool_calls)


def test_the_teacher_is_paid_by_the_published_formula() -> None:
    settings = TeacherSettings()
    assert teacher_rewards([outcome(0.5, 2.0), outcome(0.75, 9.0)], [1, 4], 32, settings) == pytest.approx(
        [1.0 + 0.6 * 0.05 * 2 - 1 / 32, 0.5 + 0.6 * 0.05 * 4 - 4 / 32]
    )


def test_the_teacher_never_earns_less_than_nothing() -> None:
    assert teacher_rewards([outcome(1.0, 0.0)], [32], 32, TeacherSettings()) == [0.0]


@pytest.mark.parametrize(("clusters", "batch", "message"), [([], 32, "0 cluster"), ([1], 0, "batch is 0")])
def test_outcomes_that_do_not_fit_their_clusters_are_refused(
    clusters: Sequence[int], batch: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        teacher_rewards([outcome(0.5, 0.0)], clusters, batch, TeacherSettings())


def test_shuffling_deals_the_same_totals_to_other_episodes_across_groups(groups: tuple[Group, ...]) -> None:
    def totals(of: Sequence[Group]) -> list[float]:
        return [trajectory.rewards.total for group in of for trajectory in group.trajectories]

    dealt = shuffle_rewards(groups, Random(0))
    assert totals(dealt) != totals(groups)
    assert sorted(totals(dealt)) == sorted(totals(groups))
    assert {sum(totals([group])) for group in dealt} != {2.0}  # not within each group
    assert [group.group_id for group in dealt] == [group.group_id for group in groups]
    assert dealt == shuffle_rewards(groups, Random(0))
