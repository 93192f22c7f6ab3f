"""A health check of a Ray cluster, run in a process of its own.

Ray's own client waits for minutes where nobody answers, and neither a signal nor a timeout reaches
it; a process can be killed. The child (`health_probe`) reports its steps as lines of JSON, so that
the parent knows which of them took too long.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from ..errors import ClusterUnreachable

IMPORT_TIMEOUT_S: Final = 60.0
"""For Python and Ray to be loaded, however busy the machine is."""
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 8.0
PROBE: Final = str(Path(__file__).with_name("health_probe.py"))
INSTEAD: Final = "start one with `ray start --head`, or unset RAY_ADDRESS to run on this machine alone"


async def check_cluster(address: str) -> None:
    """Return once the cluster at a RAY_ADDRESS answers. Raises ClusterUnreachable."""
    where = f"cannot join the Ray cluster at RAY_ADDRESS={address!r}"
    scheme, parted, _ = address.partition("://")
    if parted and scheme == "ray":
        raise ClusterUnreachable(
            f"{where}: that is an address of Ray Client, which cannot host actors of ours; use `ray job "
            "submit`, or HOST:PORT of the head (6379) on one of the cluster's machines"
        )
    if parted:
        raise ClusterUnreachable(
            f"{where}: expected HOST:PORT of the head (6379); an address with {scheme}:// is one for "
            "`ray job submit --address`"
        )
    async with _child(address) as child:
        await _follow(child, where)


@asynccontextmanager
async def _child(address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", PROBE, address, str(CONNECT_TIMEOUT_S)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the parent, which kills it
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _follow(child: asyncio.subprocess.Process, where: str) -> None:
    """Read the child's steps, each within its limit."""
    assert child.stdout is not None
    limit_s, too_late = IMPORT_TIMEOUT_S, f"Ray was not loaded within {IMPORT_TIMEOUT_S:g} s"
    while True:
        try:
            async with asyncio.timeout(limit_s):
                line = await child.stdout.readline()
        except TimeoutError:
            raise ClusterUnreachable(f"{where}: {too_late}; {INSTEAD}") from None
        if not line:
            raise ClusterUnreachable(f"{where}: Ray's client crashed; is RAY_AUTH_MODE what the cluster has?")
        step, detail = json.loads(line)
        if step == "answered":
            return
        if step == "failed":
            raise ClusterUnreachable(f"{where}: {detail}; {INSTEAD}")
        if step == "connecting":
            limit_s, too_late = 2 * CONNECT_TIMEOUT_S, f"no connection to {detail} within its limit"
        else:
            limit_s = ANSWER_TIMEOUT_S
            too_late = f"{detail} accepts connections, but no Ray answers within {limit_s:g} s"
