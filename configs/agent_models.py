"""The models that agents work with, in a few words."""

from .agent_settings import (
    AgentSettings,
    ClaudeAgentSettings,
    CoordinatorAgentSettings,
    LlmAgentSettings,
    LoraAgentSettings,
    PromptAgentSettings,
    RuleBasedAgentSettings,
    SpecialistSection,
)
from .chat_models import CommandModelSettings, EngineModelSettings, LlamaCppModelSettings


def works_with(agent: AgentSettings) -> str:
    """The model of an agent, or its backend, in a few words."""
    if isinstance(agent, SpecialistSection):
        routed = f"{agent.routing}, " if isinstance(agent, CoordinatorAgentSettings) else ""
        return f"{routed}{agent.backend.type} {works_with(agent.backend)}".strip()
    if isinstance(agent, RuleBasedAgentSettings):
        return f"{len(agent.rules)} rules of its own" if agent.rules else ""
    if isinstance(agent, ClaudeAgentSettings):
        return agent.model
    if isinstance(agent, LoraAgentSettings):
        return f"{agent.run} {agent.policy} v{'newest' if agent.version is None else agent.version}"
    assert isinstance(agent, LlmAgentSettings | PromptAgentSettings)
    model = agent.model
    if isinstance(model, EngineModelSettings):
        return f"{model.engine.kind} {model.model.source}"
    if isinstance(model, LlamaCppModelSettings):
        return f"{model.kind} {model.file}"
    if isinstance(model, CommandModelSettings):
        return f"{model.kind} {model.argv[0]} {model.model}".strip()
    return f"{model.kind} {model.model}"
