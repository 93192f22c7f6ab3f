"""A real memcached."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable

from tests.free_ports import free_port

START_S = 60.0


class Memcached:
    """A memcached process of our own on a free port of the loopback."""

    def __init__(self, item_limit: str = "1m") -> None:
        self.port = free_port()
        self._options = ["-m", "64", "-I", item_limit, "-l", "127.0.0.1", "-p", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(["memcached", *user, *self._options], start_new_session=True)
        limit = time.monotonic() + START_S
        while not _listens(self.port):
            assert self._process.poll() is None, "memcached ended at once: is its port in use?"
            assert time.monotonic() < limit, "memcached did not come up"
            time.sleep(0.01)  # nothing tells when it listens

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(START_S)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


StartMemcached = Callable[..., Memcached]
