"""AgentFactory: language-model agents that get better at their work.

A worked example::

    import agentfactory

    async with agentfactory.Factory.open("laptop") as factory:
        run = await factory.evolve(rounds=5)
        async for event in run:
            ...
        result = await run.result()
        solution = await factory.solve("What is 12*(7+5)?", run_dir=result.run_dir)
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentfactory.factory import Factory
    from agentfactory.runs import Run
    from configs.errors import AgentFactoryError, BadInput
    from configs.settings import Settings
    from messages.episodes import Solution
    from messages.runs import RunResult
    from messages.tasks import Task

__all__ = ["AgentFactoryError", "BadInput", "Factory", "Run", "RunResult", "Settings", "Solution", "Task"]

_HOMES = {
    "Factory": "agentfactory.factory",
    "Run": "agentfactory.runs",
    "Settings": "configs.settings",
    "AgentFactoryError": "configs.errors",
    "BadInput": "configs.errors",
    "Solution": "messages.episodes",
    "RunResult": "messages.runs",
    "Task": "messages.tasks",
}

try:
    __version__ = version("agentfactory")
except PackageNotFoundError:  # used from a checkout that is not installed
    __version__ = "0.0.0"


def _check_rooms() -> None:
    """The rooms have plain names: a folder of the user's with such a name would shadow ours."""
    home = Path(__file__).resolve().parent.parent
    for room in ("messages", "configs"):
        found = Path(import_module(room).__file__ or "").resolve().parent
        if found.parent != home:
            raise ImportError(
                f"AgentFactory needs its own package {room!r} but Python found {found} first; rename "
                "that folder, or start Python from another directory"
            )


_check_rooms()


def __dir__() -> list[str]:
    """All of the face, also what has not been used yet."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    """Load the face when it is first used: `import agentfactory` itself stays quick."""
    if name in _HOMES:
        value: object = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module 'agentfactory' has no attribute {name!r}")
