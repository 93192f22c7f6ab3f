"""Registry of the domains: what is asked for, how it is asked, and how answers are judged.

Each is a folder here: its prompts, its task generator, and its judge. Others come from installed packages, by
entry points of the group `agentfactory.domains`. Nothing is imported before it is asked for: grader processes
import single modules of this package, and little else.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final

from ...configs.errors import BadInput

if TYPE_CHECKING:
    from .base import Domain

GROUP: Final = "agentfactory.domains"
_OURS: Final = ("math", "logic", "code", "long", "data")


@cache
def _entries() -> dict[str, EntryPoint]:
    ours = {
        name: EntryPoint(name, f"agentfactory.actors.domains.{name}.domain:DOMAIN", GROUP) for name in _OURS
    }
    return {entry.name: entry for entry in entry_points(group=GROUP)} | ours


def domain_names() -> tuple[str, ...]:
    """All domains that there are: ours, then those of installed packages."""
    return (*_OURS, *sorted(_entries().keys() - set(_OURS)))


def domain_named(name: str) -> "Domain":
    """The domain of this name. Raises BadInput for an unknown one."""
    entry = _entries().get(name)
    if entry is None:
        raise BadInput(f"unknown domain {name!r}; known: {', '.join(domain_names())}")
    domain: Domain = entry.load()
    return domain


def needs_store(name: str) -> bool:
    """True if tasks of this domain act on the data plane. Raises BadInput for an unknown one."""
    return domain_named(name).needs_store
