"""The JSON dialect, for clients in any language: `{method, params, id}` -> `{result, id}` or `{error, id}`.

A plain REQ socket is enough. `id` comes back only where it was given. What cannot be decoded is a
BadRequest, which is answered like any other error.

    ping                                                     -> "pong"
    context_bundle    {src: text or list, dst, format}       -> {status, tag, stored}
    context_query     {tag_pattern, blob_pattern}            -> {matches: [{tag, blob_name, size}]}
    context_retrieve  {tag, blob_name}                       -> {data, encoding: "base64"}
    context_destroy   {tags: text or list}                   -> {status, destroyed}
"""

import base64
import json
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bridge.errors import BridgeError
from messages.blobs import BlobInfo


class BadRequest(BridgeError):
    """Bytes that are not a request of this dialect."""


class _Params(BaseModel):
    """Parameters are read as widely as clients write them: what we do not know is let be."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Ping(_Params):
    """Is anybody there?"""


class Bundle(_Params):
    """Read what URIs name, and store it under a tag."""

    src: str | tuple[str, ...]
    dst: str
    format: str = "arrow"

    @property
    def sources(self) -> tuple[str, ...]:
        """One or many, as many."""
        return (self.src,) if isinstance(self.src, str) else self.src


class Query(_Params):
    """Which blobs are there?"""

    tag_pattern: str
    blob_pattern: str = "*"


class Retrieve(_Params):
    """The bytes of one blob."""

    tag: str
    blob_name: str


class Destroy(_Params):
    """Remove tags for good."""

    tags: str | tuple[str, ...]

    @property
    def all_tags(self) -> tuple[str, ...]:
        """One or many, as many."""
        return (self.tags,) if isinstance(self.tags, str) else self.tags


Params = Ping | Bundle | Query | Retrieve | Destroy

_METHODS: dict[str, type[Ping] | type[Bundle] | type[Query] | type[Retrieve] | type[Destroy]] = {
    "ping": Ping,
    "context_bundle": Bundle,
    "context_query": Query,
    "context_retrieve": Retrieve,
    "context_destroy": Destroy,
}


class Token(NamedTuple):
    """A request's `id`, and whether it had one."""

    given: bool = False
    value: JsonValue = None


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")

    method: str
    params: dict[str, JsonValue] = Field(default_factory=dict)
    id: JsonValue = None


def parse(data: bytes | memoryview) -> tuple[Token, Params | BadRequest]:
    """Decode a request. Never raises: whoever asked is owed an answer with its `id`, if that can be read."""
    try:
        request = _Request.model_validate_json(bytes(data))
    except ValidationError as error:
        return _token_of(data), BadRequest(_sentence("request", error))
    token = Token("id" in request.model_fields_set, request.id)
    model = _METHODS.get(request.method)
    if model is None:
        known = ", ".join(_METHODS)
        return token, BadRequest(f"unknown method {request.method[:100]!r}; this bridge knows {known}")
    try:
        return token, model.model_validate(request.params)
    except ValidationError as error:
        return token, BadRequest(_sentence(request.method, error))


def result(token: Token, value: JsonValue) -> bytes:
    """A reply."""
    return _with_id({"result": value}, token)


def failure(token: Token, error: Exception) -> bytes:
    """A reply that says what went wrong."""
    return _with_id({"error": f"{type(error).__name__}: {error}"}, token)


def blob(token: Token, data: bytes | None) -> bytes:
    """The reply of `context_retrieve`: built by hand, since base64 needs no escaping."""
    if data is None:
        return result(token, {"data": None, "encoding": "base64"})
    tail = b', "id": ' + json.dumps(token.value).encode() if token.given else b""
    return b"".join(
        (b'{"result": {"data": "', base64.b64encode(data), b'", "encoding": "base64"}', tail, b"}")
    )


def matches(infos: Iterable[BlobInfo]) -> JsonValue:
    """The result of `context_query`."""
    return {"matches": [{"tag": info.tag, "blob_name": info.name, "size": info.size} for info in infos]}


def _with_id(reply: dict[str, JsonValue], token: Token) -> bytes:
    if token.given:
        reply["id"] = token.value
    return json.dumps(reply).encode()


def _token_of(data: bytes | memoryview) -> Token:
    """The `id` of something that is JSON, but no request."""
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError):
        return Token()
    return Token(True, value["id"]) if isinstance(value, dict) and "id" in value else Token()


def _sentence(what: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{what}: {where}: {first['msg']}" if where else f"{what}: {first['msg']}"
