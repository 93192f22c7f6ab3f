"""Many blobs, bounded, whole, and all accounted for."""

import asyncio
import hashlib
import os
import random
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest

from agentfactory.bridge.errors import BadName, BridgeDown, StoreFull
from agentfactory.bridge.ingest.conversion import BadContent
from agentfactory.bridge.ingest.ingest import BATCH_BLOBS, Ingest
from agentfactory.bridge.ingest.progress import IngestProgress
from agentfactory.bridge.ingest.resolver import UriResolver
from agentfactory.bridge.ingest.sources import PendingBlob, SourceChanged
from agentfactory.configs.data import UriSettings
from agentfactory.configs.errors import CannotWrite
from agentfactory.messages.data import BlobInfo, BlobMeta, Format
from tests.bridge.fake_blobs import FakeBlobStore


@pytest.fixture
def store() -> FakeBlobStore:
    return FakeBlobStore()


async def blobs(root: Path, store: FakeBlobStore, *uris: str) -> list[PendingBlob]:
    return await UriResolver(UriSettings(roots=(str(root),)), store).resolve(uris or [f"folder::{root}"])


def write(root: Path, count: int, size: int = 40) -> dict[str, bytes]:
    made = {f"f{n:04}": random.Random(n).randbytes(size) for n in range(count)}
    for name, data in made.items():
        (root / name).write_bytes(data)
    return made


async def test_all_files_of_a_folder_are_stored_byte_for_byte(tmp_path: Path, store: FakeBlobStore) -> None:
    made = write(tmp_path, 100) | {"empty": b"", "large": os.urandom((5 << 20) + 3)}
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(made["large"])
    report = await Ingest(store, 4).put("tag", await blobs(tmp_path, store))
    assert store.named("tag") == made
    assert report.complete
    assert report.stored == tuple(sorted(made))
    assert report.stored_bytes == sum(map(len, made.values()))


async def test_what_is_there_already_is_not_sent_again(tmp_path: Path, store: FakeBlobStore) -> None:
    write(tmp_path, 10)
    ingest = Ingest(store, 4)
    await ingest.put("tag", await blobs(tmp_path, store))
    (tmp_path / "f0003").write_bytes(b"y" * 40)
    (tmp_path / "f0004").write_bytes(b"longer" * 40)
    (tmp_path / "new").write_bytes(b"")
    store.puts.clear()
    report = await ingest.put("tag", await blobs(tmp_path, store))
    assert report.stored == ("f0003", "f0004", "new")
    assert len(report.unchanged) == 8
    assert sorted(store.puts) == ["f0003", "f0004", "new"]


async def test_a_large_file_that_is_there_already_is_not_sent_again(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    write(tmp_path, 2, 3 << 20)
    ingest = Ingest(store, 2)
    await ingest.put("tag", await blobs(tmp_path, store))
    report = await ingest.put("tag", await blobs(tmp_path, store))
    assert len(report.unchanged) == 2


async def test_a_tag_is_listed_once_instead_of_asking_for_each_of_many(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    write(tmp_path, 2500, 4)
    ingest = Ingest(store, 16)
    for tag in ("t[a]g*", "tag"):  # the first is no pattern
        await ingest.put(tag, await blobs(tmp_path, store))
        store.lookups = 0
        report = await ingest.put(tag, await blobs(tmp_path, store))
        assert len(report.unchanged) == 2500
        assert store.lookups == 3


async def test_bytes_that_are_called_something_else_now_are_sent_again(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    (tmp_path / "notes").write_bytes(b"text")
    ingest = Ingest(store, 2)
    await ingest.put("tag", await blobs(tmp_path, store), "binary")
    report = await ingest.put("tag", await blobs(tmp_path, store), "text")
    assert report.stored == ("notes",)
    assert store.blobs["tag", "notes"][0].meta.content_type == "text/plain"


async def test_no_more_are_under_way_than_allowed_over_all_calls(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    write(tmp_path, 60, 100 << 10)
    ingest = Ingest(store, 3)
    planned = await blobs(tmp_path, store)
    await asyncio.gather(*(ingest.put(f"tag{n}", planned) for n in range(3)))
    assert len(store.blobs) == 180
    assert 1 < store.most_at_once <= 3


async def test_one_that_fails_is_named_and_the_others_are_stored(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    write(tmp_path, 50)
    store.fail = lambda name: BadName("not this one") if name == "f0007" else None
    report = await Ingest(store, 4).put("tag", await blobs(tmp_path, store))
    (failed,) = report.failed
    assert (failed.name, failed.reason) == ("f0007", "not this one")
    assert len(report.stored) == 49


@pytest.mark.parametrize("error", [BridgeDown("nobody answers"), StoreFull("full")])
async def test_a_store_that_takes_no_more_ends_it_and_a_second_run_completes_it(
    tmp_path: Path, store: FakeBlobStore, error: BridgeDown | StoreFull
) -> None:
    made = write(tmp_path, 300)
    store.fail = lambda name: error if len(store.blobs) >= 100 else None
    ingest = Ingest(store, 4)
    first = await ingest.put("tag", await blobs(tmp_path, store))
    assert len(first.stored) == 100
    assert store.settled
    assert len(store.puts) <= 100 + 4 * BATCH_BLOBS
    assert {blob.reason for blob in first.failed} == {str(error), f"not tried: {error}"}
    assert sorted([*first.stored, *(blob.name for blob in first.failed)]) == sorted(made)
    store.fail = lambda name: None
    second = await ingest.put("tag", await blobs(tmp_path, store))
    assert (len(second.stored), len(second.unchanged), second.complete) == (200, 100, True)
    assert store.named("tag") == made


@pytest.mark.parametrize("size", [10, 3 << 20])
@pytest.mark.parametrize("change", ["write", "unlink"])
async def test_a_file_that_changed_is_reported_and_the_old_blob_stays(
    tmp_path: Path, store: FakeBlobStore, size: int, change: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(size))
    os.utime(path, (1, 1))
    ingest = Ingest(store, 2)
    await ingest.put("tag", await blobs(tmp_path, store))
    path.write_bytes(b"a" * (size - 1))
    planned = await blobs(tmp_path, store)
    if change == "write":
        path.write_bytes(b"b" * size)
    else:
        path.unlink()
    report = await ingest.put("tag", planned)
    assert "changed while it was read" in report.failed[0].reason or "any more" in report.failed[0].reason
    assert store.named("tag") == {"x": bytes(size)}


class Wrapping(FakeBlobStore):
    """Says in its own words that the bytes did not come."""

    async def put(
        self,
        tag: str,
        name: str,
        data: bytes | AsyncIterator[bytes | memoryview],
        meta: BlobMeta | None = None,
    ) -> BlobInfo:
        try:
            return await super().put(tag, name, data, meta)
        except SourceChanged as error:
            raise BadName("the put was aborted") from error


async def test_the_reason_is_the_change_whatever_the_way_to_the_store_makes_of_it(tmp_path: Path) -> None:
    store = Wrapping()
    (tmp_path / "x").write_bytes(bytes(3 << 20))
    planned = await blobs(tmp_path, store)
    os.truncate(tmp_path / "x", 5)
    report = await Ingest(store, 2).put("tag", planned)
    assert "it had 3145728 bytes and has 5 now" in report.failed[0].reason


async def test_a_broken_table_among_many_leaves_no_trace(tmp_path: Path, store: FakeBlobStore) -> None:
    write(tmp_path, 100)
    (tmp_path / "good.csv").write_bytes(b"a\n1\n")
    (tmp_path / "z.csv").write_bytes(b"a,b\n1\n")
    with pytest.raises(BadContent, match=r"z\.csv' cannot be read as CSV"):
        await Ingest(store, 4).put("tag", await blobs(tmp_path, store), "arrow")
    assert not store.puts


async def test_what_is_not_text_among_many_leaves_no_trace(tmp_path: Path, store: FakeBlobStore) -> None:
    for n in range(100):
        (tmp_path / str(n)).write_bytes(b"\xff" if n == 80 else b"a")
    await store.put("other", "blob", b"\xff")
    for uri in (f"folder::{tmp_path}", "mem::other/blob"):
        with pytest.raises(BadContent, match="is not UTF-8"):
            await Ingest(store, 4).put("tag", await blobs(tmp_path, store, uri), "text")
    assert store.puts == ["blob"]


async def test_tables_from_everywhere_become_arrow_and_the_rest_keeps_its_bytes(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n1\n")
    (tmp_path / "b.md").write_bytes(b"# b")
    await store.put("other", "c.jsonl", b'{"c":1}\n')
    uris = [f"folder::{tmp_path}", "mem::other/c.jsonl", "string:d.csv::d\n1\n"]
    planned = await blobs(tmp_path, store, *uris)
    ingest = Ingest(store, 4)
    report = await ingest.put("tag", planned, "arrow")
    assert report.stored == ("a.csv", "b.md", "c.jsonl", "d.csv")
    kinds = {name: store.blobs["tag", name][0].meta.content_type for name in report.stored}
    arrow = "application/vnd.apache.arrow.file"
    assert kinds == {"a.csv": arrow, "b.md": "text/markdown", "c.jsonl": arrow, "d.csv": arrow}
    for name in ("a.csv", "c.jsonl", "d.csv"):
        assert pa.ipc.open_file(store.named("tag")[name]).read_all().to_pylist() == [{name[0]: 1}]
    assert (await ingest.put("tag", planned, "arrow")).unchanged == report.stored
    assert not list(tmp_path.glob("agentfactory-*"))


async def test_an_arrow_blob_is_not_converted_again(tmp_path: Path, store: FakeBlobStore) -> None:
    await Ingest(store, 4).put("a", await blobs(tmp_path, store, "string:x.csv::x\n1\n"), "arrow")
    await Ingest(store, 4).put("b", await blobs(tmp_path, store, "mem::a/x.csv"), "arrow")
    assert store.named("a") == store.named("b")


async def test_a_table_is_kept_byte_for_byte_beside_its_arrow_file_and_goes_with_it_where_it_is_copied(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    table = b'id,"x"\r\n007,"a"\r\n'
    (tmp_path / "x.csv").write_bytes(table)
    ingest = Ingest(store, 4)
    report = await ingest.put("a", await blobs(tmp_path, store), "arrow")
    assert (report.stored, report.stored_bytes) == (("x.csv",), len(store.named("a")["x.csv"]))
    assert store.named(".original/a") == {"x.csv": table}
    assert store.blobs["a", "x.csv"][0].meta.original == hashlib.sha256(table).hexdigest()
    await ingest.put("b", await blobs(tmp_path, store, "mem::a/x.csv"), "binary")
    assert store.named(".original/b") == {"x.csv": table}
    (tmp_path / "x.csv").write_bytes(table.replace(b'"', b""))
    assert (await ingest.put("a", await blobs(tmp_path, store), "arrow")).stored == ("x.csv",)
    assert store.named(".original/a") == {"x.csv": table.replace(b'"', b"")}
    await ingest.put("c", await blobs(tmp_path, store), "csv")
    assert store.named(".original/c") == {}


@pytest.mark.parametrize("form", ["binary", "text", "csv"])
async def test_an_original_goes_once_its_name_holds_other_bytes(
    tmp_path: Path, store: FakeBlobStore, form: Format
) -> None:
    (tmp_path / "x.csv").write_bytes(b"a\n007\n")
    (tmp_path / "y.csv").write_bytes(b"a\n1\n")
    ingest = Ingest(store, 4)
    await ingest.put("a", await blobs(tmp_path, store), "arrow")
    await ingest.put("a", await blobs(tmp_path, store, "string:x.csv::other"), form)
    assert store.named("a")["x.csv"] == b"other"
    assert store.named(".original/a") == {"y.csv": b"a\n1\n"}


async def test_an_original_stays_while_what_was_to_replace_it_is_not_stored(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    (tmp_path / "x.csv").write_bytes(b"a\n007\n")
    ingest = Ingest(store, 4)
    await ingest.put("a", await blobs(tmp_path, store), "arrow")
    store.fail = lambda name: StoreFull("full")
    await ingest.put("a", await blobs(tmp_path, store, "string:x.csv::other"), "binary")
    assert store.named(".original/a") == {"x.csv": b"a\n007\n"}


class NoOriginals(FakeBlobStore):
    """Has no room for originals."""

    async def put(
        self,
        tag: str,
        name: str,
        data: bytes | AsyncIterator[bytes | memoryview],
        meta: BlobMeta | None = None,
    ) -> BlobInfo:
        if tag.startswith(".original/"):
            raise BadName("no such place")
        return await super().put(tag, name, data, meta)


async def test_no_arrow_file_is_stored_without_its_original(tmp_path: Path) -> None:
    store = NoOriginals()
    (tmp_path / "x.csv").write_bytes(b"a\n1\n")
    (tmp_path / "y.md").write_bytes(b"#")
    report = await Ingest(store, 4).put("a", await blobs(tmp_path, store), "arrow")
    assert report.stored == ("y.md",)
    assert [(failed.name, failed.reason) for failed in report.failed] == [
        ("x.csv", "its original: no such place")
    ]


async def test_a_blob_of_the_store_is_copied_without_being_fetched_if_it_is_there(
    tmp_path: Path, store: FakeBlobStore
) -> None:
    await store.put("other", "x", b"abc" * 1000)
    ingest = Ingest(store, 4)
    for reads in (1, 1):
        await ingest.put("tag", await blobs(tmp_path, store, "mem::other/x"))
        assert store.reads == reads
    assert store.named("tag") == {"x": b"abc" * 1000}


async def test_no_room_for_temporary_files_is_said(tmp_path: Path, store: FakeBlobStore) -> None:
    planned = await blobs(tmp_path, store, "string:x.csv::x\n1\n")
    with pytest.raises(CannotWrite, match="no temporary folder can be made"):
        await Ingest(store, 1, temp_folder=str(tmp_path / "nowhere")).put("tag", planned, "arrow")


async def test_progress_is_told_and_ends_with_the_totals(tmp_path: Path, store: FakeBlobStore) -> None:
    write(tmp_path, 5)
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    seen: list[IngestProgress] = []
    await Ingest(store, 2).put("tag", await blobs(tmp_path, store), "binary", seen.append)
    total = 200 + (3 << 20)
    assert seen[-1] == IngestProgress(6, 6, total, total)
    assert [step.bytes for step in seen] == sorted(step.bytes for step in seen)
    assert [step.blobs for step in seen] == sorted(step.blobs for step in seen)


async def test_who_gives_up_stops_it(tmp_path: Path, store: FakeBlobStore) -> None:
    write(tmp_path, 50)
    store.hold = asyncio.Event()
    ingest = Ingest(store, 4)
    planned = await blobs(tmp_path, store)
    task = asyncio.create_task(ingest.put("tag", planned))
    await store.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.at_once == 0
    store.hold = None
    assert (await ingest.put("tag", planned)).complete


class Counting(FakeBlobStore):
    """Keeps digests only."""

    async def put(
        self,
        tag: str,
        name: str,
        data: bytes | AsyncIterator[bytes | memoryview],
        meta: BlobMeta | None = None,
    ) -> BlobInfo:
        digest = hashlib.sha256()
        size = 0
        assert not isinstance(data, bytes)
        async for chunk in data:
            size += len(chunk)
            digest.update(chunk)
        info = BlobInfo(tag=tag, name=name, size=size, sha256=digest.hexdigest(), version="0", stored_at=0.0)
        self.blobs[tag, name] = (info, b"")
        return info


async def test_large_files_take_little_memory(tmp_path: Path) -> None:
    store = Counting()
    for n in range(4):
        with (tmp_path / str(n)).open("wb") as file:
            file.truncate(64 << 20)
    planned = await blobs(tmp_path, store)
    tracemalloc.start()
    try:
        report = await Ingest(store, 4).put("tag", planned)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.stored_bytes == 256 << 20
    assert most < 24 << 20
