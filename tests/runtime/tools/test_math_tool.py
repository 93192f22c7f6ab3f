"""The math tool: what it works out, what it refuses, and how it is stopped."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agentfactory.configs.tools import MathToolSettings
from agentfactory.messages.turns import ToolResult
from agentfactory.runtime.tools.builtin.math import MathTool


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tool() -> AsyncIterator[MathTool]:
    tool = MathTool(MathToolSettings(timeout_s=20.0), allow_weak=True)
    async with asyncio.timeout(60):
        await tool.start()
    yield tool
    await tool.aclose()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ask(tool: MathTool, expression: str, action: str = "evaluate", symbols: str = "") -> ToolResult:
    return await tool.math.call(json.dumps({"expression": expression, "action": action, "symbols": symbols}))


@pytest.mark.parametrize(
    ("expression", "action", "symbols", "said"),
    [
        ("1/3+1/6", "evaluate", "", "1/2 = 0.5"),
        ("2^10", "evaluate", "", "1024"),
        ("sqrt(8)", "evaluate", "", "2*sqrt(2) ≈ 2.82842712474619"),
        ("x^2+y", "evaluate", "x=2, y=1/3", "13/3 = 4.33333333333333"),
        ("x+x", "evaluate", "", "2*x (in x)"),
        ("(x^2-1)/(x-1)", "simplify", "", "x + 1"),
        ("2x(x+1)", "parse", "", "2*x*(x + 1) (in x)"),
        ("2x = 4", "parse", "", "2*x = 4"),
        ("x^2=4", "solve", "", "x = -2; x = 2"),
        ("x^2-4", "solve", "x", "x = -2; x = 2"),
        ("x+y=3, x-y=1", "solve", "", "x = 2, y = 1"),
        ("a x = b", "solve", "x", "x = b/a"),
        ("x^2 < 4", "solve", "", "x in Interval.open(-2, 2)"),
        ("x = x", "solve", "", "true for every x"),
        ("x = x+1", "solve", "", "no solution was found"),
        ("1+1 = 2", "solve", "", "true"),
        ("1 > 2", "solve", "", "false"),
    ],
)
async def test_it_works_out(tool: MathTool, expression: str, action: str, symbols: str, said: str) -> None:
    result = await ask(tool, expression, action, symbols)
    assert (result.output, result.ok) == (said, True)


async def test_roots_without_a_name_are_given_as_numbers(tool: MathTool) -> None:
    result = await ask(tool, "x^5-x+1=0", "solve")
    assert result.output.startswith("x = -1.16730397826142; x = ")


async def test_the_bare_text_is_evaluated(tool: MathTool) -> None:
    assert (await tool.math.call("6*7")).output == "42"


@pytest.mark.parametrize(
    ("expression", "action", "symbols", "said"),
    [
        ("__import__('os').system('id')", "evaluate", "", "'_' is out of place"),
        ("9^9^9^9", "evaluate", "", "a power that is too large"),
        ("1/0", "evaluate", "", "a division by zero"),
        ("oo-oo", "evaluate", "", "it has no value"),
        ("x^2=4", "evaluate", "", "use the action solve"),
        ("x=1=2", "solve", "", "more than one relation"),
        ("x<y", "solve", "", "an inequality is solved alone"),
        ("x", "evaluate", "2=3", "gives no symbol a value"),
        ("x=1", "solve", "2", "2 is not an unknown"),
        ("(" * 100, "evaluate", "", "nested more than"),
        ("x" * 1000, "evaluate", "", "longer than"),
        ("x", "differentiate", "", "argument action: "),
    ],
)
async def test_what_it_cannot_do_is_an_observation(
    tool: MathTool, expression: str, action: str, symbols: str, said: str
) -> None:
    result = await ask(tool, expression, action, symbols)
    assert (result.ok, result.failure) == (False, "error")
    assert result.output.startswith("Error: ")
    assert said in result.output


async def test_what_takes_for_ever_is_killed_and_the_next_call_works() -> None:
    tool = MathTool(MathToolSettings(timeout_s=3.0), allow_weak=True)
    await tool.start()
    endless = await ask(tool, "(x^99+y^97+z^89)*(x+y+z)^50*(x-y)^40 = 1", "solve")
    assert endless.failure == "timeout"
    assert (await ask(tool, "1+1")).output == "2"
    await tool.aclose()
