"""What is acknowledged is on disk, once."""

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from agentfactory.actors.sink.actor import TrajectorySink
from agentfactory.actors.sink.segments import CannotStore, SegmentWriter, read_trajectories, segments
from agentfactory.configs.errors import BadInput
from agentfactory.configs.roles import SinkSettings
from agentfactory.messages.episodes import Rewards
from agentfactory.messages.tasks import Task
from agentfactory.messages.trajectories import FindTrajectories, StoreTrajectories, Trajectory
from agentfactory.messages.turns import Turn
from agentfactory.runtime.system import ActorSystem

TIMEOUT_S = 180


def trajectory(name: str) -> Trajectory:
    turn = Turn(
        prompt_ids=(1, 2), completion_ids=(3,), logprobs=(-0.5,), loss_mask=(0, 0, 1), policy_version=0
    )
    return Trajectory(
        episode_id=name,
        group_id="g",
        task=Task(id="t", domain="math", description="Compute 1+1.", difficulty=0.1),
        turns=(turn,),
        rewards=Rewards(total=0.25),
    )


def store(*names: str) -> StoreTrajectories:
    return StoreTrajectories.of([trajectory(name) for name in names])


def stored(folder: Path) -> list[str]:
    return [t.episode_id for t in read_trajectories(folder)]


async def test_what_is_acknowledged_can_be_read_at_once(tmp_path: Path) -> None:
    async with ActorSystem.open("local") as system:
        sink = await system.spawn(TrajectorySink, SinkSettings(), tmp_path, None, name="sink")
        answer = await sink.ask(store("a", "b"), timeout_s=TIMEOUT_S)
        assert (answer.stored, answer.duplicates) == (2, 0)
        assert list(read_trajectories(tmp_path)) == [trajectory("a"), trajectory("b")]


async def test_an_episode_is_stored_once_whoever_sends_it_again(tmp_path: Path) -> None:
    async with ActorSystem.open("local") as system:
        sink = await system.spawn(TrajectorySink, SinkSettings(), tmp_path, None, name="sink")
        answers = await asyncio.gather(
            *(sink.ask(store("a", f"own-{i}"), timeout_s=TIMEOUT_S) for i in range(5))
        )
        again = await sink.ask(store("a"), timeout_s=TIMEOUT_S)
    assert sum(answer.stored for answer in answers) == 6
    assert sum(answer.duplicates for answer in answers) == 4
    assert (again.stored, again.duplicates) == (0, 1)
    assert sorted(stored(tmp_path)) == ["a", *(f"own-{i}" for i in range(5))]


async def test_what_is_not_one_line_for_each_episode_is_refused() -> None:
    line = trajectory("a").model_dump_json().encode()
    for lines in ((line,), (line + b"\n" + line + b"\n",), ()):
        with pytest.raises(ValidationError, match="line"):
            StoreTrajectories(episode_ids=("a",), lines=lines)


async def test_a_new_sink_knows_what_the_old_one_stored(tmp_path: Path) -> None:
    async with ActorSystem.open("local") as system:
        sink = await system.spawn(TrajectorySink, SinkSettings(), tmp_path, None, name="sink")
        await sink.ask(store("a"), timeout_s=TIMEOUT_S)
        await system.stop("sink")
        sink = await system.spawn(TrajectorySink, SinkSettings(), tmp_path, None, name="sink")
        again = await sink.ask(store("a", "b"), timeout_s=TIMEOUT_S)
        found = await sink.ask(FindTrajectories(episode_ids=("b", "zzz", "a")), timeout_s=TIMEOUT_S)
    assert (again.stored, again.duplicates) == (1, 1)
    assert found.trajectories == (trajectory("b"), trajectory("a"))


async def test_a_line_torn_by_a_crash_is_cut_off_and_its_episode_stored_anew(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, 1 << 20)
    writer.commit([trajectory("a").model_dump_json().encode() + b"\n"])
    writer.close()
    with segments(tmp_path)[0].open("ab") as stream:
        stream.write(trajectory("b").model_dump_json().encode()[:40])
    assert stored(tmp_path) == ["a"]
    async with ActorSystem.open("local") as system:
        sink = await system.spawn(TrajectorySink, SinkSettings(), tmp_path, None, name="sink")
        answer = await sink.ask(store("b"), timeout_s=TIMEOUT_S)
    assert answer.stored == 1
    assert stored(tmp_path) == ["a", "b"]


def test_a_full_segment_is_followed_by_another(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, segment_bytes=10)
    for name in "abc":
        writer.commit([trajectory(name).model_dump_json().encode() + b"\n"])
    writer.close()
    assert len(segments(tmp_path)) == 3
    assert stored(tmp_path) == ["a", "b", "c"]


def test_damage_in_the_middle_names_the_file_and_the_place(tmp_path: Path) -> None:
    good = trajectory("a").model_dump_json().encode() + b"\n"
    (tmp_path / "trajectories-00001.jsonl").write_bytes(good + b"rubbish\n")
    with pytest.raises(BadInput, match=rf"trajectories-00001.jsonl: byte {len(good)}: "):
        list(read_trajectories(tmp_path))


def test_a_failed_commit_leaves_no_part_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter(tmp_path, 1 << 20)
    writer.commit([trajectory("a").model_dump_json().encode() + b"\n"])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(CannotStore, match="No space left"):
            writer.commit([trajectory("b").model_dump_json().encode() + b"\n"])
    assert stored(tmp_path) == ["a"]
    writer.commit([trajectory("c").model_dump_json().encode() + b"\n"])
    writer.close()
    assert stored(tmp_path) == ["a", "c"]
