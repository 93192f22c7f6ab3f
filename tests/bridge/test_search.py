"""Indexes that follow their tags, and the passages found in them."""

import asyncio
from collections.abc import Sequence
from typing import Literal

import pytest

from agentfactory.bridge.errors import BadName, IndexFull, NoSuchBlob
from agentfactory.bridge.search.base import IndexProgress
from agentfactory.bridge.search.embedding import NgramEmbedder, Vectors
from agentfactory.bridge.search.index_store import MANIFEST
from agentfactory.bridge.search.search import PassageSearch
from agentfactory.configs.data import SearchSettings
from agentfactory.configs.errors import BadInput
from agentfactory.messages.data import BlobMeta
from tests.bridge.fake_blobs import FakeBlobs

SETTINGS = SearchSettings(embedder="ngrams", max_age_s=0.0)
PORTS = "# Ports\n\nThe bridge listens on port 5560, the cache on port 11211.\n"
COLOURS = "# Colours\n\nCharts use green for correct answers and orange for uncertainty.\n"
LIMITS = "# Limits\n\nA tool call is stopped after two seconds or 256 megabytes.\n"


@pytest.fixture
async def blobs() -> FakeBlobs:
    store = FakeBlobs()
    for name, text in (("ports.md", PORTS), ("colours.md", COLOURS), ("limits.md", LIMITS)):
        await store.text(name, text)
    return store


async def best(search: PassageSearch, question: str, tag: str = "docs") -> str:
    found = await search.search(tag, question, k=1)
    return found[0].blob if found else ""


async def test_a_question_finds_the_passage_that_answers_it(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS)
    passages = await search.search("docs", "On which port does the cache listen?", k=2)
    assert len(passages) == 2
    first = passages[0]
    assert (first.blob, first.heading, first.tag) == ("ports.md", "Ports", "docs")
    assert PORTS[first.start : first.end] == first.text
    assert first.score >= passages[1].score > 0


async def test_only_what_changed_is_read_and_embedded_again(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS)
    assert (await search.update("docs")).embedded == 3
    blobs.read.clear()
    await blobs.text("limits.md", "# Limits\n\nNow a gigabyte of zebras.\n")
    report = await search.update("docs")
    assert blobs.read == ["limits.md"]
    assert (report.embedded, report.blobs, report.passages) == (1, 3, 3)
    assert "zebras" in (await search.search("docs", "zebras", k=1))[0].text
    assert not any("256" in p.text for p in await search.search("docs", "256 megabytes", k=10))


async def test_an_unchanged_tag_writes_nothing(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS)
    await search.update("docs")
    blobs.written.clear()
    assert (await search.update("docs")).embedded == 0
    await search.search("docs", "port")
    assert blobs.written == []


async def test_a_removed_blob_leaves_the_index(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS)
    await search.update("docs")
    await blobs.delete("docs", ["ports.md"])
    report = await search.update("docs")
    assert (report.removed, report.blobs) == (1, 2)
    assert "ports.md" not in {p.blob for p in await search.search("docs", "port 5560", k=10)}


async def test_another_process_takes_the_index_as_it_is_stored(blobs: FakeBlobs) -> None:
    await PassageSearch(blobs, SETTINGS).update("docs")
    blobs.read.clear()
    other = PassageSearch(blobs, SETTINGS)
    assert await best(other, "which port for the bridge") == "ports.md"
    assert {"ports.md", "colours.md", "limits.md"}.isdisjoint(blobs.read)


async def test_what_another_process_has_indexed_is_not_embedded_again(blobs: FakeBlobs) -> None:
    one, other = PassageSearch(blobs, SETTINGS), PassageSearch(blobs, SETTINGS)
    await one.update("docs")
    await other.update("docs")
    await blobs.text("new.md", "Zebras have stripes.")
    await one.update("docs")
    assert (await other.update("docs")).embedded == 0
    assert await best(other, "zebra stripes") == "new.md"


async def test_what_is_no_text_is_left_out_and_counted(blobs: FakeBlobs) -> None:
    await blobs.put("docs", "picture", b"\x89PNG port port", BlobMeta(content_type="image/png"))
    await blobs.put("docs", "numbers.json", b'{"port": 1}', BlobMeta(content_type="application/json"))
    report = await PassageSearch(blobs, SETTINGS).update("docs")
    assert (report.not_text, report.blobs) == (1, 4)


async def test_a_text_over_the_limit_is_left_out_and_counted(blobs: FakeBlobs) -> None:
    await blobs.text("huge.txt", "word " * 300_000)
    report = await PassageSearch(blobs, SETTINGS.model_copy(update={"max_blob_mb": 1})).update("docs")
    assert (report.too_large, report.blobs) == (1, 3)


async def test_a_text_that_has_grown_over_the_limit_is_no_longer_found(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS.model_copy(update={"max_blob_mb": 1}))
    await search.update("docs")
    await blobs.text("ports.md", PORTS * 30_000)
    assert (await search.update("docs")).too_large == 1
    assert "ports.md" not in {p.blob for p in await search.search("docs", "port", k=10)}


async def test_too_many_passages_say_what_to_do(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS.model_copy(update={"max_passages": 2}))
    with pytest.raises(IndexFull, match=r"more than 2 passages.*max_passages"):
        await search.update("docs")


async def test_a_tag_without_blobs_is_an_error_that_names_it(blobs: FakeBlobs) -> None:
    with pytest.raises(NoSuchBlob, match="no blobs under the tag 'nowhere'"):
        await PassageSearch(blobs, SETTINGS).search("nowhere", "anything")


async def test_a_tag_without_text_answers_with_nothing(blobs: FakeBlobs) -> None:
    await blobs.put("pictures", "a.png", b"...", BlobMeta(content_type="image/png"))
    assert await PassageSearch(blobs, SETTINGS).search("pictures", "cat") == ()


async def test_a_destroyed_tag_takes_its_index_along(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS)
    await search.update("docs")
    await blobs.delete("docs", blobs.names("docs"))
    with pytest.raises(NoSuchBlob):
        await search.search("docs", "port")
    assert blobs.names(".index/docs") == []
    await blobs.text("again.md", PORTS)
    assert await best(search, "port") == "again.md"


async def test_a_tag_with_glob_characters_is_itself_only(blobs: FakeBlobs) -> None:
    await blobs.text("a.md", "apples", tag="[d]ocs*")
    report = await PassageSearch(blobs, SETTINGS).update("[d]ocs*")
    assert report.blobs == 1


async def test_an_index_is_not_searched_itself(blobs: FakeBlobs) -> None:
    with pytest.raises(BadName, match="holds an index"):
        await PassageSearch(blobs, SETTINGS).search(".index/docs", "port")


async def test_an_empty_question_is_refused(blobs: FakeBlobs) -> None:
    with pytest.raises(BadInput, match="empty"):
        await PassageSearch(blobs, SETTINGS).search("docs", " \n")


@pytest.mark.parametrize(
    ("lexical", "scores", "counts_more"),
    [
        ("auto", {"b.md": 2.0, "a.md": 0.5}, True),
        ("auto", {"a.md": 2.0, "b.md": 0.5}, False),
        ("auto", {}, False),
        ("auto", {"gone.md": 3.0}, False),
        ("own", {"b.md": 2.0, "a.md": 0.5}, False),
    ],
)
async def test_a_passage_of_a_text_that_the_store_finds_counts_more(
    lexical: Literal["auto", "own"], scores: dict[str, float], counts_more: bool
) -> None:
    blobs = FakeBlobs()
    for name in ("a.md", "b.md"):
        await blobs.text(name, "Heat the oven well.")
    settings = SETTINGS.model_copy(update={"lexical": lexical})
    fits: list[float] = []
    for blobs.scores in (None, scores):
        found = await PassageSearch(blobs, settings).search("docs", "oven")
        fits += [passage.score for passage in found if passage.blob == "b.md"]
    before, after = fits
    assert (after > before) is counts_more


async def test_a_store_s_search_is_a_weight_and_no_filter(blobs: FakeBlobs) -> None:
    blobs.scores = {"colours.md": 5.0}
    assert await best(PassageSearch(blobs, SETTINGS), "On which port does the cache listen?") == "ports.md"


async def test_an_index_of_another_recipe_is_made_anew_with_one_line(
    blobs: FakeBlobs, capsys: pytest.CaptureFixture[str]
) -> None:
    await PassageSearch(blobs, SETTINGS).update("docs")
    capsys.readouterr()
    other = PassageSearch(blobs, SETTINGS.model_copy(update={"passage_chars": 200, "overlap_chars": 0}))
    report = await other.update("docs")
    (line,) = "".join(capsys.readouterr()).strip().splitlines()
    assert "search index made anew" in line
    assert "passage_chars was 800 and is 200, overlap_chars was 120 and is 0" in line
    assert (report.rebuilt, report.embedded) == (True, 3)
    assert len(blobs.names(".index/docs")) == 2


class OtherEmbedder(NgramEmbedder):
    name = "other"


async def test_an_index_of_another_embedder_is_made_anew(
    blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await PassageSearch(blobs, SETTINGS).update("docs")
    monkeypatch.setattr("agentfactory.bridge.search.search.local_embedder", lambda name: OtherEmbedder())
    report = await PassageSearch(blobs, SETTINGS).update("docs")
    assert (report.rebuilt, report.embedded, report.embedder) == (True, 3, "other")
    assert "embedder was 'ngrams' and is 'other'" in "".join(capsys.readouterr())


@pytest.mark.parametrize("victim", [MANIFEST, "part-"])
@pytest.mark.parametrize("damage", [b"", b"not an index", None])
async def test_a_damaged_index_is_made_anew(blobs: FakeBlobs, victim: str, damage: bytes | None) -> None:
    await PassageSearch(blobs, SETTINGS).update("docs")
    (name,) = (name for name in blobs.names(".index/docs") if name.startswith(victim))
    if damage is None:
        await blobs.delete(".index/docs", [name])
    else:
        await blobs.put(".index/docs", name, damage)
    search = PassageSearch(blobs, SETTINGS)
    report = await search.update("docs")
    assert report.embedded == 3
    assert report.rebuilt == (victim != MANIFEST or damage is not None)
    assert await best(search, "which port") == "ports.md"


@pytest.mark.parametrize("fails", [MANIFEST, "part-"])
async def test_an_update_that_fails_leaves_the_index_before_it(blobs: FakeBlobs, fails: str) -> None:
    await PassageSearch(blobs, SETTINGS).update("docs")
    await blobs.text("ports.md", "Nothing but zebras.")
    before = await blobs.get(".index/docs", MANIFEST)
    blobs.fail_at = fails
    search = PassageSearch(blobs, SETTINGS)
    with pytest.raises(ConnectionError):
        await search.update("docs")
    assert await blobs.get(".index/docs", MANIFEST) == before
    blobs.fail_at = ""
    assert (await search.update("docs")).embedded == 1
    assert await best(search, "zebras") == "ports.md"


async def test_an_update_that_is_cut_off_goes_on_where_it_was(
    blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentfactory.bridge.search.indexing.PART_PASSAGES", 1)
    search = PassageSearch(blobs, SETTINGS)
    seen: list[IndexProgress] = []

    def watch(progress: IndexProgress) -> None:
        seen.append(progress)
        if progress.texts == 2:
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        await search.update("docs", watch)
    assert [progress.passages for progress in seen] == [1, 2]
    report = await PassageSearch(blobs, SETTINGS).update("docs")
    assert (report.embedded, report.blobs) == (2, 3)


async def test_many_small_parts_become_one(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS)
    for number in range(12):
        await blobs.text(f"n{number}.md", f"Number {number} is here.")
        await search.update("docs")
    parts = [name for name in blobs.names(".index/docs") if name.startswith("part-")]
    assert len(parts) <= 9
    report = await PassageSearch(blobs, SETTINGS).update("docs")
    assert (report.embedded, report.blobs, report.rebuilt) == (0, 15, False)


async def test_parts_that_a_crash_left_behind_are_swept_when_old(blobs: FakeBlobs) -> None:
    for name, age_s in (("part-old", 7200.0), ("part-young", 60.0)):
        info = await blobs.put(".index/docs", name, b"left behind")
        stored_at = info.stored_at - age_s
        blobs.blobs[".index/docs", name] = (info.model_copy(update={"stored_at": stored_at}), b"left behind")
    await PassageSearch(blobs, SETTINGS).update("docs")
    left = blobs.names(".index/docs")
    assert "part-old" not in left
    assert "part-young" in left


class CountingEmbedder(NgramEmbedder):
    def __init__(self) -> None:
        self.texts = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += len(texts)
        return super().embed(texts)


async def test_all_who_wait_for_the_first_index_share_its_making(
    blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = CountingEmbedder()
    monkeypatch.setattr("agentfactory.bridge.search.search.local_embedder", lambda name: embedder)
    search = PassageSearch(blobs, SETTINGS.model_copy(update={"max_age_s": 60.0}))
    found = await asyncio.gather(*(best(search, "port 5560") for _ in range(8)))
    assert found == ["ports.md"] * 8
    assert embedder.texts == 3 + 8


async def test_an_old_index_is_searched_while_a_new_one_is_made(
    blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_put = blobs.put
    entered, may = asyncio.Event(), asyncio.Event()

    async def put(tag: str, name: str, data: bytes, meta: BlobMeta | None = None) -> object:
        if name == MANIFEST and b"slow.md" in data:
            entered.set()
            await may.wait()
        return await really_put(tag, name, data, meta)

    search = PassageSearch(blobs, SETTINGS)
    await search.update("docs")
    monkeypatch.setattr(blobs, "put", put)
    await blobs.text("slow.md", "Zebras.")
    updating = asyncio.create_task(search.update("docs"))
    await entered.wait()
    assert await best(search, "port") == "ports.md"
    may.set()
    assert (await updating).embedded == 1


async def test_only_so_many_indexes_stay_in_memory(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS.model_copy(update={"open_tags": 1}))
    await blobs.text("a.md", "apples", tag="fruit")
    await search.search("docs", "port")
    await search.search("fruit", "apples")
    assert repr(search) == "<PassageSearch passages of fruit: 1>"
    assert await best(search, "port") == "ports.md"


async def test_a_sample_holds_each_passage_once_and_follows_its_seed(blobs: FakeBlobs) -> None:
    search = PassageSearch(blobs, SETTINGS)
    all_of_them = await search.sample("docs", 10)
    assert sorted(p.blob for p in all_of_them) == ["colours.md", "limits.md", "ports.md"]
    assert await search.sample("docs", 2, seed=5) == await search.sample("docs", 2, seed=5)
    assert len({(await search.sample("docs", 1, seed=n))[0].blob for n in range(30)}) == 3


async def test_bytes_that_are_no_utf8_do_not_stop_the_rest(blobs: FakeBlobs) -> None:
    await blobs.put("docs", "odd.txt", b"caf\xe9 zebras", BlobMeta(content_type="text/plain"))
    assert await best(PassageSearch(blobs, SETTINGS), "zebras") == "odd.txt"


async def test_a_text_that_changes_while_it_is_read_waits_for_the_next_update(
    blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = blobs.get

    async def changed(tag: str, name: str) -> bytes:
        data = await get(tag, name)
        return b"others" if name == "ports.md" else data

    search = PassageSearch(blobs, SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(blobs, "get", changed)
        report = await search.update("docs")
        assert (report.blobs, report.embedded) == (2, 2)
        blobs.written.clear()
        await search.update("docs")
        assert blobs.written == []
    assert (await search.update("docs")).blobs == 3
