"""LMDB with group commit: one writer thread, durable when `run` returns.

Writes that wait at the same time share one transaction and one flush to disk. The writer consumes a
bounded queue of operations; each gets its own result or error: when one of a batch fails, the batch is
undone and each of its operations runs alone, so an error fails only its own operation.

Invariants:
  - one process owns an environment, by an advisory lock on `owner.lock` that ends with the process;
  - live pages never exceed the limit, so there is always room to delete.
"""

import fcntl
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Final, Generic, TypeVar

import lmdb

from ..errors import StoreError, StoreFull

ResultT = TypeVar("ResultT")
Txn = lmdb.Transaction
Table = lmdb._Database
Op = Callable[[Txn], ResultT]

_TABLES: Final = (b"blobs", b"sums", b"doomed", b"leases", b"chunks")
_BATCH: Final = 256
_LIMIT_S: Final = 120.0
_READERS: Final = 1024


class OutcomeUnknown(StoreError):
    """A commit timed out: it may yet be done, or not. Nothing that it needs may be removed."""


class _Job(Generic[ResultT]):
    """An operation with where its result goes."""

    def __init__(self, op: Op[ResultT]) -> None:
        self.op = op
        self.done: Future[ResultT] = Future()

    def alone(self, writer: "GroupCommitWriter") -> None:
        try:
            with _map_lmdb_errors(), writer.begin_write() as txn:
                result = self.op(txn)
        except BaseException as error:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


class GroupCommitWriter:
    """An LMDB environment. `max_bytes` limits live pages; `before_commit` flushes what lies elsewhere."""

    def __init__(self, folder: Path, max_bytes: int, before_commit: Callable[[], None] | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self.before_commit = before_commit
        self._lock = _lock_folder(folder)
        try:
            reserve = max(16 << 20, max_bytes // 8)
            with _map_lmdb_errors():
                self._env = lmdb.open(
                    str(folder / "catalog"),
                    map_size=max_bytes + reserve,
                    max_dbs=len(_TABLES),
                    max_readers=_READERS,
                    max_spare_txns=16,
                )
                self.tables: Final = {name.decode(): self._env.open_db(name) for name in _TABLES}
        except BaseException:
            self._lock.close()
            raise
        self._page: int = self._env.stat()["psize"]
        self._used = 0
        """Bytes of live pages, with what the transaction under way has asked for."""
        self._jobs: queue.Queue[_Job[object] | None] = queue.Queue(_BATCH)
        self._closed = False
        self._closing = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._writer.start()

    def run(self, op: Op[ResultT]) -> ResultT:
        """Run `op` in a write transaction; durable when it returns.

        `op` may run twice (never committed twice) and must not keep the transaction.
        Raises what it raises, StoreFull, StoreError, OutcomeUnknown.
        """
        return self.begin(op)()

    def begin(self, op: Op[ResultT]) -> Callable[[], ResultT]:
        """Run in two steps: the result waits for the commit. Operations of one thread keep their order."""
        job = _Job(op)
        with self._closing:
            if self._closed:
                raise StoreError("the store is closed; open it again")
            try:
                self._jobs.put(job, timeout=_LIMIT_S)  # type: ignore[arg-type]
            except queue.Full as error:
                raise StoreError(f"{self._folder}: the disk has not kept up for {_LIMIT_S:.0f} s") from error
        return partial(self._ended, job)

    def _ended(self, job: _Job[ResultT]) -> ResultT:
        try:
            return job.done.result(_LIMIT_S)
        except TimeoutError as error:
            late = f"{self._folder}: no answer from the disk for {_LIMIT_S:.0f} s"
            if job.done.cancel():
                raise StoreError(f"{late}; this write will not be done") from error
            raise OutcomeUnknown(f"{late}; it is unknown whether this write will be done") from error

    @contextmanager
    def read(self) -> Iterator[Txn]:
        """A snapshot. Keep it short: pages that were freed since cannot be used again meanwhile."""
        if self._closed:
            raise StoreError("the store is closed; open it again")
        with _map_lmdb_errors(), self._env.begin() as txn:
            yield txn

    def require(self, txn: Txn, size: int) -> None:
        """Refuse to grow by `size` bytes beyond the limit. Raises StoreFull."""
        if self._used + size > self._max_bytes:
            self._used = self._live_bytes(txn)
        if self._used + size > self._max_bytes:
            raise StoreFull(
                f"{self._folder}: holds {self._used} bytes, and {size} more would pass its limit of "
                f"{self._max_bytes}; delete blobs, or raise store.max_gb"
            )
        self._used += size

    @contextmanager
    def begin_write(self) -> Iterator[Txn]:
        """A write transaction, for the writer thread only."""
        with self._env.begin(write=True) as txn:
            self._used = self._live_bytes(txn)
            yield txn
            if self.before_commit is not None:
                self.before_commit()

    def _live_bytes(self, txn: Txn) -> int:
        pages = 0
        for table in self.tables.values():
            stat = txn.stat(table)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * self._page

    def close(self) -> None:
        """Finish what is queued and let go of the files."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._writer.join()
        self._env.close()
        self._lock.close()

    def _write(self) -> None:
        ended = False
        while not ended:
            batch = [self._jobs.get()]
            with suppress(queue.Empty):
                while len(batch) < _BATCH:
                    batch.append(self._jobs.get_nowait())
            ended = batch[-1] is None  # nothing is put after it
            jobs = [job for job in batch if job is not None and job.done.set_running_or_notify_cancel()]
            if jobs:
                self._commit(jobs)

    def _commit(self, batch: list[_Job[object]]) -> None:
        if len(batch) == 1:
            batch[0].alone(self)
            return
        try:
            with _map_lmdb_errors(), self.begin_write() as txn:
                results = [job.op(txn) for job in batch]
        except BaseException:
            for job in batch:
                job.alone(self)
        else:
            for job, result in zip(batch, results, strict=True):
                job.done.set_result(result)


def fetch(txn: Txn, table: Table, key: bytes) -> bytes | None:
    """A row, or None."""
    row = txn.get(key, db=table)
    return None if row is None else bytes(row)


def rows(txn: Txn, table: Table, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Keys from `start` on, with their rows."""
    cursor = txn.cursor(table)
    if cursor.set_range(start) if start else cursor.first():
        yield from ((bytes(key), bytes(row)) for key, row in cursor.iternext())


@contextmanager
def _map_lmdb_errors() -> Iterator[None]:
    """Map LMDB's errors to ours."""
    try:
        yield
    except (lmdb.MapFullError, lmdb.DiskError) as error:
        raise StoreFull(
            f"the store takes no more ({error}); delete blobs, or free space on its disk"
        ) from error
    except lmdb.Error as error:
        raise StoreError(f"the store's files do not answer: {error}") from error


def _lock_folder(folder: Path) -> IO[str]:
    """Lock the folder for this process, until the file is closed or the process ends. Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "owner.lock").open("a+", encoding="ascii")
    except OSError as error:
        raise StoreError(f"{folder}: cannot be used as a store ({error.strerror})") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise StoreError(
            f"{folder}: process {owner} has this store open; stop it, or use its bridge, or another folder"
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock
