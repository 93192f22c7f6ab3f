"""The interface of a chat backend, its registration, and what backends share.

A backend is one way to a model. All policy (rate limits, retries, deadlines) is its caller's: `call_policy`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ....configs.chat_models import BaseChatModelSettings
from ....configs.errors import SettingsError
from ....messages.chat import (
    BadArguments,
    Capabilities,
    ChatFinish,
    ChatRequest,
    ConversationMessage,
    FunctionCall,
    JsonObject,
    PullProgress,
    SystemMessage,
    TokenLogprob,
    Usage,
)
from ..context_window import estimate_prompt
from ..errors import BrokenReply, ModelError, Unsupported
from .boundary import HttpErrors


class BackendReply(NamedTuple):
    """The end of an answer: all of it at once."""

    text: str
    finish_reason: ChatFinish
    calls: tuple[FunctionCall, ...] = ()
    model: str = ""
    usage: Usage | None = None
    tokens: tuple[TokenLogprob, ...] = ()


class BackendVectors(NamedTuple):
    """Vectors as the server gives them."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int | None


BackendStream = AsyncGenerator[str | BackendReply, None]


class Backend(ABC):
    """One way to a model: without retries, without deadlines. Its errors are translated by `boundary`."""

    name: str
    """For errors: which model, where."""
    capabilities: Capabilities
    secrets: tuple[str, ...] = ()
    context_tokens: int | None = None
    """What the model holds, where that is known; the settings may say less."""

    async def start(self) -> None:
        """Load what must be there. Raises SettingsError."""
        return

    @abstractmethod
    def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """Pieces of text while they come, then exactly one BackendReply, if all of it came.

        `live` is False when nobody looks at the pieces: the reply may be fetched whole. Closing
        the generator ends the request.
        """

    @abstractmethod
    def translate(self, error: Exception) -> ModelError | None:
        """The meaning of an error of the client library; None for one that is not the library's."""

    def is_unary(self, *, live: bool) -> bool:
        """True where a reply comes in one piece, so that silence before it says nothing."""
        return not self.capabilities.streaming

    def count(self, messages: Sequence[ConversationMessage]) -> int:
        """Tokens of a prompt; an estimate on the safe side where there is no tokenizer."""
        return estimate_prompt(messages)

    async def embed(self, texts: tuple[str, ...]) -> BackendVectors:
        """A vector for each text, at most 96 of them."""
        raise Unsupported(f"{self.name} makes no embeddings")

    async def models(self) -> tuple[str, ...]:
        """Names of the models that are there."""
        raise Unsupported(f"{self.name} lists no models")

    def pull(self) -> AsyncGenerator[PullProgress, None]:
        """Download the model."""
        raise Unsupported(f"{self.name} pulls no models")

    async def aclose(self) -> None:
        """Close connections."""
        return


class StreamAccumulator:
    """A reply that arrives in pieces."""

    def __init__(self) -> None:
        self.finish: ChatFinish | None = None
        self.usage: Usage | None = None
        self.model = ""
        self.tokens: list[TokenLogprob] = []
        self._text: list[str] = []
        self._calls: dict[int, FunctionCall] = {}

    def text(self, piece: str) -> str:
        """Add text; hands it back."""
        self._text.append(piece)
        return piece

    def call(
        self, index: int, *, id: str = "", name: str = "", arguments: str = "", signature: str = ""
    ) -> None:
        """Add to a call: its id and name come once, its arguments piece by piece."""
        old = self._calls.get(index) or FunctionCall(id="", name="", arguments="")
        self._calls[index] = FunctionCall(
            id=old.id or id,
            name=old.name or name,
            arguments=old.arguments + arguments,
            signature=old.signature or signature,
        )

    def whole_call(self, call: FunctionCall) -> None:
        """Add a call that came at once; one without an id is given one."""
        self._calls[len(self._calls)] = call

    def reply(self) -> BackendReply:
        """The whole reply. Raises BrokenReply when the end never came."""
        if self.finish is None:
            raise BrokenReply("the reply was cut off: it ended without saying why")
        calls = tuple(
            call.model_copy(update={"id": call.id or f"call_{i}", "arguments": call.arguments or "{}"})
            for i, call in sorted(self._calls.items())
        )
        finish: ChatFinish = "calls" if calls and self.finish == "stop" else self.finish
        return BackendReply("".join(self._text), finish, calls, self.model, self.usage, tuple(self.tokens))


SettingsT = TypeVar("SettingsT", bound=BaseChatModelSettings)


@dataclass(frozen=True)
class ChatBackend(Generic[SettingsT]):
    """The registration of a backend: the settings of its kind, and what is made from them.

    BACKEND = ChatBackend(OllamaModelSettings, OllamaBackend, lambda settings: CAPABILITIES)
    """

    settings: type[SettingsT]
    """The class whose `kind` names the backend."""
    open: Callable[[SettingsT], Backend]
    """The backend, not yet started. Raises SettingsError."""
    capabilities: Callable[[SettingsT], Capabilities]
    """Its capabilities; no model is loaded for it."""


class ClientBackend(Backend):
    """A backend that speaks through a client package: a quick look for it, then a slow import in a thread."""

    package: str
    extra: str
    errors: HttpErrors
    """Of the client library; set by `_connect`."""

    def __init__(self) -> None:
        if not _installed(self.package):
            raise SettingsError(
                f"the package {self.package!r} is missing; install it with "
                f"`pip install 'agentfactory[{self.extra}]'`"
            )

    async def start(self) -> None:
        """Import the package and make the client, which takes seconds the first time."""
        await asyncio.to_thread(self._connect)

    def translate(self, error: Exception) -> ModelError | None:
        """See `Backend.translate`."""
        return self.errors.translate(error)

    @abstractmethod
    def _connect(self) -> None:
        """Make the client, and say what its errors mean."""


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the part before the dot
        return False


def read_key(variable: str, base_url: str) -> str:
    """The key that an environment variable holds. Raises SettingsError where it is not set."""
    key = os.environ.get(variable, "")
    if not key:
        raise SettingsError(
            f"the environment variable {variable or '(api_key_env is empty)'} is not set; "
            f"it should hold the key for {base_url}"
        )
    return key


def arguments_of(call: FunctionCall) -> JsonObject:
    """For APIs that take arguments as an object; what the model wrote in another form goes under one key."""
    try:
        return call.parsed()
    except BadArguments:
        return {"arguments": call.arguments}


def split_system(messages: Sequence[ConversationMessage]) -> tuple[str, list[ConversationMessage]]:
    """The system messages' text, and the rest: for APIs that take the two apart."""
    system = "\n\n".join(message.text for message in messages if isinstance(message, SystemMessage))
    return system, [message for message in messages if not isinstance(message, SystemMessage)]
