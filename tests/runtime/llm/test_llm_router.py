"""The router over real parts: servers on this machine, the seed model, the cache tier."""

import asyncio
import math
import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from agentfactory.bridge.cache.embedded import EmbeddedCache
from agentfactory.bridge.cache.tier import CacheTier
from agentfactory.configs.chat_models import (
    CommandModelSettings,
    EngineModelSettings,
    OpenAIModelSettings,
    RoutedModelSettings,
    RouterSettings,
)
from agentfactory.configs.data import CacheSettings
from agentfactory.configs.errors import SettingsError
from agentfactory.messages.chat import ChatRequest, FunctionSpec, UserMessage
from agentfactory.messages.generation import SamplingSettings
from agentfactory.messages.routing import RouteCandidate
from agentfactory.runtime.llm import open_model
from agentfactory.runtime.llm.routing import NoAnswer, Router, RouterClosed, UnknownDecision
from agentfactory.runtime.llm.routing.confidence import logprob_confidence
from agentfactory.runtime.llm.routing.response_cache import TAG
from agentfactory.runtime.llm.routing.state import RouterState
from tests.runtime.llm.model_server import KEY, KEY_ENV, Act, Json, ModelServer, OpenAIWire, serving, sse

GREEDY = SamplingSettings(temperature=0.0, max_tokens=100)
PRICES = {"prompt": 0.0, "completion": 10_000.0}
"""A cent for a token that is written, so that an ask of at most 100 tokens can cost 1."""
SURE = {"declared_confidence": 0.9}


class SureWire(OpenAIWire):
    """OpenAI's language, with the probability that each piece of text is said to have had."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice: Json = {"index": 0, "delta": delta, "finish_reason": finish}
        if "content" in delta:
            token = {"token": delta["content"], "logprob": math.log(self.probability)}
            choice["logprobs"] = {"content": [token]}
        return sse(self._base("chat.completion.chunk") | {"choices": [choice]})


class Servers(list[ModelServer]):
    """As many as a test wants, each as sure as it says; their names are a, b, c …"""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        super().__init__()
        self._stack = stack
        self.folder = folder

    async def add(self, *probabilities: float | None) -> None:
        """None: it gives no log-probabilities."""
        for probability in probabilities:
            wire = OpenAIWire() if probability is None else SureWire(probability)
            self.append(await self._stack.enter_async_context(serving(wire)))

    def settings(self, models: dict[int, Json] | None = None, **more: object) -> RouterSettings:
        """A router over all of them; `models` has more settings for some of the models."""
        chain = [
            {"name": "abcdef"[i], "model": model_settings(server, **(models or {}).get(i, {}))}
            for i, server in enumerate(self)
        ]
        values = {"chain": chain, "folder": str(self.folder / "router"), "order": "listed"}
        return RouterSettings.model_validate(values | more)

    def asked(self) -> list[int]:
        return [len(server.seen) for server in self]


def model_settings(at: ModelServer, **more: object) -> Json:
    values: Json = {"api_key_env": "", "retry": {"attempts": 1}, "prices": PRICES}
    return at.wire.settings(at.url, **(values | more)).model_dump()


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        yield Servers(stack, tmp_path)


def request(text: str = "hi", **sampling: object) -> ChatRequest:
    return ChatRequest(messages=(UserMessage(text=text),), sampling=GREEDY.model_copy(update=sampling))


def outcomes(considered: Sequence[RouteCandidate]) -> dict[str, str]:
    return {each.model: each.outcome for each in considered}


async def test_a_reply_that_is_sure_enough_is_taken_and_nobody_else_is_asked(servers: Servers) -> None:
    await servers.add(0.8, 0.9)
    async with Router(servers.settings()) as router:
        routed = await router.route(request())
    decision = routed.decision
    assert (routed.reply.text, decision.model, decision.accepted) == ("Hello", "a", True)
    assert decision.confidence is not None
    assert (round(decision.confidence.value, 6), decision.confidence.origin) == (0.8, "logprobs")
    assert outcomes(decision.considered) == {"a": "taken", "b": "not_needed"}
    assert servers.asked() == [1, 0]
    assert decision.cost == pytest.approx(0.05)
    assert routed.reply.tokens == ()  # they were asked for by the router, not by the request


async def test_log_probabilities_that_were_asked_for_are_handed_on(servers: Servers) -> None:
    await servers.add(0.8)
    async with Router(servers.settings()) as router:
        routed = await router.route(request().model_copy(update={"logprobs": True}))
    assert [token.text for token in routed.reply.tokens] == ["Hel", "lo"]


async def test_after_an_unsure_reply_the_next_model_is_asked(servers: Servers) -> None:
    await servers.add(0.6, 0.9)
    servers[1].script = [Act(pieces=("Howdy",))]
    async with Router(servers.settings()) as router:
        routed = await router.route(request())
    assert routed.reply.text == "Howdy"
    first, second = routed.decision.considered
    assert (first.outcome, first.reason) == ("unsure", "not sure enough: 0.60 of 0.7")
    assert (second.outcome, second.reason) == ("taken", "sure enough: 0.90 of 0.7")
    assert routed.decision.cost == pytest.approx(first.cost + second.cost)


async def test_where_nobody_is_sure_the_surest_is_given_and_not_kept(servers: Servers) -> None:
    await servers.add(0.3, 0.6, 0.5)
    async with Router(servers.settings()) as router:
        for asks in (1, 2):
            decision = (await router.route(request())).decision
            assert (decision.model, decision.accepted, decision.cache_hit) == ("b", False, False)
            assert outcomes(decision.considered) == {"a": "unsure", "b": "taken", "c": "unsure"}
            assert servers.asked() == [asks] * 3


async def test_a_reply_that_was_cut_off_is_not_enough_however_sure(servers: Servers) -> None:
    await servers.add(0.99, 0.71)
    servers[0].script = [Act(finish="length")]
    async with Router(servers.settings()) as router:
        decision = (await router.route(request())).decision
    assert decision.model == "b"
    assert decision.considered[0].reason == "its reply was cut off at max_tokens"


async def test_a_model_that_withholds_its_answer_is_passed_over(servers: Servers) -> None:
    await servers.add(0.99, 0.9)
    servers[0].script = [Act(finish="content_filter")]  # type: ignore[arg-type]
    async with Router(servers.settings()) as router:
        decision = (await router.route(request())).decision
    assert decision.model == "b"
    assert decision.considered[0].reason == "it withheld its answer (filtered)"


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (Act(status=500, error="on fire"), "on fire"),
        (Act(status=429, error="slow down"), "slow down"),
        (Act(status=400, error="no such model"), "no such model"),
        (Act(status=401, error="who are you"), "who are you"),
        (Act(then="stall", at_once=True), "no answer within 0.2 s"),
        (Act(then="short"), "cut off"),
    ],
    ids=lambda value: value.then if isinstance(value, Act) else "",
)
async def test_a_model_that_fails_is_passed_over_with_its_reason(
    servers: Servers, act: Act, words: str
) -> None:
    await servers.add(0.9, 0.9)
    servers[0].script = [act]
    async with Router(servers.settings({0: {"silence_s": 0.2}})) as router:
        decision = (await router.route(request())).decision
    assert (decision.model, decision.considered[0].outcome) == ("b", "failed")
    assert words in decision.considered[0].reason


async def test_a_model_that_cannot_do_what_is_asked_is_not_asked(servers: Servers) -> None:
    await servers.add(0.9)
    chain = [
        RoutedModelSettings(name="seed", model=EngineModelSettings()),
        *servers.settings().chain,
    ]
    settings = servers.settings().model_copy(update={"chain": tuple(chain)})
    async with Router(settings) as router:
        wants_tools = request().model_copy(update={"tools": (FunctionSpec(name="f"),)})
        decision = (await router.route(wants_tools)).decision
    seed = decision.considered[-1]
    assert (seed.model, seed.outcome, seed.estimate) == ("seed", "skipped", None)
    assert "cannot do what the request asks for: tools" in seed.reason


async def test_when_all_fail_one_error_holds_each_ones_reason(servers: Servers) -> None:
    await servers.add(0.9, 0.9)
    servers[0].script, servers[1].script = (
        [Act(status=500, error="on fire")],
        [Act(status=400, error="what?")],
    )
    async with Router(servers.settings()) as router:
        for asks in (1, 2):  # errors are not kept
            with pytest.raises(NoAnswer, match=r"(?s)a: .*on fire.*; b: .*what\?") as caught:
                await router.route(request())
            assert servers.asked() == [asks, asks]
        report = router.report()
    assert pickle.loads(pickle.dumps(caught.value)).decision == caught.value.decision
    assert caught.value.decision.model is None
    assert outcomes(caught.value.decision.considered) == {"a": "failed", "b": "failed"}
    assert (report.requests, report.unanswered) == (2, 2)


async def test_a_model_that_keeps_failing_is_left_alone(servers: Servers) -> None:
    await servers.add(0.9, 0.9)
    servers[0].script = [Act(status=500)]
    async with Router(servers.settings(circuit={"open_after": 2, "pause_s": 600})) as router:
        decisions = [(await router.route(request(f"task {i}"))).decision for i in range(4)]
        assert router.report().models[0].circuit == "open"
    assert servers.asked() == [2, 4]
    seen = {each.model: each for each in decisions[-1].considered}
    assert seen["a"].outcome == "skipped"
    assert "after 2 failures in a row" in seen["a"].reason


async def test_a_request_that_is_wrong_says_nothing_about_the_model(servers: Servers) -> None:
    await servers.add(0.9, 0.9)
    servers[0].script = [Act(status=400)]
    async with Router(servers.settings(circuit={"open_after": 1})) as router:
        for i in range(3):
            await router.route(request(f"task {i}"))
    assert servers.asked() == [3, 3]


async def test_a_deadline_ends_the_ask_and_what_came_before_it_is_given(servers: Servers) -> None:
    await servers.add(0.5, 0.9)
    servers[1].script = [Act(then="stall", at_once=True)]
    async with Router(servers.settings()) as router:
        decision = (await router.route(request(), deadline_s=0.5)).decision
        async with asyncio.timeout(120):
            await servers[1].hung_up.wait()
    assert (decision.model, decision.accepted) == ("a", False)
    assert decision.considered[1].reason == "no answer before the deadline"


async def test_a_model_that_is_known_to_be_slow_is_not_asked_before_a_near_deadline(servers: Servers) -> None:
    await servers.add(0.5, 0.9, 0.8)
    settings = servers.settings(deadline_s=30.0)
    async with Router(settings) as router:
        await router.route(request("first"))
        slow = router._members["b"].key
        with RouterState(Path(settings.folder)) as state:
            state.update_history(
                slow, lambda history: history.model_copy(update={"replies": 5, "seconds": 1000.0})
            )
        decision = (await router.route(request())).decision
    assert decision.model == "c"
    seen = {each.model: each for each in decision.considered}
    assert "takes about 1000.0 s" in seen["b"].reason


async def test_estimates_are_remembered_and_order_the_chain_of_a_new_router(servers: Servers) -> None:
    await servers.add(0.5, 0.6, 0.6)
    servers[1].script = [Act(completion_tokens=90)]
    settings = servers.settings(order="cost")
    async with Router(settings) as router:  # as long as nothing is known: as listed
        first = (await router.route(request("one"))).decision
    async with Router(settings) as router:
        second = (await router.route(request("two"))).decision
    assert [each.model for each in first.considered] == ["a", "b", "c"]
    assert [each.model for each in second.considered] == ["a", "c", "b"]


async def test_the_same_task_is_answered_from_what_was_kept(servers: Servers) -> None:
    await servers.add(0.9)
    async with Router(servers.settings()) as router:
        first = await router.route(request())
        again = await router.route(request(" hi\n"))
        report = router.report()
    assert servers.asked() == [1]
    assert (again.reply.text, again.reply.cost, again.decision.cost) == ("Hello", 0.0, 0.0)
    assert again.decision.cache_hit
    assert again.decision.confidence == first.decision.confidence
    assert (report.requests, report.cache_hits, report.models[0].taken) == (2, 1, 1)


@pytest.mark.parametrize(("sampled", "asks"), [(False, 2), (True, 1)])
async def test_sampled_replies_are_kept_only_where_the_settings_say_so(
    servers: Servers, sampled: bool, asks: int
) -> None:
    await servers.add(0.9)
    async with Router(servers.settings(cache={"sampled": sampled})) as router:
        for _ in range(2):
            await router.route(request(temperature=0.5))
    assert servers.asked() == [asks]


async def tier() -> AsyncIterator[CacheTier]:
    opened = CacheTier(CacheSettings(), [EmbeddedCache(4 << 20)])
    yield opened
    await opened.aclose()


cache_tier = pytest_asyncio.fixture(tier)


@pytest.mark.parametrize("where", ["here", "tier"])
async def test_of_the_kept_replies_the_one_used_longest_ago_goes_first(
    servers: Servers, cache_tier: CacheTier, where: str
) -> None:
    await servers.add(0.9)
    settings = servers.settings(cache={"entries": 2})
    async with Router(settings, tier=cache_tier if where == "tier" else None) as router:
        for task in ("one", "two", "one", "three"):
            await router.route(request(task))
        hits = [(await router.route(request(task))).decision.cache_hit for task in ("one", "three", "two")]
    assert hits == [True, True, False]


async def test_in_the_cache_tier_another_router_finds_what_was_kept(
    servers: Servers, cache_tier: CacheTier
) -> None:
    await servers.add(0.9)
    async with Router(servers.settings(), tier=cache_tier) as router:
        await router.route(request())
    async with Router(servers.settings(), tier=cache_tier) as other:
        assert (await other.route(request())).decision.cache_hit
    async with Router(servers.settings(threshold=0.8), tier=cache_tier) as stricter:
        assert not (await stricter.route(request())).decision.cache_hit
    assert servers.asked() == [2]


async def test_a_new_routers_bound_counts_what_the_tier_holds_already(
    servers: Servers, cache_tier: CacheTier
) -> None:
    await servers.add(0.9)
    for i in range(3):
        async with Router(servers.settings(cache={"entries": 2}), tier=cache_tier) as router:
            await router.route(request(f"task {i}"))
    assert len(await cache_tier.query(TAG)) == 2


async def test_a_kept_reply_that_cannot_be_read_is_a_miss_and_is_forgotten(
    servers: Servers, cache_tier: CacheTier
) -> None:
    await servers.add(0.9)

    async def put() -> None:
        return None

    async with Router(servers.settings(), tier=cache_tier) as router:
        key = (await router.route(request())).decision.task_key
        await cache_tier.write_through(TAG, key, put, b'{"of": "another version"}')
        assert not (await router.route(request())).decision.cache_hit
        assert (await router.route(request())).decision.cache_hit


async def test_without_entries_nothing_is_kept(servers: Servers) -> None:
    await servers.add(0.9)
    async with Router(servers.settings(cache={"entries": 0})) as router:
        for _ in range(2):
            await router.route(request())
    assert servers.asked() == [2]


async def test_a_reply_that_is_told_to_be_wrong_is_not_given_again(servers: Servers) -> None:
    await servers.add(0.9)
    async with Router(servers.settings()) as router:
        first = (await router.route(request())).decision
        await router.tell(first.decision_id, correct=False)
        assert not (await router.route(request())).decision.cache_hit
        with pytest.raises(UnknownDecision):
            await router.tell(first.decision_id, correct=False)


async def test_the_report_says_how_often_each_model_was_right_and_how_far_its_confidence_holds(
    servers: Servers,
) -> None:
    await servers.add(0.75, 0.95)
    servers[0].script = [Act(), Act(), Act(status=400)]
    async with Router(servers.settings()) as router:
        for i, correct in enumerate([True, False, True]):
            decision = (await router.route(request(f"task {i}"))).decision
            await router.tell(decision.decision_id, correct)
    async with Router(servers.settings()) as router:  # it is remembered
        first, second = router.report().models
    assert (first.told, first.right, first.accuracy) == (2, 1, 0.5)
    assert (first.replies, first.failures, first.taken) == (2, 1, 2)
    assert first.calibration_error == pytest.approx(0.25)
    (found,) = second.bins
    assert (found.low, found.high, found.told, found.right) == (0.9, 1.0, 1, 1)
    assert second.calibration_error == pytest.approx(0.05)


@pytest.mark.parametrize("answers", [("4", "4", "5"), ("4", "5", "6")])
async def test_a_model_without_log_probabilities_is_as_sure_as_its_samples_agree(
    servers: Servers, answers: tuple[str, ...]
) -> None:
    await servers.add(None)
    servers[0].script = [Act(pieces=(text,)) for text in answers]
    values = {"name": "a", "model": model_settings(servers[0], server="other"), "agreement_samples": 3}
    async with Router(servers.settings(chain=[values])) as router:
        decision = (await router.route(request())).decision
    assert decision.confidence is not None
    assert decision.confidence.value == pytest.approx(answers.count("4") / 3)
    assert decision.confidence.origin == "agreement"
    assert sorted(seen.at("temperature") for seen in servers[0].seen) == [0.0, 0.7, 0.7]  # type: ignore[type-var]
    assert decision.cost == pytest.approx(3 * 0.05)


async def test_a_sample_that_fails_is_left_out_of_the_vote(servers: Servers) -> None:
    await servers.add(None)
    servers[0].script = [Act(status=500), Act(pieces=("4",))]
    values = {"name": "a", "model": model_settings(servers[0], server="other"), "agreement_samples": 3}
    async with Router(servers.settings(chain=[values])) as router:
        decision = (await router.route(request())).decision
    assert decision.confidence is not None
    assert decision.confidence.value == 1.0
    assert decision.cost == pytest.approx(2 * 0.05)


@pytest.mark.parametrize("limit", ["request_cost", "day_cost"])
async def test_a_model_that_could_break_the_budget_is_not_asked(servers: Servers, limit: str) -> None:
    await servers.add(0.5, 0.9)
    async with Router(servers.settings(budget={limit: 1.04})) as router:  # each can cost 1, and costs 0.05
        decision = (await router.route(request())).decision
    assert (decision.model, decision.accepted) == ("a", False)
    seen = {each.model: each for each in decision.considered}
    assert seen["b"].outcome == "skipped"
    assert "could cost 1, and 0.99 is left" in seen["b"].reason


async def test_the_days_budget_holds_while_many_ask_at_once(servers: Servers) -> None:
    await servers.add(0.9)
    servers[0].gate.clear()
    servers[0].script = [Act(completion_tokens=100)]  # each costs what it could at most
    async with Router(servers.settings(budget={"day_cost": 5.0})) as router:
        asks = [asyncio.create_task(router.route(request(f"task {i}"))) for i in range(20)]
        done, _ = await asyncio.wait(asks, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(ask.exception(), NoAnswer) for ask in done)
        assert router.report().day_cost == pytest.approx(5.0)  # reserved before anything was answered
        servers[0].gate.set()
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert router.report().day_cost == pytest.approx(5.0)
    assert sum(isinstance(result, NoAnswer) for result in results) == 15
    assert servers.asked() == [5]


async def test_what_an_ask_did_not_need_is_there_for_the_next(servers: Servers) -> None:
    await servers.add(0.9)
    async with Router(servers.settings(budget={"day_cost": 1.2})) as router:
        for i in range(5):  # 0.05 each; the sixth could break the budget
            await router.route(request(f"task {i}"))
        with pytest.raises(NoAnswer, match=r"0\.95 is left of the day's budget"):
            await router.route(request("one more"))


async def test_the_days_spending_survives_a_restart_and_ends_with_the_day(servers: Servers) -> None:
    await servers.add(0.9)
    settings = servers.settings(budget={"day_tokens": 120})
    day = ["2026-01-31"]
    async with Router(settings, today=lambda: day[0]) as router:
        await router.route(request("one"))
    async with Router(settings, today=lambda: day[0]) as router:
        assert router.report().day_tokens == 16
        with pytest.raises(NoAnswer, match="104 are left of the day's budget"):
            await router.route(request("two"))
        day[0] = "2026-02-01"
        assert (await router.route(request("two"))).decision.model == "a"


@pytest.mark.parametrize(
    ("act", "spent"),
    [(Act(status=500), 0.0), (Act(then="stall", at_once=True), 1.0), (Act(then="short"), 1.0)],
    ids=["refused", "silent", "cut off"],
)
async def test_a_failure_that_may_have_been_billed_counts_as_the_most_it_can_be(
    servers: Servers, act: Act, spent: float
) -> None:
    await servers.add(0.9)
    servers[0].script = [act]
    async with Router(servers.settings({0: {"silence_s": 0.2}})) as router:
        with pytest.raises(NoAnswer) as caught:
            await router.route(request())
        assert router.report().day_cost == pytest.approx(spent)
    assert caught.value.decision.cost == pytest.approx(spent)


async def test_a_request_that_is_given_up_stays_counted_and_the_model_usable(servers: Servers) -> None:
    await servers.add(0.9)
    servers[0].gate.clear()
    async with Router(servers.settings()) as router:
        ask = asyncio.create_task(router.route(request()))
        async with asyncio.timeout(120):
            await servers[0].arrived.wait()
        ask.cancel()
        await asyncio.wait([ask], timeout=120)
        assert ask.cancelled()
        assert router.report().day_cost == pytest.approx(1.0)
        servers[0].gate.set()
        assert (await router.route(request())).decision.model == "a"


async def test_a_trial_that_is_given_up_leaves_the_model_to_the_next_request(servers: Servers) -> None:
    await servers.add(0.9)
    servers[0].script = [Act(status=500), Act()]
    async with Router(servers.settings(circuit={"open_after": 1, "pause_s": 1e-6})) as router:
        with pytest.raises(NoAnswer):
            await router.route(request())
        servers[0].gate.clear()
        servers[0].arrived.clear()
        trial = asyncio.create_task(router.route(request()))
        async with asyncio.timeout(120):
            await servers[0].arrived.wait()
        with pytest.raises(NoAnswer, match="being tried again by another request"):
            await router.route(request())
        trial.cancel()
        await asyncio.wait([trial], timeout=120)
        servers[0].gate.set()
        assert (await router.route(request())).decision.model == "a"


async def test_what_is_under_way_when_the_router_closes_fails_plainly_and_stays_counted(
    servers: Servers,
) -> None:
    await servers.add(0.9)
    servers[0].gate.clear()
    async with Router(servers.settings()) as router:
        ask = asyncio.create_task(router.route(request()))
        async with asyncio.timeout(120):
            await servers[0].arrived.wait()
    servers[0].gate.set()
    await asyncio.wait([ask], timeout=120)
    assert isinstance(ask.exception(), RouterClosed)
    async with Router(servers.settings()) as router:
        assert router.report().day_cost == pytest.approx(1.0)


async def test_the_seed_model_says_by_its_own_tokens_how_sure_it_is(tmp_path: Path) -> None:
    settings = RouterSettings(folder=str(tmp_path))
    async with open_model(EngineModelSettings()) as model, Router(settings) as router:
        asked = request("What is 12*(7+5)?").model_copy(update={"logprobs": True})
        reply = await model.ask(asked)
        routed = await router.route(asked)
    assert routed.reply.text == reply.text
    assert routed.decision.confidence is not None
    assert routed.decision.confidence.value == pytest.approx(logprob_confidence(reply), rel=1e-3)
    assert routed.decision.confidence.origin == "logprobs"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": OpenAIModelSettings(model="m", base_url="http://h")}, "set agreement_samples or declared"),
        (
            {"model": CommandModelSettings(argv=("cat",)), "agreement_samples": 2},
            "takes no temperature",
        ),
        (
            {
                "model": OpenAIModelSettings(
                    model="m", base_url="http://h", server="vllm", api_key_env=KEY_ENV
                )
            },
            f"variable {KEY_ENV} is not set",
        ),
    ],
)
def test_a_chain_that_cannot_work_is_refused_before_anything_starts(
    values: Json, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_ENV, raising=False)
    entry = RoutedModelSettings.model_validate({"name": "far"} | values)
    with pytest.raises(SettingsError, match=words) as caught:
        Router(RouterSettings(chain=(entry,)))
    assert str(caught.value).startswith("chain: far: ")


async def test_no_key_is_in_what_is_remembered(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    await servers.add(0.9)
    servers[0].script = [Act(status=401, error=f"bad key {KEY}")]
    async with Router(servers.settings({0: {"api_key_env": KEY_ENV}})) as router:
        with pytest.raises(NoAnswer) as caught:
            await router.route(request())
    assert KEY not in str(caught.value)
    files = [path for path in (servers.folder / "router").iterdir() if path.is_file()]
    assert files
    assert all(KEY.encode() not in path.read_bytes() for path in files)


async def test_a_router_that_is_not_open_says_so(tmp_path: Path) -> None:
    router = Router(RouterSettings(folder=str(tmp_path)))
    with pytest.raises(RouterClosed, match="async with"):
        await router.ask("hi")
