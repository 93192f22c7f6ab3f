"""`hdf5::path[/dataset]`: the datasets of an HDF5 file, each a blob of its numbers in C order.

A blob is named by its dataset's path inside the file. Strings of varying length become strings of the
longest one's length, in UTF-8, padded with zero bytes.

Invariants: no more than about `BLOCK_BYTES` of a dataset are in memory at once, unless one of its rows
along the last axis is longer; nothing is followed that leads to another file (external links, external
storage, virtual datasets): such a dataset is refused.
"""

import math
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...messages.data import BlobMeta
from .content_types import BINARY
from .files import Roots
from .sources import FileSource, PendingBlob, SourceChanged
from .uri import Uri, is_unicode, printable_uri

if TYPE_CHECKING:
    import h5py
    import numpy as np

BLOCK_BYTES = 4 << 20
"""Bytes of a dataset that are read at once."""
ASSUMED_STRING_BYTES = 1024
"""How long a string of unknown length is taken to be, to read about `BLOCK_BYTES` of them at once."""
MAX_PADDED_BYTES = 1 << 30
"""Strings that are padded to more than this are refused: one long string among many short ones."""
CHUNK_CACHE_BYTES = 16 << 20
"""What HDF5 keeps of unpacked chunks, so that a block that ends inside of one does not unpack it twice."""
_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises over a file that is damaged."""


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """One dataset."""

    file: FileSource
    dataset: str
    size: int
    """Bytes."""
    string_width: int = 0
    """Bytes that each string of varying length is padded to; 0 for anything else."""

    def chunks(self) -> Generator[bytes, None, None]:
        """The values in C order, in pieces. Raises SourceChanged."""
        self.file.check()
        try:
            with _opened(self.file.path) as opened:
                dataset = opened[self.dataset]
                for block in _blocks(dataset.shape, self.string_width or dataset.dtype.itemsize):
                    yield self._bytes_of(dataset[block])
        except _BROKEN as error:
            self.file.check()  # if it changed meanwhile, that is why
            raise SourceChanged(
                f"{printable_uri(self.file.uri)}: {self.dataset!r} cannot be read: {error}"
            ) from error
        self.file.check()

    def _bytes_of(self, values: "np.ndarray[Any, np.dtype[Any]]") -> bytes:
        import numpy as np

        return np.asarray(values, dtype=f"S{self.string_width}" if self.string_width else None).tobytes()


def hdf5_blobs(roots: Roots, uri: Uri) -> list[PendingBlob]:
    """Each dataset that the URI names, in order. Raises URIResolveError."""
    path, inside = _split(uri)
    file = roots.file(path, uri)
    try:
        with _opened(file.path) as opened:
            blobs = [
                _pending_blob(file, name, dataset, uri, path)
                for name, dataset in _datasets(opened, inside, uri)
            ]
        file.check()
    except SourceChanged as error:
        raise uri.refuse("changed while it was looked at; try again") from error
    except _BROKEN as error:
        raise uri.refuse(f"cannot be read as HDF5: {' '.join(str(error).split())}") from error
    if not blobs:
        raise uri.refuse("holds no datasets; expected at least one")
    return sorted(blobs, key=lambda blob: blob.name)


def _split(uri: Uri) -> tuple[str, str]:
    """The file's path and what follows it: nothing lies under a file, so the first file is the one."""
    end = 0
    while end < len(uri.rest):
        slash = uri.rest.find("/", end + 1)
        end = len(uri.rest) if slash < 0 else slash
        if os.path.isfile(uri.rest[:end]):
            return uri.rest[:end], uri.rest[end:].strip("/")
    return uri.rest, ""


@contextmanager
def _opened(path: str) -> Iterator["h5py.File"]:
    import h5py

    with h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES) as file:
        yield file


def _datasets(opened: "h5py.File", inside: str, uri: Uri) -> Iterator[tuple[str, "h5py.Dataset"]]:
    """The dataset of this name, or all below the group of this name."""
    import h5py

    top = _member(opened, inside, uri) if inside else opened
    if isinstance(top, h5py.Dataset):
        yield inside, top
        return
    found: list[str] = []
    # Visits what lies in this file only: links to other files are not followed.
    top.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in found:
        yield (f"{inside}/{name}" if inside else name), top[name]


def _member(opened: "h5py.File", inside: str, uri: Uri) -> "h5py.Dataset | h5py.Group":
    import h5py

    here: h5py.Dataset | h5py.Group = opened
    for part in inside.split("/"):
        link = (
            here.get(part, getlink=True) if isinstance(here, h5py.Group) and part not in ("", ".") else None
        )
        if isinstance(link, h5py.ExternalLink):
            raise uri.refuse(f"leads to another file ({link.filename!r}), which is not followed")
        if not isinstance(link, h5py.HardLink):
            raise uri.refuse(
                f"names {part!r}, which {_where(here)} does not hold; expected a dataset or a group"
            )
        here = here[part]
    return here


def _where(group: "h5py.Dataset | h5py.Group") -> str:
    return "the file" if group.name == "/" else repr(str(group.name).strip("/"))


def _pending_blob(file: FileSource, name: str, dataset: "h5py.Dataset", uri: Uri, path: str) -> PendingBlob:
    import h5py

    if not is_unicode(name):
        raise uri.refuse(f"holds {printable_uri(name)}, whose name is not UTF-8")
    if dataset.external or dataset.is_virtual:
        raise uri.refuse(f"holds {name!r}, whose values lie in other files, which is not followed")
    dtype, shape = dataset.dtype, (0,) if dataset.shape is None else dataset.shape
    string = h5py.check_string_dtype(dtype)
    width = _widest(dataset, uri) if string is not None and string.length is None else 0
    if dtype.hasobject and not width:
        raise uri.refuse(f"holds {name!r} of type {dtype}, whose values are not of one size")
    if dtype.subdtype is not None:  # each value is itself an array
        dtype, shape = dtype.base, (*shape, *dtype.shape)
    size = math.prod(shape) * (width or int(dtype.itemsize))
    if width:
        _check_padded(name, size, uri)
    spelled = f"|S{width}" if width else str(dtype) if dtype.names else dtype.str
    meta = BlobMeta(content_type=BINARY, source=f"hdf5::{path}/{name}", dtype=spelled, shape=shape)
    return PendingBlob(name, meta, DatasetSource(file, name, size, width))


def _widest(dataset: "h5py.Dataset", uri: Uri) -> int:
    """Bytes of the longest string, at least 1. Raises URIResolveError for more than are worth looking at."""
    if dataset.shape is None:
        return 1
    _check_padded(dataset.name.strip("/"), math.prod(dataset.shape), uri)
    blocks = (dataset[block] for block in _blocks(dataset.shape, ASSUMED_STRING_BYTES))
    return max((len(value) for block in blocks for value in _flat(block)), default=1) or 1


def _check_padded(name: str, size: int, uri: Uri) -> None:
    if size > MAX_PADDED_BYTES:
        raise uri.refuse(f"holds {name!r}, whose strings, padded to the longest, take {size} bytes or more")


def _flat(block: "np.ndarray[Any, np.dtype[Any]] | bytes") -> "Iterable[bytes]":
    return (block,) if isinstance(block, bytes) else block.flat


def _blocks(shape: tuple[int, ...] | None, item_bytes: int) -> Iterator[tuple[int | slice, ...]]:
    """Indices that together take all of an array in C order, each about `BLOCK_BYTES` of it."""
    import numpy as np

    if shape is None or 0 in shape:
        return
    if not shape:
        yield ()
        return
    axis, row_bytes = len(shape) - 1, item_bytes
    while axis > 0 and row_bytes * shape[axis] <= BLOCK_BYTES:
        row_bytes *= shape[axis]
        axis -= 1
    rows = max(1, BLOCK_BYTES // row_bytes)
    for outer in np.ndindex(shape[:axis]):
        for start in range(0, shape[axis], rows):
            yield (*outer, slice(start, min(start + rows, shape[axis])))
