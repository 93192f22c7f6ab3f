"""What was acknowledged is there, whole, whoever is killed when."""

import os
import select
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from agentfactory.bridge.store.base import Store
from agentfactory.bridge.store.factory import open_store
from agentfactory.bridge.store.iowarp.runtime import installed
from agentfactory.bridge.store.iowarp.store import IOWarpStore
from agentfactory.configs.data import StoreSettings
from agentfactory.messages.data import BlobMeta
from tests.bridge.fake_store import get, names
from tests.bridge.store_writer_process import LIMIT_S, ROOT, WriterProcess, deeds

needs_iowarp = pytest.mark.skipif(installed() is None, reason="iowarp-core is not installed")


def check(store: Store, seed: int, count: int) -> None:
    """All that was acknowledged is there; the deed after it was done, or not, but not half."""
    done = list(islice(deeds(seed), count + 1))
    expected = {deed.name: deed.data for deed in done[:count]}
    allowed = {name: {data} for name, data in expected.items()}
    allowed.setdefault(done[count].name, {None}).add(done[count].data)
    for name, choices in allowed.items():
        info = store.stat("t", name)
        found = get(store, "t", name) if info else None
        assert found in choices, name
    present = set(names(store, "t", f"{seed}-*"))
    assert present <= set(allowed)


def settings(kind: str, folder: Path) -> StoreSettings:
    return StoreSettings.model_validate({"kind": kind, "folder": str(folder), "max_gb": 2.0})


@pytest.mark.parametrize("kind", ["embedded", pytest.param("iowarp", marks=needs_iowarp)])
def test_what_was_acknowledged_survives_the_death_of_the_process(tmp_path: Path, kind: str) -> None:
    acknowledged: dict[int, int] = {}
    for seed, count in [(1, 3), (2, 25)]:
        maker = WriterProcess(kind, tmp_path, seed)
        maker.wait_for(count)
        acknowledged[seed] = count + maker.kill()
    store = open_store(settings(kind, tmp_path))
    for seed, count in acknowledged.items():
        check(store, seed, count)
    store.close()


@needs_iowarp
def test_what_was_acknowledged_survives_the_death_of_iowarp(tmp_path: Path) -> None:
    maker = WriterProcess("iowarp", tmp_path, 4)
    maker.wait_for(20)
    os.kill(maker.runtime_pid, signal.SIGKILL)
    count = 20 + maker.kill()
    store = open_store(settings("iowarp", tmp_path))
    check(store, 4, count)
    store.close()


@needs_iowarp
def test_puts_go_on_after_iowarp_was_killed_under_them(tmp_path: Path) -> None:
    maker = WriterProcess("iowarp", tmp_path, 5)
    maker.wait_for(7)
    os.kill(maker.runtime_pid, signal.SIGKILL)
    maker.wait_for(23)
    count = 30 + maker.kill()
    store = open_store(settings("iowarp", tmp_path))
    assert isinstance(store, IOWarpStore)
    check(store, 5, count)
    store.close()


def test_what_a_killed_process_left_half_done_is_cleared_away(tmp_path: Path) -> None:
    half_done = (
        "from agentfactory.bridge.store.factory import open_store\n"
        "from agentfactory.configs.data import StoreSettings\n"
        "from agentfactory.messages.data import BlobMeta; from tests.bridge.fake_store import put\n"
        f"store = open_store(StoreSettings(kind='embedded', folder={str(tmp_path)!r}, max_gb=0.1))\n"
        "put(store, 't', 'whole', b'x' * 10_000_000)\n"
        "writer = store.put('t', 'half', BlobMeta())\n"
        "writer.write(b'y' * 60_000_000)\n"
        "print('half', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", half_done], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], LIMIT_S)[0]
    assert process.stdout.readline() == b"half\n"
    process.kill()
    process.communicate(timeout=LIMIT_S)
    store = open_store(StoreSettings(kind="embedded", folder=str(tmp_path), max_gb=0.1))
    writer = store.put("t", "new", BlobMeta())
    writer.write(b"z" * 80_000_000)  # fits only if the half is gone
    writer.commit()
    assert get(store, "t", "whole") == b"x" * 10_000_000
    store.close()
