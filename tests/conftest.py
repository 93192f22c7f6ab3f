"""What all tests share: a limit on every async test, and one Ray for the whole session."""

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest

LIMIT_S = 180.0
SLOW_LIMIT_S = 1200.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            slow = item.get_closest_marker("slow") is not None
            item.obj = _limited(item.obj, SLOW_LIMIT_S if slow else LIMIT_S)


def _limited(test: Callable[..., Awaitable[None]], limit_s: float) -> Callable[..., Awaitable[None]]:
    """The test, failing instead of hanging."""

    @functools.wraps(test)
    async def limited(*args: object, **kwargs: object) -> None:
        async with asyncio.timeout(limit_s):
            await test(*args, **kwargs)

    return limited


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray, started by the first test that needs it; its processes import what we can."""
    from agentfactory.runtime.on_ray.session import ray_session

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.delenv("RAY_ADDRESS", raising=False)
        session = ray_session()
        runner.run(session.__aenter__())
        yield
        runner.run(session.__aexit__(None, None, None))
