"""Who may come in, what is turned away, and what becomes of requests when somebody leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from agentfactory.cluster.serving.generation import Sampler
from agentfactory.cluster.serving.http_server import HttpServer, bind, read_api_keys, running
from agentfactory.configs.errors import BadInput
from agentfactory.configs.http_servers import HttpServerSettings, ServingSettings
from agentfactory.messages.generation import Completion, Generate, SamplingSettings
from agentfactory.runtime.engines.base import EngineError, EngineFailed, OnTokens
from agentfactory.runtime.engines.pool import EnginePool
from agentfactory.runtime.engines.simulated import ScriptedEngine
from agentfactory.runtime.system import ActorSystem
from tests.cluster.http_serving import SEED, EngineOf, HeldEngine, asking, served

pytestmark = pytest.mark.asyncio
LIMIT_S = 180.0


def scripted(*replies: str | EngineError) -> ScriptedEngine:
    return ScriptedEngine(list(replies), SEED)


async def ask(client: AsyncOpenAI, **more: object) -> str | None:
    reply = await client.chat.completions.create(model="seed", messages=asking(), **more)  # type: ignore[call-overload]
    return str(reply.choices[0].message.content)


async def first_piece(client: AsyncOpenAI) -> tuple[openai.AsyncStream[object], str]:
    """A stream that has begun."""
    stream = await client.chat.completions.create(model="seed", messages=asking(), stream=True)  # type: ignore[call-overload]
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            return stream, chunk.choices[0].delta.content
    raise AssertionError("it ended")


async def test_the_first_token_arrives_while_the_engine_still_writes() -> None:
    engine = HeldEngine()
    async with served(engine) as there:
        stream, text = await first_piece(there.client)
        assert text == "A"
        assert engine.in_hand == 1
        engine.go_on.set()
        rest = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])  # type: ignore[attr-defined]
        assert rest == "nswer: 4"


async def test_a_stream_whose_client_goes_away_is_aborted_in_the_engine() -> None:
    engine = HeldEngine()
    async with served(engine) as there:
        stream, _ = await first_piece(there.client)
        await stream.close()
        async with asyncio.timeout(LIMIT_S):
            await engine.cancelled.wait()


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_a_whole_reply_whose_client_goes_away_is_aborted_in_the_engine(path: str) -> None:
    engine = HeldEngine()
    async with served(engine) as there:
        body = {"model": "seed"} | ({"prompt": "1+1"} if path == "completions" else {"messages": asking()})
        asking_http = asyncio.create_task(_post(f"{there.url}/{path}", body))
        async with asyncio.timeout(LIMIT_S):
            await engine.asked.acquire()
            asking_http.cancel()
            await engine.cancelled.wait()
        with suppress(asyncio.CancelledError):
            await asking_http


async def _post(url: str, body: object) -> httpx.Response:
    async with httpx.AsyncClient(timeout=LIMIT_S) as client:
        return await client.post(url, json=body)


async def test_requests_in_hand_are_finished_when_the_server_ends() -> None:
    engine = HeldEngine()
    async with served(engine) as there:
        # A connection of its own, since the fixture's client is closed first.
        client = AsyncOpenAI(base_url=there.url, api_key="none", max_retries=0)
        whole = asyncio.create_task(ask(client))
        async with asyncio.timeout(LIMIT_S):
            await engine.asked.acquire()
        closed = asyncio.create_task(_closed(httpx.URL(there.url), engine.go_on))
    assert await whole == "Answer: 4"
    await closed
    await client.close()


async def _closed(url: httpx.URL, then: asyncio.Event) -> None:
    """Set the event once nobody new is let in, and the server has had time to break off what it has."""
    with suppress(ConnectionError):
        async with asyncio.timeout(LIMIT_S):
            while True:
                _, writer = await asyncio.open_connection(url.host, url.port)
                writer.close()
                await writer.wait_closed()
    await asyncio.sleep(0.3)
    then.set()


async def test_a_request_that_does_not_finish_in_time_is_cut_off_when_the_server_ends() -> None:
    engine = HeldEngine()
    async with served(engine, drain_s=0) as there:
        client = AsyncOpenAI(base_url=there.url, api_key="none", max_retries=0)
        whole = asyncio.create_task(ask(client))
        async with asyncio.timeout(LIMIT_S):
            await engine.asked.acquire()
    with pytest.raises(openai.APIError):
        await whole
    assert engine.cancelled.is_set()
    await client.close()


async def test_one_request_too_many_is_told_to_come_again() -> None:
    engine = HeldEngine()
    async with served(engine, max_requests=1) as there:
        first = asyncio.create_task(ask(there.client))
        async with asyncio.timeout(LIMIT_S):
            await engine.asked.acquire()
        with pytest.raises(openai.RateLimitError) as refusal:
            await ask(there.client)
        assert refusal.value.response.headers["Retry-After"] == "1"
        assert [model.id async for model in there.client.models.list()] == ["seed", "ngrams"]
        engine.go_on.set()
        assert await first == "Answer: 4"
        assert await ask(there.client) == "Answer: 4"


async def test_a_key_is_asked_for_everywhere_but_at_the_health_check() -> None:
    async with served(scripted("Answer: 4", "Answer: 5"), keys=("sk-one", "sk-two")) as there:
        assert await ask(there.client) == "Answer: 4"
        assert await ask(there.client.with_options(api_key="sk-two")) == "Answer: 5"
        for key in ("sk-on", "sk-one2", "sk-one,sk-two"):
            with pytest.raises(openai.AuthenticationError) as refusal:
                await there.client.with_options(api_key=key).models.list()
            assert refusal.value.code == "invalid_api_key"
        async with httpx.AsyncClient(base_url=there.url.removesuffix("/v1")) as plain:
            odd = {"Authorization": b"Bearer \xc3\xa9"}
            assert (await plain.get("/v1/models", headers=odd)).status_code == 401
            assert (await plain.get("/metrics")).status_code == 401
            assert (await plain.get("/openapi.json")).status_code == 401
            assert (await plain.get("/health")).json() == {"status": "ok"}


async def test_without_a_key_only_names_of_this_machine_are_answered() -> None:
    async with served(scripted()) as there, httpx.AsyncClient(base_url=there.url) as plain:
        for name, status in (("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost:1", 200)):
            answer = await plain.get("/models", headers={"Host": name})
            assert answer.status_code == status, name


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
async def test_another_host_needs_a_key(host: str) -> None:
    settings = ServingSettings(host=host, api_key_env="SERVING_TEST_KEY")
    with pytest.raises(BadInput, match="SERVING_TEST_KEY"):
        read_api_keys(settings, {"SERVING_TEST_KEY": " , "})
    assert read_api_keys(settings, {"SERVING_TEST_KEY": "a, b"}) == ("a", "b")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
async def test_this_machine_needs_none(host: str) -> None:
    assert read_api_keys(ServingSettings(host=host), {}) == ()


async def test_a_body_that_is_too_large_is_refused_with_and_without_a_length() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"model": "seed", "messages": "'
        for _ in range(20):
            yield b"x" * 1024

    async with served(scripted(), max_body_kb=8) as there, httpx.AsyncClient(base_url=there.url) as plain:
        for content in (b"x" * 9000, endless()):
            headers = {"Content-Type": "application/json"}
            answer = await plain.post("/completions", content=content, headers=headers)
            assert answer.status_code == 413
            assert "8 KiB" in answer.json()["error"]["message"]


async def test_a_client_that_does_not_send_is_not_waited_for() -> None:
    async with served(scripted(), body_timeout_s=0.05) as there:
        address = httpx.URL(there.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 50\r\n\r\n{"
        )
        async with asyncio.timeout(LIMIT_S):
            assert b" 408 " in await reader.readline()
        writer.close()


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "dictionary"),
        (b"\xff", 400, ""),
        (b'{"model": "seed"}', 400, "messages"),
        (b"[" * 100_000, 400, ""),
        (b'{"model": "seed", "messages": [{"role": "pirate", "content": "x"}]}', 400, "messages.0"),
        (
            b'{"model": "seed", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
            400,
            "image_url",
        ),
        (
            b'{"model": "seed", "messages": [{"role": "tool", "tool_call_id": "c", "content": ""}]}',
            400,
            "'c'",
        ),
    ],
)
async def test_a_body_that_makes_no_sense_is_answered_in_the_form_of_errors(
    content: bytes, status: int, said: str
) -> None:
    async with served(scripted()) as there, httpx.AsyncClient(base_url=there.url) as plain:
        headers = {"Content-Type": "application/json"}
        answer = await plain.post("/chat/completions", content=content, headers=headers)
        assert answer.status_code == status, answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert said in answer.json()["error"]["message"]
        for path in ("/nothing", "/completions"):
            missing = await plain.get(path)
            assert missing.status_code in (404, 405)
            assert path in missing.json()["error"]["message"]


async def test_an_engine_that_fails_is_unavailable_and_a_bug_says_nothing_of_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Buggy(ScriptedEngine):
        async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
            if request.sampling.temperature == 0.0:
                raise EngineError("no room")
            raise EngineFailed("out of memory")

    async with served(Buggy([], SEED)) as there:
        with pytest.raises(openai.InternalServerError, match="no room") as unavailable:
            await ask(there.client, temperature=0.0)
        assert unavailable.value.status_code == 503
        with pytest.raises(openai.InternalServerError) as broken:
            await ask(there.client, stream=True)
        assert broken.value.status_code == 503
    async with served(scripted("Answer: 4")) as there:
        there.service.chat_prompt = lambda body: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        with pytest.raises(openai.InternalServerError) as bug:
            await ask(there.client)
        assert (bug.value.status_code, bug.value.type) == (500, "server_error")
        assert "division" not in str(bug.value)


async def test_a_stream_that_breaks_says_so_and_does_not_end_as_if_it_were_whole() -> None:
    engine = HeldEngine([EngineError("no room")])
    async with served(engine) as there:
        stream, _ = await first_piece(there.client)
        engine.go_on.set()
        with pytest.raises(openai.APIError, match="no room"):
            async for _ in stream:
                pass


async def test_an_answer_that_takes_too_long_is_given_up_in_the_engine() -> None:
    engine = HeldEngine()
    async with served(engine, timeout_s=0.2) as there:
        with pytest.raises(openai.InternalServerError) as late:
            await ask(there.client)
        assert (late.value.status_code, late.value.code) == (504, "timeout")
        async with asyncio.timeout(LIMIT_S):
            await engine.cancelled.wait()


async def test_metrics_count_requests_and_tokens() -> None:
    async with served(scripted("Answer: 4")) as there:
        await ask(there.client)
        with pytest.raises(openai.NotFoundError):
            await there.client.chat.completions.create(model="x", messages=asking())  # type: ignore[call-overload]
        async with httpx.AsyncClient(base_url=there.url.removesuffix("/v1")) as plain:
            lines = (await plain.get("/metrics")).text.splitlines()
        prefix = "agentfactory_serving"
        assert f'{prefix}_requests_total{{path="/v1/chat/completions",status="200"}} 1' in lines
        assert f'{prefix}_requests_total{{path="/v1/chat/completions",status="404"}} 1' in lines
        assert f'{prefix}_prompt_tokens_total{{model="seed"}} 19' in lines
        assert f'{prefix}_completion_tokens_total{{model="seed"}} 10' in lines
        assert f"{prefix}_running 0" in lines


async def test_a_request_to_a_pool_is_followed_where_it_runs() -> None:
    engines = [HeldEngine(), HeldEngine()]
    async with ActorSystem.open("local") as system:
        members = [
            await system.spawn(EngineOf, engine, name=f"engine-{n}") for n, engine in enumerate(engines)
        ]
        sampler = Sampler(EnginePool("engine", tuple(members)), {}, LIMIT_S)
        for number in range(4):
            asked = Generate(
                request_id=f"r{number}", prompt_ids=SEED.encode("1+1"), sampling=SamplingSettings()
            )
            pieces = sampler.follow(asked)
            assert SEED.decode((await anext(pieces)).token_ids) == "A"
            (busy,) = [engine for engine in engines if engine.in_hand]
            await pieces.aclose()
            async with asyncio.timeout(LIMIT_S):
                await busy.cancelled.wait()
            busy.cancelled.clear()


async def test_a_server_that_does_not_come_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_off(self: HttpServer, *_: object) -> None:
        raise OSError("no more sockets")

    monkeypatch.setattr("uvicorn.Server._serve", break_off)
    with bind(HttpServerSettings(port=0)) as listening, pytest.raises(OSError, match="no more sockets"):
        async with asyncio.timeout(LIMIT_S), running(FastAPI(), 1, listening):
            pass


async def test_a_server_that_breaks_off_ends_whoever_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaking = asyncio.Event()

    async def break_off(self: HttpServer) -> None:
        await breaking.wait()
        raise OSError("the socket is gone")

    async def wait_for_the_end() -> None:
        async with running(FastAPI(), 1, listening) as server:
            breaking.set()
            await server.ended.wait()

    monkeypatch.setattr("uvicorn.Server.main_loop", break_off)
    with bind(HttpServerSettings(port=0)) as listening, pytest.raises(OSError, match="the socket is gone"):
        async with asyncio.timeout(LIMIT_S):
            await wait_for_the_end()
