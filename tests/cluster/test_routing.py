"""To whom a coordinator's commands may go."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from agentfactory.cluster.agents.blueprint_registry import BlueprintRegistry
from agentfactory.cluster.agents.routing import cards_of
from agentfactory.configs.data import DataSettings
from agentfactory.configs.errors import SettingsError


@pytest.fixture
def registry(tmp_path: Path) -> BlueprintRegistry:
    return BlueprintRegistry(own=tmp_path / "own")


def test_agents_are_found_while_it_runs_and_one_that_does_not_fit_is_left_out_and_said_once(
    registry: BlueprintRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    discover = cards_of(registry, registry.get("coordinator_agent"), DataSettings())
    before = {card.name for card in discover()}
    assert {"ingestor_agent", "retriever_agent"} <= before
    assert "coordinator_agent" not in before
    registry.create("mine", {"agent.type": "rule_based"})
    registry.create("broken", {"agent.type": "rule_based", "iowarp.bridge_endpoint": "nowhere"})
    log = Mock()
    monkeypatch.setattr("agentfactory.cluster.agents.routing.log", log)
    assert {card.name for card in discover()} == before | {"mine"}
    assert {card.name for card in discover()} == before | {"mine"}
    (said,) = log.warning.call_args_list
    assert said.kwargs["agent"] == "broken"
    assert "is no address" in said.kwargs["why"]


def test_one_that_is_named_and_does_not_fit_is_an_error(registry: BlueprintRegistry) -> None:
    registry.create("broken", {"agent.type": "rule_based", "iowarp.bridge_endpoint": "nowhere"})
    registry.create("chief", {"agent.type": "coordinator", "agent.agents": ["broken"]})
    discover = cards_of(registry, registry.get("chief"), DataSettings())
    with pytest.raises(SettingsError, match=r"blueprint broken: .*'nowhere' is no address"):
        discover()
