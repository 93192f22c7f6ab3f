"""From a blueprint to an agent that is ready: its model is opened with it, and closed after it.

What a type of agent needs is imported when one of that type is opened: one by rules starts at once.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ...actors.agents.base import Agent
from ...actors.agents.command_parser import CommandParser
from ...actors.agents.rule_agents import INGESTOR_ACTIONS, RETRIEVER_ACTIONS, RestrictedAgent, RuleBasedAgent
from ...actors.environment import ACTIONS
from ...configs.agents.blueprints import Blueprint
from ...configs.agents.settings import (
    AgentSettings,
    BackendSettings,
    BaseModelAgentSettings,
    BaseSpecialistSettings,
    ClaudeAgentSettings,
    LlmAgentSettings,
    LoraAgentSettings,
    PromptAgentSettings,
    RuleBasedAgentSettings,
)
from ...configs.chat_models import CommandModelSettings, EngineModelSettings
from ...configs.errors import SettingsError
from ...configs.models import SEEDS
from ...messages.data import Action

if TYPE_CHECKING:
    from ...actors.agents.action_format import ActionFormat
    from ...configs.chat_models import ChatModelSettings
    from ...messages.adapters import AdapterRef, LoadAdapter
    from ...runtime.llm import ChatModel


_PERMITTED: Final = {"ingestor": INGESTOR_ACTIONS, "retriever": RETRIEVER_ACTIONS}


@asynccontextmanager
async def open_agent(blueprint: Blueprint) -> AsyncIterator[Agent]:
    """The agent of a blueprint, for one session.

    Of a coordinator it is the one that reads a command where no other agent is asked: its backend. Raises
    SettingsError for a model, a program or an adapter that is not there, and what starting it raises.
    """
    agent, rules = blueprint.agent, rules_of(blueprint)
    special = agent.type in _PERMITTED
    async with _opened(_backend(agent), rules, permitted(agent)) as backend:
        yield RestrictedAgent(agent.type, permitted(agent), backend, rules) if special else backend


def rules_of(blueprint: Blueprint) -> CommandParser:
    """The language of commands as a blueprint has it. A specialist's backend may bring words of its own."""
    agent, backend = blueprint.agent, _backend(blueprint.agent)
    own = backend.rules if isinstance(backend, RuleBasedAgentSettings) else ()
    return CommandParser(
        default_tag=agent.default_tag,
        default_format=blueprint.default_format,
        default_pattern=agent.default_tag_pattern,
        own=tuple((rule.word, rule.action) for rule in own),
    )


def permitted(agent: AgentSettings) -> tuple[str, ...]:
    """Names of the actions that an agent may take."""
    return _PERMITTED.get(agent.type) or tuple(ACTIONS)


def policy_version(blueprint: Blueprint) -> int:
    """The version of our own policy that decides; 0 where it is none of ours. Raises SettingsError."""
    backend = _backend(blueprint.agent)
    return backend.locate()[1] if isinstance(backend, LoraAgentSettings) else 0


def prompt_of(blueprint: Blueprint) -> str:
    """The system prompt in full; empty for an agent that asks no model."""
    backend = _backend(blueprint.agent)
    if isinstance(backend, RuleBasedAgentSettings):
        return ""
    return _dialect(backend, rules_of(blueprint), permitted(blueprint.agent)).system


def adapter_of(blueprint: Blueprint) -> AdapterRef | None:
    """The version of our own policy that decides; None where it is none of ours, or the base model.

    Raises SettingsError and BadInput for one that is not there.
    """
    backend = _backend(blueprint.agent)
    return _adapter_ref(backend) if isinstance(backend, LoraAgentSettings) else None


def _backend(agent: AgentSettings) -> BackendSettings:
    return agent.backend if isinstance(agent, BaseSpecialistSettings) else agent


@asynccontextmanager
async def _opened(
    settings: BackendSettings, rules: CommandParser, permitted: tuple[str, ...]
) -> AsyncIterator[Agent]:
    if isinstance(settings, RuleBasedAgentSettings):
        yield RuleBasedAgent(rules)
        return
    from ...actors.agents.model_agent import ModelAgent, ModelOptions

    options = ModelOptions(settings.temperature, settings.max_tokens, settings.fallback)
    dialect = _dialect(settings, rules, permitted)
    if isinstance(settings, LoraAgentSettings):
        async with _adapted(settings) as (model, adapter):
            yield ModelAgent(model, dialect, options._replace(adapter=adapter), rules)
        return
    from ...runtime.llm import open_model

    async with open_model(model_of(settings)) as model:
        yield ModelAgent(model, dialect, options, rules)


def model_of(settings: LlmAgentSettings | PromptAgentSettings | ClaudeAgentSettings) -> ChatModelSettings:
    """Settings of the chat model that decides. Raises SettingsError for a program that is not there."""
    if not isinstance(settings, ClaudeAgentSettings):
        return settings.model
    if shutil.which(settings.program) is None:
        raise SettingsError(
            f"agent.program: there is no program {settings.program!r} on the PATH; install Claude's command "
            "line, or choose another type of agent, such as rule_based"
        )
    return CommandModelSettings(
        argv=(
            *(settings.program, "-p", "--model", "{model}", "--output-format", "json"),
            *("--system-prompt", "{system}", "--tools", "", "--no-session-persistence"),
        ),
        model=settings.model,
        output="json",
        timeout_s=settings.timeout_s,
    )


def _dialect(
    settings: BaseModelAgentSettings, rules: CommandParser, permitted: tuple[str, ...]
) -> ActionFormat:
    """Ours were trained in the Student's way of talking; all others write JSON."""
    if isinstance(settings, LoraAgentSettings) or _is_seed(settings):
        from ...actors.agents.action_format import ReActFormat
        from ...actors.domains import domain_named
        from ...actors.student.tools import DATA_TOOL_SPECS, action_of

        told = domain_named("data").opening("", DATA_TOOL_SPECS)[0].content
        return ReActFormat(settings.system or told, action_of)
    from ...actors.agents.action_format import CommandExample, JsonActionFormat

    examples = settings.examples if isinstance(settings, PromptAgentSettings) else ()
    return JsonActionFormat(
        permitted,
        default_tag=rules.default_tag,
        system=settings.system,
        examples=[CommandExample(one.command, Action.of(one.action, **one.params)) for one in examples],
    )


def _is_seed(settings: BaseModelAgentSettings) -> bool:
    model = settings.model if isinstance(settings, LlmAgentSettings | PromptAgentSettings) else None
    return isinstance(model, EngineModelSettings) and model.model.source in SEEDS


@asynccontextmanager
async def _adapted(settings: LoraAgentSettings) -> AsyncIterator[tuple[ChatModel, str | None]]:
    """The run's base model on the run's engine, and the name of the loaded adapter."""
    from ...runtime.engines.registry import open_engine
    from ...runtime.llm import ChatModel
    from ...runtime.llm.backends.engine import EngineBackend, capabilities
    from ..run_folder import open_run_folder

    folder, _ = settings.locate()
    run = (await asyncio.to_thread(open_run_folder, folder))[1]
    files = await asyncio.to_thread(_adapter, settings)
    chat = EngineModelSettings(model=run.model, engine=run.engine)
    engine = open_engine(run.model, run.engine)
    try:
        await engine.start()
        if files is not None:
            await engine.load_adapter(files)
        backend = EngineBackend(engine, run.model.locate(), owned=False, capabilities=capabilities(chat))
        async with ChatModel(chat, backend) as model:
            yield model, files.adapter.name if files is not None else None
    finally:
        await engine.aclose()


def _adapter(settings: LoraAgentSettings) -> LoadAdapter | None:
    """Its files; None for the base model. Raises SettingsError, BadInput."""
    from ...training.adapter_files import read_adapter

    adapter = _adapter_ref(settings)
    return read_adapter(settings.locate()[0], adapter) if adapter is not None else None


def _adapter_ref(settings: LoraAgentSettings) -> AdapterRef | None:
    """It is one that the run's journal knows."""
    from ..run_folder import newest_versions

    folder, version = settings.locate()
    if not version:
        return None
    for adapter in newest_versions(folder, limit=sys.maxsize):
        if (adapter.policy, adapter.version) == (settings.policy, version):
            return adapter
    raise SettingsError(
        f"agent.version: the journal of the run {settings.run!r} has no version {version} of its "
        f"{settings.policy}"
    )
