"""Text in pieces, and calls, through a byte-level tokenizer."""

import json
import random
from pathlib import Path

import pytest

from agentfactory.messages.chat import FunctionSpec
from agentfactory.runtime.engines.chat.call_parser import CallParser
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.engines.chat.incremental_decoder import IncrementalDecoder
from agentfactory.runtime.engines.simulated import ScriptedEngine
from tests.cluster.http_serving import SEED, asking, served
from tests.runtime.engines.test_chat_format import write_chatml
from tests.runtime.engines.test_function_calling import WITH_TOOLS

CALL = '<tool_call>\n{"name": "weather", "arguments": {"town": "Oslo"}}\n</tool_call>'
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


LOOKED_UP = FunctionSpec(name="weather", parameters={"type": "object", "properties": {"town": {}}})
REPLIES = (
    f"See: {CALL}",
    f"<think>Hm.</think>\n\nSee. {CALL}\n{CALL}",
    "See [1] and a < b, `x`.\nOne.\n[TOOL_CALLS]weather[ARGS]{}",
    'I look.\n<tool name="weather">{"town": "Oslo"}</tool>',
    "Thought: See.\nAction: weather\nInput: Oslo",
    'See:\nweather(town="Oslo")',
    "<|tool_call_start|>[weather(town='Oslo')]<|tool_call_end|>",
    "<tool_call>\n<function=weather>\n<parameter=town>\nOslo\n</parameter>\n</function>\n</tool_call>",
    '{"name": "weather", "parameters": {"town": "Oslo"}}',
    "a <tool_ca b, to=x, acting weather.",
    "weather is fine\nfunctools are, too",
    "```python\nprint(1)\n```\nDone.",
    '{"town": "Oslo"}',
)


def in_pieces(text: str, sizes: random.Random, stops: tuple[str, ...], *functions: FunctionSpec) -> list[str]:
    reply, ids, pieces = IncrementalDecoder.of(SEED, stops, functions), SEED.encode(text), list[str]()
    while ids:
        size = sizes.randint(1, 4)
        pieces.append(reply.add(ids[:size]))
        ids = ids[size:]
    rest = reply.finish()
    return [*pieces, rest.text, *(f"{call.name}({call.arguments})" for call in rest.calls)]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_put_together_are_the_whole_whatever_their_sizes(seed: int) -> None:
    sizes = random.Random(seed)
    for text, expected in (
        ("a 猫 and a 🐈", "a 猫 and a 🐈"),
        ("one STO two STOP three", "one STO two "),
        ("ends with ST", "ends with ST"),
        ("ENDSTOP", ""),
    ):
        assert "".join(in_pieces(text, sizes, ("STOP", "END"))) == expected


@pytest.mark.parametrize("reply", REPLIES)
def test_calls_are_found_in_pieces_as_in_the_whole_and_no_piece_shows_one(reply: str) -> None:
    whole = CallParser([LOOKED_UP]).read(reply)
    for seed in range(10):
        pieces = in_pieces(reply, random.Random(seed), (), LOOKED_UP)
        found = [f"{call.name}({call.arguments})" for call in whole.calls]
        assert pieces[len(pieces) - len(found) :] == found
        text = "".join(pieces[: len(pieces) - len(found)])
        assert text.rstrip().endswith(whole.text), "a ReAct label may stand before it"
        if found:
            assert "Oslo" not in text
            assert "weather" not in text


def test_text_before_a_call_comes_as_it_is_written() -> None:
    reply = IncrementalDecoder.of(SEED, (), [LOOKED_UP])
    pieces = [reply.add((token,)) for token in SEED.encode(f"It is a fine day. {CALL}")]
    assert "".join(pieces[:12]) == "It is a fine"


def test_no_piece_shows_half_a_character_or_what_may_become_a_stop_string() -> None:
    reply = IncrementalDecoder.of(SEED, ("\n\n",), ())
    pieces = [reply.add((token,)) for token in SEED.encode("é\nx\n\ny")]
    assert pieces == ["", "é", "", "\nx", "", "", ""]
    assert reply.finish() == ("", ())


@pytest.fixture
def chat(tmp_path: Path) -> ChatFormat:
    write_chatml(tmp_path, WITH_TOOLS)
    return ChatFormat.load(tmp_path)


async def test_calls_come_whole_and_in_streams_and_their_results_go_back(chat: ChatFormat) -> None:
    engine = ScriptedEngine([f"I look.\n{CALL}", CALL, "It rains."], chat)
    async with served(engine, chat=chat) as there:
        create = there.client.chat.completions.create
        question = asking("Oslo?")
        whole = await create(model="seed", messages=question, tools=[WEATHER])  # type: ignore[call-overload]
        (choice,) = whole.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look.\n")
        (call,) = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"town": "Oslo"})

        stream = await create(model="seed", messages=question, tools=[WEATHER], stream=True)  # type: ignore[call-overload]
        deltas = [chunk.choices[0] async for chunk in stream]
        assert [d.delta.tool_calls[0].function.name for d in deltas if d.delta.tool_calls] == ["weather"]
        assert "".join(d.delta.content or "" for d in deltas) == ""
        assert deltas[-1].finish_reason == "tool_calls"

        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        told = [*question, choice.message, result]
        reply = await create(model="seed", messages=told, tools=[WEATHER])  # type: ignore[call-overload]
        assert reply.choices[0].message.content == "It rains."
    prompt = chat.decode(engine.seen[-1].prompt_ids)
    assert prompt.startswith('Tools:{"type": "function", "function": {"name": "weather"')
    assert prompt.endswith("user: Oslo?\nassistant: I look.\nOslo\ntool: rain\n")


@pytest.mark.parametrize("strict", [True, False, None])
async def test_a_function_that_wants_its_schema_kept_is_taken_as_any_other(
    chat: ChatFormat, strict: bool | None
) -> None:
    tool = {"type": "function", "function": {"name": "weather", "strict": strict}}
    async with served(ScriptedEngine([CALL], chat), chat=chat) as there:
        create = there.client.chat.completions.create
        reply = await create(model="seed", messages=asking(), tools=[tool])  # type: ignore[call-overload]
    assert reply.choices[0].finish_reason == "tool_calls"


async def test_functions_that_may_not_be_called_are_not_told_of(chat: ChatFormat) -> None:
    engine = ScriptedEngine([CALL], chat)
    async with served(engine, chat=chat) as there:
        reply = await there.client.chat.completions.create(  # type: ignore[call-overload]
            model="seed", messages=asking("Oslo?"), tools=[WEATHER], tool_choice="none"
        )
    assert reply.choices[0].message.content == CALL
    assert "Tools:" not in chat.decode(engine.seen[-1].prompt_ids)


PYTHON = {
    "type": "function",
    "function": {
        "name": "python",
        "parameters": {"type": "object", "properties": {"code": {"type": "string"}}},
    },
}


@pytest.mark.parametrize(
    "said",
    ["I look.\nAction: python\nInput: 2+2", 'I look.\n<tool name="python">{"code": "2+2"}</tool>'],
)
async def test_a_model_whose_template_knows_no_tools_calls_them_in_plain_text(said: str) -> None:
    engine = ScriptedEngine([said, "Thought: Done.\nAnswer: 4"], SEED)
    async with served(engine) as there:
        create = there.client.chat.completions.create
        first = await create(model="seed", messages=asking(), tools=[PYTHON])  # type: ignore[call-overload]
        (choice,) = first.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content.strip() == "I look."
        (call,) = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("python", {"code": "2+2"})
        told = [*asking(), choice.message, {"role": "tool", "tool_call_id": call.id, "content": "4"}]
        last = await create(model="seed", messages=told, tools=[PYTHON])  # type: ignore[call-overload]
        assert last.choices[0].message.content == "Thought: Done.\nAnswer: 4"
    prompt = SEED.decode(engine.seen[-1].prompt_ids)
    assert prompt.endswith("I look.\nAction: python\nInput: 2+2\nObservation: 4\n")
