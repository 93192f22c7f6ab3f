"""Errors as OpenAI's clients expect them: a status, and `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ...bridge.search.embedding import TextTooLong
from ...configs.errors import AgentFactoryError
from ...messages.chat import BadArguments, JsonObject
from ...runtime.engines.base import BadRequest, PromptTooLong, SchemaRefused, UnknownAdapter
from ...runtime.engines.chat.format import ChatFormatError
from ...runtime.errors import AskTimeout

INVALID = "invalid_request_error"
SERVER = "server_error"


class ApiError(AgentFactoryError):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param

    @property
    def body(self) -> JsonObject:
        """The body that the client reads."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def refused(message: str, param: str, code: str = "unsupported_parameter") -> ApiError:
    """Error for a parameter that this server cannot fulfil; none is ignored."""
    return ApiError(400, message, code=code, param=param)


class ErrorForm(NamedTuple):
    """Status, code and message of one kind of errors."""

    status: int
    code: str | None = None
    param: str | None = None
    message: str = "{}"
    """What is said; `{}` stands for the error's own sentence."""


ErrorForms = Mapping[type[Exception], ErrorForm]
"""A server's kinds of errors. The first that fits counts, so a kind stands before the one it is a kind of."""
MODEL_ERRORS: Final[ErrorForms] = {
    PromptTooLong: ErrorForm(400, "context_length_exceeded"),
    TextTooLong: ErrorForm(400, "context_length_exceeded"),
    UnknownAdapter: ErrorForm(404, "model_not_found", "model"),
    SchemaRefused: ErrorForm(400, "unsupported_parameter", "response_format", "response_format: {}"),
    BadRequest: ErrorForm(400),
    ChatFormatError: ErrorForm(400),
    BadArguments: ErrorForm(400),
    AskTimeout: ErrorForm(504, "timeout", message="the answer took too long"),
    AgentFactoryError: ErrorForm(503, "engine_unavailable", message="the engine cannot answer now: {}"),
}


def to_api_error(error: Exception, forms: ErrorForms) -> ApiError:
    """The boundary of an HTTP server: what an error means to a client. Raises again what is none of ours."""
    if isinstance(error, ApiError):
        return error
    for kind, form in forms.items():
        if isinstance(error, kind):
            who = SERVER if form.status >= 500 else INVALID
            text = form.message.format(error)
            return ApiError(form.status, text, kind=who, code=form.code, param=form.param)
    raise error


def invalid(problems: Sequence[Any]) -> ApiError:
    """The first of a validation's complaints."""
    first = problems[0]
    param = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"unknown parameter: {param!r}", code="unknown_parameter", param=param)
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}", code="invalid_json")
    message = str(first["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{param}: {message}" if param else message, param=param or None)
