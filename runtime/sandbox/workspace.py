"""Files beneath one folder, and never beyond it, whatever links and names are put in the way.

Every path is opened from the folder's own descriptor with `openat2(RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS)`,
so that the kernel resolves and checks in one step and nothing can be swapped in between; older kernels
are walked folder by folder with O_NOFOLLOW. Blocking: call it in a thread where files may be large.
"""

import ctypes
import errno
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from .errors import AccessRefused
from .inside.confinement import NOBODY_UID

MAX_BYTES: Final = 64 * 2**20
_OPENAT2: Final = 437
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 2, 4, 8
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class WorkspaceEntry(NamedTuple):
    """One thing in a folder of the workspace."""

    path: str
    """From the workspace's root, with slashes."""
    is_folder: bool
    size: int
    """Bytes; 0 for a folder."""


class Workspace:
    """The folder `root`. Paths are relative to it; one that leads out, or through a link, is refused."""

    def __init__(self, root: Path) -> None:
        """Make the folder if there is none. Raises OSError."""
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()

    def __repr__(self) -> str:
        return f"<Workspace {self.root}>"

    def read_bytes(self, path: str, max_bytes: int = MAX_BYTES) -> bytes:
        """A file's content. Raises AccessRefused (leads out, no plain file, too large) or OSError."""
        with self._open(path, os.O_RDONLY | os.O_NONBLOCK) as file:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise AccessRefused(f"{path} is refused: it is not a plain file")
            if found.st_size > max_bytes:
                raise AccessRefused(f"{path} is refused: {found.st_size} bytes, at most {max_bytes} are read")
            with os.fdopen(os.dup(file), "rb") as reader:
                return reader.read(max_bytes)

    def write_bytes(self, path: str, data: bytes) -> None:
        """Put a file there, whole or not at all, with its folders. Raises AccessRefused or OSError."""
        parts = _parts(path)
        with self._folder(parts[:-1], path) as folder:
            with suppress(FileNotFoundError):
                found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    raise AccessRefused(f"{path} is refused: it is there, and not a plain file")
            new = f".{secrets.token_hex(8)}.new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(new, flags, 0o644, dir_fd=folder), "wb") as file:
                    file.write(data)
                os.replace(new, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(new, dir_fd=folder)
                raise

    def remove(self, path: str) -> None:
        """Take a file away, or a folder that is empty. Raises AccessRefused or OSError."""
        parts = _parts(path)
        root = os.open(self.root, _FOLDER)
        try:
            folder = _open_beneath(root, parts[:-1], _FOLDER, path) if parts[:-1] else os.dup(root)
        finally:
            os.close(root)
        try:
            found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.rmdir(parts[-1], dir_fd=folder)
            else:
                os.unlink(parts[-1], dir_fd=folder)
        finally:
            os.close(folder)

    def list(
        self, path: str = ".", *, recursive: bool = False, limit: int = 10_000
    ) -> tuple[WorkspaceEntry, ...]:
        """What a folder holds, by name; links are left out. Raises AccessRefused or OSError."""
        entries: list[WorkspaceEntry] = []
        with self._open(path, _FOLDER) as folder:
            entries += _entries(folder, PurePosixPath(os.path.normpath(path)))
        waiting = entries[::-1] if recursive else []
        while waiting and len(entries) < limit:
            inner = waiting.pop()
            if not inner.is_folder:
                continue
            with (
                suppress(FileNotFoundError),
                _longer_than_any_path(),
                self._open(inner.path, _FOLDER) as folder,
            ):
                found = _entries(folder, PurePosixPath(inner.path))
                entries += found
                waiting += found[::-1]
        return tuple(sorted(entries[:limit]))

    @contextmanager
    def _open(self, path: str, flags: int) -> Iterator[int]:
        parts = _parts(path) if os.path.normpath(path) != "." else ()
        root = os.open(self.root, _FOLDER)
        try:
            opened = _open_beneath(root, parts, flags | os.O_CLOEXEC, path)
        finally:
            os.close(root)
        try:
            yield opened
        finally:
            os.close(opened)

    @contextmanager
    def _folder(self, parts: tuple[str, ...], path: str) -> Iterator[int]:
        """A folder to write in, made where it is missing, one step at a time."""
        folder = os.open(self.root, _FOLDER)
        try:
            for part in parts:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=folder)
                inner = _open_beneath(folder, (part,), _FOLDER, path)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, however deep that lies and whoever is kept out of it.

    Folders move up before they are emptied, so that neither calls nor paths grow with the depth. No program
    may work there any more. Raises OSError.
    """
    folder.chmod(0o700)
    top = os.open(folder, _FOLDER)
    try:
        waiting = _empty(top, top)
        while waiting:
            name = waiting.pop()
            inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=top)
            try:
                waiting += _empty(inner, top)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    folder.rmdir()


def _empty(folder: int, top: int) -> list[str]:
    """Remove what is no folder, and move to the top what is: under which names."""
    moved: list[str] = []
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.chmod(name, 0o700, dir_fd=folder)
            moved.append(secrets.token_hex(8))
            os.rename(name, moved[-1], src_dir_fd=folder, dst_dir_fd=top)
        else:
            os.unlink(name, dir_fd=folder)
    return moved


def _entries(folder: int, path: PurePosixPath) -> list[WorkspaceEntry]:
    """What one folder holds, by name."""
    entries: list[WorkspaceEntry] = []
    for name in sorted(os.listdir(folder)):
        with suppress(FileNotFoundError):  # removed in between
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            is_folder = stat.S_ISDIR(found.st_mode)
            if is_folder or stat.S_ISREG(found.st_mode):
                entries.append(WorkspaceEntry(str(path / name), is_folder, 0 if is_folder else found.st_size))
    return entries


@contextmanager
def _longer_than_any_path() -> Iterator[None]:
    """Leave out what lies so deep that no path leads there."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise


def _parts(path: str) -> tuple[str, ...]:
    """The names on the way. Raises AccessRefused for a path that cannot lie beneath the root."""
    if not path or "\0" in path:
        raise AccessRefused("an empty path, or one with a NUL, is refused")
    pure = PurePosixPath(path)
    if pure.is_absolute():
        raise AccessRefused(
            f"{path} is refused: write paths from the workspace's own folder, without the first /"
        )
    if ".." in pure.parts:
        raise AccessRefused(f"{path} is refused: it leads out of the workspace")
    if not pure.parts:
        raise AccessRefused(f"{path} is refused: it names no file")
    return pure.parts


def _open_beneath(root: int, parts: tuple[str, ...], flags: int, path: str) -> int:
    try:
        try:
            return _openat2(root, "/".join(parts) or ".", flags)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
        return _walk(root, parts, flags)
    except OSError as error:
        # A link: ELOOP; out of the root: EXDEV; a link taken for a folder on older kernels: ENOTDIR.
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise AccessRefused(
                f"{path} is refused: it leads through a link or out of the workspace"
            ) from error
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from error


def _openat2(root: int, path: str, flags: int) -> int:
    how = struct.pack("=QQQ", flags, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
    arguments = (ctypes.c_long(root), os.fsencode(path), how, ctypes.c_long(len(how)))
    opened = int(_LIBC.syscall(ctypes.c_long(_OPENAT2), *arguments))
    if opened < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return opened


def _walk(root: int, parts: tuple[str, ...], flags: int) -> int:
    folder = os.dup(root)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1] if parts else ".", flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


_MAX_DEPTH: Final = 64
"""Each level takes a descriptor, and a call within calls."""


def chown_workdir(workdir: Path) -> None:
    """Give nobody what root owns beneath `workdir`; does nothing unless we are root.

    Follows no link, and leaves files alone that have a second name somewhere, or that lie more than
    `_MAX_DEPTH` folders deep, where programs alone make any. Raises OSError.
    """
    if os.geteuid() != 0:
        return
    for path, folders, files, folder in os.fwalk(workdir, follow_symlinks=False):
        if os.fstat(folder).st_uid == 0:
            os.fchown(folder, NOBODY_UID, NOBODY_UID)
        for name in (*folders, *files):
            with suppress(FileNotFoundError):  # another program works here at the same time
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if found.st_uid == 0 and not stat.S_ISDIR(found.st_mode) and found.st_nlink == 1:
                    os.chown(name, NOBODY_UID, NOBODY_UID, dir_fd=folder, follow_symlinks=False)
        if path.count("/") - str(workdir).count("/") >= _MAX_DEPTH:
            folders.clear()
