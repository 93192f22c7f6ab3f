"""`agentfactory tools`, `tool` and `mcp`: as a person, a script and an MCP client meet them."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from agentfactory.configs.tools import TOOL_NAMES
from tests.agentfactory.test_cli import call, refused
from tests.free_ports import free_port

WEAK = ("--set", "student.sandbox.allow_weak=true", "--set", "student.toolbox.sandbox.allow_weak=true")


def answer(tmp_path: Path, *arguments: str, code: int = 0) -> dict[str, object]:
    done = call("tool", *arguments, "--json", *WEAK, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    said = json.loads(done.stdout)
    assert list(said) == ["ok", "result", "error", "stdout", "limits", "seconds"]
    assert said["ok"] == (code == 0)
    return said  # type: ignore[no-any-return]


def test_tools_lists_all_there_are_and_which_are_on(tmp_path: Path) -> None:
    lines = call("tools", cwd=tmp_path).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["tool", *TOOL_NAMES]
    assert [line.split("\t")[0] for line in lines if line.split("\t")[1] == "yes"] == ["python"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("form", "schema"), [("openai", "parameters"), ("mcp", "inputSchema")])
def test_tools_are_printed_in_the_forms_of_others(form: str, schema: str) -> None:
    listed = json.loads(call("tools", "--format", form).stdout)
    entries = [entry.get("function", entry) for entry in listed]
    assert [entry["name"] for entry in entries] == list(TOOL_NAMES)
    assert all(entry[schema]["type"] == "object" and entry["description"] for entry in entries)


def test_a_tool_runs_as_the_student_would_run_it(tmp_path: Path) -> None:
    said = answer(tmp_path, "python", '{"code": "print(6*7)"}')
    assert (said["result"], said["stdout"], said["error"]) == ("42", "42", None)
    assert said["limits"] == {"timeout_s": 2.0, "memory_mb": 256, "output_bytes": 4096, "max_parallel": 4}
    assert call("tool", "python", "6*7", *WEAK, cwd=tmp_path).stdout == "42\n"


def test_a_tool_that_fails_says_so_in_the_exit_code_and_the_json(tmp_path: Path) -> None:
    said = answer(tmp_path, "python", "print('before')\n1/0", code=1)
    assert said["result"] is None
    assert said["stdout"] == "before"
    assert said["error"] == "ZeroDivisionError: division by zero"
    wrong = answer(tmp_path, "read_file", '{"file": "a"}', code=1)
    assert wrong["error"] == "there is no argument file; did you mean first_line?" or "path" in str(
        wrong["error"]
    )


def test_files_stay_in_the_workspace_from_call_to_call(tmp_path: Path) -> None:
    answer(tmp_path, "write_file", '{"path": "a.txt", "content": "kept"}')
    assert answer(tmp_path, "read_file", "a.txt")["result"] == "kept"
    assert (tmp_path / ".agentfactory" / "workspace" / "files" / "a.txt").read_text() == "kept"


def test_a_skill_can_be_called_by_its_name_later(tmp_path: Path) -> None:
    source = 'def twice(n: int) -> int:\n    """Doubles."""\n    return 2 * n\n'
    answer(tmp_path, "write_file", json.dumps({"path": "s.py", "content": source}))
    answer(
        tmp_path, "promote_skill", '{"file_path": "s.py", "function_name": "twice", "tool_name": "double"}'
    )
    assert answer(tmp_path, "double", "21")["result"] == "42"


@pytest.mark.slow
def test_retrieve_searches_the_data_plane(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "harbour.txt").write_text("The harbour master opens the gate at high tide.")
    data = {
        "bridge": {"endpoints": [f"tcp://127.0.0.1:{free_port()}"]},
        "store": {"kind": "embedded", "max_gb": 1.0},
        "cache": {"kind": "embedded"},
        "search": {"embedder": "ngrams"},
    }
    student = {"retrieve": {"tags": ["docs"]}}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"extends": "laptop", "data": data, "student": student}))
    try:
        for command in (["up"], ["ingest", "folder::texts", "--tag", "docs"]):
            done = call(*command, "--preset", "my.yaml", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        said = answer(tmp_path, "retrieve", "who opens the gate?", "--preset", "my.yaml")
    finally:
        call("down", "--preset", "my.yaml", cwd=tmp_path)
    assert said["result"] == "[1] docs/harbour.txt\nThe harbour master opens the gate at high tide."


DEMO = Path(__file__).parents[1] / "runtime" / "tools" / "mcp_demo.py"


def test_the_tools_of_servers_and_skills_are_listed_and_what_is_missing_is_said(tmp_path: Path) -> None:
    skills = tmp_path / ".agentfactory" / "workspace" / "skills"
    skills.mkdir(parents=True)
    (skills / "double.py").write_text('def double(n: int) -> int:\n    """Doubles."""\n    return 2 * n\n')
    (skills / "empty.py").write_text("")
    servers = [
        {"name": "gone", "command": ["/nonexistent/server"]},
        {"name": "demo", "command": [sys.executable, str(DEMO), "stdio"], "tools": ["add"]},
    ]
    done = call("tools", "--set", f"student.toolbox.mcp={json.dumps(servers)}", cwd=tmp_path)
    assert done.returncode == 0
    assert [line.split("\t")[:3] for line in done.stdout.splitlines()[-2:]] == [
        ["demo_add", "yes", "a: integer, b: integer"],
        ["double", "-", "n: integer"],
    ]
    gone, off, empty = done.stderr.splitlines()
    assert gone.startswith("agentfactory: the MCP server gone cannot be reached: FileNotFoundError")
    assert gone.endswith("; everything else works, without its tools")
    assert off == "agentfactory: 1 skills are not loaded: student.tools does not name promote_skill"
    assert "empty.py is no skill: which function is the tool is not plain" in empty


def test_a_plan_is_a_tool_like_any_other(tmp_path: Path) -> None:
    steps = [
        {"id": "a", "tool": "python", "input": "print(6*7)"},
        {"id": "b", "tool": "write_file", "input": {"path": "n.txt", "content": "$a"}},
    ]
    said = answer(tmp_path, "plan", json.dumps({"steps": steps}))
    assert said["result"] == "a (python) done: 42\nb (write_file) done: wrote 2 bytes to n.txt"
    unknown = answer(tmp_path, "plan", '[{"id": "a", "tool": "weather"}]', code=1)
    assert str(unknown["error"]).startswith("step a: there is no tool weather; the tools are: python, pyexe")


COMMANDS = (("tool", "list_files", "."), ("tool", "memory", "x"), ("mcp", "--tools", "list_files"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_workspace_that_cannot_be_made_is_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    line = refused(*command, "--set", "student.toolbox.workspace=/proc/nowhere", *WEAK, cwd=tmp_path)
    assert "/proc/nowhere/" in line
    assert line.endswith("(No such file or directory); set student.toolbox.workspace to a folder of your own")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_working_directory_that_is_gone_is_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    script = "import os, sys; os.rmdir(os.getcwd()); from agentfactory.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *command, *WEAK],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("agentfactory: the working directory is gone; change to one that is there")


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    assert "did you mean 'python'?" in refused("tool", "pyton", "1", cwd=tmp_path)
    assert "student.retrieve.tags names nothing" in refused("tool", "retrieve", "x", cwd=tmp_path)
    bad = refused("tools", "--set", "student.tools=[python, mth]", cwd=tmp_path)
    assert "there is no tool 'mth'; did you mean 'math'?" in bad
    assert "there is no tool 'nope'" in refused("mcp", "--tools", "python,nope", cwd=tmp_path)


@asynccontextmanager
async def client(tmp_path: Path, *arguments: str) -> AsyncIterator[Client]:
    """The official client, with our server started as it would start it."""
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "agentfactory", "mcp", *arguments, *WEAK],
        env=environment,
        cwd=tmp_path,
    )
    with (tmp_path / "log").open("w") as log:
        async with Client(stdio_client(server, errlog=log)) as connected:
            yield connected


async def test_an_mcp_client_lists_and_calls_our_tools(tmp_path: Path) -> None:
    async with client(tmp_path) as mcp:
        listed = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        assert set(listed) == set(TOOL_NAMES) - {"retrieve", "fetch"}
        assert listed["read_file"].input_schema["required"] == ["path"]
        python = await mcp.call_tool("python", {"code": "print(6*7)"})
        assert (python.content[0].text, python.is_error) == ("42", False)  # type: ignore[union-attr]
        await mcp.call_tool("write_file", {"path": "n.csv", "content": "a,b\n1,2\n"})
        viewed = await mcp.call_tool("data_view", {"path": "n.csv"})
        assert viewed.content[0].text.startswith("1 rows, 2 columns")  # type: ignore[union-attr]
        failed = await mcp.call_tool("read_file", {"path": "/etc/passwd"})
        assert failed.is_error
        unknown = await mcp.call_tool("nothing", {})
        assert unknown.is_error


async def test_a_skill_that_a_client_promotes_is_served_at_once(tmp_path: Path) -> None:
    source = 'def twice(n: int) -> int:\n    """Doubles."""\n    return 2 * n\n'
    async with client(tmp_path, "--tools", "write_file,promote_skill") as mcp:
        await mcp.call_tool("write_file", {"path": "s.py", "content": source})
        promoted = {"file_path": "s.py", "function_name": "twice", "tool_name": "double"}
        assert not (await mcp.call_tool("promote_skill", promoted)).is_error
        names = [tool.name for tool in (await mcp.list_tools(cache_mode="bypass")).tools]
        assert names == ["write_file", "promote_skill", "double"]
        assert (await mcp.call_tool("double", {"n": 21})).content[0].text == "42"  # type: ignore[union-attr]


PACKAGE = '''
from agentfactory.runtime.tools.definition import EpisodeTool
from agentfactory.runtime.tools.function_tool import tool

@tool
def weather(city: str) -> str:
    """Says what the weather is like."""
    return f"rain in {city}"

class Diary:
    def __init__(self, workspace):
        self.workspace = workspace

    @tool
    def diary(self, line: str) -> str:
        """Writes a line down."""
        self.workspace.write_bytes("diary.txt", line.encode())
        return "written"

DIARY = EpisodeTool(
    spec=lambda settings: Diary.diary,
    prepare=lambda host: lambda episode: Diary(episode.workspace).diary,
    limits=lambda settings: (settings.toolbox.files,),
)
NO_TOOL = "a text"
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a package that brings tools, as an installed one would."""
    (tmp_path / "almanac.py").write_text(PACKAGE)
    info = tmp_path / "almanac-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: almanac\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agentfactory.tools]\nweather = almanac:weather\ndiary = almanac:DIARY\npython = almanac:weather\n"
    )
    return tmp_path


def test_a_package_can_bring_tools_of_its_own(package: Path) -> None:
    on = ("--set", 'student.tools=["python","weather"]')
    lines = call("tools", *on, cwd=package).stdout.splitlines()
    assert [line.split("\t")[:3] for line in lines[-2:]] == [
        ["diary", "-", "line: string"],
        ["weather", "yes", "city: string"],
    ]
    assert lines[1].startswith("python\tyes\tcode: string")  # ours cannot be taken over
    assert answer(package, "weather", "Oslo")["result"] == "rain in Oslo"
    assert answer(package, "diary", "cold")["limits"] == {
        "max_chars": 4000,
        "max_file_kb": 1024,
        "max_listed": 200,
    }
    assert answer(package, "read_file", "diary.txt")["result"] == "cold"


def test_plans_call_the_tools_that_packages_bring(package: Path) -> None:
    steps = [
        {"id": "a", "tool": "weather", "input": "Oslo"},
        {"id": "b", "tool": "diary", "input": {"line": "$a"}},
    ]
    said = answer(package, "plan", json.dumps({"steps": steps}))
    assert said["result"] == "a (weather) done: rain in Oslo\nb (diary) done: written"


def test_what_a_package_calls_a_tool_and_is_none_is_told_in_a_sentence(package: Path) -> None:
    entries = package / "almanac-1.0.dist-info" / "entry_points.txt"
    for where, complaint in (
        ("almanac:NO_TOOL", "is neither a ToolDefinition nor made by @tool"),
        ("almanac:missing", "cannot be loaded from almanac:missing"),
        ("almanac:weather", "is called weather; give both one name"),
    ):
        entries.write_text(f"[agentfactory.tools]\nclimate = {where}\n")
        done = call("tool", "climate", "x", *WEAK, cwd=package)
        assert done.returncode == 2
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr
