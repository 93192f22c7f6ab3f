"""The list of all tools, told without opening any of ours."""

from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from ...configs.roles import StudentSettings
from ...configs.tools import known_tools
from ...messages.chat import JsonObject
from ..tasks import task_group
from .mcp.client import McpServer
from .registry import definition_of, enabled_tools
from .skills import SkillStore
from .tool_formats import TEXT


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
    """All tools that are known without opening anything: ours, and those of installed packages."""
    on = enabled_tools(settings)
    known = [(name, definition_of(name).spec(settings)) for name in known_tools()]
    return tuple(
        ToolInfo(name, name in on, spec.description, spec.parameters or TEXT, limits_of(name, settings))
        for name, spec in known
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
    on = "promote_skill" in enabled_tools(settings)
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
    sections = definition_of(name).limits(settings) if name in known_tools() else ()
    return {
        key: value
        for section in sections
        for key, value in section
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
