"""A blob on its way to a client, piece by piece."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from types import TracebackType

from ..messages.blobs import BlobInfo
from . import wire
from .dispatcher import Dispatcher
from .errors import BlobDamaged
from .transfers import LinkLost, Transfer, download
from .wire import Kind

ATTEMPTS = 4


class BlobStream:
    """`async with client.stream(tag, name) as blob:` then `blob.info` and `async for piece in blob`.

    If the bridge is lost on the way, the rest is asked of another, or of the same when it is back: of the
    same version only. Raises NoSuchBlob, StoreError (it was put anew meanwhile), BridgeDown; after the
    last piece BlobDamaged, if all together have another SHA-256 than what was put.
    """

    def __init__(self, dispatcher: Dispatcher, tag: str, name: str, window: int) -> None:
        self.info: BlobInfo
        """What the store knows of it, once the stream is open."""
        self._dispatcher = dispatcher
        self._tag = tag
        self._name = name
        self._window = window
        self._transfer: Transfer | None = None
        self._inline = memoryview(b"")
        self._offset = 0

    async def __aenter__(self) -> "BlobStream":
        await self._ask("")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Want no more of it."""
        if self._transfer is not None:
            self._dispatcher.end(self._transfer)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        digest = hashlib.sha256()
        if self._transfer is None:
            digest.update(self._inline)
            self._check(digest)
            if len(self._inline):
                yield self._inline
            return
        loop = asyncio.get_running_loop()
        async for piece in self._pieces():
            digested = loop.run_in_executor(None, digest.update, piece)  # while others come and this is used
            try:
                yield piece
            finally:
                await digested
        self._check(digest)

    async def _pieces(self) -> AsyncIterator[memoryview]:
        """All pieces, whatever becomes of the bridge."""
        for attempt in range(ATTEMPTS):
            try:
                if self._transfer is None:  # the rest came with the answer
                    yield self._inline
                    return
                async for piece in download(self._transfer):
                    self._offset += len(piece)
                    yield piece
                return
            except LinkLost:
                if attempt == ATTEMPTS - 1:
                    raise
                await self._ask(self.info.version)

    def _check(self, digest: "hashlib._Hash") -> None:
        if digest.hexdigest() != self.info.sha256:
            raise BlobDamaged(
                f"{self._name!r} under {self._tag!r} came with another SHA-256 than it was put with"
            )

    async def _ask(self, version: str) -> None:
        """Ask for it from where we are."""
        words = wire.GetWords(
            tag=self._tag, name=self._name, credit=self._window, offset=self._offset, version=version
        )
        answer = await self._dispatcher.ask(Kind.GET, wire.text(words))
        self._transfer = answer.transfer
        if answer.transfer is None:
            self._inline = memoryview(answer.body)
        if not version:
            self.info = BlobInfo.model_validate_json(answer.words)
