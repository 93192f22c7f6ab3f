"""Rewards composed of terms."""

from random import Random

import pytest
from pydantic import TypeAdapter, ValidationError

from agentfactory.configs.rewards import RewardTermSettings, RewardWeights
from agentfactory.configs.settings import Settings
from agentfactory.messages.episodes import RewardTerm, Verdict
from agentfactory.messages.tasks import Task
from agentfactory.messages.turns import ToolCall, ToolResult, Turn
from agentfactory.training.reward_terms import JudgedEpisode, needed_calls, weighted_sum
from agentfactory.training.rewards import episode_rewards

RIGHT = Verdict(episode_id="e", correct=True, score=1.0)
WRONG = Verdict(episode_id="e", correct=False, score=0.5)
PRESENT = [
    {"kind": "uncertainty", "weight": 0.3},
    {"kind": "tool_use", "weight": 0.3},
    {"kind": "novelty", "weight": 0.2},
    {"kind": "correctness", "weight": 0.2},
]


def turn(*calls: tuple[str, str, str], ok: bool = True, reward: float | None = None, tokens: int = 1) -> Turn:
    """A turn with calls, each of a tool, its input and what it answered."""
    failure = "" if ok else "error"
    return Turn(
        prompt_ids=(),
        completion_ids=(2,) * tokens,
        logprobs=(-1.0,) * tokens,
        loss_mask=(1,) * tokens,
        policy_version=0,
        calls=tuple(ToolCall(tool=tool, input=text) for tool, text, _ in calls),
        results=tuple(
            ToolResult.model_validate({"output": said, "ok": ok, "failure": failure, "reward": reward})
            for _, _, said in calls
        ),
    )


def episode(
    *turns: Turn,
    answer: str | None = "42",
    verdict: Verdict = RIGHT,
    task: str = "What?",
    domain: str = "math",
    p_hat: float = 0.5,
    novelty: float = 1.0,
    confidence: float = 1.0,
) -> JudgedEpisode:
    asked = Task(id="t", domain=domain, description=task, difficulty=0.5, novelty=novelty)
    return JudgedEpisode(asked, turns, answer, verdict, p_hat, confidence)


def value(term: dict[str, object], of: JudgedEpisode) -> float:
    read: RewardTermSettings = TypeAdapter(RewardTermSettings).validate_python(term)
    ((found,), _) = weighted_sum([read], of)
    return found.value


def test_the_present_weights_as_terms_give_the_same_totals_to_the_last_bit() -> None:
    terms = RewardWeights.model_validate({"terms": PRESENT})
    rng = Random(5)
    for _ in range(500):
        correct = rng.random() < 0.5
        verdict = Verdict(episode_id="e", correct=correct, score=rng.random())
        calls = [
            turn(("python", str(rng.randrange(3)), "4"), ok=rng.random() < 0.7)
            for _ in range(rng.randrange(4))
        ]
        one = episode(*calls, verdict=verdict, p_hat=rng.random(), novelty=rng.random())
        assert episode_rewards(one, terms).total == episode_rewards(one, RewardWeights()).total


def test_each_term_is_told_beside_the_total() -> None:
    weights = RewardWeights.model_validate(
        {
            "terms": [
                {"kind": "correctness"},
                {"kind": "correctness", "name": "whole", "partial": False, "weight": -2},
            ]
        }
    )
    rewards = episode_rewards(episode(verdict=WRONG), weights)
    assert rewards.terms == (RewardTerm(name="correctness", value=0.5), RewardTerm(name="whole", value=0.0))
    assert rewards.total == 0.5


def test_a_term_for_some_domains_is_nothing_elsewhere() -> None:
    term = {"kind": "correctness", "domains": ["code"]}
    assert value(term, episode(domain="code")) == 1.0
    assert value(term, episode(domain="math")) == 0.0


LOOK_UP = turn(("retrieve", "which port?", "the bridge listens on 5560"))
ADD = turn(("python", "print(5560+1)", "5561"))
CHAIN = {"kind": "tool_chain", "chain": ["retrieve", "python"], "charge": 0.2, "most": 0.5}


def test_a_needed_chain_is_paid_in_full() -> None:
    assert value(CHAIN, episode(LOOK_UP, ADD, answer="5561")) == 1.0


def test_a_chain_that_was_made_in_part_is_paid_in_part() -> None:
    assert value(CHAIN, episode(LOOK_UP, answer="5560")) == 0.5
    assert value(CHAIN, episode(ADD, answer="5561")) == 0.0  # it begins with looking up


def test_calls_that_nothing_follows_from_are_charged_up_to_a_limit() -> None:
    idle = turn(("python", "print(7)", "7"))
    assert needed_calls(episode(LOOK_UP, idle, ADD, answer="5561")) == [0, 2]
    assert value(CHAIN, episode(LOOK_UP, idle, ADD, answer="5561")) == pytest.approx(0.8)
    assert value(CHAIN, episode(LOOK_UP, *[idle] * 9, ADD, answer="5561")) == pytest.approx(0.5)


def test_failed_and_repeated_calls_are_charged() -> None:
    failed = turn(("python", "print(", "Error: 5561"), ok=False)
    assert value(CHAIN, episode(LOOK_UP, failed, ADD, answer="5561")) == pytest.approx(0.8)
    assert value(CHAIN, episode(LOOK_UP, ADD, ADD, answer="5561")) == pytest.approx(0.8)


def test_a_wrong_answer_is_paid_nothing_and_charged_all_the_same() -> None:
    assert value(CHAIN, episode(LOOK_UP, ADD, answer="5561", verdict=WRONG)) == 0.0
    assert value(CHAIN, episode(ADD, answer="4", verdict=WRONG)) == pytest.approx(-0.2)


def test_without_a_chain_any_call_that_the_answer_follows_from_pays_and_more_do_not_pay_more() -> None:
    term = {"kind": "tool_chain"}
    assert value(term, episode(answer="5561")) == 0.0
    assert value(term, episode(ADD, answer="5561")) == 1.0
    assert value(term, episode(LOOK_UP, ADD, answer="5561")) == 1.0


def test_calls_of_one_turn_count_each() -> None:
    both = turn(("retrieve", "port?", "5560"), ("retrieve", "town?", "Oslo"))
    assert needed_calls(episode(both, ADD, answer="5561")) == [0, 2]


def test_what_stands_in_the_task_shows_nothing_between_calls() -> None:
    task = "Add 1 to the port 5560."
    first = turn(("retrieve", "port", "it is 5560"))
    assert needed_calls(episode(first, ADD, answer="5561", task=task)) == [1]


def test_brevity_pays_for_few_tokens_of_a_correct_answer() -> None:
    term = {"kind": "brevity", "tokens": 10}
    assert value(term, episode(turn(tokens=4))) == pytest.approx(0.6)
    assert value(term, episode(turn(tokens=40))) == 0.0
    assert value(term, episode(turn(tokens=4), verdict=WRONG)) == 0.0


def test_format_is_the_share_of_turns_that_call_or_answer() -> None:
    assert value({"kind": "format"}, episode(ADD, turn())) == 1.0
    assert value({"kind": "format"}, episode(ADD, turn(), answer=None)) == 0.5
    assert value({"kind": "format"}, episode()) == 0.0


def test_the_environments_own_rewards_add_up_within_bounds() -> None:
    step = turn(("query", "*", "nothing"), reward=-0.3)
    assert value({"kind": "environment"}, episode(step, ADD)) == pytest.approx(-0.3)
    assert value({"kind": "environment"}, episode(*[step] * 9)) == -1.0


def test_honesty_pays_for_being_as_sure_as_one_is_right() -> None:
    term = {"kind": "honesty"}
    assert value(term, episode(confidence=1.0)) == 1.0
    assert value(term, episode(confidence=0.5, verdict=WRONG)) == 0.75
    assert value(term, episode(confidence=1.0, verdict=WRONG)) == 0.0


@pytest.mark.parametrize(
    ("rewards", "reason"),
    [
        ({"terms": PRESENT, "novelty": 0.5}, "rewards.novelty has no say where there are rewards.terms"),
        ({"terms": [*PRESENT, PRESENT[0]]}, "two terms of the reward are called uncertainty"),
        ({"terms": [{"kind": "beauty"}]}, "beauty"),
        ({"terms": [{"kind": "brevity"}]}, "tokens"),
        ({"terms": [{"kind": "tool_chain", "colour": 1}]}, "colour"),
    ],
)
def test_terms_that_make_no_sense_are_refused_with_the_reason(
    rewards: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings.model_validate({"rewards": rewards})


def test_settings_with_terms_survive_being_stored() -> None:
    settings = Settings.model_validate({"rewards": {"terms": PRESENT}})
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
