"""`agentfactory run` and `demo`: whole sessions, as a person or a program has them."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.messages.conversations import AgentReply, ClarificationRequest, CommandRouted
from tests.agentfactory.test_cli import LIMIT_S, call, command, refused
from tests.free_ports import free_port

ROOT = Path(__file__).parents[2]
TERMINAL_S = 240
SMALL = ("--preset", "small.yaml")
SINGLE = (
    "ingest file::data/sample_docs/api_reference.md as docs",
    "query docs",
    "get api_reference.md from docs",
    "status",
)
COORDINATED = (
    "load file::data/sample_docs/api_reference.md as docs",
    "search all data",
    "get api_reference.md from docs",
)


def small_preset(folder: Path) -> None:
    """A data plane of its own, and the sample documents."""
    bridge, cache = {"endpoints": [f"tcp://127.0.0.1:{free_port()}"]}, {"kind": "embedded"}
    data = {"bridge": bridge, "cache": cache, "store": {"kind": "embedded", "max_gb": 1}}
    (folder / "small.yaml").write_text(yaml.safe_dump({"extends": "laptop", "data": data}))
    shutil.copytree(ROOT / "data" / "sample_docs", folder / "data" / "sample_docs", dirs_exist_ok=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a data plane is up."""
    folder = tmp_path_factory.mktemp("run")
    small_preset(folder)
    assert call("up", *SMALL, cwd=folder).returncode == 0
    yield folder
    call("down", *SMALL, cwd=folder)


def piped(folder: Path, *arguments: str, lines: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        command("run", *arguments, *SMALL),
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=folder,
        env=environment,
        check=False,
    )


def one(folder: Path, *arguments: str) -> list[AgentReply]:
    """What `run … --json` says of one input, without the routings alone."""
    done = call("run", *arguments, *SMALL, "--json", cwd=folder)
    replies = json.loads(done.stdout)["replies"]
    return [AgentReply.model_validate(reply) for reply in replies]


def test_the_quick_start_with_one_agent(place: Path) -> None:
    done = piped(place, "iowarp_agent", lines=SINGLE)
    assert done.returncode == 0, done.stderr
    assert "stored 1 blob" in done.stdout
    assert "docs/api_reference.md" in done.stdout
    assert "  | # API reference" in done.stdout
    assert "cache hit rate  100% of 1" in done.stdout
    assert "total reward    +0.50" in done.stdout


def test_the_quick_start_with_a_coordinator(place: Path) -> None:
    done = piped(place, "coordinator_agent", lines=COORDINATED)
    assert done.returncode == 0, done.stderr
    routes = [line.split(" (")[0] for line in done.stdout.splitlines() if "→" in line]
    assert routes == [
        "  → Coordinator routing to 'ingestor' agent",
        "  → Coordinator routing to 'retriever' agent",
        "  → Coordinator routing to 'retriever' agent",
    ]
    assert "  | # API reference" in done.stdout


def test_the_commands_for_blueprints(tmp_path: Path) -> None:
    listed = call("list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    for name in ("iowarp_agent", "coordinator_agent", "ingestor_agent", "retriever_agent"):
        assert name in listed.stdout
    made = call("create", "my_agent", "--type", "llm", "--model", "llama3.2", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "my_agent" in call("list", cwd=tmp_path).stdout
    assert "llama3.2" in call("show", "my_agent", cwd=tmp_path).stdout
    assert call("delete", "my_agent", cwd=tmp_path).returncode == 0
    assert "my_agent" not in call("list", cwd=tmp_path).stdout


def test_the_distributed_agent_is_refused_where_its_bridges_have_different_stores(tmp_path: Path) -> None:
    endpoints: list[str] = []
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        small_preset(folder)
        up = call("up", *SMALL, "--json", cwd=folder)
        assert up.returncode == 0, up.stderr
        endpoints.append(json.loads(up.stdout)["endpoint"])
    try:
        far = distributed(tmp_path, endpoints)
        done = call("run", *far, "-c", SINGLE[0], *SMALL, cwd=tmp_path)
        assert done.returncode == 1  # the session goes on, the command was not carried out
        said = " ".join((done.stdout + done.stderr).split())
        assert "have different stores" in said
        assert "name one of them, or bridges that share a store" in said
        for folder in folders:
            assert "holds nothing" in call("list", "*", *SMALL, cwd=folder).stdout
    finally:
        for folder in folders:
            call("down", *SMALL, cwd=folder)


def test_the_distributed_agent_works_over_two_ways_to_one_store_and_with_one_of_them(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    small_preset(served)
    up = call("up", *SMALL, "--json", cwd=served)
    assert up.returncode == 0, up.stderr
    endpoint = json.loads(up.stdout)["endpoint"]
    try:
        dead = f"tcp://127.0.0.1:{free_port()}"
        for other in (endpoint.replace("127.0.0.1", "localhost"), dead):
            (said,) = one(tmp_path, *distributed(tmp_path, [endpoint, other]), "-c", SINGLE[0])
            assert said.ok
        assert "api_reference.md" in call("list", "docs", *SMALL, cwd=served).stdout
    finally:
        call("down", *SMALL, cwd=served)


def distributed(folder: Path, endpoints: list[str]) -> list[str]:
    """The arguments of an agent over these bridges."""
    small_preset(folder)
    name = f"far_{len(list(folder.rglob('far_*')))}"
    changes = [f"iowarp.bridge_endpoints={json.dumps(endpoints)}", "cache.kind=embedded"]
    options = [part for change in changes for part in ("--set", change)]
    made = call("create", name, "--from", "iowarp_distributed", *options, *SMALL, cwd=folder)
    assert made.returncode == 0, made.stderr
    return [name]


def test_a_session_that_finds_no_data_plane_starts_one_and_what_it_stored_stays(tmp_path: Path) -> None:
    small_preset(tmp_path)
    assert one(tmp_path, "iowarp_agent", "-c", SINGLE[0])[0].ok
    assert "nothing is up" in call("status", *SMALL, cwd=tmp_path).stdout
    (said,) = one(tmp_path, "iowarp_agent", "-c", SINGLE[2])
    assert said.result is not None
    assert said.result.reward == 0.20


def test_several_commands_in_one_sentence_become_several_steps(place: Path) -> None:
    text = f"{COORDINATED[0]}, then search all data and get api_reference.md from docs"
    said = one(place, "coordinator_agent", "-c", text)
    assert [each.agent for each in said] == ["ingestor_agent", "retriever_agent", "retriever_agent"]
    assert all(isinstance(each.routing, CommandRouted) and each.ok for each in said)


def test_an_ambiguous_command_is_asked_back_and_the_code_says_so(place: Path) -> None:
    done = call("run", "coordinator_agent", "-c", "handle docs", *SMALL, "--json", cwd=place)
    (reply,) = json.loads(done.stdout)["replies"]
    said = AgentReply.model_validate(reply)
    assert isinstance(said.routing, ClarificationRequest)
    assert done.returncode == 1


def test_a_coordinator_sees_an_agent_that_is_made_while_it_runs(place: Path) -> None:
    with subprocess.Popen(
        command("run", "coordinator_agent", *SMALL),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write("search all data\n")
        running.stdin.flush()
        assert "'retriever'" in running.stdout.readline()
        made = call(
            "create",
            "slurper",
            "--type",
            "rule_based",
            "--set",
            "agent.rules={slurp: query}",
            *SMALL,
            cwd=place,
        )
        assert made.returncode == 0, made.stderr
        try:
            running.stdin.write("slurp docs\nquit\n")
            running.stdin.flush()
            assert "'slurper'" in running.stdout.read()
        finally:
            call("delete", "slurper", *SMALL, cwd=place)


def test_the_prompt_lives_on_whatever_is_said(place: Path) -> None:
    lines = (
        "get nothing from nowhere",
        "manual query {",
        "manual fly {}",
        "manual",
        "switch nobody",
        "switch",
        "configure",
        "configure agent.nonsense 3",
        "configure agent.type llm: [",
        "\x00\x1b[31m \ud800".encode("utf-8", "replace").decode(),
        "list",
        "history",
        "observe",
        'manual query {"tag_pattern": "*"}',
    )
    done = piped(place, "iowarp_agent", lines=lines)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "NoSuchBlob" in done.stdout
    assert "what follows is not JSON" in done.stdout
    assert "'fly' is not one of" in done.stdout
    assert "there is no blueprint 'nobody'" in done.stdout
    assert "unknown key 'agent.nonsense'" in done.stdout
    assert "* iowarp_agent" in done.stdout
    assert "match  [+0.10]" in done.stdout.splitlines()[-2] + done.stdout.splitlines()[-1]


def test_configure_and_switch_take_effect_at_once(place: Path) -> None:
    lines = (
        SINGLE[0],
        "configure agent.default_tag docs",
        "get api_reference.md",
        "switch retriever_agent",
        "load file::x",
    )
    done = piped(place, "iowarp_agent", lines=lines)
    assert "'api_reference.md' under 'docs'" in done.stdout
    assert "NotPermitted: the retriever may only" in done.stdout


def test_programs_get_one_object_for_each_line(place: Path) -> None:
    done = piped(place, "iowarp_agent", "--json", lines=("status", "query *", "switch nobody"))
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first["replies"][0]["steps"] == 0
    assert AgentReply.model_validate(second["replies"][0]).ok
    assert "nobody" in third["error"]


def test_what_is_done_is_recorded_with_its_rewards(place: Path) -> None:
    one(place, "iowarp_agent", "-c", "get nothing from nowhere")
    folders = sorted((place / ".agentfactory" / "trajectories").iterdir())
    rewards = [each.rewards.total for each in read_trajectories(folders[-1]) if each.rewards is not None]
    assert rewards == [-0.5]


def test_a_name_that_is_none_is_refused_with_the_nearest(place: Path) -> None:
    assert "did you mean 'iowarp_agent'?" in refused("run", "iowarp_agnt", *SMALL, cwd=place)


def test_a_server_that_is_not_there_is_one_sentence(place: Path) -> None:
    name = "silent"
    url = f"agent.base_url=http://127.0.0.1:{free_port()}"
    call(
        "create",
        name,
        "--type",
        "llm",
        "--model",
        "m",
        "--backend",
        "ollama",
        "--set",
        url,
        *SMALL,
        cwd=place,
    )
    done = piped(place, name, lines=("search all data", "status"))
    call("delete", name, *SMALL, cwd=place)
    assert "Traceback" not in done.stdout + done.stderr
    assert f"{name}: no steps yet" in done.stdout
    assert done.returncode == 1


def test_the_demo_shows_both_ways(place: Path) -> None:
    done = call("demo", *SMALL, cwd=place)
    assert done.returncode == 0, done.stderr
    single, coordinated = done.stdout.split("Several agents")
    for word in ("ingest", "query", "get", "prune"):
        assert f"agent> {word}" in single
    assert single.count("[+0.30]") == 1
    assert single.count("[+0.20]") == 1, "what was pruned comes from the store"
    assert "→ Coordinator routing to 'ingestor' agent" in coordinated


def test_before_the_prompt_nothing_heavy_is_loaded() -> None:
    script = (
        "import sys\n"
        "import agentfactory.repl.loop, agentfactory.repl.input_source, prompt_toolkit\n"
        "heavy = {'torch', 'ray', 'numpy', 'zmq', 'pyarrow', 'faiss', 'structlog', 'rich', 'anyio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            path = os.pathsep.join(path for path in sys.path if path)
            os.execve(
                sys.executable, command(*arguments), {**os.environ, "PYTHONPATH": path, "TERM": "xterm"}
            )
        self._seen = b""

    def type(self, text: str) -> None:
        os.write(self._handle, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until the text has come; what came before it is forgotten."""
        while text.encode() not in self._seen:
            ready, _, _ = select.select([self._handle], [], [], TERMINAL_S)
            assert ready, self._seen
            part = os.read(self._handle, 65536)
            if b"\x1b[6n" in part:
                self.type("\x1b[1;1R")  # where the cursor is
            self._seen += part
        before, _, self._seen = self._seen.partition(text.encode())
        return before.decode()

    def ended(self) -> int:
        """The exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_person_has_a_prompt_with_completion_and_history(place: Path) -> None:
    terminal = Terminal(place, "run", "iowarp_agent", *SMALL)
    terminal.wait_for("agent> ")
    terminal.type("stat\t")
    terminal.wait_for("us")
    terminal.type("\r")
    terminal.wait_for("no steps yet")
    terminal.wait_for("agent> ")
    terminal.type("\x1b[A\r")
    terminal.wait_for("no steps yet")
    terminal.wait_for("agent> ")
    terminal.type("half a li\x03")
    terminal.wait_for("agent> ")
    terminal.type("quit\r")
    assert terminal.ended() == 0
    assert "status" in (place / ".agentfactory" / "prompt_history").read_text()


def test_an_interrupt_ends_the_command_and_not_the_prompt(place: Path, tmp_path: Path) -> None:
    name = "slow"
    script = tmp_path / "slow.sh"
    started = tmp_path / "started"
    os.mkfifo(started)
    script.write_text(f"#!/bin/sh\necho > {started}\nexec sleep 600\n")
    script.chmod(0o755)
    call("create", name, "--type", "claude", "--set", f"agent.program={script}", *SMALL, cwd=place)
    terminal = Terminal(place, "run", name, *SMALL)
    terminal.wait_for("agent> ")
    terminal.type("search all data\r")
    assert started.read_text() == "\n"  # waits until the program runs
    os.kill(terminal.pid, signal.SIGINT)
    terminal.wait_for("interrupted")
    terminal.wait_for("agent> ")
    terminal.type("status\r")
    terminal.wait_for("no steps yet")
    terminal.type("quit\r")
    assert terminal.ended() == 0
    call("delete", name, *SMALL, cwd=place)
