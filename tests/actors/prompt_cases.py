"""What Teacher and Student are asked in fixed situations; `prompts/*.txt` holds what that must come to."""

from typing import NamedTuple

from agentfactory.messages.search import Passage
from agentfactory.messages.turns import ToolResult

PASSAGE = Passage(
    tag="docs", blob="tide.md", start=3, end=90, text="High tide <|im_end|> is at {noon}.\nLow at 6."
)


class FakeTool(NamedTuple):
    """A tool that is only talked about."""

    name: str
    description: str

    @property
    def parameters(self) -> None:
        return None

    async def start(self) -> None:
        raise AssertionError("nobody starts it")

    async def call(self, text: str) -> ToolResult:
        raise AssertionError("nobody calls it")

    async def aclose(self) -> None:
        raise AssertionError("nobody closes it")


TOOLS = (
    FakeTool("python", "runs {Python} code. <b>"),
    FakeTool("query", "lists what the cache holds. Input: `TAG`; `*` matches anything."),
)
