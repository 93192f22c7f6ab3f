"""What an actor is: a plain class with one handler for each type of message."""

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast, get_args, get_origin, get_type_hints

from ..configs.errors import AgentFactoryError, BadInput
from ..messages.base import Message, Request

Handler = Callable[[Any, Message], Awaitable[Message | None]]
BatchHandler = Callable[[Any, Sequence[Message]], Awaitable[Sequence[Message | None]]]


@dataclass(frozen=True, slots=True)
class Supervision:
    """The consequence of an error, by its type: answered, fatal, or else (any other) a restart."""

    answered: tuple[type[Exception], ...] = (AgentFactoryError,)
    """A handler's error that is its answer; the actor lives on."""
    fatal: tuple[type[BaseException], ...] = (BadInput,)
    """An actor that died of one of these is not restarted: it would die of it again."""


class Actor:
    """Base of all actors.

    A handler is a public async method with one parameter that is annotated with a message class::

        class Verifier(Actor):
            async def judge(self, message: JudgeSolution) -> Verdict: ...

    One that is annotated with a sequence of them gets all of that type that wait one after the other,
    up to `max_batch`, and returns an answer for each. It is for work that costs the same for many, such
    as forcing bytes to a disk: what arrives meanwhile is the next batch. Who asked is answered when the
    batch is done, and giving up cancels nothing::

        class Sink(Actor):
            async def store(self, messages: Sequence[Store]) -> Sequence[Stored]: ...

    Handlers are found and checked when the class is made: two for one message, or an answer that
    is not what the request names, raise TypeError there and then. The constructor takes settings
    and refs and does no work; `start` does the heavy part, `run` is what goes on in the background
    for as long as the actor lives, `aclose` finishes.

    `supervision` says what an error leads to. By default a handler that raises an `AgentFactoryError`
    answers with it. Any other exception is a broken invariant: the asker gets `ActorDown` and the
    supervisor makes a new actor, except after bad input, which stays bad.
    """

    handlers: ClassVar[dict[type[Message], Handler]] = {}
    batch_handlers: ClassVar[dict[type[Message], BatchHandler]] = {}
    concurrency: int = 1
    """Messages handled at the same time. 1 keeps strict order, which an actor with batches needs."""
    max_batch: int = 64
    """Messages that a batch handler gets at once."""
    supervision: ClassVar[Supervision] = Supervision()
    """Which errors are answers, which are fatal; all others restart the actor."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.handlers = dict(cls.handlers)
        cls.batch_handlers = dict(cls.batch_handlers)
        own: dict[type[Message], str] = {}
        for name, function in vars(cls).items():
            if name.startswith("_") or not inspect.iscoroutinefunction(function):
                continue
            found = _message_of(cls, function)
            if found is None:
                continue
            message_type, in_batches = found
            if message_type in own:
                raise TypeError(
                    f"{cls.__name__}: both {own[message_type]} and {name} handle {message_type.__name__}"
                )
            own[message_type] = name
            cls.handlers.pop(message_type, None)
            cls.batch_handlers.pop(message_type, None)
            if in_batches:
                cls.batch_handlers[message_type] = function
            else:
                cls.handlers[message_type] = function
        if cls.batch_handlers and cls.concurrency != 1:
            raise TypeError(f"{cls.__name__}: an actor that handles batches needs concurrency 1")

    async def start(self) -> None:
        """Do the heavy part of coming to life. Messages wait until it returns."""

    async def run(self) -> None:
        """Work in the background; it is cancelled when the actor stops. May return early."""

    async def aclose(self) -> None:
        """Let go of what `start` took."""

    def measures(self) -> Mapping[str, float]:
        """Numbers for the dashboard, by name; those called `…_total` only grow. Asked about once a second."""
        return {}


def _message_of(cls: type[Actor], function: Callable[..., Any]) -> tuple[type[Message], bool] | None:
    """The message class that `function` handles, and whether in batches; checks its answer.

    None if it is no handler.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if len(parameters) != 1:
        return None
    hints = get_type_hints(function)
    message_type, in_batches = _element_of(hints.get(parameters[0].name))
    if not (inspect.isclass(message_type) and issubclass(message_type, Message)):
        return None
    expected = _reply_of(message_type)
    answered, answers_many = _element_of(hints.get("return"))
    fits = inspect.isclass(answered) and expected is not None and issubclass(answered, expected)
    if expected is not None and not (fits and answers_many == in_batches):
        raise TypeError(
            f"{cls.__name__}.{function.__name__} must answer {message_type.__name__} with "
            f"{'a sequence of ' if in_batches else ''}{expected.__name__}, "
            f"but is annotated with {hints.get('return')}"
        )
    return message_type, in_batches


def _element_of(hint: Any) -> tuple[Any, bool]:
    """`M` of `Sequence[M]`, and True; any other annotation as it is, and False."""
    if get_origin(hint) is Sequence:
        return get_args(hint)[0], True
    return hint, False


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
