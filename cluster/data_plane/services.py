"""The data plane as background processes: what to start, starting it, looking at it, stopping it.

`agentfactory up` writes a plan into the data plane's folder and starts a supervisor
(`cluster.data_plane.process_supervisor`) that outlives it; everything else finds the plan there.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
import psutil

import agentfactory

from ...bridge.client.client import BridgeClient
from ...bridge.errors import BridgeError
from ...bridge.store.factory import choose_store, store_id
from ...configs.data import CacheHost, CacheSettings, DataSettings
from ...configs.errors import AgentFactoryError, BadInput
from ...configs.files import write_atomically
from .capacity import fit_to_machine
from .ports import address, free_port, is_free, listener
from .process_supervisor import (
    GRACE_S,
    LOGS,
    PLAN,
    ServicePlan,
    ServiceSpec,
    SupervisorState,
    is_supervised,
    read_state,
)

UP_TIMEOUT_S = 90.0
ITEM_OVERHEAD = 64 << 10
"""Bytes of an item beside its value, and more."""
MEMCACHED = "memcached-"
"""What the names of its services begin with."""
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class CannotStart(AgentFactoryError):
    """The data plane did not come up; what it had started has been stopped."""

    blamed = ""
    """The service that kept it from coming up; empty if none did."""


class BackendChoice(NamedTuple):
    """A kind, and why this one."""

    kind: str
    why: str


def choose_cache(data: DataSettings) -> BackendChoice:
    """memcached where the program is found, else the embedded cache. Raises BadInput for one that is not."""
    found = shutil.which("memcached") is not None
    elsewhere = any(host.host not in LOOPBACK for host in data.cache.hosts)
    if data.cache.kind == "embedded":
        return BackendChoice("embedded", "asked for")
    if found or elsewhere:
        return BackendChoice(
            "memcached", "asked for" if data.cache.kind == "memcached" else "memcached was found"
        )
    if data.cache.kind == "memcached":
        raise BadInput(
            "the cache memcached needs the program memcached on the PATH: install it "
            "(`apt-get install memcached`), or choose --cache embedded"
        )
    return BackendChoice("embedded", "there is no program memcached")


def make_plan(data: DataSettings, folder: Path, owner: int = 0) -> ServicePlan:
    """Decide what runs, until the process `owner` has ended. Raises BadInput for what cannot."""
    store, cache = choose_store(data.store), choose_cache(data)
    data, notes = fit_to_machine(data)
    endpoint, moved = _free_endpoint(data.bridge.endpoints[0])
    hosts = data.cache.hosts
    if cache.kind == "memcached":
        hosts, hosts_moved = _free_hosts(hosts)
        moved += hosts_moved
    chosen = data.model_copy(
        update={
            "bridge": data.bridge.model_copy(
                update={
                    "endpoints": (endpoint, *data.bridge.endpoints[1:]),
                    "store_id": store_id(Path(data.store.folder)),
                }
            ),
            "store": data.store.model_copy(update={"kind": store.kind}),
            "cache": data.cache.model_copy(update={"kind": cache.kind, "hosts": hosts}),
            "folder": str(folder),
        }
    )
    argv = (sys.executable, "-m", "agentfactory.cluster.data_plane.bridge_server", str(folder))
    about = f"bridge server on {endpoint}, {store.kind} store in {data.store.folder}"
    services = [ServiceSpec(name="bridge", argv=argv, about=about)]
    if cache.kind == "memcached":
        local = [host for host in hosts if host.host in LOOPBACK]
        services += [_memcached(chosen, host, number) for number, host in enumerate(local)]
    state = SupervisorState(
        pid=0,
        endpoint=endpoint,
        store=f"{store.kind} ({store.why})",
        cache=f"{cache.kind} ({cache.why})",
        notes=(*notes, *moved),
        owner=owner,
    )
    return ServicePlan(data=chosen, state=state, services=tuple(services))


def _free_endpoint(endpoint: str) -> tuple[str, tuple[str, ...]]:
    """Endpoint of the bridge: another port where that is taken, which is said, or is 0."""
    found = address(endpoint)
    if found is None or (found[1] and is_free(*found)):
        return endpoint, ()
    host, port = found
    free = f"{endpoint.rpartition(':')[0]}:{free_port(host)}"
    return free, (f"{endpoint} has {listener(host, port)}: this bridge is on {free}",) if port else ()


def _free_hosts(hosts: Sequence[CacheHost]) -> tuple[tuple[CacheHost, ...], tuple[str, ...]]:
    """The caches, those of this machine on other ports where theirs are taken, which is said.

    A memcached that runs already is never joined: it is somebody's, and a cache that recovers is emptied.
    """
    found: list[CacheHost] = []
    moved: list[str] = []
    for host in hosts:
        if host.host in LOOPBACK and not is_free(host.host, host.port):
            free = host.model_copy(update={"port": free_port(host.host)})
            who = listener(host.host, host.port)
            moved.append(f"{host.host}:{host.port} has {who}: this memcached is on port {free.port}")
            host = free
        found.append(host)
    return tuple(found), tuple(moved)


def _memcached(data: DataSettings, host: CacheHost, number: int) -> ServiceSpec:
    cache = data.cache
    program = shutil.which("memcached") or "memcached"
    argv = [program, "-l", host.host, "-p", str(host.port), "-U", "0", "-m", str(cache.memory_mb)]
    argv += ["-I", f"{_item_mb(cache)}m"]
    about = f"memcached on {host.host}:{host.port}, {cache.memory_mb} MB"
    user = "nobody" if os.geteuid() == 0 else ""
    return ServiceSpec(name=f"{MEMCACHED}{number}", argv=tuple(argv), about=about, user=user)


def _item_mb(cache: CacheSettings) -> int:
    """The largest item: other clients of this memcached store their values whole.

    Half of its memory is the most that memcached accepts.
    """
    largest = max(cache.item_limit, cache.max_value_size + ITEM_OVERHEAD)
    return max(1, min(-(-largest // (1 << 20)), cache.memory_mb // 2))


async def bring_up(
    data: DataSettings, folder: Path, owner: int = 0, watch: Callable[[str], None] = lambda _: None
) -> ServicePlan:
    """Decide what runs, and start it. Raises what `make_plan` and `up` raise.

    Where another program takes a port in between, or a memcached that nobody asked for does not start, it
    is decided once more.
    """
    trouble = ""
    for last in (False, False, True):
        plan = make_plan(data, folder, owner)
        if trouble:
            notes = (*plan.state.notes, trouble)
            plan = plan.model_copy(update={"state": plan.state.model_copy(update={"notes": notes})})
        try:
            await up(plan, folder, watch)
            return plan
        except CannotStart as error:
            if last or not (_lost_a_port(plan) or _may_go_without(data, error)):
                raise
            if not _lost_a_port(plan):
                trouble = f"memcached does not start ({error}): the cache is embedded"
                data = data.model_copy(update={"cache": data.cache.model_copy(update={"kind": "embedded"})})
    raise AssertionError("the last time returns or raises")


def _lost_a_port(plan: ServicePlan) -> bool:
    """True if a port that was free is not any more, after all that was started has been stopped."""
    where = address(plan.state.endpoint)
    hosts = plan.data.cache.hosts if plan.data.cache.kind == "memcached" else ()
    taken = [host for host in hosts if host.host in LOOPBACK and not is_free(host.host, host.port)]
    return bool(taken) or (where is not None and not is_free(*where))


def _may_go_without(data: DataSettings, error: CannotStart) -> bool:
    return data.cache.kind == "auto" and error.blamed.startswith(MEMCACHED)


async def up(
    plan: ServicePlan, folder: Path, watch: Callable[[str], None] = lambda _: None
) -> SupervisorState:
    """Start it and wait until it answers. Raises BadInput if it is up already, CannotStart."""
    if is_supervised(folder) and not await _has_ended_with_its_owner(folder):
        raise BadInput(f"{folder}: the data plane is up already; see `agentfactory status`")
    try:
        (folder / LOGS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be used for the data plane ({error.strerror})") from error
    write_atomically(folder / PLAN, plan.model_dump_json(indent=2).encode())
    watch(f"starting {', '.join(service.name for service in plan.services)}")
    try:
        with anyio.fail_after(UP_TIMEOUT_S):
            await _leave_supervisor(folder)
            state = await _answering(plan, folder)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await down(folder)
        if isinstance(error, TimeoutError):
            raise _cannot_start(folder, f"did not answer in {UP_TIMEOUT_S:g} s") from None
        raise
    return state


async def down(folder: Path) -> bool:
    """Stop it, in good order; whether there was anything to stop."""
    state = read_state(folder)
    if state is None or state.pid == 0:
        return False
    try:
        process = psutil.Process(state.pid)
        process.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        return False
    with anyio.move_on_after(2 * GRACE_S) as scope:
        while is_supervised(folder):  # noqa: ASYNC110 - the kernel tells nobody of a lock
            await anyio.sleep(0.05)
    if scope.cancelled_caught:
        process.kill()  # its children are told by the kernel
    return True


async def ping(plan: ServicePlan, timeout_ms: int = 2000) -> float:
    """Milliseconds of a round trip to the bridge. Raises BridgeDown."""
    settings = plan.data.bridge.model_copy(
        update={"connect_timeout_ms": timeout_ms, "request_timeout_ms": timeout_ms}
    )
    async with BridgeClient(settings) as client:
        began = time.perf_counter()
        await client.ping()
        return (time.perf_counter() - began) * 1000


def running_plan(folder: Path) -> ServicePlan | None:
    """The plan of the data plane that is up in this folder; None if that is about to end with its owner."""
    if not is_supervised(folder):
        return None
    try:
        plan = ServicePlan.model_validate_json((folder / PLAN).read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{folder / PLAN}: cannot be read ({error}); `agentfactory down`, then `up`"
        ) from error
    return plan if not plan.state.owner or _is_alive(plan.state.owner) else None


async def _has_ended_with_its_owner(folder: Path) -> bool:
    """Wait for the end of a data plane whose owner has died; False at once for any other."""
    if running_plan(folder) is not None:
        return False
    with anyio.move_on_after(2 * GRACE_S):
        while is_supervised(folder):  # noqa: ASYNC110 - the kernel tells nobody of a lock
            await anyio.sleep(0.05)
    return not is_supervised(folder)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _answering(plan: ServicePlan, folder: Path) -> SupervisorState:
    while True:
        state = read_state(folder)
        failed = [s for s in state.services if s.state in ("failed", "restarting")] if state else []
        if failed or state is None:
            raise _cannot_start(folder)
        if all(service.state == "running" for service in state.services):
            try:
                await ping(plan, timeout_ms=500)
            except BridgeError:
                continue
            return state
        await anyio.sleep(0.05)


async def _leave_supervisor(folder: Path) -> None:
    paths = [
        str(Path(agentfactory.__file__ or "").parents[1]),
        os.environ.get("PYTHONPATH", ""),
    ]  # found from any folder
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (folder / LOGS / "supervisor.log").open("ab") as log:
        ended = await anyio.run_process(
            [sys.executable, "-m", "agentfactory.cluster.data_plane.process_supervisor", str(folder)],
            stdout=log,
            stderr=log,
            check=False,
            env=environment,
        )
    if ended.returncode != 0:
        raise _cannot_start(folder)


def _cannot_start(folder: Path, what: str = "did not come up") -> CannotStart:
    """Error that names the service to blame, and the last line of its log."""
    state = read_state(folder)
    blamed = [service.name for service in (state.services if state else ()) if service.state != "running"]
    name = blamed[0] if blamed else "supervisor"
    path = folder / LOGS / f"{name}.log"
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    last = f": {lines[-1][-300:]}" if lines else ""
    error = CannotStart(f"the data plane {what}; {name} said{last} (all of it: {path})")
    error.blamed = blamed[0] if blamed else ""
    return error
