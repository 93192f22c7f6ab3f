"""The Student's confidence in its answer: from its tokens' probabilities, and by self-critique.

1. Log-probabilities: exp(mean(log p)) over the tokens of the answer, or of the whole last turn where the
   answer cannot be found in its tokens.
2. Self-critique: the model is shown its own episode and asked for a number, sampled greedily. That costs a
   call, and is a setting.

Neither is the chance of being right; how far they are from it is what the report's calibration shows.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Final

from ...messages.turns import Turn

QUESTION: Final = (
    "How likely is it that your answer is right? Check it, then reply with one line:\n"
    "Confidence: a number from 0 to 100"
)
_NUMBER: Final = re.compile(
    r"(?<![\w.])(\d{1,3}(?:\.\d{1,6})?)(?:\s*(?P<percent>%)|\s*/\s*(?P<out_of>\d{1,3}))?"
)


def token_confidence(turn: Turn, answer: str | None, decode: Callable[[Sequence[int]], str]) -> float:
    """exp(mean(log p)) over the answer's tokens; 0 for a turn without tokens."""
    logprobs = _answer_logprobs(turn, answer, decode) or turn.logprobs
    return min(1.0, math.exp(math.fsum(logprobs) / len(logprobs))) if logprobs else 0.0


def read_critique(text: str) -> float | None:
    """The number behind `Confidence:`, else the first one, as 0..1; None if there is none that can be one.

    A whole number is taken for percent, one with a point that is at most 1 for a probability.

    >>> [read_critique(text) for text in ("Confidence: 85", "I say 0.85.", "9/10", "100%", "sure")]
    [0.85, 0.85, 0.9, 1.0, None]
    """
    _, _, behind = text.lower().rpartition("confidence:")
    found = _NUMBER.search(behind) or _NUMBER.search(text)
    if found is None:
        return None
    number = float(found[1])
    if found["out_of"]:
        scale = float(found["out_of"])
    else:
        scale = 1.0 if "." in found[1] and number <= 1.0 and not found["percent"] else 100.0
    return number / scale if scale > 0.0 and number <= scale else None


def combined(by_tokens: float, by_critique: float | None, critique_weight: float) -> float:
    """The weighted mean of both; the first alone where the second could not be had."""
    if by_critique is None:
        return by_tokens
    return (1.0 - critique_weight) * by_tokens + critique_weight * by_critique


def _answer_logprobs(
    turn: Turn, answer: str | None, decode: Callable[[Sequence[int]], str]
) -> Sequence[float]:
    """Those of the tokens that the answer's last mention is made of; empty if it is not found."""
    if not answer:
        return ()
    texts = [decode((token,)) for token in turn.completion_ids]
    start = "".join(texts).rfind(answer)
    if start < 0:
        return ()
    found: list[float] = []
    at = 0
    for text, logprob in zip(texts, turn.logprobs, strict=True):
        if at < start + len(answer) and at + len(text) > start:
            found.append(logprob)
        at += len(text)
    return found
