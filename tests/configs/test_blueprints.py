"""Blueprints: the documented YAML loads as it stands, and a mistake is named where the file has it."""

from pathlib import Path

import pytest
import yaml

from agentfactory.configs.agents.blueprints import Blueprint, read_blueprint
from agentfactory.configs.agents.settings import (
    ClaudeAgentSettings,
    CoordinatorAgentSettings,
    IngestorAgentSettings,
    LlmAgentSettings,
    LoraAgentSettings,
    RuleBasedAgentSettings,
    check_models,
)
from agentfactory.configs.chat_models import EngineModelSettings, OllamaModelSettings, OpenAIModelSettings
from agentfactory.configs.data import DataSettings
from agentfactory.configs.errors import SettingsError

SINGLE = """
blueprint:
  name: iowarp_agent
  version: "0.1.0"

iowarp:
  bridge_endpoint: "tcp://127.0.0.1:5560"
  connect_timeout_ms: 5000

cache:
  hosts:
    - host: "127.0.0.1"
      port: 11211
  key_prefix: "iowarp"
  default_ttl: 3600

environment:
  reward:
    cache_hit: 0.3
    cache_miss: 0.2
    assimilate_success: 0.1
    query_success: 0.1
    prune_success: 0.05
    error: -0.5

agent:
  type: rule_based
"""
DISTRIBUTED = """
blueprint: {name: iowarp_distributed, version: 0.2, description: several of each}
iowarp:
  bridge_endpoints: ["tcp://127.0.0.1:5560", "tcp://127.0.0.1:5561"]
  connect_timeout_ms: 4000
  request_timeout_ms: 29000
cache:
  hosts: [{host: "127.0.0.1", port: 11211}, {host: "127.0.0.1", port: 11212}]
  key_prefix: iowarp
  default_ttl: 60
  max_value_size: 1048576
uri_resolver: {temp_dir: /tmp, supported_schemes: [file, folder]}
environment: {type: iowarp, default_format: binary, reward: {cache_hit: 1.0}}
agent: {type: ingestor, backend: claude, model: sonnet, temperature: 0.1, default_tag: docs}
"""


def of(agent: str, text: str = "blueprint: {name: mine}") -> Blueprint:
    return read_blueprint({**yaml.safe_load(text), "agent": yaml.safe_load(agent)}, "mine.yaml")


def test_the_documented_single_blueprint_loads_as_it_stands() -> None:
    blueprint = read_blueprint(yaml.safe_load(SINGLE), "single.yaml")
    assert (blueprint.name, blueprint.blueprint.version) == ("iowarp_agent", "0.1.0")
    assert blueprint.agent == RuleBasedAgentSettings()
    assert blueprint.iowarp.endpoints == ("tcp://127.0.0.1:5560",)


def test_the_distributed_blueprint_says_its_own_of_the_data_plane_and_leaves_the_rest() -> None:
    blueprint = read_blueprint(yaml.safe_load(DISTRIBUTED), "distributed.yaml")
    base = DataSettings.model_validate(
        {"cache": {"memory_mb": 7, "default_ttl": 5}, "rewards": {"error": -9.0}, "folder": "there"}
    )
    data = blueprint.data_settings(base)
    assert data.bridge.endpoints == ("tcp://127.0.0.1:5560", "tcp://127.0.0.1:5561")
    assert (data.bridge.connect_timeout_ms, data.bridge.request_timeout_ms) == (4000, 29_000)
    assert [host.port for host in data.cache.hosts] == [11211, 11212]
    assert (data.cache.default_ttl, data.cache.max_value_size, data.cache.memory_mb) == (60, 1 << 20, 7)
    assert (data.uris.schemes, data.uris.temp_folder) == (("file", "folder"), "/tmp")
    assert (data.rewards.cache_hit, data.rewards.error) == (1.0, -9.0)
    assert (data.actions.default_tag, data.folder) == ("docs", "there")
    assert blueprint.default_format == "binary"
    assert blueprint.blueprint.version == "0.2"


def test_a_blueprint_that_says_nothing_of_the_data_plane_leaves_it_as_it_is() -> None:
    base = DataSettings.model_validate({"bridge": {"endpoints": ["tcp://elsewhere:1"]}})
    assert of("{type: rule_based}").data_settings(base) == base


def test_timeouts_that_do_not_fit_the_data_plane_are_refused_with_the_reason() -> None:
    text = "{blueprint: {name: mine}, iowarp: {request_timeout_ms: 1000}}"
    with pytest.raises(SettingsError, match=r"mine.*outage_s .*must be less than bridge\.request_timeout_ms"):
        of("{type: rule_based}", text).data_settings(DataSettings())


def test_words_that_stand_side_by_side_are_sorted_into_the_backend() -> None:
    agent = of("{type: ingestor, backend: claude, model: opus, default_tag: docs}").agent
    assert isinstance(agent, IngestorAgentSettings)
    assert isinstance(agent.backend, ClaudeAgentSettings)
    assert (agent.default_tag, agent.backend.model) == ("docs", "opus")
    spelled_out = of("{type: ingestor, backend: {type: claude, model: opus}, default_tag: docs}").agent
    assert agent == spelled_out


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("{type: llm}", OllamaModelSettings()),
        ("{type: llm, model: 'llama3.2:3b'}", OllamaModelSettings(model="llama3.2:3b")),
        ("{type: llm, model: seed}", EngineModelSettings()),
        (
            "{type: llm, backend: openai, model: m, base_url: 'http://127.0.0.1:1/v1'}",
            OpenAIModelSettings(model="m", base_url="http://127.0.0.1:1/v1"),
        ),
        (
            "{type: llm, model: m, base_url: 'http://127.0.0.1:1/v1'}",
            OpenAIModelSettings(model="m", base_url="http://127.0.0.1:1/v1"),
        ),
        ("{type: llm, backend: ollama, model: a/b}", OllamaModelSettings(model="a/b")),
        ("{type: llm, model: {kind: ollama, model: phi}}", OllamaModelSettings(model="phi")),
    ],
)
def test_a_model_is_named_in_a_word_or_spelled_out(agent: str, expected: object) -> None:
    found = of(agent).agent
    assert isinstance(found, LlmAgentSettings)
    assert found.model == expected


@pytest.mark.parametrize(
    ("agent", "routing"),
    [
        ("{type: coordinator}", "rules"),
        ("{type: coordinator, backend: claude, model: sonnet}", "model"),
        ("{type: coordinator, backend: ollama, routing: embeddings}", "embeddings"),
    ],
)
def test_a_coordinator_routes_by_its_model_if_it_has_one(agent: str, routing: str) -> None:
    found = of(agent).agent
    assert isinstance(found, CoordinatorAgentSettings)
    assert found.routing == routing


def test_rules_of_ones_own_are_a_mapping_or_a_list() -> None:
    by_mapping = of("{type: rule_based, rules: {bring me: retrieve}}").agent
    by_list = of("{type: rule_based, rules: [{word: bring me, action: retrieve}]}").agent
    assert by_mapping == by_list
    assert isinstance(by_mapping, RuleBasedAgentSettings)
    assert by_mapping.rules[0].action == "retrieve"


def test_an_agent_type_that_bears_the_name_of_the_blueprint_is_by_rules() -> None:
    assert of("{type: iowarp_agent}").agent == RuleBasedAgentSettings()


@pytest.mark.parametrize(
    ("agent", "complaint"),
    [
        ("{type: lllm}", r"mine\.yaml: agent: unknown type 'lllm'; did you mean 'llm'\?"),
        ("{type: zzz}", r"unknown type 'zzz'; expected: 'rule_based', 'llm'"),
        ("{type: llm, modle: x}", r"unknown key 'agent\.modle'; did you mean 'model'\?"),
        ("{type: retriever, defualt_tag: x}", r"unknown key .*defualt_tag'; did you mean 'default_tag'\?"),
        ("{type: ingestor, backend: cloude}", r"agent\.backend: unknown type 'cloude'; did you mean"),
        ("{type: llm, backend: olama}", r"agent\.model: unknown kind 'olama'; did you mean 'ollama'\?"),
        ("{type: llm, model: {kind: ollama, modell: x}}", r"'agent\.model\.modell'; did you mean 'model'\?"),
        ("{type: coordinator, routing: model}", r"routing by a model needs a backend that is one"),
        ("{type: rule_based, rules: {fetch: retreive}}", r"agent\.rules\.0\.action: .*found 'retreive'"),
        ("{model: llama3.2}", r"agent: type is missing; expected 'rule_based'"),
        ("{type: lora}", r"agent\.run: Field required"),
        ("{type: llm, temperature: warm}", r"agent\.temperature: .*number.*found 'warm'"),
        ("words", r"agent: .*found 'words'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_where_the_file_has_it(agent: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        of(agent)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{agent: {type: rule_based}}", r"blueprint: Field required"),
        ("{blueprint: {name: ../x}}", r"blueprint\.name: .*found '\.\./x'"),
        ("{blueprint: {name: x}, cahce: {}}", r"unknown key 'cahce'; did you mean 'cache'\?"),
        ("{blueprint: {name: x}, cache: {hosts: [{prt: 1}]}}", r"hosts\.0\.prt'; did you mean 'port'\?"),
        ("{blueprint: {name: x}, environment: {reward: {cache_hitt: 1}}}", r"did you mean 'cache_hit'\?"),
        ("{blueprint: {name: x}, iowarp: {bridge_endpoint: a, bridge_endpoints: [b]}}", r"not both"),
    ],
)  # fmt: skip
def test_a_mistake_outside_the_agent_is_named_too(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read_blueprint(yaml.safe_load(text), "mine.yaml")


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match=r"there is no model folder '\./no/such/model'"):
        check_models(of("{type: ingestor, backend: llm, model: ./no/such/model}").agent)
    check_models(of("{type: llm, model: seed}").agent)


def test_a_trained_adapter_is_found_by_its_run_and_version(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(SettingsError, match="there is no run in the folder"):
        check_models(LoraAgentSettings(run=str(run)))
    for version in ("v0001", "v0003"):
        (run / "adapters" / "student" / version).mkdir(parents=True)
    (run / "settings.json").write_text("{}")
    assert LoraAgentSettings(run=str(run)).locate() == (run, 3)
    assert LoraAgentSettings(run=str(run), version=1).locate() == (run, 1)
    with pytest.raises(SettingsError, match=r"has no version 2 of its student; it keeps 1, 3"):
        check_models(LoraAgentSettings(run=str(run), version=2))
