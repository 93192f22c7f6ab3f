"""Reward terms: small functions of an episode that a reward is composed of."""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

from ..configs.rewards import (
    BrierScoreTerm,
    CorrectnessTerm,
    EnvironmentTerm,
    FormatTerm,
    LengthTerm,
    NoveltyTerm,
    RewardTermSettings,
    ToolChainTerm,
    ToolUseTerm,
    UncertaintyTerm,
)
from ..messages.episodes import RewardTerm, Solution, Verdict
from ..messages.tasks import Task
from ..messages.turns import ToolCall, ToolResult, Turn

_WORD: Final = re.compile(r"-?\d+(?:[./]\d+)*|[^\W\d_]{3,}")
"""What can show that a text follows from another: numbers, and words of three letters or more…"""


_SAYS_NOTHING: Final = frozenset(
    ("the", "and", "for", "are", "was", "not", "has", "that", "this", "with", "from"),
)
"""… but for these."""


class JudgedEpisode(NamedTuple):
    """What a reward may depend on."""

    task: Task
    turns: Sequence[Turn]
    answer: str | None
    verdict: Verdict
    p_hat: float = 0.0
    """The majority share of the group."""
    confidence: float = 0.0

    @classmethod
    def of(cls, task: Task, solution: Solution, verdict: Verdict, p_hat: float = 0.0) -> Self:
        """Of a solution that was judged."""
        return cls(task, solution.turns, solution.answer, verdict, p_hat, solution.confidence)

    @property
    def exchanges(self) -> Iterator[tuple[ToolCall, ToolResult | None]]:
        """All calls with what they were answered by, in order."""
        return (exchange for turn in self.turns for exchange in turn.exchanges)


def uncertainty(p_hat: float) -> float:
    """1 − 2|p̂ − 0.5|: 1 where the Student is of two minds, 0 where it always or never agrees."""
    return 1.0 - 2.0 * abs(p_hat - 0.5)


def tool_use(turns: Sequence[Turn], verdict: Verdict) -> float:
    """What the tools contributed, in 0..1.

    score / (1 + needless)   if the answer is correct and some call succeeded
    0                        otherwise

    A call is needless if it failed, got no result, or repeats an earlier one (same tool, same input).
    Calls are paid for through the answer that they led to and never by themselves: a wrong answer
    earns nothing here, even with partial credit, so that calling a tool can never lift a wrong answer
    above a right one. Nor does the number of calls raise it, so padding with more does not pay.
    """
    if not verdict.correct:
        return 0.0
    useful: set[tuple[str, str]] = set()
    needless = 0
    for turn in turns:
        for call, result in turn.exchanges:
            key = (call.tool, call.input.strip())
            if result is not None and result.ok and key not in useful:
                useful.add(key)
            else:
                needless += 1
    return verdict.score / (1 + needless) if useful else 0.0


def tool_chain(term: ToolChainTerm, episode: JudgedEpisode) -> float:
    """Pays for the calls that a correct answer follows from and charges for the others; in −1..1."""
    calls = [call for call, _ in episode.exchanges]
    needed = needed_calls(episode)
    made = [calls[index].tool for index in needed]
    paid = _in_order(made, term.chain) / len(term.chain) if term.chain else float(bool(made))
    charged = min(term.most, term.charge * (len(calls) - len(needed)))
    return (episode.verdict.score * paid if episode.verdict.correct else 0.0) - charged


def needed_calls(episode: JudgedEpisode) -> list[int]:
    """Which calls the answer follows from, by their number in order.

    Read backwards: a call is needed if it succeeded and its output shares a number or word with the
    answer, or with the input of a later call that is needed. Between calls, what already stands in the
    task shows nothing. Of calls that repeat one another only the last can be needed.
    """
    given = _words(episode.task.description)
    wanted = _words(episode.answer or "")
    links: set[str] = set()
    found: list[int] = []
    seen: set[tuple[str, str]] = set()
    for index, (call, result) in reversed(list(enumerate(episode.exchanges))):
        key = (call.tool, call.input.strip())
        if result is None or not result.ok or key in seen:
            continue
        said = _words(result.output)
        if said & wanted or said & links:
            seen.add(key)
            found.append(index)
            links |= _words(call.input) - given
    return found[::-1]


def length_score(term: LengthTerm, episode: JudgedEpisode) -> float:
    """1 for a correct answer in no tokens at all, 0 at `tokens` and beyond."""
    sampled = sum(len(turn.completion_ids) for turn in episode.turns)
    return max(0.0, 1.0 - sampled / term.tokens) if episode.verdict.correct else 0.0


def well_formed(episode: JudgedEpisode) -> float:
    """Share of the turns that hold a call or, the last one, the answer."""
    if not episode.turns:
        return 0.0
    good = sum(bool(turn.calls) for turn in episode.turns)
    answered = episode.answer is not None and not episode.turns[-1].calls
    return (good + answered) / len(episode.turns)


def environment(episode: JudgedEpisode) -> float:
    """The sum of the steps' rewards, kept in −1..1."""
    gained = sum(result.reward for _, result in episode.exchanges if result and result.reward is not None)
    return max(-1.0, min(1.0, gained))


def brier_score(episode: JudgedEpisode) -> float:
    """One minus the Brier score of the confidence."""
    return 1.0 - (episode.confidence - float(episode.verdict.correct)) ** 2


def weighted_sum(
    terms: Sequence[RewardTermSettings], episode: JudgedEpisode
) -> tuple[tuple[RewardTerm, ...], float]:
    """Each term's value, and the weighted sum in their order."""
    values: list[RewardTerm] = []
    total = 0.0
    for term in terms:
        applies = not term.domains or episode.task.domain in term.domains
        value = _value(term, episode) if applies else 0.0
        values.append(RewardTerm(name=term.name or term.kind, value=value))
        total += term.weight * value
    return tuple(values), total


def _value(term: RewardTermSettings, episode: JudgedEpisode) -> float:
    match term:
        case UncertaintyTerm():
            return uncertainty(episode.p_hat)
        case NoveltyTerm():
            return episode.task.novelty
        case CorrectnessTerm():
            verdict = episode.verdict
            return verdict.score if term.partial or verdict.correct else 0.0
        case ToolUseTerm():
            return tool_use(episode.turns, episode.verdict)
        case ToolChainTerm():
            return tool_chain(term, episode)
        case LengthTerm():
            return length_score(term, episode)
        case FormatTerm():
            return well_formed(episode)
        case EnvironmentTerm():
            return environment(episode)
        case BrierScoreTerm():
            return brier_score(episode)


def _in_order(made: Sequence[str], chain: Sequence[str]) -> int:
    """How far the chain was made, in its order, whatever came in between."""
    done = 0
    for name in made:
        done += done < len(chain) and name == chain[done]
    return done


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text)) - _SAYS_NOTHING
