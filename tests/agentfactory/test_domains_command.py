"""`agentfactory domains` and `agentfactory verify`."""

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from agentfactory.actors import domains
from agentfactory.actors.coordinator.episodes import NamespaceManager
from agentfactory.actors.coordinator.run_state import RunState
from agentfactory.actors.domains import domain_named, domain_names
from agentfactory.cluster.launch import needs_data_plane
from agentfactory.configs.data import LIBRARY, DataSettings
from agentfactory.configs.load import load_settings
from agentfactory.configs.roles import CurriculumSettings
from agentfactory.data import DataPlane
from agentfactory.messages.tasks import Task
from tests.agentfactory.test_cli import call
from tests.free_ports import free_port


def task_file(folder: Path, task: JsonValue) -> str:
    (folder / "task.json").write_text(json.dumps(task))
    return "task.json"


def verified(folder: Path, domain: str, task: JsonValue, answer: str) -> dict[str, JsonValue]:
    done = call("verify", domain, task_file(folder, task), answer, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, JsonValue] = json.loads(done.stdout)
    assert list(found) == ["correct", "score", "confidence", "explanation", "breakdown"]
    return found


def test_all_domains_are_shown(tmp_path: Path) -> None:
    shown = json.loads(call("domains", "--json", cwd=tmp_path).stdout)["domains"]
    assert [domain["name"] for domain in shown] == list(domain_names())
    assert call("domains", cwd=tmp_path).stdout.startswith("math\tmathematics")


def test_an_answer_in_mathematics_is_judged(tmp_path: Path) -> None:
    task = {"description": "How long is it?", "reference": "5 cm"}
    assert verified(tmp_path, "math", task, "0.05 m")["correct"] is True
    assert verified(tmp_path, "math", task, "5 mm")["correct"] is False
    assert verified(tmp_path, "math", {"reference": "x^2-1"}, "(x-1)(x+1)")["score"] == 1.0


def test_an_answer_in_logic_is_judged(tmp_path: Path) -> None:
    task = {"goal": {"kind": "logic", "asks": "equivalent", "formula": "p -> q"}}
    assert verified(tmp_path, "logic", task, "not q -> not p")["correct"] is True
    assert verified(tmp_path, "logic", task, "q -> p")["correct"] is False


def test_code_is_judged_by_its_tests_and_may_come_from_standard_input(tmp_path: Path) -> None:
    goal = {
        "kind": "code",
        "function": "f",
        "checks": [{"call": "f(2)", "expected": "4"}, {"call": "f(3)", "expected": "9"}],
    }
    found = verified(tmp_path, "code", {"goal": goal}, "def f(x): return 2 * x")
    assert (found["correct"], found["score"]) == (False, 0.5)
    assert verified(tmp_path, "code", {"goal": goal}, "def f(x): return x * x")["correct"] is True


def test_a_task_of_many_steps_is_judged_by_its_answer(tmp_path: Path) -> None:
    goal = {"kind": "milestones", "milestones": [{"name": "a", "value": "7"}, {"name": "b", "value": "14"}]}
    task = {"goal": goal, "reference": "7, 14"}
    assert verified(tmp_path, "long", task, "7, 14")["correct"] is True
    assert verified(tmp_path, "long", task, "14")["score"] == pytest.approx(0.45)


async def test_an_errand_is_judged_by_what_the_store_holds(tmp_path: Path) -> None:
    errand = domain_named("data").task_generator(Path(LIBRARY))
    checked = errand.check("Task: Load the folder office as desk, then count its files.", 0.1)
    assert checked is not None
    assert checked.goal is not None
    task = {"reference": checked.reference, "goal": checked.goal.model_dump(mode="json")}
    (tmp_path / "task.json").write_text(json.dumps(task))
    endpoint, port = f"tcp://127.0.0.1:{free_port()}", free_port()
    (tmp_path / "my.yaml").write_text(
        f"extends: laptop\ndata:\n  bridge: {{endpoints: ['{endpoint}']}}\n"
        f"  cache: {{hosts: [{{port: {port}}}]}}\n"
        f"  folder: {tmp_path}/state\n  store: {{kind: embedded, folder: {tmp_path}/store}}\n"
    )
    settings: DataSettings = load_settings(str(tmp_path / "my.yaml")).data
    uris = settings.uris.model_copy(update={"roots": (str(LIBRARY),)})
    async with DataPlane.open(settings.model_copy(update={"uris": uris})) as plane:
        await plane.ingest(f"folder::{LIBRARY}/office", tag="mine.desk", format="binary")
    arguments = ("verify", "data", "task.json", str(checked.reference), "--preset", "my.yaml", "--json")
    right = await asyncio.to_thread(call, *arguments, "--space", "mine.", cwd=tmp_path)
    wrong = await asyncio.to_thread(call, *arguments, "--space", "yours.", cwd=tmp_path)
    assert json.loads(right.stdout)["correct"] is True, right.stderr
    assert json.loads(wrong.stdout)["score"] == 0.5, wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "task", "complaint"),
    [
        (("verify", "alchemy", "task.json", "1"), {}, "unknown domain 'alchemy'; known: math, logic"),
        (("verify", "math", "missing.json", "1"), {}, "missing.json: the task cannot be read"),
        (("verify", "math", "task.json", "1"), [1], "expected a JSON object"),
        (("verify", "math", "task.json", "1"), {"referense": "1"}, "referense: Extra inputs"),
        (("verify", "math", "task.json", "1"), {"domain": "logic"}, "is of the domain 'logic', not 'math'"),
        (("verify", "math", "task.json", "1"), {}, "has no reference answer"),
        (("verify", "data", "task.json", "1"), {"reference": "1"}, "--space says which tags"),
    ],
)
def test_what_cannot_be_judged_is_told_in_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], task: JsonValue, complaint: str
) -> None:
    task_file(tmp_path, task)
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_can_bring_a_domain_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "chess.py").write_text(
        "from pathlib import Path\n"
        "from agentfactory.actors.domains.base import Domain\n"
        "nothing = lambda parts: None\n"
        "DOMAIN = Domain('chess', 'mates in two', Path(__file__).parent, nothing, nothing)\n"
    )
    info = tmp_path / "chess-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chess\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agentfactory.domains]\nchess = chess:DOMAIN\nmath = chess:DOMAIN\n"
    )
    shown = json.loads(call("domains", "--json", cwd=tmp_path).stdout)["domains"]
    assert shown[-1] == {"name": "chess", "about": "mates in two"}
    assert shown[0]["about"].startswith("mathematics")  # ours cannot be taken over


def test_a_domain_from_outside_may_act_on_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "depot.py").write_text(
        "from pathlib import Path\n"
        "from agentfactory.actors.domains.base import Domain\n"
        "nothing = lambda parts: None\n"
        "DOMAIN = Domain('depot', 'stock', Path(__file__).parent, nothing, nothing, needs_store=True)\n"
    )
    info = tmp_path / "depot-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: depot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agentfactory.domains]\ndepot = depot:DOMAIN\n")
    task_file(tmp_path, {"reference": "1"})
    done = call("verify", "depot", "task.json", "1", cwd=tmp_path)
    assert "verify depot: --space says which tags" in done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    domains._entries.cache_clear()
    try:
        assert needs_data_plane(load_settings("laptop", {"curriculum.domains": ["depot"]}))
        assert not needs_data_plane(load_settings("laptop", {"curriculum.domains": ["math"]}))
        task = Task(id="t", domain="depot", description="Count.", difficulty=0.5, created_at=0.0)
        spaces = NamespaceManager(None, RunState(CurriculumSettings()))
        assert spaces.new(task, "e").startswith("episode.")
        assert spaces.new(task.model_copy(update={"domain": "math"}), "e") == ""
    finally:
        domains._entries.cache_clear()
