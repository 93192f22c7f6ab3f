"""What goes in is in both tiers; what is destroyed is in none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.actors.ingestor import Ingestor
from agentfactory.bridge.errors import BadName, BridgeDown
from agentfactory.messages.data import Assimilate, Destroy, IngestReport
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem
from tests.actors.data_plane import TIMEOUT_S, Plane, error_of, settings


@pytest.fixture
def plane() -> Plane:
    return Plane()


@asynccontextmanager
async def ingestor(plane: Plane, root: Path) -> AsyncIterator[ActorRef]:
    async with ActorSystem.open("local") as system:
        yield await system.spawn(Ingestor, settings(root), plane.open, name="ingestor")
    assert plane.open_now == 0


def text(name: str, content: str) -> str:
    return f"string:{name}::{content}"


async def test_what_is_assimilated_is_in_both_tiers(plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"# a")
    async with ingestor(plane, tmp_path) as ref:
        request = Assimilate(src=(f"file::{tmp_path}/a.md", text("b", "b")), dst="docs")
        result = await ref.ask(request, timeout_s=TIMEOUT_S)
    assert result.reward == 0.10
    assert result.observation.data == IngestReport(tag="docs", stored=("a.md", "b"), stored_bytes=4)
    assert result.observation.text == "stored 2 blobs (4 bytes) under 'docs'"
    assert plane.store.named("docs") == {"a.md": b"# a", "b": b"b"}
    assert plane.cache.values == {("docs", "a.md"): b"# a", ("docs", "b"): b"b"}


async def test_without_a_tag_it_goes_to_the_ingestors_own(plane: Plane, tmp_path: Path) -> None:
    async with ingestor(plane, tmp_path) as ref:
        await ref.ask(Assimilate(src=(text("a", "x"),)), timeout_s=TIMEOUT_S)
    assert plane.store.named("mine") == {"a": b"x"}


async def test_what_is_too_large_for_the_cache_is_stored_and_its_old_value_forgotten(
    plane: Plane, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    request = Assimilate(src=(f"file::{tmp_path}/a",), format="binary")
    async with ingestor(plane, tmp_path) as ref:
        await ref.ask(request, timeout_s=TIMEOUT_S)
        (tmp_path / "a").write_bytes(bytes(200 << 10))
        await ref.ask(request, timeout_s=TIMEOUT_S)
    assert plane.store.named("mine") == {"a": bytes(200 << 10)}
    assert not plane.cache.values


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("ftp::x", "URIResolveError"),
        ("file::/etc/passwd", "URIResolveError"),
        ("mem::no/blob", "URIResolveError"),
        ("string:x.csv::a,b\n1", "BadContent"),
    ],
)
async def test_bad_input_is_an_observation_and_stores_nothing(
    plane: Plane, tmp_path: Path, uri: str, error: str
) -> None:
    async with ingestor(plane, tmp_path) as ref:
        result = await ref.ask(Assimilate(src=(text("good", "x"), uri)), timeout_s=TIMEOUT_S)
        assert error_of(result) == error
        assert not plane.store.puts
        assert (await ref.ask(Assimilate(src=(text("a", "x"),)), timeout_s=TIMEOUT_S)).reward == 0.10


async def test_a_failure_part_way_says_what_went_in_and_the_next_try_completes_it(
    plane: Plane, tmp_path: Path
) -> None:
    plane.store.fail = lambda name: BadName("no") if name == "b" else None
    request = Assimilate(src=(text("a", "x"), text("b", "y")))
    async with ingestor(plane, tmp_path) as ref:
        first = await ref.ask(request, timeout_s=TIMEOUT_S)
        plane.store.fail = lambda name: None
        second = await ref.ask(request, timeout_s=TIMEOUT_S)
    assert first.reward == -0.5
    assert first.observation.text == (
        "stored 1 blob (1 byte) under 'mine'; 1 failed; 'b' because no; doing it again completes it"
    )
    assert second.reward == 0.10
    assert second.observation.data == IngestReport(
        tag="mine", stored=("b",), unchanged=("a",), stored_bytes=1
    )


async def test_destroyed_tags_are_gone_from_both_tiers_and_others_stay(plane: Plane, tmp_path: Path) -> None:
    async with ingestor(plane, tmp_path) as ref:
        for tag in ("d*", "docs", "c"):
            await ref.ask(Assimilate(src=(text("a", "x"), text("b", "y")), dst=tag), timeout_s=TIMEOUT_S)
        result = await ref.ask(Destroy(tags=("d*", "c", "none")), timeout_s=TIMEOUT_S)
        again = await ref.ask(Destroy(tags=("c",)), timeout_s=TIMEOUT_S)
    assert result.reward == 0.05
    assert result.observation.text == "destroyed 4 blobs under 'd*', 'c', 'none', for good"
    assert {tag for tag, _ in plane.store.blobs} == {tag for tag, _ in plane.cache.values} == {"docs"}
    assert error_of(again) == "NoSuchBlob"


async def test_a_bridge_that_is_down_is_nobodys_score(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object) -> None:
        raise BridgeDown("no bridge answers")

    async with ingestor(plane, tmp_path) as ref:
        with monkeypatch.context() as patch:
            patch.setattr(plane.store, "list", down)
            with pytest.raises(BridgeDown):
                await ref.ask(Destroy(tags=("a",)), timeout_s=TIMEOUT_S)
        assert (await ref.ask(Assimilate(src=(text("a", "x"),)), timeout_s=TIMEOUT_S)).reward == 0.10


async def test_requests_run_at_the_same_time_within_one_bound(plane: Plane, tmp_path: Path) -> None:
    plane.store.hold = asyncio.Event()
    async with ingestor(plane, tmp_path) as ref:
        asks = [
            asyncio.create_task(ref.ask(Assimilate(src=(text("a", "x"),), dst=f"t{n}"), timeout_s=TIMEOUT_S))
            for n in range(20)
        ]
        async with asyncio.timeout(TIMEOUT_S):
            while plane.store.most_at_once < 2:  # noqa: ASYNC110 - the second to begin sets no event
                await asyncio.sleep(0.01)
        plane.store.hold.set()
        await asyncio.gather(*asks)
    assert 1 < plane.store.most_at_once <= 4
    assert len(plane.store.blobs) == 20


async def test_a_pool_shares_the_work(plane: Plane, tmp_path: Path) -> None:
    async with ActorSystem.open("local") as system:
        pool = await system.spawn_pool(Ingestor, settings(tmp_path), plane.open, name="ingestors", copies=3)
        assert plane.open_now == 3
        await asyncio.gather(
            *(pool.ask(Assimilate(src=(text("a", "x"),), dst=f"t{n}"), timeout_s=TIMEOUT_S) for n in range(9))
        )
    assert len(plane.store.blobs) == 9
