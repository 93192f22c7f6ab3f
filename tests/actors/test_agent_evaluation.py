"""Evaluations of agents: what counts as right, and what is no answer at all."""

import asyncio
from pathlib import Path

import pytest

from agentfactory.actors.agents.base import ANSWER, NotPermitted, NotUnderstood
from agentfactory.actors.agents.command_parser import CommandParser
from agentfactory.actors.agents.evaluation import evaluate
from agentfactory.actors.agents.rule_agents import INGESTOR_ACTIONS, RestrictedAgent, RuleBasedAgent
from agentfactory.actors.environment import ACTIONS
from agentfactory.configs.agents.evaluation import EvaluationSuite, load_suite
from agentfactory.configs.agents.settings import CommandCase
from agentfactory.configs.errors import BadInput, SettingsError
from agentfactory.messages.data import Action, Observation
from agentfactory.runtime.llm.errors import ModelError

ALL = tuple(ACTIONS)
LOAD = CommandCase(
    command="load file::a as docs", action="assimilate", params={"src": "file::a", "dst": "docs"}
)
QUERY = CommandCase(command="query docs", action="query", params={"tag_pattern": "docs"})


class Says:
    """An agent that does one thing, whatever it is told."""

    def __init__(self, does: Action | Exception) -> None:
        self._does = does

    async def think(self, observation: Observation) -> str:
        return ""

    async def act(self, observation: Observation) -> Action:
        if isinstance(self._does, Exception):
            raise self._does
        return self._does


class Hangs(Says):
    """An agent whose model never answers."""

    async def act(self, observation: Observation) -> Action:
        await asyncio.Event().wait()
        raise AssertionError


def suite(*cases: CommandCase, timeout_s: float = 10.0) -> EvaluationSuite:
    return EvaluationSuite(name="mine", pass_score=0.5, cases=cases, timeout_s=timeout_s)


async def mistakes(agent: Says, case: CommandCase, permitted: tuple[str, ...] = ALL) -> tuple[str, ...]:
    return (await evaluate(agent, permitted, suite(case))).mistakes


async def test_rules_pass_the_suite_that_ships_with_the_project() -> None:
    outcome = await evaluate(RuleBasedAgent(CommandParser()), ALL, load_suite())
    assert (outcome.passed, outcome.mistakes) == (True, ())
    assert {case.action for case in load_suite().cases} == set(ALL)


async def test_a_specialist_passes_by_refusing_what_it_may_not_do() -> None:
    ingestor = RestrictedAgent("ingestor", INGESTOR_ACTIONS, RuleBasedAgent(CommandParser()), CommandParser())
    outcome = await evaluate(ingestor, INGESTOR_ACTIONS, load_suite())
    assert outcome.mistakes == ()


async def test_the_share_of_right_cases_decides() -> None:
    agent = Says(Action.of("query", tag_pattern="docs"))
    done: list[int] = []
    outcome = await evaluate(agent, ALL, suite(LOAD, QUERY), done.append)
    assert (outcome.correct, outcome.n, outcome.passed, done) == (1, 2, True, [1, 2])
    assert not (await evaluate(agent, ALL, suite(LOAD, LOAD, QUERY))).passed


@pytest.mark.parametrize(
    ("does", "complaint"),
    [
        (Action.of("query", tag_pattern="docs"), r"'load file::a as docs': expected assimilate, found query"),
        (
            Action.of("assimilate", src="file::b", dst="docs"),
            r"expected src=\('file::a',\), found",
        ),
        (Action.of("assimilate", dst="docs"), r"expected parameters that fit \(src: Field required\)"),
        (Action.of(ANSWER, text="Done!"), r"expected assimilate, found answer"),
        (NotUnderstood("what?"), r"expected assimilate, was refused: what\?"),
        (NotPermitted("no"), r"expected assimilate, was refused: no"),
    ],
)
async def test_a_wrong_action_is_a_mistake_that_says_what_was_right(
    does: Action | Exception, complaint: str
) -> None:
    (mistake,) = await mistakes(Says(does), LOAD)
    assert pytest.raises(AssertionError, match=complaint).matches(AssertionError(mistake)), mistake


@pytest.mark.parametrize("tag", ["docs", "other"])
async def test_an_agent_that_would_destroy_what_nobody_asked_it_to_never_passes(tag: str) -> None:
    right = CommandCase(command="destroy docs", action="destroy", params={"tags": "docs"})
    agent = Says(Action.of("destroy", tags=tag))
    outcome = await evaluate(agent, ALL, suite(right, right, right, QUERY if tag == "docs" else right))
    assert (outcome.harmful, outcome.passed) == (1 if tag == "docs" else 4, False)
    assert (await evaluate(Says(Action.of("destroy", tags="docs")), ALL, suite(right))).passed


async def test_a_parameter_that_the_case_leaves_open_may_be_anything() -> None:
    agent = Says(Action.of("query", tag_pattern="docs", blob_pattern="*.md"))
    assert await mistakes(agent, QUERY) == ()


async def test_one_source_is_the_same_as_a_list_of_one() -> None:
    agent = Says(Action.of("assimilate", src=("file::a",), dst="docs"))
    assert await mistakes(agent, LOAD) == ()


async def test_an_agent_that_does_something_else_instead_of_refusing_is_wrong() -> None:
    agent = Says(Action.of("query", tag_pattern="docs"))
    (mistake,) = await mistakes(agent, LOAD, permitted=("query",))
    assert "expected a refusal, found query" in mistake


async def test_a_model_that_fails_is_no_wrong_answer() -> None:
    with pytest.raises(ModelError, match="out of order"):
        await evaluate(Says(ModelError("out of order")), ALL, suite(LOAD))


async def test_an_agent_that_hangs_is_given_up_and_named() -> None:
    with pytest.raises(BadInput, match=r"mine: 'query docs' took longer than 0\.01 s; nothing is recorded"):
        await evaluate(Hangs(ValueError()), ALL, suite(QUERY, timeout_s=0.01))


async def test_a_case_that_no_action_could_meet_is_refused() -> None:
    case = CommandCase(command="load it", action="assimilate", params={"dst": "docs"})
    with pytest.raises(BadInput, match=r"mine: 'load it': assimilate: src: Field required"):
        await evaluate(Says(Action.of("query")), ALL, suite(case))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: x\ncases: []", r"mine\.yaml: cases: "),
        ("name: x\ncase: []", r"unknown key 'case'; did you mean 'cases'\?"),
        ("name: x\ncases: [{command: a, action: qery}]", r"cases\.0\.action: .*found 'qery'"),
        ("name: x\npass_scor: 1\ncases: [{command: a, action: query}]", r"did you mean 'pass_score'"),
    ],
)
def test_a_mistake_in_a_suite_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        load_suite(path)
