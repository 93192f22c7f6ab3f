"""The parts of the live screen below the table of rounds."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agentfactory.report.formats import count, megabytes, percent, plural
from agentfactory.report.watch import RunWatch
from messages.runs import RunProgress
from runtime.transport import ProcessStatistics

INDENT: Final = 8
SEPARATOR: Final = " · "


def going_on(progress: RunProgress, watch: RunWatch, width: int) -> Iterator[RenderableType]:
    """What is under way: the batch that fills, and what has been counted."""
    if not watch.ended:
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(
            total=progress.batch,
            completed=min(progress.accepted, progress.batch),
            width=24,
            complete_style="cyan",
            finished_style="green",
        )
        evaluating = f"  evaluating {count(progress.evaluating)}" if progress.evaluating else ""
        row.add_row(
            Text(f"\nstep {min(progress.version + 1, progress.rounds)}/{progress.rounds}", "bold"),
            Group(Text(""), bar),
            Text(f"\n{progress.accepted}/{progress.batch} groups  {progress.running} running{evaluating}"),
        )
        yield row
    recent = [group for group in watch.recent if group.fate != "failed"]
    parts = [f"{count(progress.tokens_per_s)} tokens/s", plural(progress.episodes, "episode")]
    parts += [f"{count(progress.failed)} failed", f"{count(progress.filtered)} filtered"]
    parts += [f"{count(progress.dropped_stale)} dropped as stale", f"difficulty {progress.difficulty:.2f}"]
    if recent:
        parts.append(f"success {percent(sum(g.success for g in recent) / len(recent))}")
    yield _flow("run", parts, width)
    if watch.step is not None:
        step = watch.step
        yield _flow(
            "step",
            [
                f"student v{watch.adapters['student']}",
                f"teacher v{watch.adapters['teacher']}",
                f"loss {step.loss:.3f}",
                f"entropy {step.entropy:.3f}",
                f"KL {step.kl_to_base:.3f}",
                f"clipped {percent(step.clip_fraction)}",
            ],
            width,
        )


def actors_line(statistics: Mapping[str, ProcessStatistics], width: int) -> Text:
    """Messages that wait for each role, and the memory of its processes."""
    waiting: Counter[str] = Counter()
    memory: dict[str, dict[int, int]] = {}
    for name, seen in statistics.items():
        role, _, number = name.rpartition("-")
        role = role if role and number.isdigit() else name
        waiting[role] += seen.cell.waiting
        memory.setdefault(role, {})[seen.pid] = seen.memory_mb
    processes = {pid: mb for role in memory.values() for pid, mb in role.items()}
    shared = len(processes) < len(memory)
    parts = [
        f"{role} {count(waiting[role])}" + ("" if shared else f" ({megabytes(sum(memory[role].values()))})")
        for role in memory
    ]
    return _flow("queues", [*parts, f"{megabytes(sum(processes.values()))} in all"], width)


def _flow(name: str, parts: Sequence[str], width: int) -> Text:
    """Pieces after a name, broken into lines between and never within them."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(SEPARATOR) + len(part) <= width - INDENT:
            lines[-1] += SEPARATOR + part
        else:
            lines.append(part)
    return Text.assemble((f"{name:<{INDENT}}", "dim"), ("\n" + " " * INDENT).join(lines))
