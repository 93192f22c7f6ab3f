"""The data plane as people run it: real processes, killed for real, and what was stored is there."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import zmq

from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.store.base import MAX_NAME_BYTES
from agentfactory.cluster.data_plane.process_supervisor import (
    ProcessSupervisor,
    ServiceSpec,
    SupervisorState,
    is_supervised,
    read_state,
)
from agentfactory.cluster.data_plane.services import CannotStart, down, make_plan, running_plan, up
from agentfactory.configs.data import (
    BridgeSettings,
    CacheHost,
    CacheSettings,
    DataSettings,
    StoreSettings,
    UriSettings,
)
from agentfactory.configs.errors import BadInput
from agentfactory.data import ActionRefused, DataPlane
from agentfactory.messages.data import BlobMeta
from tests.free_ports import free_port

LIMIT_S = 180
needs_memcached = pytest.mark.skipif(shutil.which("memcached") is None, reason="memcached is not installed")


def settings(folder: Path, store: str = "embedded", cache: str = "embedded") -> DataSettings:
    return DataSettings(
        folder=str(folder / "state"),
        bridge=BridgeSettings(
            endpoints=(f"tcp://127.0.0.1:{free_port()}",),
            connect_timeout_ms=60_000,
            request_timeout_ms=90_000,
        ),
        store=StoreSettings(kind=store, folder=str(folder / "store"), max_gb=1.0),  # type: ignore[arg-type]
        cache=CacheSettings(kind=cache, hosts=(CacheHost(port=free_port()),), memory_mb=64),  # type: ignore[arg-type]
        uris=UriSettings(roots=(str(folder),)),
    )


@asynccontextmanager
async def running(chosen: DataSettings) -> AsyncIterator[Path]:
    folder = Path(chosen.folder)
    await up(make_plan(chosen, folder), folder)
    try:
        yield folder
    finally:
        await down(folder)


def ask_plainly(endpoint: str, method: str, params: object) -> object:
    """As a client of any other language would."""
    with zmq.Context() as context, context.socket(zmq.REQ) as requests:
        requests.setsockopt(zmq.LINGER, 0)
        requests.connect(endpoint)
        requests.send_json({"method": method, "params": params, "id": 7})
        assert requests.poll(LIMIT_S * 1000)
        answer = requests.recv_json()
    assert isinstance(answer, dict)
    assert answer["id"] == 7
    return answer["result"]


def documents(folder: Path) -> Path:
    docs = folder / "docs"
    docs.mkdir()
    (docs / "setup_guide.md").write_text("# Setup\nRun make.\n")
    (docs / "empty").write_bytes(b"")
    return docs


async def until(condition: object, folder: Path) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition(read_state(folder)):  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def pid_of(folder: Path, name: str) -> int:
    state = read_state(folder)
    assert state is not None
    return next(service.pid for service in state.services if service.name == name)


@pytest.mark.parametrize("cache", ["embedded", "memcached"])
async def test_what_is_ingested_can_be_queried_got_pruned_and_destroyed(tmp_path: Path, cache: str) -> None:
    if cache == "memcached" and shutil.which("memcached") is None:
        pytest.skip("memcached is not installed")
    docs = documents(tmp_path)
    chosen = settings(tmp_path, cache=cache)
    async with running(chosen), DataPlane.open(chosen) as data:
        report = await data.ingest(f"folder::{docs}", tag="docs")
        assert sorted(report.stored) == ["empty", "setup_guide.md"]
        assert await data.get("docs", "setup_guide.md") == b"# Setup\nRun make.\n"
        assert "setup_guide.md" in {blob.blob_name for blob in await data.query("docs")}
        await data.prune("docs")
        assert await data.query("docs") == ()
        assert [blob.name async for blob in data.list("docs")] == ["empty", "setup_guide.md"]
        assert await data.get("docs", "setup_guide.md") == b"# Setup\nRun make.\n"
        assert (await data.ingest(f"folder::{docs}", tag="docs")).stored == ()
        assert await data.destroy("docs") == 2
        with pytest.raises(ActionRefused, match=r"no blob 'setup_guide.md' under 'docs'"):
            await data.get("docs", "setup_guide.md")


async def test_indexes_are_hidden_and_go_with_their_tag_and_what_is_ingested_again_is_cached_again(
    tmp_path: Path,
) -> None:
    docs = documents(tmp_path)
    chosen = settings(tmp_path)
    async with running(chosen), DataPlane.open(chosen) as data, BridgeClient(chosen.bridge) as client:
        await data.ingest(f"folder::{docs}", tag="docs")
        await data.prune("docs")
        again = await data.ingest(f"folder::{docs}", tag="docs")
        assert sorted(again.unchanged) == ["empty", "setup_guide.md"]
        assert [blob.blob_name for blob in await data.query("docs")] == ["empty", "setup_guide.md"]
        await client.put(".index/docs", "manifest", b"{}")
        assert {blob.tag async for blob in data.list()} == {"docs"}
        assert {blob.tag async for blob in data.list(hidden=True)} == {"docs", ".index/docs"}
        assert {blob.tag async for blob in data.list(".index/*")} == {".index/docs"}
        assert await data.destroy("docs") == 2
        assert [blob async for blob in data.list(hidden=True)] == []


async def test_the_original_of_a_table_can_be_had_and_goes_with_its_tag(tmp_path: Path) -> None:
    table = b"id,zip\n007,02134\n"
    (tmp_path / "x.csv").write_bytes(table)
    chosen = settings(tmp_path)
    async with running(chosen), DataPlane.open(chosen) as data:
        await data.ingest([f"file::{tmp_path / 'x.csv'}", "string:note::n"], tag="docs")
        arrow = pa.ipc.open_file(await data.get("docs", "x.csv")).read_all()
        assert arrow.to_pylist() == [{"id": "007", "zip": "02134"}]
        assert await data.get("docs", "x.csv", original=True) == table
        async with data.stream("docs", "x.csv", original=True) as pieces:
            assert b"".join([bytes(piece) async for piece in pieces]) == table
        assert await data.get("docs", "note", original=True) == b"n"
        assert {blob.tag for blob in await data.query()} == {"docs"}
        assert await data.destroy("docs") == 2
        assert [blob async for blob in data.list(hidden=True)] == []


async def test_a_table_that_was_stored_before_originals_were_kept_has_none(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    meta = BlobMeta(content_type="application/vnd.apache.arrow.file")
    async with (
        running(chosen),
        DataPlane.open(chosen) as data,
        BridgeClient(chosen.bridge) as client,
    ):
        await client.put("docs", "x.csv", b"ARROW1", meta)
        await client.put("docs", "x.arrow", b"ARROW1", meta)
        with pytest.raises(ActionRefused, match=r"docs/x\.csv: its original is not there; ingest it again"):
            await data.get("docs", "x.csv", original=True)
        assert await data.get("docs", "x.arrow", original=True) == b"ARROW1"


async def test_the_longest_tag_is_put_and_destroyed_though_nothing_can_lie_beside_it(tmp_path: Path) -> None:
    chosen, tag = settings(tmp_path), "x" * MAX_NAME_BYTES
    async with running(chosen), DataPlane.open(chosen) as data:
        assert (await data.ingest("string:x.csv::a", tag=tag, format="binary")).complete
        assert await data.destroy(tag) == 1


async def test_a_plan_follows_what_the_store_s_folder_was_made_as(tmp_path: Path) -> None:
    async with running(settings(tmp_path)):
        pass
    plan = make_plan(settings(tmp_path, store="auto"), tmp_path)
    assert plan.data.store.kind == "embedded"
    assert plan.state.store == "embedded (the folder was made as embedded)"
    with pytest.raises(BadInput, match=r"was made as store\.kind embedded"):
        make_plan(settings(tmp_path, store="iowarp"), tmp_path)


async def test_a_plain_client_s_bundle_and_destroy_go_through_the_cache(tmp_path: Path) -> None:
    docs = documents(tmp_path)
    chosen = settings(tmp_path)
    async with running(chosen), DataPlane.open(chosen) as data:

        async def plain(method: str, **params: object) -> object:
            return await asyncio.to_thread(ask_plainly, chosen.bridge.endpoints[0], method, params)

        source = f"file::{docs / 'setup_guide.md'}"
        assert await plain("context_bundle", src=source, dst="d") == {"status": "ok", "tag": "d", "stored": 1}
        assert await data.get("d", "setup_guide.md") == b"# Setup\nRun make.\n"
        (docs / "setup_guide.md").write_text("new")
        await plain("context_bundle", src=source, dst="d")
        assert await data.get("d", "setup_guide.md") == b"new"
        gone = await plain("context_destroy", tags="d")
        assert gone == {"status": "ok", "destroyed": ["d"], "blobs": 1}
        with pytest.raises(ActionRefused, match="no blob"):
            await data.get("d", "setup_guide.md")


async def test_the_bridge_comes_back_after_sigkill_with_what_was_stored(tmp_path: Path) -> None:
    docs = documents(tmp_path)
    chosen = settings(tmp_path)
    async with running(chosen) as folder, DataPlane.open(chosen) as data:
        await data.ingest(f"folder::{docs}", tag="docs")
        old = pid_of(folder, "bridge")
        os.kill(old, signal.SIGKILL)
        assert await data.get("docs", "setup_guide.md", force=True) == b"# Setup\nRun make.\n"
        await until(lambda s: s is not None and s.services[0].restarts == 1, folder)
        state = read_state(folder)
        assert state is not None
        assert state.services[0].last_exit == "killed by SIGKILL"
        assert pid_of(folder, "bridge") != old


@needs_memcached
async def test_reads_go_on_while_memcached_is_killed(tmp_path: Path) -> None:
    docs = documents(tmp_path)
    chosen = settings(tmp_path, cache="memcached")
    async with running(chosen) as folder, DataPlane.open(chosen) as data:
        await data.ingest(f"folder::{docs}", tag="docs")
        os.kill(pid_of(folder, "memcached-0"), signal.SIGKILL)
        for _ in range(20):
            assert await data.get("docs", "setup_guide.md") == b"# Setup\nRun make.\n"


@pytest.mark.parametrize("cache", ["embedded", pytest.param("memcached", marks=needs_memcached)])
async def test_a_killed_supervisor_leaves_no_process_behind(cache: str, tmp_path: Path) -> None:
    chosen = settings(tmp_path, cache=cache)
    async with running(chosen) as folder:
        state = read_state(folder)
        assert state is not None
        children = psutil.Process(state.pid).children(recursive=True)
        assert children
        os.kill(state.pid, signal.SIGKILL)
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=LIMIT_S)
        assert alive == []
        assert not is_supervised(folder)
        assert running_plan(folder) is None


async def test_a_data_plane_of_a_block_ends_with_its_process_and_the_next_block_has_what_was_stored(
    tmp_path: Path,
) -> None:
    chosen = settings(tmp_path)
    script = (
        "import asyncio, sys\n"
        "from agentfactory.data import DataPlane\n"
        "from agentfactory.configs.data import DataSettings\n"
        "async def main():\n"
        "    async with DataPlane.open(DataSettings.model_validate_json(sys.argv[1])) as data:\n"
        "        await data.ingest('string:note::kept', tag='t', format='text')\n"
        "        print('stored', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, chosen.model_dump_json(), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    async for line in owner.stdout:
        if b"stored" in line:
            break
    state = read_state(Path(chosen.folder))
    assert state is not None
    processes = [psutil.Process(state.pid), *psutil.Process(state.pid).children(recursive=True)]
    owner.kill()
    await owner.wait()
    async with DataPlane.open(chosen) as data:
        assert await data.get("t", "note") == b"kept"
        _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=LIMIT_S)
        assert alive == []
    assert not is_supervised(Path(chosen.folder))


async def test_a_second_up_is_refused(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    async with running(chosen) as folder:
        with pytest.raises(BadInput, match="up already"):
            await up(make_plan(chosen, folder), folder)


async def test_a_port_that_is_taken_after_the_plan_is_named_and_nothing_stays(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    folder = Path(chosen.folder)
    plan = make_plan(chosen, folder)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(chosen.bridge.endpoints[0].rpartition(":")[2])))
        taken.listen()
        with pytest.raises(CannotStart, match=r"bridge said: .*in use"):
            await up(plan, folder)
        assert not is_supervised(folder)


async def test_a_data_plane_that_is_not_up_is_started_for_the_block(tmp_path: Path) -> None:
    docs = documents(tmp_path)
    chosen = settings(tmp_path)
    async with DataPlane.open(chosen) as data:
        await data.ingest(f"folder::{docs}", tag="docs")
    assert not is_supervised(Path(chosen.folder))
    async with DataPlane.open(chosen) as data:
        assert await data.get("docs", "setup_guide.md") == b"# Setup\nRun make.\n"


def test_asking_for_what_is_not_installed_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=r"needs the program memcached.*--cache embedded"):
        make_plan(settings(tmp_path, cache="memcached"), tmp_path)
    plan = make_plan(settings(tmp_path, cache="auto"), tmp_path)
    assert plan.state.cache == "embedded (there is no program memcached)"


async def test_a_service_that_keeps_dying_young_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentfactory.cluster.data_plane.process_supervisor.BACKOFF_S", 0.001)
    service = ServiceSpec(name="mayfly", argv=("/bin/sh", "-c", "exit 7"), about="it dies")
    state = SupervisorState(pid=os.getpid(), endpoint="", store="", cache="")
    async with asyncio.timeout(LIMIT_S):
        await ProcessSupervisor(tmp_path, state, [service]).run()
    (ended,) = SupervisorState.model_validate_json((tmp_path / "services.json").read_bytes()).services
    assert (ended.state, ended.last_exit, ended.pid) == ("failed", "exit code 7", 0)
