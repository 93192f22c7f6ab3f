"""Ingesting folders through the whole data plane, against copying the same files with fsync.

The processes are the real ones: bridge server, store, memcached where it is found. The memory of each is
watched while it works, and its peak is printed.
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentfactory.cluster.data_plane.process_supervisor import read_state
from agentfactory.configs.data import (
    BridgeSettings,
    CacheHost,
    CacheSettings,
    DataSettings,
    StoreSettings,
    UriSettings,
)
from agentfactory.data import DataPlane
from benchmarks.figures import Figures, median
from tests.free_ports import free_port

SMALL_FILES, SMALL_BYTES = 5000, 4 << 10
LARGE_FILES, LARGE_BYTES = 20, 64 << 20
ROUNDS = 3
WATCH_S = 0.05


def settings(folder: Path) -> DataSettings:
    """A data plane of its own, on ports of its own, with whatever this machine has."""
    return DataSettings(
        folder=str(folder / "state"),
        bridge=BridgeSettings(endpoints=(f"tcp://127.0.0.1:{free_port()}",)),
        store=StoreSettings(kind="embedded", folder=str(folder / "store"), max_gb=16.0),
        cache=CacheSettings(hosts=(CacheHost(port=free_port()),), memory_mb=256),
        uris=UriSettings(roots=(str(folder),)),
    )


def make_files(folder: Path, count: int, size: int) -> Path:
    """Files of random bytes."""
    folder.mkdir()
    rng = random.Random(0)
    for number in range(count):
        (folder / f"{number:05d}.bin").write_bytes(rng.randbytes(size))
    return folder


def copy(source: Path, target: Path) -> float:
    """Seconds to copy every file and force it to the disk."""
    target.mkdir()
    began = time.perf_counter()
    for path in sorted(source.iterdir()):
        with path.open("rb") as reading, (target / path.name).open("wb") as writing:
            while piece := reading.read(1 << 20):
                writing.write(piece)
            writing.flush()
            os.fsync(writing.fileno())
    return time.perf_counter() - began


def own_mb(pid: int) -> int:
    """Memory of a process that is its own: without what it maps of files, which the kernel takes back."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) >> 10
    return 0


class Peaks:
    """The most memory that each process has of its own (`own_mb`), MB."""

    def __init__(self, state_folder: Path) -> None:
        state = read_state(state_folder)
        services = state.services if state else ()
        self._processes = {service.name: service.pid for service in services if service.pid}
        self._processes["client"] = os.getpid()
        self.mb = dict.fromkeys(self._processes, 0)

    async def watch(self) -> None:
        """Look at them until cancelled."""
        while True:
            for name, pid in self._processes.items():
                self.mb[name] = max(self.mb[name], own_mb(pid))
            await asyncio.sleep(WATCH_S)


@contextmanager
def watching(peaks: Peaks) -> Iterator[None]:
    """Watch while the block runs."""
    task = asyncio.ensure_future(peaks.watch())
    try:
        yield
    finally:
        task.cancel()


async def measure(name: str, count: int, size: int, figures: Figures) -> None:
    """The rate of ingesting against that of copying, in turn."""
    ratios, rates = [], []
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        source = make_files(folder / "files", count, size)
        chosen = settings(folder)
        async with DataPlane.open(chosen) as plane:
            peaks = Peaks(Path(chosen.folder))
            for number in range(ROUNDS):
                copied_s = await asyncio.to_thread(copy, source, folder / f"copy-{number}")
                began = time.perf_counter()
                with watching(peaks):
                    report = await plane.ingest(f"folder::{source}", tag=f"{name}-{number}", format="binary")
                assert len(report.stored) == count, report.failed[:3]
                took_s = time.perf_counter() - began
                ratios.append(copied_s / took_s)
                rates.append(count * size / took_s / 1e6)
                await plane.destroy(f"{name}-{number}")
    figures.add(f"ingest_{name}_vs_copy", median(ratios), "x", ">=", 0.5)
    figures.add(f"ingest_{name}_rate", median(rates), "MB/s")
    for process, peak_mb in peaks.mb.items():
        figures.add(f"ingest_{name}_memory_{process}", peak_mb, "MB")


async def main(figures: Figures) -> None:
    """Both folders."""
    await measure("5000x4KB", SMALL_FILES, SMALL_BYTES, figures)
    await measure("20x64MB", LARGE_FILES, LARGE_BYTES, figures)
