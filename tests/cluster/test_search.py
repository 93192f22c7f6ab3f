"""Search over the real bridge process: on both transports, in both stores, and what becomes of the index."""

from pathlib import Path
from typing import Literal

import pytest
import yaml

from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.errors import NoSuchBlob
from agentfactory.bridge.search.search import PassageSearch
from agentfactory.bridge.store.iowarp.runtime import installed
from agentfactory.cluster.data_plane.tiers import spawn_data_actors, spawn_searcher
from agentfactory.configs.data import SearchSettings
from agentfactory.configs.errors import BadInput
from agentfactory.data import DataPlane
from agentfactory.messages.data import Assimilate, IngestReport, Retrieve, Retrieved
from agentfactory.messages.search import SamplePassages, Search, SearchResult, UpdateIndex
from agentfactory.runtime.system import ActorSystem
from tests.agentfactory.test_cli import call, refused
from tests.cluster.test_data_plane import running, settings

TIMEOUT_S = 180
PORTS = "# Ports\n\nThe bridge listens on port 5560.\n"
TRAVEL = "# Travel\n\nThe ferry to the island leaves at nine.\n"
Transport = Literal["local", "ray"]


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return request.param


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "ports.md").write_text(PORTS)
    (folder / "travel.md").write_text(TRAVEL)
    return folder


async def test_what_one_actor_ingests_others_retrieve_and_search(
    transport: Transport, tmp_path: Path, docs: Path
) -> None:
    chosen = settings(tmp_path)
    async with running(chosen), ActorSystem.open(transport) as system:
        ingestor, retriever = await spawn_data_actors(system, chosen)
        searcher = await spawn_searcher(system, chosen)
        put = await ingestor.ask(Assimilate(src=(f"folder::{docs}",), dst="docs"), timeout_s=TIMEOUT_S)
        got = await retriever.ask(Retrieve(tag="docs", blob_name="ports.md"), timeout_s=TIMEOUT_S)
        found = await searcher.ask(Search(tag="docs", question="Which port?", k=1), timeout_s=TIMEOUT_S)
        drawn = await searcher.ask(SamplePassages(tag="docs", count=9), timeout_s=TIMEOUT_S)
        report = await searcher.ask(UpdateIndex(tag="docs"), timeout_s=TIMEOUT_S)
        with pytest.raises(NoSuchBlob, match="no blobs under the tag 'nowhere'"):
            await searcher.ask(Search(tag="nowhere", question="x"), timeout_s=TIMEOUT_S)
    assert isinstance(put.observation.data, IngestReport)
    assert set(put.observation.data.stored) == {"ports.md", "travel.md"}
    assert isinstance(got.observation.data, Retrieved)
    assert got.observation.data.content == PORTS.encode()
    (passage,) = found.passages
    assert (passage.blob, passage.heading, passage.text) == ("ports.md", "Ports", PORTS.strip())
    assert {passage.blob for passage in drawn.passages} == {"ports.md", "travel.md"}
    assert (report.blobs, report.embedded) == (2, 0)


async def test_passages_are_found_and_follow_what_is_put_and_destroyed(tmp_path: Path, docs: Path) -> None:
    chosen = settings(tmp_path)
    chosen = chosen.model_copy(update={"search": chosen.search.model_copy(update={"max_age_s": 0.0})})
    async with running(chosen), DataPlane.open(chosen) as data:
        await data.ingest(f"folder::{docs}", tag="docs")
        assert [p.blob for p in await data.search("docs", "When does the ferry leave?", k=1)] == ["travel.md"]
        (docs / "travel.md").write_text(TRAVEL.replace("ferry", "airship"))
        await data.ingest(f"folder::{docs}", tag="docs")
        assert "airship" in (await data.search("docs", "airship", k=1))[0].text
        assert await data.destroy("docs") == 2
        assert [blob.tag async for blob in data.list()] == []
        with pytest.raises(NoSuchBlob, match="nothing to search"):
            await data.search("docs", "ferry")


async def test_the_index_is_kept_in_the_store(tmp_path: Path, docs: Path) -> None:
    chosen = settings(tmp_path)
    async with running(chosen):
        async with DataPlane.open(chosen) as data:
            await data.ingest(f"folder::{docs}", tag="docs")
            await data.search("docs", "ferry")
            made = [(blob.name, blob.version) async for blob in data.list(".index/docs")]
        async with DataPlane.open(chosen) as data:
            assert [p.blob for p in await data.search("docs", "port", k=1)] == ["ports.md"]
            assert [(blob.name, blob.version) async for blob in data.list(".index/docs")] == made
    assert len(made) == 2


async def test_a_question_that_is_none_is_bad_input_and_harms_nobody(tmp_path: Path, docs: Path) -> None:
    chosen = settings(tmp_path)
    wrong = [(" ", 5, "empty"), ("a\udcff", 5, "UTF-8"), ("port", 0, "1 to 100"), ("port", 101, "1 to 100")]
    async with running(chosen), DataPlane.open(chosen) as data:
        await data.ingest(f"folder::{docs}", tag="docs")
        for question, k, why in wrong:
            with pytest.raises(BadInput, match=why):
                await data.search("docs", question, k)
        assert len(await data.search("docs", "port")) == 2


async def test_a_store_without_a_search_of_its_own_says_so(tmp_path: Path, docs: Path) -> None:
    chosen = settings(tmp_path)
    async with running(chosen), BridgeClient(chosen.bridge) as client:
        await client.put("docs", "a", b"port")
        assert await client.search("docs", "port") is None


@pytest.mark.skipif(installed() is None, reason="iowarp-core is not installed")
async def test_iowarp_s_own_search_is_reached_over_the_bridge_and_counts(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "bread.md").write_text(f"# Bread\n\nYeast {'rises ' * 20}.\n\n# Oven\n\nHeat the oven well.\n")
    (docs / "kiln.md").write_text(f"# Clay\n\nGlaze {'melts ' * 20}.\n\n# Oven\n\nHeat the oven well.\n")
    chosen = settings(tmp_path, store="iowarp")
    auto = SearchSettings(embedder="ngrams", passage_chars=150, overlap_chars=0)
    own = auto.model_copy(update={"lexical": "own"})
    async with running(chosen), BridgeClient(chosen.bridge) as client, DataPlane.open(chosen) as data:
        await data.ingest(f"folder::{docs}", tag="docs")
        matches = await client.search("docs", "oven glaze", k=5)
        assert matches is not None
        assert [match.info.name for match in matches] == ["kiln.md", "bread.md"]
        assert matches[0].score > matches[1].score > 0
        assert await client.search("docs", "walrus") == ()
        with pytest.raises(BadInput, match="query"):
            await client.search("docs", "")
        raised, plain = [await fit_of_the_kiln_s_oven(client, lexical) for lexical in (auto, own)]
    assert raised > plain


async def fit_of_the_kiln_s_oven(client: BridgeClient, lexical: SearchSettings) -> float:
    """By words alone it fits no better than the oven of the other text, which stands first."""
    found = await PassageSearch(client, lexical).search("docs", "oven glaze")
    (passage,) = (passage for passage in found if (passage.blob, passage.heading) == ("kiln.md", "Oven"))
    return passage.score


def test_the_command_shows_passages_and_refuses_with_one_sentence(tmp_path: Path, docs: Path) -> None:
    preset = tmp_path / "small.yaml"
    preset.write_text(
        yaml.safe_dump({"extends": "laptop", "data": settings(tmp_path).model_dump(mode="json")})
    )
    options = ("--preset", str(preset))
    assert "no data plane is up" in refused("search", "docs", "port", *options)
    try:
        assert call("up", *options).returncode == 0
        assert call("ingest", f"folder::{docs}", "--tag", "docs", *options).returncode == 0
        shown = call("search", "docs", "When does the ferry leave?", "-k", "1", *options)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout == f"[1] docs/travel.md (0-{len(TRAVEL) - 1})  Travel\n{TRAVEL}\n"
        found = SearchResult.model_validate_json(
            call("search", "docs", "port", "-k", "1", "--json", *options).stdout
        )
        assert [passage.blob for passage in found.passages] == ["ports.md"]
        assert "no blobs under the tag 'nowhere'" in refused("search", "nowhere", "port", *options)
        assert "1 to 100" in refused("search", "docs", "port", "-k", "0", *options)
    finally:
        assert call("down", *options).returncode == 0
