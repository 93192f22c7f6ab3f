"""Settings of the tools that a Student may have, and their limits."""

import difflib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Self

from pydantic import Field, model_validator

from .base_config import BaseConfig, PlaceOrName, PlaceText
from .sandbox import CommandSandboxSettings


class PlanSettings(BaseConfig):
    """The executor of plans, and the tool `plan`."""

    max_steps: int = Field(default=32, ge=1, le=1024)
    max_parallel: int = Field(default=4, ge=1)
    """Steps that run at the same time."""
    step_timeout_s: float = Field(default=60.0, gt=0.0, le=3600.0)
    """Of a step that does not say its own."""
    timeout_s: float = Field(default=300.0, gt=0.0, le=3600.0)
    """Of a plan that does not say its own."""
    max_kept_mb: int = Field(default=64, ge=1)
    """Files of the workspace that are kept in memory while a plan runs that may be rolled back."""
    max_chars: int = Field(default=4000, ge=100)
    """Length of what a model is shown of a plan's outcome, in characters."""


TOOL_GROUP: Final = "agentfactory.tools"
"""Of the entry points by which installed packages bring tools of their own."""
_BUILTIN: Final = "agentfactory.runtime.tools.builtin."
BUILTIN_TOOLS: Final = {
    "python": "python:PYTHON",
    "pyexe": "pyexe:PYEXE",
    "shell": "shell:SHELL",
    "math": "math:MATH",
    "test_runner": "test_runner:TEST_RUNNER",
    "list_files": "files:LIST_FILES",
    "read_file": "files:READ_FILE",
    "write_file": "files:WRITE_FILE",
    "data_view": "data_view:DATA_VIEW",
    "memory": "memory:MEMORY",
    "fetch": "fetch:FETCH",
    "retrieve": "retrieve:RETRIEVE",
    "promote_skill": "promote_skill:PROMOTE_SKILL",
    "plan": "plan:PLAN",
}
"""The tools that ship, by name: the module below `runtime.tools.builtin`, and the definition in it."""
TOOL_NAMES: Final[tuple[str, ...]] = tuple(BUILTIN_TOOLS)
SERVER_NAME = r"^[a-z][a-z0-9_]{0,23}$"


class MathToolSettings(BaseConfig):
    """The tool that calculates with symbols."""

    timeout_s: float = Field(default=5.0, gt=0.0, le=600.0)
    memory_mb: int = Field(default=512, ge=64)
    max_parallel: int = Field(default=2, ge=1)
    max_chars: int = Field(default=1500, ge=40)
    """Length of one answer, in characters."""


class FileToolSettings(BaseConfig):
    """The tools that list, read and write files of the workspace."""

    max_chars: int = Field(default=4000, ge=40)
    """Length of one observation, in characters."""
    max_file_kb: int = Field(default=1024, ge=1)
    """Larger files are neither read nor written."""
    max_listed: int = Field(default=200, ge=1)
    """Names in one listing."""


class DataViewSettings(BaseConfig):
    """The tool that looks at tables."""

    max_file_mb: int = Field(default=16, ge=1, le=32)
    timeout_s: float = Field(default=10.0, gt=0.0, le=600.0)
    memory_mb: int = Field(default=1024, ge=128)
    max_rows: int = Field(default=50, ge=1)
    """Rows that one call may ask for."""
    max_chars: int = Field(default=4000, ge=200)
    """Length of one observation, in characters."""


class ShellSettings(BaseConfig):
    """The tool that runs programs."""

    commands: tuple[str, ...] = (
        "cat", "cp", "cut", "date", "diff", "du", "echo", "expr", "file", "grep", "head", "ls", "mkdir", "mv",
        "nl", "pwd", "rm", "seq", "sort", "stat", "tail", "touch", "tr", "true", "uniq", "wc",
    )  # fmt: skip
    """Programs that it may start, by their bare names."""
    timeout_s: float = Field(default=10.0, gt=0.0, le=3600.0)
    max_chars: int = Field(default=4000, ge=40)
    """Length of one observation, in characters."""


class TestRunnerSettings(BaseConfig):
    """The tool that runs tests."""

    __test__ = False  # not a test itself, whatever its name
    timeout_s: float = Field(default=30.0, gt=0.0, le=3600.0)
    max_chars: int = Field(default=4000, ge=100)
    """Length of one observation, in characters."""


class MemorySettings(BaseConfig):
    """The tool that keeps notes."""

    embedder: PlaceOrName = "ngrams"
    """`ngrams` (hashed character n-grams), a sentence-transformers model on this machine, or `auto`."""
    max_notes: int = Field(default=10_000, ge=1)
    """Where there are more, the oldest go."""
    max_note_chars: int = Field(default=4000, ge=1)
    max_chars: int = Field(default=1500, ge=40)
    """Length of one observation, in characters."""


class FetchSettings(BaseConfig):
    """The tool that gets pages from the web. It gets nothing from hosts that are not named here."""

    hosts: tuple[str, ...] = ()
    """Hosts that it may ask, such as `docs.python.org`; `*.python.org` stands for all below one."""
    private_hosts: tuple[str, ...] = ()
    """Hosts that may have a private or loopback address, too: servers of one's own."""
    timeout_s: float = Field(default=15.0, gt=0.0, le=600.0)
    """From the call to the last byte, redirects included."""
    max_kb: int = Field(default=512, ge=1, le=32_768)
    """What of an answer is read; the rest is left."""
    text_timeout_s: float = Field(default=5.0, gt=0.0, le=600.0)
    """For taking the text out of a page that has arrived."""
    memory_mb: int = Field(default=256, ge=64)
    """For the same."""
    max_redirects: int = Field(default=3, ge=0, le=20)
    max_chars: int = Field(default=4000, ge=100, le=4_000_000)
    """Length of one observation, in characters."""


class McpServerSettings(BaseConfig):
    """An MCP server whose tools are mounted: a program that speaks over stdio, or a URL."""

    name: str = Field(pattern=SERVER_NAME)
    """Comes in front of its tools' names."""
    command: tuple[str, ...] = ()
    """The program and its arguments."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables that the program gets beside the harmless ones (PATH, HOME…)."""
    url: str = Field(default="", pattern=r"^(https?://.*)?$")
    """Of a server that speaks streamable HTTP."""
    tools: tuple[str, ...] = ()
    """Which of its tools; empty: all."""
    start_timeout_s: float = Field(default=30.0, gt=0.0)
    timeout_s: float = Field(default=60.0, gt=0.0)
    """Of one call."""
    max_tools: int = Field(default=64, ge=1)
    max_description_chars: int = Field(default=300, ge=20)
    """What servers say of their tools is shortened to this."""
    max_chars: int = Field(default=4000, ge=40)
    """Length of one observation, in characters."""

    @model_validator(mode="after")
    def _one_way_to_reach_it(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError(f"the MCP server {self.name} needs a command or a url, and not both")
        return self


class ToolBoxSettings(BaseConfig):
    """Workspace and limits of the tools."""

    workspace: PlaceText = ".agentfactory/workspace"
    """Folder of files, notes and skills. Each episode works in a folder of its own below it."""
    sandbox: CommandSandboxSettings = CommandSandboxSettings()
    """Limits of the programs that shell, test_runner and pyexe start; the longest of their times counts."""
    rules: PlaceText = ""
    """A YAML file of safety rules of one's own, beside those that ship."""
    math: MathToolSettings = MathToolSettings()
    files: FileToolSettings = FileToolSettings()
    data_view: DataViewSettings = DataViewSettings()
    shell: ShellSettings = ShellSettings()
    test_runner: TestRunnerSettings = TestRunnerSettings()
    memory: MemorySettings = MemorySettings()
    fetch: FetchSettings = FetchSettings()
    plan: PlanSettings = PlanSettings()
    mcp: tuple[McpServerSettings, ...] = ()
    """Servers whose tools the Student gets, too."""

    @model_validator(mode="after")
    def _servers_differ(self) -> Self:
        names = [server.name for server in self.mcp]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two MCP servers are called {twice}; rename one of them")
        return self


@cache
def tool_entries() -> dict[str, EntryPoint]:
    """Where each tool's definition lies, by name; installed packages cannot take the names of ours."""
    ours = {name: EntryPoint(name, _BUILTIN + where, TOOL_GROUP) for name, where in BUILTIN_TOOLS.items()}
    return {entry.name: entry for entry in entry_points(group=TOOL_GROUP)} | ours


def known_tools() -> tuple[str, ...]:
    """The names of all tools that there are: ours, then those of installed packages."""
    return (*TOOL_NAMES, *sorted(tool_entries().keys() - BUILTIN_TOOLS.keys()))


def check_tool_names(names: Sequence[str]) -> None:
    """Raise ValueError for a name that is no tool's, or stands there twice."""
    for name in names:
        if name not in BUILTIN_TOOLS and name not in tool_entries():
            known = known_tools()
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise ValueError(f"there is no tool {name!r}; {hint}")
        if list(names).count(name) > 1:
            raise ValueError(f"{name!r} is named twice")
