"""The launch specification of a command: a frame of JSON on the launcher's control socket.

Standard library only.
"""

import json
import socket
from typing import Final, TypedDict, cast

from .protocol import receive_frame, with_length

HERE: Final = b"here"
"""Said by the launcher before it hears the spec: the processes around it exist by then."""
UP: Final = b"up"
"""Said by the launcher once it is confined, just before the program."""
SCRATCH: Final = ("/tmp", "/dev/shm")
"""File systems of the program's own at level `bubblewrap`; their descriptors come with `UP`."""


class ProbeTarget(TypedDict):
    """Targets outside the sandbox, for the self-test to reach for."""

    file: str
    """A file that everybody may read."""
    port: int
    """A TCP port of 127.0.0.1 where somebody listens."""
    pid: int
    """Another process of the same user."""


class LaunchSpec(TypedDict):
    """One program and its confinement."""

    argv: list[str]
    workdir: str
    env: dict[str, str]
    level: str
    readable: list[str]
    memory_bytes: int
    file_bytes: int
    open_files: int
    processes: int
    cpu_s: int
    """Of each process; 0 for no limit."""
    landlock_abi: int
    probe: ProbeTarget | None
    """Instead of the program, try to break out."""


def encode(spec: LaunchSpec) -> bytes:
    """The frame to send."""
    return with_length(json.dumps(spec, separators=(",", ":")).encode("ascii"))


def receive(control: socket.socket) -> LaunchSpec:
    """Read the frame. Raises EOFError where the other side is gone before its end."""
    body = receive_frame(control)
    if body is None:
        raise EOFError("no launch spec came")
    return cast(LaunchSpec, json.loads(body))
