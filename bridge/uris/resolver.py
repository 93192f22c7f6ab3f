"""From URIs to blobs to be.

Invariant: whoever has a list from here knows that each URI names something that is there, may be
read, and that no two blobs share a name. Nothing has been read of what files hold, but what HDF5 needs.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import anyio

from ...configs.data import UriSettings
from ...messages.blobs import BlobInfo, BlobMeta
from ..errors import URIResolveError
from ..originals import original_tag
from .content import TEXT, content_type_of
from .hdf5 import hdf5_blobs
from .paths import Roots, file_blob, folder_blobs
from .sources import BytesSource, PlannedBlob, StoredSource
from .uri import Uri, parse_uri, shown


class BlobStat(Protocol):
    """What `mem::` asks of the store."""

    async def stat(self, tag: str, name: str) -> BlobInfo | None:
        """What is known of a blob; None if there is none."""


class UriResolver:
    """Finds what URIs name, within what the settings allow."""

    def __init__(self, settings: UriSettings, store: BlobStat) -> None:
        self._schemes = settings.schemes
        self._roots = Roots(settings.roots)
        self._store = store

    async def resolve(self, texts: Sequence[str]) -> list[PlannedBlob]:
        """The blobs that the URIs name, in order. Raises URIResolveError; nothing has happened then."""
        if not texts:
            raise URIResolveError("no URI was given; expected at least one")
        planned: dict[str, PlannedBlob] = {}
        for uri in [parse_uri(text, self._schemes) for text in texts]:
            for blob in await self._blobs(uri):
                other = planned.setdefault(blob.name, blob)
                if other is not blob:
                    raise uri.refuse(
                        f"gives a blob named {shown(blob.name)}, and so does {shown(other.uri)}; "
                        "expected names that differ"
                    )
        return list(planned.values())

    async def _blobs(self, uri: Uri) -> list[PlannedBlob]:
        if uri.scheme == "mem":
            return [await self._stored_blob(uri)]
        return await anyio.to_thread.run_sync(self._local_blobs, uri)

    def _local_blobs(self, uri: Uri) -> list[PlannedBlob]:
        match uri.scheme:
            case "file":
                return [file_blob(self._roots, uri)]
            case "folder":
                return folder_blobs(self._roots, uri)
            case "hdf5":
                return hdf5_blobs(self._roots, uri)
            case "string":
                return [_string_blob(uri)]
        raise uri.refuse("has a scheme that is allowed by the settings and not known here")

    async def _stored_blob(self, uri: Uri) -> PlannedBlob:
        tag, _, name = uri.rest.partition("/")
        if not tag or not name:
            raise uri.refuse("does not name a blob; expected mem::tag/blob")
        info = await self._store.stat(tag, name)
        if info is None:
            raise uri.refuse(
                f"names a blob that is not there; expected a blob {shown(name)} of tag {shown(tag)}"
            )
        original = await self._store.stat(original_tag(tag), name) if info.meta.original else None
        return PlannedBlob(
            name,
            info.meta.model_copy(
                update={"source": uri.text, "original": original.sha256 if original else ""}
            ),
            StoredSource(info),
            PlannedBlob(name, original.meta, StoredSource(original)) if original else None,
        )


def _string_blob(uri: Uri) -> PlannedBlob:
    data = uri.rest.encode()
    name = uri.name or f"{hashlib.sha256(data).hexdigest()[:16]}.txt"
    meta = BlobMeta(content_type=content_type_of(name, TEXT), source=f"string:{name}::")
    return PlannedBlob(name, meta, BytesSource(data))
