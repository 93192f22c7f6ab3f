"""What a sandbox says about itself."""

from typing import NamedTuple


class Isolation(NamedTuple):
    """What really stands between the model's code and this machine."""

    level: str
    """`seccomp` (Python calls: the kernel refuses all but computing), `bubblewrap`, `landlock`, or
    `limits`: only resource limits hold."""
    namespaces: tuple[str, ...]
    """Which parts of the machine are out of sight as well."""
    user: str
    """`nobody`, or `same` where the sandbox was not started by root."""
    detail: str
    """Why the level is not higher; empty at the highest."""
