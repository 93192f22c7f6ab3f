"""Files and folders inside of the roots.

Invariant: whatever `..` and symbolic links say, what is found lies under one of the roots; what a
folder is found to hold lies under that folder; what is read later is the very file that was found. Who may
write under a root and puts a link in a folder's place in the instant between is not kept out.
"""

import os
import stat
from collections.abc import Iterator, Sequence

from ...messages.data import BlobMeta
from .content_types import content_type_of
from .sources import FileSource, PendingBlob, file_source
from .uri import Uri, is_unicode, printable_uri

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a regular file",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Roots:
    """The folders that may be read from."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._given = tuple(roots)
        self._roots = tuple(os.path.realpath(root) for root in roots)

    def resolve(self, path: str, uri: Uri) -> str:
        """The path without links; it need not exist. Raises URIResolveError if it is outside."""
        try:
            real = os.path.realpath(path)
        except ValueError as error:  # a NUL byte
            raise uri.refuse(f"is no path: {error}") from error
        if not any(_inside(real, root) for root in self._roots):
            allowed = ", ".join(self._given) or "none"
            raise uri.refuse(f"lies outside of the folders that may be read ({allowed})")
        return real

    def file(self, path: str, uri: Uri) -> FileSource:
        """The regular file at a path. Raises URIResolveError."""
        real = self.resolve(path, uri)
        try:
            found = file_source(real, uri.text)
            if found is None:
                raise uri.refuse(f"is {_kind(real)}; expected a file")
        except OSError as error:
            raise uri.refuse(f"cannot be read: {error.strerror}; expected a file") from error
        if not os.access(real, os.R_OK):
            raise uri.refuse("cannot be read: Permission denied; expected a file")
        return found


def file_blob(roots: Roots, uri: Uri) -> PendingBlob:
    """`file::path`: one blob, named as the file is."""
    source = roots.file(uri.rest, uri)
    name = os.path.basename(os.path.normpath(uri.rest))
    meta = BlobMeta(content_type=content_type_of(name), source=uri.text)
    return PendingBlob(name, meta, source)


def folder_blobs(roots: Roots, uri: Uri) -> list[PendingBlob]:
    """`folder::path`: a blob for each file under it, named by its path from there, in order."""
    real = roots.resolve(uri.rest, uri)
    try:
        if not stat.S_ISDIR(os.stat(real).st_mode):
            raise uri.refuse(f"is {_kind(real)}; expected a folder")
        blobs = sorted(_walk(real, uri), key=lambda blob: blob.name)
    except OSError as error:
        where = "" if error.filename in (None, real) else f" at {printable_uri(os.fsdecode(error.filename))}"
        raise uri.refuse(f"cannot be read{where}: {error.strerror}; expected a folder") from error
    if not blobs:
        raise uri.refuse("holds no files; expected at least one")
    return blobs


def _walk(top: str, uri: Uri) -> Iterator[PendingBlob]:
    """All files below. A loop, not a recursion: a path may have two thousand folders."""
    waiting: list[tuple[str, str, tuple[str, ...]]] = [(top, "", (top,))]
    while waiting:
        folder, prefix, above = waiting.pop()  # `above`: the real paths that led here, the top first
        with os.scandir(folder) as entries:
            listed = list(entries)
        for entry in listed:
            name = f"{prefix}{entry.name}"
            linked = entry.is_symlink()
            path = _followed(entry.path, name, above, uri) if linked else entry.path
            if os.path.isdir(path) if linked else entry.is_dir(follow_symlinks=False):
                waiting.append((path, f"{name}/", (*above, path)))
            else:
                yield _member(path, name, uri)


def _followed(link: str, name: str, above: tuple[str, ...], uri: Uri) -> str:
    path = os.path.realpath(link)
    if not _inside(path, above[0]):
        raise uri.refuse(f"holds the link {printable_uri(name)}, which leads out of the folder")
    if not os.path.exists(path):
        raise uri.refuse(f"holds the link {printable_uri(name)}, which leads nowhere")
    if path in above:
        raise uri.refuse(f"holds the link {printable_uri(name)}, which leads back to a folder that it is in")
    return path


def _member(path: str, name: str, uri: Uri) -> PendingBlob:
    if not is_unicode(name):
        raise uri.refuse(f"holds {printable_uri(name)}, whose name is not UTF-8; rename it")
    origin = f"file::{uri.rest.rstrip('/') or '/'}/{name}"
    source = file_source(path, origin)
    if source is None:
        raise uri.refuse(f"holds {printable_uri(name)}, which is {_kind(path)}; expected files only")
    if not os.access(path, os.R_OK):
        raise uri.refuse(f"holds {printable_uri(name)}, which may not be read: Permission denied")
    return PendingBlob(name, BlobMeta(content_type=content_type_of(name), source=origin), source)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _kind(path: str) -> str:
    return _KINDS.get(stat.S_IFMT(os.stat(path, follow_symlinks=False).st_mode), "something else")
