"""The registry of tools. Nothing is imported before it is asked for.

A built-in tool is a line of `configs.tools.BUILTIN_TOOLS`. Others come from installed packages, by entry
points of the group `agentfactory.tools`. What these name is a `ToolDefinition`, or a function under `@tool`:

    [project.entry-points."agentfactory.tools"]
    weather = "my_package.weather:weather"
"""

from functools import cache

from ...configs.errors import SettingsError
from ...configs.roles import StudentSettings
from ...configs.tools import tool_entries
from .definition import SharedTool, ToolDefinition
from .function_tool import FunctionTool


@cache
def definition_of(name: str) -> ToolDefinition:
    """The definition of a tool that `known_tools` names. Raises SettingsError where it cannot be loaded."""
    entry = tool_entries()[name]
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"the tool {name} cannot be loaded from {entry.value}: {error}") from error
    if isinstance(found, ToolDefinition):
        return found
    if not isinstance(found, FunctionTool):
        raise SettingsError(f"the tool {name}: {entry.value} is neither a ToolDefinition nor made by @tool")
    if found.name != name:
        raise SettingsError(f"the tool {name}: {entry.value} is called {found.name}; give both one name")
    return SharedTool(spec=lambda _: found, open=lambda _: found)


def enabled_tools(settings: StudentSettings) -> tuple[str, ...]:
    """The tools that are on: those named, and retrieve where it has texts. Raises SettingsError."""
    names = settings.tools
    if "retrieve" in names and not settings.retrieve.tags:
        raise SettingsError("student.tools names retrieve, but student.retrieve.tags names nothing to search")
    if settings.retrieve.tags and "retrieve" not in names:
        return (*names, "retrieve")
    return names
