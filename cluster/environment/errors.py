"""Errors of environments and their sessions, and their form over HTTP."""

from typing import Final

from ...actors.environment import EnvironmentOver
from ...configs.errors import AgentFactoryError, BadInput
from ...messages.chat import BadArguments
from ...runtime.errors import AskTimeout
from ..serving.errors import ErrorForm, ErrorForms


class NoSuchSession(BadInput):
    """There is no such session: it was closed, or nobody used it for too long."""


class SessionBusy(AgentFactoryError):
    """The session is still working on its client's last request."""


class TooManySessions(AgentFactoryError):
    """The server has as many sessions open as it may."""


class ServerUnreachable(AgentFactoryError):
    """The environment server does not answer, or answers something else."""


class ServerFailed(AgentFactoryError):
    """The environment failed, not the action: the step was not taken."""


_SESSION_ERRORS: Final = (
    (NoSuchSession, 404, "no_such_session"),
    (EnvironmentOver, 409, "environment_over"),
    (SessionBusy, 409, "session_busy"),
    (TooManySessions, 429, "too_many_sessions"),
)
ENVIRONMENT_ERRORS: Final[ErrorForms] = {
    **{kind: ErrorForm(status, code) for kind, status, code in _SESSION_ERRORS},
    BadInput: ErrorForm(400),
    BadArguments: ErrorForm(400),
    AskTimeout: ErrorForm(504, "timeout", message="the data plane took too long"),
    AgentFactoryError: ErrorForm(503, "unavailable", message="the data plane cannot do it now: {}"),
}
_BY_CODE: Final = {code: kind for kind, _, code in _SESSION_ERRORS}


def parse_error(status: int, code: str | None, message: str) -> AgentFactoryError:
    """The error that a server's answer stands for."""
    if code in _BY_CODE:
        return _BY_CODE[code](message)
    return BadInput(message) if status < 500 else ServerFailed(message)
