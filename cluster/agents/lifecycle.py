"""From a blueprint to a version in use: settled, evaluated, deployed if it passed, and back."""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...actors.agents.evaluation import evaluate
from ...configs.agents.blueprints import Blueprint, read_blueprint
from ...configs.agents.evaluation import EvaluationRecord, EvaluationSuite
from ...configs.agents.settings import BaseSpecialistSettings, LoraAgentSettings, model_summary
from ...configs.errors import BadInput
from ...configs.load import YamlValue
from ...configs.yaml_core import format_yaml, parse_mapping
from ...training.adapter_files import read_adapter, sha256_hex
from .blueprint_registry import BlueprintRegistry, apply_changes
from .loader import adapter_of, open_agent, permitted, prompt_of
from .version_store import VersionStore
from .versions import AgentManifest, AgentRecord, AgentVersion


class PromotionResult(NamedTuple):
    """Outcome of a promotion."""

    record: AgentRecord
    number: int
    """Of the version that the blueprint is now."""
    outcome: EvaluationRecord
    evaluated: bool
    """False where the version had passed this suite before."""

    @property
    def deployed(self) -> bool:
        """True if that version is in use now."""
        in_use = self.record.in_use
        return in_use is not None and in_use.number == self.number


def build_manifest(registry: BlueprintRegistry, name: str) -> AgentManifest:
    """Manifest of an agent as its blueprint stands, with its prompt and its adapter's version settled.

    Raises BadInput and SettingsError for a blueprint, a run or an adapter that is not there.
    """
    values = parse_mapping(registry.text(name))
    blueprint = registry.get(name)
    prompt, adapter = prompt_of(blueprint), adapter_of(blueprint)
    settled: dict[str, YamlValue] = {}
    if prompt:
        settled["system"] = prompt
    lora = _lora(blueprint)
    if lora is not None:
        run, version = lora.locate()
        settled |= {"run": str(run), "version": version}
    where = _backend_key(values)
    values = apply_changes(values, {f"{where}.{key}": value for key, value in settled.items()})
    text = format_yaml(values)
    model = f"{blueprint.agent.type} {model_summary(read_blueprint(values, name).agent)}".strip()
    return AgentManifest(model=model, adapter=adapter, prompt=prompt, blueprint=text)


async def promote(
    store: VersionStore,
    registry: BlueprintRegistry,
    name: str,
    suite: EvaluationSuite,
    watch: Callable[[int], None] = lambda _: None,
) -> PromotionResult:
    """Make a version of the blueprint as it stands, evaluate it, and deploy it if it passed.

    A version that passed this very suite is not evaluated again. Raises what opening the agent raises, and
    what its model fails with: then nothing is recorded of the evaluation.
    """
    version = store.add(name, await asyncio.to_thread(build_manifest, registry, name))
    known = version.evaluations[-1] if version.evaluations else None
    if known is not None and known.passed and known.suite_sha256 == suite.sha256():
        check_adapter(version)
        return PromotionResult(store.deploy(name, version.number), version.number, known, evaluated=False)
    blueprint = version.makeup.read()
    async with open_agent(blueprint) as agent:
        store.begin(name, version.number)
        outcome = await evaluate(agent, permitted(blueprint.agent), suite, watch)
    record = store.finish(name, version.number, outcome)
    if outcome.passed:
        record = store.deploy(name, version.number)
    return PromotionResult(record, version.number, outcome, evaluated=True)


def roll_back(store: VersionStore, name: str, to: int | None = None) -> AgentRecord:
    """Use the version again that was in use before, or a certain one that passed its evaluation.

    Raises BadInput where there is none, or where its adapter is not what it was.
    """
    record = store.record(name)
    planned = record.rolled_back() if to is None else record.deploying(to)
    assert planned.in_use is not None
    check_adapter(planned.in_use)
    return store.roll_back(name) if to is None else store.deploy(name, to)


def check_adapter(version: AgentVersion) -> None:
    """Refuse a version whose adapter is gone, or holds other weights than it did. Raises BadInput."""
    adapter, lora = version.makeup.adapter, _lora(version.makeup.read())
    if adapter is None or lora is None:
        return
    run, _ = lora.locate()
    found = sha256_hex(read_adapter(run, adapter).weights)
    if found != adapter.sha256:
        raise BadInput(
            f"version {version.number} cannot be used: {adapter.name} of {run} has other weights than it had "
            "when it was evaluated"
        )


def _lora(blueprint: Blueprint) -> LoraAgentSettings | None:
    agent = blueprint.agent
    backend = agent.backend if isinstance(agent, BaseSpecialistSettings) else agent
    return backend if isinstance(backend, LoraAgentSettings) else None


def _backend_key(values: Mapping[str, YamlValue]) -> str:
    """Key of the section with an agent's backend: a section of its own, or the agent's."""
    agent = values.get("agent")
    own_section = isinstance(agent, dict) and isinstance(agent.get("backend"), dict)
    return "agent.backend" if own_section else "agent"
