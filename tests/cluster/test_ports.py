"""Where others listen on the data plane's ports it goes elsewhere and says so, and nobody's data meet."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from agentfactory.cluster import diagnostics as checkup
from agentfactory.cluster.agents.blueprint_registry import BlueprintRegistry
from agentfactory.cluster.data_plane import capacity, services
from agentfactory.cluster.data_plane.ports import is_free, listener
from agentfactory.cluster.data_plane.services import bring_up, down, make_plan
from agentfactory.configs.data import CacheHost, CacheSettings, DataSettings, StoreSettings
from agentfactory.data import DataPlane
from agentfactory.repl.session_manager import SessionManager
from tests.cluster.test_data_plane import LIMIT_S, settings
from tests.free_ports import free_port

needs_memcached = pytest.mark.skipif(shutil.which("memcached") is None, reason="memcached is not installed")


@contextmanager
def foreign_memcached() -> Iterator[int]:
    """Somebody else's, with the key `theirs` in it."""
    port = free_port()
    command = ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0"]
    with subprocess.Popen([*command, *(["-u", "nobody"] if os.geteuid() == 0 else [])]) as process:
        try:
            while not is_answered(port):  # a look at whether it is free would take the port for that moment
                assert process.poll() is None
            assert said(port, b"set theirs 0 0 1\r\nx\r\n") == b"STORED\r\n"
            yield port
        finally:
            process.terminate()


@contextmanager
def foreign_listener() -> Iterator[int]:
    """A program that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def is_answered(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def said(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as link:
        link.sendall(request)
        return link.recv(1000)


def with_cache(folder: Path, port: int) -> DataSettings:
    chosen = settings(folder, cache="auto")
    return chosen.model_copy(
        update={"cache": CacheSettings(kind="auto", hosts=(CacheHost(port=port),), memory_mb=64)}
    )


@needs_memcached
async def test_a_memcached_of_somebody_else_is_left_alone_and_ours_is_on_another_port(tmp_path: Path) -> None:
    with foreign_memcached() as port:
        chosen = with_cache(tmp_path, port)
        folder = Path(chosen.folder)
        plan = await bring_up(chosen, folder)
        try:
            (host,) = plan.data.cache.hosts
            assert host.port != port
            (note,) = plan.state.notes
            assert note.startswith(f"127.0.0.1:{port} has another memcached (")
            assert note.endswith(f"this memcached is on port {host.port}")
            async with DataPlane.open(chosen) as data:
                assert data.notes == ()  # whoever brought it up has heard them
                await data.ingest("string:note::ours", tag="t")
                assert await data.get("t", "note") == b"ours"
                await data.destroy("t")
        finally:
            await down(folder)
        assert said(port, b"stats items\r\n").count(b":number 1\r\n") == 1
        assert said(port, b"get theirs\r\n") == b"VALUE theirs 0 1\r\nx\r\nEND\r\n"


async def test_a_data_plane_of_a_session_says_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with foreign_listener() as port:
        chosen = settings(tmp_path)
        bridge = chosen.bridge.model_copy(update={"endpoints": (f"tcp://127.0.0.1:{port}",)})
        manager = SessionManager(BlueprintRegistry(), chosen.model_copy(update={"bridge": bridge}))
        try:
            plane = await manager._plane(manager.blueprint("iowarp_agent")).get()
            assert plane.settings.bridge.endpoints != bridge.endpoints
        finally:
            await manager.aclose()
    assert f"note: tcp://127.0.0.1:{port} has another program: this bridge is on" in capsys.readouterr().err


@needs_memcached
async def test_ports_that_other_programs_have_are_left_to_them(tmp_path: Path) -> None:
    with foreign_listener() as cache_port, foreign_listener() as bridge_port:
        chosen = with_cache(tmp_path, cache_port)
        bridge = chosen.bridge.model_copy(update={"endpoints": (f"tcp://127.0.0.1:{bridge_port}",)})
        chosen = chosen.model_copy(update={"bridge": bridge})
        folder = Path(chosen.folder)
        plan = await bring_up(chosen, folder)
        try:
            assert plan.state.notes == (
                f"tcp://127.0.0.1:{bridge_port} has another program: this bridge is on {plan.state.endpoint}",
                f"127.0.0.1:{cache_port} has another program: this memcached is on port "
                f"{plan.data.cache.hosts[0].port}",
            )
            async with DataPlane.open(chosen) as data:
                await data.ingest("string:note::here", tag="t")
                assert await data.get("t", "note") == b"here"
        finally:
            await down(folder)


async def test_two_workspaces_that_want_the_same_ports_at_once_are_both_up_and_apart(tmp_path: Path) -> None:
    chosen: list[DataSettings] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        own = with_cache(tmp_path / name, free_port())
        same = chosen[0] if chosen else own
        hosts = own.cache.model_copy(update={"hosts": same.cache.hosts})
        chosen.append(own.model_copy(update={"bridge": same.bridge, "cache": hosts}))
    folders = [Path(each.folder) for each in chosen]
    try:
        plans = await asyncio.gather(*map(bring_up, chosen, folders))
        assert len({plan.state.endpoint for plan in plans}) == 2
        assert sum(bool(plan.state.notes) for plan in plans) >= 1
        for number, each in enumerate(chosen):
            async with DataPlane.open(each) as data:
                await data.ingest(f"string:note::{number}", tag="t")
        for number, each in enumerate(chosen):
            async with DataPlane.open(each) as data:
                assert await data.get("t", "note") == str(number).encode()
                assert [found.size for found in await data.query("t")] == [1]
                assert await data.get("t", "note", force=True) == str(number).encode()
    finally:
        for folder in folders:
            await down(folder)


async def test_a_memcached_that_does_not_start_is_done_without_unless_somebody_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder_of_all = tempfile.TemporaryDirectory()  # memcached runs as another user where root starts it
    request.addfinalizer(folder_of_all.cleanup)
    os.chmod(folder_of_all.name, 0o755)
    broken = Path(folder_of_all.name) / "memcached"
    broken.write_text("#!/bin/sh\necho no such user >&2\nexit 71\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=os.pathsep)
    chosen = with_cache(tmp_path, free_port())
    folder = Path(chosen.folder)
    plan = await bring_up(chosen, folder)
    try:
        assert plan.data.cache.kind == "embedded"
        (note,) = plan.state.notes
        assert "memcached does not start (" in note
        assert "no such user" in note
        async with DataPlane.open(chosen) as data:
            await data.ingest("string:note::here", tag="t")
            assert [found.blob_name for found in await data.query("t")] == ["note"]
    finally:
        await down(folder)
    asked = chosen.model_copy(update={"cache": chosen.cache.model_copy(update={"kind": "memcached"})})
    with pytest.raises(services.CannotStart, match="no such user"):
        await bring_up(asked, folder)


def test_who_listens_is_told_in_words() -> None:
    with foreign_listener() as port:
        assert not is_free("127.0.0.1", port)
        assert listener("127.0.0.1", port) == "another program"
    assert is_free("127.0.0.1", port)


def test_doctor_looks_at_the_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    with foreign_listener() as port:
        taken = DataSettings(cache=CacheSettings(hosts=(CacheHost(port=port),)))
        monkeypatch.setattr(checkup, "DataSettings", lambda: taken)
        checks = {check.name: check for check in checkup._ports()}
    check = checks[f"port {port}"]
    assert (check.verdict, check.found) == ("without", "another program, where memcached would be")
    assert "takes another port" in check.advice


class Memory(NamedTuple):
    available: int


class Disk(NamedTuple):
    free: int


def test_what_is_taken_is_bounded_by_what_the_machine_has_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = DataSettings(folder=str(tmp_path), store=StoreSettings(folder=str(tmp_path / "a" / "b")))
    monkeypatch.setattr(capacity, "_CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(8 << 30))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(100 << 30))
    plan = make_plan(chosen, tmp_path)
    assert (plan.data.cache.memory_mb, plan.data.store.max_gb) == (512, 8.0)
    assert not [note for note in plan.state.notes if " takes " in note]
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(400 << 20))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(1 << 30))
    fitted = capacity.fit_to_machine(chosen)
    assert (fitted.data.cache.memory_mb, fitted.data.store.max_gb) == (100, 0.9)
    assert fitted.notes == (
        "the cache takes 100 MB, not 512: a quarter of what is free",
        "the store takes 0.9 GB at most, not 8: the disk has no more",
    )
    (tmp_path / "memory.max").write_text(f"{200 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{100 << 20}\n")
    assert capacity.fit_to_machine(chosen).data.cache.memory_mb == 25
