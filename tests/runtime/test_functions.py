"""Functions in a model's own words."""

import json
from pathlib import Path

import pytest

from configs.models import SEED_MODEL
from messages.chat import AssistantMessage, BadArguments, FunctionCall, FunctionSpec, ToolMessage, UserMessage
from runtime.engines.chat import ChatFormat
from runtime.engines.functions import read_calls, write_conversation, write_functions
from tests.runtime.test_chat import spelled, write_chatml

WITH_TOOLS = (
    "{%- if tools -%}{{- 'Tools:' -}}{%- for tool in tools -%}{{- tool | tojson -}}{%- endfor -%}"
    "{{- '\\n' -}}{%- endif -%}"
    "{%- for message in messages -%}{{- message.role + ': ' + message.content -}}"
    "{%- for call in message.tool_calls or [] -%}{{- call.function.arguments.town -}}{%- endfor -%}"
    "{{- '\\n' -}}{%- endfor -%}"
)
WEATHER = FunctionSpec(name="weather", description="The weather of a town.")


def test_calls_are_read_and_the_text_around_them_stays() -> None:
    written = (
        'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"town": "Oslo"}}\n</tool_call>\n'
        '<tool_call>{"name": "time"}</tool_call>'
    )
    read = read_calls(written)
    assert read.text == "Let me see."
    assert [(call.name, json.loads(call.arguments)) for call in read.calls] == [
        ("weather", {"town": "Oslo"}),
        ("time", {}),
    ]
    assert len({call.id for call in read.calls}) == 2


@pytest.mark.parametrize(
    "written",
    ["plain", "<tool_call>not JSON</tool_call>", '<tool_call>{"arguments": {}}</tool_call>', "<tool_call>"],
)
def test_what_is_no_call_stays_text(written: str) -> None:
    assert read_calls(written) == (written, ())


def test_a_last_call_needs_no_closing_mark() -> None:
    assert [call.name for call in read_calls('<tool_call>\n{"name": "weather", "arguments": {}}').calls] == [
        "weather"
    ]


def test_a_template_says_whether_it_has_a_place_for_functions(tmp_path: Path) -> None:
    write_chatml(tmp_path, WITH_TOOLS)
    assert ChatFormat.load(tmp_path).takes_functions
    assert not ChatFormat.load(SEED_MODEL).takes_functions


def test_functions_calls_and_results_reach_the_template(tmp_path: Path) -> None:
    write_chatml(tmp_path, WITH_TOOLS)
    chat = ChatFormat.load(tmp_path)
    call = FunctionCall(id="c1", name="weather", arguments='{"town": "Oslo"}')
    messages = [
        UserMessage(text="Oslo?"),
        AssistantMessage(calls=(call,)),
        ToolMessage(call_id="c1", name="weather", text="rain"),
    ]
    prompt = chat.opening_with_functions(write_conversation(messages), write_functions([WEATHER]))
    text = spelled(chat, tmp_path, prompt)
    assert text.startswith('Tools:{"type": "function", "function": {"name": "weather", ')
    assert text.endswith("\nuser: Oslo?\nassistant: Oslo\ntool: rain\n")


def test_arguments_that_are_no_object_are_refused_before_the_template_sees_them() -> None:
    call = FunctionCall(id="c1", name="weather", arguments="Oslo")
    with pytest.raises(BadArguments, match="not JSON"):
        write_conversation([AssistantMessage(calls=(call,))])
