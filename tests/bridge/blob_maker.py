"""A process that puts blobs into a store and says so, one line each, until it is killed.

Arguments: the kind of store, its folder, a seed. The first line says which processes belong to it.
"""

import random
import sys
from collections.abc import Iterator
from typing import NamedTuple

from bridge.store.iowarp.store import IOWarpStore
from bridge.store.opening import open_store
from configs.data import StoreSettings
from tests.bridge.blob_words import put

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
