"""Something has changed: look again."""

import anyio


class Signal:
    """Wakes everyone who waits. Decide first, then wait: nothing changes between the two."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        """Wake all."""
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Until the next `notify`."""
        await self._event.wait()
