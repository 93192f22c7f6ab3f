"""`agentfactory demo`: sample documents go in, are found, fetched and pruned, by one agent and by several."""

import asyncio
import sys
from pathlib import Path
from typing import Final

from ..cluster.agents.blueprint_registry import BlueprintRegistry
from ..configs.data import DataSettings
from ..configs.errors import BadInput
from .conversation import Conversation
from .loop import Loop, given, quiet_log
from .replies import ReplyLine, colours_wanted, show
from .session_manager import SessionManager

SAMPLES: Final = (
    Path(__file__).parents[2] / "data" / "sample_docs",
    Path(sys.prefix) / "share" / "agentfactory" / "sample_docs",
)
"""In a checkout, and where the project is installed."""
TAG: Final = "sample_docs"
SINGLE: Final = (
    "ingest {folder} as {tag}",
    "query {tag}",
    "get setup_guide.md from {tag}",
    "prune setup_guide.md from {tag}",
    "get setup_guide.md from {tag}",
    "status",
)
COORDINATED: Final = (
    "load {file} as {tag}",
    "search all data, then get project_overview.md from {tag}",
    "prune project_overview.md from {tag} and get project_overview.md from {tag}",
    "status",
)
READERS: Final = ("iowarp_agent", "ingestor_agent")
"""Who reads the samples, which may lie anywhere."""
MODES: Final = {
    "single": ("One agent: iowarp_agent, by rules", "iowarp_agent", SINGLE),
    "coordinated": ("Several agents: coordinator_agent routes", "coordinator_agent", COORDINATED),
}


def demo(registry: BlueprintRegistry, data: DataSettings, *, mode: str, as_json: bool) -> int:
    """Returns 0 if each command was carried out. Raises BadInput where the samples are missing."""
    folder = samples()
    chosen = list(MODES) if mode == "both" else [mode]
    return max(
        asyncio.run(_play(one, SessionManager(registry, data, prepare=quiet_log), folder, as_json))
        for one in chosen
    )


def samples() -> Path:
    """The folder of the sample documents, relative where it lies below this one. Raises BadInput."""
    for folder in SAMPLES:
        if folder.is_dir():
            return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    raise BadInput(f"the sample documents are missing: expected them in {SAMPLES[0]} or {SAMPLES[1]}")


async def _play(mode: str, manager: SessionManager, folder: Path, as_json: bool) -> int:
    title, agent, commands = MODES[mode]
    for reader in READERS:
        manager.configure(reader, {"uri_resolver.roots": [str(folder)]})
    show([ReplyLine(f"{title}\n", "bold")] if not as_json else (), colours=colours_wanted())
    names = {"folder": f"folder::{folder}", "file": f"file::{folder / 'project_overview.md'}", "tag": TAG}
    loop = Loop(Conversation(manager, agent), as_json=as_json, forgiving=False, echo=not as_json)
    try:
        return await loop.work(given([text.format(**names) for text in commands]))
    finally:
        await manager.aclose()
