"""Ingestion of many blobs: bounded concurrency, each stored whole or not at all, failures reported.

Two passes. The first makes of every blob what is to be stored (tables become Arrow files in a temporary
folder, text is checked) and stores nothing, so a broken file among thousands leaves no trace. The second
sends what the store does not have yet.

Invariants:
  - at most `concurrency` large blobs or batches of small ones (`BATCH_BLOBS` of `SMALL_BYTES`) are in
    flight, over all calls; a large blob takes the memory of a few pieces, or of `whole_bytes` if it is sent
    whole; conversions take turns, `CONVERSIONS` at a time;
  - every blob is reported exactly once: stored, unchanged or failed; no Arrow file that was made of a table
    is there without that table, byte for byte (`bridge.client.tiered_store`), and no such table without it;
  - a blob that changed while it was read is not stored, and what was stored under its name stays.
"""

import glob
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing, closing
from dataclasses import replace
from typing import TypeVar

import anyio

from ...configs.errors import AgentFactoryError, CannotWrite
from ...messages.data import BlobInfo, BlobUpload, Format, IngestReport
from ..client.tiered_store import IngestSink, original_tag
from ..errors import BadName
from . import conversion as formats
from .conversion import LazyTempDir, check_texts, convert_table, is_table, temporary_source, with_content_type
from .progress import IngestProgressCallback, IngestTracker
from .sources import CHUNK_BYTES, PendingBlob, SourceChanged, StoredSource
from .uri import printable_uri

T = TypeVar("T")

CONVERSIONS = 2
"""Tables that are converted at the same time; each takes the memory of one table of `formats`."""
SMALL_BYTES = 64 << 10
BATCH_BLOBS = 32
"""Blobs of up to `SMALL_BYTES` that one thread reads in one go."""
LOOKUPS = 64
"""From so many blobs on, the tag is listed instead of asking for each."""


class Ingest:
    """Puts blobs, for all that share it `concurrency` at once."""

    def __init__(
        self, sink: IngestSink, concurrency: int, whole_bytes: int = CHUNK_BYTES, temp_folder: str = ""
    ) -> None:
        self._sink = sink
        self._concurrency = concurrency
        self._whole_bytes = max(whole_bytes, SMALL_BYTES)
        self._temp_folder = temp_folder
        self._slots = anyio.Semaphore(concurrency)
        self._conversions = anyio.Semaphore(CONVERSIONS)

    async def put(
        self,
        tag: str,
        blobs: Sequence[PendingBlob],
        form: Format = "binary",
        watch: IngestProgressCallback | None = None,
    ) -> IngestReport:
        """Store the blobs under a tag. The report says what went in and what did not.

        Raises BadContent and SourceChanged if the first pass finds one that cannot be stored, CannotWrite
        if the temporary folder is full; nothing is stored then. Raises what the store raises when it is
        asked what it has.
        """
        with ExitStack() as stack:
            ready = await self._prepare(blobs, form, LazyTempDir(stack, self._temp_folder))
            without = await self._put_originals(tag, [blob.original for blob in ready if blob.original])
            call = IngestTracker(tag, ready, watch, await self._present(tag, ready))
            for blob in ready:
                if blob.name in without:
                    call.failed(blob, AgentFactoryError(f"its original: {without[blob.name]}"))
            ready = [blob for blob in ready if blob.name not in without]
            try:
                await self._spread(_batches(ready), lambda batch: self._put_batch(call, batch))
            finally:
                with anyio.CancelScope(shield=True):
                    await self._sink.flush_index()
            report = call.report()
            await self._drop_originals(tag, ready, {*report.stored, *report.unchanged})
        return report

    async def _prepare(
        self, blobs: Sequence[PendingBlob], form: Format, folder: LazyTempDir
    ) -> list[PendingBlob]:
        """Convert and check all blobs, in the same order. Nothing is stored yet."""
        ready = {blob.name: with_content_type(blob, form) for blob in blobs}
        if form == "text":

            async def check(batch: Sequence[PendingBlob]) -> None:
                local = [await self._local(blob, folder) for blob in batch]
                await anyio.to_thread.run_sync(check_texts, local)
                ready.update((blob.name, with_content_type(blob, form)) for blob in local)

            await self._spread(_batches(blobs), check)
        elif form == "arrow":

            async def convert(blob: PendingBlob) -> None:
                local = await self._local(blob, folder)
                ready[blob.name] = await anyio.to_thread.run_sync(convert_table, local, folder.next_path())

            await self._spread((blob for blob in blobs if is_table(blob)), convert, self._conversions)
        return list(ready.values())

    async def _put_originals(self, tag: str, originals: Sequence[PendingBlob]) -> dict[str, str]:
        """Keep the files that Arrow files were made from, in the store alone; those that were not, and why.

        Before the Arrow files: none is ever there without its original.
        """
        beside = original_tag(tag)
        call = IngestTracker(
            beside, originals, None, await self._present(beside, originals) if originals else {}
        )

        async def put(blob: PendingBlob) -> None:
            if call.stopped:
                return
            try:
                await self._put_one(call, blob, None)
            except AgentFactoryError as error:
                call.failed(blob, error)

        await self._spread(originals, put)
        return {failed.name: failed.reason for failed in call.report().failed}

    async def _drop_originals(self, tag: str, ready: Sequence[PendingBlob], there: set[str]) -> None:
        """Remove the originals of Arrow files in whose place something else is now."""
        beside = original_tag(tag)
        others = [blob for blob in ready if blob.name in there and not blob.original]
        try:
            names = await self._present(beside, [blob for blob in others if formats.is_table_name(blob.name)])
        except BadName:
            return  # so long a tag has no originals
        now = await self._present(tag, [blob for blob in others if blob.name in names])
        stale = [name for name in names if name not in now or not now[name].meta.original]
        if stale:
            await self._sink.delete(beside, stale)

    async def _local(self, blob: PendingBlob, folder: LazyTempDir) -> PendingBlob:
        """The blob with a source that can be read here: a stored one is fetched into the folder."""
        if not isinstance(blob.source, StoredSource):
            return blob
        path, info = folder.next_path(), blob.source.info
        try:
            async with (
                await anyio.open_file(path, "wb") as file,
                self._sink.stream(info.tag, info.name) as stored,
            ):
                async for chunk in stored:
                    await file.write(chunk)
        except OSError as error:
            raise CannotWrite(f"{printable_uri(blob.uri)} could not be fetched: {error}") from error
        return replace(blob, source=temporary_source(path, blob.uri))

    async def _present(self, tag: str, blobs: Sequence[PendingBlob]) -> dict[str, BlobInfo]:
        """Look up which of these the store has, by name."""
        wanted = {blob.name for blob in blobs}
        found: dict[str, BlobInfo] = {}
        if len(wanted) < LOOKUPS:

            async def look_up(name: str) -> None:
                info = await self._sink.stat(tag, name)
                if info is not None:
                    found[name] = info

            await self._spread(wanted, look_up)
            return found
        last, after = max(wanted), ""
        while True:
            page = await self._sink.list(glob.escape(tag), "*", after)
            found.update((info.name, info) for info in page.blobs if info.name in wanted)
            after = page.next
            if not after or (page.blobs and page.blobs[-1].name >= last):
                return found

    async def _put_batch(self, call: IngestTracker, batch: Sequence[PendingBlob]) -> None:
        """Put small blobs, read in one go and sent together, or a single large one."""
        local = [blob for blob in batch if self._goes_whole(blob)]
        loaded = await anyio.to_thread.run_sync(_load_all, local) if local and not call.stopped else {}
        new: dict[str, BlobUpload] = {}

        async def put(blob: PendingBlob) -> None:
            if call.stopped:
                return
            try:
                await self._put_one(call, blob, loaded.get(blob.name))
            except AgentFactoryError as error:
                call.failed(blob, error)

        async with anyio.create_task_group() as group:
            for blob in batch:
                data = loaded.get(blob.name)
                if isinstance(data, bytes) and len(data) <= SMALL_BYTES and blob.name not in call.present:
                    new[blob.name] = BlobUpload(blob.name, data, blob.meta)
                else:
                    group.start_soon(put, blob)
        if new and not call.stopped:
            await self._put_new(call, [blob for blob in batch if blob.name in new], list(new.values()))

    async def _put_new(
        self, call: IngestTracker, blobs: Sequence[PendingBlob], new: Sequence[BlobUpload]
    ) -> None:
        """Put small blobs that the store does not have."""
        for blob, outcome in zip(blobs, await self._sink.put_many(call.tag, new), strict=True):
            if isinstance(outcome, AgentFactoryError):
                call.failed(blob, outcome)
            else:
                call.advance(outcome.size)
                call.stored(blob, outcome)

    def _goes_whole(self, blob: PendingBlob) -> bool:
        return blob.source.size <= self._whole_bytes and not isinstance(blob.source, StoredSource)

    async def _put_one(
        self, call: IngestTracker, blob: PendingBlob, data: "bytes | SourceChanged | None"
    ) -> None:
        """Put one blob, whole or as a stream, unless the store has it."""
        if isinstance(data, SourceChanged):
            raise data
        have = call.present.get(blob.name)
        if have is not None and _may_be_same(have, blob) and have.sha256 == await _digest(blob, data):
            call.advance(blob.source.size)
            if data is not None:
                await self._sink.touch(call.tag, blob.name, data, have.sha256)
            call.unchanged(blob)
            return
        if data is None:
            info = await self._put_stream(call, blob)
        else:
            info = await self._sink.put(call.tag, blob.name, data, blob.meta)
            call.advance(len(data))
        call.stored(blob, info)

    async def _put_stream(self, call: IngestTracker, blob: PendingBlob) -> BlobInfo:
        broken: list[SourceChanged] = []

        async def chunks() -> AsyncGenerator[bytes | memoryview, None]:
            try:
                async with aclosing(self._chunks(blob)) as read:
                    async for chunk in read:
                        yield chunk
                        call.advance(len(chunk))
            except SourceChanged as error:
                broken.append(error)
                raise

        async with aclosing(chunks()) as stream:
            try:
                return await self._sink.put(call.tag, blob.name, stream, blob.meta)
            except AgentFactoryError as error:
                if broken and error is not broken[0]:
                    raise broken[0] from error  # the reason, not what the way to the store made of it
                raise

    async def _chunks(self, blob: PendingBlob) -> AsyncGenerator[bytes | memoryview, None]:
        if isinstance(blob.source, StoredSource):
            async with self._sink.stream(blob.source.info.tag, blob.source.info.name) as stored:
                async for chunk in stored:
                    yield chunk
            return
        with closing(blob.source.chunks()) as chunks:
            while chunk := await anyio.to_thread.run_sync(next, chunks, b""):
                yield chunk

    async def _spread(
        self, items: Iterable[T], do: Callable[[T], Awaitable[None]], slots: anyio.Semaphore | None = None
    ) -> None:
        """Do it to all, a bounded number at once. Raises the first error of ours; the rest is cancelled."""
        left = iter(items)
        errors: list[AgentFactoryError] = []

        async def work() -> None:
            for item in left:
                async with slots or self._slots:
                    try:
                        await do(item)
                    except AgentFactoryError as error:
                        errors.append(error)
                        group.cancel_scope.cancel()
                        return

        async with anyio.create_task_group() as group:
            for _ in range(self._concurrency):
                group.start_soon(work)
        if errors:
            raise errors[0]


def _batches(blobs: Iterable[PendingBlob]) -> Iterator[list[PendingBlob]]:
    """Small blobs together, so that not each costs a change of threads; the others by themselves."""
    batch: list[PendingBlob] = []
    for blob in blobs:
        if blob.source.size > SMALL_BYTES:
            yield [blob]
            continue
        batch.append(blob)
        if len(batch) == BATCH_BLOBS:
            yield batch
            batch = []
    if batch:
        yield batch


def _load_all(blobs: Sequence[PendingBlob]) -> dict[str, bytes | SourceChanged]:
    """The bytes of each, or why there are none."""
    loaded: dict[str, bytes | SourceChanged] = {}
    for blob in blobs:
        assert not isinstance(blob.source, StoredSource)
        try:
            loaded[blob.name] = b"".join(blob.source.chunks())
        except SourceChanged as error:
            loaded[blob.name] = error
    return loaded


def _may_be_same(have: BlobInfo, blob: PendingBlob) -> bool:
    """Of one size, and of one kind: bytes that are now called text, or an array, are put again."""
    same_kind = have.meta.model_copy(update={"source": blob.meta.source}) == blob.meta
    return have.size == blob.source.size and same_kind


async def _digest(blob: PendingBlob, data: bytes | None) -> str:
    source = blob.source
    if isinstance(source, StoredSource):
        return source.info.sha256
    if data is not None and len(data) <= SMALL_BYTES:
        return hashlib.sha256(data).hexdigest()
    chunks = source.chunks() if data is None else iter((data,))
    return await anyio.to_thread.run_sync(_digest_of, chunks)


def _digest_of(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
