"""What an exchange carries.

A batch is one pickle, so classes and repeated values are written once. Classes that live in a
user's script (`__main__`) travel by value, since the other process cannot import them.
"""

import copyreg
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ray import cloudpickle  # the one that Ray has made this process's classes with

from ...messages.base import Message
from .failure import Failure


class Outgoing(NamedTuple):
    """One message from a client. `timeout_s` is None for a `tell`."""

    number: int
    timeout_s: float | None
    message: Message


class Incoming(NamedTuple):
    """One answer to the client's message `number`."""

    number: int
    answer: Message | Failure


class Batch(NamedTuple):
    """What a client sends with one exchange."""

    number: int
    """Counts the client's exchanges."""
    after: int
    """The exchange before this one, if it was still under way: it is to be delivered first. Else -1."""
    messages: bytes
    given_up: tuple[int, ...]
    """Messages for whose answer nobody waits any more."""


class Exchanged(NamedTuple):
    """What an exchange returns."""

    answers: bytes
    held: bool
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


def pack(items: Sequence[Outgoing] | Sequence[Incoming]) -> bytes:
    """One pickle for the whole batch. Raises what a value that cannot be pickled raises."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=5)
    pickler.dispatch_table = _TABLE
    pickler.dump([tuple(item) for item in items])
    return buffer.getvalue()


def unpack_outgoing(data: bytes) -> list[Outgoing]:
    """The inverse of `pack` for messages."""
    return [Outgoing(*item) for item in pickle.loads(data)]


def unpack_incoming(data: bytes) -> list[Incoming]:
    """The inverse of `pack` for answers."""
    return [Incoming(*item) for item in pickle.loads(data)]
