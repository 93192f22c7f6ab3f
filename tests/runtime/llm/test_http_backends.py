"""Five providers, one behaviour: each test runs against a server that speaks the provider's wire."""

import asyncio
import json
import pickle
import traceback
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agentfactory.messages.chat import AssistantMessage, FunctionSpec, SystemMessage, ToolMessage, UserMessage
from agentfactory.messages.generation import SamplingSettings
from agentfactory.runtime.llm import ChatModel, open_model
from agentfactory.runtime.llm.errors import (
    BrokenReply,
    ModelClosed,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    NotAuthorized,
    RateLimited,
    RequestRefused,
    Unsupported,
)
from tests.runtime.llm.model_server import KEY, KEY_ENV, WIRES, Act, Call, ModelServer, OpenAIWire, serving

HI = [SystemMessage(text="Be brief."), UserMessage(text="hi")]
QUICK = {"retry": {"pause_s": 0.001}}
WEATHER = FunctionSpec(
    name="weather",
    description="The weather of a town.",
    parameters={"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


@pytest_asyncio.fixture(params=WIRES, ids=lambda wire: wire.name)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ModelServer]:
    async with serving(request.param) as server:
        yield server


def model_at(server: ModelServer, **settings: object) -> ChatModel:
    return open_model(server.wire.settings(server.url, **(QUICK | settings)))


async def test_a_reply_has_text_usage_and_the_servers_name(server: ModelServer) -> None:
    async with model_at(server) as model:
        reply = await model.chat(HI)
    assert (reply.text, reply.finish_reason, reply.attempts) == ("Hello", "stop", 1)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (11, 5)
    assert not reply.usage.estimated
    assert reply.cost is None
    if server.wire.name != "cohere":  # it does not say
        assert reply.model == "served-m"


async def test_pieces_arrive_while_the_reply_is_written(server: ModelServer) -> None:
    server.script = [Act(pieces=("one ", "two ", "three"))]
    async with model_at(server) as model, model.stream(HI) as stream:
        pieces = [piece async for piece in stream]
        assert pieces == ["one ", "two ", "three"]
        assert stream.reply.text == "one two three"
        assert stream.reply.usage.completion_tokens == 5


async def test_a_reply_that_ran_out_of_tokens_says_so(server: ModelServer) -> None:
    server.script = [Act(finish="length")]
    async with model_at(server) as model:
        assert (await model.chat(HI)).finish_reason == "length"


async def test_prices_make_a_cost_and_the_statistics_add_it_up(server: ModelServer) -> None:
    async with model_at(server, prices={"prompt": 2.0, "completion": 10.0}) as model:
        reply = await model.chat(HI)
        await model.chat(HI)
        known = model.statistics()
    assert reply.cost == pytest.approx((11 * 2 + 5 * 10) / 1e6)
    assert (known.requests, known.failures, known.running) == (2, 0, 0)
    assert known.cost == pytest.approx(2 * reply.cost)


async def test_a_busy_server_is_asked_again_after_the_time_it_names(server: ModelServer) -> None:
    server.script = [Act(status=429, error="slow down", headers={"Retry-After": "0.01"}), Act()]
    async with model_at(server) as model:
        reply = await model.chat(HI)
        assert (reply.text, reply.attempts, model.statistics().retries) == ("Hello", 2, 1)


async def test_a_wish_for_more_quiet_than_the_call_may_wait_ends_it_at_once(server: ModelServer) -> None:
    server.script = [Act(status=429, error="slow down", headers={"Retry-After": "7200"})]
    async with model_at(server, timeout_s=50.0) as model:
        with pytest.raises(RateLimited, match="slow down"):
            await model.chat(HI)
        if server.wire.name != "ollama":  # its client keeps no headers
            with pytest.raises(RateLimited, match="this call may wait"):
                await model.chat(HI)  # and nobody else asks meanwhile
            assert len(server.seen) == 1


async def test_a_server_that_breaks_twice_and_then_works_is_no_failure(server: ModelServer) -> None:
    failures = [Act(status=500, error="oops"), Act(status=503, error="oops"), Act()]
    async with model_at(server) as model:
        server.script = [*failures]
        assert (await model.chat(HI)).attempts == 3
        server.script = [*failures]
        async with model.stream(HI) as stream:
            assert [piece async for piece in stream] == ["Hel", "lo"]
            assert stream.reply.attempts == 3
        assert model.statistics().failures == 0


async def test_a_server_that_stays_broken_is_given_up(server: ModelServer) -> None:
    server.script = [Act(status=500, error="the disk is full")]
    async with model_at(server, retry={"attempts": 3, "pause_s": 0.001}) as model:
        with pytest.raises(ModelUnavailable, match=r"500: .*the disk is full"):
            await model.chat(HI)
        assert len(server.seen) == 3
        assert model.statistics().failures == 1


async def test_a_wrong_request_is_not_repeated(server: ModelServer) -> None:
    server.script = [Act(status=404, error="no model named m")]
    async with model_at(server) as model:
        with pytest.raises(RequestRefused, match="no model named m"):
            await model.chat(HI)
    assert len(server.seen) == 1


async def test_a_stalled_server_is_a_timeout_and_its_connection_is_closed(server: ModelServer) -> None:
    server.script = [Act(then="stall")]
    async with model_at(server, silence_s=0.2) as model, model.stream(HI) as stream:
        with pytest.raises(ModelTimeout, match="silence_s"):
            _ = [piece async for piece in stream]
        await server.hung_up.wait()


async def test_a_server_that_never_begins_is_a_timeout(server: ModelServer) -> None:
    server.script = [Act(then="stall", at_once=True)]
    async with model_at(server, timeout_s=0.3, silence_s=10) as model:
        with pytest.raises(ModelTimeout, match="timeout_s"):
            await model.chat(HI)


async def test_a_cut_reply_is_asked_for_again(server: ModelServer) -> None:
    server.script = [Act(then="cut"), Act()]
    async with model_at(server) as model:
        reply = await model.chat(HI)
    assert (reply.text, reply.attempts) == ("Hello", 2)


async def test_a_reply_that_ends_without_saying_why_is_asked_for_again(server: ModelServer) -> None:
    server.script = [Act(then="short"), Act()]
    async with model_at(server) as model:
        reply = await model.chat(HI)
    assert (reply.text, reply.attempts) == ("Hello", 2)


async def test_a_stream_that_is_cut_after_its_first_piece_is_an_error(server: ModelServer) -> None:
    server.script = [Act(pieces=("one", "two", "three"), then="cut"), Act()]
    async with model_at(server) as model, model.stream(HI) as stream:
        with pytest.raises(BrokenReply):
            _ = [piece async for piece in stream]
        with pytest.raises(ModelError, match="not complete"):
            _ = stream.reply
    assert len(server.seen) == 1


async def test_a_reply_whose_json_is_broken_is_asked_for_again(server: ModelServer) -> None:
    server.script = [Act(then="broken", at_once=True), Act()]
    async with model_at(server) as model:
        reply = await model.chat(HI)
    assert (reply.text, reply.attempts) == ("Hello", 2)


async def test_a_refused_key_is_not_in_the_error(server: ModelServer) -> None:
    server.script = [Act(status=401, error=f"Incorrect API key provided: {KEY}.")]
    async with model_at(server) as model:
        with pytest.raises(NotAuthorized, match=r"Incorrect API key provided: \[key\]") as caught:
            await model.chat(HI)
    told = "".join(traceback.format_exception(caught.value))
    stored = pickle.dumps(caught.value) + pickle.dumps(caught.value.__cause__)
    assert KEY not in told
    assert KEY.encode() not in stored
    assert caught.value.__context__ is None or KEY not in str(caught.value.__context__)
    assert KEY in "".join(server.seen[0].headers.values())


async def test_a_key_that_a_server_repeats_is_not_in_the_log(
    server: ModelServer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.script = [Act(status=500, error=f"cannot use {KEY}"), Act()]
    async with model_at(server) as model:
        await model.chat(HI)
    shown = capsys.readouterr()
    assert "cannot use [key]" in shown.out + shown.err
    assert KEY not in shown.out + shown.err + caplog.text


async def test_a_cancelled_call_closes_its_connection(server: ModelServer) -> None:
    server.script = [Act(then="stall")]
    async with model_at(server) as model:
        call = asyncio.create_task(model.chat(HI))
        await server.under_way.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.hung_up.wait()
        assert model.statistics().running == 0


async def test_a_stream_that_is_left_closes_its_connection(server: ModelServer) -> None:
    server.script = [Act(pieces=("one", "two", "three"), then="stall")]
    async with model_at(server) as model:
        async with model.stream(HI) as stream:
            async for piece in stream:
                assert piece == "one"
                break
        await server.hung_up.wait()


async def test_a_call_is_read_and_its_result_is_sent_back(server: ModelServer) -> None:
    asked = (Call("id1", "weather", {"town": "Oslo"}), Call("id2", "weather", {"town": "Bergen"}))
    server.script = [Act(pieces=("Let me see.",), calls=asked), Act(pieces=("Rain", " and sun."))]
    async with model_at(server) as model:
        reply = await model.chat(HI, tools=[WEATHER])
        assert reply.finish_reason == "calls"
        assert [(c.name, c.parsed()["town"]) for c in reply.calls] == [
            ("weather", "Oslo"),
            ("weather", "Bergen"),
        ]
        assert len({call.id for call in reply.calls}) == 2
        results = [
            ToolMessage(call_id=call.id, name=call.name, text=text)
            for call, text in zip(reply.calls, ("rain", "sun"), strict=True)
        ]
        assert (await model.chat([*HI, reply.message, *results], tools=[WEATHER])).text == "Rain and sun."
    sent = json.dumps(server.seen[1].body)
    assert '"rain"' in sent
    assert '"sun"' in sent
    assert "Bergen" in sent
    assert "The weather of a town." in sent


async def test_a_streamed_call_is_put_together(server: ModelServer) -> None:
    server.script = [Act(calls=(Call("id1", "weather", {"town": "Oslo"}),))]
    async with model_at(server) as model, model.stream(HI, tools=[WEATHER]) as stream:
        assert [piece async for piece in stream] == ["Hel", "lo"]
        (call,) = stream.reply.calls
    assert (call.name, call.parsed()) == ("weather", {"town": "Oslo"})


async def test_a_schema_reaches_the_server_and_a_reply_that_is_no_json_is_asked_for_again(
    server: ModelServer,
) -> None:
    server.script = [Act(pieces=("{n: ", "what")), Act(pieces=('{"n":', " 4}"))]
    async with model_at(server) as model:
        reply = await model.chat(HI, output_schema=SCHEMA)
    assert json.loads(reply.text) == {"n": 4}
    assert reply.attempts == 2
    assert '"required": ["n"]' in json.dumps(server.seen[0].body)


async def test_the_system_prompt_and_the_limit_of_tokens_reach_the_server(server: ModelServer) -> None:
    async with model_at(server) as model:
        await model.chat(HI, SamplingSettings(max_tokens=77, temperature=0.25, stop=("END",)))
    sent = json.dumps(server.seen[0].body)
    for part in ("Be brief.", "77", "0.25", "END"):
        assert part in sent


async def test_a_long_conversation_loses_its_oldest_turns_and_says_how_many(server: ModelServer) -> None:
    said = [
        message
        for i in range(20)
        for message in (UserMessage(text=f"question {i} " * 9), AssistantMessage(text=f"answer {i} " * 9))
    ]
    async with model_at(server, context_tokens=400) as model:
        reply = await model.chat(
            [HI[0], *said, UserMessage(text="the last")], SamplingSettings(max_tokens=64)
        )
    sent = json.dumps(server.seen[0].body)
    assert reply.dropped_messages > 0
    assert reply.dropped_messages % 2 == 0
    assert "Be brief." in sent
    assert "the last" in sent
    assert "question 0 " not in sent
    assert "question 19 " in sent


async def test_a_server_that_is_not_there_is_unavailable(server: ModelServer) -> None:
    settings = server.wire.settings("http://127.0.0.1:1", retry={"attempts": 2, "pause_s": 0.001})
    async with open_model(settings) as model:
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            await model.chat(HI)
        assert model.statistics().retries == 1


async def test_a_model_that_is_not_open_says_so(server: ModelServer) -> None:
    model = model_at(server)
    with pytest.raises(ModelClosed, match="async with"):
        await model.chat(HI)
    async with model:
        pass
    with pytest.raises(ModelClosed):
        await model.chat(HI)


async def test_what_a_backend_cannot_do_is_refused_before_anything_is_sent(server: ModelServer) -> None:
    async with model_at(server) as model:
        cannot = [name for name, can in model.capabilities if not can]
        if "seed" in cannot:
            with pytest.raises(Unsupported, match="seed"):
                await model.chat(HI, SamplingSettings(seed=1))
        if "embeddings" in cannot:
            with pytest.raises(Unsupported, match="embeddings"):
                await model.embed(["a"])
        if "pull" in cannot:
            with pytest.raises(Unsupported, match="pull"):
                _ = [progress async for progress in model.pull()]
    assert "token_ids" in cannot
    assert not server.seen


async def test_no_more_calls_run_at_once_than_the_settings_allow(server: ModelServer) -> None:
    server.gate.clear()
    async with model_at(server, limits={"max_concurrent": 2}) as model, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(model.chat(HI))
        await server.arrived.wait()
        assert model.statistics().running == 8
        server.gate.set()
    assert len(server.seen) == 8
    assert server.most <= 2


async def test_a_server_without_a_key_is_sent_none() -> None:
    async with serving(OpenAIWire()) as server:
        settings = server.wire.settings(server.url, api_key_env="")
        async with open_model(settings) as model:
            await model.chat(HI)
    assert "Authorization" not in server.seen[0].headers
