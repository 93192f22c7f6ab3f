"""Example episodes as the page shows them: what was thought, called, observed and answered."""

from typing import Final, NamedTuple

from ..messages.trajectories import Trajectory
from ..messages.turns import Turn
from ..runtime.tools.calls.parser import parse_reply
from .formats import count
from .held_out import Change, HeldOutExample

MAX_CHARACTERS: Final = 700
MAX_TURNS: Final = 6

HEADINGS: Final[dict[Change, str]] = {
    "learned": "Wrong before, right after",
    "forgotten": "Right before, wrong after",
    "never": "Wrong before and after",
    "always": "Right before and after",
}


class ExampleLine(NamedTuple):
    """One labelled piece of an episode."""

    label: str
    text: str
    kind: str
    """A CSS class."""


class ShownEpisode(NamedTuple):
    """One side of an example."""

    version: int
    lines: tuple[ExampleLine, ...]
    correct: bool
    explanation: str


class ShownExample(NamedTuple):
    """One held-out task, tried by both versions."""

    heading: str
    task: str
    reference: str
    before: ShownEpisode
    after: ShownEpisode


def shown(example: HeldOutExample) -> ShownExample:
    """An example in the words of the page."""
    task = example.before.task
    return ShownExample(
        heading=HEADINGS[example.change],
        task=cut(task.description),
        reference=cut(task.reference or ""),
        before=_episode(example.before),
        after=_episode(example.after),
    )


def cut(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The beginning of a long text, and how much is left out.

    >>> cut("abcdef", 4)
    'abcd… (2 more characters)'
    """
    return text if len(text) <= limit else f"{text[:limit]}… ({count(len(text) - limit)} more characters)"


def _episode(trajectory: Trajectory) -> ShownEpisode:
    lines = [line for turn in trajectory.turns[:MAX_TURNS] for line in _lines(turn)]
    if len(trajectory.turns) > MAX_TURNS:
        lines.append(ExampleLine("", f"… {len(trajectory.turns) - MAX_TURNS} more turns", "note"))
    lines.append(ExampleLine("Answer", cut(trajectory.answer) if trajectory.answer else "(none)", "answer"))
    verdict = trajectory.verdict
    return ShownEpisode(
        version=max((turn.policy_version for turn in trajectory.turns), default=0),
        lines=tuple(lines),
        correct=verdict is not None and verdict.correct,
        explanation=cut(verdict.explanation, 160) if verdict else "",
    )


def _lines(turn: Turn) -> list[ExampleLine]:
    reply = parse_reply(turn.text)
    if not turn.calls and reply.answer is None:
        return [ExampleLine("Wrote", cut(turn.text) or "(nothing)", "thought")]
    lines = [ExampleLine("Thought", cut(reply.thought), "thought")] if reply.thought else []
    for call, result in turn.exchanges:
        lines.append(ExampleLine(f"Call {call.tool}"[:40], cut(call.input), "call"))
        if result is not None:
            label = "Observed" if result.ok else f"Failed: {result.failure}"
            lines.append(
                ExampleLine(label, cut(result.output) or "(nothing)", "seen" if result.ok else "bad")
            )
    return lines
