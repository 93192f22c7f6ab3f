"""A process that puts blobs into a store and says so, one line each, until it is killed.

Arguments: the kind of store, its folder, a seed. The first line says which processes belong to it.
"""

import random
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agentfactory.bridge.store.factory import open_store
from agentfactory.bridge.store.iowarp.store import IOWarpStore
from agentfactory.configs.data import StoreSettings
from tests.bridge.fake_store import put

LIMIT_S = 180
ROOT = Path(__file__).parents[2]
SIZES = (0, 30, 1000, 70_000, 1_500_000, 9_000_000)
WEIGHTS = (1, 10, 20, 5, 3, 1)


class Deed(NamedTuple):
    """What the process does next: put `data`, or delete if there is none."""

    name: str
    data: bytes | None


def deeds(seed: int) -> Iterator[Deed]:
    """Puts, puts over what is there, and deletes, always the same for a seed."""
    chance = random.Random(seed)
    while True:
        name = f"{seed}-{chance.randrange(60)}"
        if chance.random() < 0.1:
            yield Deed(name, None)
        else:
            yield Deed(name, chance.randbytes(chance.choices(SIZES, WEIGHTS)[0]))


class WriterProcess:
    """The process, as its killer sees it."""

    def __init__(self, kind: str, folder: Path, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bridge.store_writer_process", kind, str(folder), str(seed)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.runtime_pid = int(self.line().split()[1])

    def line(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], LIMIT_S)[0], "the process says nothing"
        return self.process.stdout.readline()

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.line() == "done\n"

    def kill(self) -> int:
        """Kill it; how many more deeds it had acknowledged."""
        self.process.kill()
        assert self.process.stdout is not None
        with self.process.stdout as said:
            more = said.read().count("done\n")
        self.process.wait(LIMIT_S)
        return more


def main() -> None:
    kind, folder, seed = sys.argv[1:]
    store = open_store(StoreSettings(kind=kind, folder=folder, max_gb=2.0))
    pid = store.warp.runtime.pid if isinstance(store, IOWarpStore) else 0
    print(f"ready {pid}", flush=True)
    for deed in deeds(int(seed)):
        if deed.data is None:
            store.delete("t", [deed.name])
        else:
            put(store, "t", deed.name, deed.data)
        print("done", flush=True)


if __name__ == "__main__":
    main()
