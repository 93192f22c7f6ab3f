"""Idempotency keys of puts: a put that is sent again is done once.

A client whose answer was lost sends its put again. While this server lives, the repeat gets the first
one's answer, or waits for it. After a server's death nothing is known of the first: the same bytes are
put again, which changes nothing but the version.
"""

from collections import OrderedDict
from weakref import WeakValueDictionary

from ...messages.data import BlobInfo
from .sessions import PendingReply
from .streams import UploadStream

REMEMBERED = 4096
"""Answers."""


class IdempotencyCache:
    """Puts by idempotency key: finished and in flight."""

    def __init__(self) -> None:
        self._done: OrderedDict[str, bytes] = OrderedDict()
        self._inline: dict[str, list[PendingReply]] = {}
        self._streams: WeakValueDictionary[str, UploadStream] = WeakValueDictionary()

    def answered(self, put_id: str, reply: PendingReply) -> bool:
        """Answer a put that has been done. Returns whether it had been."""
        info = self._done.get(put_id)
        if info is None:
            return False
        reply.answer_raw(info)
        return True

    def join(self, put_id: str, reply: PendingReply) -> bool:
        """Wait for the put of this key. Returns True to the first, who has to do it."""
        waiting = self._inline.setdefault(put_id, [])
        waiting.append(reply)
        return len(waiting) == 1

    def done(self, put_id: str, info: BlobInfo) -> None:
        """Answer all waiters of a put."""
        words = self.remember(put_id, info)
        for reply in self._inline.pop(put_id):
            reply.answer_raw(words)

    def failed(self, put_id: str, error: Exception) -> None:
        """Fail all waiters of a put; the next one of this key is tried anew."""
        for reply in self._inline.pop(put_id):
            reply.fail(error)

    def replace(self, put_id: str) -> None:
        """Abort the earlier stream of this key: its client has begun it again."""
        earlier = self._streams.pop(put_id, None)
        if earlier is not None:
            earlier.abort()

    def opened(self, put_id: str, stream: UploadStream) -> None:
        """Register a stream of this key."""
        self._streams[put_id] = stream

    def remember(self, put_id: str, info: BlobInfo) -> bytes:
        """Remember an answer. Returns it as JSON."""
        words = info.model_dump_json().encode()
        self._done[put_id] = words
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        return words
