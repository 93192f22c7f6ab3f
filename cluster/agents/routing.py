"""From a coordinator's blueprint to who routes its commands, and from the registry to whom they may go."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from ...actors.agents.routing.base import CommandRouter
from ...actors.agents.routing.rule_router import RuleRouter
from ...configs.agents.blueprints import Blueprint
from ...configs.agents.settings import CoordinatorAgentSettings, LoraAgentSettings, RuleBasedAgentSettings
from ...configs.data import DataSettings
from ...configs.errors import SettingsError
from ...messages.conversations import AgentCard
from .blueprint_registry import BlueprintRegistry
from .loader import model_of, permitted, rules_of

log = structlog.get_logger("cluster")


@asynccontextmanager
async def open_router(blueprint: Blueprint, rules: RuleRouter, embedder: str) -> AsyncIterator[CommandRouter]:
    """Router of a coordinator's commands. `embedder` is named as `SearchSettings.embedder` is.

    Raises SettingsError for a model that is not there or cannot route, and what starting it raises.
    """
    agent = coordinator(blueprint)
    if agent.routing == "rules":
        yield rules
    elif agent.routing == "embeddings":
        from ...actors.agents.routing.embedding_router import EmbeddingRouter
        from ...bridge.search.embedding import local_embedder

        yield EmbeddingRouter(rules, partial(local_embedder, embedder))
    else:
        from ...actors.agents.routing.llm_router import LlmRouter
        from ...runtime.llm import open_model

        backend = agent.backend
        if isinstance(backend, RuleBasedAgentSettings | LoraAgentSettings):
            raise SettingsError(
                f"blueprint {blueprint.name}: agent.backend: a {backend.type} agent cannot route; choose "
                "llm, claude or prompt, or `routing: rules`"
            )
        async with open_model(model_of(backend)) as model:
            yield LlmRouter(rules, model)


def coordinator(blueprint: Blueprint) -> CoordinatorAgentSettings:
    """Its settings. Raises SettingsError for another type of agent."""
    if isinstance(blueprint.agent, CoordinatorAgentSettings):
        return blueprint.agent
    raise SettingsError(
        f"blueprint {blueprint.name}: an agent of the type {blueprint.agent.type} routes nothing"
    )


def cards_of(
    registry: BlueprintRegistry, blueprint: Blueprint, plane: DataSettings
) -> Callable[[], Sequence[AgentCard]]:
    """Asks the registry, each time, who may get a coordinator's commands.

    They are the agents that it names, else all that work on the same bridges and caches; coordinators are
    never among them, nor is one that it does not name and whose settings do not fit: that is logged. Of one
    that it names the SettingsError is raised.
    """
    chosen = coordinator(blueprint).agents
    home = _where(blueprint.data_settings(plane))
    left_out: set[str] = set()

    def works_here(found: Blueprint) -> bool:
        try:
            return _where(found.data_settings(plane)) == home
        except SettingsError as error:
            if chosen:
                raise
            if found.name not in left_out:
                left_out.add(found.name)
                log.warning("an agent gets no commands", agent=found.name, why=str(error))
            return False

    def discover() -> tuple[AgentCard, ...]:
        there = [listed.blueprint for listed in registry.listed()]
        return tuple(
            card_of(found)
            for found in there
            if found.agent.type != "coordinator"
            and (found.name in chosen or not chosen)
            and works_here(found)
        )

    return discover


def card_of(blueprint: Blueprint) -> AgentCard:
    """Card of an agent: what a router needs to know of it."""
    return AgentCard(
        name=blueprint.name,
        description=blueprint.blueprint.description,
        actions=permitted(blueprint.agent),
        words=rules_of(blueprint).own,
    )


def _where(data: DataSettings) -> tuple[object, ...]:
    return data.bridge.endpoints, data.cache.hosts
