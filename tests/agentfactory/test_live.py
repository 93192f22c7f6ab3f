"""The live view: a screen on a terminal, plain lines elsewhere, and the end summary."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from agentfactory.actors.coordinator.journal import FILE, Journal
from agentfactory.configs.load import load_settings
from agentfactory.messages.adapters import AdapterRef
from agentfactory.messages.episodes import EpisodeFailed
from agentfactory.messages.runs import (
    ActorRestarted,
    DomainScore,
    EpisodeSample,
    RoundFinished,
    RoundSummary,
    RunFailed,
    RunFinished,
    RunProgress,
    RunResult,
    RunResumed,
    StepFinished,
    TasksRewarded,
)
from agentfactory.runtime.supervised_actor import ActorStatistics
from agentfactory.runtime.topics import EventsMissed
from agentfactory.runtime.transport import ProcessStatistics
from agentfactory.terminal.live_view import LiveView, StartLine, show_result, show_start
from agentfactory.terminal.rounds_table import rounds_table

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
        asked_difficulty=0.35,
        proposed_difficulty=0.41,
        staleness=0.88,
        at=1.0,
    )


def progress(**changes: float) -> RunProgress:
    values: dict[str, float] = {
        "version": 3, "rounds": 12, "running": 41, "accepted": 20, "batch": 32, "evaluating": 120,
        "episodes": 1654, "failed": 3, "dropped_stale": 1, "filtered": 76, "tokens": 93_000,
        "tokens_per_s": 9321.2, "mean_reward": 0.5, "success": 0.5, "asked_difficulty": 0.45,
        "proposed_difficulty": 0.5, "elapsed_s": 20.0,
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
    console = Console(file=io.StringIO(), width=view._console.width, height=height, record=True)
    console.print(view._screen())
    return console.export_text()


def terminal_view(folder: Path, height: int = 40, width: int = 100, clock: Clock | None = None) -> LiveView:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    return LiveView(SETTINGS, folder, console, repaint=True, clock=clock or Clock())


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


def test_the_screen_shows_rounds_batch_counts_and_notices(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    for event in (a_round(0, 0.26), a_round(1, 0.48), progress()):
        view.update(event)
    view.update(ActorRestarted(actor="engine-0", cause="see the log", restarts=1, at=1.0))
    view.actors({"student-0": _statistics(1, 5, 300), "student-1": _statistics(2, 4, 400)})
    text = screen(view)
    for piece in ("26.0%", "48.0%", "step 4/12", "20/32 groups  41 running  evaluating 120",
                  "9,321 tokens/s", "76 filtered", "1 dropped as stale", "700 MB",
                  "difficulty asked 0.45 · proposed 0.50",
                  "engine-0 was restarted (1 restart so far)"):  # fmt: skip
        assert piece in text


def test_actors_that_share_a_process_share_its_memory(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    view.update(progress())
    view.actors({"sink": _statistics(7, 1, 900), "teacher": _statistics(7, 0, 900)})
    assert "3 failed · 76 filtered · 1 dropped as stale · 900 MB" in screen(view)


def three_domains(version: int) -> RoundFinished:
    shares = {"math": 0.8123, "logic": 0.7875, "data": 0.55}
    scores = [
        DomainScore(domain=name, pass_at_1=share, n=80, ci95=(share - 0.1, share + 0.1), tool_use=0.9)
        for name, share in shares.items()
    ]
    return a_round(version, 0.717).model_copy(
        update={"domains": tuple(scores), "rollout_s": 83.0, "train_s": 11.24, "tokens": 23_400}
    )


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (60, "ver pass@1 95% math logic data reward tools"),
        (80, "ver pass@1 95% math logic data reward tools rollout train"),
        (108, "ver pass@1 95% math logic data reward tools stale asked proposed tokens rollout train"),
        (200, "ver pass@1 95% math logic data reward tools stale asked proposed tokens rollout train"),
    ],
)
def test_the_table_shows_the_columns_that_there_is_room_for_and_each_whole(
    tmp_path: Path, width: int, columns: str
) -> None:
    view = terminal_view(tmp_path, width=width)
    for event in (three_domains(0), three_domains(12), progress(), a_sample()):
        view.update(event)
    lines = screen(view).splitlines()
    head = next(line for line in lines if line.startswith("ver"))
    assert head.split() == columns.split()
    row = next(line for line in lines if line.split()[:1] == ["12"])
    assert "71.7%" in row
    assert "81.2%" in row
    assert all(len(line) <= width for line in lines)
    cut = [line for line in lines[1:] if "…" in line]  # the first one names the folder
    assert all(line.startswith("sample") for line in cut)


def test_many_domains_and_long_names_leave_the_first_figures_whole(tmp_path: Path) -> None:
    many = a_round(3).model_copy(
        update={
            "domains": tuple(
                DomainScore(
                    domain=f"{name}_with_a_long_name", pass_at_1=0.5, n=9, ci95=(0.4, 0.6), tool_use=0.1
                )
                for name in ("one", "two", "three", "four", "five", "six", "seven")
            )
        }
    )
    for width in (40, 60, 80, 108, 200):
        view = terminal_view(tmp_path, width=width)
        view.update(many)
        lines = screen(view).splitlines()
        row = next(line for line in lines if line.split()[:1] == ["3"])
        assert row.split()[:2] == ["3", "50.0%"]
        assert all(len(line) <= width for line in lines)


def a_sample(**changes: object) -> EpisodeSample:
    values: dict[str, object] = {
        "episode_id": "g1-0", "domain": "math", "task": "What is 12*(7+5)?\x1b[2J" + " more" * 60,
        "tool": "python", "call": "12*(7+5)", "output": "144", "answer": "144", "correct": True,
    }  # fmt: skip
    return EpisodeSample.model_validate(values | changes)


def test_an_episode_is_shown_with_task_call_answer_and_verdict_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    view = terminal_view(tmp_path, width=80, clock=clock)
    view.update(progress())
    view.update(a_sample())
    text = screen(view)
    for piece in ("sample  math: What is 12*(7+5)?", "python(12*(7+5)) → 144", "answer 144  ✓ right"):
        assert piece in text
    assert "\x1b" not in text
    clock.now += 1
    view.update(a_sample(answer="13", correct=False))
    assert "✓ right" in screen(view)  # it can be read
    clock.now += 3
    view.update(a_sample(tool="", answer=None, correct=False))
    text = screen(view)
    assert "no answer  ✗ wrong" in text
    assert "python(" not in text


def test_what_is_not_known_is_not_shown_as_nothing(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    view.update(
        RunProgress.model_validate(progress().model_dump() | {"proposed_difficulty": None, "tokens": 0})
    )
    view.update(_step())
    text = screen(view)
    for piece in ("– tokens/s", "proposed –", "success –", "KL –"):
        assert piece in text
    assert "teacher v0 ·" in text
    view.update(TasksRewarded(version=0, task_ids=("a", "b"), rewards=(0.2, 0.6), at=1.0))
    assert "teacher v0, reward 0.40" in screen(view)


def test_the_time_that_is_left_follows_from_the_steps_made(tmp_path: Path) -> None:
    clock = Clock()
    view = terminal_view(tmp_path, clock=clock)
    view.update(progress(version=0, accepted=0, elapsed_s=10.0))
    assert "about" not in screen(view)
    clock.now += 20
    view.update(progress(version=0, accepted=16, elapsed_s=30.0))
    assert "30.0 s · about 7 min 40 s left" in screen(view)  # half a step in 20 s, 12 steps
    clock.now += 25
    view.update(_step())
    view.update(progress(version=1, accepted=0, elapsed_s=55.0))
    clock.now += 5
    assert "1 min 00 s · about 8 min 10 s left" in screen(view)  # 45 s a step, 11 steps, 5 s of them gone
    view.update(
        RunFinished(reason="rounds", episodes=9, failed=0, dropped_stale=0, tokens=1, wall_s=83, at=1.0)
    )
    assert "about" not in screen(view)


def test_the_start_ticks(tmp_path: Path) -> None:
    clock = Clock()
    line = StartLine(clock(), clock)
    line.say("engine, teacher, students, verifier, sink, trainer")
    clock.now += 12.34
    for width in (40, 80):
        console = Console(file=io.StringIO(), width=width, record=True)
        console.print(line.render())
        (text,) = console.export_text().splitlines()
        assert "starting engine, teacher" in text
        assert text.rstrip().endswith("12.3 s")


def test_without_a_terminal_each_thing_that_starts_is_a_line_with_its_time() -> None:
    clock, out = Clock(), io.StringIO()
    with show_start(Console(file=out, width=80), clock) as say:
        say("Ray")
        clock.now += 5.5
        say("coordinator")
    assert out.getvalue().splitlines() == ["starting Ray (0.0 s)", "starting coordinator (5.5 s)"]


def _step(**changes: float) -> StepFinished:
    values: dict[str, object] = {
        "policy": "student", "adapter": AdapterRef(policy="student", version=4), "group_ids": (),
        "loss": 0.01, "clip_fraction": 0.03, "entropy": 0.4, "grad_norm": 1.0, "tokens": 1,
        "train_s": 1.0, "at": 1.0,
    }  # fmt: skip
    return StepFinished.model_validate(values | changes)


def test_what_is_starting_is_named_until_the_run_goes(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    view.starting("engine")
    assert "starting engine" in screen(view)
    view.update(progress())
    assert "starting engine" not in screen(view)


def test_a_step_shows_its_health(tmp_path: Path) -> None:
    view = terminal_view(tmp_path)
    view.update(progress())
    view.update(_step(kl_to_base=0.02))
    assert "loss 0.010 · entropy 0.400 · KL 0.020 · clipped 3.0%" in screen(view)


def test_many_rounds_keep_the_first_and_the_last_ones() -> None:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(rounds_table([a_round(version) for version in range(100)], limit=5, width=100))
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
    cell = ActorStatistics("x", True, waiting, 1024, (), 10, 0)
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
