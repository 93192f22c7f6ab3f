"""The memory tool: notes that outlive an episode, found again by what they say.

Consumes notes and questions; produces the notes that are nearest to a question. Waits for one thread at a
time; SQLite makes each note durable, and lets several processes share a file.

Invariant: a note that `store` has confirmed is found by every later search, until newer ones push it out.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....configs.errors import SettingsError
from ....configs.tools import MemorySettings
from ..base import Tool, ToolError, sanitize_output
from ..definition import SharedTool, ToolHost
from ..function_tool import tool
from ..parameters import OtherNames

Vectors = NDArray[np.float32]
T = TypeVar("T")

NOTHING: Final = "(nothing is remembered yet)"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, text TEXT NOT NULL, embedder TEXT NOT NULL,
    vector BLOB NOT NULL, UNIQUE (text, embedder)
)"""
_BUSY_S: Final = 10.0


class NoteEmbedder(Protocol):
    """Turns texts into unit vectors. Blocks; one thread at a time."""

    name: str
    """Vectors of embedders of one name can be compared."""
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors `[len(texts), dimensions]`."""


class FoundNote(NamedTuple):
    """A note that a search found."""

    text: str
    similarity: float
    """Cosine, −1..1."""


class NoteStore:
    """Notes in a SQLite file. All of it blocks; one thread at a time.

    A search scans all vectors, which are kept in memory: 10,000 notes of 512 dimensions take 20 MB.
    """

    def __init__(self, file: Path, embedder: NoteEmbedder, max_notes: int) -> None:
        """Open or make the file. Raises SettingsError if it cannot be, ToolError if it is no such file."""
        self._embedder = embedder
        self._max_notes = max_notes
        self._loaded: tuple[list[str], Vectors] = ([], np.empty((0, embedder.dimensions), np.float32))
        self._stamp: tuple[int, int] | None = None
        """When `_loaded` was read: changes by others, and our own."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            why = getattr(error, "strerror", None) or error
            raise SettingsError(
                f"notes cannot be kept in {file} ({why}); set student.toolbox.workspace to a folder of "
                "your own"
            ) from error
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise ToolError(f"{file} does not hold notes: {error}") from error

    def store(self, text: str) -> int:
        """Keep a note; the same text again becomes the newest. How many there are now."""
        vector = self._embedder.embed([text])[0].tobytes()
        name = self._embedder.name
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute("DELETE FROM notes WHERE text = ? AND embedder = ?", (text, name))
            database.execute(
                "INSERT INTO notes (at, text, embedder, vector) VALUES (?, ?, ?, ?)",
                (time.time(), text, name, vector),
            )
            database.execute(
                "DELETE FROM notes WHERE id IN (SELECT id FROM notes ORDER BY id DESC LIMIT -1 OFFSET ?)",
                (self._max_notes,),
            )
            (count,) = database.execute("SELECT count(*) FROM notes WHERE embedder = ?", (name,)).fetchone()
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")
        return int(count)

    def search(self, question: str, k: int) -> list[FoundNote]:
        """The k notes nearest to the question, the nearest first; of equals, the newest."""
        texts, vectors = self._read()
        if not texts:
            return []
        scores = vectors @ self._embedder.embed([question])[0]
        nearest = np.argsort(-scores, kind="stable")[:k]
        return [FoundNote(texts[row], float(scores[row])) for row in nearest]

    def _read(self) -> tuple[list[str], Vectors]:
        """All notes, the newest first; read again once somebody has stored one."""
        (others,) = self._database.execute("PRAGMA data_version").fetchone()
        stamp = (int(others), self._database.total_changes)
        if stamp != self._stamp:
            rows = self._database.execute(
                "SELECT text, vector FROM notes WHERE embedder = ? ORDER BY id DESC", (self._embedder.name,)
            ).fetchall()
            vectors = np.frombuffer(b"".join(vector for _, vector in rows), dtype=np.float32)
            self._loaded = [text for text, _ in rows], vectors.reshape(len(rows), self._embedder.dimensions)
            self._stamp = stamp
        return self._loaded

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class MemoryTool:
    """Keeps notes and finds them again. A part of the box that its tool is in."""

    def __init__(
        self, settings: MemorySettings, file: Path, open_embedder: Callable[[], NoteEmbedder]
    ) -> None:
        """`open_embedder` may block for seconds: it is called in a thread."""
        self._settings = settings
        self._file = file
        self._open_embedder = open_embedder
        self._lock = threading.Lock()
        self._notes: NoteStore | None = None

    def __repr__(self) -> str:
        return f"<MemoryTool {self._file.name}>"

    async def start(self) -> None:
        """Load the embedder, open the file. Raises ToolError, SettingsError."""
        self._notes = await asyncio.to_thread(self._open)

    def _open(self) -> NoteStore:
        return NoteStore(self._file, self._open_embedder(), self._settings.max_notes)

    @tool
    async def memory(
        self,
        text: Annotated[str, OtherNames("content", "query")],
        action: Annotated[Literal["search", "store"], OtherNames("operation")] = "search",
        k: int = 3,
    ) -> str:
        """Keeps notes for later tasks, and finds them again by what they say.

        Args:
            text: the note, or the question
            action: store keeps the note; search finds the notes nearest to the question
            k: how many notes to find
        """
        text = text.strip()
        if not text:
            raise ToolError("the text is empty; write a note, or a question")
        if action == "store":
            return await self._store(text)
        found = await asyncio.to_thread(self._locked, lambda notes: notes.search(text, max(1, min(k, 20))))
        lines = (f"[{each.similarity:.2f}] {each.text}" for each in found)
        return sanitize_output("\n".join(lines) or NOTHING, self._settings.max_chars)

    async def _store(self, text: str) -> str:
        if len(text) > self._settings.max_note_chars:
            raise ToolError(
                f"a note has at most {self._settings.max_note_chars} characters, found {len(text)}"
            )
        count = await asyncio.to_thread(self._locked, lambda notes: notes.store(text))
        return f"stored; there are {count} notes now"

    def _locked(self, act: Callable[[NoteStore], T]) -> T:
        """Runs in a thread."""
        with self._lock:
            if self._notes is None:
                raise ToolError("the memory is closed", "crashed")
            try:
                return act(self._notes)
            except sqlite3.Error as error:
                raise ToolError(f"the memory cannot be used: {error}", "crashed") from error

    async def aclose(self) -> None:
        """Close the file, once no call works with it."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._notes is not None:
                self._notes.close()
            self._notes = None


def _open(host: ToolHost) -> Tool:
    if host.open_embedder is None:
        raise SettingsError("student.tools names memory, but there is no embedder for it")
    notes = host.root / "notes.sqlite"
    return host.share(MemoryTool(host.settings.toolbox.memory, notes, host.open_embedder)).memory


MEMORY: Final = SharedTool(
    spec=lambda _: MemoryTool.memory,
    open=_open,
    limits=lambda settings: (settings.toolbox.memory,),
)
