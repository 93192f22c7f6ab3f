"""Requests and replies of the JSON dialect."""

import json

import pytest
from pydantic import JsonValue

from agentfactory.bridge.server import json_protocol
from agentfactory.bridge.server.json_protocol import (
    BundleParams,
    DestroyParams,
    MalformedRequest,
    Params,
    PingParams,
    QueryParams,
    RequestId,
    RetrieveParams,
)


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("ping", {}, PingParams()),
        ("context_bundle", {"src": "a", "dst": "d"}, BundleParams(src="a", dst="d", format="arrow")),
        ("context_bundle", {"src": ["a", "b"], "dst": "d"}, BundleParams(src=("a", "b"), dst="d")),
        ("context_bundle", {"src": "a", "dst": "d", "format": None}, BundleParams(src="a", dst="d")),
        ("context_query", {}, QueryParams(tag_pattern="*", blob_pattern="*")),
        ("context_query", None, QueryParams(tag_pattern="*", blob_pattern="*")),
        ("context_query", {"tag_pattern": None, "blob_pattern": None}, QueryParams()),
        ("context_query", {"tag_pattern": "t"}, QueryParams(tag_pattern="t", blob_pattern="*")),
        (
            "context_retrieve",
            {"tag": "t", "blob_name": "b", "more": 1},
            RetrieveParams(tag="t", blob_name="b"),
        ),
        ("context_destroy", {"tags": ["t"]}, DestroyParams(tags=("t",))),
    ],
)
def test_each_method_has_its_parameters(method: str, params: JsonValue, expected: Params) -> None:
    data = json.dumps({"method": method, "params": params, "id": [1]}).encode()
    assert json_protocol.parse(data) == (RequestId(True, [1]), expected)


def test_one_source_or_many_are_many() -> None:
    assert BundleParams(src="a", dst="d").sources == ("a",)
    assert BundleParams(src=("a", "b"), dst="d").sources == ("a", "b")
    assert DestroyParams(tags="a").all_tags == ("a",)


@pytest.mark.parametrize("id_", [1, "a", None, {"k": [1.5]}, 10**30])
def test_the_id_comes_back_whatever_it_is(id_: JsonValue) -> None:
    token, _ = json_protocol.parse(json.dumps({"method": "ping", "id": id_}).encode())
    assert json.loads(json_protocol.result(token, "pong")) == {"result": "pong", "id": id_}
    assert json.loads(json_protocol.blob(token, b"\xff")) == {
        "result": {"data": "/w==", "encoding": "base64"},
        "id": id_,
    }


def test_no_id_comes_back_where_none_was_given() -> None:
    token, _ = json_protocol.parse(b'{"method": "ping"}')
    assert json.loads(json_protocol.result(token, "pong")) == {"result": "pong"}
    assert json.loads(json_protocol.blob(token, None)) == {"result": {"data": None, "encoding": "base64"}}


def test_a_request_that_is_wrong_keeps_its_id() -> None:
    for data in (b'{"id": 3}', b'{"method": "nope", "id": 3}', b'{"method": "ping", "params": 1, "id": 3}'):
        token, error = json_protocol.parse(data)
        assert isinstance(error, MalformedRequest)
        assert json.loads(json_protocol.failure(token, error)) == {"error": f"BadRequest: {error}", "id": 3}


@pytest.mark.parametrize("data", [b"", b"\xff", b"null", b'"\xed\xa0\x80"', b"[" * 9999, b"9" * 9999])
def test_what_is_no_json_object_is_a_bad_request(data: bytes) -> None:
    token, error = json_protocol.parse(data)
    assert token == RequestId()
    assert isinstance(error, MalformedRequest)
