"""Errors of the runtime: flat, named by the boundary that was crossed, and picklable.

`pickle` drops an exception's `__cause__`; the transports carry it beside the error
(`on_ray.codec.RemoteError`), so that whoever asked sees the original cause.
"""

from typing import TypeVar

from ..configs.errors import AgentFactoryError

ErrorT = TypeVar("ErrorT", bound=AgentFactoryError)


class ActorError(AgentFactoryError):
    """Base of what can go wrong between actors."""


class AskTimeout(ActorError):
    """No answer came within the deadline. The handling was cancelled."""


class MailboxFull(ActorError):
    """The mailbox has no room, and the caller did not want to wait."""


class ActorStopped(ActorError):
    """The actor has been stopped on purpose; the message was not handled.

    Attributes:
        actor: its name.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(actor)
        self.actor = actor

    def __str__(self) -> str:
        return f"actor {self.actor!r} has been stopped"


class Killed(ActorError):
    """An actor's life was ended from outside, as the end of a process would; the cause of an ActorDown."""


class NoSuchActor(ActorError):
    """The system has no actor of this name."""


class UnhandledMessage(ActorError):
    """The actor has no handler for this type of message."""


class ActorDown(ActorError):
    """An actor died. `__cause__` is why, where it is known.

    Attributes:
        actor: its name.
        last_message: type of the message that it was handling, as far as the asker knows.
        memory_mb: resident memory of its process when it was last seen, 0 if never.
        permanent: True when the supervisor has given up on it.
    """

    def __init__(
        self, actor: str, reason: str, last_message: str = "", memory_mb: int = 0, permanent: bool = False
    ) -> None:
        super().__init__(actor, reason, last_message, memory_mb, permanent)
        self.actor = actor
        self.reason = reason
        self.last_message = last_message
        self.memory_mb = memory_mb
        self.permanent = permanent

    def __str__(self) -> str:
        handling = f" while handling {self.last_message}" if self.last_message else ""
        memory = f", {self.memory_mb} MB resident" if self.memory_mb else ""
        fate = "; it will not be restarted" if self.permanent else ""
        return f"actor {self.actor!r} died{handling}{memory}: {self.reason}{fate}"

    def over(self, message: str) -> "ActorDown":
        """The same death, for the asker of one more message."""
        copy = ActorDown(self.actor, self.reason, message, self.memory_mb, self.permanent)
        copy.__cause__ = self.__cause__
        return copy


class RemoteFailure(ActorError):
    """Stands in for an error of another process that cannot be pickled; its text has the traceback."""


class TransportError(ActorError):
    """The machinery between processes (Ray) could not do its part."""


class ClusterUnreachable(TransportError):
    """There is no Ray cluster where somebody said that there is one."""

    exit_code = 2


def copy_error(error: ErrorT) -> ErrorT:
    """An instance of its own for each waiter, since raising writes into the instance."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
