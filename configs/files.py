"""Files that several processes share: replaced whole, and changed by one at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import CannotWrite

_PAUSE_S = 0.01


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file so that readers see the old or the new one, and never a part.

    Raises CannotWrite.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        staged.replace(path)
    except OSError as error:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        raise CannotWrite(f"{path}: cannot be written ({error.strerror}); free some space") from error


@contextmanager
def locked(folder: Path, timeout_s: float = 10.0) -> Iterator[None]:
    """Hold a folder, made where it is missing: others that want to change it wait, `timeout_s` at most.

    Raises CannotWrite.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        _wait_for(descriptor, folder, time.monotonic() + timeout_s)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise CannotWrite(f"{folder}: another process keeps it locked; try again") from error
            time.sleep(_PAUSE_S)
        else:
            return
