"""What is one provider's own: model lists, pulling, embeddings, whole replies, odd parameters."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import pytest

from agentfactory.configs.chat_models import ChatModelSettings, CohereModelSettings, GoogleModelSettings
from agentfactory.configs.errors import SettingsError
from agentfactory.messages.chat import ChatRequest, FunctionSpec, ToolMessage, UserMessage
from agentfactory.messages.generation import SamplingSettings
from agentfactory.runtime.llm import open_model
from agentfactory.runtime.llm.errors import BrokenReply, ModelTimeout, ModelUnavailable, RateLimited
from tests.runtime.llm.model_server import KEY, KEY_ENV, WIRES, Act, Call, Wire, serving

HI = [UserMessage(text="hi")]
OPENAI, OLLAMA, ANTHROPIC, GOOGLE, COHERE = WIRES
EMBEDDINGS: dict[str, tuple[str, Callable[[list[list[float]]], dict[str, object]]]] = {
    "openai": (
        "embeddings",
        lambda vectors: {
            "object": "list",
            "model": "m",
            "data": [
                {"object": "embedding", "index": i, "embedding": v}
                for i, v in reversed([*enumerate(vectors)])
            ],
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        },
    ),
    "ollama": ("api/embed", lambda vectors: {"model": "m", "embeddings": vectors, "prompt_eval_count": 4}),
    "google": ("batchEmbedContents", lambda vectors: {"embeddings": [{"values": v} for v in vectors]}),
    "cohere": (
        "v2/embed",
        lambda vectors: {"id": "1", "response_type": "embeddings_by_type", "embeddings": {"float": vectors}},
    ),
}
LISTS: dict[str, tuple[str, dict[str, object]]] = {
    "openai": (
        "models",
        {"object": "list", "data": [{"id": "a", "object": "model", "created": 1, "owned_by": "x"}]},
    ),
    "ollama": ("api/tags", {"models": [{"model": "a"}]}),
    "anthropic": (
        "v1/models",
        {
            "data": [{"id": "a", "type": "model", "display_name": "A", "created_at": "2026-01-01T00:00:00Z"}],
            "has_more": False,
            "first_id": "a",
            "last_id": "a",
        },
    ),
    "google": ("models", {"models": [{"name": "models/a"}]}),
    "cohere": ("models", {"models": [{"name": "a"}]}),
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


@pytest.mark.parametrize("wire", [w for w in WIRES if w.name in EMBEDDINGS], ids=lambda wire: wire.name)
async def test_embeddings_are_unit_vectors_in_the_order_of_the_texts(wire: Wire) -> None:
    async with serving(wire) as server, open_model(wire.settings(server.url)) as model:
        ending, answer = EMBEDDINGS[wire.name]
        server.routes[ending] = answer([[3.0, 4.0], [0.0, 2.0]])
        found = await model.embed(["one", "two"])
        assert found.vectors == ((0.6, 0.8), (0.0, 1.0))
        assert model.statistics().prompt_tokens > 0
        with pytest.raises(BrokenReply, match="2 vectors for 1 texts"):
            await model.embed(["one"])


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_models_are_listed(wire: Wire) -> None:
    async with serving(wire) as server, open_model(wire.settings(server.url)) as model:
        ending, answer = LISTS[wire.name]
        server.routes[ending] = answer
        assert await model.models() == ("a",)


async def test_ollama_pulls_a_model_and_tells_how_far_it_is() -> None:
    async with serving(OLLAMA) as server, open_model(OLLAMA.settings(server.url)) as model:
        server.routes["api/pull"] = [
            {"status": "pulling manifest"},
            {"status": "pulling abc", "completed": 5, "total": 10},
            {"status": "success"},
        ]
        seen = [(p.status, p.completed, p.total) async for p in model.pull()]
    assert seen == [("pulling manifest", 0, 0), ("pulling abc", 5, 10), ("success", 0, 0)]
    assert server.seen[0].at("model") == "m"


async def test_ollama_is_told_the_context_so_that_it_cuts_nothing_by_itself() -> None:
    async with (
        serving(OLLAMA) as server,
        open_model(OLLAMA.settings(server.url, context_tokens=2048)) as model,
    ):
        await model.chat(HI, SamplingSettings(max_tokens=9))
    options = server.seen[0].at("options")
    assert options == {
        "num_ctx": 2048,
        "num_predict": 9,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "stop": [],
    }


async def test_an_error_in_the_middle_of_ollamas_stream_is_unavailable() -> None:
    async with serving(OLLAMA) as server:
        server.routes["api/chat"] = [
            {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
            {"error": "the runner has died"},
        ]
        async with open_model(OLLAMA.settings(server.url, retry={"attempts": 1})) as model:
            with pytest.raises(ModelUnavailable, match="the runner has died"):
                await model.chat(HI)


async def test_a_server_that_may_not_stream_is_asked_for_whole_replies() -> None:
    async with serving(OPENAI) as server:
        settings = OPENAI.settings(server.url, stream=False, retry={"pause_s": 0.001})
        server.script = [Act(then="broken", at_once=True), Act()]
        async with open_model(settings) as model:
            reply = await model.chat(HI)
            assert not model.capabilities.streaming
    assert (reply.text, reply.usage.completion_tokens, reply.usage.cached_tokens) == ("Hello", 5, 3)
    assert "stream" not in server.seen[0].body


async def test_openai_itself_is_spared_what_its_reasoning_models_refuse() -> None:
    async with serving(OPENAI) as server, open_model(OPENAI.settings(server.url, server="openai")) as model:
        await model.chat(HI, SamplingSettings(max_tokens=9))
    body = server.seen[0].body
    assert body["max_completion_tokens"] == 9
    assert not {"temperature", "top_p", "top_k", "max_tokens"} & set(body)


async def test_vllm_serves_adapters_by_name_and_log_probabilities() -> None:
    async with serving(OPENAI) as server, open_model(OPENAI.settings(server.url)) as model:
        base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "student-3"}
        token = {"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": []}
        choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
        chunk = base | {"choices": [choice | {"logprobs": {"content": [token]}}]}
        server.wire.frames = lambda act: [  # type: ignore[method-assign]
            f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
        ]
        try:
            request = ChatRequest(messages=tuple(HI), adapter="student-3", logprobs=True)
            reply = await model.ask(request)
        finally:
            del server.wire.frames
    assert [(t.text, t.logprob) for t in reply.tokens] == [("Hi", -0.5)]
    assert reply.usage.estimated
    assert server.seen[0].at("model") == "student-3"
    assert server.seen[0].at("top_k") == -1


async def test_what_anthropic_read_from_its_cache_counts_as_prompt() -> None:
    async with serving(ANTHROPIC) as server:
        prices = {"prompt": 10.0, "completion": 0.0, "cached_prompt": 1.0}
        async with open_model(ANTHROPIC.settings(server.url, prices=prices)) as model:
            reply = await model.chat(HI)
    assert (reply.usage.prompt_tokens, reply.usage.cached_tokens) == (11, 3)
    assert reply.cost == pytest.approx((8 * 10 + 3 * 1) / 1e6)


async def test_results_of_calls_made_together_go_to_anthropic_in_one_message() -> None:
    calls = (Call("id1", "f", {}), Call("id2", "f", {}))
    async with serving(ANTHROPIC) as server:
        server.script = [Act(calls=calls), Act()]
        async with open_model(ANTHROPIC.settings(server.url)) as model:
            reply = await model.chat(HI, tools=[FunctionSpec(name="f")])
            results = [ToolMessage(call_id=call.id, name="f", text=call.id) for call in reply.calls]
            await model.chat([*HI, reply.message, *results], tools=[FunctionSpec(name="f")])
    sent = server.seen[1].at("messages")
    assert isinstance(sent, list)
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert [block["tool_use_id"] for block in sent[2]["content"]] == ["id1", "id2"]


async def test_gemini_gets_its_thought_signatures_back() -> None:
    async with serving(GOOGLE) as server:
        server.script = [Act(calls=(Call("id1", "f", {"a": 1}),)), Act()]
        async with open_model(GOOGLE.settings(server.url)) as model:
            reply = await model.chat(HI, tools=[FunctionSpec(name="f")])
            result = ToolMessage(call_id="id1", name="f", text="ok")
            await model.chat([*HI, reply.message, result], tools=[FunctionSpec(name="f")])
    assert server.seen[1].at("contents", 1, "parts", 1, "thoughtSignature") == "c2lnbmVk"
    assert server.seen[1].at("contents", 2, "parts", 0, "functionResponse", "name") == "f"


async def test_cohere_takes_a_top_p_below_one_only() -> None:
    async with serving(COHERE) as server, open_model(COHERE.settings(server.url)) as model:
        await model.chat(HI)
    assert (server.seen[0].at("p"), server.seen[0].at("k")) == (0.99, 0)


async def test_our_own_rate_limit_refuses_what_could_not_start_in_time() -> None:
    async with serving(OPENAI) as server:
        settings = OPENAI.settings(server.url, limits={"requests_per_minute": 1}, timeout_s=5.0)
        async with open_model(settings) as model:
            await model.chat(HI)
            with pytest.raises(RateLimited, match="this call may wait 5"):
                await model.chat(HI)
    assert len(server.seen) == 1


async def test_a_call_that_waits_for_a_place_waits_no_longer_than_its_time() -> None:
    async with serving(OPENAI) as server:
        server.script = [Act(then="stall")]
        settings = OPENAI.settings(server.url, limits={"max_concurrent": 1}, timeout_s=0.5)
        async with open_model(settings) as model, asyncio.TaskGroup() as group:
            first = group.create_task(_outcome(model.chat(HI)))
            await server.under_way.wait()
            second = group.create_task(_outcome(model.chat(HI)))
    assert isinstance(first.result(), ModelTimeout)
    assert isinstance(second.result(), ModelTimeout)


async def _outcome(call: Awaitable[object]) -> object:
    try:
        return await call
    except ModelTimeout as error:
        return error


@pytest.mark.parametrize(
    "settings",
    [CohereModelSettings(model="m"), GoogleModelSettings(model="m"), OPENAI.settings("http://x")],
    ids=["cohere", "google", "openai"],
)
def test_a_missing_key_is_named_by_its_variable(
    settings: ChatModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CO_API_KEY", "GEMINI_API_KEY", KEY_ENV):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SettingsError, match=r"the environment variable \w+ is not set"):
        open_model(settings)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_a_missing_package_names_its_extra(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "google.genai" if wire.name == "google" else wire.name
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=rf"pip install 'agentfactory\[{wire.name}\]'"):
        open_model(wire.settings("http://x"))
