"""The run's journal: one line an entry, appended as things happen, replayed to resume.

Every entry is handed to the operating system at once, so it survives the death of the process;
steps, rounds and ends are also forced to disk.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ...configs.errors import BadInput, CannotWrite
from ...messages.runs import JournalEntry, RoundFinished, RunFinished, StepFinished

_ENTRY: TypeAdapter[JournalEntry] = TypeAdapter(JournalEntry)
FILE = "journal.jsonl"


class CannotJournal(CannotWrite):
    """The journal cannot be written."""


class Journal:
    """Appends entries. A line torn by a crash is cut off when the journal is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._stream = path.open("ab", buffering=0)
            _cut_torn_line(path)
            self._stream.seek(0, os.SEEK_END)
        except OSError as error:
            raise CannotJournal(f"{path}: cannot be opened ({error.strerror})") from error

    def append(self, entry: JournalEntry) -> None:
        """Write one entry. Raises CannotJournal; then nothing of it is left."""
        line = _ENTRY.dump_json(entry) + b"\n"
        start = self._stream.tell()
        try:
            written = self._stream.write(line)
            if written != len(line):
                raise OSError(28, "No space left on device")
            if isinstance(entry, StepFinished | RoundFinished | RunFinished):
                os.fsync(self._stream.fileno())
        except OSError as error:
            os.truncate(self._path, start)
            self._stream.seek(start)
            raise CannotJournal(
                f"{self._path}: cannot be written ({error.strerror}); free some space and resume"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_journal(path: Path) -> Iterator[JournalEntry]:
    """Stream the entries; a torn last line is left out. Raises BadInput, which names the line."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); is this a run's folder?") from error
    with stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _ENTRY.validate_json(line)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                key = ".".join(map(str, first["loc"])) or "entry"
                raise BadInput(
                    f"{path}: line {number}: {key}: {first['msg']}; the journal is damaged. Cut it off "
                    f"before this line to resume from what is above"
                ) from error


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
