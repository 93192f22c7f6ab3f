"""What an actor is: a plain class with one handler for each type of message."""

import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast, get_type_hints

from messages.base import Message, Request

Handler = Callable[[Any, Message], Awaitable[Message | None]]


class Actor:
    """Base of all actors.

    A handler is a public async method with one parameter that is annotated with a message class::

        class Verifier(Actor):
            async def judge(self, message: JudgeSolution) -> Verdict: ...

    Handlers are found and checked when the class is made: two for one message, or an answer that
    is not what the request names, raise TypeError there and then. The constructor takes settings
    and refs and does no work; `start` does the heavy part, `run` is what goes on in the background
    for as long as the actor lives, `aclose` finishes.

    A handler that raises an `AgentFactoryError` answers with it. Any other exception is a broken
    invariant: the asker gets `ActorDown` and the supervisor makes a new actor.
    """

    handlers: ClassVar[dict[type[Message], Handler]] = {}
    concurrency: int = 1
    """Messages handled at the same time. 1 keeps strict order."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.handlers = dict(cls.handlers)
        own: dict[type[Message], str] = {}
        for name, function in vars(cls).items():
            if name.startswith("_") or not inspect.iscoroutinefunction(function):
                continue
            message_type = _message_of(cls, function)
            if message_type is None:
                continue
            if message_type in own:
                raise TypeError(
                    f"{cls.__name__}: both {own[message_type]} and {name} handle {message_type.__name__}"
                )
            own[message_type] = name
            cls.handlers[message_type] = function

    async def start(self) -> None:
        """Do the heavy part of coming to life. Messages wait until it returns."""

    async def run(self) -> None:
        """Work in the background; it is cancelled when the actor stops. May return early."""

    async def aclose(self) -> None:
        """Let go of what `start` took."""


def _message_of(cls: type[Actor], function: Callable[..., Any]) -> type[Message] | None:
    """The message class that `function` handles, None if it is no handler; checks its answer."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if len(parameters) != 1:
        return None
    hints = get_type_hints(function)
    message_type = hints.get(parameters[0].name)
    if not (inspect.isclass(message_type) and issubclass(message_type, Message)):
        return None
    expected = _reply_of(message_type)
    answered = hints.get("return")
    if expected is not None and not (inspect.isclass(answered) and issubclass(answered, expected)):
        raise TypeError(
            f"{cls.__name__}.{function.__name__} must answer {message_type.__name__} with "
            f"{expected.__name__}, but is annotated with {answered}"
        )
    return message_type


def _reply_of(message_type: type[Message]) -> type[Message] | None:
    """What a request names as its answer; None for other messages."""
    for base in message_type.__mro__:
        meta = getattr(base, "__pydantic_generic_metadata__", {})
        if meta.get("origin") is Request:
            reply = meta["args"][0]
            if isinstance(reply, str):  # `Request["Verdict"]`, of a class further down
                reply = getattr(sys.modules[message_type.__module__], reply)
            return cast(type[Message], reply)
    return None
