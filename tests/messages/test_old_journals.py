"""Journals of before are read as they are: what has another name today, and what is no more."""

from agentfactory.messages.runs import GroupFinished, RoundFinished, StepFinished

GROUP = (
    '{"kind":"group_finished","group_id":"g000000","fate":"accepted","episodes":8,"difficulty":0.4,'
    '"rewards":{"total":0.5},"teacher_reward":0.0,"at":1.0}'
)
ROUND = (
    '{"kind":"round_finished","version":1,"pass_at_1":0.5,"n":4,"ci95":[0.1,0.9],"mean_reward":0.1,'
    '"tool_use":0.0,"train_s":1.0,"rollout_s":1.0,"tokens":1,"difficulty":0.35,"at":1.0}'
)
STEP = (
    '{"kind":"step_finished","policy":"student","adapter":{"policy":"student","version":1},"group_ids":[],'
    '"loss":0.1,"kl_to_base":0.02,"clip_fraction":0.0,"entropy":0.1,"grad_norm":1.0,"tokens":1,"train_s":1.0,'
    '"at":1.0}'
)


def test_the_teachers_reward_that_nobody_wrote_is_left_out() -> None:
    group = GroupFinished.model_validate_json(GROUP)
    assert group.difficulty == 0.4
    assert "teacher_reward" not in group.model_dump()


def test_the_difficulty_of_a_round_is_what_was_asked_for() -> None:
    one = RoundFinished.model_validate_json(ROUND)
    assert (one.asked_difficulty, one.proposed_difficulty) == (0.35, None)
    assert RoundFinished.model_validate_json(one.model_dump_json()) == one


def test_a_divergence_that_was_measured_stays_and_one_that_was_not_is_absent() -> None:
    assert StepFinished.model_validate_json(STEP).kl_to_base == 0.02
    assert StepFinished.model_validate_json(STEP.replace('"kl_to_base":0.02,', "")).kl_to_base is None
