"""OpenAI's schema: our client reads what our server writes, and the types of `openai` agree with both."""

import pytest
from pydantic import TypeAdapter

from agentfactory.cluster.serving.response_schema import ResponseHead, chat_logprobs
from agentfactory.messages.chat import (
    AssistantMessage,
    FunctionCall,
    FunctionSpec,
    JsonObject,
    SystemMessage,
    TokenLogprob,
    ToolMessage,
    Usage,
    UserMessage,
)
from agentfactory.runtime.llm.backends.base import StreamAccumulator
from agentfactory.runtime.llm.openai_schema import (
    ChatCompletionChunk,
    read_chunk,
    write_calls,
    write_messages,
    write_tools,
)

CALLS = (
    FunctionCall(id="c1", name="weather", arguments='{"town": "Oslo"}'),
    FunctionCall(id="c2", name="weather", arguments='{"town": "Bergen"}'),
)
TOKENS = (TokenLogprob(text="hi", logprob=-0.5),)
USAGE = Usage(prompt_tokens=11, completion_tokens=5, cached_tokens=3)
TALK = (
    SystemMessage(text="Be brief."),
    UserMessage(text="Rain?"),
    AssistantMessage(text="", calls=CALLS),
    ToolMessage(call_id="c1", name="weather", text="rain"),
    ToolMessage(call_id="c2", name="weather", text="sun"),
)


def whole() -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": "hi", "tool_calls": write_calls(CALLS)}
    choice: JsonObject = {
        "index": 0,
        "message": message,
        "logprobs": chat_logprobs(TOKENS),
        "finish_reason": "tool_calls",
    }
    return ResponseHead.new("chatcmpl", "m").body("chat.completion", [choice], USAGE)


def chunks() -> list[JsonObject]:
    head = ResponseHead.new("chatcmpl", "m")
    deltas: list[JsonObject] = [{"content": "hi"}, {"tool_calls": write_calls(CALLS, numbered=True)}, {}]
    made: list[JsonObject] = [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas
    ]
    made[0]["logprobs"] = chat_logprobs(TOKENS)
    made[-1]["finish_reason"] = "tool_calls"
    bodies = [head.body("chat.completion.chunk", [choice]) for choice in made]
    return [*bodies, head.body("chat.completion.chunk", [], USAGE)]


@pytest.mark.parametrize("bodies", [[whole()], chunks()], ids=["whole", "streamed"])
def test_our_client_reads_what_our_server_writes(bodies: list[JsonObject]) -> None:
    accumulator = StreamAccumulator()
    text = [read_chunk(accumulator, ChatCompletionChunk.model_validate(body)) for body in bodies]
    reply = accumulator.reply()
    assert ("".join(text), reply.text, reply.finish_reason) == ("hi", "hi", "calls")
    assert (reply.calls, reply.tokens, reply.usage, reply.model) == (CALLS, TOKENS, USAGE, "m")


def test_the_types_of_openai_agree_with_what_is_written() -> None:
    types = pytest.importorskip("openai.types.chat")
    reply = types.ChatCompletion.model_validate(whole(), strict=True)
    assert [call.function.name for call in reply.choices[0].message.tool_calls] == ["weather", "weather"]
    assert reply.usage.prompt_tokens_details.cached_tokens == 3
    for body in chunks():
        types.ChatCompletionChunk.model_validate(body, strict=True)
    talk = TypeAdapter(list[types.ChatCompletionMessageParam]).validate_python(write_messages(TALK))
    assert [message["role"] for message in talk] == ["system", "user", "assistant", "tool", "tool"]
    tools = write_tools([FunctionSpec(name="weather", description="The weather.", parameters={})])
    assert TypeAdapter(list[types.ChatCompletionToolUnionParam]).validate_python(tools)
