"""A blob on its way to a client, piece by piece."""

from collections.abc import AsyncIterator
from types import TracebackType

from bridge import wire
from bridge.dispatcher import Answer, Dispatcher
from bridge.transfers import LinkLost, Transfer, download
from bridge.wire import Kind
from messages.blobs import BlobInfo

ATTEMPTS = 4


class BlobStream:
    """`async with client.stream(tag, name) as blob:` then `blob.info` and `async for piece in blob`.

    If the bridge is lost on the way, the rest is asked of another, or of the same when it is back: of the
    same version only. Raises NoSuchBlob, StoreError (it was put anew meanwhile), BridgeDown.
    """

    def __init__(self, dispatcher: Dispatcher, tag: str, name: str, window: int) -> None:
        self.info: BlobInfo
        """What the store knows of it, once the stream is open."""
        self._dispatcher = dispatcher
        self._tag = tag
        self._name = name
        self._window = window
        self._transfer: Transfer | None = None
        self._inline: memoryview | None = None
        self._offset = 0

    async def __aenter__(self) -> "BlobStream":
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def open(self) -> bytes | None:
        """The whole blob, if it came with the answer; else it comes piece by piece."""
        answer = await self._ask("")
        self.info = BlobInfo.model_validate_json(answer.words)
        return bytes(answer.body) if answer.transfer is None else None

    def close(self) -> None:
        """Want no more of it."""
        if self._transfer is not None:
            self._dispatcher.end(self._transfer)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for attempt in range(ATTEMPTS):
            try:
                async for piece in self._pieces():
                    self._offset += len(piece)
                    yield piece
                return
            except LinkLost:
                if attempt == ATTEMPTS - 1:
                    raise
                await self._ask(self.info.version)

    async def _pieces(self) -> AsyncIterator[memoryview]:
        if self._transfer is None:
            if self._inline is not None and len(self._inline):
                yield self._inline
            return
        async for piece in download(self._transfer):
            yield piece

    async def _ask(self, version: str) -> Answer:
        """Ask for it from where we are."""
        words = wire.GetWords(
            tag=self._tag, name=self._name, credit=self._window, offset=self._offset, version=version
        )
        answer = await self._dispatcher.ask(Kind.GET, wire.text(words))
        self._transfer = answer.transfer
        self._inline = memoryview(answer.body) if answer.transfer is None else None
        return answer
