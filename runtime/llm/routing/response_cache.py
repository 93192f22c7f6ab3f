"""Response cache: replies that are given again for the same task, in this process or in the cache tier.

A task is known by a hash over the conversation (Unicode in its composed form, no space at a message's
ends), the sampling, the functions, the schema and what identifies the chain. A model that changes
behind the same settings (another file in the same folder, an update at the server) is not noticed:
the tier's entries end with its `default_ttl`.
"""

import hashlib
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import structlog
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from ....configs.chat_models import BaseChatModelSettings, RouterSettings
from ....configs.errors import BadInput
from ....messages.base import Message
from ....messages.chat import ChatReply, ChatRequest
from ....messages.routing import Confidence

TAG = ".router"
"""Of the replies in the cache tier; the store behind it has none of them."""
OPERATIONAL = frozenset(BaseChatModelSettings.model_fields) - {"context_tokens"}
"""Settings of a model that do not touch what it answers."""
T = TypeVar("T")
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class CachedReply(Message):
    """A cached reply, with the model that gave it."""

    model: str
    reply: ChatReply
    confidence: Confidence


class ResponseCache(Protocol):
    """Cached replies, by task key."""

    async def get(self, key: str) -> CachedReply | None:
        """The reply, if it is there."""

    async def put(self, key: str, cached: CachedReply) -> None:
        """Keep a reply; the one that was used longest ago may go for it."""

    async def invalidate(self, key: str) -> None:
        """Drop a reply that was wrong."""


class InMemoryResponseCache:
    """A least-recently-used cache in this process."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._replies: OrderedDict[str, CachedReply] = OrderedDict()

    async def get(self, key: str) -> CachedReply | None:
        """See `ResponseCache`."""
        if key in self._replies:
            self._replies.move_to_end(key)
        return self._replies.get(key)

    async def put(self, key: str, cached: CachedReply) -> None:
        """See `ResponseCache`."""
        self._replies[key] = cached
        self._replies.move_to_end(key)
        while len(self._replies) > self._entries:
            self._replies.popitem(last=False)

    async def invalidate(self, key: str) -> None:
        """See `ResponseCache`."""
        self._replies.pop(key, None)


class NamedBlob(Protocol):
    """A cached blob's name."""

    @property
    def name(self) -> str: ...  # noqa: D102


class BlobCacheTier(Protocol):
    """The part of the cache tier (`BlobCache`) that is used here. It raises nothing."""

    async def read_through(
        self, tag: str, name: str, load: Callable[[], Awaitable[bytes | None]], force: bool = False
    ) -> tuple[bytes | None, bool]:
        """The cached bytes, else what `load` says."""

    async def write_through(
        self, tag: str, name: str, put: Callable[[], Awaitable[T]], value: bytes | None
    ) -> T:
        """Put, then cache the value."""

    async def prune(self, tag: str, names: Iterable[str]) -> int:
        """Forget these; how many were there."""

    async def query(self, tag_pattern: str = "*", name_pattern: str = "*") -> Sequence[NamedBlob]:
        """Names of cached blobs."""


class TieredResponseCache:
    """A least-recently-used cache in the cache tier, for all processes that use it.

    The order of use is this process's own: what it finds at its start counts as oldest.
    """

    def __init__(self, tier: BlobCacheTier, entries: int) -> None:
        self._tier = tier
        self._entries = entries
        self._used: OrderedDict[str, None] | None = None

    async def get(self, key: str) -> CachedReply | None:
        """See `ResponseCache`. What cannot be read, such as another version's, is forgotten."""
        value, _ = await self._tier.read_through(TAG, key, _nothing)
        if value is None:
            return None
        try:
            cached = CachedReply.model_validate_json(value)
        except ValidationError as error:
            log.warning("kept_reply_unreadable", key=key, errors=error.error_count())
            await self.invalidate(key)
            return None
        self._touch(await self._known(), key)
        return cached

    async def put(self, key: str, cached: CachedReply) -> None:
        """See `ResponseCache`."""
        used = await self._known()
        await self._tier.write_through(TAG, key, _nothing, cached.model_dump_json().encode())
        self._touch(used, key)
        old = [used.popitem(last=False)[0] for _ in range(len(used) - self._entries)]
        if old:
            await self._tier.prune(TAG, old)

    async def invalidate(self, key: str) -> None:
        """See `ResponseCache`."""
        (await self._known()).pop(key, None)
        await self._tier.prune(TAG, [key])

    async def _known(self) -> OrderedDict[str, None]:
        if self._used is None:
            found = await self._tier.query(TAG)
            if self._used is None:  # nobody else was quicker
                self._used = OrderedDict.fromkeys(blob.name for blob in found)
        return self._used

    @staticmethod
    def _touch(used: OrderedDict[str, None], key: str) -> None:
        used[key] = None
        used.move_to_end(key)


async def _nothing() -> None:
    """There is no store behind these."""


def model_key(settings: BaseChatModelSettings) -> str:
    """A hash of all settings of a model that touch its answers: its key in the router's state."""
    return _sha256(settings.model_dump_json(exclude=set(OPERATIONAL)))


def chain_key(settings: RouterSettings) -> str:
    """A hash of a chain: its models in order, how they are scored, and the threshold."""
    parts = [each.model_dump_json(exclude={"model"}) + model_key(each.model) for each in settings.chain]
    return _sha256("\n".join([*parts, settings.order, repr(settings.threshold)]))


def task_key(request: ChatRequest, chain: str) -> str:
    """A hash of a task (see the module). Raises BadInput for text that is not Unicode."""
    messages = tuple(
        message.model_copy(update={"text": unicodedata.normalize("NFC", message.text).strip()})
        for message in request.messages
    )
    normal = request.model_copy(update={"messages": messages})
    try:
        return _sha256(chain + "\n" + normal.model_dump_json())
    except PydanticSerializationError as error:
        raise BadInput("the request holds text that is not Unicode; no model can be sent it") from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
