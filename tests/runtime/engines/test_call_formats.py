# ruff: noqa: E501 (replies stand as they are written)
"""Calls as models of all families write them, read back."""

import json
import os
import re

import pytest
from pydantic import JsonValue

from agentfactory.messages.chat import FunctionSpec, JsonObject
from agentfactory.runtime.engines.chat.argument_values import read_value
from agentfactory.runtime.engines.chat.call_parser import CallParser, TextAndCalls
from agentfactory.runtime.engines.chat.format import ChatFormat, ChatFormatError
from agentfactory.runtime.engines.chat.function_calling import write_functions
from tests.runtime.engines.test_chat_format import write_chatml
from tests.runtime.engines.test_chat_templates import TEMPLATES

SEARCH = FunctionSpec(
    name="search_docs",
    description="Search.",
    parameters={
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What for."},
            "first": {"type": "integer", "description": "From which on."},
            "weight": {"type": "number", "description": "How much."},
            "exact": {"type": "boolean", "description": "Whether."},
            "tags": {"type": "array", "items": {"type": "string"}, "description": "Which."},
            "where": {"type": "object", "properties": {}, "description": "Where."},
            "other": {"type": ["string", "null"], "description": "What else."},
        },
        "required": ["query"],
    },
)
CODE = FunctionSpec(
    name="run",
    description="Run.",
    parameters={"type": "object", "properties": {"code": {"type": "string", "description": "Python."}}},
)
FUNCTIONS = (SEARCH, CODE)
ARGUMENTS: dict[str, JsonObject] = {
    "plain": {"query": "tides", "first": 3},
    "all types": {
        "query": "tides", "first": -3, "weight": 0.25, "exact": True, "tags": ["a", "b"], "where": {"year": 1999},
    },
    "digits as text": {"query": "75001", "first": 2},
    "words of other types as text": {"query": "true", "exact": False},
    "unicode": {"query": "Tromsø 猫 🐈"},
    "punctuation": {"query": "a, b: {c} [d] <e> & f=(g)"},
    "double quotes": {"query": 'say "hi" now'},
    "lines": {"query": "one\n\n  two\n"},
    "nothing": {},
}  # fmt: skip

SILENT = {
    "cohere", "cohere2", "gemma", "gemma3", "idefics3", "lfm2", "llama3", "llava_next", "phi3", "phi3_5",
    "qwen2_5_vl", "smolvlm",
}  # fmt: skip
"""Templates that show no calls: there they are told as text."""
SPECIALS = re.compile(r"<\|(?:eot_id|im_start|im_end|eom|eot|start|end)\|>")


def strip(text: str) -> str:
    return SPECIALS.sub("", text)


@pytest.fixture(scope="module", params=TEMPLATES)
def chat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ChatFormat:
    folder = tmp_path_factory.mktemp("model")
    write_chatml(folder, TEMPLATES[request.param], bos_token="<bos>")
    chat = ChatFormat.load(folder)
    assert (chat.call_shape is None) == (request.param.removesuffix("_training") in SILENT)
    if chat.call_shape is None:
        pytest.skip("the template writes no calls")
    return chat


def written(chat: ChatFormat, *arguments: JsonObject) -> str:
    """What the template makes of an assistant's message with calls: the reply that it stands for."""
    asked: JsonObject = {"role": "user", "content": "Look it up."}
    calls: list[JsonValue] = [
        {"id": f"call0000{n}", "type": "function", "function": {"name": "search_docs", "arguments": given}}
        for n, given in enumerate(arguments)
    ]
    said: JsonObject = {"role": "assistant", "content": "", "tool_calls": calls}
    assert chat.call_shape is not None
    tools, template = write_functions(FUNCTIONS), chat._tools_template
    specials = {"bos_token": "<bos>"}
    prompt = template.render([asked], tools, specials)
    whole = template.render([asked, chat.call_shape(said)], tools, specials, add_generation_prompt=False)
    return whole[len(os.path.commonprefix([prompt, whole])) :]  # noqa: RUF071 -- texts, no paths


def read(chat: ChatFormat, reply: str) -> TextAndCalls:
    return CallParser(FUNCTIONS, strip, channels=chat.has_channels).read(reply)


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_a_call_that_a_template_writes_is_read_back(chat: ChatFormat, kind: str) -> None:
    reply = written(chat, ARGUMENTS[kind])
    calls = read(chat, reply).calls
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("search_docs", ARGUMENTS[kind])
    ], reply


def test_several_calls_that_a_template_writes_are_all_read_back(chat: ChatFormat) -> None:
    try:
        reply = written(chat, ARGUMENTS["all types"], ARGUMENTS["nothing"], ARGUMENTS["plain"])
    except ChatFormatError:
        pytest.skip("the template writes one call at a time")
    calls = read(chat, reply).calls
    if len(calls) == 1 and reply.count("search_docs") == 1:
        pytest.skip("the template writes the first call only")
    assert [json.loads(call.arguments) for call in calls] == [
        ARGUMENTS["all types"], ARGUMENTS["nothing"], ARGUMENTS["plain"]
    ], reply  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "text", "calls"),
    [
        # Hermes and its variants
        ('<tool_call>{"name":"run","parameters":{"code":"1"}}</tool_call>', "", [("run", {"code": "1"})]),
        ('<tool_call>{"name":"run","arguments":"{\\"code\\":\\"1\\"}"}</tool_call>', "", [("run", {"code": "1"})]),
        ('a <tool_call>[{"name": "run"}, {"name": "x"}]</tool_call> b', "a  b", [("run", {}), ("x", {})]),
        ('<tool_call>{"name": "run", "arguments": {"code": "1"}', "", [("run", {"code": "1"})]),
        ('<tool_call>{"type": "function", "function": {"name": "run"}}</tool_call>', "", [("run", {})]),
        ('<tool_calls>[{"name": "run", "arguments": {}}]</tool_calls>', "", [("run", {})]),
        ("<tool_call>{'name': 'run', 'arguments': {'code': 'a\\nb'}}</tool_call>", "", [("run", {"code": "a\nb"})]),
        ('<tool_call>\n```json\n{"name": "run"}\n```\n</tool_call>', "", [("run", {})]),
        # Qwen Coder
        ("<tool_call><function=run><parameter=code>1</parameter></function></tool_call>", "", [("run", {"code": "1"})]),
        ("<function=search_docs><parameter=first>3</parameter></function>", "", [("search_docs", {"first": 3})]),
        ("<tool_call>\n<function=run>\n<parameter=code>\n1\n</parameter>\n</tool_call>", "", [("run", {"code": "1"})]),
        ("<tool_call>\n<function=run>\n</function>\n</tool_call>", "", [("run", {})]),
        ("<seed:tool_call><function=run></function></seed:tool_call>", "", [("run", {})]),
        # MiniMax, Anthropic
        (
            '<minimax:tool_call><invoke name="search_docs"><parameter name="exact">true</parameter></invoke></minimax:tool_call>',
            "", [("search_docs", {"exact": True})],
        ),
        # GLM
        (
            "<tool_call>search_docs\n<arg_key>first</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
            "", [("search_docs", {"first": 3})],
        ),
        ("<tool_call>run</tool_call>", "", [("run", {})]),
        # Mistral
        ('[TOOL_CALLS] [{"name": "run", "arguments": {"code": "1"}, "id": "abcdefghi"}]', "", [("run", {"code": "1"})]),
        ('[TOOL_CALLS]run[ARGS]{"code": "1"}', "", [("run", {"code": "1"})]),
        ('[TOOL_CALLS]run[CALL_ID]abcdefghi[ARGS]{"code": "1"}[TOOL_CALLS]x[ARGS]{}', "", [("run", {"code": "1"}), ("x", {})]),
        # Llama
        ('{"name": "run", "parameters": {"code": "1"}}', "", [("run", {"code": "1"})]),
        ('{"name": "run", "parameters": {}}; {"name": "run", "parameters": {"code": "2"}}', "", [("run", {}), ("run", {"code": "2"})]),
        ('<|python_tag|>{"name": "run", "parameters": {}}', "", [("run", {})]),
        ('<|python_tag|>[run(code="1")]', "", [("run", {"code": "1"})]),
        ('[run(code="1"), search_docs(query="x", first=2)]', "", [("run", {"code": "1"}), ("search_docs", {"query": "x", "first": 2})]),
        # DeepSeek
        (
            "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>run<｜tool▁sep｜>{\"code\": \"1\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "Let me see.<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>", [("run", {"code": "1"})],
        ),
        (
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>run\n```json\n{\"code\": \"1\"}\n```<｜tool▁call▁end｜>",
            "", [("run", {"code": "1"})],
        ),
        # Kimi
        (
            '<|tool_call_begin|>functions.run:0<|tool_call_argument_begin|>{"code": "1"}<|tool_call_end|>',
            "", [("run", {"code": "1"})],
        ),
        # Cohere
        (
            '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "run", "parameters": {"code": "1"}}]<|END_ACTION|>',
            "", [("run", {"code": "1"})],
        ),
        ('Action: ```json\n[{"tool_name": "run", "parameters": {"code": "1"}}]\n```', "", [("run", {"code": "1"})]),
        # Granite, Phi, InternLM, Apertus
        ('<|tool_call|>[{"name": "run", "arguments": {"code": "1"}}]', "", [("run", {"code": "1"})]),
        ('<|tool_call|>[{"name": "run", "arguments": {}}]<|/tool_call|>', "", [("run", {})]),
        ('functools[{"name": "run", "arguments": {}}]', "", [("run", {})]),
        ('<|action_start|><|plugin|>{"name": "run", "parameters": {}}<|action_end|>', "", [("run", {})]),
        ('<|tools_prefix|>[{"run": {"code": "1"}}]<|tools_suffix|>', "", [("run", {"code": "1"})]),
        # Gemma
        ("<start_function_call>call:run{code:<escape>1, 2<escape>}<end_function_call>", "", [("run", {"code": "1, 2"})]),
        ("```tool_code\nrun(code='1')\n```", "", [("run", {"code": "1"})]),
        # agents' plain forms
        ('I look.\n<tool name="run">{"code": "1"}</tool>', "I look.", [("run", {"code": "1"})]),
        ('<tool name="run">1 + 1</tool>', "", [("run", {"code": "1 + 1"})]),
        ('<tool name="search_docs">{"query": "x", "first": 2}</tool>', "", [("search_docs", {"query": "x", "first": 2})]),
        ("Thought: I look.\nAction: run\nInput: 1 + 1", "I look.", [("run", {"code": "1 + 1"})]),
        ('Action: search_docs\nInput: {"query": "x"}', "", [("search_docs", {"query": "x"})]),
        ('I look.\nrun("1 + 1")', "I look.", [("run", {"code": "1 + 1"})]),
        ('search_docs(query="x", first=2)', "", [("search_docs", {"query": "x", "first": 2})]),
        ('```python\nrun("1")\n```', "", [("run", {"code": "1"})]),
        # thoughts are no calls
        ('<think>or <tool_call>{"name": "x"}</tool_call>?</think>No.', '<think>or <tool_call>{"name": "x"}</tool_call>?</think>No.', []),
        (
            '<tool_call>{"name": "x"}</tool_call>?</think><tool_call>{"name": "run"}</tool_call>',
            '<tool_call>{"name": "x"}</tool_call>?</think>', [("run", {})],
        ),
        # no calls
        ("Answer: 4", "Answer: 4", []),
        ("<tool_call>not JSON</tool_call>", "<tool_call>not JSON</tool_call>", []),
        ('<tool_call>{"arguments": {}}</tool_call>', '<tool_call>{"arguments": {}}</tool_call>', []),
        ("<tool_call>", "<tool_call>", []),
        ('<tool_call>{"name": "run", "arguments": {"code": "1', '<tool_call>{"name": "run", "arguments": {"code": "1', []),
        ('{"name": "elsewhere", "parameters": {}}', '{"name": "elsewhere", "parameters": {}}', []),
        ("Action: elsewhere\nInput: 1", "Action: elsewhere\nInput: 1", []),
        ("print(1)", "print(1)", []),
        ('<tool_call>{"name": "run", "arguments": {"code": 1e999}}</tool_call>', '<tool_call>{"name": "run", "arguments": {"code": 1e999}}</tool_call>', []),
    ],
)  # fmt: skip
def test_each_familys_form_is_read(reply: str, text: str, calls: list[tuple[str, JsonObject]]) -> None:
    found = CallParser(FUNCTIONS).read(reply)
    assert [(call.name, json.loads(call.arguments)) for call in found.calls] == calls
    assert found.text == text


@pytest.mark.parametrize(
    ("reply", "text", "calls"),
    [
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi.",
            "Hi.",
            0,
        ),
        ("<|channel|>final<|message|>Hi.<|return|>", "Hi.", 0),
        ("<|channel|>analysis<|message|>Hm", "", 0),
        ("Hi.", "Hi.", 0),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look."
            "<|end|><|start|>assistant<|channel|>commentary to=functions.run <|constrain|>json<|message|>"
            '{"code": "1"}<|call|>',
            "I look.",
            1,
        ),
        (' to=functions.run<|channel|>commentary json<|message|>{"code": "1"}<|call|>', "", 1),
        (" to=user<|message|>Hi.<|eot|>", "Hi.", 0),
    ],
)
def test_of_a_reply_in_channels_the_answer_is_shown(reply: str, text: str, calls: int) -> None:
    found = CallParser(FUNCTIONS, channels=True).read(reply)
    assert (found.text, len(found.calls)) == (text, calls)
    if not calls:
        assert CallParser((), channels=True).read(reply).text == text


@pytest.mark.parametrize(
    "opening",
    ["<tool_call>", "<tool_call>{", "[TOOL_CALLS][", "<function=f>", "<parameter=a>", "<think>", "to=a", "<｜tool▁call▁begin｜>f",
     "<tool_call>f<arg_key>a</arg_key>", "<|tool_call>call:f{", '{"name":', "```", "<function=f><parameter=a>"],
)  # fmt: skip
def test_a_reply_that_opens_calls_without_end_is_read_to_its_end(opening: str) -> None:
    reply = opening * (50_000 // len(opening))
    assert len(CallParser(FUNCTIONS).read(reply).calls) <= len(reply)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("3", {"type": "integer"}, 3),
        ("3", {"type": "string"}, "3"),
        ("3", {}, 3),
        ("x", {}, "x"),
        ("x", {"type": "integer"}, "x"),
        ("3.5", {"type": "integer"}, "3.5"),
        ("3", {"type": "number"}, 3),
        ("True", {"type": "boolean"}, True),
        ("1", {"type": "boolean"}, "1"),
        ("null", {"type": ["integer", "null"]}, None),
        ("null", {"type": "string"}, "null"),
        ("[1]", {"type": "array"}, [1]),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("7", {"anyOf": [{"type": "integer"}, {"type": "string"}]}, 7),
        ("7", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "7"),
        ("7", {"enum": ["7", "8"]}, "7"),
        ("1e999", {"type": "number"}, "1e999"),
        ("NaN", {}, "NaN"),
        (" padded ", {"type": "string"}, " padded "),
        ("[" * 5000, {}, "[" * 5000),
    ],
)
def test_a_value_between_tags_has_its_parameters_type(text: str, schema: JsonObject, value: object) -> None:
    assert read_value(text, {"properties": {"a": schema}}, "a") == value
