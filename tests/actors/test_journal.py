"""The journal, and what is derived from it."""

from pathlib import Path

import anyio
import pytest

from agentfactory.actors.coordinator.journal import CannotJournal, Journal, read_journal
from agentfactory.actors.coordinator.run_state import JournaledState, RunState
from agentfactory.configs.errors import BadInput
from agentfactory.configs.roles import CurriculumSettings
from agentfactory.messages.adapters import AdapterRef
from agentfactory.messages.episodes import Rewards
from agentfactory.messages.runs import (
    EpisodeSample,
    GroupDropped,
    GroupFinished,
    GroupLeased,
    JournalEntry,
    RunResumed,
    RunStarted,
    StepFinished,
)
from agentfactory.messages.tasks import Proposal, Task
from agentfactory.runtime.topics import Publish
from tests.actors.peers import Peer


def started() -> RunStarted:
    return RunStarted(run_id="r", seed=1, at=100.0, settings_sha256="")


def leased(name: str) -> GroupLeased:
    task = Task(id=f"t-{name}", domain="math", description="Compute 1+1.", difficulty=0.1)
    return GroupLeased(
        group_id=name, proposal=Proposal(task=task), episode_ids=(f"{name}-0",), version=0, at=101.0
    )


def finished(name: str, fate: str = "accepted") -> GroupFinished:
    return GroupFinished.model_validate(
        {
            "group_id": name,
            "fate": fate,
            "episodes": 8,
            "failed": 1,
            "rewards": Rewards(),
            "tokens": 70,
            "at": 105.0,
        }
    )


def stepped(*groups: str, version: int = 1) -> StepFinished:
    return StepFinished(
        policy="student",
        adapter=AdapterRef(policy="student", version=version),
        group_ids=groups,
        loss=0.1,
        clip_fraction=0.0,
        entropy=0.0,
        grad_norm=0.0,
        tokens=1,
        train_s=1.0,
        at=110.0,
    )


def state_after(*entries: JournalEntry) -> RunState:
    state = RunState(CurriculumSettings())
    for entry in entries:
        state.apply(entry)
    return state


def test_what_is_appended_can_be_read_back(tmp_path: Path) -> None:
    entries: list[JournalEntry] = [started(), leased("a"), finished("a"), stepped("a")]
    journal = Journal(tmp_path / "j")
    for entry in entries:
        journal.append(entry)
    journal.close()
    assert list(read_journal(tmp_path / "j")) == entries


def test_a_torn_last_line_is_left_out_and_then_written_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(started())
    journal.close()
    with (tmp_path / "j").open("ab") as stream:
        stream.write(b'{"kind": "group_lea')
    assert list(read_journal(tmp_path / "j")) == [started()]
    journal = Journal(tmp_path / "j")
    journal.append(leased("a"))
    journal.close()
    assert list(read_journal(tmp_path / "j")) == [started(), leased("a")]


def test_damage_in_the_middle_names_the_file_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(started().model_dump_json().encode() + b"\nrubbish\n")
    with pytest.raises(BadInput, match=r"j: line 2: .*damaged"):
        list(read_journal(tmp_path / "j"))


def test_a_full_disk_is_reported_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(started())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(CannotJournal, match="No space left on device"):
            journal.append(stepped("a"))
        with pytest.raises(CannotJournal, match="No space left on device"):
            journal.append(stepped("b"))
    journal.append(leased("a"))
    journal.close()
    assert (tmp_path / "j").read_bytes().count(b"\0") == 0
    assert list(read_journal(tmp_path / "j")) == [started(), leased("a")]


def test_a_line_of_which_only_a_part_was_written_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HalfWritten:
        """A stream whose disk is full after some bytes."""

        def __getattr__(self, name: str) -> object:
            return getattr(stream, name)

        def write(self, data: bytes) -> int:
            return stream.write(data[:10])

    (tmp_path / "j").write_bytes(b'{"kind": "torn')  # what is taken back begins behind what is cut off
    journal = Journal(tmp_path / "j")
    stream = journal._stream
    with monkeypatch.context() as patched:
        patched.setattr(journal, "_stream", HalfWritten())
        with pytest.raises(CannotJournal, match="No space left on device"):
            journal.append(started())
    assert (tmp_path / "j").read_bytes() == b""
    journal.append(started())
    journal.close()
    assert list(read_journal(tmp_path / "j")) == [started()]


def test_a_path_where_no_journal_can_be_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotJournal, match="cannot be opened"):
        Journal(tmp_path)
    with pytest.raises(BadInput, match="is this a run's folder"):
        list(read_journal(tmp_path / "missing"))


def test_a_lease_is_open_until_its_group_is_finished() -> None:
    assert set(state_after(started(), leased("a"), leased("b"), finished("a")).open) == {"b"}


def test_an_accepted_group_is_ready_until_a_step_consumes_it() -> None:
    entries = [started(), leased("a"), leased("b"), finished("a"), finished("b")]
    assert list(state_after(*entries).ready) == ["a", "b"]
    after = state_after(*entries, stepped("a"))
    assert list(after.ready) == ["b"]
    assert after.version == 1


def test_a_filtered_group_counts_but_is_not_ready() -> None:
    state = state_after(started(), leased("a"), finished("a", "filtered"))
    assert not state.ready
    assert (state.episodes, state.filtered, state.failed) == (8, 1, 1)


def test_a_group_that_grew_too_old_is_counted_as_dropped() -> None:
    dropped = GroupDropped(group_id="a", oldest_version=0, version=2, at=111.0)
    state = state_after(started(), leased("a"), finished("a"), dropped)
    assert not state.ready
    assert state.dropped_stale == 1


def test_time_between_two_sittings_is_not_work() -> None:
    state = state_after(started(), leased("a"), finished("a"), RunResumed(at=10_000.0))
    assert state.wall_s(now=10_003.0) == pytest.approx(5.0 + 3.0)


async def test_an_entry_is_journalled_then_taken_into_account_then_told(tmp_path: Path) -> None:
    path, hub, state = tmp_path / "journal.jsonl", Peer(), RunState(CurriculumSettings())
    journal = Journal(path)
    record = JournaledState(journal, state, hub.topics())
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(record.changed.wait)
            await anyio.wait_all_tasks_blocked()
            await record.add(started())
    assert list(read_journal(path)) == [started()]
    assert state.run_id == "r"
    sample = EpisodeSample(episode_id="e", domain="math", task="Compute 1+1.", correct=True)
    await record.tell(sample)
    assert hub.heard == [Publish(event=started()), Publish(event=sample)]
    assert list(read_journal(path)) == [started()], "a sample is no part of the run"
    journal.close()


async def test_what_cannot_be_journalled_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, state = Peer(), RunState(CurriculumSettings())
    journal = Journal(tmp_path / "journal.jsonl")
    record = JournaledState(journal, state, hub.topics())

    def full(entry: JournalEntry) -> None:
        raise CannotJournal("no space left")

    monkeypatch.setattr(journal, "append", full)
    with pytest.raises(CannotJournal):
        await record.add(started())
    assert (state.run_id, hub.heard) == ("", [])
    journal.close()
