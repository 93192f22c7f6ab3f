"""One IOWarp runtime as a child process, with storage, configuration, ports and log of its own.

Its only tier is a file, with no memory tier above it: a put is acknowledged after its bytes and its
log record were handed to the operating system, so it survives the runtime's SIGKILL (tested; with
IOWarp's default memory tier it would be lost). `durable_files` are what to sync for a power cut.

Invariant: the runtime dies with the thread that called `start`, and listens on loopback only.
"""

import hashlib
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from ...errors import StoreError
from .client import CORE_POOL, INDEX_POOL, START_LIMIT_S

_STOP_LIMIT_S: Final = 15.0
_TRIES: Final = 5
_PORTS: Final = range(20_000, 32_000)
"""Below the ephemeral range; one runtime takes four, from a base on."""
_LOG_KEPT: Final = 4 << 20
_LOG_SHOWN: Final = 2000
_FOREIGN_SETTINGS: Final = ("CLIO_", "CTP_", "CTE_", "CHI_")
"""What configures another runtime of this machine must not configure ours."""
SEARCHABLE: Final = ".txt"
"""Names of the chunks that are indexed end so."""


def installed() -> Path | None:
    """The folder of `iowarp-core`; None if it is not installed for this Python."""
    spec = importlib.util.find_spec("iowarp_core")
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = Path(places[0]) if places else None
    return found if found and (found / "bin" / "clio_run").exists() else None


class IOWarpRuntime:
    """The runtime over a folder. Start it and use it from one thread."""

    def __init__(self, folder: Path, max_gb: float) -> None:
        package = installed()
        if package is None:
            raise StoreError('IOWarp is not installed for this Python; pip install "agentfactory[iowarp]"')
        self._package = package
        self._folder = folder.resolve()
        self._max_gb = max_gb
        self.log: Final = self._folder / "runtime.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __repr__(self) -> str:
        state = "up" if self.running else "down"
        return f"<IOWarpRuntime {state}, process {self.pid}, port {self._port}>"

    @property
    def pid(self) -> int | None:
        """Its process; None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and wait until its ports are open. Raises StoreError, OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        launcher = str(Path(__file__).with_name("exec_with_pdeathsig.py"))
        program = str(self._package / "bin" / "clio_run")
        for _ in range(_TRIES):
            self._clear_links()
            self._port = _free_ports()
            self._write_config()
            with self.open_log() as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", launcher, str(os.getpid()), program, "start", "--no-viz"],
                    env=self.environment(),
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if self._await_ports():
                return
            self.kill()
        raise StoreError(
            f"its runtime ends at once, or opens no port; the end of {self.log}:\n{self.log_tail()}"
        )

    def stop(self) -> None:
        """Let it finish; kill it if that takes too long."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_LIMIT_S)
        self.kill()

    def kill(self) -> None:
        """End it now. What was acknowledged is safe."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._clear_links()

    def environment(self) -> dict[str, str]:
        """For the runtime and its clients."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN_SETTINGS)},
            "CLIO_SERVER_CONF": str(self._folder / "config.yaml"),
            "CLIO_STORAGE_ROOT": str(self._folder),
            "CLIO_PORT": str(self._port),
            "CLIO_BIND_ADDR": "127.0.0.1",
            "CLIO_WITH_RUNTIME": "0",
            "CTP_LOG_LEVEL": "warning",
            "LD_LIBRARY_PATH": str(self._package / "lib"),
            "HOME": str(self._folder),  # importing iowarp_core writes into ~/.clio
            "USER": self._user,  # names the folder of its sockets and shared memory: /tmp/clio_$USER
        }

    def open_log(self) -> IO[bytes]:
        """The log, for a child process to write to; one earlier log is kept."""
        if self.log.exists() and self.log.stat().st_size > _LOG_KEPT:
            self.log.replace(self.log.with_suffix(".log.1"))
        return self.log.open("ab")

    def log_tail(self) -> str:
        """The last lines of the log."""
        return self.log.read_text(errors="replace")[-_LOG_SHOWN:] if self.log.exists() else ""

    def durable_files(self) -> list[Path]:
        """Files that hold acknowledged bytes."""
        return [*self._folder.glob("tier.dat*"), *self._folder.glob("metadata*")]

    @property
    def _user(self) -> str:
        return f"agentfactory-{hashlib.sha256(bytes(self._folder)).hexdigest()[:16]}"

    def _clear_links(self) -> None:
        """Remove what names sockets and shared memory of a runtime that is gone."""
        shutil.rmtree(f"/tmp/clio_{self._user}", ignore_errors=True)

    def _await_ports(self) -> bool:
        ends = time.monotonic() + START_LIMIT_S
        while self.running and time.monotonic() < ends:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port + 3)) == 0:
                    return True
            time.sleep(0.02)
        return False

    def _write_config(self) -> None:
        (self._folder / "state").mkdir(exist_ok=True)
        room_mb = int(self._max_gb * 1.25 * 1024) + 1024
        core = {
            "mod_name": "clio_cte_core",
            "pool_name": "cte_main",
            "pool_query": "local",
            "pool_id": f"{CORE_POOL}.0",
            "storage": [
                {
                    "path": str(self._folder / "tier.dat"),
                    "bdev_type": "file",
                    "capacity_limit": f"{room_mb}MB",
                    "score": 1.0,
                    "persistence_level": "long_term",
                }
            ],
            "performance": {"metadata_log_path": str(self._folder / "metadata")},
            "targets": {"neighborhood": 1},
        }
        memory = {
            "mod_name": "clio_bdev",
            "pool_name": "ram::chi_default_bdev",
            "pool_query": "local",
            "pool_id": "301.0",
            "bdev_type": "ram",
            "capacity": "64MB",
        }
        index = {
            "mod_name": "clio_cte_indexer",
            "pool_name": "clio_cte_indexer",
            "pool_query": "local",
            "pool_id": f"{INDEX_POOL}.0",
            "next_pool_id": f"{CORE_POOL}.0",
            "index_log_path": str(self._folder / "index"),
            "blob_re": f".*[{SEARCHABLE[0]}]{SEARCHABLE[1:]}",
        }
        config = {
            "networking": {"port": self._port},
            "runtime": {
                "num_threads": 4,
                "first_busy_wait": 1000,
                "conf_dir": str(self._folder / "state"),
                "ipc_namespace": f"p{self._port}",
                # Shared memory that the runtime touches at once. Seen with these: 20,000 blobs and 1 GiB
                # in 1 MiB chunks, 33 MB resident when it starts instead of 325.
                "main_segment_size": "64m",
                "metadata_segment_size": "64m",
            },
            "viz": {"enabled": False},
            "compose": [memory, core, index],
        }
        # JSON is YAML, and quotes whatever a path may hold.
        (self._folder / "config.yaml").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _free_ports() -> int:
    """A base of four free ports."""
    for _ in range(100):
        base = random.choice(_PORTS)
        try:
            for port in range(base, base + 4):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise StoreError(f"no four free ports in a row between {_PORTS.start} and {_PORTS.stop}")
