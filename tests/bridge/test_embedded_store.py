"""What is special to the embedded store: its limit, its one owner, its size, and damage to its files."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.errors import BlobDamaged, StoreError, StoreFull
from bridge.store.blobs import CatalogStore
from bridge.store.embedded import open_embedded
from messages.blobs import BlobMeta
from tests.bridge.blob_words import get, put

MB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    opened = open_embedded(tmp_path, 32 / 1024)
    yield opened
    opened.close()


def test_a_full_store_refuses_and_keeps_what_it_has(store: CatalogStore) -> None:
    kept: dict[str, bytes] = {}
    with pytest.raises(StoreFull, match="max_gb"):
        for number in range(100):
            data = bytes([number]) * (3 * MB)
            put(store, "t", f"{number}", data)
            kept[f"{number}"] = data
    assert len(kept) >= 8
    with pytest.raises(StoreFull):
        put(store, "t", "0", b"new" * (2 * MB))
    assert {info.name: get(store, "t", info.name) for info in store.list("t").blobs} == kept


def test_a_full_store_goes_on_after_deletes(store: CatalogStore) -> None:
    for turn in range(5):
        with pytest.raises(StoreFull):
            for number in range(100):
                put(store, "t", f"{number}", bytes([turn]) * (5 * MB - 700_000 * turn))
        assert store.destroy(["t"]) >= 4
        assert store.stat("t", "0") is None
    for number in range(27):
        put(store, "t", f"{number}", b"x" * MB)
    assert len(store.list("t").blobs) == 27


def test_a_full_store_takes_deletes_one_by_one(store: CatalogStore) -> None:
    with pytest.raises(StoreFull):
        for number in range(100_000):
            put(store, "t", f"{number}", b"x" * 200_000)
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
        barrier.wait(10)
        with pytest.raises(StoreFull):
            for _ in range(100):
                too_much.write(b"m" * MB)

    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill)
        barrier.wait(10)
        small = 0
        while not filling.done():
            try:
                put(store, "t", f"s{small}", b"s" * 100)
                small += 1
            except StoreFull:
                continue
        filling.result()
    assert len(store.list("t").blobs) >= small
    put(store, "t", "after", b"x" * (20 * MB))


def test_a_second_owner_is_refused_and_told_who_has_it(store: CatalogStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"process {os.getpid()} has this store open"):
        open_embedded(tmp_path, 1)
    other = (
        "from pathlib import Path; from bridge.store.embedded import open_embedded\n"
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
    store = open_embedded(tmp_path, 2.0)
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda n: put(store, f"t{n % 10}", f"{n:06}", b""), range(100_000), chunksize=500))
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


@pytest.mark.slow
def test_a_gibibyte_goes_through_in_bounded_memory(tmp_path: Path) -> None:
    through = (
        "import resource, zlib; from pathlib import Path; from bridge.store.embedded import open_embedded\n"
        "from messages.blobs import BlobMeta\n"
        f"store = open_embedded(Path({str(tmp_path)!r}), 2.0)\n"
        "writer = store.put('t', 'a', BlobMeta()); piece = bytes(range(256)) * 4096\n"
        "for _ in range(1024): writer.write(piece)\n"
        "assert writer.commit().size == 1 << 30\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)\n"
        "reader = store.open('t', 'a')\n"
        "assert all(reader.read(at << 20, 1 << 20) == piece for at in range(1024))\n"
        "reader.close(); assert store.delete('t', ['a']) == 1; store.close()"
    )
    found = subprocess.run([sys.executable, "-c", through], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 200, "MiB of memory while writing"
