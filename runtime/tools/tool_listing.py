"""What tools there are, told without opening any of ours."""

from pathlib import Path
from typing import Final, NamedTuple

import anyio.to_thread

from ...configs.base_config import BaseConfig
from ...configs.roles import StudentSettings
from ...configs.tools import TOOL_NAMES
from ...messages.chat import JsonObject
from ..groups import task_group
from .builtin.data_view import DataView
from .builtin.fetch import FetchTool
from .builtin.files import FileTools
from .builtin.math import MathTool
from .builtin.memory import MemoryTool
from .builtin.promote_skill import SkillPromotion
from .builtin.pyexe import PyExe
from .builtin.python import PythonTool
from .builtin.retrieve import describe, parameters_for
from .builtin.shell import Shell
from .builtin.test_runner import TestRunner
from .function_tool import FunctionTool
from .mcp.client import McpServer
from .plans.plan_tool import NAME as PLAN
from .plans.plan_tool import PlanTool
from .skills import SkillStore
from .tool_formats import TEXT
from .tool_provider import tool_names

_TYPED: Final[dict[str, FunctionTool]] = {
    each.name: each
    for each in (
        PyExe.pyexe, Shell.shell, MathTool.math, TestRunner.test_runner, FileTools.list_files,
        FileTools.read_file, FileTools.write_file, DataView.data_view, MemoryTool.memory, FetchTool.fetch,
        SkillPromotion.promote_skill,
    )
}  # fmt: skip


class ToolInfo(NamedTuple):
    """One tool, as far as it is known before it is opened."""

    name: str
    on: bool
    """Whether the settings give it to the Student."""
    description: str
    parameters: JsonObject
    limits: dict[str, float]
    """What holds it back: seconds, MB, characters, as the names say."""


def list_tools(settings: StudentSettings) -> tuple[ToolInfo, ...]:
    """All tools of this project; those of MCP servers and skills are known once they are opened."""
    on = tool_names(settings)
    python = PythonTool(settings.sandbox)
    known = {name: (each.description, each.parameters) for name, each in _TYPED.items()}
    known["python"] = (python.description, python.parameters)
    known[PLAN] = (PlanTool.description, PlanTool.parameters)
    tags = settings.retrieve.tags
    known["retrieve"] = (describe(tags), parameters_for(tags))
    return tuple(
        ToolInfo(name, name in on, description, parameters or TEXT, limits_of(name, settings))
        for name, (description, parameters) in ((name, known[name]) for name in TOOL_NAMES)
    )


async def added_tools(settings: StudentSettings) -> tuple[tuple[ToolInfo, ...], tuple[str, ...]]:
    """The tools of MCP servers and the skills; and why some are not there. The servers are asked for it."""
    servers = [McpServer(server) for server in settings.toolbox.mcp]
    try:
        async with task_group() as group:
            for server in servers:
                group.start_soon(server.start)
    finally:
        for server in servers:
            await server.aclose()
    shelf = SkillStore(Path(settings.toolbox.workspace) / "skills")
    skills = await anyio.to_thread.run_sync(shelf.load)
    on = "promote_skill" in tool_names(settings)
    mounted = [
        ToolInfo(each.name, True, each.description, each.parameters or TEXT, {})
        for server in servers
        for each in server.tools
    ]
    kept = [ToolInfo(skill.name, on, skill.description, skill.parameters.schema, {}) for skill in skills]
    problems = [problem for server in servers for problem in server.problems]
    if skills and not on:
        problems.append(f"{len(skills)} skills are not loaded: student.tools does not name promote_skill")
    return (*mounted, *kept), (*problems, *shelf.problems)


def limits_of(name: str, settings: StudentSettings) -> dict[str, float]:
    """The limits of one tool; empty for a tool that is not ours."""
    box = settings.toolbox
    sections: dict[str, tuple[BaseConfig, ...]] = {
        "python": (settings.sandbox,),
        "pyexe": (box.sandbox,),
        "shell": (box.sandbox, box.shell),
        "math": (box.math,),
        "test_runner": (box.sandbox, box.test_runner),
        "list_files": (box.files,),
        "read_file": (box.files,),
        "write_file": (box.files,),
        "data_view": (box.data_view,),
        "memory": (box.memory,),
        "fetch": (box.fetch,),
        "retrieve": (settings.retrieve,),
        "promote_skill": (settings.sandbox,),
        PLAN: (box.plan,),
    }
    return {
        key: value
        for section in sections.get(name, ())
        for key, value in section
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
