"""One episode of a group in a few words, for whoever watches the run."""

from typing import Final

from ...messages.runs import EpisodeSample
from ...messages.trajectories import Group, Trajectory

MAX_CHARACTERS: Final = 200
"""Of each text."""


def sample_of(group: Group) -> EpisodeSample | None:
    """The first judged episode that called a tool, else the first one; None where none is judged."""
    judged = [each for each in group.trajectories if each.verdict is not None]
    chosen = next((each for each in judged if any(turn.calls for turn in each.turns)), None)
    return _sample(chosen or judged[0]) if judged else None


def _sample(trajectory: Trajectory) -> EpisodeSample:
    exchanges = [exchange for turn in trajectory.turns for exchange in turn.exchanges]
    call, result = exchanges[-1] if exchanges else (None, None)
    answer = trajectory.answer
    return EpisodeSample(
        episode_id=trajectory.episode_id,
        domain=trajectory.task.domain,
        task=trajectory.task.description[:MAX_CHARACTERS],
        tool=call.tool if call else "",
        call=call.input[:MAX_CHARACTERS] if call else "",
        output=result.output[:MAX_CHARACTERS] if result else "",
        answer=None if answer is None else answer[:MAX_CHARACTERS],
        correct=trajectory.verdict is not None and trajectory.verdict.correct,
    )
