"""Settings of models that answer messages with text (servers, providers, programs), and of the router between
them. One class a kind.

Secrets never stand here: `api_key_env` is the name of the environment variable that holds the key.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Final, Literal, Protocol, Self, get_args

from pydantic import (
    Field,
    SerializeAsAny,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from ..messages.generation import SamplingSettings
from .base_config import BaseConfig
from .models import EngineSettings, ModelSettings, TransformersEngineSettings

URL = r"^https?://[^/@\s]+(/\S*)?$"
"""No user and password: a URL is shown in errors."""
PLACEHOLDERS = ("{prompt}", "{system}", "{model}", "{temperature}", "{max_tokens}")


class Prices(BaseConfig):
    """Prices of a provider for a million tokens, in whatever currency you count in."""

    prompt: float = Field(ge=0.0)
    completion: float = Field(ge=0.0)
    cached_prompt: float | None = Field(default=None, ge=0.0)
    """For prompt tokens that the provider had in its cache; None: as `prompt`."""


class RetrySettings(BaseConfig):
    """Retries of a server that is busy, breaks off or answers nonsense."""

    attempts: int = Field(default=4, ge=1, le=20)
    pause_s: float = Field(default=0.5, ge=0.0)
    """The first pause is drawn between half of this and this; each further one is twice as long."""
    max_pause_s: float = Field(default=30.0, ge=0.0)
    """The server's own Retry-After may be longer."""


class RateLimits(BaseConfig):
    """Limits on our own requests, so that a provider need not refuse them."""

    max_concurrent: int = Field(default=16, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Prompt and completion together; estimated before the call, corrected after it."""


class BaseChatModelSettings(BaseConfig):
    """Base of all kinds."""

    timeout_s: float = Field(default=300.0, gt=0.0)
    """The longest a call waits in all, retries and rate limits included."""
    silence_s: float = Field(default=60.0, gt=0.0)
    """The longest silence of a model that streams: before the first piece of a reply, and between two."""
    retry: RetrySettings = RetrySettings()
    limits: RateLimits = RateLimits()
    prices: Prices | None = None
    """Without them nothing has a cost."""
    context_tokens: int | None = Field(default=None, ge=16)
    """Prompt and completion together; a longer conversation loses its oldest turns. None: never cut."""


class OpenAIModelSettings(BaseChatModelSettings):
    """OpenAI, or any server that speaks its language."""

    kind: Literal["openai"] = "openai"
    model: str = Field(min_length=1)
    base_url: str = Field(pattern=URL)
    """Such as https://api.openai.com/v1 or http://127.0.0.1:11434/v1."""
    server: Literal["openai", "vllm", "llama_cpp", "lm_studio", "ollama", "other"] = "other"
    """Which one it is: they differ in what they can do beyond the common part."""
    api_key_env: str = ""
    """Empty: no key is sent."""
    embedding_model: str = ""
    """Empty: `model`."""
    stream: bool = True
    """False for accounts and servers that do not allow streaming."""


class OllamaModelSettings(BaseChatModelSettings):
    """Ollama, in its own language."""

    kind: Literal["ollama"] = "ollama"
    model: str = "llama3.2"
    base_url: str = Field(default="http://127.0.0.1:11434", pattern=URL)
    api_key_env: str = "OLLAMA_API_KEY"
    """May be unset: a server of your own needs none."""
    embedding_model: str = ""
    """Empty: `model`."""
    keep_alive_s: float = 300.0
    """How long the server keeps the model in memory."""
    context_tokens: int = Field(default=4096, ge=16)
    """Sent to the server, which would otherwise cut longer prompts silently."""


class AnthropicModelSettings(BaseChatModelSettings):
    """Anthropic's API."""

    kind: Literal["anthropic"] = "anthropic"
    model: str = Field(min_length=1)
    base_url: str = Field(default="https://api.anthropic.com", pattern=URL)
    api_key_env: str = "ANTHROPIC_API_KEY"


class GoogleModelSettings(BaseChatModelSettings):
    """Google's Gemini API."""

    kind: Literal["google"] = "google"
    model: str = Field(min_length=1)
    base_url: str = Field(default="https://generativelanguage.googleapis.com", pattern=URL)
    api_key_env: str = "GEMINI_API_KEY"
    embedding_model: str = ""
    """Empty: `model`."""


class CohereModelSettings(BaseChatModelSettings):
    """Cohere's API, version 2."""

    kind: Literal["cohere"] = "cohere"
    model: str = Field(min_length=1)
    base_url: str = Field(default="https://api.cohere.com", pattern=URL)
    api_key_env: str = "CO_API_KEY"
    embedding_model: str = ""
    """Empty: `model`."""


class LlamaCppModelSettings(BaseChatModelSettings):
    """A GGUF file, run in this process by llama.cpp. One request at a time."""

    kind: Literal["llama_cpp"] = "llama_cpp"
    file: str = Field(min_length=1)
    context_tokens: int = Field(default=4096, ge=16)
    gpu_layers: int = Field(default=0, ge=-1)
    """Layers held on the GPU; -1 is all."""
    threads: int = Field(default=2, ge=1)
    chat_format: str | None = None
    """None: the template inside the file."""


class CommandModelSettings(BaseChatModelSettings):
    """A program that reads a prompt and writes an answer."""

    kind: Literal["command"] = "command"
    argv: tuple[str, ...] = Field(min_length=1)
    """The program and its arguments, run without a shell. {prompt}, {system}, {model}, {temperature} and
    {max_tokens} are filled in; without {prompt} the prompt goes to stdin, without {system} in front of it."""
    model: str = ""
    folder: str = "."
    """Where it runs."""
    environment: tuple[str, ...] = ()
    """Names of the variables that it gets beside PATH, HOME and LANG."""
    output: Literal["text", "json"] = "text"
    reply_key: str = "result"
    """Of JSON output: the key that holds the answer."""
    max_output_kb: int = Field(default=1024, ge=1)

    @model_validator(mode="after")
    def _placeholders_in_arguments_only(self) -> Self:
        if any(placeholder in self.argv[0] for placeholder in PLACEHOLDERS):
            raise ValueError(f"argv: the program itself cannot be a placeholder: {self.argv[0]!r}")
        return self


class EngineModelSettings(BaseChatModelSettings):
    """An inference engine of this project, spoken to through its model's chat template."""

    kind: Literal["engine"] = "engine"
    model: ModelSettings = ModelSettings()
    engine: EngineSettings = TransformersEngineSettings()


CHAT_BACKENDS: Final = "agentfactory.chat_backends"
"""The group of entry points by which installed packages bring kinds of their own."""


class _Registration(Protocol):
    """The part of a registered backend (`runtime.llm.backends.base.ChatBackend`) that settings need."""

    @property
    def settings(self) -> type[BaseChatModelSettings]: ...


def kind_of(settings: BaseChatModelSettings | type[BaseChatModelSettings]) -> str:
    """The word that tells these settings from those of other backends."""
    return str((settings if isinstance(settings, type) else type(settings)).model_fields["kind"].default)


@cache
def external_backends() -> dict[str, EntryPoint]:
    """The backends of installed packages, by the kind of their settings; not imported."""
    return {entry.name: entry for entry in entry_points(group=CHAT_BACKENDS)}


def _or_external(value: object, built_in: ValidatorFunctionWrapHandler) -> object:
    """Validate settings of a kind that is none of ours by the class that its backend brings."""
    if isinstance(value, BaseChatModelSettings):
        kind: object = kind_of(value)
    else:
        kind = value.get("kind") if isinstance(value, Mapping) else None
    entry = external_backends().get(kind) if isinstance(kind, str) else None
    if entry is None or kind in _OUR_KINDS:
        return built_in(value)
    try:
        backend: _Registration = entry.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"kind: the chat backend {kind!r} cannot be imported: {error}") from error
    return backend.settings.model_validate(value)


ChatModelSettings = Annotated[
    OpenAIModelSettings
    | OllamaModelSettings
    | AnthropicModelSettings
    | GoogleModelSettings
    | CohereModelSettings
    | LlamaCppModelSettings
    | CommandModelSettings
    | EngineModelSettings,
    Field(discriminator="kind"),
    WrapValidator(_or_external),
    SerializeAsAny(),
]
_OUR_KINDS = frozenset(map(kind_of, get_args(get_args(ChatModelSettings)[0])))


class RoutedModelSettings(BaseConfig):
    """One model of the chain, and its confidence (see `runtime.llm.routing.confidence`)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")
    """In decisions and reports."""
    model: ChatModelSettings
    logprobs: bool = True
    """Use log-probabilities where the model gives them. False for servers that refuse to."""
    agreement_samples: int = Field(default=0, ge=0, le=16)
    """Without log-probabilities: how many replies are compared; each costs a request. 0: none are."""
    agreement_temperature: float = Field(default=0.7, gt=0.0, le=10.0)
    """Of the further samples, where the request itself is greedy."""
    declared_confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    """Where neither of these says anything: how sure you are of it."""

    @model_validator(mode="after")
    def _one_sample_agrees_with_itself(self) -> Self:
        if self.agreement_samples == 1:
            raise ValueError("agreement_samples: one reply always agrees with itself; expected 0, or 2 to 16")
        return self


class BudgetSettings(BaseConfig):
    """Budget, checked against an upper estimate before each ask. None: no limit.

    Money is in the currency of the models' prices; a model without prices is free. Tokens are those of
    all models, prompt and completion.
    """

    request_cost: float | None = Field(default=None, ge=0.0)
    request_tokens: int | None = Field(default=None, ge=0)
    day_cost: float | None = Field(default=None, ge=0.0)
    """Days are UTC's. All routers that share a `folder` share their days."""
    day_tokens: int | None = Field(default=None, ge=0)


class CircuitSettings(BaseConfig):
    """Circuit breaker: a model that keeps failing is left alone for a while."""

    open_after: int = Field(default=3, ge=1)
    """Failures in a row."""
    pause_s: float = Field(default=30.0, gt=0.0)
    """Then one request may try it again. A server's own Retry-After may be longer."""


class ResultCacheSettings(BaseConfig):
    """Cache of replies, to be given again for the same task."""

    entries: int = Field(default=1000, ge=0)
    """The one that was used longest ago goes first. 0 keeps none."""
    sampled: bool = False
    """Keep replies to requests with a temperature above 0, too: the next one gets the same."""


class RouterSettings(BaseConfig):
    """A router."""

    chain: tuple[RoutedModelSettings, ...] = Field(
        default=(RoutedModelSettings(name="seed", model=EngineModelSettings()),), min_length=1
    )
    """The first one is always asked first: the local one."""
    threshold: float = Field(default=0.7, ge=0.0, le=1.0)
    """A reply at least this sure is taken; after any other the next model is asked."""
    order: Literal["cost", "latency", "listed"] = "cost"
    """Of those after the first: by what they are expected to cost or take, or as they are listed."""
    deadline_s: float | None = Field(default=None, gt=0.0)
    """For a whole request that brings none of its own."""
    sampling: SamplingSettings = SamplingSettings(temperature=0.0)
    """For tasks that come as plain text."""
    budget: BudgetSettings = BudgetSettings()
    circuit: CircuitSettings = CircuitSettings()
    cache: ResultCacheSettings = ResultCacheSettings()
    folder: str = ".agentfactory/router"
    """Where spending, history and accuracy are kept."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [entry.name for entry in self.chain]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"chain: two models have the name {twice[0]!r}")
        return self
