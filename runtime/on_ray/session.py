"""Starting Ray, or joining it, and leaving it as it was found.

What a start costs (Ray 2.60, two cores): importing Ray 0.6 s; then about 6 s without the dashboard
and 7 s with it, nearly all of it Ray's own Python processes coming up one after the other: the
dashboard's (1.5 to 4 s, also where it only reports usage), then each node's agent, which the raylet
waits for (3 s). No documented switch leaves them out, so the start runs in a thread: whatever else
the program has to load can be loaded meanwhile.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import ray
import structlog
from ray._private import worker as ray_worker

from ..daemon_thread import DaemonThread, daemon_thread
from ..errors import TransportError
from .address import cluster_address
from .health_check import check_cluster

log = structlog.get_logger("ray")

START_TIMEOUT_S = 120.0
JOIN_TIMEOUT_S = 60.0
"""After the cluster has answered."""
LEAVE_TIMEOUT_S = 30.0
"""Ray gives each process of a local cluster a few seconds to end before it kills it."""
TOO_SLOW = "The current node timed out during startup"
"""What Ray says of a node that is not up within 30 s, which a busy machine may need; it has no setting."""
MAX_FOLDER = 40
"""Characters. Ray puts unix sockets into its folder, and their paths end at 107."""


class RaySession(NamedTuple):
    """A connection to Ray."""

    started_here: bool
    """Whether this process started the cluster (and will end it)."""
    dashboard_url: str
    """Empty where there is none."""
    address: str


@asynccontextmanager
async def ray_session(
    *, dashboard: bool = False, num_cpus: int | None = None, temp_dir: str | None = None
) -> AsyncIterator[RaySession]:
    """Connect this process to Ray for as long as the block lasts.

    A process that is connected already, one inside a Ray job, and one with `RAY_ADDRESS` set join
    the running cluster; any other starts a local one with at least two CPUs, and ends it. Nothing is
    written to the terminal: what Ray has to say of its processes goes to the log.
    Raises ClusterUnreachable where nobody answers at `RAY_ADDRESS`, TransportError where Ray cannot be
    started.
    """
    if ray.is_initialized():
        yield _session(started_here=False)
        return
    address = cluster_address()
    if address is None:
        start, limit_s = _starting(dashboard, num_cpus, temp_dir), START_TIMEOUT_S
        what, joins = "start Ray on this machine", False
    else:
        await check_cluster(address)
        start, limit_s = _joining(address), JOIN_TIMEOUT_S
        what, joins = f"join the Ray cluster at RAY_ADDRESS={address!r}", True
    _keep_terminal_clean()
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(limit_s):
                thread = await _started(stack, start)
        except TimeoutError:
            raise TransportError(f"cannot {what}: no answer within {limit_s:g} s") from None
        except Exception as error:  # Ray raises bare Exception, ValueError, ConnectionError, OSError, …
            raise TransportError(f"cannot {what}: {_first_line(error)}") from error
        try:
            yield _session(started_here=not joins)
        finally:
            await _leave(thread)


async def _started(stack: AsyncExitStack, start: Callable[[], object]) -> DaemonThread:
    """The thread that Ray has been started in, once more where its node was too slow for Ray's own limit.

    One thread for all of a session: the kernel ends the processes of a local cluster with the thread
    that started them. So those of a first try end with its thread.
    """
    try:
        with ExitStack() as first:
            thread = first.enter_context(daemon_thread("ray"))
            await thread.run(start)
            stack.push(first.pop_all())
            return thread
    except Exception as error:
        if TOO_SLOW not in str(error):
            raise
        log.warning("Ray's node was not up within Ray's own limit: starting it once more")
    thread = stack.enter_context(daemon_thread("ray"))
    await thread.run(start)
    return thread


async def _leave(thread: DaemonThread) -> None:
    """Leave Ray. One that does not let go is no error of what was done with it."""
    try:
        async with asyncio.timeout(LEAVE_TIMEOUT_S):
            await thread.run(ray.shutdown)
    except TimeoutError:
        log.warning(
            f"Ray has not shut down within {LEAVE_TIMEOUT_S:g} s; what it started here ends with this program"
        )


def _joining(address: str) -> Callable[[], object]:
    return lambda: ray.init(address=address, log_to_driver=False, logging_level="error")


def _starting(dashboard: bool, num_cpus: int | None, temp_dir: str | None) -> Callable[[], object]:
    folder = temp_dir or _short_folder()
    if len(folder) > MAX_FOLDER:
        raise TransportError(
            f"Ray's folder {folder!r} has {len(folder)} characters, and unix sockets go into it: "
            f"give one of at most {MAX_FOLDER}"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return lambda: ray.init(
        address="local",
        num_cpus=max(2, num_cpus or os.cpu_count() or 2),
        include_dashboard=dashboard,
        log_to_driver=False,
        logging_level="error",
        _temp_dir=folder,
    )


def _short_folder() -> str:
    """A folder for Ray's sockets and logs: the usual one, or /tmp/ray where TMPDIR is long."""
    usual = str(Path(tempfile.gettempdir()) / "ray")
    return usual if len(usual) <= MAX_FOLDER else "/tmp/ray"


def _session(started_here: bool) -> RaySession:
    context = ray.get_runtime_context()
    url = ray_worker.get_dashboard_url() or ""
    return RaySession(started_here, f"http://{url}" if url else "", context.gcs_address)


def _keep_terminal_clean() -> None:
    """Send what Ray's driver prints of dead workers to the log instead of stdout.

    `log_to_driver=False` does not cover the raylet's messages, and Ray has no setting for them; the
    listener thread looks this function up by name each time, so it can be replaced.
    """

    def to_log(data: dict[str, object], ignore_prefix: bool = False) -> None:
        lines = data.get("lines")
        for line in lines if isinstance(lines, list) else ():
            log.warning("ray says", source=str(data.get("pid", "")), line=str(line))

    if hasattr(ray_worker, "print_to_stdstream"):
        ray_worker.print_to_stdstream = to_log


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
