"""One memcached, through aiomcache. memcached 1.6 or newer (for `lengths`).

aiomcache is safe only while nothing goes wrong on a connection. What is added here:
  - a connection on which an operation was cancelled, failed or took too long is closed: its reply is
    still on the way, and the next operation would take that for its own;
  - a server that closes the connection before its answer is an error (aiomcache reads on for ever);
  - nobody waits for a connection, for a connect or for an answer longer than `timeout_s`.

Time is counted in ticks of one timer that runs only while something is under way, a quarter of the
limit each: it costs an operation nothing. And if this process was busy with something else, only one
tick has passed: a loop that stood still does not make the server slow.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import aiomcache
from aiomcache.client import acquire
from aiomcache.exceptions import ClientException
from aiomcache.pool import Connection, MemcachePool

from .base import CacheUnavailable, CasValue, ItemRefused

CONNECTIONS = 8
TICKS = 4
"""Of the limit."""
READ_AHEAD = 1 << 18
"""Bytes that a connection buffers before it stops reading."""
MAX_PIPELINED_BYTES = 1 << 18
"""Of what is stored together before its answers are read."""
LONGEST_RELATIVE_S = 30 * 24 * 3600
"""memcached takes a larger time to live for a date."""

T = TypeVar("T")
Waiter = asyncio.Future[Connection | None]
_NOT_STORED = {b"NOT_STORED", b"EXISTS", b"NOT_FOUND"}


class ConnectionPool(MemcachePool):
    """At most `size` connections: lent to one operation each, handed on in the order of asking."""

    def __init__(self, host: str, port: int, size: int, timeout_s: float) -> None:
        super().__init__(host, port, minsize=1, maxsize=size)
        self._timeout_s = timeout_s
        self._open = 0
        self._idle: list[Connection] = []
        self._busy: dict[Connection, int] = {}
        """Ticks since it was lent."""
        self._waiters: dict[Waiter, int] = {}
        """Those who wait for a connection (None: for room to open one), and for how many ticks."""
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return (
            f"<ConnectionPool: {len(self._busy)} busy, {len(self._idle)} idle, {len(self._waiters)} waiting>"
        )

    async def acquire(self) -> Connection:
        """A connection without an unread reply. Raises OSError, TimeoutError."""
        while self._idle:
            conn = self._idle.pop()
            if _is_reusable(conn):
                return self._lend(conn)
            self._drop(conn)
        if self._open < self._maxsize:
            self._open += 1
            return await self._connect()
        return await self._wait() or await self._connect()

    def release(self, conn: Connection) -> None:
        """Return a connection to the pool.

        aiomcache notes an error on the connection, but not a cancellation: that shows since this is called
        in a `finally`.
        """
        del self._busy[conn]
        cancelled = isinstance(sys.exc_info()[1], asyncio.CancelledError | GeneratorExit)
        if _is_reusable(conn) and not cancelled:
            self._give_on(conn)
        else:
            self._drop(conn)
            self._give_on(None)

    async def clear(self) -> None:
        """Close every connection; operations that use one fail."""
        ending = [*self._idle, *self._busy]
        self._idle.clear()
        for conn in ending:
            conn.writer.transport.abort()
        for conn in ending:
            with contextlib.suppress(OSError, TimeoutError):
                await conn.writer.wait_closed()

    def _lend(self, conn: Connection) -> Connection:
        self._busy[conn] = 0
        if self._timer is None:
            self._arm()
        return conn

    def _give_on(self, conn: Connection | None) -> None:
        """Hand a connection to the first waiter; None is room for a new one."""
        while self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():
                if conn is None:
                    self._open += 1
                waiter.set_result(conn and self._lend(conn))
                return
        if conn is not None:
            self._idle.append(conn)

    async def _wait(self) -> Connection | None:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = 0
        if self._timer is None:
            self._arm()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiters.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():  # cancelled in the moment in which its turn came
                if (conn := waiter.result()) is None:
                    self._open -= 1
                else:
                    del self._busy[conn]
                self._give_on(conn)
            raise

    async def _connect(self) -> Connection:
        """A new connection, counted as open already."""
        try:
            async with asyncio.timeout(self._timeout_s):
                streams = await asyncio.open_connection(self._host, self._port, limit=READ_AHEAD)
        except BaseException:
            self._open -= 1
            self._give_on(None)
            raise
        return self._lend(Connection(*streams))

    def _drop(self, conn: Connection) -> None:
        self._open -= 1
        conn.writer.transport.abort()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s / TICKS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for conn, ticks in self._busy.items():
            self._busy[conn] = ticks + 1
            if ticks == TICKS:
                conn.reader.set_exception(TimeoutError(f"no answer within {self._timeout_s} s"))
                conn.writer.transport.abort()
        for waiter, ticks in list(self._waiters.items()):
            self._waiters[waiter] = ticks + 1
            if ticks == TICKS and not waiter.done():
                del self._waiters[waiter]
                waiter.set_exception(TimeoutError(f"no free connection within {self._timeout_s} s"))
        if self._busy or self._waiters:
            self._arm()


def _is_reusable(conn: Connection) -> bool:
    return not conn.reader.at_eof() and conn.reader.exception() is None


class MemcachedClient(aiomcache.Client):
    """aiomcache's client over our connections."""

    def __init__(self, host: str, port: int, size: int, timeout_s: float) -> None:
        super().__init__(host, port, pool_size=size)
        self._pool = ConnectionPool(host, port, size, timeout_s)

    async def _execute_simple_command(self, conn: Connection, raw_command: bytes) -> bytes:
        conn.writer.write(raw_command)
        await conn.writer.drain()
        return await _read_line(conn)

    @acquire
    async def lengths(self, conn: Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Bytes of the values of those keys that are there."""
        conn.writer.write(b"".join([b"mg %b s k q\r\n" % key for key in keys]) + b"mn\r\n")
        await conn.writer.drain()
        found: dict[bytes, int] = {}
        while (line := await _read_line(conn)) != b"MN":
            match line.split():
                case [b"HD", size, key]:
                    found[key[1:]] = int(size[1:])
                case _:
                    raise ClientException("lengths failed", line)
        return found

    @acquire
    async def gets_many(self, conn: Connection, keys: Sequence[bytes]) -> dict[bytes, CasValue]:
        """Those that are there, with their tokens."""
        values, tokens = await self._multi_get(conn, *keys)
        return {key: CasValue(value, tokens[key]) for key, value in values.items()}

    @acquire
    async def store(self, conn: Connection, commands: Sequence[bytes]) -> list[bool]:
        """Storage commands, sent without waiting for the answers between them; which of them stored."""
        conn.writer.writelines(commands)
        await conn.writer.drain()
        return [_is_stored(await _read_line(conn)) for _ in commands]


def _is_stored(answer: bytes) -> bool:
    if answer == b"STORED":
        return True
    if answer in _NOT_STORED or answer.startswith(b"SERVER_ERROR "):
        return False
    raise ClientException("storing failed", answer)


async def _read_line(conn: Connection) -> bytes:
    line = await conn.reader.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server closed the connection before its answer")
    return line[:-2]


class MemcachedBackend:
    """A CacheBackend. Belongs to the event loop that first uses it."""

    def __init__(self, host: str, port: int, timeout_s: float, connections: int = CONNECTIONS) -> None:
        self.name = f"{host}:{port}"
        self._client = MemcachedClient(host, port, connections, timeout_s)

    def __repr__(self) -> str:
        return f"<MemcachedBackend {self.name} {self._client._pool!r}>"

    async def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        try:
            return await self._client.get(key)
        except Exception as error:
            raise self._explained(error) from error

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are there."""
        wanted = tuple(dict.fromkeys(keys))
        values = await self._try(self._client.multi_get(*wanted))
        return {key: value for key, value in zip(wanted, values, strict=True) if value is not None}

    async def lengths(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Bytes of those that are there."""
        return await self._try(self._client.lengths(tuple(dict.fromkeys(keys)))) if keys else {}

    async def gets(self, key: bytes) -> CasValue | None:
        """The value and its token, or None."""
        value, token = await self._try(self._client.gets(key))
        return None if value is None or token is None else CasValue(value, token)

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, CasValue]:
        """Those that are there, with their tokens."""
        return await self._try(self._client.gets_many(tuple(dict.fromkeys(keys)))) if keys else {}

    async def set(self, key: bytes, value: bytes, ttl_s: int) -> None:
        """Whatever was there before."""
        await self._try(self._client.set(key, value, _expiry(ttl_s)))

    async def add(self, key: bytes, value: bytes, ttl_s: int) -> bool:
        """Only if nothing is there; whether it was stored."""
        return await self._try(self._client.add(key, value, _expiry(ttl_s)))

    async def add_many(self, items: Mapping[bytes, bytes], ttl_s: int) -> frozenset[bytes]:
        """`add` for each; the keys that were stored."""
        until = _expiry(ttl_s)
        return await self._store(
            items,
            (b"add %b 0 %d %d\r\n%b\r\n" % (key, until, len(item), item) for key, item in items.items()),
        )

    async def compare_and_set(self, key: bytes, value: bytes, token: int, ttl_s: int) -> bool:
        """Only if nobody has changed it since `gets`; whether it was stored."""
        return await self._try(self._client.cas(key, value, token, _expiry(ttl_s)))

    async def compare_and_set_many(self, items: Mapping[bytes, CasValue], ttl_s: int) -> frozenset[bytes]:
        """`compare_and_set` for each; the keys that were stored."""
        until = _expiry(ttl_s)
        return await self._store(
            items,
            (
                b"cas %b 0 %d %d %d\r\n%b\r\n" % (key, until, len(item), token, item)
                for key, (item, token) in items.items()
            ),
        )

    async def delete(self, key: bytes) -> None:
        """Forget it, if it is there."""
        await self._try(self._client.delete(key))

    async def flush(self) -> None:
        """Forget everything, also what other programs keep there."""
        await self._try(self._client.flush_all())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _store(self, keys: Iterable[bytes], commands: Iterable[bytes]) -> frozenset[bytes]:
        """The keys whose commands stored."""
        stored: list[bool] = []
        for some in _batches(commands):
            stored += await self._try(self._client.store(some))
        return frozenset(key for key, done in zip(keys, stored, strict=True) if done)

    async def _try(self, operation: Awaitable[T]) -> T:
        try:
            return await operation
        except Exception as error:  # a wrong answer can upset aiomcache in any way
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> CacheUnavailable:
        refused = isinstance(error, ClientException) and "b'SERVER_ERROR" in str(error)
        kind = ItemRefused if refused else CacheUnavailable
        return kind(f"memcached {self.name}: {error or type(error).__name__}")


def _batches(commands: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Runs of at most `MAX_PIPELINED_BYTES`, or of one."""
    held: list[bytes] = []
    size = 0
    for command in commands:
        if held and size + len(command) > MAX_PIPELINED_BYTES:
            yield held
            held, size = [], 0
        held.append(command)
        size += len(command)
    if held:
        yield held


def _expiry(ttl_s: int) -> int:
    return ttl_s if ttl_s <= LONGEST_RELATIVE_S else int(time.time()) + ttl_s
