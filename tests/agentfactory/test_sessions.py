"""Sessions of agents on a data plane of real processes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from agentfactory.configs.agents.blueprints import Blueprint
from agentfactory.configs.agents.settings import IngestorAgentSettings, LlmAgentSettings
from agentfactory.configs.data import BridgeSettings, CacheSettings, DataSettings, StoreSettings, UriSettings
from agentfactory.data import DataPlane
from agentfactory.sessions import RECORDS, open_session, recorded, settings_for
from tests.agentfactory.test_documents import ROOT, blocks
from tests.free_ports import free_port


def blueprint(name: str = "tester", **sections: object) -> Blueprint:
    agent = {"type": "rule_based", "default_tag": "mine"}
    return Blueprint.model_validate({"blueprint": {"name": name}, "agent": agent, **sections})


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[DataPlane]:
    settings = DataSettings(
        folder=str(tmp_path / "plane"),
        bridge=BridgeSettings(endpoints=(f"tcp://127.0.0.1:{free_port()}",)),
        store=StoreSettings(kind="embedded", folder=str(tmp_path / "store")),
        cache=CacheSettings(kind="embedded"),
        uris=UriSettings(roots=(str(tmp_path),)),
    )
    (tmp_path / "a.md").write_text("# hello")
    async with DataPlane.open(settings) as plane:
        yield plane


async def test_a_session_does_what_it_is_told_for_its_blueprints_rewards(
    data: DataPlane, tmp_path: Path
) -> None:
    generous = {"reward": {"cache_hit": 3.0, "error": -5.0}}
    async with open_session(blueprint(environment=generous), data) as session:
        assert (await session.command(f"load file::{tmp_path}/a.md")).result.reward == 0.10
        assert (await session.command("get a.md")).result.reward == 3.0
        assert (await session.command("get b.md")).result.reward == -5.0
        assert (await session.command("destroy")).result.reward == -5.0
    assert await data.get("mine", "a.md") == b"# hello"
    assert [record.rewards.total for record in recorded(data.settings)] == [0.10, 3.0, -5.0, -5.0]


async def test_sessions_at_once_have_records_of_their_own(data: DataPlane) -> None:
    async def work(name: str) -> None:
        async with open_session(blueprint(name), data) as session:
            for number in range(5):
                await session.command(f"load string:{number}::x as {name}")

    await asyncio.gather(work("one"), work("two"))
    groups = [record.group_id.partition(".")[0] for record in recorded(data.settings)]
    assert sorted(groups) == ["one"] * 5 + ["two"] * 5


async def test_a_session_that_does_nothing_or_is_not_recorded_leaves_nothing(
    data: DataPlane, tmp_path: Path
) -> None:
    async with open_session(blueprint(), data):
        pass
    async with open_session(blueprint(), data, record=False) as session:
        await session.command("query *")
    assert [*(tmp_path / "plane" / RECORDS).glob("*")] == []
    assert list(recorded(data.settings)) == []


def test_the_blueprint_of_the_document_is_one() -> None:
    (text,) = blocks(ROOT / "docs" / "agents.md", "yaml")
    agent = Blueprint.model_validate(yaml.safe_load(text)).agent
    assert isinstance(agent, IngestorAgentSettings)
    assert isinstance(agent.backend, LlmAgentSettings)
    assert agent.backend.fallback == "refuse"


def test_a_blueprint_does_not_move_the_data_plane() -> None:
    plane = DataSettings(cache=CacheSettings(key_prefix="here"))
    elsewhere = {"iowarp": {"bridge_endpoint": "tcp://10.0.0.1:1"}, "cache": {"key_prefix": "there"}}
    made = settings_for(blueprint(**elsewhere), plane)
    assert (made.bridge, made.cache) == (plane.bridge, plane.cache)
    assert made.actions.default_tag == "mine"
