"""State of a live view: changed by a run's events alone, drawn by `live_view` and `live_panels`."""

from collections import Counter, deque
from pathlib import Path
from typing import Final, NamedTuple

from ..actors.coordinator.journal import FILE
from ..messages.adapters import AdapterPublished
from ..messages.base import Event
from ..messages.episodes import EpisodeFailed
from ..messages.runs import (
    ActorRestarted,
    EpisodeSample,
    GroupFinished,
    RoundFinished,
    RunFailed,
    RunFinished,
    RunProgress,
    RunResumed,
    StepFinished,
    TasksRewarded,
)
from ..report.formats import count, duration, plain, plural
from ..runtime.topics import EventsMissed
from ..runtime.transport import ProcessStatistics
from .rounds_table import round_line

NOTICES: Final = 5
RECENT_GROUPS: Final = 64
MAX_NOTICE: Final = 600


class Notification(NamedTuple):
    """Something that a person should hear of."""

    text: str
    style: str = ""
    kind: str = ""
    """A later notice of the same kind takes its place on the screen."""
    whole: bool = False
    """Shown to its end, on as many lines as it takes."""


class LiveState:
    """State of the view: changed by events alone, and drawn by others."""

    def __init__(self, run_dir: Path) -> None:
        self._journal = run_dir / FILE
        self.rounds: dict[int, RoundFinished] = {}
        self.progress: RunProgress | None = None
        self.step: StepFinished | None = None
        """The Student's last one."""
        self.sample: EpisodeSample | None = None
        """The last episode that was shown whole."""
        self.teacher_reward: float | None = None
        """Mean over the tasks of the Teacher's last lesson."""
        self.notices: deque[Notification] = deque(maxlen=NOTICES)
        self.recent: deque[GroupFinished] = deque(maxlen=RECENT_GROUPS)
        self.adapters: dict[str, int] = {"student": 0, "teacher": 0}
        self.statistics: dict[str, ProcessStatistics] = {}
        self.starting = ""
        """What is being started; empty once the run goes."""
        self.ended = False
        self._failures: Counter[str] = Counter()

    def apply(self, event: Event) -> list[Notification]:
        """Take an event into account; returns what deserves a line of its own."""
        self.starting = ""
        self._keep(event)
        if isinstance(event, RoundFinished):
            return [Notification(round_line(event))]
        noticed = self._notice(event)
        if noticed is None:
            return []
        noticed = noticed._replace(text=plain(noticed.text, MAX_NOTICE))
        if noticed.kind:
            older = [one for one in self.notices if one.kind != noticed.kind]
            self.notices = deque(older, maxlen=NOTICES)
        self.notices.append(noticed)
        return [noticed]

    def _keep(self, event: Event) -> None:
        match event:
            case RunProgress():
                self.progress = event
            case RoundFinished():
                self.rounds[event.version] = event
            case GroupFinished():
                self.recent.append(event)
            case StepFinished(policy="student"):
                self.step = event
            case TasksRewarded():
                self.teacher_reward = event.mean
            case EpisodeSample():
                self.sample = event
            case AdapterPublished():
                self.adapters[event.adapter.policy] = event.adapter.version
            case RunResumed() | EventsMissed():
                self.reread()
            case RunFinished() | RunFailed():
                self.ended = True

    def _notice(self, event: Event) -> Notification | None:
        match event:
            case RunResumed():
                return Notification(
                    f"resumed with {plural(len(self.rounds), 'round')} in the journal", "cyan"
                )
            case EventsMissed():
                missed = plural(event.count, "event") if event.count >= 0 else "some events"
                return Notification(f"the view missed {missed}; the run did not", "dim")
            case EpisodeFailed():
                return self._episode_failed(event)
            case ActorRestarted():
                times = plural(event.restarts, "restart")
                return Notification(
                    f"{event.actor} was restarted ({times} so far): {plain(event.cause, 240)}", "yellow"
                )
            case RunFinished():
                return Notification(_ending(event), "green")
            case RunFailed():
                return Notification(f"the run failed ({event.error}): {event.reason}", "bold red", whole=True)
        return None

    def reread(self) -> None:
        """Take the rounds from the journal: of earlier sittings, or that were missed."""
        mark = b'{"kind":"round_finished"'
        try:
            with self._journal.open("rb") as lines:
                found = [line for line in lines if line.startswith(mark) and line.endswith(b"\n")]
            rounds = [RoundFinished.model_validate_json(line) for line in found]
        except (OSError, ValueError):
            return  # a view does without; whoever needs the journal reports what is wrong with it
        self.rounds.update({one.version: one for one in rounds})

    def _episode_failed(self, event: EpisodeFailed) -> Notification | None:
        """The first three of a kind, and then the tenth, the hundredth …"""
        self._failures[event.error] += 1
        times = self._failures[event.error]
        if times > 3 and 10 ** (len(str(times)) - 1) != times:
            return None
        so_far = f", {count(times)} of this kind so far" if times > 1 else ""
        then = "will be tried again" if event.will_retry else "given up, left out of training"
        text = f"episode {event.episode_id} failed ({event.error}{so_far}; {then}): {event.reason}"
        return Notification(text, "yellow" if event.will_retry else "red", kind=event.error)


def _ending(finished: RunFinished) -> str:
    why = {
        "rounds": "the run is finished",
        "drained": "the run was drained: nothing is lost, it can be resumed",
        "frontier_exhausted": "the run is over: no tasks are left inside the frontier",
    }
    took = f"{plural(finished.episodes, 'episode')} in {duration(finished.wall_s)}"
    return f"{why[finished.reason]} ({took})"


STEPS: Final = 4
"""Steps that are looked back upon."""
LEAST_FILLED: Final = 0.25
"""Share of the first batch from which on its step can be estimated."""


class RemainingTime:
    """Takes note of when steps end, in seconds of work.

    >>> remaining = RemainingTime()
    >>> for elapsed_s in (10.0, 30.0): remaining.mark(elapsed_s)
    >>> remaining.estimate(elapsed_s=35.0, steps=3, filled=0.1)
    55.0
    """

    def __init__(self) -> None:
        self._marks: deque[float] = deque(maxlen=STEPS + 1)

    def mark(self, elapsed_s: float) -> None:
        """Work began, or a step ended."""
        self._marks.append(elapsed_s)

    def estimate(self, *, elapsed_s: float, steps: int, filled: float) -> float | None:
        """Seconds for `steps` more steps; None while nothing can be said.

        `filled` is the share of the batch of the step under way that is there.
        """
        if not self._marks or steps < 1:
            return None
        since = elapsed_s - self._marks[-1]
        if len(self._marks) > 1:
            each = (self._marks[-1] - self._marks[0]) / (len(self._marks) - 1)
        elif filled >= LEAST_FILLED:
            each = since / min(1.0, filled)
        else:
            return None
        return max(0.0, each - since) + each * (steps - 1)
