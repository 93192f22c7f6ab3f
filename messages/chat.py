"""What a chat model is asked, and what it answers: messages in, text and calls out."""

import json
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from .base import Message, Request
from .generation import SamplingSettings

JsonObject = dict[str, JsonValue]
FUNCTION_NAME = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}}
ChatFinish = Literal["stop", "length", "calls", "filtered", "abort"]
Capability = Literal[
    "streaming",
    "tools",
    "json_schema",
    "logprobs",
    "token_ids",
    "adapters",
    "embeddings",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "model_list",
    "pull",
]


class Capabilities(Message):
    """What a backend can do. What it cannot do it refuses; it never leaves a wish out silently."""

    streaming: bool = False
    """Text arrives in pieces while it is written."""
    tools: bool = False
    """Function calling."""
    json_schema: bool = False
    """Output held to a JSON schema."""
    logprobs: bool = False
    token_ids: bool = False
    """The exact tokens that were read and sampled, as training needs them."""
    adapters: bool = False
    """LoRA adapters, chosen by each request."""
    embeddings: bool = False
    temperature: bool = False
    top_p: bool = False
    top_k: bool = False
    seed: bool = False
    stop: bool = False
    model_list: bool = False
    pull: bool = False
    """Models can be downloaded through it."""

    def missing(self, needs: tuple[Capability, ...]) -> tuple[Capability, ...]:
        """Those of `needs` that are not here."""
        return tuple(need for need in needs if not self.__dict__[need])


class FunctionSpec(Message):
    """A function that the model may call."""

    name: str = Field(pattern=FUNCTION_NAME)
    description: str = ""
    parameters: JsonObject = Field(default=NO_PARAMETERS)
    """JSON schema of an object."""


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class BadArguments(ValueError):
    """The model wrote arguments that are not a JSON object."""


class FunctionCall(Message):
    """A call that the model wrote."""

    id: str
    name: str
    arguments: str = "{}"
    """As the model wrote them: a JSON object, where the model keeps to the form."""
    signature: str = ""
    """What the provider wants to see again with this call (Gemini's thought signature, base64)."""

    def parsed(self) -> JsonObject:
        """The arguments. Raises BadArguments."""
        try:
            value = json.loads(self.arguments or "{}", parse_constant=_refuse)
        except ValueError as error:
            raise BadArguments(f"arguments of {self.name}: not JSON: {error}") from error
        if not isinstance(value, dict):
            raise BadArguments(f"arguments of {self.name}: expected an object, found {self.arguments[:80]}")
        return value


class SystemMessage(Message):
    """How the model is to behave; kept when a conversation is truncated."""

    role: Literal["system"] = "system"
    text: str


class UserMessage(Message):
    """What was asked."""

    role: Literal["user"] = "user"
    text: str


class AssistantMessage(Message):
    """What the model answered earlier."""

    role: Literal["assistant"] = "assistant"
    text: str = ""
    calls: tuple[FunctionCall, ...] = ()


class ToolMessage(Message):
    """What a call came to."""

    role: Literal["tool"] = "tool"
    call_id: str
    name: str
    text: str


ConversationMessage = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class Usage(Message):
    """Tokens of one request."""

    prompt_tokens: int = Field(default=0, ge=0)
    """Everything that was read, `cached_tokens` included."""
    completion_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    """Prompt tokens that the server had read before."""
    estimated: bool = False
    """The backend did not count: these are one token for each three bytes."""


class TokenLogprob(Message):
    """One sampled token."""

    text: str
    """Bytes of half characters are written as `\\xf0`."""
    logprob: float
    token_id: int | None = None
    """Where the backend has token ids."""
    utf8: tuple[int, ...] | None = None
    """Its bytes, where the backend knows them: a character may take several tokens."""


class ChatReply(Message):
    """The model's answer."""

    text: str
    calls: tuple[FunctionCall, ...] = ()
    finish_reason: ChatFinish
    """`calls`: it waits for their results. `filtered`: the provider withheld (the rest of) the answer."""
    model: str
    """As the server names it."""
    usage: Usage = Usage()
    cost: float | None = None
    """In the currency of the prices that the settings give; None without prices."""
    tokens: tuple[TokenLogprob, ...] = ()
    """Where log-probabilities were asked for."""
    dropped_messages: int = Field(default=0, ge=0)
    """Oldest messages that were left out because the context is full."""
    attempts: int = Field(default=1, ge=1)
    duration_s: float = Field(default=0.0, ge=0.0)
    """From the call to the last piece, waits for rate limits and retries included."""

    @property
    def message(self) -> AssistantMessage:
        """The answer, to go on with the conversation."""
        return AssistantMessage(text=self.text, calls=self.calls)


class ChatRequest(Request[ChatReply]):
    """Continue a conversation."""

    messages: tuple[ConversationMessage, ...] = Field(min_length=1)
    sampling: SamplingSettings = SamplingSettings()
    tools: tuple[FunctionSpec, ...] = ()
    output_schema: JsonObject | None = None
    """The answer is JSON of this schema."""
    logprobs: bool = False
    adapter: str | None = None
    """Name of a loaded adapter; None asks for the base model."""


class ModelStatistics(Message):
    """What a chat model has done since it was opened."""

    requests: int = 0
    failures: int = 0
    retries: int = 0
    running: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None


class PullProgress(Message):
    """How far a model's download is."""

    status: str
    completed: int = 0
    """Bytes of the part that is under way."""
    total: int = 0
