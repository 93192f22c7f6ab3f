"""The world around a sandbox, laid open on purpose, and a look at whether anything got out into it.

Whatever is in it is open to all users of the machine, and the process in it runs as the user that the
sandboxed code runs as: the sandbox's walls are all that stands before them.
"""

import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

NOBODY = 65534
ESCAPED = "ESCAPED"
"""Printed by an attempt that got something which it must not have."""
_VICTIM = """
import ctypes, os, sys
secret = ctypes.create_string_buffer(sys.stdin.readline().strip().encode())
os.chdir(sys.argv[1])
held = os.open("secret", os.O_RDONLY)
if os.geteuid() == 0:
    os.setgid({nobody}); os.setuid({nobody})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
ctypes.CDLL(None).prctl(0x59616d61, -1, 0, 0, 0)
print(ctypes.addressof(secret), held, flush=True)
sys.stdin.read()
"""


class Scene:
    """One folder, one process and some open ports; `breaches` tells what was done to them."""

    def __init__(self) -> None:
        self.secret = f"secret-{token_hex(12)}"
        self.mark = f"86400.{int(token_hex(6), 16)}"
        """In the command line of all that an attempt leaves behind; `sleep` takes it for seconds."""
        self.folder = Path(tempfile.mkdtemp(prefix="agentfactory-escapes-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.outside = self.folder / "outside"
        self.workdir = self.folder / "work"
        self.host = socket.gethostname()
        self.doors = Doors(self.folder / "door", self.secret)
        self._victim: subprocess.Popen[str] | None = None
        self.reset()

    def reset(self) -> None:
        """Put everything back as it was."""
        for folder, mode in ((self.outside, 0o777), (self.workdir, 0o755)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.unlink(missing_ok=True) if folder.is_symlink() else None
            folder.mkdir()
            folder.chmod(mode)
        for name in ("secret", self.secret):
            (self.outside / name).write_text(self.secret)
            (self.outside / name).chmod(0o666)
            os.utime(self.outside / name, (1, 1))
        self.doors.touched.clear()
        self._kill_what_remains()
        self._stop_victim()
        self._start_victim()
        self._before = self._state()

    def close(self) -> None:
        """Take all of it away."""
        self._kill_what_remains()
        self._stop_victim()
        self.doors.close()
        shutil.rmtree(self.folder)

    def targets(self) -> dict[str, str | int]:
        """What an attempt is told about the world outside: everything."""
        victim = self._victim
        assert victim is not None
        return {
            "secret": str(self.outside / "secret"),
            "outside": str(self.outside),
            "workdir": str(self.workdir),
            "victim": victim.pid,
            "address": self._address,
            "held": self._held,
            "caller": os.getpid(),
            "mark": self.mark,
            "unix": str(self.folder / "door"),
            "abstract": self.doors.abstract,
            "tcp": self.doors.tcp,
            "tcp6": self.doors.tcp6,
            "udp": self.doors.udp,
            "sandbox": str(Path(__file__).parents[3] / "runtime" / "sandbox" / "inside" / "launcher.py"),
        }

    def breaches(self, output: str) -> list[str]:
        """What got out, in words; empty if nothing did."""
        found = []
        if ESCAPED in output:
            found.append("it got what it must not have: " + output[output.index(ESCAPED) :][:80])
        if any(secret in output for secret in (self.secret, *_machine_secrets())):
            found.append("it read a secret")
        if self._state() != self._before:
            found.append(f"it changed what is outside: {self._state()} instead of {self._before}")
        if self.doors.touched:
            found.append(f"it reached {sorted(self.doors.touched)}")
        if socket.gethostname() != self.host:
            found.append("it renamed the machine")
        if self.workdir.is_symlink() or not self.workdir.is_dir():
            found.append("it replaced its workdir")
        if remaining := self.remaining():
            found.append(f"it left processes behind: {remaining}")
        return found

    def remaining(self) -> list[int]:
        """Processes whose command line bears the mark."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and self.mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    def _state(self) -> tuple[object, ...]:
        files = sorted(self.outside.rglob("*")) if self.outside.is_dir() else []
        looks = [(path.name, *_look(path)) for path in files]
        return (stat_mode(self.outside), looks, self._look_of_victim())

    def _look_of_victim(self) -> tuple[object, ...]:
        victim = self._victim
        if victim is None or victim.poll() is not None:
            return ("dead",)
        status = Path(f"/proc/{victim.pid}/status").read_text()
        state = next(line.split()[1] for line in status.splitlines() if line.startswith("State"))
        limits = Path(f"/proc/{victim.pid}/limits").read_text()
        nice = os.getpriority(os.PRIO_PROCESS, victim.pid)
        cores = tuple(sorted(os.sched_getaffinity(victim.pid)))
        return ("stopped" if state in "Tt" else "alive", limits, nice, cores)

    def _start_victim(self) -> None:
        self._victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _VICTIM.format(nobody=NOBODY), str(self.outside)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"SECRET": self.secret},
            start_new_session=True,
        )
        assert self._victim.stdin is not None
        assert self._victim.stdout is not None
        self._victim.stdin.write(self.secret + "\n")
        self._victim.stdin.flush()
        self._address, self._held = map(int, self._victim.stdout.readline().split())

    def _stop_victim(self) -> None:
        if self._victim is not None:
            self._victim.kill()
            self._victim.communicate()
            self._victim = None

    def _kill_what_remains(self) -> None:
        for pid in self.remaining():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Doors:
    """Sockets of several kinds that answer whoever comes with the secret, and remember it."""

    def __init__(self, path: Path, secret: str) -> None:
        self.touched: set[str] = set()
        self.abstract = f"agentfactory-{token_hex(8)}"
        self._secret = secret.encode()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, "")
        self.tcp = self._open("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.tcp6 = self._open("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
        self.udp = self._open("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._open("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(path))
        path.chmod(0o777)
        self._open("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.abstract}")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Shut them all."""
        self._wake.close()
        self._thread.join(timeout=10)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _open(self, name: str, family: int, kind: int, address: object) -> int:
        door = socket.socket(family, kind)
        try:
            door.bind(address)  # type: ignore[arg-type]
        except OSError:  # a machine without IPv6
            door.close()
            return 0
        if kind == socket.SOCK_STREAM:
            door.listen()
        self._selector.register(door, selectors.EVENT_READ, name)
        return int(door.getsockname()[1]) if family != socket.AF_UNIX else 0

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if not key.data:
                    return
                self.touched.add(key.data)
                door = key.fileobj
                assert isinstance(door, socket.socket)
                if door.type == socket.SOCK_DGRAM:
                    _, sender = door.recvfrom(2048)
                    door.sendto(self._secret, sender)
                else:
                    visitor, _ = door.accept()
                    with visitor, suppress(OSError):
                        visitor.sendall(self._secret)


def stat_mode(path: Path) -> int:
    return path.lstat().st_mode if path.exists() else 0


def _look(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    marks = tuple(os.listxattr(path, follow_symlinks=False))
    return (found.st_mode, found.st_uid, found.st_size, found.st_mtime, found.st_nlink, marks, content)


def _machine_secrets() -> list[str]:
    """Lines that nobody in a sandbox may read: of accounts, and of our own environment."""
    found = []
    for path in ("/etc/shadow", "/etc/passwd"):
        with suppress(OSError):
            found.append(Path(path).read_text().splitlines()[0])
    ours = Path("/proc/self/environ").read_text(errors="replace").split("\0")
    return [*found, max(ours, key=len)]
