"""The registry: what is shipped stays, what is one's own is never half written, and nothing is lost."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import yaml

from agentfactory.cluster.agents.blueprint_registry import BlueprintRegistry
from agentfactory.configs.agents.blueprints import SHIPPED
from agentfactory.configs.agents.settings import ClaudeAgentSettings, LlmAgentSettings
from agentfactory.configs.errors import BadInput, CannotWrite, SettingsError
from agentfactory.configs.load import YamlValue

NAMES = ("coordinator_agent", "ingestor_agent", "iowarp_agent", "iowarp_distributed", "retriever_agent")


@pytest.fixture
def registry(tmp_path: Path) -> BlueprintRegistry:
    return BlueprintRegistry(own=tmp_path / "own")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*.yaml"))}


def test_five_blueprints_are_shipped_and_can_be_used(registry: BlueprintRegistry) -> None:
    assert registry.names() == NAMES
    assert registry.problems() == ()
    assert not registry.own.exists()


def test_a_blueprint_is_created_changed_and_deleted(registry: BlueprintRegistry) -> None:
    registry.create("mine", {"agent.type": "llm", "agent.model": "llama3.2"})
    registry.update("mine", {"agent.temperature": 0.2, "environment": {"reward": {"error": -1.0}}})
    mine = registry.get("mine")
    assert isinstance(mine.agent, LlmAgentSettings)
    assert (mine.agent.temperature, mine.environment.reward.error) == (0.2, -1.0)
    assert mine.environment.reward.cache_hit == 0.3
    registry.delete("mine")
    assert registry.names() == NAMES
    with pytest.raises(BadInput, match="there is no blueprint 'mine'"):
        registry.get("mine")


def test_each_former_content_can_be_put_back_also_after_it_was_deleted(registry: BlueprintRegistry) -> None:
    registry.create("mine", {"agent.type": "claude"})
    registry.update("mine", {"agent.model": "opus"})
    assert registry.delete("mine") == 2
    assert registry.revisions("mine") == (1, 2)
    assert registry.restore("mine", 1).revision == 3
    assert registry.get("mine") == registry.get("mine", 1)
    with pytest.raises(BadInput, match=r"mine has no revision 9; it has 1, 2, 3"):
        registry.restore("mine", 9)


def test_what_was_written_by_hand_is_kept_before_it_is_changed(registry: BlueprintRegistry) -> None:
    path = registry.create("mine", {"agent.type": "claude"}).path
    by_hand = path.read_text() + "# a note\n"
    path.write_text(by_hand)
    registry.update("mine", {"agent.model": "opus"})
    assert registry.text("mine", 2) == by_hand
    assert registry.revisions("mine") == (1, 2, 3)


def test_another_type_takes_along_only_what_all_types_know(registry: BlueprintRegistry) -> None:
    registry.create("mine", {"agent": {"type": "llm", "model": "llama3.2", "default_tag": "docs"}})
    registry.update("mine", {"agent.model": "opus", "agent.type": "claude"})
    assert registry.get("mine").agent == ClaudeAgentSettings(model="opus", default_tag="docs")
    registry.update("mine", {"agent": {"type": "llm"}})
    assert registry.get("mine").agent == LlmAgentSettings(default_tag="docs")


def test_another_backend_does_not_get_the_model_of_the_old_one(registry: BlueprintRegistry) -> None:
    registry.create("mine", {"agent": {"type": "ingestor", "backend": "ollama", "model": "llama3.2"}})
    registry.update("mine", {"agent.backend": "claude"})
    agent = registry.get("mine").agent
    assert agent.type == "ingestor"
    assert agent.backend == ClaudeAgentSettings()


def test_nothing_as_a_value_removes_a_key(registry: BlueprintRegistry) -> None:
    registry.create("mine", {"agent": {"type": "claude", "model": "opus"}})
    registry.update("mine", {"agent.model": None, "cache.hosts": None})
    assert registry.get("mine").agent == ClaudeAgentSettings()


def test_a_blueprint_builds_on_another(registry: BlueprintRegistry) -> None:
    made = registry.create("mine", {"agent.default_tag": "docs"}, base="iowarp_distributed")
    base = registry.get("iowarp_distributed")
    assert made.blueprint.iowarp == base.iowarp
    assert made.blueprint.name == "mine"


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("iowarp_agent", {"agent.type": "claude"}, "ships with the project and is not replaced"),
        ("../mine", {"agent.type": "claude"}, "cannot name a blueprint"),
        ("mine\n", {"agent.type": "claude"}, "cannot name a blueprint"),
        ("mine", {"agent.type": "clode"}, "unknown type 'clode'; did you mean 'claude'"),
        ("mine", {"agent.type": "claude", "agent.modle": "x"}, r"mine: unknown key 'agent\.modle'"),
        ("mine", {"agent.type": "llm", "agent.model": "./nowhere/model"}, "there is no model folder"),
        ("mine", {"agent.type": "lora", "agent.run": "runs/none"}, "there is no run in the folder"),
        ("mine", {"blueprint.name": "other"}, "a blueprint keeps its name"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_leaves_nothing_behind(
    registry: BlueprintRegistry, name: str, values: dict[str, YamlValue], complaint: str
) -> None:
    shipped = contents(SHIPPED)
    with pytest.raises(BadInput, match=complaint):
        registry.create(name, values)
    assert contents(SHIPPED) == shipped
    assert contents(registry.own.parent) == {}


@pytest.mark.parametrize("changes", [{"agent.type": "zzz"}, {"agent.model": "./nowhere/model"}, {"agnt": 1}])
def test_a_change_that_is_refused_changes_nothing(
    registry: BlueprintRegistry, changes: dict[str, YamlValue]
) -> None:
    registry.create("mine", {"agent.type": "llm"})
    before = contents(registry.own)
    with pytest.raises(SettingsError):
        registry.update("mine", changes)
    assert contents(registry.own) == before


def test_a_shipped_blueprint_is_never_written(registry: BlueprintRegistry) -> None:
    shipped = contents(SHIPPED)
    for change in (
        lambda: registry.update("iowarp_agent", {"agent.type": "claude"}),
        lambda: registry.delete("iowarp_agent"),
    ):
        with pytest.raises(BadInput, match=r"ships with the project and stays.*--from iowarp_agent"):
            change()
    with pytest.raises(BadInput, match="iowarp_agent has no revision 1"):
        registry.restore("iowarp_agent", 1)
    assert contents(SHIPPED) == shipped


def test_a_name_is_made_once(registry: BlueprintRegistry) -> None:
    registry.create("mine", {"agent.type": "claude"})
    before = contents(registry.own)
    with pytest.raises(BadInput, match=r"there is a blueprint 'mine' already .*agentfactory update mine"):
        registry.create("mine", {"agent.type": "llm"})
    assert contents(registry.own) == before


def test_an_unknown_name_is_answered_with_the_nearest(registry: BlueprintRegistry) -> None:
    with pytest.raises(BadInput, match="no blueprint 'ingestr_agent'; did you mean 'ingestor_agent'"):
        registry.get("ingestr_agent")


def test_a_file_that_is_added_changed_or_removed_is_seen_at_once(registry: BlueprintRegistry) -> None:
    registry.own.mkdir()
    path = registry.own / "by_hand.yml"
    path.write_text("blueprint: {name: hand_made}\nagent: {type: claude}\n")
    assert "hand_made" in registry.names()
    path.write_text("blueprint: {name: hand_made}\nagent: {type: claude, model: opus}\n")
    assert registry.get("hand_made").agent == ClaudeAgentSettings(model="opus")
    registry.update("hand_made", {"agent.model": "haiku"})
    assert "haiku" in path.read_text()
    path.unlink()
    assert "hand_made" not in registry.names()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("agent: [", r"bad\.yaml: line \d"),
        ("", r"bad\.yaml: the file is empty"),
        ("- a", r"bad\.yaml: expected keys and values, found list"),
        ("blueprint: {name: bad}\nagnt: {}", r"bad\.yaml: unknown key 'agnt'; did you mean 'agent'\?"),
        ("\x00", r"bad\.yaml: "),
    ],
)
def test_a_file_that_is_no_blueprint_hides_no_other(
    registry: BlueprintRegistry, text: str, complaint: str
) -> None:
    registry.create("mine", {"agent.type": "claude"})
    (registry.own / "bad.yaml").write_text(text)
    assert registry.names() == tuple(sorted((*NAMES, "mine")))
    with pytest.raises(SettingsError, match=complaint):
        registry.get("bad")
    (problem,) = registry.problems()
    assert "\n" not in problem


def test_a_name_that_two_files_claim_is_neither_ones(registry: BlueprintRegistry) -> None:
    path = registry.create("mine", {"agent.type": "claude"}).path
    for twin in ("twin", "triplet"):
        (registry.own / f"{twin}.yaml").write_bytes(path.read_bytes())
    with pytest.raises(SettingsError, match=r"the name 'mine' stands in two blueprints.*give one of them"):
        registry.get("mine")
    with pytest.raises(SettingsError, match="stands in two blueprints"):
        registry.update("mine", {"agent.model": "opus"})
    assert len(registry.problems()) == 1


def test_a_file_with_a_shipped_name_takes_its_place_as_long_as_it_is_there(
    registry: BlueprintRegistry,
) -> None:
    registry.own.mkdir()
    (registry.own / "iowarp_agent.yaml").write_text(
        "blueprint: {name: iowarp_agent}\nagent: {type: claude}\n"
    )
    assert registry.get("iowarp_agent").agent.type == "claude"
    assert [each.blueprint.name for each in registry.listed() if not each.shipped] == ["iowarp_agent"]
    assert registry.problems() == ()
    registry.update("iowarp_agent", {"agent.model": "opus"})
    assert registry.get("iowarp_agent", 1).agent == ClaudeAgentSettings()
    registry.delete("iowarp_agent")
    assert registry.get("iowarp_agent").agent.type == "rule_based"
    registry.restore("iowarp_agent", 2)
    assert registry.get("iowarp_agent").agent == ClaudeAgentSettings(model="opus")


def test_a_file_that_is_broken_does_not_hide_the_shipped_one_of_its_name(registry: BlueprintRegistry) -> None:
    registry.own.mkdir()
    (registry.own / "iowarp_agent.yaml").write_text("agent: [")
    assert registry.get("iowarp_agent").agent.type == "rule_based"
    assert "iowarp_agent" in registry.problems()[0]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot be written"):
        BlueprintRegistry(own=tmp_path / "file" / "own").create("mine", {"agent.type": "claude"})


def change_many_times(own: Path, who: int) -> None:
    registry = BlueprintRegistry(own=own)
    for number in range(10):
        registry.update("mine", {f"environment.reward.{'cache_hit' if who else 'cache_miss'}": number})


def test_changes_of_several_processes_all_count(registry: BlueprintRegistry) -> None:
    registry.create("mine", {"agent.type": "claude"})
    with ProcessPoolExecutor(max_workers=2) as pool:
        for done in [pool.submit(change_many_times, registry.own, who) for who in (0, 1)]:
            done.result(timeout=60)
    rewards = registry.get("mine").environment.reward
    assert (rewards.cache_hit, rewards.cache_miss) == (9.0, 9.0)
    assert registry.revisions("mine") == tuple(range(1, 22))
    kept = [yaml.safe_load(registry.text("mine", number)) for number in registry.revisions("mine")]
    assert all(values["blueprint"]["name"] == "mine" for values in kept)
