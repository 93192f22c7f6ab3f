"""Agents with models of ours: a seed model, and adapters that a run has trained."""

from pathlib import Path

import pytest

from agentfactory.cluster.agents.loader import open_agent, policy_version
from agentfactory.cluster.run_folder import JOURNAL, create_run_folder
from agentfactory.configs.agents.blueprints import Blueprint
from agentfactory.configs.errors import SettingsError
from agentfactory.configs.load import load_settings
from agentfactory.messages.data import Action, Observation
from tests.cluster.test_serving import make_run

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
ERRAND = Observation(text="Store the file travel/hotel.txt as store, then read it.")


def blueprint(**agent: object) -> Blueprint:
    return Blueprint.model_validate({"blueprint": {"name": "tester"}, "agent": agent})


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("agents") / "run", versions=2)


async def decision_of(**agent: object) -> tuple[str, Action]:
    """What the model makes of a command; what it wrote is in the thought where it was no action."""
    async with open_agent(blueprint(type="lora", max_tokens=80, **agent)) as opened:
        return await opened.think(ERRAND), await opened.act(ERRAND)


async def test_an_adapter_of_a_run_decides_through_the_runs_engine(run_dir: Path) -> None:
    run = str(run_dir)
    base, first, newest = [
        await decision_of(run=run, **which) for which in ({"version": 0}, {"version": 1}, {})
    ]
    assert base != first
    assert newest not in (base, first)
    assert newest == await decision_of(run=run, version=2)
    assert policy_version(blueprint(type="lora", run=run)) == 2


async def test_a_seed_model_of_ours_acts_in_the_way_it_was_trained(tmp_path: Path) -> None:
    run = create_run_folder(load_settings("laptop-data"), tmp_path / "run").folder
    (run / JOURNAL).touch()
    for agent in ({"type": "lora", "run": str(run)}, {"type": "llm", "model": "seed-data"}):
        async with open_agent(blueprint(fallback="refuse", **agent)) as opened:
            assert await opened.think(ERRAND)
            src = "file::travel/hotel.txt"
            load = Action.of("assimilate", src=src, dst="store", format="binary")
            assert await opened.act(ERRAND) == load


async def test_an_adapter_that_is_not_there_is_said_in_a_sentence(run_dir: Path, tmp_path: Path) -> None:
    for agent, says in (
        ({"run": str(tmp_path / "none")}, "there is no run in the folder"),
        ({"run": str(run_dir), "version": 9}, "has no version 9 of its student; it keeps 1, 2"),
        ({"run": str(run_dir), "policy": "teacher", "version": 1}, "no version 1 of its teacher"),
    ):
        with pytest.raises(SettingsError, match=says):
            async with open_agent(blueprint(type="lora", **agent)):
                pass
