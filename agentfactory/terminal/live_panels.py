"""Parts of the live screen below the table of rounds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..messages.runs import EpisodeSample, RunProgress, StepFinished
from ..report.formats import count, megabytes, percent, plain, plural
from ..runtime.transport import ProcessStatistics
from .live_state import LiveState

INDENT: Final = 8
SEPARATOR: Final = " · "
NOTHING: Final = "–"
"""Stands for a figure that there is not."""


def progress_panel(progress: RunProgress, watch: LiveState, width: int) -> Iterator[RenderableType]:
    """Work under way: the batch that fills, the counts, and an episode."""
    if not watch.ended:
        yield _batch(progress, width)
    yield _flow("run", _counts(progress, watch), width)
    proposed = progress.proposed_difficulty
    success = _success(watch)
    tasks = [
        f"difficulty asked {progress.asked_difficulty:.2f}",
        f"proposed {proposed:.2f}" if proposed is not None else f"proposed {NOTHING}",
        f"success {percent(success) if success is not None else NOTHING}",
    ]
    yield _flow("tasks", tasks, width)
    if watch.step is not None:
        yield _flow("step", _step(watch.step, watch), width)
    if watch.sample is not None and not watch.ended:
        yield _episode(watch.sample, width)


def _batch(progress: RunProgress, width: int) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(
        total=progress.batch,
        completed=min(progress.accepted, progress.batch),
        width=max(8, min(40, width - 56)),
        complete_style="cyan",
        finished_style="green",
    )
    evaluating = f"  evaluating {count(progress.evaluating)}" if progress.evaluating else ""
    row.add_row(
        Text(f"\nstep {min(progress.version + 1, progress.rounds)}/{progress.rounds}", "bold"),
        Group(Text(""), bar),
        Text(f"\n{progress.accepted}/{progress.batch} groups  {progress.running} running{evaluating}"),
    )
    return row


def _counts(progress: RunProgress, watch: LiveState) -> list[str]:
    speed = f"{count(progress.tokens_per_s)} tokens/s" if progress.tokens else f"{NOTHING} tokens/s"
    if watch.ended:
        speed = f"{count(progress.tokens)} tokens"
    parts = [speed, plural(progress.episodes, "episode"), f"{count(progress.failed)} failed"]
    if progress.filtered:
        parts.append(f"{count(progress.filtered)} filtered")
    if progress.dropped_stale:
        parts.append(f"{count(progress.dropped_stale)} dropped as stale")
    if watch.statistics and not watch.ended:
        parts.append(megabytes(memory_mb(watch.statistics)))
    return parts


def _success(watch: LiveState) -> float | None:
    """Mean of the groups that were judged lately."""
    recent = [group.success for group in watch.recent if group.fate != "failed"]
    return sum(recent) / len(recent) if recent else None


def _step(step: StepFinished, watch: LiveState) -> list[str]:
    earned = watch.teacher_reward
    divergence = step.kl_to_base
    return [
        f"student v{watch.adapters['student']}",
        f"teacher v{watch.adapters['teacher']}" + ("" if earned is None else f", reward {earned:.2f}"),
        f"loss {step.loss:.3f}",
        f"entropy {step.entropy:.3f}",
        f"KL {divergence:.3f}" if divergence is not None else f"KL {NOTHING}",
        f"clipped {percent(step.clip_fraction)}",
    ]


def _episode(sample: EpisodeSample, width: int) -> Text:
    """A task, the last call with what it gave, and the answer; each on a line of its own."""
    room = max(20, width - INDENT)
    lines = [Text(plain(f"{sample.domain}: {sample.task}", room))]
    if sample.tool:
        lines.append(Text(plain(f"{sample.tool}({sample.call}) → {sample.output}", room), "dim"))
    mark = ("  ✓ right", "green") if sample.correct else ("  ✗ wrong", "red")
    answer = f"answer {sample.answer}" if sample.answer is not None else "no answer"
    lines.append(Text.assemble(plain(answer, room - len(mark[0])), mark))
    text = Text(f"{'sample':<{INDENT}}", "dim")
    for number, line in enumerate(lines):
        text.append("\n" + " " * INDENT if number else "")
        text.append_text(line)
    return text


def memory_mb(statistics: Mapping[str, ProcessStatistics]) -> int:
    """Of all processes; actors that share one are counted once."""
    return sum({seen.pid: seen.memory_mb for seen in statistics.values()}.values())


def _flow(name: str, parts: Sequence[str], width: int) -> Text:
    """Pieces after a name, broken into lines between and never within them."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(SEPARATOR) + len(part) <= width - INDENT:
            lines[-1] += SEPARATOR + part
        else:
            lines.append(part)
    return Text.assemble((f"{name:<{INDENT}}", "dim"), ("\n" + " " * INDENT).join(lines))
