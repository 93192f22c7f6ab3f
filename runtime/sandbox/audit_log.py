"""The record of every sandboxed call: one JSON object a line, in files that rotate.

Consumes one entry a call, without waiting; a task of its own writes them in batches, in a thread. Several
processes may write one file: each batch is written, and the file rotated, under a lock.

Invariants: what was recorded before `aclose` is in the file when that returns, or `aclose` says why not;
at most `MAX_WAITING` entries wait, and what comes on top of them is counted in the next line.
"""

import asyncio
import fcntl
import json
import os
import re
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from ...configs.errors import CannotWrite
from ...configs.sandbox import AuditSettings

MAX_WAITING: Final = 10_000
_MB: Final = 2**20
_MASK: Final = "***"
_LONGEST_SECRET: Final = 2000
_NAMES: Final = r"(?:passw(?:or)?d|passphrase|secret|token(?!s)|api[_-]?key|access[_-]?key|credentials?)"
_NAMED: Final = re.compile(rf"""(?ix) ( {_NAMES} [\w-]* ["']? \s* (?: [:=] | \s ) \s* ["']? ) [^\s"'&;,]+ """)
"""`password=…`, `--token …`, `"api_key": "…"`."""
_OPTION: Final = re.compile(rf"(?i)--?[\w-]*{_NAMES}[\w-]*")
"""Its value is the next argument."""
_SHAPED: Final = re.compile(
    r"""(?x) \b(?:sk|pk|rk|hf|ghp|gho|ghs|glpat|github_pat|xox[abprs])[-_][\w-]{8,} | \bAKIA[0-9A-Z]{12,}
        | \beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)? | (?<=[Bb]earer\s)[^\s"']+ | (?<=[Bb]asic\s)[\w+/=]{8,}
        | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)
        | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY-----(?:.(?!-----END))*.(?:-----END[A-Z\ ]*-----)? """,
    re.DOTALL,
)
"""Keys, tokens, private keys, and passwords in addresses, by how they look."""


class AuditLog:
    """The audit log of sandboxed calls. Use it from one event loop; with no file set it does nothing."""

    def __init__(self, settings: AuditSettings) -> None:
        self._settings = settings
        self._waiting: deque[str] = deque()
        self._lost = 0
        self._task: asyncio.Task[None] | None = None
        self._error: OSError | None = None

    def __repr__(self) -> str:
        return f"<AuditLog {self._settings.file or 'off'}, {len(self._waiting)} waiting>"

    def record(self, tool: str, arguments: Sequence[str], level: str, ending: str, duration_s: float) -> None:
        """Note a call; raises CannotWrite where an earlier one could not be written."""
        if not self._settings.file:
            return
        self._check()
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        entry: dict[str, str | float | int | list[str]] = {
            "time": round(time.time(), 3),
            "pid": os.getpid(),
            "tool": tool,
            "arguments": readable_arguments(arguments, self._settings.max_chars),
            "level": level,
            "ending": ending,
            "seconds": round(duration_s, 6),
        }
        if self._lost:
            entry["lost_before"], self._lost = self._lost, 0
        self._waiting.append(json.dumps(entry, ensure_ascii=False))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def aclose(self) -> None:
        """Have all written. Raises CannotWrite."""
        while self._task is not None and self._waiting and self._error is None:
            if self._task.done():
                self._task = asyncio.create_task(self._write())
            await self._task
        if self._task is not None:
            await self._task
        self._check()

    async def _write(self) -> None:
        while self._waiting and self._error is None:
            batch = list(self._waiting)
            lines = [f"{line}\n".encode("utf-8", "backslashreplace") for line in batch]
            try:
                await asyncio.to_thread(_append, Path(self._settings.file), lines, self._settings)
            except OSError as error:
                self._error = error
                return
            for _ in batch:
                self._waiting.popleft()

    def _check(self) -> None:
        if self._error is not None:
            reason = self._error.strerror or str(self._error)
            raise CannotWrite(
                f"{self._settings.file}: calls cannot be written down ({reason})"
            ) from self._error


def readable_arguments(arguments: Sequence[str], max_chars: int) -> list[str]:
    """The arguments as they are written down: without secrets, and none longer than `max_chars`."""
    shown: list[str] = []
    for before, each in zip(("", *arguments), arguments, strict=False):
        # Whatever a secret that begins within the limit needs to be recognised.
        looked_at = each[: max_chars + _LONGEST_SECRET]
        text = _MASK if before and _OPTION.fullmatch(before) else masked(looked_at)
        more = len(each) - max_chars
        shown.append(text if len(text) <= max_chars and more <= 0 else f"{text[:max_chars]}… ({more} more)")
    return shown


def masked(text: str) -> str:
    """The text with everything that looks like a secret taken out.

    >>> masked("curl -H 'Authorization: Bearer abc.def' --password hunter2")
    "curl -H 'Authorization: Bearer ***' --password ***"
    """
    return _NAMED.sub(rf"\1{_MASK}", _SHAPED.sub(_MASK, text))


def _append(path: Path, lines: Sequence[bytes], settings: AuditSettings) -> None:
    """Write the lines at the file's end, as many at a time as one file may hold."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > settings.max_mb * _MB:
            _append_piece(path, piece, settings)
            piece = b""
        piece += line
    _append_piece(path, piece, settings)


def _append_piece(path: Path, lines: bytes, settings: AuditSettings) -> None:
    """Make room first, if the file would grow too large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_current(file, path):
                continue  # another process has rotated in between
            size = file.tell()
            if size and size + len(lines) > settings.max_mb * _MB:
                _rotate(path, settings.files)
                continue
            file.write(lines)
            return


def _is_current(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _rotate(path: Path, files: int) -> None:
    """`FILE` becomes `FILE.1`, that `FILE.2`, and so on; the last falls away."""
    if files == 1:
        path.unlink()
        return
    for number in range(files - 1, 0, -1):
        older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))
