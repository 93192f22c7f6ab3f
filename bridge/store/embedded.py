"""The embedded store: chunks beside the catalog, in the same LMDB environment."""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from .blobs import CatalogStore
from .ledger import Ledger, Txn, fetch
from .shelf import Bundle, Label, Settle

_PAGE: Final = 4096
_HEADER: Final = 16
_CHUNK_BYTES: Final = (256 << 10) - _HEADER
"""LMDB's header and a chunk fill whole pages, and all full chunks are alike, so freed pages fit the next."""
_HOLD: Final = 32
"""Chunks of one upload that go into one transaction."""
_DROP: Final = 2048
"""Chunks that are removed in one transaction: others need not wait long."""


class LedgerShelf:
    """Chunks in a ledger. A small blob is written in the transaction that commits it, and in no other."""

    chunk_bytes: int = _CHUNK_BYTES
    put_threads: int = 4

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._chunks = ledger.tables["chunks"]
        self._held: dict[str, list[tuple[bytes, bytes]]] = {}
        self._guard = threading.Lock()

    def put(self, label: Label, number: int, data: bytes) -> None:
        """Hold a chunk; with enough of them, write them."""
        row = (_key(label.version, number), data)
        with self._guard:
            held = self._held.setdefault(label.version, [])
            held.append(row)
            if len(held) < _HOLD:
                return
            del self._held[label.version]
        self._ledger.run(lambda txn: self._write(txn, held))

    def settle(self, label: Label) -> Settle:
        """Write what is held."""
        with self._guard:
            held = self._held.pop(label.version, [])
        return lambda txn: self._write(txn, held)

    def get(self, label: Label, number: int, size: int) -> bytes:
        """A chunk; nothing if it is not there."""
        with self._ledger.read() as txn:
            return fetch(txn, self._chunks, _key(label.version, number)) or b""

    def drop(self, bundles: Iterable[Bundle]) -> None:
        """Remove uploads, a number of chunks at a time."""
        keys: list[bytes] = []
        for bundle in bundles:
            with self._guard:
                self._held.pop(bundle.label.version, None)
            keys += (_key(bundle.label.version, number) for number in range(bundle.chunks))
        for at in range(0, len(keys), _DROP):
            self._ledger.run(partial(self._remove, keys=keys[at : at + _DROP]))

    def drop_orphans(self, lease: str, is_live: Callable[[str], bool]) -> int:
        """Remove uploads of a lease that no record knows."""
        with self._ledger.read() as txn:
            counts = dict(self._uploads(txn, bytes.fromhex(lease)))
        orphans = [
            Bundle(Label("", "", version, ""), count, 0)
            for version, count in counts.items()
            if not is_live(version)
        ]
        self.drop(orphans)
        return len(orphans)

    def close(self) -> None:
        """Nothing: the ledger has its own end."""

    def _uploads(self, txn: Txn, lease: bytes) -> Iterable[tuple[str, int]]:
        """Versions of a lease with the number of their chunks, one step for each version."""
        cursor = txn.cursor(self._chunks)
        found = cursor.set_range(lease)
        while found and (version := bytes(cursor.key())[:-4]).startswith(lease):
            found = cursor.set_range(version + b"\xff\xff\xff\xff")
            cursor.prev() if found else cursor.last()
            yield version.hex(), int.from_bytes(bytes(cursor.key())[-4:]) + 1
            found = cursor.next()

    def _write(self, txn: Txn, rows: list[tuple[bytes, bytes]]) -> None:
        self._ledger.require(txn, sum(_pages(len(data)) for _, data in rows))
        for key, data in rows:
            txn.put(key, data, db=self._chunks)

    def _remove(self, txn: Txn, keys: list[bytes]) -> None:
        for key in keys:
            txn.delete(key, db=self._chunks)


def open_embedded(folder: Path, max_gb: float) -> CatalogStore:
    """Open the embedded store in `folder`, which is made. Raises StoreError."""
    ledger = Ledger(folder, int(max_gb * (1 << 30)))
    try:
        return CatalogStore("embedded", ledger, LedgerShelf(ledger))
    except BaseException:
        ledger.close()
        raise


def _key(version: str, number: int) -> bytes:
    return bytes.fromhex(version) + number.to_bytes(4)


def _pages(size: int) -> int:
    return -(-(size + _HEADER) // _PAGE) * _PAGE
