"""Blueprints and the pipeline of the first AgentFactory: they load as they are, and run.

`first_factory/` has their keys and values: the blueprints in full and as its overview shows one
(`short_agent`), and the pipeline.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from agentfactory.actors.agents.base import NotUnderstood
from agentfactory.cli import main
from agentfactory.cluster.agents.blueprint_registry import BlueprintRegistry
from agentfactory.cluster.agents.loader import rules_of
from agentfactory.configs.data import BridgeSettings, CacheSettings, DataSettings, StoreSettings, UriSettings
from agentfactory.configs.errors import SettingsError
from agentfactory.data import DataPlane
from agentfactory.messages.data import Action, QueryResult
from agentfactory.pipelines import PipelineJob, run_pipeline
from agentfactory.sessions import open_session
from tests.cluster.test_data_plane import free_port

FILES = Path(__file__).parent / "first_factory"
NAMES = sorted(path.stem for path in (FILES / "blueprints").glob("*.yaml"))
BY_RULES = ("iowarp_agent", "iowarp_distributed", "my_test_agent", "short_agent")


@pytest.fixture
def registry(tmp_path: Path) -> BlueprintRegistry:
    own = tmp_path / ".agentfactory" / "blueprints"
    shutil.copytree(FILES / "blueprints", own)
    return BlueprintRegistry(own=own)


def settings(folder: Path) -> DataSettings:
    return DataSettings(
        folder=str(folder / "plane"),
        bridge=BridgeSettings(endpoints=(f"tcp://127.0.0.1:{free_port()}",)),
        store=StoreSettings(kind="embedded", folder=str(folder / "store")),
        cache=CacheSettings(kind="embedded"),
        uris=UriSettings(roots=(str(folder),)),
    )


def test_each_blueprint_loads_in_place_of_the_shipped_one_of_its_name(registry: BlueprintRegistry) -> None:
    assert registry.problems() == ()
    own = [each for each in registry.listed() if not each.shipped]
    assert [each.blueprint.name for each in own] == NAMES
    for each in own:
        assert each.blueprint.data_settings(DataSettings()).uris.schemes[:1] == ("file",)


def test_blueprints_lists_them_on_one_line_each(
    registry: BlueprintRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["blueprints"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split("\t")[0] for row in rows] == NAMES
    assert {len(row.split("\t")) for row in rows} == {5}


def test_rules_with_conditions_are_rules_of_that_agent(registry: BlueprintRegistry) -> None:
    rules = rules_of(registry.get("iowarp_agent"))
    assert rules.own == (
        ("ingest", "assimilate"), ("find", "query"), ("get", "retrieve"), ("delete", "prune"),
    )  # fmt: skip
    assert rules.read("delete a.md from docs").action == Action.of("prune", tag="docs", blob_names=("a.md",))
    with pytest.raises(NotUnderstood, match="delete which blobs, of which tag"):
        rules.read("delete docs")
    assert rules.read("destroy docs").action == Action.of("destroy", tags=("docs",))


@pytest.mark.parametrize("name", BY_RULES)
async def test_an_agent_by_rules_works_on_every_scheme(
    name: str, registry: BlueprintRegistry, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("# hello")
    steps = {
        f"ingest file::{tmp_path}/in/a.md into tag: docs": 0.1,
        f"ingest folder::{tmp_path}/in as more": 0.1,
        "load mem::docs/a.md as again": 0.1,
        "find docs": 0.1,
        "get a.md from tag: docs": 0.3,
        "get b.md from docs": -0.5,
        "prune a.md from docs": 0.05,
        "get a.md from docs": 0.2,
    }
    async with DataPlane.open(settings(tmp_path)) as data, open_session(registry.get(name), data) as session:
        for command, reward in steps.items():
            step = await session.command(command)
            assert step.result.reward == reward, (command, step.result.observation.text)


async def test_the_pipeline_runs_to_its_end_without_asking_a_model(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("# hello")
    file = str(FILES / "pipelines" / "ingest_retrieve.yaml")
    async with DataPlane.open(settings(tmp_path)) as data:
        await data.ingest("string:other.md::#", tag="dogs")
        result = await run_pipeline(file, data, {"src": f"folder::{tmp_path}/in", "dst": "d[o]cs"})
    assert [(step.step, step.state) for step in result.steps] == [
        ("ingest_docs", "done"), ("query_results", "done"), ("retrieve_data", "done"),
    ]  # fmt: skip
    last = result.steps[-1]
    assert last.action == Action.of("query", tag_pattern="d[[]o]cs")  # that tag to the letter
    assert last.result is not None
    assert isinstance(last.result.observation.data, QueryResult)
    assert [each.blob_name for each in last.result.observation.data.matches] == ["a.md"]


async def test_the_steps_of_the_overview_run_once_they_have_agents(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("# hello")
    whole = tmp_path / "steps.yaml"
    whole.write_text(
        "pipeline_id: steps\nagents: {ingestor: ingestor_agent, retriever: retriever_agent}\nsteps:\n"
        '  - {id: ingest_docs, agent: ingestor, inputs: {src: "${pipeline.src}", dst: "${pipeline.dst}"}}\n'
        "  - id: query_results\n    agent: retriever\n"
        '    inputs: {tag_pattern: "${ingest_docs.tag}"}\n    depends_on: [ingest_docs]\n'
        "  - {id: retrieve_data, agent: retriever, depends_on: [query_results]}\n"
    )
    given = {"src": f"folder::{tmp_path}/in", "dst": "docs"}
    prepared = PipelineJob(str(whole), given, state=tmp_path / "states")
    async with DataPlane.open(settings(tmp_path)) as data:
        assert (await prepared.run(data)).complete


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ("[{condition: task_mentions_x, action: query}]", "task_contains_WORD, found 'task_mentions_x'"),
        ("[{condition: task_contains_, action: query}]", "expected task_contains_WORD"),
        ("[{condition: 3, action: query}]", "expected task_contains_WORD, found 3"),
        ("[{condition: task_contains_get, action: gte}]", "found 'gte'"),
    ],
)  # fmt: skip
def test_a_condition_that_is_none_is_named(tmp_path: Path, rules: str, complaint: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text(
        f"blueprint: {{name: mine}}\nagent: {{type: rule_based, rules: {rules}}}\n"
    )
    with pytest.raises(SettingsError, match=r"mine\.yaml: agent\.rules\.0") as caught:
        BlueprintRegistry(own=tmp_path / "own").get("mine")
    assert complaint in str(caught.value)


UNREADABLE = {
    "nothing": b"",
    "bytes": b"\xff\xfe\x00",
    "a_list": b"- a",
    "torn": b"agent: [",
    "deep": b"[" * 2_000,
    "numbers_as_keys": b"1: 2",
    "a_number": b"blueprint: 3",
    "other_keys": b"blueprint: {name: x, 7: y}",
    "no_name": b"agent: {type: rule_based}",
    "schemes": b"blueprint: {name: x}\nuri_resolver: {supported_schemes: ['fiel::']}",
    "itself": b"blueprint: {name: x}\nagent: &a {type: rule_based, rules: [*a]}",
    "many": b"a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
    b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n"
    b"blueprint: {name: *f}",
    "large": b"#" * (2 << 20),
}  # fmt: skip


def test_files_that_are_no_blueprints_are_listed_with_the_reason_and_hide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / ".agentfactory" / "blueprints"
    shutil.copytree(FILES / "blueprints", own)
    for name, content in UNREADABLE.items():
        (own / f"{name}.yaml").write_bytes(content)
    (own / "folder.yaml").mkdir()
    os.mkfifo(own / "pipe.yaml")
    (own / "nowhere.yaml").symlink_to(tmp_path / "gone")
    wrong = {*UNREADABLE, "folder", "pipe", "nowhere"}

    assert main(["blueprints"]) == 0
    out, err = capsys.readouterr()
    rows = {row.split("\t")[0]: row.split("\t") for row in out.splitlines()[1:]}
    assert err == ""
    assert rows.keys() == {*NAMES, *wrong}
    assert {name for name, row in rows.items() if row[1] == "unreadable"} == wrong
    for name in wrong:
        assert f"{name}.yaml" in rows[name][4]
        assert len(rows[name][4]) < 1_000

    assert main(["blueprints", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed["problems"]) == len(wrong)
    assert [each["name"] for each in listed["blueprints"]] == NAMES
