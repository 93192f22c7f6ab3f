"""Puts by the name that their client gave them, so that one that is sent again is done once.

A client whose answer was lost sends its put again. While this server lives, the repeat gets the first
one's answer, or waits for it. After a server's death nothing is known of the first: the same bytes are
put again, which changes nothing but the version.
"""

from collections import OrderedDict
from weakref import WeakValueDictionary

from ...messages.blobs import BlobInfo
from .sessions import PendingReply
from .streams import UploadStream

REMEMBERED = 4096
"""Answers."""


class IdempotencyCache:
    """Those that are done, and those under way."""

    def __init__(self) -> None:
        self._done: OrderedDict[str, bytes] = OrderedDict()
        self._inline: dict[str, list[PendingReply]] = {}
        self._streams: WeakValueDictionary[str, UploadStream] = WeakValueDictionary()

    def answered(self, put_id: str, reply: PendingReply) -> bool:
        """Answer a put that has been done; whether it had been."""
        info = self._done.get(put_id)
        if info is None:
            return False
        reply.answer_raw(info)
        return True

    def join(self, put_id: str, reply: PendingReply) -> bool:
        """Wait for the put of this name; whether the caller is to do it, being the first."""
        waiting = self._inline.setdefault(put_id, [])
        waiting.append(reply)
        return len(waiting) == 1

    def done(self, put_id: str, info: BlobInfo) -> None:
        """Answer all who wait."""
        words = self.remember(put_id, info)
        for reply in self._inline.pop(put_id):
            reply.answer_raw(words)

    def failed(self, put_id: str, error: Exception) -> None:
        """The same for one that failed: the next of this name is tried anew."""
        for reply in self._inline.pop(put_id):
            reply.fail(error)

    def replace(self, put_id: str) -> None:
        """A stream of this name begins again: its client has given up the earlier one."""
        earlier = self._streams.pop(put_id, None)
        if earlier is not None:
            earlier.abort()

    def opened(self, put_id: str, stream: UploadStream) -> None:
        """A stream of this name is under way."""
        self._streams[put_id] = stream

    def remember(self, put_id: str, info: BlobInfo) -> bytes:
        """Keep an answer; it as JSON."""
        words = info.model_dump_json().encode()
        self._done[put_id] = words
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        return words
