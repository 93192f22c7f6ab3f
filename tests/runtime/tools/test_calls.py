"""Calls out of text, in every form."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentfactory.messages.turns import ToolCall
from agentfactory.runtime.tools.calls.lenient_json import read_literal
from agentfactory.runtime.tools.calls.parser import MAX_CALLS, ReplyContent, parse_reply
from tests.runtime.tools.reply_cases import CASES, TOOLS, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text[:40])
def test_a_reply_gives_what_it_says_and_nothing_that_it_merely_shows(case: Case) -> None:
    reply = parse_reply(case.text, TOOLS)
    assert ([(call.tool, call.input) for call in reply.calls], reply.answer) == (
        list(case.calls),
        case.answer,
    )


OPEN = ("action", 'print("hi")', '["a"]', '["a", none]', "no.\n</think>")
"""Texts that a cut leaves looking whole: ReAct's inputs, which have no end of their own, and these."""


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.calls and not any(text in case.text.lower() for text in OPEN)],
    ids=lambda case: case.text[:40],
)
def test_a_reply_that_is_cut_off_anywhere_calls_nothing_that_it_does_not_call_whole(case: Case) -> None:
    whole = set(case.calls)
    for end in range(len(case.text)):
        for call in parse_reply(case.text[:end], TOOLS).calls:
            seen = (call.tool, call.input)
            assert seen in whole or _begins(seen, whole), case.text[:end]


def _begins(seen: tuple[str, str], whole: set[tuple[str, str]]) -> bool:
    """Whether it has whole arguments of one of these, if not all."""
    found = read_literal(seen[1], 0) if seen[1].startswith("{") else None
    if found is None or not isinstance(found.value, dict):
        return any(seen[0] == tool and f'"{seen[1]}"' in text for tool, text in whole)
    given = found.value.items()
    return any(
        tool == seen[0] and given <= json.loads(text).items() for tool, text in whole if text[0] == "{"
    )


def test_a_tool_that_is_not_there_is_called_only_where_the_form_leaves_no_doubt() -> None:
    shown = '```json\n{"name": "search", "arguments": {"query": "tides"}}\n```'
    tagged = '<tool name="search">tides</tool>'
    assert parse_reply(shown, {"python": ("code",)}).calls == ()
    assert parse_reply(shown, TOOLS).calls == (ToolCall(tool="search", input='{"query": "tides"}'),)
    assert parse_reply(tagged, {"python": ("code",)}).calls == (ToolCall(tool="search", input="tides"),)


def test_without_known_tools_a_shape_must_be_complete() -> None:
    assert [
        call.tool for call in parse_reply('```json\n{"name": "a", "arguments": {"b": 1}}\n```').calls
    ] == ["a"]
    assert parse_reply('```json\n{"name": "a"}\n```').calls == ()
    assert parse_reply("a(b=1)").calls == ()


def test_the_thought_is_what_comes_before_the_first_call() -> None:
    reply = parse_reply(
        "<think>Hm.</think>\nThought: look\n"
        '<tool name="search">tides</tool>\nand\n<tool name="shell">ls</tool>'
    )
    assert (reply.thought, [call.tool for call in reply.calls]) == ("Hm.\nlook", ["search", "shell"])


def test_no_more_calls_than_anyone_would_run_are_read() -> None:
    assert len(parse_reply('<tool name="shell">ls</tool>' * 1000, TOOLS).calls) == MAX_CALLS


A, B = ("search", '{"query": "a", "k": 1}'), ("write_file", '{"path": "p", "content": "c"}')
CODE = ("python", "print(1)")


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f'<tool name="search">{A[1]}<tool name="write_file">{B[1]}</tool>', (A, B)),
        (f'<tool name="search">{A[1]}\n\n<tool name="write_file">{B[1]}</tool>', (A, B)),
        (f'<tool name="search">{A[1]} and then <tool name="write_file">{B[1]}</tool>', (A, B)),
        (f'<tool name="search">{A[1]}<tool name="write_file">{B[1]}', (A, B)),
        (f'<tool name="search">{A[1][:-1]}<tool name="write_file">{B[1]}</tool>', (A, B)),
        (f'<tool name="search">{A[1][:-1]}</tool><tool name="write_file">{B[1]}</tool>', (A, B)),
        (f'<tool name="search">{A[1]}</tool_call><tool name="write_file">{B[1]}</tool_call>', (A, B)),
        (f'<tool name="python">print(1)<tool name="search">{A[1]}</tool>', (CODE, A)),
        (f'<tool name="python">print(1)\n<tool name="search">{A[1]}</tool>', (CODE, A)),
        (f'<tool name="python">print(1)</tool_call>\n<tool name="search">{A[1]}</tool>', (CODE, A)),
        (f'<tool name="python">```python\nprint(1)\n<tool name="search">{A[1]}</tool>', (CODE, A)),
        (f'<tool name="python">```python\nprint(1)\n```<tool name="search">{A[1]}</tool>', (CODE, A)),
        (f'<tool name="python"><tool name="search">{A[1]}</tool></tool>', (A,)),
        (f'<tool name="search">{{"query": <tool name="write_file">{B[1]}</tool>', (B,)),
        (f'<tool name="search">{{"query": "a<tool name="write_file">{B[1]}</tool>', (B,)),
        (f'<tool name="search">{A[1]}</tool><tool name="write_file">{{"path": "p", "con', (A,)),
        ('<tool name="python">print("</tool>")</tool>', (("python", 'print("</tool>")'),)),
        (
            '<tool name="python">print("<tool name=\'shell\'>")</tool>',
            (("python", "print(\"<tool name='shell'>\")"),),
        ),
        (f"<tool name=\"python\">it's</tool><tool name=\"search\">{A[1]}</tool>", (("python", "it's"), A)),
        (
            f'<tool_call>{{"name": "search", "arguments": {A[1]}}}'
            f'<tool_call>{{"name": "write_file", "arguments": {B[1]}}}</tool_call>',
            (A, B),
        ),
        (
            f'<tool_call>{{"name": "search", "arguments": {A[1]}\n</tool_call>\n'
            f'<tool_call>{{"name": "write_file", "arguments": {B[1]}}}</tool_call>',
            (A, B),
        ),
        (
            f'<tool_call>{{"name": "search", "arguments": {A[1]}\n'
            f'<tool_call>{{"name": "write_file", "arguments": {B[1]}}}</tool_call>',
            (A, B),
        ),
        (
            f'<tool_call>{{"name": "search", "arguments": {{"query": "a</tool_call>\n'
            f'<tool_call>{{"name": "write_file", "arguments": {B[1]}}}</tool_call>',
            (B,),
        ),
        (
            "<tool_call><function=write_file><parameter=path>p<parameter=content>c</function></tool_call>",
            (B,),
        ),
        ("<tool_call><function=write_file><parameter=path>p</parameter><parameter=content>c", ()),
        (
            "<function=python><parameter=code>print('<parameter=x>')</parameter></function>",
            (("python", "print('<parameter=x>')"),),
        ),
        (
            f'```json\n{{"name": "search", "arguments": {A[1]}\n```\n'
            f'```json\n{{"name": "write_file", "arguments": {B[1]}}}\n```',
            (A, B),
        ),
        (
            f'{{"name": "search", "arguments": {A[1]}\n{{"name": "write_file", "arguments": {B[1]}}}',
            (A, B),
        ),
        ("shell('ls')\nsearch(query='a', k=1)\nwrite_file(path='p", (("shell", "ls"), A)),
        ("search(query='a', k=1\nwrite_file('p', 'c')", (A, B)),
        ("search(query=\"a\", k=1\n\n  functions.write_file('p', \"c\"", (A, B)),
        ("search('a', 1\nshell('ls'\nwrite_file(\"p\", \"c\"", (A, ("shell", "ls"), B)),
        ("```python\nsearch('a', 1\nwrite_file('p', 'c')\n```", (A, B)),
        ("<tool_call>search('a', 1\nwrite_file('p', 'c')</tool_call>", (A, B)),
        ("search(\nwrite_file('p', 'c')", (B,)),
        ("search('a', 1\nunknown('p', 'c')", ()),
        ("python(code='print(\"a\")\\nshell(\"ls\")')", (("python", 'print("a")\nshell("ls")'),)),
        (f'Action: search\nInput: {A[1]}\nAction: write_file\nInput: {B[1][:-1]}', (A, B)),
        ("Action: search\nAction: shell\nInput: ls", (("shell", "ls"),)),
    ],
)  # fmt: skip
def test_a_call_that_is_not_closed_takes_nothing_of_the_next_one(
    text: str, calls: tuple[tuple[str, str], ...]
) -> None:
    found = tuple((call.tool, call.input) for call in parse_reply(text, TOOLS).calls)
    assert found == calls


def test_half_a_character_that_an_escape_left_is_replaced_so_that_the_call_can_be_stored() -> None:
    (lone,) = parse_reply('<tool name="shell">{"a": "\\ud800", "b": 1}</tool>').calls
    (pair,) = parse_reply("<tool name=\"shell\">{'a': '\\ud83d\\ude00', 'b': 1}</tool>").calls
    assert ToolCall.model_validate_json(lone.model_dump_json()) == lone
    assert json.loads(pair.input)["a"] == "😀"


def check(reply: ReplyContent) -> None:
    """What holds for any reply."""
    assert not (reply.calls and reply.answer)
    assert reply.answer is None or (reply.answer and reply.answer.strip() == reply.answer)
    assert len(reply.calls) <= MAX_CALLS
    for call in reply.calls:
        assert call.tool
        assert call.input
        assert ToolCall.model_validate_json(call.model_dump_json()) == call


PIECES = st.sampled_from(
    ["Thought:", "Action:", "Action Input:", "Input:", "Answer:", "Observation:", "\n", "\r\n", "```",
     "```json\n", "```python\n", "<think>", "</think>", '<tool name="search">', "</tool>", "<tool_call>",
     "</tool_call>", "<!--", "-->", "<function=search>", "<parameter=query>", "</parameter>",
     "<tool_response>", '{"name": "search", ', '"arguments": {', '"query": "a"', '"k": 1', "}", "{", "[", "]",
     "(", ")", "search(", "query=", "'", '"', "'''", "\\", "\\u", "\\ud800", ",", ":", "tides", " ", "\t",
     "é", "\ud800", "\x00", "\\boxed{", "None", "-1e9", "for example", "`", ">", "[TOOL_CALLS]", "“"]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(PIECES, max_size=40), st.sampled_from([TOOLS, {}]))
def test_any_heap_of_pieces_gives_a_reply(pieces: list[str], tools: dict[str, tuple[str, ...]]) -> None:
    check(parse_reply("".join(pieces), tools))


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_gives_a_reply(text: str) -> None:
    check(parse_reply(text, TOOLS))
    check(parse_reply(f'<tool name="search">{text}'))
    check(parse_reply(f'<tool_call>{{"name": "search", "arguments": {{"query": "{text}', TOOLS))


TEXTS = st.text(st.characters(codec="utf-8"))
NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab /!é-.", max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.from_regex(r"[a-z]\w{0,8}", fullmatch=True).filter(lambda name: name not in ("self", "name"))
ARGUMENTS = st.dictionaries(NAMES.filter(str.isascii), VALUES, min_size=2, max_size=3)


@settings(max_examples=200, deadline=None)
@given(ARGUMENTS)
def test_arguments_come_out_of_each_form_as_they_went_in(given_: dict[str, object]) -> None:
    text = json.dumps(given_)
    named = ", ".join(f"{key}={value!r}" for key, value in given_.items())
    forms = [
        f'<tool name="search">{text}</tool>',
        f'Look.\n<tool_call>\n{{"name": "search", "arguments": {text}}}\n</tool_call>',
        f'```json\n{{"tool": "search", "arguments": {json.dumps(given_, indent=2)}}}\n```',
        json.dumps({"type": "function", "function": {"name": "search", "arguments": text}}),
        f"Action: search\nInput: {text}",
        f"<tool name='search'>{given_!r}</tool>",
        f"search({named})",
    ]
    for form in forms:
        (call,) = parse_reply(form, TOOLS).calls
        assert (call.tool, json.loads(call.input)) == ("search", given_), form


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=20))
def test_nothing_in_a_thought_or_behind_an_observation_is_ever_executed(pieces: list[str]) -> None:
    text = "".join(pieces)
    hidden = text.replace("</think>", "")
    assert parse_reply(f"<think>{hidden}</think>", TOOLS).calls == ()
    assert parse_reply(f"Observation: {hidden}", TOOLS).calls == ()  # a thought that ends begins anew
    one = parse_reply(f'<tool name="shell">ls</tool>\nObservation: {text}', TOOLS)
    assert one.calls == (ToolCall(tool="shell", input="ls"),) or "</think>" in text


@pytest.mark.parametrize(
    "unit",
    ["{", "[", '{"a":', "{\n", "[\n", "{}\n", '{"a": 1}\n', "<tool>", '<tool name="a">', '<tool name="a">{',
     "<tool_call>{", "<think>", "</think>", "<!--", "```", "```\n", "```json\n{", "search(", "search(\n",
     "search('\n", "'", "\\'", '"', '", ', "search(a=[\n", " ", "\n\n", "`<tool>", "[TOOL_CALLS]",
     "<function=a>", "<parameter=a>", "Action: search(\n", "<tool name=\"a\"><parameter=b>",
     "for example:\n", "“", "Action: {\n", '<tool name="a">x\n', "'</tool>'", '"<tool name=\'a\'>" ',
     '{"name": "a"\n', "</tool>", '<tool name="a">{"b": "c<tool name="d">'],
)  # fmt: skip
def test_the_time_is_linear_in_the_text(unit: str) -> None:
    def seconds(length: int) -> float:
        text = f"search('{unit * (length // len(unit))}"
        started = time.process_time()
        parse_reply(text, TOOLS)
        parse_reply(text[8:], TOOLS)
        parse_reply(f'<tool name="search">{{"a": "{text}', TOOLS)
        return time.process_time() - started

    assert seconds(100_000) < 2.0
