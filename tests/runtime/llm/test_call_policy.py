"""The parts that need no server: limits, retries, truncation, cost, capabilities, settings."""

from typing import cast

import pytest
from pydantic import TypeAdapter, ValidationError

from agentfactory.configs.chat_models import (
    AnthropicModelSettings,
    ChatModelSettings,
    CommandModelSettings,
    EngineModelSettings,
    OllamaModelSettings,
    OpenAIModelSettings,
    Prices,
    RateLimits,
    RetrySettings,
)
from agentfactory.configs.errors import SettingsError
from agentfactory.messages.chat import (
    AssistantMessage,
    BadArguments,
    ConversationMessage,
    FunctionCall,
    SystemMessage,
    ToolMessage,
    Usage,
    UserMessage,
)
from agentfactory.runtime.llm import TRAINING, capabilities_of, open_model, require
from agentfactory.runtime.llm.backends.boundary import redact, retry_after
from agentfactory.runtime.llm.call_policy import RateLimiter, TokenBucket, backoff_delay
from agentfactory.runtime.llm.context_window import truncate_to_context
from agentfactory.runtime.llm.errors import ContextTooLong, ModelUnavailable, NotAuthorized, RateLimited
from agentfactory.runtime.llm.usage import UsageMeter, cost_of


def by_messages(messages: object) -> int:
    return len(cast(list[object], messages))


def test_a_bucket_lets_a_minutes_worth_through_and_then_one_at_a_time() -> None:
    bucket = TokenBucket(60, now=0.0)
    assert [bucket.take(20, now=0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(2, now=0.0) == pytest.approx(2.0)
    assert bucket.take(1, now=0.0) == pytest.approx(3.0)
    assert bucket.wait_s(1, now=4.0) == 0.0


def test_an_amount_over_a_minutes_worth_waits_for_a_full_bucket_only() -> None:
    bucket = TokenBucket(60, now=0.0)
    assert bucket.take(600, now=0.0) == 0.0
    assert bucket.wait_s(1, now=541.0) == 0.0


def test_an_estimate_is_corrected_by_what_was_used() -> None:
    limiter = RateLimiter(RateLimits(tokens_per_minute=600), now=0.0)
    assert limiter.take(600, now=0.0) == 0.0
    assert limiter.wait_s(100, now=0.0) == pytest.approx(10.0)
    limiter.settle(taken=600, used=100, now=0.0)
    assert limiter.wait_s(100, now=0.0) == 0.0


def test_a_pause_that_a_server_asked_for_holds_everybody() -> None:
    limiter = RateLimiter(RateLimits(), now=0.0)
    limiter.pause(7.0, now=1.0)
    assert limiter.wait_s(1, now=2.0) == pytest.approx(6.0)
    assert limiter.wait_s(1, now=9.0) == 0.0


def test_pauses_double_up_to_the_longest() -> None:
    settings = RetrySettings(attempts=10, pause_s=1.0, max_pause_s=4.0)
    error = ModelUnavailable("busy")
    for attempt, longest in ((2, 1.0), (3, 2.0), (4, 4.0), (9, 4.0)):
        pause = backoff_delay(attempt, error, settings)
        assert pause is not None
        assert longest / 2 <= pause <= longest


def test_a_pause_is_never_shorter_than_the_server_asked_for() -> None:
    assert backoff_delay(2, RateLimited("busy", 60.0), RetrySettings()) == 60.0


def test_what_asking_again_cannot_help_is_not_asked_again() -> None:
    assert backoff_delay(2, NotAuthorized("no"), RetrySettings()) is None
    assert backoff_delay(5, ModelUnavailable("busy"), RetrySettings(attempts=4)) is None


def test_the_wish_for_quiet_is_read_from_either_header() -> None:
    assert retry_after({"Retry-After": "3"}) == 3.0
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}) is None
    assert retry_after({}) is None


SYSTEM = SystemMessage(text="s")
CALL = FunctionCall(id="1", name="f")
STEP = [AssistantMessage(calls=(CALL,)), ToolMessage(call_id="1", name="f", text="r")]


def test_the_oldest_exchange_goes_first_and_the_system_prompt_stays() -> None:
    talk = [
        UserMessage(text="1"),
        AssistantMessage(text="2"),
        UserMessage(text="3"),
        AssistantMessage(text="4"),
    ]
    last = UserMessage(text="5")
    fitted = truncate_to_context([SYSTEM, *talk, last], 4, by_messages)
    assert fitted.messages == (SYSTEM, *talk[2:], last)
    assert fitted.dropped == 2


def test_a_result_never_stays_without_its_call() -> None:
    talk: list[ConversationMessage] = [UserMessage(text="task"), *STEP, *STEP, *STEP]
    fitted = truncate_to_context([SYSTEM, *talk], 5, by_messages)
    assert fitted.messages == (SYSTEM, talk[0], *STEP)
    assert fitted.dropped == 4


def test_a_conversation_that_fits_is_left_alone() -> None:
    assert truncate_to_context([SYSTEM, UserMessage(text="1")], 2, by_messages) == (
        (SYSTEM, UserMessage(text="1")),
        0,
    )


def test_a_last_message_that_is_too_long_is_an_error() -> None:
    with pytest.raises(ContextTooLong, match="shorten them"):
        truncate_to_context(
            [SYSTEM, UserMessage(text="1"), AssistantMessage(text="2"), UserMessage(text="3")], 1, by_messages
        )


def test_cost_counts_cached_tokens_at_their_own_price() -> None:
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=400_000, completion_tokens=500_000)
    assert cost_of(usage, None) is None
    assert cost_of(usage, Prices(prompt=3.0, completion=15.0)) == pytest.approx(3.0 + 7.5)
    cheaper = Prices(prompt=3.0, completion=15.0, cached_prompt=0.3)
    assert cost_of(usage, cheaper) == pytest.approx(1.8 + 0.12 + 7.5)


def test_a_tally_adds_up() -> None:
    tally = UsageMeter(Prices(prompt=1.0, completion=1.0))
    tally.add(Usage(prompt_tokens=10, completion_tokens=5))
    tally.add(Usage(prompt_tokens=1, cached_tokens=1))
    known = tally.statistics(retries=2)
    assert (known.prompt_tokens, known.completion_tokens, known.cached_tokens, known.retries) == (11, 5, 1, 2)
    assert known.cost == pytest.approx(16e-6)


def test_training_refuses_a_model_without_tokens_in_one_sentence() -> None:
    with pytest.raises(SettingsError) as caught:
        require(AnthropicModelSettings(model="m"), TRAINING, "training")
    assert str(caught.value) == (
        "training needs token ids, log-probabilities, adapters, and a model of the kind 'anthropic' has "
        "none; use a model of the kind 'engine'"
    )
    require(EngineModelSettings(), TRAINING, "training")


def test_a_need_is_checked_before_a_model_is_opened() -> None:
    with pytest.raises(SettingsError, match="needs tools"):
        open_model(EngineModelSettings(), needs=("tools",))


def test_a_program_can_only_do_what_its_arguments_have_a_place_for() -> None:
    assert not capabilities_of(CommandModelSettings(argv=("cat",))).temperature
    assert capabilities_of(CommandModelSettings(argv=("cat", "{temperature}"))).temperature


def test_settings_are_told_apart_by_their_kind() -> None:
    adapter: TypeAdapter[ChatModelSettings] = TypeAdapter(ChatModelSettings)
    assert adapter.validate_python({"kind": "ollama"}) == OllamaModelSettings()
    found = adapter.validate_python({"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:8000/v1"})
    assert isinstance(found, OpenAIModelSettings)
    for wrong in (
        {"kind": "openai", "model": "m"},
        {"kind": "opnai"},
        {"kind": "ollama", "base_url": "http://me:secret@host"},
        {"kind": "ollama", "api_key": "sk"},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_settings_hold_no_secret_and_a_short_value_is_not_blotted_out() -> None:
    fields = {name for kind in (OpenAIModelSettings, OllamaModelSettings) for name in kind.model_fields}
    assert not {name for name in fields if "key" in name} - {"api_key_env"}
    assert redact("a key: sk-12345, again sk-12345", ("sk-12345",)) == "a key: [key], again [key]"
    assert redact("banana", ("a", "")) == "banana"


def test_arguments_that_are_no_object_say_so() -> None:
    assert FunctionCall(id="1", name="f", arguments='{"a": 1}').parsed() == {"a": 1}
    for text in ("{a: 1}", "[1]"):
        with pytest.raises(BadArguments, match="arguments of f"):
            FunctionCall(id="1", name="f", arguments=text).parsed()
