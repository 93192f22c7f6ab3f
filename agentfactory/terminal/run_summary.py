"""A run's end summary in a terminal."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from ..messages.runs import DomainScore, RoundSummary, RunResult
from ..report.formats import count, domain_names, duration, interval, percent, plural, score_of

CONTENTS: Final = (
    ("report.html", "charts, and the same tasks before and after"),
    ("report.png", "the charts on one sheet"),
    ("run.json", "this result"),
    ("settings.json", "what the run was started with"),
    ("journal.jsonl", "what happened, entry by entry"),
    ("trajectories", "every episode"),
    ("data", "the store of the run's own data plane"),
    ("adapters", "each version, in PEFT's format"),
    ("checkpoints", "what resuming needs"),
    ("logs", "one file an actor"),
)
"""What may lie in a run's folder, and what it is."""


def show_result(console: Console, result: RunResult) -> None:
    """Print the run's outcome, its folder, and what to do with it."""
    for line in result_lines(result):
        console.print(line, soft_wrap=True, highlight=False)


def result_lines(result: RunResult) -> Iterable[Text]:
    """The end summary, line by line."""
    steps = plural(max((one.version for one in result.rounds), default=0), "training step")
    yield Text("")
    yield Text.assemble(
        (f"{steps} in {duration(result.wall_s)}", "bold"),
        f": {plural(result.episodes, 'episode')}, {count(result.failed)} failed, "
        f"{plural(result.dropped_stale, 'group')} dropped as stale, {count(result.tokens)} tokens",
    )
    if result.rounds:
        yield from _gains(result.rounds[0], result.rounds[-1])
    else:
        yield Text("No version has been evaluated.", "yellow")
    yield from _folder(Path(result.run_dir))
    folder = shlex.quote(result.run_dir)
    yield Text("")
    yield Text("Next", "bold")
    yield Text(f'  agentfactory solve "What is 12*(7+5)?" --run {folder}', "cyan")
    yield Text(f"  agentfactory report {folder}", "cyan")


def _gains(first: RoundSummary, last: RoundSummary) -> Iterable[Text]:
    several = last.version > first.version
    yield Text("")
    pass_before = f"{percent(first.pass_at_1)} ({interval(first.ci95)})" if several else ""
    pass_after = f"{percent(last.pass_at_1)} ({interval(last.ci95)})"
    yield _gain("held-out pass@1", pass_before, pass_after, f"n={last.n}, 95% intervals")
    for domain in domain_names((first, last)):
        before, after = score_of(first, domain), score_of(last, domain)
        yield _gain(
            f"  {domain}",
            _share(before) if several and before else "",
            _share(after) if after else "–",
            f"n={after.n}" if after else "",
        )
    yield _gain("tool use", percent(first.tool_use) if several else "", percent(last.tool_use))
    yield _gain("mean reward", f"{first.mean_reward:.3f}" if several else "", f"{last.mean_reward:.3f}")
    if several and first.ci95[1] >= last.ci95[0] and last.ci95[1] >= first.ci95[0]:
        yield Text("  The intervals overlap: this run alone does not show that anything changed.", "yellow")


def _share(score: DomainScore) -> str:
    return f"{percent(score.pass_at_1)} ({interval(score.ci95)})"


def _gain(name: str, before: str, after: str, note: str = "") -> Text:
    text = Text(f"  {name:<17}")
    if before:
        text.append(f"{before} → ", "dim")
    text.append(after, "bold")
    return text.append(f"   {note}", "dim") if note else text


def _folder(folder: Path) -> Iterable[Text]:
    yield Text("")
    yield Text(str(folder), "bold")
    for name, what in CONTENTS:
        path = folder / name
        if path.exists():
            shown = f"{name}/" if path.is_dir() else name
            yield Text.assemble(f"  {shown:<16}", (what, "dim"))
