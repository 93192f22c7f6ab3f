"""The live view: a screen on a terminal, plain lines elsewhere, and the end summary."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from actors.coordinator.journal import FILE, Journal
from agentfactory.live import LiveView, show_result
from agentfactory.report.terminal import rounds_table
from configs.load import load_settings
from messages.adapters import AdapterRef
from messages.episodes import EpisodeFailed
from messages.runs import (
    ActorRestarted,
    RoundFinished,
    RoundSummary,
    RunFailed,
    RunFinished,
    RunProgress,
    RunResult,
    RunResumed,
    StepFinished,
)
from runtime.cell import CellStatistics
from runtime.topics import EventsMissed
from runtime.transport import ProcessStatistics

SETTINGS = load_settings("laptop")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_round(version: int, pass_at_1: float = 0.5) -> RoundFinished:
    return RoundFinished(
        version=version,
        pass_at_1=pass_at_1,
        n=300,
        ci95=(pass_at_1 - 0.05, pass_at_1 + 0.05),
        mean_reward=0.282,
        tool_use=0.75,
        train_s=0.8,
        rollout_s=1.3,
        tokens=70_200,
        difficulty=0.35,
        staleness=0.88,
        at=1.0,
    )


def progress(**changes: float) -> RunProgress:
    values: dict[str, float] = {
        "version": 3, "rounds": 12, "running": 41, "accepted": 20, "batch": 32, "evaluating": 120,
        "episodes": 1654, "failed": 3, "dropped_stale": 1, "filtered": 76, "tokens": 93_000,
        "tokens_per_s": 9321.2, "mean_reward": 0.5, "success": 0.5, "difficulty": 0.45, "elapsed_s": 20.0,
    }  # fmt: skip
    return RunProgress.model_validate(values | changes)


def failed(number: int, reason: str = "engine-0 did not answer") -> EpisodeFailed:
    return EpisodeFailed(
        episode_id=f"g000001-{number}", attempt=1, error="AskTimeout", reason=reason, will_retry=True
    )


def plain_view(folder: Path, clock: Clock | None = None) -> tuple[LiveView, io.StringIO]:
    out = io.StringIO()
    return LiveView(SETTINGS, folder, Console(file=out, width=80), clock=clock or Clock()), out


def screen(view: LiveView, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=100, height=height, record=True)
    console.print(view._screen())
    return console.export_text()


def terminal_view(folder: Path, height: int = 40) -> LiveView:
    console = Console(file=io.StringIO(), width=100, height=height, force_terminal=True)
    return LiveView(SETTINGS, folder, console, repaint=True)


def test_without_a_terminal_each_round_is_one_plain_line(tmp_path: Path) -> None:
    view, out = plain_view(tmp_path)
    with view:
        view.starting("engine")
        view.update(a_round(0, 0.26))
        view.update(progress())
        view.update(a_round(1, 0.48))
    lines = out.getvalue().splitlines()
    assert lines[0] == f"AgentFactory laptop · model seed · {tmp_path}"
    assert lines[1].endswith("starting engine")
    assert "version 0  pass@1 26.0% (21.0–31.0, n=300)  reward 0.282  tools 75.0%" in lines[2]
    assert "version 1  pass@1 48.0%" in lines[3]
    assert len(lines) == 4
    assert "\x1b" not in out.getvalue()


def test_without_a_terminal_nothing_is_coloured_even_where_colours_are_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    view, out = plain_view(tmp_path)
    with view:
        view.update(a_round(0))
        view.update(RunFailed(error="ActorDown", reason="the trainer died", at=1.0))
    assert "\x1b" not in out.getvalue()


def test_a_long_silence_is_broken_by_how_the_run_stands(tmp_path: Path) -> None:
    clock = Clock()
    view, out = plain_view(tmp_path, clock)
    with view:
        view.update(progress())
        clock.now += 31
        view.update(progress(elapsed_s=51.0))
        view.update(progress(elapsed_s=51.2))
    spoken = out.getvalue().splitlines()[1:]
    assert len(spoken) == 1
    assert "step 4/12: 20/32 groups ready, 41 running" in spoken[0]


def test_many_failures_of_a_kind_take_few_lines(tmp_path: Path) -> None:
    view, out = plain_view(tmp_path)
    with view:
        for number in range(250):
            view.update(failed(number))
    assert [line.count("failed") for line in out.getvalue().splitlines()[1:]] == [1] * 5
    assert "100 of this kind so far" in out.getvalue()


def test_a_reason_cannot_steer_the_terminal(tmp_path: Path) -> None:
    view, out = plain_view(tmp_path)
    with view:
        view.update(failed(0, "[red]evil[/] \x1b[2J\nsecond line"))
    assert "\x1b" not in out.getvalue()
    assert "[red]evil[/] [2J second line" in out.getvalue()


def test_the_reason_of_a_failed_run_is_told_in_full(tmp_path: Path) -> None:
    reason = "the engine died: " + "because " * 40 + "of memory"
    view = terminal_view(tmp_path)
    view.update(RunFailed(error="ActorDown", reason=reason, at=1.0))
    assert "of memory" in screen(view)


def test_the_screen_shows_rounds_batch_counts_queues_and_notices(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    for event in (a_round(0, 0.26), a_round(1, 0.48), progress()):
        view.update(event)
    view.update(ActorRestarted(actor="engine-0", cause="see the log", restarts=1, at=1.0))
    view.actors({"student-0": _statistics(1, 5, 300), "student-1": _statistics(2, 4, 400)})
    text = screen(view)
    for piece in ("26.0%", "48.0%", "step 4/12", "20/32 groups  41 running  evaluating 120",
                  "9,321 tokens/s", "76 filtered", "1 dropped as stale", "student 9 (700 MB)",
                  "engine-0 was restarted (1 restart so far)"):  # fmt: skip
        assert piece in text


def test_actors_that_share_a_process_share_its_memory(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    view.actors({"sink": _statistics(7, 1, 900), "teacher": _statistics(7, 0, 900)})
    assert "sink 1 · teacher 0 · 900 MB in all" in screen(view)


def test_what_is_starting_is_named_until_the_run_goes(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    view.starting("engine")
    assert "starting engine" in screen(view)
    view.update(progress())
    assert "starting engine" not in screen(view)


def test_a_step_shows_its_health(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    view.update(progress())
    view.update(
        StepFinished(
            policy="student", adapter=AdapterRef(policy="student", version=4), group_ids=(), loss=0.01,
            kl_to_base=0.02, clip_fraction=0.03, entropy=0.4, grad_norm=1.0, tokens=1, train_s=1.0, at=1.0,
        )
    )  # fmt: skip
    assert "loss 0.010 · entropy 0.400 · KL 0.020 · clipped 3.0%" in screen(view)


def test_many_rounds_keep_the_first_and_the_last_ones() -> None:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(rounds_table([a_round(version) for version in range(100)], limit=5))
    versions = [line.split()[0] for line in console.export_text().splitlines()[2:] if line.strip()]
    assert versions == ["0", "⋮", "97", "98", "99"]


@pytest.mark.parametrize("event", [RunResumed(at=1.0), EventsMissed(count=3)])
def test_rounds_that_the_view_did_not_see_come_from_the_journal(
    tmp_path: Path, event: RunResumed | EventsMissed
) -> None:
    journal = Journal(tmp_path / FILE)
    journal.append(a_round(0, 0.26))
    journal.close()
    view = terminal_view(tmp_path)
    view.update(event)
    assert "26.0%" in screen(view)


def test_the_last_screen_stays_and_says_how_the_run_ended(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, height=40, force_terminal=True)
    with LiveView(SETTINGS, tmp_path, console, repaint=True) as view:
        view.update(a_round(0, 0.26))
        view.update(
            RunFinished(reason="rounds", episodes=9, failed=0, dropped_stale=0, tokens=1, wall_s=83, at=1.0)
        )
    assert "the run is finished (9 episodes in 1 min 23 s)" in out.getvalue()


def test_the_summary_names_gains_folder_and_next_commands(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    (folder / "trajectories").mkdir(parents=True)
    text = summary(result(folder, (0.21, 0.31), (0.85, 0.92)))
    assert "held-out pass@1  26.0% (21.0–31.0) → 89.0% (85.0–92.0)" in text
    assert "tool use         30.0% → 99.0%" in text
    assert "trajectories/   every episode" in text
    assert "report.html" not in text
    assert f"agentfactory solve \"What is 12*(7+5)?\" --run '{folder}'" in text
    assert "overlap" not in text


def test_the_summary_says_when_intervals_overlap(tmp_path: Path) -> None:
    assert "The intervals overlap" in summary(result(tmp_path, (0.2, 0.9), (0.8, 0.95)))


def test_the_summary_of_a_run_without_rounds_says_so(tmp_path: Path) -> None:
    empty = RunResult(
        run_dir=str(tmp_path), rounds=(), episodes=0, failed=0, dropped_stale=0, tokens=0, wall_s=0
    )
    assert "No version has been evaluated" in summary(empty)


def summary(told: RunResult) -> str:
    out = io.StringIO()
    show_result(Console(file=out, width=60), told)
    return out.getvalue()


def result(folder: Path, before: tuple[float, float], after: tuple[float, float]) -> RunResult:
    first = RoundSummary(
        version=0, pass_at_1=0.26, n=300, ci95=before, mean_reward=0.1, tool_use=0.3, train_s=0, rollout_s=0
    )
    last = first.model_copy(update={"version": 12, "pass_at_1": 0.89, "ci95": after, "tool_use": 0.99})
    return RunResult(
        run_dir=str(folder), rounds=(first, last), episodes=10, failed=1, dropped_stale=0, tokens=5, wall_s=9
    )


def _statistics(pid: int, waiting: int, memory_mb: int) -> ProcessStatistics:
    cell = CellStatistics("x", True, waiting, 1024, (), 10, 0)
    return ProcessStatistics(cell, pid, memory_mb, 1.0)


def test_the_clock_stops_with_the_run(tmp_path: Path) -> None:
    clock = Clock()
    view, out = plain_view(tmp_path, clock)
    with view:
        view.update(progress(elapsed_s=20.0))
        clock.now += 2
        view.update(RunFailed(error="ActorDown", reason="the trainer died", at=1.0))
        clock.now += 50
        view.update(a_round(1))
    assert [line[:12] for line in out.getvalue().splitlines()[1:]] == ["[   22.0 s] "] * 2
