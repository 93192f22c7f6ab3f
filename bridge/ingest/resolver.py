"""Resolution of URIs to pending blobs.

Invariant: whoever has a list from here knows that each URI names something that is there, may be
read, and that no two blobs share a name. Nothing has been read of what files hold, but what HDF5 needs.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import anyio

from ...configs.data import UriSettings
from ...messages.data import BlobInfo, BlobMeta
from ..client.tiered_store import original_tag
from ..errors import URIResolveError
from .content_types import TEXT, content_type_of
from .files import Roots, file_blob, folder_blobs
from .hdf5 import hdf5_blobs
from .sources import BytesSource, PendingBlob, StoredSource
from .uri import Uri, parse_uri, printable_uri


class BlobStat(Protocol):
    """The part of the store that `mem::` URIs need."""

    async def stat(self, tag: str, name: str) -> BlobInfo | None:
        """Metadata of a blob; None if there is none."""


class UriResolver:
    """Finds what URIs name, within what the settings allow."""

    def __init__(self, settings: UriSettings, store: BlobStat) -> None:
        self._schemes = settings.schemes
        self._roots = Roots(settings.roots)
        self._store = store

    async def resolve(self, texts: Sequence[str]) -> list[PendingBlob]:
        """The blobs that the URIs name, in order. Raises URIResolveError; nothing has happened then."""
        if not texts:
            raise URIResolveError("no URI was given; expected at least one")
        planned: dict[str, PendingBlob] = {}
        for uri in [parse_uri(text, self._schemes) for text in texts]:
            for blob in await self._blobs(uri):
                other = planned.setdefault(blob.name, blob)
                if other is not blob:
                    raise uri.refuse(
                        f"gives a blob named {printable_uri(blob.name)}, "
                        f"and so does {printable_uri(other.uri)}; "
                        "expected names that differ"
                    )
        return list(planned.values())

    async def _blobs(self, uri: Uri) -> list[PendingBlob]:
        if uri.scheme == "mem":
            return [await self._stored_blob(uri)]
        return await anyio.to_thread.run_sync(self._local_blobs, uri)

    def _local_blobs(self, uri: Uri) -> list[PendingBlob]:
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

    async def _stored_blob(self, uri: Uri) -> PendingBlob:
        tag, _, name = uri.rest.partition("/")
        if not tag or not name:
            raise uri.refuse("does not name a blob; expected mem::tag/blob")
        info = await self._store.stat(tag, name)
        if info is None:
            raise uri.refuse(
                f"names a blob that is not there; "
                f"expected a blob {printable_uri(name)} of tag {printable_uri(tag)}"
            )
        original = await self._store.stat(original_tag(tag), name) if info.meta.original else None
        return PendingBlob(
            name,
            info.meta.model_copy(
                update={"source": uri.text, "original": original.sha256 if original else ""}
            ),
            StoredSource(info),
            PendingBlob(name, original.meta, StoredSource(original)) if original else None,
        )


def _string_blob(uri: Uri) -> PendingBlob:
    data = uri.rest.encode()
    name = uri.name or f"{hashlib.sha256(data).hexdigest()[:16]}.txt"
    meta = BlobMeta(content_type=content_type_of(name, TEXT), source=f"string:{name}::")
    return PendingBlob(name, meta, BytesSource(data))
