"""What is special to the store on IOWarp: the real runtime, its tags and search, and its death."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from agentfactory.bridge.errors import BadName, BlobDamaged, StoreError, StoreFull
from agentfactory.bridge.store.factory import choose_store, open_store
from agentfactory.bridge.store.iowarp.client import DELETE, FIND, PUT
from agentfactory.bridge.store.iowarp.runtime import installed
from agentfactory.bridge.store.iowarp.store import IOWarpStore, open_iowarp
from agentfactory.configs.data import StoreSettings
from agentfactory.configs.errors import BadInput
from agentfactory.messages.data import BlobMeta
from tests.bridge.fake_store import TEXT, get, put
from tests.bridge.store_writer_process import LIMIT_S, ROOT, WriterProcess

pytestmark = pytest.mark.skipif(installed() is None, reason="iowarp-core is not installed")
MB = 1 << 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IOWarpStore]:
    opened = open_iowarp(tmp_path_factory.mktemp("iowarp"), 2.0)
    yield opened
    opened.close()


def in_iowarp(store: IOWarpStore, tag: str) -> list[str]:
    """Names of IOWarp's own blobs under a tag of IOWarp's own."""
    return sorted(name for _, name in store.warp.ask([FIND, tag, ".*"])[0][1:])  # type: ignore[misc]


def test_blobs_lie_in_iowarp_under_their_own_tags_and_names(store: IOWarpStore) -> None:
    info = put(store, "docs é", "a/b.md", b"x" * (2 * MB + 1), TEXT)
    assert in_iowarp(store, "docs é") == [f"a/b.md@{info.version}.{n}.txt" for n in range(3)]
    put(store, "docs é", "a/b.md", b"short")
    store.delete("docs é", ["a/b.md"])
    assert in_iowarp(store, "docs é") == []


def test_search_finds_text_by_its_words(store: IOWarpStore) -> None:
    put(store, "texts", "fox.txt", b"the quick brown fox jumps over the lazy dog", TEXT)
    put(store, "texts", "ice.txt", b"arctic sea ice extent fell to a record low", TEXT)
    put(store, "texts", "cream.txt", b"ice cream with no polar region in it, ice ice", TEXT)
    put(store, "texts", "fox.bin", b"the quick brown fox")
    put(store, "others", "fox.txt", b"another fox", TEXT)
    assert [match.info.name for match in store.search("texts", "arctic ice")] == ["ice.txt", "cream.txt"]
    assert [match.info.name for match in store.search("texts", "fox")] == ["fox.txt"]
    assert len(store.search("texts", "arctic ice", k=1)) == 1
    assert store.search("texts", "walrus") == []
    assert store.search("no such tag", "fox") == []


def test_search_follows_puts_and_deletes(store: IOWarpStore) -> None:
    long = "n" * 3000
    put(store, "moving", long, b"a walrus", TEXT)
    put(store, "moving", "line\nbreak", b"a walrus and a seal", TEXT)
    assert {match.info.name for match in store.search("moving", "walrus")} == {long, "line\nbreak"}
    put(store, "moving", long, b"a penguin", TEXT)
    assert [match.info.name for match in store.search("moving", "walrus")] == ["line\nbreak"]
    assert [match.info.name for match in store.search("moving", "penguin")] == [long]
    store.delete("moving", ["line\nbreak"])
    assert store.search("moving", "walrus") == []


@pytest.mark.parametrize("odd", ["a.*", "(", "[x]", "a|b", "\\", "{2}", "$^+?", "t\n", "é" * 3000])
def test_search_takes_the_tag_as_it_is(store: IOWarpStore, odd: str) -> None:
    put(store, odd, "a", b"one walrus", TEXT)
    assert [match.info.tag for match in store.search(odd, "walrus")] == [odd]


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_search_refuses_a_number_that_makes_no_sense(store: IOWarpStore, k: int) -> None:
    with pytest.raises(BadInput, match="k"):
        store.search("texts", "fox", k)


@pytest.mark.parametrize("query", ["", "a\ud800", "x" * 20_000])
def test_search_refuses_what_is_no_text(store: IOWarpStore, query: str) -> None:
    with pytest.raises(BadName, match="query"):
        store.search("texts", query)


def test_a_request_that_iowarp_does_not_take_harms_no_other(store: IOWarpStore) -> None:
    before = store.warp.restarts
    with pytest.raises(StoreError, match="IOWarp"):
        store.warp.ask([PUT, "t", 5, False], b"x")
    with pytest.raises(StoreError, match="IOWarp"):
        store.warp.ask(["no such word"])
    put(store, "t", "a", b"x")
    assert store.warp.restarts == before


@pytest.mark.parametrize("victim", ["runtime", "client"])
def test_a_death_is_noticed_and_nothing_is_lost(store: IOWarpStore, victim: str) -> None:
    for number in range(5):
        put(store, "deaths", f"{number}", bytes([number]) * 300_000)
    writer = store.put("deaths", "through", BlobMeta())
    writer.write(b"1" * (3 * MB))
    reader = store.open("deaths", "4")
    before = store.warp.restarts
    link = store.warp._link
    assert link is not None
    pid = store.warp.runtime.pid if victim == "runtime" else link.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    writer.write(b"2" * (3 * MB))
    writer.commit()
    assert reader.read(0, MB) == b"\4" * 300_000
    reader.close()
    assert get(store, "deaths", "through") == b"1" * (3 * MB) + b"2" * (3 * MB)
    assert [get(store, "deaths", f"{n}") for n in range(5)] == [bytes([n]) * 300_000 for n in range(5)]
    assert store.warp.restarts == before + 1


def test_a_death_under_many_puts_and_gets_is_not_felt(store: IOWarpStore) -> None:
    going = threading.Semaphore(0)

    def work(number: int) -> None:
        for turn in range(30):
            data = bytes([number, turn]) * 20_000
            put(store, "busy", f"{number}-{turn}", data)
            assert get(store, "busy", f"{number}-{turn}") == data
            going.release()

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, number) for number in range(8)]
        for _ in range(40):
            assert going.acquire(timeout=LIMIT_S)
        assert store.warp.runtime.pid is not None
        os.kill(store.warp.runtime.pid, signal.SIGKILL)
        for each in working:
            each.result(LIMIT_S)
    assert len(store.list("busy").blobs) == 240


@pytest.mark.parametrize("harm", ["changed", "shortened", "gone"])
def test_bytes_that_iowarp_lost_are_found(store: IOWarpStore, harm: str) -> None:
    info = put(store, "harmed", harm, b"A" * (2 * MB))
    second = f"{harm}@{info.version}.1"
    store.warp.ask([DELETE, "harmed", second, False])
    if harm != "gone":
        store.warp.ask([PUT, "harmed", second, False], b"B" * (MB if harm == "changed" else 100))
    reader = store.open("harmed", harm)
    assert reader.read(0, MB) == b"A" * MB
    with pytest.raises(BlobDamaged, match="not what was put"):
        reader.read(MB + 5, 10)
    reader.close()


def test_iowarp_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    maker = WriterProcess("iowarp", tmp_path, 1)
    runtime = os.pidfd_open(maker.runtime_pid)
    maker.kill()
    assert select.select([runtime], [], [], LIMIT_S)[0], "the runtime lives on"
    os.close(runtime)


def test_two_stores_run_side_by_side_and_a_full_one_goes_on_after_deletes(
    store: IOWarpStore, tmp_path: Path
) -> None:
    small = open_iowarp(tmp_path, 10 / 1024)
    put(store, "t", "a", b"in the first")
    for number in range(10):
        put(small, "t", f"{number}", b"x" * MB)
    for _ in range(3):
        with pytest.raises(StoreFull, match="max_gb"):
            put(small, "t", "more", b"x" * MB)
        with pytest.raises(StoreFull):
            put(small, "t", "more", b"x")
    assert small.delete("t", ["0", "1"]) == 2
    put(small, "t", "a", b"y" * (2 * MB))
    assert get(small, "t", "a") == b"y" * (2 * MB)
    assert get(store, "t", "a") == b"in the first"
    small.close()


def test_what_a_killed_process_left_half_done_is_cleared_away(tmp_path: Path) -> None:
    half_done = (
        "from pathlib import Path; from agentfactory.bridge.store.iowarp.store import open_iowarp\n"
        "from agentfactory.messages.data import BlobMeta; from tests.bridge.fake_store import put\n"
        f"store = open_iowarp(Path({str(tmp_path)!r}), 0.1)\n"
        "put(store, 't', 'whole', b'x' * 3_000_000)\n"
        "writer = store.put('t', 'half', BlobMeta()); writer.write(b'y' * 6_000_000)\n"
        "print('half', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", half_done], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], LIMIT_S)[0]
    assert process.stdout.readline() == b"half\n"
    process.kill()
    process.communicate(timeout=LIMIT_S)
    store = open_iowarp(tmp_path, 0.1)
    assert [name.partition("@")[0] for name in in_iowarp(store, "t")] == ["whole"] * 3
    assert get(store, "t", "whole") == b"x" * 3_000_000
    store.close()


def test_a_folder_stays_of_the_kind_that_it_was_made_as(tmp_path: Path) -> None:
    open_store(StoreSettings(kind="embedded", folder=str(tmp_path), max_gb=0.1)).close()
    with pytest.raises(StoreError, match="made as store"):
        open_store(StoreSettings(kind="iowarp", folder=str(tmp_path)))
    chosen = StoreSettings(kind="auto", folder=str(tmp_path), max_gb=0.1)
    assert choose_store(chosen) == ("embedded", "the folder was made as embedded")
    store = open_store(chosen)
    assert store.kind == "embedded"
    store.close()


def test_an_iowarp_that_does_not_start_is_said_and_binds_the_folder_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "iowarp" / "config.yaml").mkdir(parents=True)  # it cannot be configured here
    chosen = StoreSettings(kind="iowarp", folder=str(tmp_path), max_gb=0.1)
    assert choose_store(chosen) == ("iowarp", "asked for")
    with pytest.raises(StoreError, match=r"IOWarp does not start: (.|\n)*\nMend that, or .*--store embedded"):
        open_store(chosen)
    store = open_store(StoreSettings(kind="embedded", folder=str(tmp_path), max_gb=0.1))
    automatic = chosen.model_copy(update={"kind": "auto"})
    assert (store.kind, choose_store(automatic).kind) == ("embedded", "embedded")
    store.close()


def test_a_client_that_stands_still_is_replaced_also_under_a_send(tmp_path: Path) -> None:
    store = open_iowarp(tmp_path, 0.1, outage_s=3.0)
    put(store, "t", "a", b"x" * MB)
    link = store.warp._link
    assert link is not None
    os.kill(link.process.pid, signal.SIGSTOP)
    with pytest.raises(StoreError, match="does not answer"):
        put(store, "t", "b", b"y" * (20 * MB))  # more than the socket's buffer takes
    put(store, "t", "b", b"y" * MB)
    assert get(store, "t", "a") == b"x" * MB
    assert store.warp.restarts == 1
    store.close()


def test_iowarp_is_taken_where_somebody_asked_for_it_or_its_folder_is_there(tmp_path: Path) -> None:
    chosen = StoreSettings(folder=str(tmp_path))
    assert choose_store(chosen) == ("embedded", "nobody asked for iowarp")
    (tmp_path / "kind").write_text("iowarp\n")
    assert choose_store(chosen) == ("iowarp", "the folder was made as iowarp")


def test_an_iowarp_that_has_just_started_takes_little_memory(tmp_path: Path) -> None:
    store = open_iowarp(tmp_path, 0.1)
    try:
        resident = psutil.Process(store.warp.runtime.pid).memory_info().rss
    finally:
        store.close()
    assert resident < 150 << 20


def test_a_request_in_an_outage_fails_with_the_reason_before_its_client_gives_up(tmp_path: Path) -> None:
    store = open_iowarp(tmp_path, 0.1, outage_s=0.5)
    put(store, "t", "a", b"x" * 100_000)
    config = tmp_path / "iowarp" / "config.yaml"
    config.unlink()
    config.mkdir()  # so it does not come back
    assert store.warp.runtime.pid is not None
    os.kill(store.warp.runtime.pid, signal.SIGKILL)
    with pytest.raises(StoreError, match="IOWarp is down and does not come back"):
        get(store, "t", "a")
    store.close()
