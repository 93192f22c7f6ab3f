"""Agents on their way into use, with real rules, real engines and adapters of a run."""

from pathlib import Path

import pytest

from agentfactory.actors.agents.base import Agent
from agentfactory.cluster.agents.blueprint_registry import BlueprintRegistry
from agentfactory.cluster.agents.lifecycle import build_manifest, promote, roll_back
from agentfactory.cluster.agents.loader import open_agent
from agentfactory.cluster.agents.version_store import DeployedRegistry, VersionStore
from agentfactory.configs.agents.evaluation import EvaluationRecord, EvaluationSuite, load_suite
from agentfactory.configs.agents.settings import CommandCase, LoraAgentSettings, RuleBasedAgentSettings
from agentfactory.configs.errors import BadInput, SettingsError
from agentfactory.messages.data import Action, Observation
from agentfactory.training.adapter_files import WEIGHTS_FILE, adapter_folder
from tests.cluster.test_serving import make_run

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
FETCHED = {"tag": "docs", "blob_name": "a.md"}
FETCH = EvaluationSuite(
    name="fetch", cases=(CommandCase(command="fetch a.md from docs", action="retrieve", params=FETCHED),)
)
PASSED = EvaluationRecord(suite="fetch", correct=1, n=1, pass_score=1.0)


@pytest.fixture
def registry(tmp_path: Path) -> BlueprintRegistry:
    return BlueprintRegistry(own=tmp_path / "blueprints")


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "agents")


@pytest.fixture
def deployed(store: VersionStore, registry: BlueprintRegistry) -> DeployedRegistry:
    return DeployedRegistry(store, own=registry.own)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "trained", versions=2)


async def does(agent: Agent, command: str) -> Action:
    return await agent.act(Observation(text=command))


@pytest.mark.parametrize("name", ["iowarp_agent", "ingestor_agent", "retriever_agent", "coordinator_agent"])
async def test_what_is_shipped_passes_its_evaluation(
    store: VersionStore, registry: BlueprintRegistry, name: str
) -> None:
    done = await promote(store, registry, name, load_suite())
    assert (done.deployed, done.evaluated, done.number, done.outcome.mistakes) == (True, True, 1, ())


async def test_an_agent_that_fails_is_not_used_until_it_was_mended(
    store: VersionStore, registry: BlueprintRegistry, deployed: DeployedRegistry
) -> None:
    registry.create("mine", {"agent.type": "rule_based", "agent.rules": {"fetch": "query"}})
    failed = await promote(store, registry, "mine", FETCH)
    assert (failed.deployed, failed.record.state) == (False, "train")
    assert "expected retrieve, found query" in failed.outcome.mistakes[0]
    registry.update("mine", {"agent.rules": {"fetch": "retrieve"}})
    passed = await promote(store, registry, "mine", FETCH)
    assert (passed.deployed, passed.number, passed.record.state) == (True, 2, "deploy")
    assert deployed.get("mine") == registry.get("mine")


async def test_what_is_in_use_stays_so_whatever_becomes_of_the_file(
    store: VersionStore, registry: BlueprintRegistry, deployed: DeployedRegistry
) -> None:
    registry.create("mine", {"agent.type": "rule_based", "agent.rules": {"fetch": "retrieve"}})
    await promote(store, registry, "mine", FETCH)
    registry.update("mine", {"agent.rules": {"fetch": "destroy"}})
    refused = await promote(store, registry, "mine", FETCH)
    assert not refused.deployed
    in_use = deployed.get("mine").agent
    assert isinstance(in_use, RuleBasedAgentSettings)
    assert in_use.rules[0].action == "retrieve"
    assert [each.blueprint.agent for each in deployed.listed() if each.blueprint.name == "mine"] == [in_use]
    async with open_agent(deployed.get("mine")) as agent:
        assert (await does(agent, "fetch a.md from docs")).name == "retrieve"


async def test_a_version_that_passed_is_not_evaluated_twice_by_the_same_suite(
    store: VersionStore, registry: BlueprintRegistry
) -> None:
    await promote(store, registry, "iowarp_agent", load_suite())
    again = await promote(store, registry, "iowarp_agent", load_suite())
    assert (again.evaluated, again.deployed, again.number) == (False, True, 1)
    other = load_suite().model_copy(update={"pass_score": 0.5})
    assert (await promote(store, registry, "iowarp_agent", other)).evaluated


async def test_rolling_back_brings_the_agent_of_before(
    store: VersionStore, registry: BlueprintRegistry, deployed: DeployedRegistry
) -> None:
    registry.create("mine", {"agent.type": "rule_based", "agent.default_tag": "first"})
    await promote(store, registry, "mine", load_suite())
    registry.update("mine", {"agent.default_tag": "second"})
    await promote(store, registry, "mine", load_suite())
    assert deployed.get("mine").agent.default_tag == "second"
    assert roll_back(store, "mine").deployed == (1,)
    assert deployed.get("mine").agent.default_tag == "first"
    assert roll_back(store, "mine", to=2).deployed == (1, 2)
    with pytest.raises(BadInput, match="mine has no version 3; versions: 1, 2"):
        roll_back(store, "mine", to=3)


async def test_a_program_that_is_not_there_evaluates_nothing(
    store: VersionStore, registry: BlueprintRegistry
) -> None:
    registry.create("mine", {"agent.type": "claude", "agent.program": "no-such-program"})
    with pytest.raises(SettingsError, match="there is no program 'no-such-program'"):
        await promote(store, registry, "mine", load_suite())
    (version,) = store.record("mine").versions
    assert (version.state, version.evaluations) == ("train", ())


def test_the_prompt_and_the_adapter_of_a_version_are_settled(
    registry: BlueprintRegistry, run_dir: Path
) -> None:
    registry.create("trained", {"agent.type": "lora", "agent.run": str(run_dir)})
    registry.create("within", {"agent": {"type": "retriever", "backend": "lora", "run": str(run_dir)}})
    spelled = {"type": "ingestor", "backend": {"type": "lora", "run": str(run_dir), "version": 1}}
    registry.create("spelled", {"agent": spelled})
    for name, version in (("trained", 2), ("within", 2), ("spelled", 1)):
        makeup = build_manifest(registry, name)
        agent = makeup.read().agent
        settled = agent if isinstance(agent, LoraAgentSettings) else getattr(agent, "backend", None)
        assert isinstance(settled, LoraAgentSettings)
        assert (settled.version, settled.system, settled.run) == (version, makeup.prompt, str(run_dir))
        assert makeup.prompt
        assert makeup.adapter is not None
        assert makeup.adapter.name == f"student-v{version}"


async def test_an_adapter_of_a_run_is_evaluated_on_its_engine(
    store: VersionStore, registry: BlueprintRegistry, run_dir: Path
) -> None:
    registry.create("trained", {"agent.type": "lora", "agent.run": str(run_dir)})
    done = await promote(store, registry, "trained", FETCH)
    assert (done.outcome.n, done.deployed) == (1, done.outcome.passed)
    assert done.record.version(1).makeup.adapter is not None


def test_a_version_is_not_used_once_its_adapter_holds_other_weights(
    store: VersionStore, registry: BlueprintRegistry, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", versions=2)
    registry.create("mine", {"agent.type": "lora", "agent.run": str(run)})
    for version in (1, 2):
        registry.update("mine", {"agent.version": version})
        store.add("mine", build_manifest(registry, "mine"))
        store.finish("mine", version, PASSED)
        store.deploy("mine", version)
    weights = adapter_folder(run, "student", 1) / WEIGHTS_FILE
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"\1")
    with pytest.raises(BadInput, match=r"version 1 cannot be used: student-v1 of .* has other weights"):
        roll_back(store, "mine")
    weights.unlink()
    with pytest.raises(BadInput, match="the adapter cannot be read"):
        roll_back(store, "mine", to=1)
    assert store.record("mine").deployed == (1, 2)
    weights.write_bytes(content)
    assert roll_back(store, "mine").deployed == (1,)
