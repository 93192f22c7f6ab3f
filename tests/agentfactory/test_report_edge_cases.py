"""Reports of runs that are unfinished, damaged, hostile, or no runs at all."""

import re
import shutil
from pathlib import Path

import pytest

from agentfactory.actors.coordinator.journal import FILE
from agentfactory.configs.errors import BadInput
from agentfactory.messages.runs import RunFailed
from agentfactory.messages.trajectories import Trajectory
from agentfactory.report import write_report
from agentfactory.report.report_data import collect
from tests.agentfactory.fake_run import write_fake_run


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("small") / "run", rounds=2)


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def page(folder: Path) -> str:
    files = write_report(folder)
    assert files.png.read_bytes().startswith(b"\x89PNG")
    return files.html.read_text()


def notes(folder: Path) -> str:
    return "\n".join(collect(folder).notes)


def test_a_missing_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such folder"):
        write_report(tmp_path / "nothing")


def test_a_folder_without_a_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is not a run's folder: it has no journal\.jsonl"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_journal_gives_a_report_that_says_so(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    html = page(tmp_path)
    assert "Not evaluated yet" in html
    assert "no version has been evaluated yet" in html
    assert "The settings are not known, defaults stand in" in html


def test_a_run_with_only_round_0_has_a_point_and_no_before_and_after(run: Path) -> None:
    lines = (run / FILE).read_bytes().splitlines(keepends=True)
    (run / FILE).write_bytes(b"".join(lines[:2]))
    html = page(run)
    assert "Only version 0 has been evaluated" in html
    assert "The same tasks, before and after" not in html
    assert "unfinished" in html


def test_missing_trajectories_are_named_and_the_rest_is_shown(run: Path) -> None:
    shutil.rmtree(run / "trajectories")
    html = page(run)
    assert "the folder trajectories/ is missing" in html
    assert "Held-out pass@1" in html


def test_an_evaluation_without_trajectories_is_named(run: Path) -> None:
    for segment in (run / "trajectories").iterdir():
        lines = segment.read_bytes().splitlines(keepends=True)
        segment.write_bytes(b"".join(line for line in lines if b'"eval-v2"' not in line))
    assert "no trajectories of eval-v2 are stored" in notes(run)


def test_torn_and_damaged_trajectories_are_left_out_and_counted(run: Path) -> None:
    segment = sorted((run / "trajectories").iterdir())[0]
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([lines[0][: len(lines[0]) // 2] + b"\n", *lines[1:50], lines[50][:99]]))
    found = collect(run)
    assert found.held_out is not None
    assert found.held_out.unreadable == 1
    assert len(found.held_out.before.correct) == 49
    assert "1 stored trajectory could not be read" in notes(run)


def test_a_journal_damaged_in_the_middle_is_read_up_to_there(run: Path) -> None:
    lines = (run / FILE).read_bytes().splitlines(keepends=True)
    lines[30] = b'{"kind":"nonsense"}\n'
    (run / FILE).write_bytes(b"".join(lines))
    assert "Only a part of the journal could be read" in notes(run)
    assert "line 31" in notes(run)


def test_a_torn_last_line_of_the_journal_is_left_out_silently(run: Path) -> None:
    with (run / FILE).open("ab") as stream:
        stream.write(b'{"kind":"round_fin')
    assert collect(run).notes == ()


def test_a_failed_run_says_why_and_when(run: Path) -> None:
    lines = (run / FILE).read_bytes().splitlines(keepends=True)[:-1]
    failed = RunFailed(error="ActorDown", reason="engine-0: <b>killed</b> at 7.9 GB", at=1_790_000_100.0)
    (run / FILE).write_bytes(b"".join(lines) + failed.model_dump_json().encode() + b"\n")
    html = page(run)
    assert ">failed</span>" in html
    assert "engine-0: &lt;b&gt;killed&lt;/b&gt; at 7.9 GB" in html


def test_missing_settings_are_named_and_defaults_stand_in(run: Path) -> None:
    (run / "settings.json").unlink()
    assert "The settings are not known, defaults stand in" in notes(run)


def test_text_of_models_and_settings_is_escaped(run: Path) -> None:
    evil = "<script>alert(1)</script>"
    settings = (run / "settings.json").read_text().replace('"laptop"', f'"lap$top$ {evil}"', 1)
    (run / "settings.json").write_text(settings)
    for segment in (run / "trajectories").iterdir():
        lines = [_haunted(line, evil) for line in segment.read_bytes().splitlines()]
        segment.write_bytes(b"".join(lines))
    html = page(run)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def _haunted(line: bytes, evil: str) -> bytes:
    trajectory = Trajectory.model_validate_json(line)
    turns = tuple(t.model_copy(update={"text": f"Thought: {evil}\nAnswer: {evil}"}) for t in trajectory.turns)
    task = trajectory.task.model_copy(update={"description": evil, "reference": evil})
    changed = trajectory.model_copy(update={"turns": turns, "task": task, "answer": evil})
    return changed.model_dump_json().encode() + b"\n"


def test_the_page_needs_nothing_from_anywhere(run: Path) -> None:
    html = page(run)
    assert not re.search(r"https?://|<script|<link|<img|@import|url\((?!#)", html)


def test_an_earlier_report_stays_whole_when_the_new_one_cannot_be_written(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page(run)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agentfactory.report.report_data.write_atomically", full)
    with pytest.raises(BadInput, match="No space left on device"):
        write_report(run)
    assert (run / "report.html").read_text() == before
