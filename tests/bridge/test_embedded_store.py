"""What is special to the embedded store: its limit, its one owner, its size, and damage to its files."""

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from agentfactory.bridge.errors import BlobDamaged, StoreError, StoreFull
from agentfactory.bridge.store.base import Store
from agentfactory.bridge.store.catalog import BlobRecord
from agentfactory.bridge.store.catalog_store import CatalogStore
from agentfactory.bridge.store.embedded import open_embedded
from agentfactory.bridge.store.lmdb_writer import GroupCommitWriter, Txn
from agentfactory.bridge.store.names import blob_key
from agentfactory.messages.data import BlobInfo, BlobMeta, BlobPage
from tests.bridge.fake_store import digest, get, put

MB = 1 << 20


def fill(store: Store, size: int, first: int = 0) -> None:
    """Put blobs `0`, `1`, … of that size until something stops it."""
    for number in itertools.count():
        put(store, "t", f"{number}", bytes([(first + number) % 256]) * size)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    opened = open_embedded(tmp_path, 32 / 1024)
    yield opened
    opened.close()


def test_a_full_store_refuses_and_keeps_what_it_has(store: CatalogStore) -> None:
    with pytest.raises(StoreFull, match="max_gb"):
        fill(store, 3 * MB)
    with pytest.raises(StoreFull):
        put(store, "t", "0", b"new" * (2 * MB))
    held = {info.name: get(store, "t", info.name) for info in store.list("t").blobs}
    assert held == {f"{number}": bytes([number]) * (3 * MB) for number in range(len(held))}
    assert 8 <= len(held) <= 10


def test_a_full_store_goes_on_after_deletes(store: CatalogStore) -> None:
    for turn in range(5):
        with pytest.raises(StoreFull):
            fill(store, 5 * MB - 700_000 * turn, turn)
        assert store.destroy(["t"]) >= 4
        assert store.stat("t", "0") is None
    for number in range(27):
        put(store, "t", f"{number}", b"x" * MB)
    assert len(store.list("t").blobs) == 27


def test_a_full_store_takes_deletes_one_by_one(store: CatalogStore) -> None:
    with pytest.raises(StoreFull):
        fill(store, 200_000)
    held = store.list("t", limit=10_000).blobs
    assert sum(store.delete("t", [info.name]) for info in held) == len(held)
    put(store, "t", "a", b"x" * (20 * MB))
    assert get(store, "t", "a") == b"x" * (20 * MB)


def test_replacing_a_blob_over_and_over_does_not_fill_the_store(store: CatalogStore) -> None:
    for turn in range(60):
        put(store, "t", "a", bytes([turn]) * (4 * MB))
    assert get(store, "t", "a") == bytes([59]) * (4 * MB)


def test_a_put_that_does_not_fit_does_not_harm_another(store: CatalogStore) -> None:
    too_much = store.put("t", "much", BlobMeta())
    barrier = threading.Barrier(2)

    def fill() -> None:
        barrier.wait(120)
        with pytest.raises(StoreFull):
            too_much.write(b"m" * (100 * MB))

    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill)
        barrier.wait(120)
        small = 0
        while not filling.done():
            try:
                put(store, "t", f"s{small}", b"s" * 100)
                small += 1
            except StoreFull:
                continue
        filling.result()
    page, found = store.list("t"), 0
    while page.blobs:
        found += len(page.blobs)
        page = store.list("t", after=page.next) if page.next else BlobPage(blobs=())
    assert found >= small
    put(store, "t", "after", b"x" * (20 * MB))


def test_a_second_owner_is_refused_and_told_who_has_it(store: CatalogStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"process {os.getpid()} has this store open"):
        open_embedded(tmp_path, 1)
    other = (
        "from pathlib import Path; from agentfactory.bridge.store.embedded import open_embedded\n"
        f"open_embedded(Path({str(tmp_path)!r}), 1)"
    )
    found = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, timeout=30)
    assert found.returncode == 1
    assert f"process {os.getpid()} has this store open" in found.stderr
    put(store, "t", "a", b"still mine")


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file"):
        open_embedded(tmp_path / "file" / "store", 1)


def test_bytes_that_changed_on_disk_are_found(tmp_path: Path) -> None:
    store = open_embedded(tmp_path, 0.1)
    put(store, "t", "a", b"A" * (2 * MB))
    put(store, "t", "b", b"B" * 100)
    store.close()
    path = tmp_path / "catalog" / "data.mdb"
    data = path.read_bytes()
    path.write_bytes(re.sub(b"A{1000}", b"A" * 500 + b"X" + b"A" * 499, data, count=1))
    store = open_embedded(tmp_path, 0.1)
    with pytest.raises(BlobDamaged, match="'t'/'a'"):
        get(store, "t", "a")
    assert get(store, "t", "b") == b"B" * 100
    store.close()


def test_a_hundred_thousand_blobs_are_listed_by_pages(tmp_path: Path) -> None:
    ledger = GroupCommitWriter(tmp_path, 1 << 30)
    for number in range(10):
        ledger.run(partial(_write_many, ledger=ledger, tag=f"t{number}"))
    ledger.close()
    store = open_embedded(tmp_path, 1.0)
    seen = 0
    after = ""
    while True:
        page = store.list("t*", after=after, limit=10_000)
        seen += len(page.blobs)
        after = page.next
        if not after:
            break
    assert seen == 100_000
    assert len(store.list("t3", "04*", limit=10_000).blobs) == 1000
    store.close()


def _write_many(txn: Txn, ledger: GroupCommitWriter, tag: str) -> None:
    """Ten thousand records at once, as the catalog writes them one by one."""
    info = BlobInfo(tag=tag, name="-", size=0, sha256=digest(b""), version="00" * 12, stored_at=0.0)
    row = BlobRecord(info=info, chunk_bytes=1).model_dump_json()
    for number in range(10_000):
        name = f"{number:05}"
        txn.put(blob_key(tag, name), row.replace('"-"', f'"{name}"').encode(), db=ledger.tables["blobs"])


@pytest.mark.slow
def test_a_gibibyte_goes_through_in_bounded_memory(tmp_path: Path) -> None:
    through = (
        "from pathlib import Path; from agentfactory.bridge.store.embedded import open_embedded\n"
        "from agentfactory.messages.data import BlobMeta\n"
        f"store = open_embedded(Path({str(tmp_path)!r}), 2.0)\n"
        "writer = store.put('t', 'a', BlobMeta()); piece = bytes(range(256)) * 4096\n"
        "status = Path('/proc/self/status')\n"
        "def own_mb(): return int(status.read_text().split('RssAnon:')[1].split()[0]) >> 10\n"
        "before = own_mb(); most = 0\n"
        "for _ in range(1024): writer.write(piece); most = max(most, own_mb())\n"
        "assert writer.commit().size == 1 << 30\n"
        "print(most - before, flush=True)\n"
        "reader = store.open('t', 'a')\n"
        "assert all(reader.read(at << 20, 1 << 20) == piece for at in range(1024))\n"
        "reader.close(); assert store.delete('t', ['a']) == 1; store.close()"
    )
    found = subprocess.run([sys.executable, "-c", through], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 64, "MiB of memory while writing"
