"""A whole store in memory: real enough for the bridge, which takes any. And how tests use a store.

`python -m tests.bridge.fake_store SETTINGS_JSON`: the real server process over it.
"""

import fnmatch
import glob
import hashlib
import sys
import threading
import time
from collections.abc import Callable, Sequence

from agentfactory.bridge.errors import BadName, NoSuchBlob
from agentfactory.bridge.server.server import run
from agentfactory.bridge.server.settings import ServerSettings
from agentfactory.bridge.store.base import Store
from agentfactory.messages.data import BlobInfo, BlobMeta, BlobPage


class FakeWriter:
    def __init__(self, store: "FakeStore", tag: str, name: str, meta: BlobMeta) -> None:
        self._store = store
        self._key = (tag, name)
        self._meta = meta
        self._data = bytearray()
        self._open = True
        store.writers += 1

    def write(self, chunk: bytes | memoryview) -> None:
        self._data += chunk

    def commit(self) -> BlobInfo:
        self.abort()
        return self._store.keep(self._key, bytes(self._data), self._meta)

    def begin_commit(self) -> Callable[[], BlobInfo]:
        return self.commit

    def abort(self) -> None:
        if self._open:
            self._open = False
            self._store.writers -= 1


class FakeReader:
    def __init__(self, store: "FakeStore", info: BlobInfo, data: bytes) -> None:
        self.info = info
        self._store = store
        self._data = memoryview(data)
        store.readers += 1

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._data[offset : offset + size])

    def close(self) -> None:
        self._store.readers -= 1


class FakeStore:
    """Counts the writers and readers that are open; `gate` holds every write back while it is cleared."""

    kind = "memory"
    id = "memory"
    put_threads = 32

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], tuple[BlobInfo, bytes]] = {}
        self.writers = 0
        self.readers = 0
        self.puts = 0
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def put(self, tag: str, name: str, meta: BlobMeta) -> FakeWriter:
        if not tag or not name:
            raise BadName("a tag and a name are not empty")
        return FakeWriter(self, tag, name, meta)

    def keep(self, key: tuple[str, str], data: bytes, meta: BlobMeta) -> BlobInfo:
        assert self.gate.wait(120)
        with self._lock:
            self.puts += 1
            info = BlobInfo(
                tag=key[0],
                name=key[1],
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                version=str(self.puts),
                stored_at=time.time(),
                meta=meta,
            )
            self.blobs[key] = (info, data)
        return info

    def open(self, tag: str, name: str, *, digest: bool = True) -> FakeReader:
        try:
            info, data = self.blobs[tag, name]
        except KeyError:
            raise NoSuchBlob(f"there is no {name!r} under {tag!r}") from None
        return FakeReader(self, info, data)

    def stat(self, tag: str, name: str) -> BlobInfo | None:
        found = self.blobs.get((tag, name))
        return None if found is None else found[0]

    def list(self, tag_pattern: str, name_pattern: str = "*", after: str = "", limit: int = 1000) -> BlobPage:
        with self._lock:
            infos = [self.blobs[key][0] for key in sorted(self.blobs)]
        left = [
            info
            for info in infos
            if fnmatch.fnmatchcase(info.tag, tag_pattern)
            and fnmatch.fnmatchcase(info.name, name_pattern)
            and f"{info.tag}\0{info.name}" > after
        ]
        page = tuple(left[:limit])
        return BlobPage(blobs=page, next=f"{page[-1].tag}\0{page[-1].name}" if len(left) > limit else "")

    def search(self, tag: str, query: str, k: int = 10) -> None:
        return None

    def delete(self, tag: str, names: Sequence[str]) -> int:
        with self._lock:
            return sum(self.blobs.pop((tag, name), None) is not None for name in names)

    def destroy(self, tags: Sequence[str]) -> int:
        with self._lock:
            doomed = [key for key in self.blobs if key[0] in tags]
            for key in doomed:
                del self.blobs[key]
        return len(doomed)

    def close(self) -> None:
        self.closed = True


TEXT = BlobMeta(content_type="text/plain")


def put(store: Store, tag: str, name: str, data: bytes, meta: BlobMeta | None = None) -> BlobInfo:
    writer = store.put(tag, name, meta or BlobMeta())
    writer.write(data)
    return writer.commit()


def get(store: Store, tag: str, name: str, piece: int = 1 << 20) -> bytes:
    reader = store.open(tag, name)
    try:
        return b"".join(reader.read(at, piece) for at in range(0, reader.info.size, piece))
    finally:
        reader.close()


def names(store: Store, tag: str, pattern: str = "*") -> list[str]:
    return [info.name for info in store.list(glob.escape(tag), pattern).blobs]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    run(ServerSettings.model_validate_json(sys.argv[1]), FakeStore())
