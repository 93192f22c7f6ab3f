"""Functions in a model's own words."""

from pathlib import Path

import pytest

from agentfactory.configs.models import SEED_MODEL
from agentfactory.messages.chat import (
    AssistantMessage,
    BadArguments,
    FunctionCall,
    FunctionSpec,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.engines.chat.function_calling import (
    open_conversation,
    write_conversation,
    write_functions,
)
from tests.runtime.engines.test_chat_format import CHATML, spelled, write_chatml

WITH_TOOLS = (
    "{%- if tools -%}{{- 'Tools:' -}}{%- for tool in tools -%}{{- tool | tojson -}}{%- endfor -%}"
    "{{- '\\n' -}}{%- endif -%}"
    "{%- for message in messages -%}{{- message.role + ': ' + message.content -}}"
    "{%- for call in message.tool_calls or [] -%}{{- call.function.arguments.town -}}{%- endfor -%}"
    "{{- '\\n' -}}{%- endfor -%}"
)
WEATHER = FunctionSpec(name="weather", description="The weather of a town.")


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


PYTHON = FunctionSpec(
    name="python",
    description="Runs Python.",
    parameters={"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
)


def test_where_the_template_has_no_place_for_functions_they_are_told_as_text(tmp_path: Path) -> None:
    write_chatml(tmp_path)
    chat = ChatFormat.load(tmp_path)
    messages = [
        SystemMessage(text="Be brief."),
        UserMessage(text="Oslo?"),
        AssistantMessage(
            text="I look.",
            calls=(
                FunctionCall(id="c1", name="weather", arguments='{"town": "Oslo", "days": 2}'),
                FunctionCall(id="c2", name="python", arguments='{"code": "1 + 1"}'),
            ),
        ),
        ToolMessage(call_id="c1", name="weather", text="rain"),
        ToolMessage(call_id="c2", name="python", text="2"),
    ]
    text = spelled(chat, tmp_path, open_conversation(chat, messages, [WEATHER, PYTHON]))
    assert text.startswith("<|im_start|>system\nBe brief.\n\nYou may call these tools.")
    assert "- weather(): The weather of a town.\n- python(code: string): Runs Python.<|im_end|>" in text
    assert text.endswith(
        "<|im_start|>assistant\nI look.\nAction: weather\n"
        'Input: {"town": "Oslo", "days": 2}\nAction: python\nInput: 1 + 1<|im_end|>\n'
        "<|im_start|>user\nObservation: rain\nObservation: 2<|im_end|>\n<|im_start|>assistant\n"
    )
    alone = spelled(chat, tmp_path, open_conversation(chat, messages, ()))
    assert "You may call" not in alone
    assert "Observation: rain" in alone


def test_the_seed_models_read_calls_and_results_as_they_were_taught() -> None:
    chat = ChatFormat.load(SEED_MODEL)
    messages = [
        UserMessage(text="Task: What is 12*7?"),
        AssistantMessage(calls=(FunctionCall(id="c", name="python", arguments='{"code": "12*7"}'),)),
        ToolMessage(call_id="c", name="python", text="84"),
    ]
    told = chat.decode(open_conversation(chat, messages, [PYTHON]))
    assert told == "Task: What is 12*7?\nAction: python\nInput: 12*7\nObservation: 84\n"


def test_a_template_that_shows_functions_but_no_calls_gets_the_calls_as_text(tmp_path: Path) -> None:
    listing = "{%- for tool in tools or [] -%}{{- tool.function.name + '\\n' -}}{%- endfor -%}"
    write_chatml(tmp_path, listing + CHATML.replace("message['content']", "(message['content'] or '')"))
    chat = ChatFormat.load(tmp_path)
    assert chat.call_shape is None
    messages = [
        UserMessage(text="Oslo?"),
        AssistantMessage(calls=(FunctionCall(id="c1", name="weather", arguments='{"town": "Oslo"}'),)),
        ToolMessage(call_id="c1", name="weather", text="rain"),
    ]
    text = spelled(chat, tmp_path, open_conversation(chat, messages, [WEATHER]))
    assert text.startswith("weather\n<|im_start|>")
    assert 'assistant\nAction: weather\nInput: {"town": "Oslo"}<|im_end|>' in text
    assert "user\nObservation: rain<|im_end|>" in text


@pytest.mark.parametrize("arguments", ['{"x": NaN}', '{"x": [Infinity]}', '{"x": -Infinity}'])
def test_arguments_that_no_reader_of_json_takes_are_refused(arguments: str) -> None:
    with pytest.raises(BadArguments, match="is no JSON"):
        FunctionCall(id="1", name="f", arguments=arguments).parsed()
