"""Confidence of a reply: a number from 0 to 1, by the best means that a model has; and its calibration.

1. Log-probabilities: the geometric mean of the probabilities of the answer's tokens,
   exp(mean(log p)). The answer is what stands behind `Answer:` where the reply has that form, else all
   of it. It says how expected the words were to the model that wrote them. It is not the chance that
   they are right: a model can be sure and wrong, a right answer can be worded in many ways, and under
   a sampling temperature other than 1 some servers give the probabilities before it, some after it.
2. Agreement of k samples: the share of them that gave the answer which most gave. Of the answer behind
   `Answer:` where there is one, else of the whole text; case and spacing do not count. It suits short
   answers: two essays never agree. Calls agree if their names and arguments do.
3. A constant that the settings declare for the model.

Which means was used is part of the value, since values of different origins compare only roughly.
How far they are to be trusted shows in `Router.report` once outcomes are told.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ....configs.chat_models import RoutedModelSettings
from ....messages.chat import BadArguments, ChatReply, FunctionCall, TokenLogprob
from ....messages.routing import Confidence, ConfidenceBin
from ...tools.calls.parser import parse_reply


class ScoredReply(NamedTuple):
    """The reply of several that stands for them, and how sure it is."""

    reply: ChatReply
    confidence: Confidence


def score_replies(replies: Sequence[ChatReply], settings: RoutedModelSettings) -> ScoredReply:
    """`replies`: one, or the samples that are to be compared; the first is as the request wanted it."""
    first = replies[0]
    if settings.logprobs and first.tokens:
        return ScoredReply(first, Confidence(value=logprob_confidence(first), origin="logprobs"))
    if len(replies) > 1:
        return _agreed(replies)
    if settings.declared_confidence is not None:
        return ScoredReply(first, Confidence(value=settings.declared_confidence, origin="declared"))
    return ScoredReply(first, Confidence(value=0.0, origin="unknown"))


def logprob_confidence(reply: ChatReply) -> float:
    """exp(mean(log p)) over the answer's tokens.

    >>> four = TokenLogprob(text="4", logprob=math.log(0.9))
    >>> two = TokenLogprob(text="2", logprob=math.log(0.4))
    >>> reply = ChatReply(text="42", finish_reason="stop", model="m", tokens=(four, two))
    >>> round(logprob_confidence(reply), 6)
    0.6
    """
    tokens = _answer_tokens(reply)
    return min(1.0, math.exp(math.fsum(token.logprob for token in tokens) / len(tokens)))


def _answer_tokens(reply: ChatReply) -> Sequence[TokenLogprob]:
    """Those that spell the answer, byte by byte: a token may hold half a character."""
    answer = (parse_reply(reply.text).answer or "").encode("utf-8", "replace")
    spelled = [_spelled(token) for token in reply.tokens]
    start = b"".join(spelled).rfind(answer) if answer else -1
    if start < 0:
        return reply.tokens
    found: list[TokenLogprob] = []
    at = 0
    for token, data in zip(reply.tokens, spelled, strict=True):
        if at < start + len(answer) and at + len(data) > start:
            found.append(token)
        at += len(data)
    return found


def _spelled(token: TokenLogprob) -> bytes:
    return token.text.encode("utf-8", "replace") if token.utf8 is None else bytes(token.utf8)


def _agreed(replies: Sequence[ChatReply]) -> ScoredReply:
    answers = [_answer(reply) for reply in replies]
    winner, votes = Counter(answers).most_common(1)[0]
    return ScoredReply(
        replies[answers.index(winner)], Confidence(value=votes / len(replies), origin="agreement")
    )


def _answer(reply: ChatReply) -> str:
    if reply.calls:
        return json.dumps([[call.name, _arguments(call)] for call in reply.calls])
    text = parse_reply(reply.text).answer or reply.text
    return " ".join(text.casefold().split())


def _arguments(call: FunctionCall) -> str:
    try:
        return json.dumps(call.parsed(), sort_keys=True)
    except BadArguments:
        return call.arguments


BINS = 10


def bin_of(confidence: float) -> int:
    """The interval [i/10, (i+1)/10) that holds it; 1.0 belongs to the last."""
    return min(BINS - 1, int(confidence * BINS))


def bounds_of(index: int) -> tuple[float, float]:
    """An interval's ends."""
    return index / BINS, (index + 1) / BINS


def calibration_error(bins: Sequence[ConfidenceBin]) -> float | None:
    """Expected calibration error: Σ n_b/n · |right_b/n_b − mean confidence_b|; None without answers.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, 2015.
    """
    told = sum(each.told for each in bins)
    if not told:
        return None
    return sum(abs(each.right - each.told * each.mean_confidence) for each in bins) / told
