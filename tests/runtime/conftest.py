"""One suite over both transports.

The tests of a module share one system and one register for each transport, since on Ray each actor
costs a process; what a test spawned is stopped after it.
"""

import os
from collections.abc import AsyncIterator, Callable
from typing import Literal

import pytest
import pytest_asyncio
from players import Forget, Register

from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.sandbox.resource_usage import children
from agentfactory.runtime.system import ActorSystem

TransportName = Literal["local", "ray"]


@pytest.fixture
def left_behind() -> Callable[[], list[int]]:
    """Children that this process has got since the test began; Ray's may have been there before."""
    before = set(children(os.getpid()))
    return lambda: [pid for pid in children(os.getpid()) if pid not in before]


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def transport(request: pytest.FixtureRequest) -> TransportName:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(transport: TransportName) -> AsyncIterator[tuple[ActorSystem, ActorRef]]:
    async with ActorSystem.open(transport, backoff_s=0.01, max_restarts=3, mailbox=8) as opened:
        yield opened, await opened.spawn(Register, name="register", mailbox=1024)


@pytest_asyncio.fixture(loop_scope="module")
async def system(shared: tuple[ActorSystem, ActorRef]) -> AsyncIterator[ActorSystem]:
    opened, _ = shared
    yield opened
    for name in reversed(opened.names):
        if name not in {"topics", "register"}:
            await opened.stop(name, grace_s=0)


@pytest_asyncio.fixture(loop_scope="module")
async def register(shared: tuple[ActorSystem, ActorRef]) -> ActorRef:
    _, opened = shared
    await opened.ask(Forget(), timeout_s=120)
    return opened
