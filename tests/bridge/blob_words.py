"""What the tests of stores say often."""

import glob
import hashlib

from agentfactory.bridge.store.base import Store
from agentfactory.messages.blobs import BlobInfo, BlobMeta

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
