"""Whatever a client sends, the answer is 200 or says what is wrong with it: never a failure of ours."""

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentfactory.cluster.serving.generation import Sampler
from agentfactory.cluster.serving.routes import build
from agentfactory.cluster.serving.served_model import ServedModel
from agentfactory.configs.http_servers import ServingSettings
from agentfactory.configs.models import SEED_MODEL, ModelSettings, TransformersEngineSettings
from agentfactory.runtime.engines.actor import InferenceEngine
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.system import ActorSystem

EXAMPLES = 60
CHAT = ChatFormat.load(SEED_MODEL)

texts = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "",
        "\0",
        "\ufeff",
        "<eos>",
        "a\ud83d b",
        "{{ 1 / 0 }}",
        "<tool_call>",
        "</think>",
        "Action: f\nInput: 1",
    ]
)
numbers = st.sampled_from([
    0, 1, 2, -1, 0.5, 1.0, 5e-324, 1e-300, 1e-45, 1e300, -1e300, 2**31, 2**63, 10**30, -(10**30),
    float("inf"), float("nan"), True, False, None, "1", "",
])  # fmt: skip
leaves = texts | numbers
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
functions = st.fixed_dictionaries(
    {"name": st.sampled_from(["f", "python"]) | texts},
    optional={"description": leaves, "parameters": anything, "strict": leaves},
)
tools = st.lists(
    st.fixed_dictionaries({"type": st.just("function") | leaves, "function": functions}) | anything,
    max_size=2,
)
calls = st.fixed_dictionaries({
    "id": st.just("c1") | leaves,
    "type": st.just("function"),
    "function": st.fixed_dictionaries({
        "name": st.sampled_from(["f"]) | leaves,
        "arguments": st.sampled_from(
            ["{}", '{"a": 1}', "[", '{"a": NaN}', '{"a": 1e400}', '{"a": "\\ud83d"}', '"x"']
        ) | anything,
    }),
})  # fmt: skip
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "system", "assistant", "tool", "developer"]),
        "content": texts
        | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), max_size=2)
        | anything,
    },
    optional={
        "tool_calls": st.lists(calls, max_size=2) | leaves,
        "tool_call_id": st.just("c1") | leaves,
        "name": leaves,
    },
)
common = {
    "temperature": numbers, "top_p": numbers, "top_k": numbers, "seed": numbers, "n": numbers | st.just(2),
    "stop": texts | st.lists(texts, max_size=5) | leaves, "stream": st.booleans() | leaves,
    "stream_options": anything, "logprobs": numbers, "user": anything, "unknown": anything,
}  # fmt: skip
chats = st.fixed_dictionaries(
    {
        "model": st.just("seed"),
        "max_tokens": st.integers(1, 4),
        "messages": st.lists(messages, min_size=1, max_size=3),
    },
    optional=common
    | {"tools": tools, "tool_choice": leaves, "response_format": anything, "metadata": anything},
)
completions = st.fixed_dictionaries(
    {
        "model": st.just("seed"),
        "max_tokens": st.integers(1, 4),
        "prompt": texts | st.lists(texts, max_size=3) | st.lists(st.integers(-2, 300), max_size=5) | anything,
    },
    optional=common | {"best_of": numbers, "echo": leaves, "suffix": leaves},
)
embeddings = st.fixed_dictionaries(
    {"model": st.just("ngrams"), "input": texts | st.lists(texts, max_size=3) | anything},
    optional={"encoding_format": leaves | st.just("base64"), "dimensions": numbers, "user": anything},
)
bodies = (
    st.tuples(st.just("/v1/chat/completions"), chats)
    | st.tuples(st.just("/v1/completions"), completions)
    | st.tuples(st.just("/v1/embeddings"), embeddings)
)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
async def test_no_body_makes_the_server_fail() -> None:
    found: list[tuple[str, object]] = []

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(bodies)
    def draw(body: tuple[str, object]) -> None:
        found.append(body)

    draw()
    serving = ServingSettings.model_validate({"embedder": "ngrams", "max_prompts": 4})
    async with ActorSystem.open("local") as system:
        engine = await system.spawn(
            InferenceEngine, ModelSettings(), TransformersEngineSettings(), name="engine"
        )
        app = build(ServedModel(Sampler(engine, {}, 30.0), CHAT, {"seed": None}, serving), ())
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for path, body in found:
                await answered(client, path, body)


async def answered(client: httpx.AsyncClient, path: str, body: object) -> None:
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    answer = await client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400), (path, body, answer.text)
    if answer.headers["Content-Type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n"), (path, body, answer.text)
    elif answer.status_code == 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
