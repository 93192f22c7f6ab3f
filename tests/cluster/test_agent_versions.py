"""Versions of an agent: what may follow what, and what is on disk after anything went wrong."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from agentfactory.cluster.agents.version_store import VersionStore
from agentfactory.cluster.agents.versions import AgentManifest, AgentRecord
from agentfactory.configs.agents.evaluation import EvaluationRecord
from agentfactory.configs.errors import BadInput, CannotWrite, SettingsError
from agentfactory.messages.adapters import AdapterRef


def makeup(prompt: str = "", model: str = "claude opus", adapter: AdapterRef | None = None) -> AgentManifest:
    return AgentManifest(
        model=model,
        adapter=adapter,
        prompt=prompt,
        blueprint="blueprint: {name: mine}\nagent: {type: claude, model: opus}\n",
    )


def outcome(correct: int) -> EvaluationRecord:
    return EvaluationRecord(suite="ten", correct=correct, n=10, pass_score=0.8)


def states(record: AgentRecord) -> list[str]:
    return [version.state for version in record.versions]


def with_versions(count: int) -> AgentRecord:
    record = AgentRecord(agent="mine")
    for number in range(1, count + 1):
        record = record.added(makeup(f"prompt {number}"), at=0.0)
    return record


def deployed(record: AgentRecord, number: int) -> AgentRecord:
    return record.begun(number).evaluated(number, outcome(10)).deploying(number)


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "agents")


def test_a_version_is_trained_evaluated_and_deployed() -> None:
    record = with_versions(1)
    assert states(record) == ["train"]
    record = record.begun(1)
    assert states(record) == ["evaluate"]
    record = record.evaluated(1, outcome(8))
    assert (states(record), record.in_use) == (["evaluate"], None)
    record = record.deploying(1)
    assert (states(record), record.state, record.deployed) == (["deploy"], "deploy", (1,))


@pytest.mark.parametrize("correct", [0, 7])
def test_a_version_that_failed_goes_back_to_training_and_is_not_deployed(correct: int) -> None:
    record = with_versions(1).begun(1).evaluated(1, outcome(correct))
    assert states(record) == ["train"]
    with pytest.raises(BadInput, match="mine version 1 is not deployed: it did not pass its evaluation"):
        record.deploying(1)


def test_a_version_that_was_not_evaluated_is_not_deployed() -> None:
    with pytest.raises(BadInput, match="it was not evaluated"):
        with_versions(1).begun(1).deploying(1)


def test_only_one_version_is_in_use() -> None:
    record = deployed(deployed(with_versions(3), 1), 3)
    assert states(record) == ["evaluate", "train", "deploy"]
    assert record.in_use == record.version(3)


def test_rolling_back_walks_the_way_back_and_ends_at_the_first() -> None:
    record = deployed(deployed(deployed(with_versions(3), 1), 2), 3)
    record = record.rolled_back()
    assert (states(record), record.deployed) == (["evaluate", "deploy", "evaluate"], (1, 2))
    record = record.rolled_back()
    assert record.deployed == (1,)
    with pytest.raises(BadInput, match="version 1 is the first that was deployed"):
        record.rolled_back()
    with pytest.raises(BadInput, match="no version is deployed"):
        with_versions(1).rolled_back()


def test_a_version_in_use_that_fails_when_it_is_evaluated_again_gives_way_to_the_one_before() -> None:
    record = deployed(deployed(with_versions(2), 1), 2)
    assert record.begun(2).in_use == record.in_use
    record = record.begun(2).evaluated(2, outcome(3))
    assert (states(record), record.deployed) == (["deploy", "train"], (1,))
    record = record.evaluated(1, outcome(3))
    assert (states(record), record.in_use) == (["train", "train"], None)


def test_the_way_back_never_leads_to_a_version_that_failed_since() -> None:
    record = deployed(deployed(with_versions(2), 1), 2).deploying(1).evaluated(2, outcome(0))
    assert record.deployed == (1,)
    with pytest.raises(BadInput, match="the first that was deployed"):
        record.rolled_back()


def test_a_version_is_known_by_its_model_adapter_prompt_and_blueprint() -> None:
    first, second = (AdapterRef(policy="student", version=1, sha256=digit * 64) for digit in "ab")
    other = makeup().model_copy(
        update={"blueprint": "blueprint: {name: mine}\nagent: {type: claude, model: haiku}\n"}
    )
    different = [
        makeup(),
        makeup(prompt="Be brief."),
        makeup(model="claude haiku"),
        makeup(adapter=first),
        makeup(adapter=second),
        other,
    ]
    assert len({each.sha256() for each in different}) == len(different)
    in_other_words = makeup().model_copy(
        update={"blueprint": "agent: {model: opus, type: claude}\nblueprint: {name: mine, version: 0.1.0}\n"}
    )
    assert in_other_words.sha256() == makeup().sha256()


def test_the_same_agent_is_the_same_version(store: VersionStore) -> None:
    assert store.add("mine", makeup()).number == 1
    assert store.add("mine", makeup("Be brief.")).number == 2
    assert store.add("mine", makeup()).number == 1
    assert len(store.record("mine").versions) == 2


def test_what_was_recorded_is_there_for_the_next_process(store: VersionStore, tmp_path: Path) -> None:
    store.add("mine", makeup())
    store.begin("mine", 1)
    store.finish("mine", 1, outcome(9))
    record = store.deploy("mine", 1)
    assert VersionStore(tmp_path / "agents").record("mine") == record
    assert record.in_use is not None
    assert record.in_use.makeup.read().name == "mine"


def test_a_change_that_is_refused_leaves_the_file_as_it_was(store: VersionStore, tmp_path: Path) -> None:
    store.add("mine", makeup())
    before = (tmp_path / "agents" / "mine.json").read_bytes()
    for change in (
        lambda: store.deploy("mine", 1),
        lambda: store.roll_back("mine"),
        lambda: store.begin("mine", 7),
    ):
        with pytest.raises(BadInput):
            change()
    assert (tmp_path / "agents" / "mine.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", '{"agent": "mine", "version": []}'])
def test_a_damaged_file_is_named_and_not_written_over(store: VersionStore, tmp_path: Path, text: str) -> None:
    path = tmp_path / "agents" / "mine.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"mine\.json: "):
        store.add("mine", makeup())
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["../mine", "", "a/b"])
def test_no_file_outside_the_folder_is_read_or_written(store: VersionStore, name: str) -> None:
    with pytest.raises(BadInput, match="cannot name an agent"):
        store.add(name, makeup())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot be written"):
        VersionStore(tmp_path / "file" / "agents").add("mine", makeup())


def add_ten(folder: Path, who: str) -> None:
    for number in range(10):
        VersionStore(folder).add("mine", makeup(f"{who} {number}"))


def test_versions_of_several_processes_are_all_kept(store: VersionStore, tmp_path: Path) -> None:
    with ProcessPoolExecutor(max_workers=2) as pool:
        for done in [pool.submit(add_ten, tmp_path / "agents", who) for who in ("one", "two")]:
            done.result(timeout=60)
    versions = store.record("mine").versions
    assert [version.number for version in versions] == list(range(1, 21))
    assert len({version.makeup.prompt for version in versions}) == 20
