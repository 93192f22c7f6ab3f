"""Supervisor of the data plane's processes: the bridge server with its store, and memcached.

`python -m agentfactory.cluster.data_plane.process_supervisor FOLDER` leaves one behind and returns once that
holds the folder, so that whoever asked need not wait for its end.

Consumes a plan (`ServiceSpec`s) and the deaths of its children; produces their restarts and the state file
that `agentfactory status` reads; waits for children to end; unblocked by that and by SIGTERM.

Invariants: one supervisor holds a folder's lock; a child never outlives it by more than its grace, not
even where the supervisor is killed; nor does it outlive its owner, if it has one; a child that keeps dying
young is given up and said to have failed.
"""

import asyncio
import ctypes
import fcntl
import os
import pwd
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from ...configs.base_config import BaseConfig
from ...configs.data import DataSettings
from ...configs.errors import BadInput, boundary
from ...configs.files import write_atomically

PLAN, STATE, LOCK, LOGS = "plan.json", "services.json", "services.lock", "logs"
GRACE_S = 10.0
"""From SIGTERM to SIGKILL."""
BACKOFF_S, MAX_BACKOFF_S = 0.2, 10.0
YOUNG_S = 20.0
"""A child that dies younger than this has failed to start."""
MAX_YOUNG_DEATHS = 6
_PR_SET_PDEATHSIG = 1


class ServiceSpec(BaseConfig):
    """One process to keep alive."""

    name: str
    argv: tuple[str, ...]
    about: str
    """What it is, for people: `memcached, 512 MB, 127.0.0.1:11211`."""
    user: str = ""
    """Who it runs as; empty for whoever runs the supervisor. One that changes its user by itself would lose
    the signal of `_die_with_parent`."""


class ServiceState(BaseConfig):
    """State of a service."""

    name: str
    about: str
    state: Literal["starting", "running", "restarting", "failed", "stopped"] = "starting"
    pid: int = 0
    restarts: int = 0
    last_exit: str = ""
    """How it last ended; empty if it never did."""
    since: float = 0.0
    """Seconds since the epoch, of the process that runs now."""


class SupervisorState(BaseConfig):
    """The state file."""

    pid: int
    """Of the supervisor."""
    endpoint: str
    store: str
    cache: str
    notes: tuple[str, ...] = ()
    """What is not as the settings say, and why, in sentences."""
    services: tuple[ServiceState, ...] = ()
    started_at: float = Field(default_factory=time.time)
    owner: int = 0
    """The process with which all of it ends, however that ends; 0 for none."""


class ServicePlan(BaseConfig):
    """Plan of a supervisor: the services to run, and what clients need to reach them."""

    data: DataSettings
    """As chosen: no `auto` is left in it."""
    state: SupervisorState
    services: tuple[ServiceSpec, ...]


def read_state(folder: Path) -> SupervisorState | None:
    """The state that this folder's supervisor last wrote, if one is alive."""
    if not is_supervised(folder):
        return None
    try:
        return SupervisorState.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValueError):
        return None  # it has only just begun


def is_supervised(folder: Path) -> bool:
    """True if a supervisor is alive."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class ProcessSupervisor:
    """Runs services until it is told to stop."""

    def __init__(self, folder: Path, state: SupervisorState, services: Sequence[ServiceSpec]) -> None:
        self._folder = folder
        self._state = state
        self._services = {service.name: service for service in services}
        self._states = {s.name: ServiceState(name=s.name, about=s.about) for s in services}
        self._stop = asyncio.Event()

    async def run(self, when_held: Callable[[], object] = lambda: None) -> None:
        """Until SIGTERM or SIGINT. Raises BadInput where another one holds the folder."""
        descriptor = _lock(self._folder)
        try:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            if self._state.owner and sys.platform == "linux":
                self._end_with(self._state.owner)
            self._write()
            when_held()
            async with asyncio.TaskGroup() as group:
                for service in self._services.values():
                    group.create_task(self._keep(service))
        finally:
            os.close(descriptor)

    def _end_with(self, owner: int) -> None:
        """Stop once that process has ended."""
        loop = asyncio.get_running_loop()
        try:
            watched = os.pidfd_open(owner)
        except ProcessLookupError:
            self._stop.set()
            return

        def ended() -> None:
            loop.remove_reader(watched)
            os.close(watched)
            self._stop.set()

        loop.add_reader(watched, ended)

    async def _keep(self, service: ServiceSpec) -> None:
        young_deaths = 0
        while not self._stop.is_set():
            began = time.monotonic()
            exit_text = await self._live(service)
            if self._stop.is_set():
                break
            young_deaths = young_deaths + 1 if time.monotonic() - began < YOUNG_S else 0
            restarts = self._states[service.name].restarts + 1
            if young_deaths >= MAX_YOUNG_DEATHS:
                self._note(service, state="failed", pid=0, last_exit=exit_text)
                return
            self._note(service, state="restarting", pid=0, last_exit=exit_text, restarts=restarts)
            pause_s = min(MAX_BACKOFF_S, BACKOFF_S * 2.0**young_deaths)
            try:
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()
            except TimeoutError:
                continue
        self._note(service, state="stopped", pid=0)

    async def _live(self, service: ServiceSpec) -> str:
        """One life of a service; returns how it ended."""
        log = self._folder / LOGS / f"{service.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            try:
                process = await asyncio.create_subprocess_exec(
                    *service.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                    user=service.user or None,
                    group=pwd.getpwnam(service.user).pw_gid if service.user else None,
                    extra_groups=() if service.user else None,
                    preexec_fn=_die_with_parent,
                )
            except (OSError, LookupError) as error:
                return f"{service.argv[0]}: {error}"
        self._note(service, state="running", pid=process.pid, since=time.time())
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            process.terminate()
            await asyncio.wait((ended,), timeout=GRACE_S)
            if not ended.done():
                process.kill()
        return _how(await ended)

    def _note(self, service: ServiceSpec, **changes: object) -> None:
        self._states[service.name] = self._states[service.name].model_copy(update=changes)
        self._write()

    def _write(self) -> None:
        state = self._state.model_copy(update={"services": tuple(self._states.values())})
        write_atomically(self._folder / STATE, state.model_dump_json(indent=2).encode())


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BadInput(f"{folder}: the data plane is up already; see `agentfactory status`") from error
    return descriptor


def _how(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _death_signal() -> Callable[[], None]:
    """Ends a child when the supervisor ends, however that ends. The library is found before any fork."""
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


_die_with_parent = _death_signal()


def main(folder: Path) -> int:
    """Leave a supervisor behind; 0 once it holds the folder, 2 if it cannot."""
    plan = ServicePlan.model_validate_json((folder / PLAN).read_bytes())
    held, holds = os.pipe()
    if os.fork() == 0:
        os.close(held)
        os._exit(_supervise(folder, plan, holds))
    os.close(holds)
    return 0 if os.read(held, 1) else 2


def _supervise(folder: Path, plan: ServicePlan, holds: int) -> int:
    os.setsid()
    state = plan.state.model_copy(update={"pid": os.getpid()})
    try:
        asyncio.run(ProcessSupervisor(folder, state, plan.services).run(partial(os.write, holds, b"1")))
    except Exception as error:
        end = boundary(error)
        print(end.sentence, file=sys.stderr, flush=True)
        return end.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
