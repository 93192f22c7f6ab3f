import errno
import os
import shutil
from pathlib import Path

import pytest

from agentfactory.messages.adapters import AdapterRef
from agentfactory.messages.trajectories import StepReport
from agentfactory.training.adapter_files import sha256_hex
from agentfactory.training.checkpoints import Checkpoint, CheckpointStore
from agentfactory.training.errors import CheckpointNotWritten


def checkpoint(version: int, groups: tuple[str, ...] = ("g",), weights: bytes = b"weights") -> Checkpoint:
    report = StepReport(
        adapter=AdapterRef(policy="student", version=version, sha256=sha256_hex(weights)),
        config_json=b"{}",
        weights=weights,
        loss=0.5,
        tokens=7,
    )
    return Checkpoint(report, groups, updates=4 * version, optimizer=b"moments")


@pytest.fixture
def store(run_folder: Path) -> CheckpointStore:
    return CheckpointStore(run_folder, "student", keep=2)


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_saved_version_comes_back_as_it_was(store: CheckpointStore) -> None:
    saved = checkpoint(1)
    store.save(saved)
    found = store.load(1)
    assert found is not None
    assert found.report.adapter.folder == str(store.adapter_folder(1))
    adapter = found.report.adapter.model_copy(update={"folder": ""})
    assert found._replace(report=found.report.model_copy(update={"adapter": adapter})) == saved


def test_adapters_are_kept_for_ever_and_checkpoints_only_the_last_few(
    store: CheckpointStore, run_folder: Path
) -> None:
    for version in range(1, 5):
        store.save(checkpoint(version))
    assert store.versions() == [3, 4]
    assert [store.load(version) is not None for version in range(6)] == [
        False,
        False,
        False,
        True,
        True,
        False,
    ]
    assert sorted(os.listdir(run_folder / "adapters" / "student")) == ["v0001", "v0002", "v0003", "v0004"]
    assert sorted(os.listdir(store.adapter_folder(1))) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize("kind", ["adapters", "checkpoints"])
def test_a_torn_version_is_ignored(store: CheckpointStore, run_folder: Path, kind: str) -> None:
    store.save(checkpoint(1))
    for path in (run_folder / kind).rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    assert store.load(1) is None


def test_a_version_with_a_missing_or_garbled_record_is_ignored(
    store: CheckpointStore, run_folder: Path
) -> None:
    store.save(checkpoint(1))
    record = run_folder / "checkpoints" / "student" / "v0001" / "record.json"
    record.write_text(record.read_text()[:-9])
    assert store.load(1) is None
    record.unlink()
    assert store.load(1) is None
    shutil.rmtree(run_folder / "adapters")
    assert store.load(1) is None


def test_saving_a_version_again_discards_the_line_that_grew_from_it(store: CheckpointStore) -> None:
    for version in (1, 2, 3):
        store.save(checkpoint(version))
    store.save(checkpoint(2, ("other",), b"other weights"))
    assert store.versions() == [2]
    found = store.load(2)
    assert found is not None
    assert (found.group_ids, found.report.weights) == (("other",), b"other weights")
    assert store.load(3) is None


@pytest.mark.parametrize("successful_syncs", range(6))
def test_a_full_disk_leaves_what_was_there_and_one_clear_error(
    store: CheckpointStore, run_folder: Path, monkeypatch: pytest.MonkeyPatch, successful_syncs: int
) -> None:
    store.save(checkpoint(1))
    before = files_under(run_folder)
    real, left = os.fsync, [None] * successful_syncs

    def fsync(descriptor: int) -> None:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CheckpointNotWritten, match=r"version 2 could not be saved.*No space left") as caught:
        store.save(checkpoint(2))
    assert isinstance(caught.value.__cause__, OSError)
    assert files_under(run_folder) == before
    monkeypatch.undo()
    store.save(checkpoint(2))
    assert store.load(2) is not None


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(CheckpointNotWritten, match="version 1 could not be saved under"):
        CheckpointStore(tmp_path / "run", "student", keep=2).save(checkpoint(1))


def test_what_a_killed_process_left_half_written_is_no_version_and_is_replaced(
    store: CheckpointStore, run_folder: Path
) -> None:
    store.save(checkpoint(1))
    rest = run_folder / "checkpoints" / "student" / ".v0002.part"
    rest.mkdir()
    (rest / "record.json").write_text("{")
    assert store.versions() == [1]
    assert store.load(2) is None
    store.save(checkpoint(2))
    assert store.load(2) is not None
    assert not rest.exists()


def test_a_run_folder_may_move(store: CheckpointStore, run_folder: Path, tmp_path: Path) -> None:
    store.save(checkpoint(1))
    run_folder.rename(tmp_path / "moved")
    found = CheckpointStore(tmp_path / "moved", "student", keep=2).load(1)
    assert found is not None
    assert found.report.adapter.folder == str(tmp_path / "moved" / "adapters" / "student" / "v0001")
