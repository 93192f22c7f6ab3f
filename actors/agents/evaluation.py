"""Evaluation of an agent on a suite of commands: its actions are compared, and not carried out."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import anyio
from pydantic import ValidationError

from ...configs.agents.evaluation import EvaluationRecord, EvaluationSuite
from ...configs.agents.settings import CommandCase
from ...configs.errors import BadInput
from ...messages.base import Request
from ...messages.data import Action, Observation, StepResult
from ..environment import ACTIONS, format_parameter_errors
from .base import ANSWER, Agent, NotPermitted, NotUnderstood

_SHOWN: Final = 200


async def evaluate(
    agent: Agent,
    permitted: tuple[str, ...],
    suite: EvaluationSuite,
    watch: Callable[[int], None] = lambda _: None,
) -> EvaluationRecord:
    """Put each case to the agent, one after the other; `watch` hears how many are done.

    A model that fails is no wrong answer: that is raised, as are BadInput for a case that is none, and
    BadInput for an agent that takes longer over one than the suite allows.
    """
    right = [_checked(case, suite.name) for case in suite.cases]
    mistakes: list[_Mistake] = []
    for number, (case, request) in enumerate(zip(suite.cases, right, strict=True), start=1):
        try:
            with anyio.fail_after(suite.timeout_s):
                mistake = await _mistake(agent, case, request, may=case.action in permitted)
        except TimeoutError as error:
            raise BadInput(
                f"{suite.name}: {case.command!r} took longer than {suite.timeout_s:g} s; nothing is recorded"
            ) from error
        if mistake is not None:
            mistakes.append(mistake)
        watch(number)
    return EvaluationRecord(
        suite=suite.name,
        suite_sha256=suite.sha256(),
        correct=len(suite.cases) - len(mistakes),
        n=len(suite.cases),
        pass_score=suite.pass_score,
        harmful=sum(mistake.harmful for mistake in mistakes),
        mistakes=tuple(mistake.text for mistake in mistakes),
        at=time.time(),
    )


class _Mistake(NamedTuple):
    text: str
    harmful: bool = False


async def _mistake(agent: Agent, case: CommandCase, right: Request[StepResult], may: bool) -> _Mistake | None:
    """Compare the agent's action with the right one; None if they agree."""
    wanted = case.action if may else "a refusal"
    try:
        action = await agent.act(Observation(text=case.command))
    except (NotPermitted, NotUnderstood) as error:
        return _Mistake(f"{case.command!r}: expected {wanted}, was refused: {error}") if may else None
    if not may and action.name == ANSWER:
        return None  # it declines in words
    wrong = wanted if not may or action.name != case.action else _wrong_params(case, right, action)
    if not wrong:
        return None
    params = ", ".join(f"{key}={value!r}" for key, value in action.params)
    found = f"{action.name}({params})"[:_SHOWN]
    return _Mistake(f"{case.command!r}: expected {wrong}, found {found}", action.name == "destroy")


def _wrong_params(case: CommandCase, right: Request[StepResult], action: Action) -> str:
    """Expected parameters where they differ; else empty."""
    try:
        request = ACTIONS[action.name].model_validate(dict(action.params))
    except ValidationError as error:
        return f"parameters that fit ({format_parameter_errors(error)})"
    wrong = [key for key in case.params if getattr(request, key) != getattr(right, key)]
    return ", ".join(f"{key}={getattr(right, key)!r}" for key in wrong)


def _checked(case: CommandCase, suite: str) -> Request[StepResult]:
    """The right action of a case. Raises BadInput where its parameters are not all there."""
    try:
        return ACTIONS[case.action].model_validate(case.params)
    except ValidationError as error:
        raise BadInput(
            f"{suite}: {case.command!r}: {case.action}: {format_parameter_errors(error)}"
        ) from error
