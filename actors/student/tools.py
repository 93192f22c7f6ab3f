"""The tools that a Student's settings name, with what they need of other rooms."""

from functools import partial

from ...bridge.search.embedding import local_embedder
from ...configs.roles import StudentSettings
from ...runtime.ref import Ref
from ...runtime.tools.tool_provider import ToolProvider


def toolkit(settings: StudentSettings, searcher: Ref | None = None) -> ToolProvider:
    """The kit, not started yet. Raises SettingsError where a tool that is on lacks what it needs."""
    return ToolProvider(settings, searcher, partial(local_embedder, settings.toolbox.memory.embedder))
