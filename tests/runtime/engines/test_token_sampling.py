"""Sampling and stopping, as plain functions of tensors."""

import asyncio
import math
import pickle

import numpy as np
import pytest
import torch

from agentfactory.messages.generation import Generate, SamplingSettings
from agentfactory.runtime.engines import base
from agentfactory.runtime.engines.batching.sampling import sample, uniforms
from agentfactory.runtime.engines.batching.sequence import SequenceState, StoppingCriteria


def draws(logits: list[float], count: int, **settings: float) -> tuple[np.ndarray, list[float]]:
    """How often each token was drawn, as shares, and one log-probability for each."""
    rows = torch.tensor([logits]).expand(count, -1)
    got = sample(rows, [SamplingSettings(**settings)] * count, [7] * count, range(count))  # type: ignore[arg-type]
    shares = np.bincount(got.tokens, minlength=len(logits)) / count
    logprobs = dict(zip(got.tokens, got.logprobs, strict=True))
    return shares, [logprobs.get(token, -math.inf) for token in range(len(logits))]


def test_uniforms_are_splitmix64_and_depend_on_seed_and_counter_alone() -> None:
    many = uniforms([1, 2, 3, 1], [0, 0, 0, 5])
    assert many.tolist() == [uniforms([s], [c])[0] for s, c in ((1, 0), (2, 0), (3, 0), (1, 5))]
    assert len(set(many)) == 4
    long = uniforms([-4] * 20_000, range(20_000))
    assert ((long >= 0) & (long < 1)).all()
    assert abs(long.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(long[1:], long[:-1])[0, 1]) < 0.03
    neighbours = uniforms(range(20_000), [0] * 20_000)
    assert abs(neighbours.mean() - 0.5) < 0.01


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-45, 1e-38, 1e-20, 1e-5])
@pytest.mark.parametrize("more", [{}, {"top_k": 10**30}, {"top_p": 1e-300}, {"top_k": 2, "top_p": 0.5}])
def test_the_coldest_samples_are_greedy(temperature: float, more: dict[str, float]) -> None:
    cold = SamplingSettings.model_validate({"temperature": temperature, **more})
    rows = torch.tensor([[1.0, 3.0, 2.0, -math.inf]] * 2)
    got = sample(rows, [cold, SamplingSettings(temperature=0.5)], [7, 8], [0, 0])
    assert got.tokens[0] == 1
    assert got.logprobs[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.5}, [0.25, 0.09, 0.0225, 0.0025]),
        ({"top_k": 2}, [0.5, 0.3, 0, 0]),
        ({"top_p": 0.81}, [0.5, 0.3, 0.15, 0]),
        ({"top_p": 0.79}, [0.5, 0.3, 0, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.9}, [0.5, 0.3, 0.15, 0]),
        ({"top_k": 3, "top_p": 0.8}, [0.5, 0.3, 0, 0]),
        ({"top_k": 99}, [0.5, 0.3, 0.15, 0.05]),
    ],
)
def test_draws_follow_the_distribution_and_report_it(
    settings: dict[str, float], expected: list[float]
) -> None:
    logits = [math.log(p) + 3 for p in (0.5, 0.3, 0.15, 0.05)]
    shares, logprobs = draws(logits, 20_000, **settings)
    wanted = np.array(expected) / sum(expected)
    assert shares == pytest.approx(wanted, abs=0.015)
    assert [math.exp(x) for x in logprobs] == pytest.approx(wanted, abs=1e-6)


def test_greedy_rows_report_temperature_one_in_any_company() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]] * 3)
    settings = [
        SamplingSettings(temperature=0.0, top_k=1),
        SamplingSettings(temperature=2.0, top_k=2),
        SamplingSettings(temperature=0.0, top_p=0.1),
    ]
    got = sample(logits, settings, [1, 2, 3], [0, 0, 0])
    expected = float(logits[0].log_softmax(-1)[1])
    assert (got.tokens[0], got.tokens[2]) == (1, 1)
    assert (got.logprobs[0], got.logprobs[2]) == pytest.approx((expected, expected))
    assert sample(logits[:1], settings[:1], [1], [0]).logprobs == pytest.approx([expected])


def test_a_token_of_no_mass_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    for u, token in ((0.0, 1), (1 - 2.0**-53, 3)):
        monkeypatch.setattr(
            "agentfactory.runtime.engines.batching.sampling.uniforms", lambda s, c, u=u: np.array([u])
        )
        assert sample(logits, [SamplingSettings()], [0], [0]).tokens == [token]


def stopped(text: str, *stops: str) -> str:
    """The part of `text` that is generated before a stop string ends it, a token a character."""
    rules = StoppingCriteria(frozenset({0}), 1000, lambda ids: "".join(map(chr, ids)))
    settings = SamplingSettings(stop=stops, max_tokens=500)
    asked = Generate(request_id="r", prompt_ids=tuple(map(ord, "stop")), sampling=settings)
    loop = asyncio.new_event_loop()
    row = SequenceState.of(asked, loop.create_future())
    loop.close()
    for character in text:
        row.tokens.append(ord(character))
        row.logprobs.append(0.0)
        if rules.finish_reason(row, ord(character)):
            break
    return "".join(map(chr, row.sampled))


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("hello world", ("wor",), "hello wor"),
        ("hello world", ("zzz", "l"), "hel"),
        ("aab aabc", ("aabc", "b "), "aab "),
        ("naïve ï", ("ï",), "naï"),
        ("op stop", ("stop",), "op stop"),
        ("hello", ("",), "hello"),
    ],
)
def test_a_stop_string_ends_generation_where_it_is_complete(
    text: str, stops: tuple[str, ...], expected: str
) -> None:
    assert stopped(text, *stops) == expected


def test_the_prompt_cannot_complete_a_stop_string() -> None:
    assert stopped("p me", "opp", "stopp") == "p me"


@pytest.mark.parametrize(
    "error",
    [
        base.EngineError, base.UnknownAdapter, base.AdapterRejected, base.PromptTooLong, base.BadRequest,
        base.EngineFailed, base.EngineClosed,
    ],
)  # fmt: skip
def test_errors_survive_pickling(error: type[base.EngineError]) -> None:
    again = pickle.loads(pickle.dumps(error("what, where, and what to do")))
    assert type(again) is error
    assert str(again) == "what, where, and what to do"
