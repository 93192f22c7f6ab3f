"""The index of a tag as it is kept in the store, under the tag `.index/<tag>`.

A part is an Arrow file: the passages of whole blobs with their vectors. The manifest, a JSON blob that is
written last, names the parts and which blobs count in each, by version.

Invariants:
  - what the manifest names was stored before it, so an index is whole, the one before, or absent;
  - of a blob the manifest covers one version, in one part; other rows of a part are dead and left out;
  - parts are written once and never changed.
"""

import io
import time
import uuid
from collections.abc import Collection
from typing import Final, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from ...messages.base import Message
from ...messages.data import BlobInfo, BlobMeta
from ..errors import BlobDamaged, NoSuchBlob
from .base import Blobs, blob_pages, index_tag
from .embedding import Vectors
from .table import PassageRow

FORMAT: Final = 1
MANIFEST: Final = "manifest"
_PART: Final = "part-"
_ORPHAN_S: Final = 3600.0
"""A part that no manifest names may be one of an update under way elsewhere, if it is younger."""
_ARROW: Final = BlobMeta(content_type="application/vnd.apache.arrow.file")
_JSON: Final = BlobMeta(content_type="application/json")


class IndexedBlob(Message):
    """A blob, as far as the index knows it."""

    name: str
    version: str
    passages: int = Field(default=0, ge=0)


class IndexPart(Message):
    """Manifest entry of one part: the blobs that are live in it."""

    name: str
    blobs: tuple[IndexedBlob, ...]
    rows: int = Field(ge=0)
    """All that are in it, the dead ones too."""

    @property
    def live(self) -> int:
        """Rows that count."""
        return sum(blob.passages for blob in self.blobs)


class IndexConfig(Message):
    """Chunking and embedding parameters. Passages made with others cannot be searched together."""

    format: int = FORMAT
    embedder: str
    dimensions: int
    passage_chars: int
    overlap_chars: int


class IndexManifest(Message):
    """Manifest of an index: its parts, and the blobs that it skips."""

    recipe: IndexConfig
    parts: tuple[IndexPart, ...] = ()
    not_text: tuple[IndexedBlob, ...] = ()
    too_large: tuple[IndexedBlob, ...] = ()


class IndexSegment(NamedTuple):
    """Rows and vectors of one part."""

    rows: list[PassageRow]
    vectors: Vectors


class IndexDamaged(Exception):
    """The index in the store cannot be used; it is made anew. For this package's own use."""


class IndexStore:
    """The index of one tag in the store."""

    def __init__(self, blobs: Blobs, tag: str) -> None:
        self._blobs = blobs
        self._tag = index_tag(tag)

    async def version(self) -> str:
        """Of the manifest; empty if there is none."""
        info = await self._blobs.stat(self._tag, MANIFEST)
        return info.version if info else ""

    async def names(self) -> frozenset[str]:
        """Of all that the store has of it."""
        return frozenset(info.name for info in await all_blobs(self._blobs, self._tag))

    async def read_manifest(self) -> IndexManifest | None:
        """The manifest, if there is one. Raises IndexDamaged."""
        try:
            return IndexManifest.model_validate_json(await self._blobs.get(self._tag, MANIFEST))
        except NoSuchBlob:
            return None
        except (BlobDamaged, ValidationError) as error:
            raise IndexDamaged(f"its manifest cannot be read: {error}") from error

    async def write_manifest(self, manifest: IndexManifest) -> str:
        """From now on this is the index; its version."""
        data = manifest.model_dump_json().encode()
        return (await self._blobs.put(self._tag, MANIFEST, data, _JSON)).version

    async def read_part(self, part: IndexPart) -> bytes:
        """The bytes of a part, for `unpack`. Raises IndexDamaged."""
        try:
            return await self._blobs.get(self._tag, part.name)
        except (NoSuchBlob, BlobDamaged) as error:
            raise IndexDamaged(f"{part.name} cannot be read: {error}") from error

    async def write_part(self, data: bytes) -> str:
        """Store a part that `pack` made; its name."""
        name = _PART + uuid.uuid4().hex
        await self._blobs.put(self._tag, name, data, _ARROW)
        return name

    async def sweep(self, manifest: IndexManifest | None, dropped: Collection[str] = ()) -> None:
        """Delete the parts that were dropped and those that an update left behind; None: everything."""
        named = {part.name for part in manifest.parts} | {MANIFEST} if manifest else set()
        old = time.time() - _ORPHAN_S
        gone = [
            info.name
            for info in await all_blobs(self._blobs, self._tag)
            if info.name not in named and (not manifest or info.stored_at < old or info.name in dropped)
        ]
        gone.sort(key=lambda name: name != MANIFEST)  # first of all: it names the others
        if gone:
            await self._blobs.delete(self._tag, gone)


async def all_blobs(blobs: Blobs, tag: str) -> list[BlobInfo]:
    """All blobs of a tag."""
    return [info async for page in blob_pages(blobs, tag) for info in page]


def pack(content: IndexSegment) -> bytes:
    """A part's bytes. Blocks."""
    import pyarrow as pa

    rows, vectors = content
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(PassageRow._fields)
    kinds = (pa.string(), pa.int64(), pa.int64(), pa.string(), pa.string())
    arrays = [pa.array(list(column), kind) for column, kind in zip(columns, kinds, strict=True)]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    table = pa.table(
        [*arrays, pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])],
        names=[*PassageRow._fields, "vector"],
    )
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def unpack(data: bytes, part: IndexPart, dimensions: int) -> IndexSegment:
    """The rows that count of a part. Blocks. Raises IndexDamaged."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all().combine_chunks()
        columns = [table.column(name).to_pylist() for name in PassageRow._fields]
        vectors = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        vectors = vectors.reshape(table.num_rows, dimensions)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise IndexDamaged(f"{part.name} cannot be read: {error}") from error
    live = {blob.name for blob in part.blobs}
    rows = [PassageRow(*values) for values in zip(*columns, strict=True)]
    keep = [number for number, row in enumerate(rows) if row.blob in live]
    if len(keep) != part.live:
        raise IndexDamaged(f"{part.name} has {len(keep)} rows that count, not {part.live}")
    return IndexSegment([rows[number] for number in keep], np.asarray(vectors[keep], dtype=np.float32))
