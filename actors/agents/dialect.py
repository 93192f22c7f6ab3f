"""What a model and its agent have agreed on: how actions are told of, and how they are written."""

from typing import Protocol

from pydantic import ValidationError

from ...messages.chat import ConversationMessage, JsonObject
from ...messages.data import Action
from ..environment import ACTIONS, in_words
from .base import ANSWER, Decision


class Unreadable(ValueError):
    """The reply is no action; the message says why."""


class Dialect(Protocol):
    """One way of talking about actions."""

    system: str
    """The prompt before everything else."""
    examples: tuple[ConversationMessage, ...]
    """Shown after it."""
    schema: JsonObject | None
    """What the model is held to where it can be; None where there is no JSON."""
    stop: tuple[str, ...]
    """Where a reply ends at the latest."""

    def question(self, text: str, *, first: bool) -> str:
        """An observation as the model reads it; `first`: it is the command."""

    def read(self, text: str) -> Decision:
        """A reply. Raises Unreadable."""


def checked(action: Action) -> Action:
    """The action, whose parameters fit. Raises Unreadable."""
    if action.name == ANSWER:
        return action
    try:
        ACTIONS[action.name].model_validate(dict(action.params))
    except KeyError as error:
        raise Unreadable(f"{action.name!r} is no action") from error
    except ValidationError as error:
        raise Unreadable(f"{action.name}: {in_words(error)}") from error
    return action
