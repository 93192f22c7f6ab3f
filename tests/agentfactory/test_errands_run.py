"""A whole run of errands, in a real store behind a real bridge."""

from pathlib import Path

import pytest

from agentfactory import Factory
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.cluster.data_plane.process_supervisor import is_supervised
from agentfactory.configs.load import YamlValue
from tests.agentfactory.test_cli import TINY
from tests.free_ports import free_port

pytestmark = pytest.mark.slow


def overrides(folder: Path) -> dict[str, YamlValue]:
    small: dict[str, YamlValue] = {key: value for key, value in TINY.items() if "max_tokens" not in key}
    return {
        **small,
        "teacher.train": False,
        "runtime.dashboard": False,
        "data.of_run": False,
        "data.folder": str(folder / "state"),
        "data.store.folder": str(folder / "store"),
        "data.bridge.endpoints": [f"tcp://127.0.0.1:{free_port()}"],
    }


async def test_a_run_of_errands_works_in_a_real_store_and_leaves_it_as_it_was(
    tmp_path: Path,
) -> None:
    async with Factory.open("laptop-data", transport="local", overrides=overrides(tmp_path)) as factory:
        await factory.ingest("string:mine.md::kept", tag="mine")
        run = await factory.evolve(rounds=1, run_dir=tmp_path / "run")
        result = await run.result()
        solution = await factory.solve("Load the folder samples as docs, then fetch setup_guide.md.")
        left = [(blob.tag, blob.name) async for blob in factory.list_blobs()]
    assert [round_.n for round_ in result.rounds] == [8, 8]
    assert left == [("mine", "mine.md")]
    assert solution.space
    stored = [t for t in read_trajectories(tmp_path / "run" / "trajectories") if t.policy == "student"]
    rewards = [result.reward for t in stored for turn in t.turns for result in turn.results]
    assert {t.task.domain for t in stored} == {"data"}
    assert 0.1 in rewards  # something was stored
    assert any(t.verdict and t.verdict.correct for t in stored)


async def test_a_run_of_three_domains_brings_its_data_plane_along_and_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small: dict[str, YamlValue] = {**TINY, "student.max_tokens_per_turn": 96, "evaluation.tasks": 9}
    folder = tmp_path / "run"
    async with Factory.open("laptop", transport="local", overrides=small) as factory:
        run = await factory.evolve(rounds=1, run_dir=folder)
        result = await run.result()
        held_while_it_lasts = is_supervised(folder / "data")
        errand = await factory.solve(
            "Load the folder samples as docs, then fetch setup_guide.md.", run_dir=folder
        )
        formula = await factory.solve("Let p=True, q=False. What is p and q?", run_dir=folder)
    assert held_while_it_lasts
    assert not is_supervised(folder / "data")
    assert [[(score.domain, score.n) for score in one.domains] for one in result.rounds] == [
        [("math", 3), ("logic", 3), ("data", 3)]
    ] * 2
    assert errand.space
    assert not formula.space
    trained = [t for t in read_trajectories(folder / "trajectories") if t.group_id.startswith("g")]
    assert {t.task.domain for t in trained} == {"math", "logic", "data"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
