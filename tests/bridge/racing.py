"""One of several processes that read, write, prune and delete the same few blobs as fast as they can.

The store is a log of commits for each key, in a file that all of them map. A read is stale if what it
returns was not stored at any moment since the latest commit that had been acknowledged when it began.

    python racing.py PORT FILE SEED ROUNDS
"""

import asyncio
import fcntl
import mmap
import random
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agentfactory.bridge.cache.memcached import MemcachedBackend
from agentfactory.bridge.cache.tier import CacheTier
from agentfactory.configs.data import CacheSettings

KEYS = 4
LOG = 1 << 14
"""Commits of one key."""
TASKS = 4
NUMBER = struct.Struct("<Q")
ROW = (2 + LOG) * NUMBER.size
"""Of a key: commits, those acknowledged, and then what each commit stored (0: nothing)."""
BLOB_BYTES = 200


class Log:
    """The store."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), KEYS * ROW)

    def close(self) -> None:
        self._map.close()
        self._file.close()

    @staticmethod
    def create(path: Path) -> None:
        path.write_bytes(bytes(KEYS * ROW))

    def acknowledged(self, key: int) -> int:
        return self._at(key, 1)

    def latest(self, key: int) -> int:
        count = self._at(key, 0)
        return self._at(key, 1 + count) if count else 0

    def since(self, key: int, commits: int) -> set[int]:
        """All that was stored from the last of so many commits on."""
        count = self._at(key, 0)
        stored = {self._at(key, 1 + commit) for commit in range(max(commits, 1), count + 1)}
        return stored if commits else stored | {0}

    def commit(self, key: int, value: int) -> int:
        """How many there are with it."""
        with self._locked():
            count = self._at(key, 0) + 1
            self._put(key, 1 + count, value)
            self._put(key, 0, count)
            return count

    def acknowledge(self, key: int, commits: int) -> None:
        with self._locked():
            self._put(key, 1, max(commits, self._at(key, 1)))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _at(self, key: int, number: int) -> int:
        (value,) = NUMBER.unpack_from(self._map, key * ROW + number * NUMBER.size)
        assert isinstance(value, int)
        return value

    def _put(self, key: int, number: int, value: int) -> None:
        NUMBER.pack_into(self._map, key * ROW + number * NUMBER.size, value)


def blob(value: int) -> bytes:
    return NUMBER.pack(value) * (BLOB_BYTES // NUMBER.size)


async def read(tier: CacheTier, log: Log, key: int) -> None:
    async def load() -> bytes | None:
        value = log.latest(key)
        await asyncio.sleep(0)
        return blob(value) if value else None

    floor = log.acknowledged(key)
    found, hit = await tier.read_through("t", str(key), load)
    value = NUMBER.unpack_from(found)[0] if found is not None else 0
    allowed = log.since(key, floor)
    assert value in allowed, f"read {value} of key {key} (hit: {hit}), but {sorted(allowed)} since {floor}"


async def write(tier: CacheTier, log: Log, key: int, value: int) -> None:
    async def put() -> int:
        await asyncio.sleep(0)
        commit = log.commit(key, value)
        await asyncio.sleep(0)
        return commit

    log.acknowledge(key, await tier.write_through("t", str(key), put, blob(value)))


async def delete(tier: CacheTier, log: Log, key: int) -> None:
    commit = 0

    async def remove() -> list[tuple[str, str]]:
        nonlocal commit
        commit = log.commit(key, 0)
        return [("t", str(key))]

    await tier.delete_through([("t", str(key))], remove)
    log.acknowledge(key, commit)


async def race(tier: CacheTier, log: Log, dice: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        key = dice.randrange(KEYS)
        match dice.choices(["read", "write", "delete", "prune"], [40, 4, 1, 1])[0]:
            case "read":
                await read(tier, log, key)
            case "write":
                await write(tier, log, key, dice.randrange(1, 1 << 60))
            case "delete":
                await delete(tier, log, key)
            case "prune":
                await tier.prune("t", [str(key)])


async def main(port: int, path: Path, seed: int, rounds: int) -> None:
    tier = CacheTier(CacheSettings(), [MemcachedBackend("127.0.0.1", port, 10.0)], lease_s=2)
    dice = random.Random(seed)
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(race(tier, Log(path), random.Random(dice.random()), rounds))
    statistics = tier.statistics()
    print(statistics.hits, statistics.misses, statistics.fills, statistics.lost_fills)
    await tier.aclose()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
