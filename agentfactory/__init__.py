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

import os.path
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configs.errors import AgentFactoryError, BadInput
    from .configs.settings import Settings
    from .factory import Factory
    from .messages.episodes import Solution
    from .messages.runs import RunResult
    from .messages.tasks import Task
    from .run import Run

__all__ = ["AgentFactoryError", "BadInput", "Factory", "Run", "RunResult", "Settings", "Solution", "Task"]

_HOMES = {
    "Factory": "agentfactory.factory",
    "Run": "agentfactory.run",
    "Settings": "agentfactory.configs.settings",
    "AgentFactoryError": "agentfactory.configs.errors",
    "BadInput": "agentfactory.configs.errors",
    "Solution": "agentfactory.messages.episodes",
    "RunResult": "agentfactory.messages.runs",
    "Task": "agentfactory.messages.tasks",
}

__version__: str
if not os.path.isdir(os.path.join(__path__[0], "runtime")):
    # In a checkout the rooms lie beside this folder; in a wheel they lie in it.
    __path__.append(os.path.dirname(__path__[0]))


def __dir__() -> list[str]:
    """All of the face, also what has not been used yet."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    """Load the face when it is first used: `import agentfactory` itself stays quick."""
    if name in _HOMES:
        value: object = getattr(import_module(_HOMES[name]), name)
        return value
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'agentfactory' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("agentfactory")
    except PackageNotFoundError:  # used from a checkout that is not installed
        return "0.0.0"
