"""What the Student is told before it starts."""

from messages.turns import Turn
from runtime.engines.chat import ChatMessage
from runtime.tools.base import Tool
from runtime.tools.formats import prompt_line

GUIDE = """\
You solve tasks step by step and may call tools. Reply in exactly one of these two forms.

To call a tool:
Thought: what you need and why
Action: the tool's name
Input: what to give it

To finish:
Thought: why you are sure
Answer: the answer alone

After a call you are shown an Observation and reply again. Never write an Observation yourself.

Tools:
{tools}"""


def opening(description: str, tools: tuple[Tool, ...]) -> list[ChatMessage]:
    """The conversation as it stands before the Student's first turn."""
    listing = "\n".join(f"- {prompt_line(tool)}" for tool in tools)
    return [
        ChatMessage("system", GUIDE.format(tools=listing)),
        ChatMessage("user", f"Task: {description}"),
    ]


def observation(turn: Turn) -> str:
    """What the tools said to a turn's calls; where there are several, in their order and named."""
    if len(turn.results) == 1:
        return f"Observation: {turn.results[0].output}"
    said = (
        f"{number} ({call.tool}): {result.output}"
        for number, (call, result) in enumerate(zip(turn.calls, turn.results, strict=True), start=1)
    )
    return "Observation:\n" + "\n".join(said)
