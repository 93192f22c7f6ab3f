"""The codec of exchanges: messages, answers and errors between two processes of one version.

A batch is one pickle, so classes and repeated values are written once. Classes that live in a user's
script (`__main__`) travel by value, since the other process cannot import them. An error travels with
its cause, which `pickle` would drop.
"""

import copyreg
import io
import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

from ray import cloudpickle  # not the package of that name: classes must be the ones that Ray has made here

from ...messages.base import Message
from ..errors import RemoteFailure

POLL_S = 10.0
"""An exchange with nothing to bring comes back after this long."""
ORDER_S = 2.0
"""How long a batch waits for the one before it; that one is lost if it takes longer."""


@dataclass(slots=True, frozen=True)
class RemoteError:
    """An error and its cause, in a form that survives a process boundary."""

    error: BaseException
    cause: BaseException | None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Wrap `error`; what cannot be pickled is replaced by its text."""
        return cls(_picklable(error), _picklable(error.__cause__) if error.__cause__ else None)

    def unwrap(self) -> BaseException:
        """The error, with its cause in place."""
        self.error.__cause__ = self.cause
        return self.error

    def __reduce__(self) -> tuple[object, ...]:
        # cloudpickle, since an error's class may live in a user's script
        return _load_remote_error, (cloudpickle.dumps((self.error, self.cause)),)


def _load_remote_error(data: bytes) -> RemoteError:
    """The inverse of `RemoteError.__reduce__`; never fails, for it must not take a batch with it."""
    try:
        error, cause = pickle.loads(data)
    except Exception as unreadable:  # its class is not importable here, for instance
        return RemoteError(
            RemoteFailure(f"an error that cannot be read in this process: {unreadable!r}"), None
        )
    return RemoteError(error, cause)


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:  # whatever a foreign exception's __reduce__ raises: keep its text instead
        return RemoteFailure("".join(traceback.format_exception(error)).rstrip())
    return error


class OutboundMessage(NamedTuple):
    """One message from a client. `timeout_s` is None for a `tell`."""

    number: int
    timeout_s: float | None
    message: Message


class InboundReply(NamedTuple):
    """One answer to the client's message `number`."""

    number: int
    answer: Message | RemoteError


class Batch(NamedTuple):
    """What a client sends with one exchange."""

    number: int
    """Counts the client's exchanges."""
    after: int
    """The exchange before this one, if it was still under way: it is to be delivered first. Else -1."""
    messages: bytes
    cancelled: tuple[int, ...]
    """Messages for whose answer nobody waits any more."""


class ExchangeReply(NamedTuple):
    """What an exchange returns."""

    answers: bytes
    backpressured: bool
    """Some of the client's messages stand in line for the mailbox: send no more for now."""
    process: str
    """Names the process, so that a client sees when it is another one."""
    memory_mb: int
    """Resident memory of the actor's process: what ActorDown reports if it dies."""


class _Pickler(pickle.Pickler):
    """The C pickler, which asks us only about classes made by pydantic."""


def _class_reference(cls: type[object]) -> str | tuple[object, ...]:
    if cls.__module__ == "__main__":
        return pickle.loads, (cloudpickle.dumps(cls),)
    return cls.__qualname__


_TABLE: dict[type, Callable[[Any], Any]] = {**copyreg.dispatch_table, type(Message): _class_reference}


def pack(items: Sequence[OutboundMessage] | Sequence[InboundReply]) -> bytes:
    """One pickle for the whole batch. Raises what a value that cannot be pickled raises."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=5)
    pickler.dispatch_table = _TABLE
    pickler.dump([tuple(item) for item in items])
    return buffer.getvalue()


ItemT = TypeVar("ItemT", OutboundMessage, InboundReply)


def pack_each(items: list[ItemT], instead: Callable[[ItemT, Exception], ItemT | None]) -> bytes:
    """Pack all. An item that cannot be pickled becomes what `instead` makes of it; None leaves it out."""
    try:
        return pack(items)
    except Exception:  # any __reduce__ may raise anything; found below, one by one
        items[:] = [good for item in items if (good := _packable(item, instead)) is not None]
        return pack(items)


def _packable(item: ItemT, instead: Callable[[ItemT, Exception], ItemT | None]) -> ItemT | None:
    try:
        pack([item])
    except Exception as error:
        return instead(item, error)
    return item


def unpack_outgoing(data: bytes) -> list[OutboundMessage]:
    """The inverse of `pack` for messages."""
    return [OutboundMessage(*item) for item in pickle.loads(data)]


def unpack_incoming(data: bytes) -> list[InboundReply]:
    """The inverse of `pack` for answers."""
    return [InboundReply(*item) for item in pickle.loads(data)]
