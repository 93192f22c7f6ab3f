"""What a cache tier says of itself."""

from typing import NamedTuple

from .servers import ServerStatistics


class TierStatistics(NamedTuple):
    """How the tier did for this process."""

    hits: int
    misses: int
    """With `errors`."""
    errors: int
    """Reads that found their server down, slow or wrong, or skipped it."""
    bytes: int
    """Of values, read."""
    fills: int
    """Values stored."""
    lost_fills: int
    """Values not stored: the key had changed meanwhile, or the server did not take them."""
    shared_loads: int
    """Misses that waited for the load of another one."""
    servers: tuple[ServerStatistics, ...]
