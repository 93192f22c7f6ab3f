"""Calibration of confidences: expected calibration error, and temperature scaling.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017. A confidence p becomes
σ(logit(p)/T), with the one T that makes the verdicts most likely; T > 1 says that the policy is too sure.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

BINS: Final = 10
_EDGE: Final = 1e-6
"""Confidences are kept this far from 0 and 1, where the logit has no end."""
_LOWEST, _HIGHEST = math.log(0.05), math.log(20.0)
"""Of log T."""
_STEPS: Final = 60


class ScoredAnswer(NamedTuple):
    """One answer: how sure its author was, and whether it was right."""

    confidence: float
    correct: bool


class CalibrationBin(NamedTuple):
    """Answers of one interval of confidence."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean."""
    right: float
    """Share of correct answers."""


class Calibration(NamedTuple):
    """Before and after temperature scaling."""

    n: int
    temperature: float
    """Fitted on all answers."""
    error: float
    """Expected calibration error of the confidences as they are."""
    scaled_error: float
    """Of the scaled ones: each half of the answers scaled by the temperature that the other half gave."""
    bins: tuple[CalibrationBin, ...]
    """Of the confidences as they are; empty intervals are left out."""


def bins_of(answers: Sequence[ScoredAnswer]) -> tuple[CalibrationBin, ...]:
    """Ten intervals [i/10, (i+1)/10); 1.0 belongs to the last."""
    held: list[list[ScoredAnswer]] = [[] for _ in range(BINS)]
    for answer in answers:
        held[min(BINS - 1, int(answer.confidence * BINS))].append(answer)
    return tuple(
        CalibrationBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            n=len(inside),
            confidence=math.fsum(each.confidence for each in inside) / len(inside),
            right=sum(each.correct for each in inside) / len(inside),
        )
        for index, inside in enumerate(held)
        if inside
    )


def calibration_error(answers: Sequence[ScoredAnswer]) -> float:
    """Σ n_b/n · |share right − mean confidence|; 0 without answers."""
    return math.fsum(each.n * abs(each.right - each.confidence) for each in bins_of(answers)) / max(
        1, len(answers)
    )


def scaled(confidence: float, temperature: float) -> float:
    """σ(logit(p)/T)."""
    kept = min(1.0 - _EDGE, max(_EDGE, confidence))
    return 1.0 / (1.0 + math.exp(-math.log(kept / (1.0 - kept)) / temperature))


def fit_temperature(answers: Sequence[ScoredAnswer]) -> float:
    """The T between 0.05 and 20 under which the verdicts are most likely; 1 without answers.

    The loss is convex in 1/T, so that it has one valley in log T: golden-section search finds it.
    """
    if not answers:
        return 1.0
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    low, high = _LOWEST, _HIGHEST
    for _ in range(_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _loss(answers, math.exp(left)) <= _loss(answers, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2.0)


def calibrate(answers: Sequence[ScoredAnswer]) -> Calibration:
    """All of it. The halves are every other answer, in the order given."""
    halves = answers[::2], answers[1::2]
    rescaled = [
        answer
        for half, other in (halves, halves[::-1])
        for answer in _scaled_all(half, fit_temperature(other))
    ]
    return Calibration(
        n=len(answers),
        temperature=fit_temperature(answers),
        error=calibration_error(answers),
        scaled_error=calibration_error(rescaled),
        bins=bins_of(answers),
    )


def _scaled_all(answers: Sequence[ScoredAnswer], temperature: float) -> list[ScoredAnswer]:
    return [answer._replace(confidence=scaled(answer.confidence, temperature)) for answer in answers]


def _loss(answers: Sequence[ScoredAnswer], temperature: float) -> float:
    """Negative log-likelihood of the verdicts."""
    total = 0.0
    for confidence, correct in answers:
        p = min(1.0 - _EDGE, max(_EDGE, scaled(confidence, temperature)))
        total -= math.log(p if correct else 1.0 - p)
    return total
