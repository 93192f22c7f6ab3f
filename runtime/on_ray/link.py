"""How a ref reaches an actor on Ray: by the name it has there, through this process's channel to it."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from ...messages.base import Message
from .channel import Channel

_channels: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], Channel]] = WeakKeyDictionary()


class RayActorChannel:
    """Names an actor. It may be used on any event loop of any process of the cluster."""

    def __init__(self, name: str, ray_name: str, namespace: str) -> None:
        self.name = name
        self.ray_name = ray_name
        """Never given twice in a namespace: a ref to a stopped actor must not reach its successor."""
        self.namespace = namespace
        self._channel: Channel | None = None

    def __repr__(self) -> str:
        return f"<RayLink {self.namespace}/{self.ray_name}>"

    def __reduce__(self) -> tuple[object, ...]:
        return RayActorChannel, (self.name, self.ray_name, self.namespace)

    def tell(self, message: Message) -> Coroutine[Any, Any, None]:
        """Queue the message; waits while the outbox is full."""
        return self.channel().tell(message)

    def ask(self, message: Message, timeout_s: float) -> Coroutine[Any, Any, Message]:
        """Queue the message and wait for its answer."""
        return self.channel().ask(message, timeout_s)

    def channel(self) -> Channel:
        """The running loop's channel to the actor, shared by all refs: their messages travel together."""
        loop = asyncio.get_running_loop()
        if self._channel is None or self._channel.loop is not loop:
            channels = _channels.setdefault(loop, {})
            key = (self.namespace, self.ray_name)
            if key not in channels:
                channels[key] = Channel(self.name, self.ray_name, self.namespace, loop)
            self._channel = channels[key]
        return self._channel


async def flush_channels(limit_s: float) -> None:
    """Let what this loop's actors have said leave the process, for at most `limit_s`."""
    channels = list(_channels.get(asyncio.get_running_loop(), {}).values())
    if channels:
        flushing = [asyncio.create_task(channel.flush()) for channel in channels]
        _, late = await asyncio.wait(flushing, timeout=limit_s)
        for task in late:
            task.cancel()


def close_channels(namespace: str) -> None:
    """End this loop's channels into a namespace: its actors have been stopped."""
    channels = _channels.get(asyncio.get_running_loop(), {})
    for key in [key for key in channels if key[0] == namespace]:
        channels.pop(key).close()
