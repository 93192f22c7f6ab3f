"""The router's rules, each by itself: plans, confidence, estimates, circuits, calibration, budgets."""

import doctest
import math
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from agentfactory.configs.chat_models import (
    BudgetSettings,
    CircuitSettings,
    EngineModelSettings,
    OpenAIModelSettings,
    Prices,
    RoutedModelSettings,
    RouterSettings,
)
from agentfactory.configs.errors import CannotWrite
from agentfactory.messages.chat import (
    ChatReply,
    ChatRequest,
    FunctionCall,
    FunctionSpec,
    TokenLogprob,
    Usage,
    UserMessage,
)
from agentfactory.messages.generation import SamplingSettings
from agentfactory.messages.routing import ConfidenceBin, Estimate
from agentfactory.runtime.llm.routing import StateDamaged, UnknownDecision, confidence
from agentfactory.runtime.llm.routing import planning as estimating
from agentfactory.runtime.llm.routing.circuit_breaker import CircuitBreaker
from agentfactory.runtime.llm.routing.confidence import (
    bin_of,
    calibration_error,
    logprob_confidence,
    score_replies,
)
from agentfactory.runtime.llm.routing.planning import (
    ModelHistory,
    PlanCandidate,
    PlanInputs,
    RemainingBudget,
    RoutePlan,
    estimate_call,
    plan_route,
)
from agentfactory.runtime.llm.routing.response_cache import chain_key, task_key
from agentfactory.runtime.llm.routing.state import FILE, PendingDecision, RouterState

ROOT = Path(__file__).parents[3]
DAY = "2026-01-31"


def candidate(
    name: str, cost: float = 0.0, latency_s: float | None = None, tokens: int = 10
) -> PlanCandidate:
    return PlanCandidate(
        name,
        Estimate(cost=cost, max_cost=2 * cost, tokens=tokens, max_tokens=2 * tokens, latency_s=latency_s),
    )


LOCAL, DEAR, CHEAP = candidate("local", 5.0, 9.0), candidate("dear", 3.0, 1.0), candidate("cheap", 1.0, 2.0)


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("cost", ("local", "cheap", "dear")),
        ("latency", ("local", "dear", "cheap")),
        ("listed", ("local", "dear", "cheap")),
    ],
)
def test_the_first_of_the_chain_goes_first_and_the_rest_in_the_order_of_the_settings(
    order: str, names: tuple[str, ...]
) -> None:
    situation = PlanInputs([LOCAL, DEAR, CHEAP], "local", order)  # type: ignore[arg-type]
    assert plan_route(situation) == RoutePlan(names, {})


def test_a_model_of_unknown_latency_comes_last_where_latency_counts() -> None:
    new = candidate("new")
    assert plan_route(PlanInputs([LOCAL, new, DEAR], "local", "latency")).order == ("local", "dear", "new")


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (
            PlanInputs([DEAR], "", of_request=RemainingBudget(cost=5.9)),
            "could cost 6, and 5.9 is left of the request's",
        ),
        (
            PlanInputs([DEAR], "", of_day=RemainingBudget(cost=5.9)),
            "could cost 6, and 5.9 is left of the day's",
        ),
        (
            PlanInputs([DEAR], "", of_request=RemainingBudget(tokens=19)),
            "could take 20 tokens, and 19 are left",
        ),
        (PlanInputs([DEAR], "", of_day=RemainingBudget(tokens=-3)), "could take 20 tokens, and 0 are left"),
        (PlanInputs([DEAR], "", left_s=0.9), "takes about 1.0 s, and the deadline is in 0.9 s"),
        (PlanInputs([candidate("dear")], "", left_s=0.0), "the deadline has passed"),
        (PlanInputs([PlanCandidate("dear", None, "no tools")], ""), "no tools"),
        (PlanInputs([PlanCandidate("dear", Estimate(), "left alone")], ""), "left alone"),
    ],
)
def test_a_model_that_breaks_a_limit_is_skipped_and_the_reason_is_said(
    situation: PlanInputs, reason: str
) -> None:
    made = plan_route(situation)
    assert made.order == ()
    assert reason in made.skipped["dear"]


def test_what_just_fits_is_asked() -> None:
    fits = PlanInputs(
        [DEAR], "", of_request=RemainingBudget(6.0, 20), of_day=RemainingBudget(6.0, 20), left_s=1.0
    )
    assert plan_route(fits).order == ("dear",)


def reply(text: str, *tokens: tuple[str, float], calls: tuple[FunctionCall, ...] = ()) -> ChatReply:
    return ChatReply(
        text=text,
        calls=calls,
        finish_reason="stop",
        model="m",
        tokens=tuple(TokenLogprob(text=word, logprob=math.log(p)) for word, p in tokens),
    )


def entry(**more: object) -> RoutedModelSettings:
    return RoutedModelSettings.model_validate({"name": "m", "model": EngineModelSettings()} | more)


def test_sureness_is_the_geometric_mean_of_the_tokens_probabilities() -> None:
    assert logprob_confidence(reply("ab", ("a", 0.25), ("b", 1.0))) == pytest.approx(0.5)


def test_of_a_reply_with_an_answer_line_only_the_answers_tokens_count() -> None:
    tokens = [("Thought: ", 1.0), ("easy", 1.0), ("\nAnswer: ", 1.0), ("4", 0.5), ("2", 0.5), ("\n", 1.0)]
    assert logprob_confidence(reply("Thought: easy\nAnswer: 42\n", *tokens)) == pytest.approx(0.5)


def test_log_probabilities_count_before_agreement_and_that_before_a_declared_value() -> None:
    with_tokens = reply("a", ("a", 0.5))
    settings = entry(agreement_samples=2, declared_confidence=0.9)
    assert score_replies([with_tokens], settings).confidence.origin == "logprobs"
    assert score_replies([reply("a"), reply("a")], settings).confidence.origin == "agreement"
    assert score_replies([reply("a")], settings).confidence.origin == "declared"
    assert score_replies([reply("a")], entry()).confidence.model_dump() == {"value": 0.0, "origin": "unknown"}


def test_log_probabilities_that_are_switched_off_are_not_looked_at() -> None:
    judged = score_replies([reply("a", ("a", 0.5))], entry(logprobs=False, declared_confidence=0.9))
    assert judged.confidence.value == 0.9


def test_samples_agree_by_their_answers_whatever_the_words_around_them() -> None:
    samples = [reply("Thought: a\nAnswer: 5"), reply("Thought: b\nAnswer: 4"), reply("Answer:  4 ")]
    judged = score_replies(samples, entry(agreement_samples=3))
    assert judged.confidence.value == pytest.approx(2 / 3)
    assert judged.reply is samples[1]


def test_calls_agree_by_name_and_arguments() -> None:
    calls = [
        FunctionCall(id=str(i), name="f", arguments=text) for i, text in enumerate(('{"a": 1}', '{"a":1}'))
    ]
    judged = score_replies(
        [reply("x", calls=(calls[0],)), reply("y", calls=(calls[1],))], entry(agreement_samples=2)
    )
    assert judged.confidence.value == 1.0


def test_before_any_reply_the_most_is_expected_and_no_latency_is_claimed() -> None:
    found = estimate_call(
        Usage(prompt_tokens=10, completion_tokens=90), Prices(prompt=1, completion=2), ModelHistory(), 1
    )
    assert (found.tokens, found.max_tokens, found.latency_s) == (100, 100, None)
    assert found.cost == found.max_cost == pytest.approx((10 + 180) / 1e6)


def test_estimates_move_towards_what_was_seen_and_the_most_stays_a_bound() -> None:
    expected, history = Usage(prompt_tokens=10, completion_tokens=90), ModelHistory()
    for _ in range(5):
        history = history.replied(expected, Usage(prompt_tokens=8, completion_tokens=20), 2.0)
    found = estimate_call(expected, Prices(prompt=1, completion=2), history, samples=3)
    assert (found.tokens, found.max_tokens) == (3 * 30, 3 * 100)
    assert found.latency_s == pytest.approx(2.0)


def test_newer_replies_weigh_more() -> None:
    history = ModelHistory()
    for seconds in [1.0] * 50 + [3.0] * 20:
        history = history.replied(Usage(prompt_tokens=1), Usage(prompt_tokens=1), seconds)
    assert 2.5 < history.seconds < 3.0


def test_a_prompt_that_was_counted_higher_than_expected_raises_all_bounds_after_it() -> None:
    expected = Usage(prompt_tokens=100, completion_tokens=50)
    history = ModelHistory().replied(expected, Usage(prompt_tokens=150, completion_tokens=5), 1.0)
    assert estimate_call(expected, None, history, 1).max_tokens == 150 + 50


def test_a_failure_teaches_a_latency_only_where_it_was_one_of_time() -> None:
    history = ModelHistory(replies=10, seconds=1.0)
    assert history.failed(9.0, too_slow=False).seconds == 1.0
    assert history.failed(0.1, too_slow=True).seconds == 1.0
    assert history.failed(11.0, too_slow=True).seconds == pytest.approx(2.0)


def test_a_circuit_opens_after_failures_in_a_row_and_lets_one_try_after_the_pause() -> None:
    circuit = CircuitBreaker(CircuitSettings(open_after=2, pause_s=10.0))
    for now in (0.0, 1.0):
        assert circuit.refusal(now) is None
        circuit.begin(now)
        circuit.failed(now)
    assert circuit.refusal(5.0) == "left alone for 6 s more, after 2 failures in a row"
    assert circuit.refusal(11.0) is None
    circuit.begin(11.0)
    assert circuit.refusal(11.0) == "being tried again by another request"
    circuit.failed(12.0)
    assert circuit.state(21.0) == "open"
    circuit.begin(22.0)
    circuit.succeeded()
    assert (circuit.state(22.0), circuit.refusal(22.0)) == ("closed", None)


def test_a_success_between_failures_keeps_the_circuit_closed() -> None:
    circuit = CircuitBreaker(CircuitSettings(open_after=2))
    for _ in range(5):
        circuit.failed(0.0)
        circuit.succeeded()
    assert circuit.state(0.0) == "closed"


def test_a_trial_that_was_given_up_leaves_the_place_to_the_next() -> None:
    circuit = CircuitBreaker(CircuitSettings(open_after=1, pause_s=1.0))
    circuit.failed(0.0)
    circuit.begin(2.0)
    circuit.abandoned()
    assert circuit.refusal(2.0) is None


def test_a_servers_wish_for_quiet_is_kept_from_the_first_failure_on() -> None:
    circuit = CircuitBreaker(CircuitSettings(open_after=3))
    circuit.failed(0.0, quiet_s=60.0)
    assert circuit.state(59.0) == "open"
    assert circuit.state(61.0) == "closed"


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_truth() -> None:
    sure = ConfidenceBin(low=0.9, high=1.0, told=3, right=0, mean_confidence=0.9)
    unsure = ConfidenceBin(low=0.2, high=0.3, told=1, right=1, mean_confidence=0.25)
    assert calibration_error([sure, unsure]) == pytest.approx((2.7 + 0.75) / 4)
    assert calibration_error([]) is None
    assert [bin_of(value) for value in (0.0, 0.0999, 0.1, 0.999, 1.0)] == [0, 0, 1, 9, 9]


@pytest.mark.parametrize("seed", range(5))
def test_the_days_budget_holds_whatever_two_processes_do_and_in_whatever_order(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    budget = BudgetSettings(day_cost=1.0, day_tokens=1000)
    cost = tokens = refused = 0.0
    under_way: list[Estimate] = []
    with RouterState(tmp_path) as one, RouterState(tmp_path) as other:
        for _ in range(400):
            state = draw.choice([one, other])
            if under_way and draw.random() < 0.5:
                most = under_way.pop(draw.randrange(len(under_way)))
                share = draw.random()
                state.settle(DAY, most, most.max_cost * share, int(most.max_tokens * share))
                cost, tokens = cost + most.max_cost * share, tokens + int(most.max_tokens * share)
            else:
                most = Estimate(max_cost=draw.random() / 8, max_tokens=draw.randrange(100))
                if state.reserve(DAY, most, budget) is None:
                    under_way.append(most)
                else:
                    refused += 1
            assert cost <= 1.0 + 1e-9
            assert tokens <= 1000
            open_cost = sum(most.max_cost for most in under_way)
            assert one.spent(DAY).cost == other.spent(DAY).cost == pytest.approx(cost + open_cost)
    assert refused > 0


GREEDY_PROCESS = """
import sys
from pathlib import Path
from agentfactory.configs.chat_models import BudgetSettings
from agentfactory.messages.routing import Estimate
from agentfactory.runtime.llm.routing.state import RouterState
with RouterState(Path(sys.argv[1])) as state:
    budget, most = BudgetSettings(day_cost=1.0), Estimate(max_cost=0.001)
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(state.reserve("day", most, budget) is None for _ in range(500)))
"""


def test_processes_that_spend_at_the_same_time_share_one_budget(tmp_path: Path) -> None:
    command = [sys.executable, "-c", GREEDY_PROCESS, str(tmp_path)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    granted = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(granted) == 1000
    with RouterState(tmp_path) as state:
        assert state.spent("day").cost == pytest.approx(1.0)


def test_spending_outlives_the_process_and_a_new_day_begins_at_nothing(tmp_path: Path) -> None:
    budget = BudgetSettings(day_cost=1.0)
    most = Estimate(max_cost=0.6)
    with RouterState(tmp_path) as state:
        assert state.reserve(DAY, most, budget) is None
    with RouterState(tmp_path) as again:  # the first never settled: nobody knows what it spent
        assert "0.4 is left" in str(again.reserve(DAY, most, budget))
        assert again.reserve("2026-02-01", most, budget) is None


def test_an_outcome_is_told_once(tmp_path: Path) -> None:
    with RouterState(tmp_path) as state:
        state.add_decision("d", PendingDecision("m", 0.95, "k"))
        assert state.take_outcome("d", True) == PendingDecision("m", 0.95, "k")
        with pytest.raises(UnknownDecision, match="told before"):
            state.take_outcome("d", False)
        assert [(each.told, each.right) for each in state.bins("m")] == [(1, 1)]


def test_a_file_that_is_no_state_is_said_in_one_sentence_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("not a database, " * 100)
    with pytest.raises(StateDamaged, match="move it away"):
        RouterState(tmp_path)
    assert (tmp_path / FILE).read_text().startswith("not a database")


def test_a_folder_that_cannot_be_one_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot be used"):
        RouterState(tmp_path / "file")


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    def change(_: ModelHistory) -> ModelHistory:
        raise KeyError("bug")

    with RouterState(tmp_path) as state:
        with pytest.raises(KeyError):
            state.update_history("m", change)
        state.increment("requests")
        assert (state.history("m"), state.count_of("requests")) == (ModelHistory(), 1)
    with sqlite3.connect(tmp_path / FILE) as raw:
        assert raw.execute("SELECT count(*) FROM models").fetchone() == (0,)
    raw.close()


ASKED = ChatRequest(messages=(UserMessage(text="caf\u00e9?"),), sampling=SamplingSettings(temperature=0.0))


def test_a_task_is_the_same_whatever_space_or_unicode_form_it_comes_in() -> None:
    other = ASKED.model_copy(update={"messages": (UserMessage(text=" cafe\u0301? \n"),)})
    assert task_key(ASKED, "c") == task_key(other, "c")


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (UserMessage(text="tea?"),)},
        {"sampling": SamplingSettings(temperature=0.0, max_tokens=7)},
        {"tools": (FunctionSpec(name="f"),)},
        {"output_schema": {"type": "object"}},
        {"adapter": "student-v1"},
    ],
)
def test_a_task_is_another_one_where_the_request_differs(change: dict[str, object]) -> None:
    assert task_key(ASKED, "c") != task_key(ASKED.model_copy(update=change), "c")


def test_a_chain_is_another_one_where_its_answers_could_differ_and_not_otherwise() -> None:
    def chain(threshold: float = 0.7, **more: object) -> str:
        values = {"model": "m", "base_url": "http://h", "server": "vllm"} | more
        model = OpenAIModelSettings.model_validate(values)
        return chain_key(
            RouterSettings(chain=(RoutedModelSettings(name="m", model=model),), threshold=threshold)
        )

    assert chain() == chain(timeout_s=9.0) == chain(prices=Prices(prompt=1, completion=1))
    assert len({chain(), chain(model="n"), chain(base_url="http://i"), chain(threshold=0.8)}) == 4


@pytest.mark.parametrize("module", [confidence, estimating], ids=lambda module: module.__name__)
def test_the_examples_of_the_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
