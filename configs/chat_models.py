"""Models that answer messages with text: servers, providers, programs. One class a kind.

Secrets never stand here: `api_key_env` is the name of the environment variable that holds the key.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .models import EngineSettings, ModelSettings, TransformersEngineSettings
from .section import Section

URL = r"^https?://[^/@\s]+(/\S*)?$"
"""No user and password: a URL is shown in errors."""
PLACEHOLDERS = ("{prompt}", "{system}", "{model}", "{temperature}", "{max_tokens}")


class Prices(Section):
    """What a provider charges, for a million tokens, in whatever currency you count in."""

    prompt: float = Field(ge=0.0)
    completion: float = Field(ge=0.0)
    cached_prompt: float | None = Field(default=None, ge=0.0)
    """For prompt tokens that the provider had in its cache; None: as `prompt`."""


class RetrySettings(Section):
    """When a server is busy, breaks off or answers nonsense, it is asked again."""

    attempts: int = Field(default=4, ge=1, le=20)
    pause_s: float = Field(default=0.5, ge=0.0)
    """The first pause is drawn between half of this and this; each further one is twice as long."""
    max_pause_s: float = Field(default=30.0, ge=0.0)
    """The server's own Retry-After may be longer."""


class RateLimits(Section):
    """What we hold ourselves to, so that a provider need not refuse us."""

    max_concurrent: int = Field(default=16, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Prompt and completion together; estimated before the call, corrected after it."""


class ChatSection(Section):
    """What all kinds share."""

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


class OpenAIModelSettings(ChatSection):
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


class OllamaModelSettings(ChatSection):
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


class AnthropicModelSettings(ChatSection):
    """Anthropic's API."""

    kind: Literal["anthropic"] = "anthropic"
    model: str = Field(min_length=1)
    base_url: str = Field(default="https://api.anthropic.com", pattern=URL)
    api_key_env: str = "ANTHROPIC_API_KEY"


class GoogleModelSettings(ChatSection):
    """Google's Gemini API."""

    kind: Literal["google"] = "google"
    model: str = Field(min_length=1)
    base_url: str = Field(default="https://generativelanguage.googleapis.com", pattern=URL)
    api_key_env: str = "GEMINI_API_KEY"
    embedding_model: str = ""
    """Empty: `model`."""


class CohereModelSettings(ChatSection):
    """Cohere's API, version 2."""

    kind: Literal["cohere"] = "cohere"
    model: str = Field(min_length=1)
    base_url: str = Field(default="https://api.cohere.com", pattern=URL)
    api_key_env: str = "CO_API_KEY"
    embedding_model: str = ""
    """Empty: `model`."""


class LlamaCppModelSettings(ChatSection):
    """A GGUF file, run in this process by llama.cpp. One request at a time."""

    kind: Literal["llama_cpp"] = "llama_cpp"
    file: str = Field(min_length=1)
    context_tokens: int = Field(default=4096, ge=16)
    gpu_layers: int = Field(default=0, ge=-1)
    """Layers held on the GPU; -1 is all."""
    threads: int = Field(default=2, ge=1)
    chat_format: str | None = None
    """None: the template inside the file."""


class CommandModelSettings(ChatSection):
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


class EngineModelSettings(ChatSection):
    """An inference engine of this project, spoken to through its model's chat template."""

    kind: Literal["engine"] = "engine"
    model: ModelSettings = ModelSettings()
    engine: EngineSettings = TransformersEngineSettings()


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
]
