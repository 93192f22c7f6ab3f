"""The client of the first AgentFactory, as its document shows it, holds a whole session with our bridge."""

import base64
import hashlib
import json
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
import zmq

from agentfactory.configs.data import DataSettings
from agentfactory.data import DataPlane
from tests.cluster.test_data_plane import LIMIT_S, running, settings

TABLE = b"id,zip\n007,02134\n"


class SeedClient:
    """One REQ socket, one request at a time, neither ids nor anything else that the document lacks."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.RCVTIMEO, LIMIT_S * 1000)
        self._socket.connect(endpoint)

    def close(self) -> None:
        self._context.destroy(linger=0)

    def ask(self, method: str, params: dict[str, object]) -> dict[str, object]:
        self._socket.send_json({"method": method, "params": params})
        response = self._socket.recv_json()
        assert isinstance(response, dict)
        result = response["result"]
        assert isinstance(result, dict), response
        return result

    def context_bundle(self, src: object, dst: str, format: str = "arrow") -> dict[str, object]:
        return self.ask("context_bundle", {"src": src, "dst": dst, "format": format})

    def context_retrieve(self, tag: str, blob_name: str) -> bytes:
        return base64.b64decode(
            str(self.ask("context_retrieve", {"tag": tag, "blob_name": blob_name})["data"])
        )

    def answer_to(self, text: bytes) -> bytes:
        """The raw reply to raw bytes."""
        self._socket.send(text)
        return self._socket.recv()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataSettings]:
    chosen = settings(tmp_path, cache="memcached" if shutil.which("memcached") else "embedded")
    async with running(chosen):
        yield chosen


@pytest.fixture
def client(plane: DataSettings) -> Iterator[SeedClient]:
    made = SeedClient(plane.bridge.endpoints[0])
    yield made
    made.close()


async def test_documents_go_in_are_queried_retrieved_and_destroyed(
    tmp_path: Path, client: SeedClient
) -> None:
    names = ("api_reference.md", "project_overview.md", "setup_guide.md")
    for name in names:
        (tmp_path / name).write_text(f"# {name}\n")
    bundled = client.context_bundle([f"file::{tmp_path / name}" for name in names], "docs")
    assert (bundled["status"], bundled["tag"]) == ("ok", "docs")
    matches = client.ask("context_query", {})["matches"]
    assert matches == client.ask("context_query", {"tag_pattern": "docs"})["matches"]
    assert isinstance(matches, list)
    assert [match["blob_name"] for match in matches] == list(names)
    assert client.context_retrieve("docs", "setup_guide.md") == b"# setup_guide.md\n"
    assert client.ask("context_destroy", {"tags": "docs"})["destroyed"] == ["docs"]
    assert client.ask("context_query", {}) == {"matches": []}
    assert client.ask("context_destroy", {"tags": ["docs", "docs", "b"]})["destroyed"] == ["docs", "b"]


async def test_a_format_that_only_names_the_content_keeps_the_bytes(
    tmp_path: Path, plane: DataSettings, client: SeedClient
) -> None:
    (tmp_path / "table.csv").write_bytes(TABLE)
    types = {
        "csv": "text/csv",
        "json": "application/json",
        "markdown": "text/markdown",
        "parquet": "application/vnd.apache.parquet",
    }
    for form in types:
        client.context_bundle(f"file::{tmp_path / 'table.csv'}", form, form)
        assert client.context_retrieve(form, "table.csv") == TABLE
    async with DataPlane.open(plane) as data:
        assert {blob.tag: blob.meta.content_type async for blob in data.list()} == types


async def test_a_value_of_about_the_cache_s_usual_limit_comes_back_whole(
    tmp_path: Path, plane: DataSettings, client: SeedClient
) -> None:
    async with DataPlane.open(plane) as data:
        for size in ((1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20):
            value = hashlib.shake_128(b"v").digest(size)
            (tmp_path / "value.bin").write_bytes(value)
            client.context_bundle(f"file::{tmp_path / 'value.bin'}", "big", "binary")
            assert client.context_retrieve("big", "value.bin") == value
            assert await data.get("big", "value.bin") == value


@pytest.mark.skipif(shutil.which("memcached") is None, reason="memcached is not installed")
async def test_the_seeds_own_cache_stores_values_of_a_mebibyte_whole(plane: DataSettings) -> None:
    def store_and_fetch(size: int) -> bytes:
        host = plane.cache.hosts[0]
        with socket.create_connection((host.host, host.port), LIMIT_S) as link, link.makefile("rb") as lines:
            link.sendall(b"set iowarp:docs:big 0 3600 %d\r\n" % size + bytes(size) + b"\r\n")
            assert lines.readline() == b"STORED\r\n"
            link.sendall(b"get iowarp:docs:big\r\n")
            return lines.readline()

    for size in (1 << 20, 10 << 20):
        assert (
            await anyio.to_thread.run_sync(store_and_fetch, size) == b"VALUE iowarp:docs:big 0 %d\r\n" % size
        )


async def test_an_id_comes_back_as_it_was_or_as_null_and_always_as_strict_json(client: SeedClient) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    ids: dict[bytes, object] = {
        b"1e400": None,
        b"[-1e400]": None,
        b"[" * 600 + b"1e400" + b"]" * 600: None,
        b'"\\ud800"': "\ud800",
        b"1" + b"0" * 400: 10**400,
        b'{"a": [null, {"b": []}]}': {"a": [None, {"b": []}]},
        b"null": None,
    }
    for id_, echoed in ids.items():
        for request in (b'{"method": "ping", "id": %s}', b'{"id": %s}', b'{"method": "nope", "id": %s}'):
            reply = json.loads(client.answer_to(request % id_), parse_constant=refuse)
            assert reply["id"] == echoed
    assert client.answer_to(b'{"method": "ping"}') == b'{"result": "pong"}'


async def test_what_is_no_json_is_refused_in_json(client: SeedClient) -> None:
    for text in (
        b"NaN",
        b'{"method": "ping", "id": NaN}',
        b'{"method": "ping", "id": -Infinity}',
        b"\xff",
        b"[" * 9999,
    ):
        reply = json.loads(client.answer_to(text))
        assert str(reply["error"]).startswith("BadRequest: ")
        assert "id" not in reply
