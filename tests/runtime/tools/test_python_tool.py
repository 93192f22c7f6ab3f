"""The python tool, and the box it lies in."""

import asyncio

import pytest

from agentfactory.configs.roles import SandboxSettings
from agentfactory.messages.turns import ToolCall, ToolResult
from agentfactory.runtime.tools.base import Tool
from agentfactory.runtime.tools.builtin.python import PythonTool
from agentfactory.runtime.tools.tool_set import DuplicateTool, ToolSet

LIMIT_S = 180.0


class Echo:
    """A tool that says what it heard, and what was done to it."""

    description = "repeats its input."

    parameters = None

    def __init__(self, name: str, fails: bool = False) -> None:
        self.name = name
        self.done: list[str] = []
        self._fails = fails

    async def start(self) -> None:
        if self._fails:
            raise OSError("no")
        self.done.append("start")

    async def call(self, text: str) -> ToolResult:
        return ToolResult(output=text, ok=True)

    async def aclose(self) -> None:
        self.done.append("close")
        if self._fails:
            raise OSError("cannot close")


async def test_a_python_call_goes_through_the_box() -> None:
    tool: Tool = PythonTool(SandboxSettings())
    box = ToolSet([tool])
    async with asyncio.timeout(LIMIT_S):
        await box.start()
        printed = await box.call(ToolCall(tool="python", input="print(12*34)"))
        indented = await box.call(ToolCall(tool="python", input="  x = 1\n  x + 1"))
        silent = await box.call(ToolCall(tool="python", input="x = 1"))
        await box.aclose()
    assert (printed.output, printed.ok) == ("408", True)
    assert printed.duration_s > 0
    assert indented.output == "2"
    assert silent.output == "(no output)"


async def test_an_unknown_tool_is_answered_with_the_ones_there_are() -> None:
    box = ToolSet([Echo("one"), Echo("two")])
    result = await box.call(ToolCall(tool="three", input=""))
    assert result.failure == "unknown_tool"
    assert result.output == "Error: there is no tool three; the tools are: one, two"
    assert box.descriptions == "one: repeats its input.\ntwo: repeats its input."


async def test_a_tool_that_does_not_say_how_long_it_took_is_timed() -> None:
    assert (await ToolSet([Echo("one")]).call(ToolCall(tool="one", input="x"))).duration_s > 0


def test_two_tools_cannot_share_a_name() -> None:
    with pytest.raises(DuplicateTool, match="called one"):
        ToolSet([Echo("one"), Echo("one")])


async def test_when_one_tool_does_not_start_the_others_are_closed() -> None:
    good = Echo("good")
    with pytest.raises(OSError, match="no"):
        await ToolSet([good, Echo("bad", fails=True)]).start()
    assert good.done == ["start", "close"]


async def test_all_tools_are_closed_even_if_one_fails() -> None:
    good = Echo("good")
    with pytest.raises(OSError, match="cannot close"):
        await ToolSet([good, Echo("bad", fails=True)]).aclose()
    assert good.done == ["close"]
