"""Schema of requests in OpenAI's form, and their meaning in ours.

A parameter that is not known is an error, and so is a wish that the engines cannot fulfil. Labels that
change nothing about the answer (`user`, `metadata` and the like) are taken and left alone.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ...messages.chat import FUNCTION_NAME, NO_PARAMETERS, ConversationMessage, FunctionSpec, JsonObject
from ...messages.generation import SamplingSettings
from .errors import refused
from .message_schema import BodyPart, Turn, conversation_of

NO_LIMIT = 1 << 20
"""Tokens: the engine's context ends a reply before."""
COMPLETION_TOKENS = 16
"""OpenAI's default where only a prompt is continued."""
NEUTRAL: dict[str, tuple[JsonValue, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "top_logprobs": (0,),
    "parallel_tool_calls": (True,),
    "store": (False,),
    "dimensions": (),
}
"""Wishes that only these values (and null) leave unsaid."""


class OfferedFunction(BodyPart):
    """A function that may be called."""

    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None
    """Taken and left alone: frameworks for agents always ask for it, and no engine here can do it."""


class OfferedTool(BodyPart):
    """Of the kinds of tools there is one."""

    type: Literal["function"]
    function: OfferedFunction

    @property
    def spec(self) -> FunctionSpec:
        """The function in our form."""
        asked = self.function
        parameters = NO_PARAMETERS if asked.parameters is None else asked.parameters
        return FunctionSpec(name=asked.name, description=asked.description or "", parameters=parameters)


class StreamOptions(BodyPart):
    """Of a stream."""

    include_usage: bool = False


class NamedSchema(BodyPart):
    """A JSON Schema."""

    name: str
    description: str | None = None
    schema_: JsonObject = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BodyPart):
    """Form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @property
    def output_schema(self) -> str | None:
        """The schema that the answer is held to, written out. Raises ApiError."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return '{"type": "object"}'
        if self.json_schema is None:
            raise refused("response_format: json_schema is missing", "response_format", "invalid_value")
        return json.dumps(self.json_schema.schema_)


class _Asked(BaseModel):
    """Base of all requests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    user: JsonValue = None

    def check(self) -> None:
        """Raises ApiError for a wish that cannot be fulfilled."""
        for name, value in self.model_dump(include=set(NEUTRAL)).items():
            if value is not None and value not in NEUTRAL[name]:
                raise refused(f"{name}: this server cannot do it; leave it out", name)


class _Generation(_Asked):
    """Base of both kinds of generation."""

    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=0)
    """Not OpenAI's; 0 keeps all tokens."""
    stop: str | tuple[str, ...] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1)
    frequency_penalty: JsonValue = None
    presence_penalty: JsonValue = None
    logit_bias: JsonValue = None

    @property
    def choices(self) -> int:
        """Replies to each prompt."""
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings. Raises ApiError."""
        stops = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        if len(stops) > 4 or not all(stops):
            raise refused("stop: expected up to four strings, none of them empty", "stop", "invalid_value")
        return stops

    @property
    def wants_usage(self) -> bool:
        """True if a stream ends with the count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling_of(self, max_tokens: int) -> SamplingSettings:
        """Sampling settings."""
        return SamplingSettings(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=min(self.top_k or 0, NO_LIMIT),
            max_tokens=min(max_tokens, NO_LIMIT),
            stop=self.stops,
            seed=self.seed,
        )


class ChatBody(_Generation):
    """`POST /v1/chat/completions`."""

    messages: tuple[Turn, ...] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    tools: tuple[OfferedTool, ...] | None = None
    tool_choice: JsonValue = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: JsonValue = None
    parallel_tool_calls: JsonValue = None
    store: JsonValue = None
    metadata: JsonValue = None
    service_tier: JsonValue = None
    safety_identifier: JsonValue = None
    prompt_cache_key: JsonValue = None

    def check(self) -> None:
        """Raises ApiError for a wish that cannot be fulfilled."""
        super().check()
        if self.tool_choice not in (None, "auto", "none"):
            raise refused("tool_choice: a call cannot be forced here; use 'auto' or 'none'", "tool_choice")

    @property
    def functions(self) -> tuple[FunctionSpec, ...]:
        """The functions that may be called."""
        offered = () if self.tool_choice == "none" else self.tools or ()
        return tuple(tool.spec for tool in offered)

    @property
    def sampling(self) -> SamplingSettings:
        """Sampling settings."""
        sampling = self.sampling_of(self.max_completion_tokens or self.max_tokens or NO_LIMIT)
        form = self.response_format
        return sampling.model_copy(update={"output_schema": form.output_schema if form else None})

    @property
    def conversation(self) -> tuple[ConversationMessage, ...]:
        """The messages in our form. Raises ApiError for the result of a call that nobody made."""
        return conversation_of(self.messages)


class CompletionBody(_Generation):
    """`POST /v1/completions`."""

    prompt: str | tuple[int, ...] | tuple[str, ...] | tuple[tuple[int, ...], ...]
    logprobs: int | None = Field(default=None, ge=0)
    best_of: JsonValue = None
    echo: JsonValue = None
    suffix: JsonValue = None

    def check(self) -> None:
        """Raises ApiError for a wish that cannot be fulfilled."""
        super().check()
        if self.logprobs:
            raise refused("logprobs: only 0 is served: the sampled token's own, no others", "logprobs")

    @property
    def prompts(self) -> tuple[str | tuple[int, ...], ...]:
        """One or more prompts, each a text or its tokens."""
        if isinstance(self.prompt, str):
            return (self.prompt,)
        if all(isinstance(part, int) for part in self.prompt):
            return (tuple(part for part in self.prompt if isinstance(part, int)),)
        return tuple(part for part in self.prompt if not isinstance(part, int))

    @property
    def sampling(self) -> SamplingSettings:
        """Sampling settings."""
        return self.sampling_of(self.max_tokens or COMPLETION_TOKENS)


class EmbeddingBody(_Asked):
    """`POST /v1/embeddings`."""

    input: str | tuple[str, ...]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: JsonValue = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Texts to embed."""
        return (self.input,) if isinstance(self.input, str) else self.input
