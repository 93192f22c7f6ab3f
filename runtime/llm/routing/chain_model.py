"""One model of a routing chain: its settings checked, its calls sampled, and what they are charged."""

import asyncio
from typing import NamedTuple

from ....configs.chat_models import CircuitSettings, RoutedModelSettings
from ....configs.errors import SettingsError
from ....messages.chat import Capabilities, ChatReply, ChatRequest, Usage
from ....messages.routing import Estimate
from .. import ChatModel, capabilities_of, open_model
from ..errors import BrokenReply, ModelError, ModelTimeout
from .circuit_breaker import CircuitBreaker
from .response_cache import model_key


class ChainModel(NamedTuple):
    """One model of the chain."""

    entry: RoutedModelSettings
    model: ChatModel
    circuit: CircuitBreaker
    key: str
    """Of the model in the router's state."""


def build_chain_model(entry: RoutedModelSettings, circuit: CircuitSettings) -> ChainModel:
    """Not started yet. Raises SettingsError, which names the model."""
    try:
        _require_confidence(entry)
        model = open_model(entry.model)
    except SettingsError as error:
        raise SettingsError(f"chain: {entry.name}: {error}") from error
    return ChainModel(entry, model, CircuitBreaker(circuit), model_key(entry.model))


def _require_confidence(entry: RoutedModelSettings) -> None:
    can = capabilities_of(entry.model)
    if entry.logprobs and can.logprobs:
        return
    if entry.agreement_samples and not can.temperature:
        raise SettingsError(
            "agreement_samples: this model takes no temperature, so its replies to one request are no "
            "independent samples; set declared_confidence instead"
        )
    if not entry.agreement_samples and entry.declared_confidence is None:
        raise SettingsError(
            "there are no log-probabilities to tell from how sure it is; set agreement_samples or "
            "declared_confidence"
        )


PERHAPS_BILLED = (ModelTimeout, BrokenReply)
"""After these the provider may have counted tokens that we were never told of."""


class SampledRequest(NamedTuple):
    """A request as a model of the chain gets it, and how many samples of the reply."""

    request: ChatRequest
    samples: int


class SampleResults(NamedTuple):
    """Replies and errors of the samples."""

    replies: tuple[ChatReply, ...]
    errors: tuple[ModelError, ...]


def sampled_request(request: ChatRequest, entry: RoutedModelSettings, can: Capabilities) -> SampledRequest:
    """The request as this model gets it: with log-probabilities, or several times."""
    if entry.logprobs and can.logprobs:
        return SampledRequest(request.model_copy(update={"logprobs": True}), 1)
    return SampledRequest(request, max(1, entry.agreement_samples))


async def ask_samples(model: ChatModel, asked: SampledRequest, entry: RoutedModelSettings) -> SampleResults:
    """Ask for all samples at once; the first is as the request wants it. Other errors pass."""
    requests = [asked.request]
    requests += [_varied(asked.request, number, entry) for number in range(1, asked.samples)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_answer(model, request)) for request in requests]
    found = [task.result() for task in tasks]
    return SampleResults(
        tuple(each for each in found if isinstance(each, ChatReply)),
        tuple(each for each in found if isinstance(each, ModelError)),
    )


def charge(answers: SampleResults, most: Estimate, samples: int) -> tuple[float, int]:
    """Cost and tokens to count; for a sample that failed and may have been billed, all of its share."""
    lost = sum(isinstance(error, PERHAPS_BILLED) for error in answers.errors)
    cost = sum(reply.cost or 0.0 for reply in answers.replies) + lost * most.max_cost / samples
    tokens = sum(map(_tokens, answers.replies)) + lost * most.max_tokens // samples
    return cost, tokens


def mean_usage(replies: tuple[ChatReply, ...]) -> Usage:
    """Mean usage of one reply among these."""
    return Usage(
        prompt_tokens=max(reply.usage.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.usage.completion_tokens for reply in replies) // len(replies),
    )


def _varied(request: ChatRequest, number: int, entry: RoutedModelSettings) -> ChatRequest:
    sampling = request.sampling
    changes: dict[str, float] = {}
    if sampling.temperature == 0.0:
        changes["temperature"] = entry.agreement_temperature
    if sampling.seed is not None:
        changes["seed"] = sampling.seed + number
    return request.model_copy(update={"sampling": sampling.model_copy(update=changes)})


async def _answer(model: ChatModel, request: ChatRequest) -> ChatReply | ModelError:
    try:
        return await model.ask(request)
    except ModelError as error:
        return error


def _tokens(reply: ChatReply) -> int:
    return reply.usage.prompt_tokens + reply.usage.completion_tokens
