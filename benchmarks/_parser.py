"""How fast calls are read out of replies.

Processor time on one core, replies of 60 to 400 characters in ten mixed forms, tools known; the best of
several passes, since other work on the machine only ever makes one slower.
"""

import time

from agentfactory.runtime.tools.calls.parser import parse_reply
from benchmarks.figures import Figures

TARGET = 20_000
PASSES = 7
ROUNDS = 400
TOOLS = {
    "python": ("code",),
    "search": ("query", "k"),
    "write_file": ("path", "content"),
    "list_files": ("folder",),
}
THOUGHT = (
    "I need the sum of the first hundred squares; the closed form is n(n+1)(2n+1)/6, and python checks it."
)
CODE = "total = 0\nfor n in range(101):\n    total += n * n\nprint(total)"
REPLIES = (
    f"Thought: {THOUGHT}\nAction: python\nInput: print(sum(n*n for n in range(101)))",
    f"Thought: {THOUGHT}\nAnswer: 338350",
    f"**Thought:** {THOUGHT}\n**Action:** python\n**Action Input:**\n```python\n{CODE}\n```\n",
    f"Let me think. {THOUGHT} So the result is $\\boxed{{338350}}$.",
    f'{THOUGHT}\n<tool_call>\n{{"name": "python", "arguments": {{"code": "print(338350)"}}}}\n</tool_call>',
    f'{THOUGHT}\n<tool name="search">{{"query": "squares", "k": 3}}</tool>\n'
    '<tool name="python">print(1)</tool>',
    f"<think>\n{THOUGHT} {THOUGHT}\n</think>\n\nI look it up.\n\n```json\n"
    '{"name": "search", "arguments": {"query": "closed form of a sum of squares", "k": 3}}\n```',
    f'{THOUGHT}\nsearch(query="sum of squares closed form", k=3)',
    "{'tool': 'search', 'arguments': {'query': 'sum of squares', 'k': 3,},}",
    '{"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "search", '
    '"arguments": "{\\"query\\": \\"squares\\"}"}}]}',
)


def measure(figures: Figures) -> None:
    """Replies a second, all forms mixed."""
    expected = (1, 0, 1, 0, 1, 2, 1, 1, 1, 1)
    found = tuple(len(parse_reply(reply, TOOLS).calls) for reply in REPLIES)
    if found != expected:
        raise AssertionError(f"the replies hold {expected} calls, {found} were read")
    best = min(_seconds() for _ in range(PASSES))
    figures.add("parser_replies", ROUNDS * len(REPLIES) / best, "replies/s", ">=", TARGET)


def _seconds() -> float:
    started = time.process_time()
    for _ in range(ROUNDS):
        for reply in REPLIES:
            parse_reply(reply, TOOLS)
    return time.process_time() - started
