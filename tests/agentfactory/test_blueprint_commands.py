"""Blueprints and their versions on the command line, as a person types them."""

import json
from pathlib import Path

import pytest
import yaml

from agentfactory.cli import main
from agentfactory.cluster.agents.blueprint_registry import BlueprintRegistry
from agentfactory.configs.agents.blueprints import read_blueprint
from agentfactory.configs.agents.evaluation import EvaluationSuite
from tests.agentfactory.test_cli import call, refused
from tests.agentfactory.test_documents import ROOT, blocks

OWN = Path(".agentfactory") / "blueprints"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints; on standard error where it is refused."""
    assert main(words) == code
    out, err = capsys.readouterr()
    return out if code < 2 else err


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence with which it is refused."""
    (line,) = run(capsys, *words, code=2).splitlines()
    return line


def test_what_is_shipped_is_listed_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = run(capsys, "blueprints").splitlines()
    assert head.split("\t") == ["name", "type", "works with", "from", "description"]
    assert [row.split("\t")[0] for row in rows] == [
        "coordinator_agent",
        "ingestor_agent",
        "iowarp_agent",
        "iowarp_distributed",
        "retriever_agent",
    ]


def test_the_documented_session_of_create_show_and_delete_works(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "create", "my_agent", "--type", "llm", "--model", "llama3.2")
    shown = yaml.safe_load(run(capsys, "show", "my_agent"))
    assert shown["agent"] == {"type": "llm", "model": "llama3.2"}
    assert "\tllm\tollama llama3.2\tyou" in run(capsys, "blueprints")
    run(capsys, "update", "my_agent", "agent.temperature=0.2", "cache.hosts=[{port: 11212}]")
    full = json.loads(run(capsys, "show", "my_agent", "--json"))
    assert (full["agent"]["temperature"], full["cache"]["hosts"][0]["port"]) == (0.2, 11212)
    assert "--revision 2` brings it back" in run(capsys, "delete", "my_agent")
    assert "there is no blueprint 'my_agent'" in refuse(capsys, "show", "my_agent")


def test_what_was_deleted_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "create", "mine", "--type", "claude", "--set", "agent.default_tag=docs")
    run(capsys, "update", "mine", "agent.default_tag=")
    run(capsys, "delete", "mine")
    assert run(capsys, "show", "mine", "--revisions") == "mine: 1, 2\n"
    run(capsys, "update", "mine", "--revision", "1")
    assert run(capsys, "show", "mine") == run(capsys, "show", "mine", "--revision", "1")
    assert yaml.safe_load(run(capsys, "show", "mine"))["agent"]["default_tag"] == "docs"


def test_a_blueprint_builds_on_a_shipped_one(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "create", "mine", "--from", "ingestor_agent", "--backend", "claude", "--model", "opus")
    agent = yaml.safe_load(run(capsys, "show", "mine"))["agent"]
    assert (agent["type"], agent["backend"], agent["model"]) == ("ingestor", "claude", "opus")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["create", "mine"], "say its --type"),
        (["create", "mine", "--type", "lmm"], "unknown type 'lmm'; did you mean 'llm'?"),
        (["create", "mine", "--type", "llm", "--set", "agent.modle=x"], "did you mean 'model'?"),
        (["create", "mine", "--type", "llm", "--model", "./nowhere"], "there is no model folder './nowhere'"),
        (["create", "mine", "--type", "lora", "--set", "agent.run=runs/x"], "there is no run in the folder"),
        (["create", "mine", "--type", "llm", "--set", "agent.model"], "expected KEY=VALUE, such as"),
        (["create", "mine", "--type", "llm", "--set", "agent.model=["], "the value is not valid YAML"),
        (["create", "iowarp_agent", "--type", "llm"], "ships with the project and is not replaced"),
        (["create", "a/b", "--type", "llm"], "cannot name a blueprint"),
        (["update", "iowarp_agent", "agent.type=llm"], "ships with the project and stays as it is"),
        (["update", "iowarp_agent"], "say key.path=value"),
        (["update", "iowarp_agent", "a=1", "a=2"], "a is said twice"),
        (["delete", "iowarp_agent"], "ships with the project and stays as it is"),
        (["show", "iowarp_agnt"], "did you mean 'iowarp_agent'?"),
        (["show", "iowarp_agent", "--revision", "3"], "there is no other revision of it"),
        (["versions", "nobody"], "there is no blueprint 'nobody'"),
        (["promote", "nobody"], "there is no blueprint 'nobody'"),
        (["promote", "iowarp_agent", "--suite", "none.yaml"], "none.yaml: there is no such settings file"),
        (["rollback", "iowarp_agent"], "cannot be rolled back: no version is deployed"),
        (["rollback", "nobody"], "there is no blueprint 'nobody'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert complaint in refuse(capsys, *words)
    assert not list(OWN.glob("*.yaml"))


def test_a_name_is_made_once(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "create", "mine", "--type", "claude")
    assert "there is a blueprint 'mine' already" in refuse(capsys, "create", "mine", "--type", "llm")


def test_files_that_cannot_be_used_are_named_and_hide_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "create", "mine", "--type", "claude")
    (OWN / "twin.yaml").write_bytes((OWN / "mine.yaml").read_bytes())
    (OWN / "broken.yaml").write_text("agent: [")
    listed = json.loads(run(capsys, "blueprints", "--json"))
    assert len(listed["blueprints"]) == 5
    broken, twice = listed["problems"]
    assert "the name 'mine' stands in two blueprints" in twice
    assert "broken.yaml: line " in broken
    rows = [row.split("\t") for row in run(capsys, "blueprints").splitlines()[-2:]]
    assert [row[:4] for row in rows] == [[name, "unreadable", "", "you"] for name in ("broken", "mine")]
    assert [row[4] for row in rows] == [broken, twice]


def test_the_folder_is_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    Path("here.yaml").write_text("extends: laptop\nagents: {blueprints: elsewhere}\n")
    run(capsys, "create", "mine", "--type", "claude", "--preset", "here.yaml")
    assert Path("elsewhere/mine.yaml").is_file()


def test_an_agent_is_promoted_and_rolled_back(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "create", "mine", "--type", "rule_based")
    assert "no versions yet" in run(capsys, "versions", "mine")
    assert run(capsys, "promote", "mine").endswith("mine: version 1 is in use\n")
    run(capsys, "update", "mine", "agent.rules={query: destroy}")
    failed = run(capsys, "promote", "mine", code=1)
    assert "16/17 of commands right, 90% needed, 1 harmful: failed" in failed
    assert "'query docs': expected query, found destroy" in failed
    assert failed.endswith("mine: version 1 is in use\n")
    run(capsys, "update", "mine", "agent.rules={query: null, fetch: retrieve}")
    assert json.loads(run(capsys, "promote", "mine", "--json"))["deployed"]
    assert run(capsys, "rollback", "mine") == "mine: version 1 is in use\n"
    rows = [line.split("\t")[:2] for line in run(capsys, "versions", "mine").splitlines()[1:]]
    assert rows == [["1", "deploy"], ["2", "train"], ["3", "evaluate"]]
    assert run(capsys, "rollback", "mine", "--to", "3") == "mine: version 3 is in use\n"


def test_the_yaml_and_the_python_of_the_document_work() -> None:
    document = ROOT / "docs" / "blueprints.md"
    blueprint, suite = (yaml.safe_load(text) for text in blocks(document, "yaml"))
    agent = read_blueprint(blueprint, "the document").agent
    assert (agent.type, agent.default_tag) == ("llm", "docs")
    assert EvaluationSuite.model_validate(suite).name == "fetching"
    (text,) = blocks(document, "python")
    names: dict[str, object] = {}
    exec(text, names)
    registry = names["registry"]
    assert isinstance(registry, BlueprintRegistry)
    assert registry.get("mine").agent.type == "llm"


def test_the_commands_work_in_processes_of_their_own(tmp_path: Path) -> None:
    done = call("create", "mine", "--type", "claude", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "mine"
    assert "did you mean 'mine'" in refused("show", "mien", cwd=tmp_path)
