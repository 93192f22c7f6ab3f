"""Bodies that no client should send, and several replies to one request."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import pytest_asyncio

from agentfactory.cluster.serving.completions import interleave
from agentfactory.cluster.serving.json_body import MAX_DEPTH
from agentfactory.messages.generation import Completion, Generate
from agentfactory.runtime.engines.base import EngineError, OnTokens
from agentfactory.runtime.engines.simulated import ScriptedEngine
from tests.cluster.http_serving import SEED, Served, asking, served

pytestmark = pytest.mark.asyncio
JSON = {"Content-Type": "application/json"}
LIMIT_S = 180.0


class SeededEngine(ScriptedEngine):
    """Answers with the seed that it was asked for."""

    async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
        text = f"Answer: {request.sampling.seed}"
        self._reply = lambda prompt, adapter: text  # read before anything is awaited
        return await super().generate(request, on_tokens)


def numbered() -> ScriptedEngine:
    return ScriptedEngine(lambda prompt, adapter: "Answer: 4", SEED)


@pytest_asyncio.fixture
async def there() -> AsyncIterator[Served]:
    async with served(numbered()) as there:
        yield there


async def post(there: Served, path: str, content: bytes) -> httpx.Response:
    async with httpx.AsyncClient(base_url=there.url, timeout=LIMIT_S) as plain:
        return await plain.post(path, content=content, headers=JSON)


HALF = rb'"a\ud83d b"'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", b'{"model": "seed", "messages": [{"role": "user", "content": %s}]}'),
        ("/chat/completions", b'{"model": %s, "messages": [{"role": "user", "content": "x"}]}'),
        ("/chat/completions", b'{"model": "seed", "messages": [{"role": "user", "content": "x"}], %s: 1}'),
        (
            "/chat/completions",
            b'{"model": "seed", "messages": [{"role": "user", "content": "x"}], "tools": '
            b'[{"type": "function", "function": {"name": "f", "description": %s}}]}',
        ),
        (
            "/chat/completions",
            b'{"model": "seed", "stop": %s, "messages": [{"role": "user", "content": "x"}]}',
        ),
        ("/completions", b'{"model": "seed", "prompt": %s}'),
        ("/completions", b'{"model": "seed", "prompt": ["x", %s]}'),
        ("/embeddings", b'{"model": "ngrams", "input": %s}'),
        ("/embeddings", b'{"model": "ngrams", "input": ["x", %s]}'),
    ],
)
async def test_half_a_character_is_refused_wherever_it_stands(there: Served, path: str, body: bytes) -> None:
    for half in (HALF, rb'"\udc00"', b'"\xed\xa0\xbd"'):
        answer = await post(there, path, body.replace(b"%s", half))
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["code"] == "invalid_json"
        assert "surrogate" in error["message"] or "UTF-8" in error["message"]


async def test_both_halves_of_a_character_are_one(there: Served) -> None:
    answer = await post(there, "/completions", rb'{"model": "seed", "prompt": "\ud83d\ude00"}')
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] == len("😀".encode())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"NaN", "NaN"),
        (b"-Infinity", "Infinity"),
        (b"1e400", "too large"),
        (b"1" * 5000, "digits"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "within one another"),
        (b"[" * 1000 + b"]" * 1000, "within one another"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "within one another"),
    ],
)
async def test_what_is_no_json_or_too_deep_is_said_so(there: Served, value: bytes, said: str) -> None:
    for body in (b'{"model": "seed", "prompt": "x", "user": %s}', b'{"model": "seed", "prompt": %s}', b"%s"):
        answer = await post(there, "/completions", body.replace(b"%s", value))
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["error"]["message"]


async def test_a_chat_has_as_many_replies_as_were_asked_for_each_with_its_own_seed() -> None:
    async with served(SeededEngine([], SEED)) as there:
        create = there.client.chat.completions.create
        reply = await create(model="seed", messages=asking(), n=3, seed=7)  # type: ignore[call-overload]
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        assert [choice.message.content for choice in reply.choices] == [f"Answer: {n}" for n in (7, 8, 9)]
        assert reply.usage.prompt_tokens == len("Task: What is 2+2?\n")
        assert reply.usage.completion_tokens == 3 * (len("Answer: 7") + 1)
        unseeded = await create(model="seed", messages=asking(), n=2)  # type: ignore[call-overload]
        assert {choice.message.content for choice in unseeded.choices} == {"Answer: None"}


async def test_replies_of_one_stream_say_whose_piece_each_is() -> None:
    async with served(SeededEngine([], SEED)) as there:
        stream = await there.client.chat.completions.create(  # type: ignore[call-overload]
            model="seed", messages=asking(), n=3, seed=7, stream=True, stream_options={"include_usage": True}
        )
        texts, roles, ends = [""] * 3, [0] * 3, list[int]()
        usages = []
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                roles[choice.index] += choice.delta.role == "assistant"
                ends += [choice.index] * (choice.finish_reason == "stop")
            usages += [chunk.usage] * (chunk.usage is not None)
    assert texts == [f"Answer: {n}" for n in (7, 8, 9)]
    assert roles == [1, 1, 1]
    assert sorted(ends) == [0, 1, 2]
    (usage,) = usages
    assert usage.prompt_tokens == len("Task: What is 2+2?\n")
    assert usage.completion_tokens == 3 * (len("Answer: 7") + 1)


async def test_prompts_times_replies_are_numbered_side_by_side_and_stream_as_well() -> None:
    async with served(SeededEngine([], SEED)) as there:
        asked = {"model": "seed", "prompt": ["a", "bc"], "n": 2, "seed": 5, "logprobs": 0}
        whole = await there.client.completions.create(**asked)  # type: ignore[call-overload]
        assert [choice.text for choice in whole.choices] == [f"Answer: {n}" for n in (5, 6, 5, 6)]
        assert whole.usage.prompt_tokens == len("abc")
        texts, tokens = [""] * 4, [0] * 4
        async for chunk in await there.client.completions.create(**asked, stream=True):  # type: ignore[call-overload]
            for choice in chunk.choices:
                texts[choice.index] += choice.text
                tokens[choice.index] += len(choice.logprobs.tokens)
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [len(text) for text in texts]


@pytest.mark.parametrize("n", [0, -1, 65, 10**30])
@pytest.mark.parametrize(
    ("path", "asked"), [("/chat/completions", {"messages": asking()}), ("/completions", {"prompt": "x"})]
)
async def test_replies_beyond_the_limit_are_refused(n: int, path: str, asked: dict[str, object]) -> None:
    async with served(numbered(), max_prompts=64) as there:
        answer = await post(there, path, json.dumps({"model": "seed", "n": n, **asked}).encode())
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "n"


async def test_one_reply_that_fails_ends_the_others() -> None:
    class Failing(ScriptedEngine):
        def __init__(self) -> None:
            super().__init__([], SEED)
            self.asked = 0
            self.cancelled = asyncio.Event()

        async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
            self.asked += 1
            if self.asked == 2:
                raise EngineError("no room")
            try:
                return await asyncio.Future[Completion]()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    for streamed in (False, True):
        engine = Failing()
        async with served(engine) as there:
            with pytest.raises(openai.APIError, match="no room"):
                await there.client.chat.completions.create(  # type: ignore[call-overload]
                    model="seed", messages=asking(), n=2, stream=streamed
                )
            async with asyncio.timeout(LIMIT_S):
                await engine.cancelled.wait()


async def test_generators_that_are_interleaved_are_closed_whatever_happens() -> None:
    closed: list[str] = []

    async def letters(text: str) -> AsyncIterator[str]:
        try:
            for letter in text:
                yield letter
        finally:
            closed.append(text)

    found = [piece async for piece in interleave([letters("ab"), letters("")])]  # type: ignore[list-item]
    assert found == [(0, "a"), (0, "b")]
    halted = interleave([letters("xy"), letters("z")])  # type: ignore[list-item]
    await anext(halted)
    await halted.aclose()
    assert sorted(closed) == ["", "ab", "xy", "z"]


async def test_tokens_that_are_half_a_character_show_their_bytes() -> None:
    text = "é 😀a"
    async with served(ScriptedEngine(lambda prompt, adapter: text, SEED)) as there:
        chat = await there.client.chat.completions.create(model="seed", messages=asking(), logprobs=True)  # type: ignore[call-overload]
        tokens = chat.choices[0].logprobs.content
        assert bytes(byte for token in tokens for byte in token.bytes) == text.encode()
        assert [token.token for token in tokens] == [
            r"\xc3", r"\xa9", " ", r"\xf0", r"\x9f", r"\x98", r"\x80", "a"
        ]  # fmt: skip
        completion = await there.client.completions.create(model="seed", prompt="x", logprobs=0)
        logprobs = completion.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.tokens is not None
        assert logprobs.tokens[:4] == [r"bytes:\xc3", r"bytes:\xa9", " ", r"bytes:\xf0"]
        assert logprobs.text_offset == [0, 0, 1, 2, 2, 2, 2, 3]
        streamed: list[int] = []
        async for chunk in await there.client.completions.create(
            model="seed", prompt="x", logprobs=0, stream=True
        ):
            streamed += chunk.choices[0].logprobs.text_offset or []  # type: ignore[union-attr]
        assert streamed == logprobs.text_offset


async def test_numbers_at_their_limits_are_taken_or_refused_never_a_failure(there: Served) -> None:
    for name, value in (
        ("top_k", 10**30),
        ("seed", 10**30),
        ("seed", -(10**30)),
        ("max_tokens", 10**30),
        ("temperature", 1e-300),
        ("temperature", 5e-324),
        ("top_p", 1e-300),
        ("max_tokens", -1),
        ("temperature", 2.5),
    ):
        body = {"model": "seed", "prompt": "x", name: value}
        answer = await post(there, "/completions", json.dumps(body).encode())
        assert answer.status_code in (200, 400), (name, value, answer.text)
