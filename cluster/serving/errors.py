"""Errors as OpenAI's clients expect them: a status, and `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Sequence
from typing import Any

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
        """What the client reads."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def refused(message: str, param: str, code: str = "unsupported_parameter") -> ApiError:
    """What this server cannot do: said, never left out."""
    return ApiError(400, message, code=code, param=param)


def to_api_error(error: AgentFactoryError | BadArguments) -> ApiError:
    """What a failure of ours means to a client."""
    text = str(error)
    match error:
        case ApiError():
            return error
        case PromptTooLong() | TextTooLong():
            return ApiError(400, text, code="context_length_exceeded")
        case UnknownAdapter():
            return ApiError(404, text, code="model_not_found", param="model")
        case SchemaRefused():
            return refused(f"response_format: {text}", "response_format")
        case BadRequest() | ChatFormatError() | BadArguments():
            return ApiError(400, text)
        case AskTimeout():
            return ApiError(504, "the answer took too long", kind=SERVER, code="timeout")
    return ApiError(503, f"the engine cannot answer now: {text}", kind=SERVER, code="engine_unavailable")


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
