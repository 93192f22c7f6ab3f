"""Plans: reading, order, references, errors, and files that are put back."""

from pathlib import Path

import anyio
import pytest

from agentfactory.configs.tools import PlanSettings
from agentfactory.messages.pipelines import PlanOutcome
from agentfactory.messages.turns import ToolResult
from agentfactory.runtime.sandbox.workspace import Workspace
from agentfactory.runtime.tools.builtin.plan import PlanTool
from agentfactory.runtime.tools.function_tool import FunctionTool, tool
from agentfactory.runtime.tools.plans.executor import PlanExecutor
from agentfactory.runtime.tools.plans.parser import BadPlan, read_plan
from agentfactory.runtime.tools.tool_set import ToolSet

LIMIT_S = 180
SETTINGS = PlanSettings()


class Broken(Exception):
    """What a tool may raise."""


class Tools:
    """Small tools over a workspace, and what was seen of them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.seen: list[str] = []
        self.at_once = self.most_at_once = 0
        self.others = anyio.Event()

    @property
    def box(self) -> ToolSet:
        return ToolSet([self.say, self.fails, self.write, self.raises, self.hangs, self.meet])

    @tool
    async def say(self, text: str) -> str:
        """Says it again."""
        self.seen.append(text)
        return text

    @tool
    async def fails(self, text: str) -> ToolResult:
        """Fails."""
        self.seen.append(text)
        return ToolResult(output="Error: no", ok=False, failure="error")

    @tool
    def write(self, path: str, content: str) -> str:
        """Writes a file."""
        self.workspace.write_bytes(path, content.encode())
        return "written"

    @tool
    async def raises(self, text: str) -> str:
        """Raises."""
        raise Broken(text)

    @tool
    async def hangs(self, text: str) -> str:
        """Never answers."""
        await anyio.sleep_forever()
        return text

    @tool
    async def meet(self, text: str) -> str:
        """Waits until another call is under way, too."""
        self.at_once += 1
        if self.at_once == 2:
            self.others.set()
        await self.others.wait()
        return text


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(Workspace(tmp_path / "work"))


async def run(tools: Tools, text: str, settings: PlanSettings = SETTINGS) -> PlanOutcome:
    with anyio.fail_after(LIMIT_S):
        return await PlanExecutor(tools.box, settings, tools.workspace).run(read_plan(text))


def statuses(outcome: PlanOutcome) -> dict[str, str]:
    return {step.id: step.status for step in outcome.steps}


def test_a_tool_of_these_tests_is_a_tool(tools: Tools) -> None:
    assert isinstance(tools.say, FunctionTool)


async def test_a_step_gets_what_another_answered_and_parts_of_it(tools: Tools) -> None:
    outcome = await run(
        tools,
        """{"steps": [
            {"id": "last", "tool": "say", "input": {"text": "$first.who.0 has ${first.n}$$, $first.who"}},
            {"id": "first", "tool": "say", "input": "{\\"n\\": 3, \\"who\\": [\\"Ann\\"]}"}]}""".replace(
            '"input": "{\\"n\\": 3, \\"who\\": [\\"Ann\\"]}"',
            '"input": {"text": "{\\"n\\": 3, \\"who\\": [\\"Ann\\"]}"}',
        ),
    )
    assert outcome.ok
    assert [step.id for step in outcome.steps] == ["last", "first"]
    assert outcome.steps[0].output == 'Ann has 3$, ["Ann"]'


async def test_a_text_that_is_one_reference_becomes_the_value_itself(tools: Tools) -> None:
    plan = """[{"id": "a", "tool": "say", "input": {"text": "[1]"}},
        {"id": "b", "tool": "say", "input": {"text": "$a.0"}}]"""
    outcome = await run(tools, plan)
    assert outcome.steps[1].input == '{"text": 1}'


async def test_an_object_that_a_step_answered_is_a_text_to_the_next_one(tools: Tools) -> None:
    steps = """[{"id": "a", "tool": "say", "input": {"text": "{\\"x\\": 1}"}},
                {"id": "b", "tool": "say", "input": "$a"},
                {"id": "c", "tool": "say", "input": {"txt": "$a"}}]"""
    outcome = await run(tools, steps)
    assert tools.seen == ['{"x": 1}', '{"x": 1}']
    assert outcome.steps[2].output.startswith("Error: there is no argument txt; did you mean text?")


async def test_steps_that_do_not_need_one_another_run_at_the_same_time(tools: Tools) -> None:
    plan = '[{"id": "a", "tool": "meet", "input": "1"}, {"id": "b", "tool": "meet", "input": "2"}]'
    assert (await run(tools, plan)).ok


async def test_no_more_steps_run_at_once_than_allowed(tools: Tools) -> None:
    plan = '[{"id": "a", "tool": "meet", "input": "1"}, {"id": "b", "tool": "meet", "input": "2"}]'
    outcome = await run(tools, plan, PlanSettings(max_parallel=1, timeout_s=0.2))
    assert statuses(outcome) == {"a": "not_run", "b": "not_run"}
    assert tools.at_once == 1


async def test_a_sequential_plan_keeps_its_order_and_react_lines_are_one(tools: Tools) -> None:
    text = "Thought: two\nAction: say\nInput: one\nThought: and\nAction: say\nInput: after $1"
    outcome = await run(tools, text)
    assert outcome.ok
    assert tools.seen == ["one", "after one"]
    assert [step.id for step in outcome.steps] == ["1", "2"]


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [
        ("stop", {"bad": "failed", "needs": "not_run", "later": "not_run"}),
        ("skip", {"bad": "failed", "needs": "skipped", "later": "done"}),
        ("go_on", {"bad": "failed", "needs": "done", "later": "done"}),
    ],
)
async def test_what_follows_from_a_step_that_fails_is_the_steps_own_choice(
    tools: Tools, on_error: str, expected: dict[str, str]
) -> None:
    plan = f"""[{{"id": "bad", "tool": "fails", "input": "x", "on_error": "{on_error}"}},
        {{"id": "needs", "tool": "say", "input": "got $bad"}},
        {{"id": "later", "tool": "say", "input": "y"}}]"""
    outcome = await run(tools, plan, PlanSettings(max_parallel=1))
    assert statuses(outcome) == expected
    assert outcome.ok == (on_error == "go_on")
    assert ("got Error: no" in tools.seen) == (on_error == "go_on")


async def test_a_part_that_an_answer_does_not_have_fails_the_step(tools: Tools) -> None:
    plan = '[{"id": "a", "tool": "say", "input": "no JSON"}, {"id": "b", "tool": "say", "input": "$a.key"}]'
    outcome = await run(tools, plan)
    assert outcome.steps[1].output == "Error: $a.key: what that step answered is not JSON"
    assert tools.seen == ["no JSON"]


async def test_a_step_that_takes_too_long_fails_and_the_plan_goes_on_as_told(tools: Tools) -> None:
    plan = """[{"id": "slow", "tool": "hangs", "input": "x", "timeout_s": 0.05, "on_error": "skip"},
        {"id": "other", "tool": "say", "input": "y"}]"""
    outcome = await run(tools, plan)
    assert statuses(outcome) == {"slow": "failed", "other": "done"}
    assert outcome.steps[0].failure == "timeout"


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ('[{"id": "a", "tool": "say"}, {"id": "a", "tool": "say"}]', "two steps of the plan are called a"),
        ('[{"id": "a", "tool": "nothing"}]', "step a: there is no tool nothing; the tools are: say, fails"),
        ('[{"id": "a", "tool": "say", "input": "$b"}]', r"step a: there is no step b; the steps are: a"),
        ('[{"id": "a", "tool": "say", "after": ["b"]}]', r"step a: there is no step b"),
        ('[{"id": "a", "tool": "say", "input": "costs $5"}]', r"there is no step 5.*write \$\$"),
        ('[{"id": "a", "tool": "say", "input": "$a"}]', "in a circle: a → a"),
        (
            '[{"id": "a", "tool": "say", "input": "$b"}, {"id": "b", "tool": "say", "after": ["a"]}]',
            "in a circle",
        ),
        ('[{"id": "a", "tool": "say"', "not valid JSON"),
        ('{"steps": []}', "steps is wrong"),
        ('{"steps": [{"id": "a b", "tool": "say"}]}', "steps.0.id is wrong"),
        ('{"steps": [{"id": "a", "tool": "say", "colour": 1}]}', "steps.0.colour is wrong"),
        ("nothing", "the plan is empty"),
        ("Action: say\nThought: x", "step 1 names no tool, or has no input"),
    ],
)
async def test_a_plan_that_is_wrong_is_refused_before_anything_runs(
    tools: Tools, plan: str, reason: str
) -> None:
    with pytest.raises(BadPlan, match=reason):
        await run(tools, plan)
    assert tools.seen == []


async def test_too_many_steps_are_refused(tools: Tools) -> None:
    plan = ",".join(f'{{"id": "s{n}", "tool": "say"}}' for n in range(4))
    with pytest.raises(BadPlan, match="has 4 steps, at most 3"):
        await run(tools, f"[{plan}]", PlanSettings(max_steps=3))


CHANGES = """{"id": "new", "tool": "write", "input": {"path": "deep/er/new.txt", "content": "x"}},
    {"id": "old", "tool": "write", "input": {"path": "old.txt", "content": "changed"}}"""


async def test_files_are_put_back_when_the_plan_fails(tools: Tools) -> None:
    tools.workspace.write_bytes("old.txt", b"before")
    plan = f"""{{"roll_back": true, "sequential": true,
        "steps": [{CHANGES}, {{"id": "bad", "tool": "fails", "input": "x"}}]}}"""
    outcome = await run(tools, plan)
    assert outcome.put_back == ("deep/er/new.txt", "old.txt")
    assert [entry.path for entry in tools.workspace.list(recursive=True)] == ["old.txt"]
    assert tools.workspace.read_bytes("old.txt") == b"before"


async def test_files_are_put_back_when_a_tool_raises_and_the_error_is_raised(tools: Tools) -> None:
    plan = f"""{{"roll_back": true, "sequential": true,
        "steps": [{CHANGES}, {{"id": "bad", "tool": "raises", "input": "x"}}]}}"""
    with pytest.raises(Broken):
        await run(tools, plan)
    assert tools.workspace.list() == ()


async def test_files_stay_when_the_plan_succeeds_or_was_not_to_be_rolled_back(tools: Tools) -> None:
    assert (await run(tools, f'{{"roll_back": true, "steps": [{CHANGES}]}}')).put_back == ()
    failing = f'{{"sequential": true, "steps": [{CHANGES}, {{"id": "bad", "tool": "fails", "input": "x"}}]}}'
    assert (await run(tools, failing)).put_back == ()
    assert tools.workspace.read_bytes("deep/er/new.txt") == b"x"


async def test_a_workspace_that_is_too_large_to_keep_is_said_before_anything_runs(tools: Tools) -> None:
    tools.workspace.write_bytes("big", b"\0" * (2**20 + 1))
    plan = '{"roll_back": true, "steps": [{"id": "a", "tool": "say", "input": "x"}]}'
    with pytest.raises(BadPlan, match=r"nothing was run: .* too much to roll back"):
        await run(tools, plan, PlanSettings(max_kept_mb=1))
    assert tools.seen == []


async def test_the_tool_shows_what_became_of_each_step(tools: Tools) -> None:
    plan = PlanTool(tools.box, SETTINGS, tools.workspace)
    done = await plan.call('[{"id": "a", "tool": "say", "input": "x"}]')
    bad = await plan.call("[]")
    assert (done.ok, done.output) == (True, "a (say) done: x")
    assert (bad.ok, bad.failure) == (False, "error")
    assert bad.output.startswith("Error: the plan's steps is wrong")
