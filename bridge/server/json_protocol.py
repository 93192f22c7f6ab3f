"""The JSON dialect, for clients in any language: `{method, params, id}` -> `{result, id}` or `{error, id}`.

A plain REQ socket is enough. `id` comes back only where it was given. What cannot be decoded is a
BadRequest (`MalformedRequest` here), which is answered like any other error. Both ways it is JSON as RFC
8259 has it: no `NaN` and no `Infinity`, neither read nor written; an `id` that could not be written again
(`1e400`) is a BadRequest and comes back as null.

    ping                                                     -> "pong"
    context_bundle    {src: text or list, dst, format}       -> {status, tag, stored}
    context_query     {tag_pattern, blob_pattern}, "*" each  -> {matches: [{tag, blob_name, size}]}
    context_retrieve  {tag, blob_name}                       -> {data, encoding: "base64"}
    context_destroy   {tags: text or list}                   -> {status, destroyed: [tag], blobs}
"""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from ...messages.data import BlobInfo
from ..errors import BridgeError


class MalformedRequest(BridgeError):
    """Bytes that are not a request of this dialect."""


_ERROR_NAMES = {"MalformedRequest": "BadRequest", "ConnectionLost": "LinkLost"}
"""By class: names that clients of this dialect know errors by, where they are not the class's."""


class _Params(BaseModel):
    """Parameters are read as widely as clients write them: what we do not know is let be.

    Null stands for what is not said.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, params: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return {name: value for name, value in params.items() if value is not None}


class PingParams(_Params):
    """Parameters of `ping`: none."""


class BundleParams(_Params):
    """Parameters of `context_bundle`."""

    src: str | tuple[str, ...]
    dst: str
    format: str = "arrow"

    @property
    def sources(self) -> tuple[str, ...]:
        """One or many, as many."""
        return (self.src,) if isinstance(self.src, str) else self.src


class QueryParams(_Params):
    """Parameters of `context_query`."""

    tag_pattern: str = "*"
    blob_pattern: str = "*"


class RetrieveParams(_Params):
    """Parameters of `context_retrieve`."""

    tag: str
    blob_name: str


class DestroyParams(_Params):
    """Parameters of `context_destroy`."""

    tags: str | tuple[str, ...]

    @property
    def all_tags(self) -> tuple[str, ...]:
        """One or many, as many."""
        return (self.tags,) if isinstance(self.tags, str) else self.tags


Params = PingParams | BundleParams | QueryParams | RetrieveParams | DestroyParams

_METHODS: dict[
    str,
    type[PingParams] | type[BundleParams] | type[QueryParams] | type[RetrieveParams] | type[DestroyParams],
] = {
    "ping": PingParams,
    "context_bundle": BundleParams,
    "context_query": QueryParams,
    "context_retrieve": RetrieveParams,
    "context_destroy": DestroyParams,
}


class RequestId(NamedTuple):
    """A request's `id`, and whether it had one."""

    given: bool = False
    value: JsonValue = None


_SPARE_DEPTH = 100
"""An `id` must be writable this much deeper, since the reply is written from another depth of the stack."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")

    method: str
    params: dict[str, JsonValue] | None = None


def parse(data: bytes | memoryview) -> tuple[RequestId, Params | MalformedRequest]:
    """Decode a request. Never raises: whoever asked is owed an answer with its `id`, if that can be read."""
    request_id = RequestId()
    try:
        value = _strict_json(bytes(data))
        request_id = RequestId(True, value["id"]) if isinstance(value, dict) and "id" in value else request_id
        if not _is_writable(request_id.value):
            request_id = RequestId(True, None)
            raise MalformedRequest("request: id: expected numbers that are finite, and less depth")
        request = _Request.model_validate(value)
    except MalformedRequest as error:
        return request_id, error
    except ValidationError as error:
        return request_id, MalformedRequest(_sentence("request", error))
    model = _METHODS.get(request.method)
    if model is None:
        known = ", ".join(_METHODS)
        return request_id, MalformedRequest(
            f"unknown method {request.method[:100]!r}; this bridge knows {known}"
        )
    try:
        return request_id, model.model_validate(request.params or {})
    except ValidationError as error:
        return request_id, MalformedRequest(_sentence(request.method, error))


def result(request_id: RequestId, value: JsonValue) -> bytes:
    """A reply."""
    return _with_id({"result": value}, request_id)


def failure(request_id: RequestId, error: Exception) -> bytes:
    """A reply that says what went wrong."""
    name = type(error).__name__
    return _with_id({"error": f"{_ERROR_NAMES.get(name, name)}: {error}"}, request_id)


def blob(request_id: RequestId, data: bytes | None) -> bytes:
    """The reply of `context_retrieve`: built by hand, since base64 needs no escaping."""
    if data is None:
        return result(request_id, {"data": None, "encoding": "base64"})
    tail = b', "id": ' + _json(request_id.value) if request_id.given else b""
    return b"".join(
        (b'{"result": {"data": "', base64.b64encode(data), b'", "encoding": "base64"}', tail, b"}")
    )


def matches(infos: Iterable[BlobInfo]) -> JsonValue:
    """The result of `context_query`."""
    return {"matches": [{"tag": info.tag, "blob_name": info.name, "size": info.size} for info in infos]}


def destroyed(tags: Sequence[str], blobs: int) -> JsonValue:
    """The result of `context_destroy`: each tag once, in the order asked for, and how many blobs they had."""
    return {"status": "ok", "destroyed": list(dict.fromkeys(tags)), "blobs": blobs}


def _with_id(reply: dict[str, JsonValue], request_id: RequestId) -> bytes:
    if request_id.given:
        reply["id"] = request_id.value
    return _json(reply)


def _json(value: JsonValue) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _strict_json(data: bytes) -> JsonValue:
    """Raises MalformedRequest for what is not JSON, `NaN` and `Infinity` among it."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    try:
        value: JsonValue = json.loads(data.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"request: {str(error).splitlines()[0]}") from error
    return value


def _is_writable(value: JsonValue) -> bool:
    for _ in range(_SPARE_DEPTH):
        value = [value]
    try:
        return bool(_json(value))
    except (ValueError, RecursionError):
        return False


def _sentence(what: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{what}: {where}: {first['msg']}" if where else f"{what}: {first['msg']}"
