"""What an earlier version left on the disk stays readable: a run that goes on, a store that opens.

`tests/stored/version-0.1.tar.xz` holds, as version 0.1 wrote them, the folder of a run of one round and an
embedded store. A change of form needs a way to read the old one, never a new archive in place of this one.
"""

import json
import tarfile
from pathlib import Path

import pytest

from agentfactory.actors.coordinator.journal import FILE, read_journal
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.bridge.store.factory import open_store
from agentfactory.configs.data import StoreSettings
from agentfactory.factory import Factory
from agentfactory.messages.runs import StepFinished
from tests.bridge.fake_store import get, names

ARCHIVE = Path(__file__).parents[1] / "stored" / "version-0.1.tar.xz"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.mark.slow
async def test_a_run_of_an_earlier_version_goes_on(stored: Path) -> None:
    folder = stored / "run"
    before = (folder / FILE).read_bytes()
    episodes = {each.episode_id for each in read_trajectories(folder / "trajectories")}
    assert episodes
    async with Factory.open("laptop", transport="local") as factory:
        run = await factory.resume(folder, rounds=2)
        result = await run.result()
    assert [each.version for each in result.rounds] == [0, 1, 2]
    assert (folder / FILE).read_bytes().startswith(before)
    steps = [entry for entry in read_journal(folder / FILE) if isinstance(entry, StepFinished)]
    assert [step.adapter.version for step in steps if step.policy == "student"] == [1, 2]
    assert episodes < {each.episode_id for each in read_trajectories(folder / "trajectories")}
    assert json.loads((folder / "adapters/student/v0002/adapter_config.json").read_text())["r"] == 1


def test_a_store_of_an_earlier_version_opens(stored: Path) -> None:
    store = open_store(StoreSettings(kind="embedded", folder=str(stored / "store"), max_gb=0.01))
    try:
        assert names(store, "docs") == ["a.md", "zeros.bin"]
        assert get(store, "docs", "a.md") == b"# A title\n\nSome words of a text.\n"
        info = store.stat("docs", "a.md")
        assert info is not None
        assert info.meta.content_type == "text/markdown"
        assert get(store, "docs", "zeros.bin") == bytes(3_000_000)
        assert names(store, "old") == []
    finally:
        store.close()
