"""Asking one model of the chain: once, or for the samples that are compared; and what that costs."""

import asyncio
from typing import NamedTuple

from ...configs.chat_models import RoutedModelSettings
from ...messages.chat import Capabilities, ChatReply, ChatRequest, Usage
from ...messages.routing import Estimate
from ..models import ChatModel
from ..models.errors import BrokenReply, ModelError, ModelTimeout

PERHAPS_BILLED = (ModelTimeout, BrokenReply)
"""After these the provider may have counted tokens that we were never told of."""


class Asked(NamedTuple):
    """What a model was asked with, and how often."""

    request: ChatRequest
    samples: int


class Answers(NamedTuple):
    """What came back."""

    replies: tuple[ChatReply, ...]
    errors: tuple[ModelError, ...]


def fitted(request: ChatRequest, entry: RoutedModelSettings, can: Capabilities) -> Asked:
    """The request as this model gets it: with log-probabilities, or several times."""
    if entry.logprobs and can.logprobs:
        return Asked(request.model_copy(update={"logprobs": True}), 1)
    return Asked(request, max(1, entry.agreement_samples))


async def ask(model: ChatModel, asked: Asked, entry: RoutedModelSettings) -> Answers:
    """All samples at once; the first is as the request wants it. Errors that are no ModelError pass."""
    requests = [asked.request]
    requests += [_varied(asked.request, number, entry) for number in range(1, asked.samples)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_answer(model, request)) for request in requests]
    found = [task.result() for task in tasks]
    return Answers(
        tuple(each for each in found if isinstance(each, ChatReply)),
        tuple(each for each in found if isinstance(each, ModelError)),
    )


def charge(answers: Answers, most: Estimate, samples: int) -> tuple[float, int]:
    """Cost and tokens to count; for a sample that failed and may have been billed, all of its share."""
    lost = sum(isinstance(error, PERHAPS_BILLED) for error in answers.errors)
    cost = sum(reply.cost or 0.0 for reply in answers.replies) + lost * most.max_cost / samples
    tokens = sum(map(_tokens, answers.replies)) + lost * most.max_tokens // samples
    return cost, tokens


def mean_usage(replies: tuple[ChatReply, ...]) -> Usage:
    """Of one reply among these."""
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
