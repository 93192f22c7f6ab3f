"""What every store promises, over each of them."""

import itertools
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentfactory.bridge.errors import BadName, NoSuchBlob, StoreError
from agentfactory.bridge.store.base import MAX_NAME_BYTES, Store
from agentfactory.bridge.store.factory import open_store
from agentfactory.bridge.store.iowarp.runtime import installed
from agentfactory.configs.data import StoreSettings
from agentfactory.configs.errors import BadInput
from agentfactory.messages.data import BlobMeta
from tests.bridge.fake_store import digest, get, names, put

_NUMBERS = itertools.count()
iowarp = pytest.param(
    "iowarp", marks=pytest.mark.skipif(installed() is None, reason="iowarp-core is not installed")
)


@pytest.fixture(scope="module", params=["embedded", iowarp])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp(request.param)
    opened = open_store(StoreSettings(kind=request.param, folder=str(folder), max_gb=4.0))
    yield opened
    opened.close()


@pytest.fixture
def tag() -> str:
    return f"tag{next(_NUMBERS)}."


ODD_NAMES = [
    "a\nb",
    "nul\0nul",
    "\0",
    "\0\0",
    "..",
    "../../etc/passwd",
    "/",
    " ",
    "x" * 10_000,
    "é" * 8000,
    "日本語/🤖",
    "*?[a]",
    "a@b.0.txt",
    "%s{}\\",
    "\x7f\x80\u2028",
]


@pytest.mark.parametrize("size", [0, 1, 1000, 262_127, 262_128, 262_129, 1 << 20, (1 << 20) + 1, 9_000_000])
def test_bytes_come_back_as_they_were_put(store: Store, tag: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    info = put(store, tag, "a", data)
    assert (info.size, info.sha256) == (size, digest(data))
    assert get(store, tag, "a", 300_000) == data
    assert store.stat(tag, "a") == info


def test_any_part_of_a_blob_can_be_read(store: Store, tag: str) -> None:
    data = random.Random(1).randbytes(3_000_000)
    put(store, tag, "a", data)
    reader = store.open(tag, "a")
    parts = [(0, 1), (262_000, 300), (1 << 20, 1), (2_999_999, 5), (3_000_000, 1), (100, 2_500_000)]
    for offset, size in parts:
        assert reader.read(offset, size) == data[offset : offset + size]
    reader.close()


def test_a_blob_may_be_written_in_pieces_of_any_size(store: Store, tag: str) -> None:
    data = random.Random(2).randbytes(2_500_000)
    writer = store.put(tag, "a", BlobMeta())
    at = 0
    for size in itertools.cycle([0, 1, 70_000, 262_128, 1_200_000]):
        writer.write(memoryview(data)[at : at + size])
        at += size
        if at >= len(data):
            break
    writer.commit()
    assert get(store, tag, "a") == data


@pytest.mark.parametrize("odd", ODD_NAMES)
def test_any_name_is_taken_as_it_is(store: Store, tag: str, odd: str) -> None:
    put(store, tag + odd, odd, odd.encode())
    assert get(store, tag + odd, odd) == odd.encode()
    assert names(store, tag + odd) == [odd]
    assert store.delete(tag + odd, [odd]) == 1
    assert store.stat(tag + odd, odd) is None


def test_names_that_differ_only_far_behind_are_different_blobs(store: Store, tag: str) -> None:
    long = "x" * 9000
    for end in "abc":
        put(store, tag + long, long + end, end.encode())
        put(store, tag + long + end, long, b"tag " + end.encode())
    assert [get(store, tag + long, long + end) for end in "abc"] == [b"a", b"b", b"c"]
    assert sorted(names(store, tag + long)) == [long + end for end in "abc"]
    assert store.destroy([tag + long]) == 3
    assert [get(store, tag + long + end, long) for end in "abc"] == [b"tag a", b"tag b", b"tag c"]


@pytest.mark.parametrize("bad", ["", "x" * (MAX_NAME_BYTES + 1), "é" * (MAX_NAME_BYTES // 2 + 1), "a\ud800"])
def test_a_name_that_cannot_be_kept_is_refused_in_one_sentence(store: Store, tag: str, bad: str) -> None:
    for bad_tag, bad_name in [(tag, bad), (bad, "a")]:
        with pytest.raises(BadName, match=r"empty|bytes in UTF-8|surrogate"):
            store.put(bad_tag, bad_name, BlobMeta())
        with pytest.raises(BadName) as caught:
            store.open(bad_tag, bad_name)
        assert len(str(caught.value)) < 200


def test_what_is_said_of_a_blob_is_kept(store: Store, tag: str) -> None:
    meta = BlobMeta(content_type="text/x-odd; é", source="file::/a", dtype="<f4", shape=(3, 4))
    assert put(store, tag, "a", b"x" * 48, meta).meta == meta
    assert store.list(tag).blobs[0].meta == meta


def test_a_put_replaces_the_blob_under_a_new_version(store: Store, tag: str) -> None:
    first = put(store, tag, "a", b"one")
    second = put(store, tag, "a", b"one")
    assert first.version != second.version
    put(store, tag, "a", b"two!")
    assert get(store, tag, "a") == b"two!"
    assert len(store.list(tag).blobs) == 1


def test_a_put_is_invisible_until_it_is_committed(store: Store, tag: str) -> None:
    writer = store.put(tag, "a", BlobMeta())
    writer.write(b"x" * 5_000_000)
    assert store.stat(tag, "a") is None
    with pytest.raises(NoSuchBlob):
        store.open(tag, "a")
    writer.commit()
    assert get(store, tag, "a") == b"x" * 5_000_000


def test_an_aborted_put_leaves_what_was_there(store: Store, tag: str) -> None:
    put(store, tag, "a", b"old")
    writer = store.put(tag, "a", BlobMeta())
    writer.write(b"n" * 9_000_000)
    writer.abort()
    writer.abort()
    with pytest.raises(StoreError, match="over"):
        writer.commit()
    assert get(store, tag, "a") == b"old"


def test_abort_after_commit_does_nothing(store: Store, tag: str) -> None:
    writer = store.put(tag, "a", BlobMeta())
    writer.write(b"kept")
    writer.commit()
    writer.abort()
    assert get(store, tag, "a") == b"kept"


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_an_open_reader_goes_on_reading_the_bytes_it_was_opened_on(store: Store, tag: str, size: int) -> None:
    put(store, tag, "a", b"1" * size)
    reader = store.open(tag, "a")
    put(store, tag, "a", b"2" * size)
    put(store, tag, "a", b"3" * size)
    assert store.delete(tag, ["a"]) == 1
    assert b"".join(reader.read(at, 1 << 20) for at in range(0, size, 1 << 20)) == b"1" * size
    reader.close()
    reader.close()
    with pytest.raises(StoreError, match="closed"):
        reader.read(0, 1)


def test_deleting_counts_what_was_there(store: Store, tag: str) -> None:
    for name in "abc":
        put(store, tag, name, b"x")
    assert store.delete(tag, ["a", "nothing", "b", "a"]) == 2
    assert names(store, tag) == ["c"]
    assert store.delete(tag, []) == 0


def test_destroying_a_tag_leaves_its_neighbours(store: Store, tag: str) -> None:
    neighbours = [tag + "x", tag + "\0", tag[:-1]]
    for each in [tag, *neighbours]:
        for number in range(3):
            put(store, each, f"n{number}", b"x")
    assert store.destroy([tag, tag, "no such tag"]) == 3
    assert [len(names(store, each)) for each in [tag, *neighbours]] == [0, 3, 3, 3]


def test_a_listing_is_ordered_by_tag_and_name(store: Store, tag: str) -> None:
    tags = [tag, tag + "\0", tag + "a", tag + "b", tag + "é"]
    some = ["\0", "\0b", "Z", "a", "a\0", "a\0b", "aa", "b", "é", "日"]
    places = [(each, name) for each in tags for name in some]
    for each, name in random.Random(3).sample(places, len(places)):
        put(store, each, name, b"x")
    listed = [(info.tag, info.name) for info in store.list(tag + "*").blobs]
    assert listed == sorted(places)


def test_pages_hold_everything_once(store: Store, tag: str) -> None:
    all_names = {f"{number:03}" + "y" * (number % 600) for number in range(120)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: put(store, tag, name, b""), all_names))
    for limit in (1, 7, 119, 120, 121):
        seen: list[str] = []
        after = ""
        while True:
            page = store.list(tag, after=after, limit=limit)
            assert len(page.blobs) <= limit
            seen += [info.name for info in page.blobs]
            after = page.next
            if not after:
                break
        assert seen == sorted(all_names)


def test_a_cursor_holds_although_its_blob_is_gone(store: Store, tag: str) -> None:
    for name in "abcd":
        put(store, tag, name, b"")
    page = store.list(tag, limit=2)
    store.delete(tag, ["b", "c"])
    assert [info.name for info in store.list(tag, after=page.next).blobs] == ["d"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["A", "a", "a.md", "ab.md", "b[1]", "é.md"]),
        ("a", ["a"]),
        ("a*", ["a", "a.md", "ab.md"]),
        ("?.md", ["a.md", "é.md"]),
        ("[ab]*", ["a", "a.md", "ab.md", "b[1]"]),
        ("[!a]*", ["A", "b[1]", "é.md"]),
        ("b[[]1]", ["b[1]"]),
        ("b[1]", []),
        ("*.md", ["a.md", "ab.md", "é.md"]),
        ("", []),
        ("[", []),
    ],
)
def test_patterns_find_names(store: Store, tag: str, pattern: str, expected: list[str]) -> None:
    for name in ["a", "a.md", "ab.md", "A", "b[1]", "é.md"]:
        put(store, tag, name, b"")
    assert names(store, tag, pattern) == expected
    put(store, tag + "2", "a", b"")
    assert [info.name for info in store.list(tag[:-1] + "?", pattern).blobs] == expected


@pytest.mark.parametrize(("after", "limit"), [("?", 1), ("é", 1), ("", 0), ("", 10_001), ("A" * 2000, 1)])
def test_a_page_that_makes_no_sense_is_refused(store: Store, after: str, limit: int) -> None:
    with pytest.raises(BadInput, match=r"after|limit"):
        store.list("*", after=after, limit=limit)


def test_many_threads_may_put_and_read_the_same_names(store: Store, tag: str) -> None:
    def work(number: int) -> None:
        own = random.Random(number).randbytes(1000)
        for turn in range(10):
            put(store, tag, f"own{number}", own)
            assert get(store, tag, f"own{number}") == own
            put(store, tag, "shared", bytes([number]) * (300_000 + turn))
            shared = get(store, tag, "shared")
            assert shared == shared[:1] * len(shared)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(names(store, tag)) == 9


def test_commits_that_have_begun_end_in_their_order(store: Store, tag: str) -> None:
    writers = [store.put(tag, f"n{number % 3}", BlobMeta()) for number in range(30)]
    for number, writer in enumerate(writers):
        writer.write(b"%d" % number)
    waits = [writer.begin_commit() for writer in writers]
    versions = {wait().version for wait in reversed(waits)}
    assert len(versions) == 30
    assert [get(store, tag, f"n{number}") for number in range(3)] == [b"27", b"28", b"29"]
    for writer in writers:
        writer.abort()
    assert len(names(store, tag)) == 3


def test_readers_race_with_writers_and_never_see_a_mixture(store: Store, tag: str) -> None:
    put(store, tag, "a", b"\0" * 700_000)
    done = threading.Event()

    def write() -> None:
        for number in range(1, 20):
            put(store, tag, "a", bytes([number]) * 700_000)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set() and not writing.done():
            seen = get(store, tag, "a", 50_000)
            assert seen == seen[:1] * 700_000
        writing.result()


def test_a_blob_reads_the_same_after_the_store_was_closed_and_opened(tmp_path: Path) -> None:
    settings = StoreSettings(kind="embedded", folder=str(tmp_path), max_gb=0.1)
    store = open_store(settings)
    put(store, "t", "a", b"x" * 600_000)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        put(store, "t", "b", b"")
    with pytest.raises(StoreError, match="closed"):
        store.list("*")
    again = open_store(settings)
    assert get(again, "t", "a") == b"x" * 600_000
    again.close()
