"""How well an agent understands commands: what it would do is compared with what is right, and not done."""

import time
from collections.abc import Callable
from typing import Final

import anyio
from pydantic import ValidationError

from actors.agents.base import ANSWER, Agent, NotPermitted, NotUnderstood
from actors.environment import ACTIONS, in_words
from configs.agent_settings import Example
from configs.agent_suite import AgentSuite
from configs.agent_versions import Evaluated
from configs.errors import BadInput
from messages.base import Request
from messages.data import Action, Observation, StepResult

_SHOWN: Final = 200


async def evaluate(
    agent: Agent, permitted: tuple[str, ...], suite: AgentSuite, watch: Callable[[int], None] = lambda _: None
) -> Evaluated:
    """Put each case to the agent, one after the other; `watch` hears how many are done.

    A model that fails is no wrong answer: that is raised, as are BadInput for a case that is none, and
    BadInput for an agent that takes longer over one than the suite allows.
    """
    right = [_checked(case, suite.name) for case in suite.cases]
    mistakes: list[str] = []
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
    return Evaluated(
        suite=suite.name,
        suite_sha256=suite.sha256(),
        correct=len(suite.cases) - len(mistakes),
        n=len(suite.cases),
        pass_score=suite.pass_score,
        mistakes=tuple(mistakes),
        at=time.time(),
    )


async def _mistake(agent: Agent, case: Example, right: Request[StepResult], may: bool) -> str | None:
    """What is wrong with the agent's action; None if nothing is."""
    wanted = case.action if may else "a refusal"
    try:
        action = await agent.act(Observation(text=case.command))
    except (NotPermitted, NotUnderstood) as error:
        return f"{case.command!r}: expected {wanted}, was refused: {error}" if may else None
    if not may and action.name == ANSWER:
        return None  # it declines in words
    if not may or action.name != case.action:
        return f"{case.command!r}: expected {wanted}, {_found(action)}"
    try:
        request = ACTIONS[action.name].model_validate(dict(action.params))
    except ValidationError as error:
        return f"{case.command!r}: {action.name} with parameters that do not fit: {in_words(error)}"
    wrong = [key for key in case.params if getattr(request, key) != getattr(right, key)]
    if not wrong:
        return None
    expected = ", ".join(f"{key}={getattr(right, key)!r}" for key in wrong)
    return f"{case.command!r}: expected {expected}, {_found(action)}"


def _checked(case: Example, suite: str) -> Request[StepResult]:
    """The right action of a case. Raises BadInput where its parameters are not all there."""
    try:
        return ACTIONS[case.action].model_validate(case.params)
    except ValidationError as error:
        raise BadInput(f"{suite}: {case.command!r}: {case.action}: {in_words(error)}") from error


def _found(action: Action) -> str:
    params = ", ".join(f"{key}={value!r}" for key, value in action.params)
    return f"found {action.name}({params})"[:_SHOWN]
