"""The report's sentence on the reward: why it is as it is while pass@1 grows."""

from agentfactory.configs.rewards import RewardWeights
from agentfactory.report.charts import quarters, reward_story
from agentfactory.report.history import GroupMeans

WEIGHTS = RewardWeights()  # 0.3, 0.3, 0.2, 0.2


def mean(groups: float = 1.0, **values: float) -> GroupMeans:
    made = GroupMeans(groups=groups, **values)
    total = 0.3 * made.uncertainty + 0.3 * made.tool_use + 0.2 * made.novelty + 0.2 * made.correctness
    return made._replace(total=values.get("total", total))


def test_a_flat_reward_is_explained_by_parts_that_cancel_and_by_harder_tasks() -> None:
    before = mean(uncertainty=0.8, tool_use=0.2, novelty=0.6, correctness=0.3, difficulty=0.2, success=0.3)
    after = mean(uncertainty=0.4, tool_use=0.5, novelty=0.4, correctness=0.65, difficulty=0.4, success=0.65)
    assert reward_story([before] * 4 + [after] * 4, WEIGHTS) == (
        "From the first to the last quarter of the groups the sum went from 0.48 to 0.48 (uncertainty −0.12, "
        "tool use +0.09, correctness +0.07, novelty −0.04); the tasks became harder (difficulty 0.20 to "
        "0.40) and success on them from 30.0% to 65.0%, while the held-out tasks stay the same."
    )


def test_the_parts_add_up_to_the_change_also_where_there_are_other_terms() -> None:
    before, after = mean(correctness=0.5, total=0.1), mean(correctness=0.5, total=0.4)
    story = reward_story([before] * 4 + [after] * 4, RewardWeights())
    assert "from 0.10 to 0.40 (other terms +0.30); the tasks stayed as hard" in story


def test_nothing_is_said_of_few_groups() -> None:
    assert reward_story([mean()] * 7, WEIGHTS) == ""
    assert reward_story([], WEIGHTS) == ""


def test_a_quarter_is_one_of_the_groups_not_of_the_bins() -> None:
    bins = [mean(groups=1, success=0.0), mean(groups=1, success=0.5), mean(groups=6, success=1.0)]
    first, last = quarters(bins)
    assert (first.groups, first.success) == (2, 0.25)
    assert (last.groups, last.success) == (6, 1.0)
