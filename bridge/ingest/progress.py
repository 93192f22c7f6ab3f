"""Progress and report of one ingestion."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...configs.errors import AgentFactoryError
from ...messages.data import BlobInfo, FailedBlob, IngestReport
from ..errors import BridgeDown, StoreFull
from .sources import PendingBlob


class IngestProgress(NamedTuple):
    """Progress of an ingestion. Bytes are those of the sources."""

    blobs: int
    blobs_total: int
    bytes: int
    bytes_total: int


IngestProgressCallback = Callable[[IngestProgress], None]


class IngestTracker:
    """Tracks an ingestion: each blob counts once, as stored, unchanged or failed."""

    def __init__(
        self,
        tag: str,
        blobs: Sequence[PendingBlob],
        watch: IngestProgressCallback | None,
        present: dict[str, BlobInfo],
    ) -> None:
        self.tag = tag
        self.present = present
        self.stopped = ""
        """Why no more blobs are tried; empty while they are."""
        self._blobs = blobs
        self._watch = watch
        self._stored: dict[str, int] = {}
        self._unchanged: set[str] = set()
        self._failed: dict[str, str] = {}
        self._bytes = 0
        self._bytes_total = sum(blob.source.size for blob in blobs)

    def stored(self, blob: PendingBlob, info: BlobInfo) -> None:
        """Count a blob that was sent and is durable."""
        self._stored[blob.name] = info.size
        self.advance(0)

    def unchanged(self, blob: PendingBlob) -> None:
        """Count a blob that the store had already."""
        self._unchanged.add(blob.name)
        self.advance(0)

    def failed(self, blob: PendingBlob, error: AgentFactoryError) -> None:
        """Count a blob that failed; some errors stop the whole ingestion."""
        self._failed[blob.name] = str(error)
        if isinstance(error, BridgeDown | StoreFull):
            self.stopped = self.stopped or str(error)  # thousands of others would wait for the same
        self.advance(0)

    def advance(self, count: int) -> None:
        """Advance by so many bytes, and report progress."""
        self._bytes += count
        if self._watch is not None:
            done = len(self._stored) + len(self._unchanged) + len(self._failed)
            self._watch(IngestProgress(done, len(self._blobs), self._bytes, self._bytes_total))

    def report(self) -> IngestReport:
        """In the order of the blobs."""
        names = [blob.name for blob in self._blobs]
        not_tried = f"not tried: {self.stopped}"
        return IngestReport(
            tag=self.tag,
            stored=tuple(name for name in names if name in self._stored),
            unchanged=tuple(name for name in names if name in self._unchanged),
            failed=tuple(
                FailedBlob(name=name, reason=self._failed.get(name, not_tried))
                for name in names
                if name not in self._stored and name not in self._unchanged
            ),
            stored_bytes=sum(self._stored.values()),
        )
