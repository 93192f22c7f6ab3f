"""What every message is: frozen, closed to unknown fields, and carrying no metadata.

Sender, correlation id and deadline live in the envelope that the runtime puts around a message,
never in the message itself.
"""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 4
"""Raised whenever a stored message changes in a way that an older reader cannot follow.

Readers refuse fields that they do not know, so a new field is such a change; what an older writer left
out has a default. 2: `Task.source`, `AdapterRef.tag` and `config_sha256`. 3: several calls
in one turn, a trajectory's confidence, a reward's terms, more kinds of `Task.goal`. 4: `TasksRewarded` in
the journal, asked and proposed difficulty apart, no divergence where none was measured.
"""


class Message(BaseModel):
    """A value that actors pass: immutable, hashable by content, with every field declared."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        ser_json_inf_nan="strings",
        allow_inf_nan=False,
    )

    def __reduce__(self) -> tuple[object, ...]:
        # A third of the time and size of pydantic's own state. Values were checked when they were made.
        return _restore, (type(self), self.__dict__)


def _restore(cls: type[Message], values: dict[str, object]) -> Message:
    """A message from another process, without checking it again."""
    message = cls.__new__(cls)
    set_slot = object.__setattr__  # the class is frozen
    set_slot(message, "__dict__", values)
    set_slot(message, "__pydantic_fields_set__", set(values))
    set_slot(message, "__pydantic_extra__", None)
    set_slot(message, "__pydantic_private__", None)
    return message


ReplyT_co = TypeVar("ReplyT_co", covariant=True)


class Request(Message, Generic[ReplyT_co]):
    """A message that is owed an answer; it names the answer's type, so that `ask` is typed by it."""


class Event(Message):
    """A fact, for a topic: whoever subscribed hears of it, and nobody owes an answer."""


class Done(Message):
    """The answer to a request whose completion is all there is to say."""
