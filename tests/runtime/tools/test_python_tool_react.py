"""Reading replies."""

import random
import time

import pytest

from agentfactory.messages.turns import ToolCall
from agentfactory.runtime.tools.calls.parser import ReplyContent, find_boxed, parse_reply


@pytest.mark.parametrize(
    "text",
    [
        "Thought: Use python.\nAction: python\nInput: print(1)",
        "Thought: Use python.\nAction: python\nAction Input: print(1)",
        "thought: Use python.\n  action : Python.\n  INPUT: print(1)\n",
        "**Thought:** Use python.\n**Action:** `python`\n**Action Input:** `print(1)`",
        "**Thought**: Use python.\n**Action**: python\n**Input**:\n```python\nprint(1)\n```\nthanks",
        "Use python.\nAction: python\n```\nprint(1)\n```",
        'Use python.\nAction: python\nInput: {"code": "print(1)"}',
        "Thought: Use python.\nAction: python\nInput: print(1)\nObservation: 1\nAnswer: 1",
        "Thought: Use python.\nAction: python\nInput: print(1)\nAnswer: 7",
        "> Thought: Use python.\r\n> Action: python\r\n> Input: print(1)\r\n",
        "Thought: Use python.\nAction: python\nInput: ```py\nprint(1)",
    ],
)
def test_a_call_is_found_however_it_is_dressed(text: str) -> None:
    assert parse_reply(text) == ReplyContent(
        "Use python.", (ToolCall(tool="python", input="print(1)"),), None
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Thought: Done.\nAnswer: 408", "408"),
        ("Final Answer: 408", "408"),
        ("**Final Answer:** **408**", "408"),
        ("**Final Answer: 408**", "408"),
        ("Answer:\n408", "408"),
        ("Answer: 408\n\nHope this helps!", "408"),
        ("Answer: the answer is \\boxed{408}.", "408"),
        ("Answer: 1\nAction: python\nInput: 2", "1"),
        ("so it is $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("\\boxed{1} no, \\boxed{2", "1"),
        ("Action: python\nAnswer: 3", "3"),
        ("Answer:\nAnswer: 4", "4"),
        ("Answer: ```\n5\n```", "5"),
        ("Thought: 2**3 and 2**4\nAnswer: 2**3", "2**3"),
    ],
)
def test_an_answer_is_found_however_it_is_dressed(text: str, answer: str) -> None:
    reply = parse_reply(text)
    assert (reply.answer, reply.calls) == (answer, ())


@pytest.mark.parametrize(
    "text",
    ["", "hm", "Action: python", "Action:\nInput: 1", "Answer:", "Input: 1", "Action: python\nInput:",
     "Observation: 1\nAnswer: 1", "Thought: x\nObservation: 1\n\\boxed{1}", "\\boxed{", "\\boxed{}"],
)  # fmt: skip
def test_what_is_neither_call_nor_answer_is_neither(text: str) -> None:
    reply = parse_reply(text)
    assert (reply.calls, reply.answer) == ((), None)


def test_an_input_spans_lines_and_keeps_its_indentation() -> None:
    code = "for n in range(3):\n    print(n)"
    for text in (f"Action: python\nInput: {code}", f"Action: python\nInput:\n{code}\n"):
        assert parse_reply(text).calls == (ToolCall(tool="python", input=code),)


def test_labels_inside_a_fence_are_code() -> None:
    code = 'x = """\nAnswer: 5\nObservation: 6\n"""'
    text = f"Action: python\nInput:\n```python\n{code}\n```\nAnswer: 7"
    assert parse_reply(text).calls == (ToolCall(tool="python", input=code),)


def test_a_dictionary_that_is_code_stays_code() -> None:
    for code in ('{"a": 1, "code": "2"}', '{"code": 1}', "{1: 2}", "{" * 50 + "}"):
        assert parse_reply(f"Action: python\nInput: {code}").calls == (ToolCall(tool="python", input=code),)


def test_the_thought_is_all_that_came_before() -> None:
    reply = parse_reply("Well.\nThought: one\ntwo\nThought: three\nAnswer: 4")
    assert reply.thought == "Well.\none\ntwo\nthree"


def test_a_box_holds_its_whole_content() -> None:
    assert find_boxed("\\boxed{10}") == "10"
    assert find_boxed("\\boxed{\\{1,2\\}}") == "\\{1,2\\}"
    assert find_boxed("\\boxed{a{b{c}}d}") == "a{b{c}}d"


PIECES = (
    "Thought:", "Action:", "Action Input:", "Input:", "Answer:", "Final Answer:", "Observation:",
    "\n", "\r\n", "```", "```python\n", "\\boxed{", "{", "}", '{"code": "', '"}', "**", "`", "python", " ",
    "\t", "é", "\ud800", "\x00", "1", "print(1)", ":", "\\", "#", ">", "_",
)  # fmt: skip


def test_any_rubbish_gives_a_reply() -> None:
    rng = random.Random(3)
    for _ in range(4000):
        text = "".join(rng.choices(PIECES, k=rng.randint(0, 40)))
        noise = bytes(rng.randrange(256) for _ in range(rng.randint(0, 60)))
        for candidate in (text, noise.decode("latin-1"), noise.decode("utf-8", "surrogateescape") + text):
            reply = parse_reply(candidate)
            assert not reply.calls or reply.answer is None
            assert reply.answer is None or reply.answer.strip() == reply.answer != ""
            assert all(call.tool and call.input for call in reply.calls)


@pytest.mark.parametrize(
    "unit",
    ["```\nAction:", "Action:\n", "Answer:\n", "\\boxed{", "{", '{"a":', " ", "* \n", "`", "Thought: ```\n",
     "Action: x\nInput: `\n", "Input:\n", "\n\n", "**", "_*", "Action_input"],
)  # fmt: skip
def test_the_time_is_linear_in_the_text(unit: str) -> None:
    text = "Action: x\nInput: " + unit * (200_000 // len(unit))
    started = time.process_time()
    parse_reply(text)
    parse_reply(text[17:])
    assert time.process_time() - started < 2.0
