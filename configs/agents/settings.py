"""Settings of an agent: by rules, by a model, or a specialist round one of these. One class a type.

The words of a blueprint's `agent` section may stand side by side, as in

    agent: {type: ingestor, backend: llm, model: llama3.2, temperature: 0.2, default_tag: docs}

They are sorted here into what they are about: the model, the backend, the specialist itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, Field, field_validator, model_validator

from ...messages.adapters import Policy
from ...messages.data import Format, Param
from ..base_config import BaseConfig
from ..chat_models import (
    ChatModelSettings,
    CommandModelSettings,
    EngineModelSettings,
    LlamaCppModelSettings,
    OllamaModelSettings,
    kind_of,
)
from ..errors import SettingsError
from ..models import SEEDS

CONDITION: Final = "task_contains_"
"""What a rule's condition begins with; then the word follows, with `_` for a blank."""
ActionName = Literal["assimilate", "query", "retrieve", "prune", "destroy", "list_blobs"]


class BaseAgentSettings(BaseConfig):
    """Base of all agent types: defaults for what a command does not say."""

    default_tag: str = Field(default="default", min_length=1)
    default_format: Format | None = None
    """None: the environment's."""
    default_tag_pattern: str = Field(default="*", min_length=1)
    """Of a query or a listing; a glob."""


class ActionRule(BaseConfig):
    """A word of your own for an action.

    In YAML also as the first AgentFactory wrote it: `condition: task_contains_WORD` in place of `word`.
    """

    word: str = Field(pattern=r"\S")
    """One word or several, found whole, in upper or lower case."""
    action: ActionName

    @model_validator(mode="before")
    @classmethod
    def _word_of_a_condition(cls, values: object) -> object:
        if not isinstance(values, Mapping) or "condition" not in values or "word" in values:
            return values
        condition = values["condition"]
        word = condition.removeprefix(CONDITION) if isinstance(condition, str) else ""
        if not word.strip("_ ") or word == condition:
            raise ValueError(f"condition: expected {CONDITION}WORD, found {condition!r}")
        others = {key: value for key, value in values.items() if key != "condition"}
        return {**others, "word": word.replace("_", " ").strip()}


class RuleBasedAgentSettings(BaseAgentSettings):
    """By words alone: offline, and always the same."""

    type: Literal["rule_based"] = "rule_based"
    rules: tuple[ActionRule, ...] = ()
    """They come before the built-in ones. In YAML also a mapping of words to actions."""

    @field_validator("rules", mode="before")
    @classmethod
    def _from_a_mapping(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return [{"word": word, "action": action} for word, action in value.items()]
        return value


class BaseModelAgentSettings(BaseAgentSettings):
    """Base of all agent types that ask a model."""

    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    max_tokens: int = Field(default=256, ge=1)
    """Of one reply."""
    system: str = ""
    """Stands in place of our own system prompt."""
    fallback: Literal["rules", "query", "refuse"] = "rules"
    """What becomes of a command whose reply is no action: the rules decide, it becomes a query of
    `default_tag_pattern`, or it is refused."""


class LlmAgentSettings(BaseModelAgentSettings):
    """A chat model: Ollama, any server that speaks OpenAI's language, an engine of ours."""

    type: Literal["llm"] = "llm"
    model: ChatModelSettings = OllamaModelSettings()
    """In YAML also a name: `seed`, `seed-data`, a folder or a hub name (with a slash) for an engine of ours,
    any other for Ollama. `backend` beside it says the kind of model, `base_url` the server."""

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, values: object) -> object:
        return _with_its_model(values) if isinstance(values, Mapping) else values


class ClaudeAgentSettings(BaseModelAgentSettings):
    """Claude, through its command-line program; no key is needed."""

    type: Literal["claude"] = "claude"
    model: str = Field(default="sonnet", min_length=1)
    program: str = Field(default="claude", min_length=1)
    timeout_s: float = Field(default=120.0, gt=0.0)


class CommandCase(BaseConfig):
    """A command and what is to be done about it."""

    command: str = Field(min_length=1)
    action: ActionName
    params: dict[str, Param] = Field(default_factory=dict)


class PromptAgentSettings(BaseModelAgentSettings):
    """A chat model led by a prompt of your own, with examples or without."""

    type: Literal["prompt"] = "prompt"
    model: ChatModelSettings
    """As for `llm`."""
    examples: tuple[CommandCase, ...] = ()
    """None: zero-shot."""

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, values: object) -> object:
        return _with_its_model(values) if isinstance(values, Mapping) else values


class LoraAgentSettings(BaseModelAgentSettings):
    """An adapter that a run has trained, on the run's own base model and engine."""

    type: Literal["lora"] = "lora"
    run: str = Field(min_length=1)
    """The run's folder."""
    policy: Policy = "student"
    version: int | None = Field(default=None, ge=0)
    """None: the newest; 0: the base model."""

    def locate(self) -> tuple[Path, int]:
        """The run's folder, and the version. Raises SettingsError where it is not there."""
        run = Path(self.run).expanduser().resolve()
        if not (run / "settings.json").is_file():
            raise SettingsError(f"agent.run: there is no run in the folder {self.run!r}")
        kept = sorted(
            int(folder.name[1:])
            for folder in (run / "adapters" / self.policy).glob("v*")
            if folder.name[1:].isdecimal()
        )
        version = self.version if self.version is not None else (kept[-1] if kept else 0)
        if version and version not in kept:
            known = ", ".join(map(str, kept)) or "none"
            raise SettingsError(
                f"agent.version: the run {self.run!r} has no version {version} of its {self.policy}; it "
                f"keeps {known}"
            )
        return run, version


BackendSettings = Annotated[
    RuleBasedAgentSettings | LlmAgentSettings | ClaudeAgentSettings | PromptAgentSettings | LoraAgentSettings,
    Field(discriminator="type"),
]


class BaseSpecialistSettings(BaseAgentSettings):
    """Base of specialists, which work round a backend of any type."""

    backend: BackendSettings = RuleBasedAgentSettings()
    """In YAML also its type, or a kind of chat model, with its own words beside it."""

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, values: object) -> object:
        return _with_its_backend(values, cls) if isinstance(values, Mapping) else values


class IngestorAgentSettings(BaseSpecialistSettings):
    """Can do nothing but assimilate."""

    type: Literal["ingestor"] = "ingestor"


class RetrieverAgentSettings(BaseSpecialistSettings):
    """Can do nothing but query, retrieve and prune."""

    type: Literal["retriever"] = "retriever"


class CoordinatorAgentSettings(BaseSpecialistSettings):
    """Reads a command and gives it to the agent that can do it."""

    type: Literal["coordinator"] = "coordinator"
    routing: Literal["rules", "embeddings", "model"] = "rules"
    """How it decides. Where it is not said: by the model, if `backend` is one."""
    agents: tuple[str, ...] = ()
    """Names of the blueprints that it may give commands to; empty: each that there is."""

    @model_validator(mode="before")
    @classmethod
    def _by_its_model(cls, values: object) -> object:
        if not isinstance(values, Mapping) or "routing" in values:
            return values
        spelled = _with_its_backend(values, cls)
        backend = spelled.get("backend")
        by_rules = not isinstance(backend, Mapping) or backend.get("type") == "rule_based"
        return {**spelled, "routing": "rules" if by_rules else "model"}

    @model_validator(mode="after")
    def _a_model_to_ask(self) -> Self:
        if self.routing == "model" and isinstance(self.backend, RuleBasedAgentSettings):
            raise ValueError("routing by a model needs a backend that is one, such as llm or claude")
        return self


AgentSettings = Annotated[
    RuleBasedAgentSettings
    | LlmAgentSettings
    | ClaudeAgentSettings
    | PromptAgentSettings
    | LoraAgentSettings
    | IngestorAgentSettings
    | RetrieverAgentSettings
    | CoordinatorAgentSettings,
    Field(discriminator="type"),
]


def types_of(union: object) -> dict[str, type[BaseModel]]:
    """The classes of a union whose tag is called `type` or `kind`, by their tag."""
    found: dict[str, type[BaseModel]] = {}
    for option in get_args(get_args(union)[0]):
        tag = option.model_fields.get("type") or option.model_fields["kind"]
        found[str(tag.default)] = option
    return found


AGENT_TYPES: Final = types_of(AgentSettings)
BACKEND_TYPES: Final = types_of(BackendSettings)
MODEL_KINDS: Final = types_of(ChatModelSettings)


def check_models(agent: AgentSettings) -> None:
    """Refuse a model or an adapter that should lie on this machine and does not. Raises SettingsError."""
    if isinstance(agent, BaseSpecialistSettings):
        check_models(agent.backend)
    elif isinstance(agent, LoraAgentSettings):
        agent.locate()
    elif isinstance(agent, LlmAgentSettings | PromptAgentSettings):
        model = agent.model
        if isinstance(model, EngineModelSettings):
            model.model.locate()


def _with_its_model(values: Mapping[str, object]) -> dict[str, object]:
    """`backend`, `model` and `base_url` as one section, unless `model` is one already."""
    spelled = dict(values)
    named = spelled.get("model")
    if isinstance(named, Mapping | BaseModel):
        return spelled
    kind, url = spelled.pop("backend", None), spelled.pop("base_url", None)
    if kind is None and url is None and named is None:
        return spelled
    if kind is None:
        kind = "openai" if url is not None else _kind_of(str(named or ""))
    model: dict[str, object] = {"kind": kind}
    if url is not None:
        model["base_url"] = url
    if named is not None:
        model |= {"model": {"source": named}} if kind == "engine" else {_name_key(str(kind)): named}
    spelled["model"] = model
    return spelled


def _kind_of(model: str) -> str:
    return "engine" if model in SEEDS or "/" in model else "ollama"


def _name_key(kind: str) -> str:
    return "file" if kind == "llama_cpp" else "model"


def _with_its_backend(values: Mapping[str, object], specialist: type[BaseModel]) -> dict[str, object]:
    """The words that are not the specialist's own go to its backend."""
    backend = values.get("backend")
    if isinstance(backend, Mapping | BaseModel):
        return dict(values)
    own = {key: value for key, value in values.items() if key in specialist.model_fields and key != "backend"}
    others = {key: value for key, value in values.items() if key not in specialist.model_fields}
    if backend is None:
        backend = "llm" if "model" in others else "rule_based"
    if backend in MODEL_KINDS:
        others = {"type": "llm", "backend": backend, **others}
    else:
        others = {"type": backend, **others}
    return {**own, "backend": others}


def model_summary(agent: AgentSettings) -> str:
    """The model of an agent, or its backend, in a few words."""
    if isinstance(agent, BaseSpecialistSettings):
        routed = f"{agent.routing}, " if isinstance(agent, CoordinatorAgentSettings) else ""
        return f"{routed}{agent.backend.type} {model_summary(agent.backend)}".strip()
    if isinstance(agent, RuleBasedAgentSettings):
        return f"{len(agent.rules)} rules of its own" if agent.rules else ""
    if isinstance(agent, ClaudeAgentSettings):
        return agent.model
    if isinstance(agent, LoraAgentSettings):
        return f"{agent.run} {agent.policy} v{'newest' if agent.version is None else agent.version}"
    assert isinstance(agent, LlmAgentSettings | PromptAgentSettings)
    model = agent.model
    if (kind := kind_of(model)) not in MODEL_KINDS:  # a backend from outside: its fields are its own
        return kind
    if isinstance(model, EngineModelSettings):
        return f"{model.engine.kind} {model.model.source}"
    if isinstance(model, LlamaCppModelSettings):
        return f"{model.kind} {model.file}"
    if isinstance(model, CommandModelSettings):
        return f"{model.kind} {model.argv[0]} {model.model}".strip()
    return f"{model.kind} {model.model}"
