"""Append-only JSONL segments: one trajectory a line.

A segment is `trajectories-00001.jsonl`. Only the last one is ever written to. A crash can tear no
more than its last line, which readers leave out and the writer cuts off when it opens the folder.
"""

import errno
import os
from collections.abc import Iterator
from io import FileIO
from itertools import accumulate, repeat
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ...configs.errors import BadInput, CannotWrite
from ...messages.trajectories import Trajectory

PATTERN = "trajectories-*.jsonl"
IOV_MAX = min(os.sysconf("SC_IOV_MAX"), 1024)
"""Buffers that one system call takes."""


class CannotStore(CannotWrite):
    """The disk does not take the bytes. Nothing has been acknowledged."""


class SegmentOffset(NamedTuple):
    """Where one trajectory lies."""

    segment: Path
    offset: int


class SegmentWriter:
    """Appends lines to the last segment of a folder. Blocking: call it from a thread."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._limit = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        existing = segments(folder)
        self._path = existing[-1] if existing else folder / "trajectories-00001.jsonl"
        self._stream, self._size = self._open()

    def commit(self, lines: list[bytes]) -> list[SegmentOffset]:
        """Append the lines and fsync once; returns where each lies. Raises CannotStore.

        After an error the segment is cut back to where it was, so that a later commit starts clean.
        """
        if self._size >= self._limit:
            self._roll()
        ends = list(accumulate(map(len, lines), initial=self._size))
        try:
            self._append(lines, ends[-1] - self._size)
            os.fsync(self._stream.fileno())
        except OSError as error:
            os.truncate(self._path, self._size)
            raise CannotStore(
                f"{self._path}: cannot write trajectories ({error.strerror}); free some space and resume"
            ) from error
        self._size = ends.pop()
        return list(map(SegmentOffset, repeat(self._path), ends))

    def close(self) -> None:
        """Close the segment."""
        self._stream.close()

    def _append(self, lines: list[bytes], size: int) -> None:
        """All lines, without putting them together first."""
        written = 0
        for first in range(0, len(lines), IOV_MAX):
            written += os.writev(self._stream.fileno(), lines[first : first + IOV_MAX])
        if written != size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> tuple[FileIO, int]:
        """The last segment and its size; a new one's name is made durable too."""
        stream = self._path.open("ab", buffering=0)
        _cut_torn_line(self._path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return stream, self._path.stat().st_size

    def _roll(self) -> None:
        self._stream.close()
        number = int(self._path.stem.rpartition("-")[2]) + 1
        self._path = self._folder / f"trajectories-{number:05d}.jsonl"
        self._stream, self._size = self._open()


def segments(folder: Path) -> list[Path]:
    """The segments of a folder, oldest first."""
    return sorted(folder.glob(PATTERN))


def read_trajectories(folder: Path) -> Iterator[Trajectory]:
    """Stream all stored trajectories, oldest first, one in memory at a time.

    A torn last line is left out. Raises BadInput, which names file and line, for anything else that
    is not a trajectory.
    """
    for place, line in read_lines(folder):
        yield parse(place, line)


def read_lines(folder: Path) -> Iterator[tuple[SegmentOffset, bytes]]:
    """Stream the raw lines with their places; a torn last line is left out."""
    for path in segments(folder):
        offset = 0
        with path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                yield SegmentOffset(path, offset), line
                offset += len(line)


def read_at(place: SegmentOffset) -> Trajectory:
    """The trajectory at a place."""
    with place.segment.open("rb") as stream:
        stream.seek(place.offset)
        return parse(place, stream.readline())


def parse(place: SegmentOffset, line: bytes) -> Trajectory:
    """One line as a trajectory. Raises BadInput."""
    try:
        return Trajectory.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "line"
        raise BadInput(f"{place.segment}: byte {place.offset}: {key}: {first['msg']}") from error


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size == 0:
            return
        position = size
        while position > 0:
            step = min(1 << 16, position)
            stream.seek(position - step)
            newline = stream.read(step).rfind(b"\n")
            if newline >= 0:
                stream.truncate(position - step + newline + 1)
                return
            position -= step
        stream.truncate(0)
