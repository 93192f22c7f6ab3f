"""What can be wrong with a session, and how it is said over HTTP."""

from collections.abc import Mapping
from typing import Final

from ...actors.environment import EnvironmentOver
from ...configs.errors import AgentFactoryError, BadInput
from ...messages.chat import BadArguments
from ...runtime.errors import AskTimeout
from ..serving.errors import SERVER, ApiError


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


_STATUS: Final[Mapping[type[AgentFactoryError], tuple[int, str]]] = {
    NoSuchSession: (404, "no_such_session"),
    EnvironmentOver: (409, "environment_over"),
    SessionBusy: (409, "session_busy"),
    TooManySessions: (429, "too_many_sessions"),
}
_BY_CODE: Final = {code: kind for kind, (_, code) in _STATUS.items()}


def to_api_error(error: AgentFactoryError | BadArguments) -> ApiError:
    """What an error means to a client."""
    text = str(error)
    if isinstance(error, ApiError):
        return error
    for kind, (status, code) in _STATUS.items():
        if isinstance(error, kind):
            return ApiError(status, text, code=code)
    if isinstance(error, BadInput | BadArguments):
        return ApiError(400, text)
    if isinstance(error, AskTimeout):
        return ApiError(504, "the data plane took too long", kind=SERVER, code="timeout")
    return ApiError(503, f"the data plane cannot do it now: {text}", kind=SERVER, code="unavailable")


def parse_error(status: int, code: str | None, message: str) -> AgentFactoryError:
    """The error that a server's answer stands for."""
    if code in _BY_CODE:
        return _BY_CODE[code](message)
    return BadInput(message) if status < 500 else ServerFailed(message)
