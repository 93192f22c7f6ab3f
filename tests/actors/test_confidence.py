"""How sure the Student is."""

import math
from collections.abc import Sequence

import pytest

from agentfactory.actors.student.confidence import combined, read_critique, token_confidence
from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import StudentSettings
from agentfactory.messages.turns import Turn
from tests.actors.scripted import WhatWasSeen
from tests.actors.test_student import SETTINGS, TIMEOUT_S, model, request, student

__all__ = ["model"]


def turn(*logprobs: float) -> Turn:
    return Turn(
        prompt_ids=(),
        completion_ids=tuple(range(len(logprobs))),
        logprobs=logprobs,
        loss_mask=(1,) * len(logprobs),
        policy_version=0,
    )


def decode(ids: Sequence[int]) -> str:
    return "".join(["Answer: ", "4", "2", "<eos>"][token] for token in ids)


def test_only_the_answers_own_tokens_count() -> None:
    said = turn(-5.0, math.log(0.9), math.log(0.4), -5.0)
    assert token_confidence(said, "42", decode) == pytest.approx(0.6)


def test_without_an_answer_in_the_tokens_all_of_them_count() -> None:
    said = turn(-1.0, -1.0, -1.0, -1.0)
    for answer in (None, "", "43"):
        assert token_confidence(said, answer, decode) == pytest.approx(math.exp(-1.0))
    assert token_confidence(turn(), None, decode) == 0.0


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ("Confidence: 85", 0.85),
        ("85%", 0.85),
        ("confidence: 85.5 %", 0.855),
        ("It is 12*34, checked. Confidence: 100", 1.0),
        ("Confidence: 0", 0.0),
        ("0.85", 0.85),
        ("Confidence: 9/10", 0.9),
        ("Confidence: 1.0", 1.0),
        ("", None),
        ("quite sure", None),
        ("Confidence: 850", None),
        ("Confidence: 3/0", None),
        ("-", None),
    ],
)
def test_a_critique_is_read_as_a_number_from_0_to_1(text: str, confidence: float | None) -> None:
    assert read_critique(text) == confidence


def test_what_the_model_says_of_itself_counts_by_its_weight() -> None:
    assert combined(0.5, 0.9, 0.25) == pytest.approx(0.6)
    assert combined(0.5, None, 0.25) == 0.5


async def test_the_model_is_asked_once_about_its_answer_and_that_turn_is_no_part_of_the_episode(
    model: ModelSettings,
) -> None:
    def script(prompt: str, adapter: str | None) -> str:
        return "Confidence: 20" if "How likely is it" in prompt else "Answer: 5"

    settings = StudentSettings.model_validate(
        SETTINGS.model_dump() | {"confidence": {"self_critique": True, "critique_weight": 1.0}}
    )
    async with student(model, script, settings) as (ref, engine):
        solution = await ref.ask(request(), timeout_s=TIMEOUT_S)
        seen = (await engine.ask(WhatWasSeen(), timeout_s=TIMEOUT_S)).requests
    assert (solution.answer, solution.confidence, len(solution.turns)) == ("5", 0.2, 1)
    assert [(one.request_id, one.sampling.temperature) for one in seen] == [("e/0", 1.0), ("e/critique", 0.0)]
    turn = solution.turns[0]
    assert seen[1].prompt_ids[: len(seen[0].prompt_ids)] == turn.prompt_ids


async def test_an_episode_without_an_answer_asks_for_no_critique(model: ModelSettings) -> None:
    settings = StudentSettings.model_validate(SETTINGS.model_dump() | {"confidence": {"self_critique": True}})
    async with student(model, lambda prompt, adapter: "Hm.", settings) as (ref, engine):
        solution = await ref.ask(request(), timeout_s=TIMEOUT_S)
        seen = (await engine.ask(WhatWasSeen(), timeout_s=TIMEOUT_S)).requests
    assert solution.answer is None
    assert len(seen) == 1
