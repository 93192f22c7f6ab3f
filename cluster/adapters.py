"""Adapters on the data plane: put by the Trainer, fetched by every engine, through both tiers.

    adapters/<run>-<run id>                                     one tag for each run
        student/v0003/adapter_config.json                       two blobs for each version
        student/v0003/adapter_model.safetensors

They are copies: the run's folder keeps every version for good.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypeVar

import anyio

from ..bridge.client.tiered_store import TieredStore, WriteThroughStore, delete_blobs, delete_tags
from ..bridge.errors import BlobDamaged, BridgeDown, NoSuchBlob
from ..configs.data import DataSettings
from ..messages.adapters import AdapterRef, LoadAdapter
from ..messages.data import BlobMeta
from ..runtime.engines.base import AdapterRejected
from ..training.adapter_files import CONFIG_FILE, WEIGHTS_FILE, sha256_hex, version_name
from .data_plane.tiers import open_tiers

T = TypeVar("T")
PAUSE_S = 0.1
PATIENCE_S = 60.0
"""How long a bridge that was lost may take to come back; several can, one after the other."""


class StoredAdapters:
    """See `runtime.engines.base.AdapterStore`. A bridge that is away is waited for, `patience_s` long.

    Raises BridgeDown after that, and StoreError for a store that cannot do it.
    """

    def __init__(self, tiers: TieredStore, patience_s: float = PATIENCE_S) -> None:
        self._tiers = tiers
        self._through = WriteThroughStore(tiers)
        self._patience_s = patience_s

    async def put(self, adapter: LoadAdapter) -> None:
        """Put what is not there already."""
        ref = adapter.adapter
        for file, content, sha256 in (
            (CONFIG_FILE, adapter.config_json, ref.config_sha256),
            (WEIGHTS_FILE, adapter.weights, ref.sha256),
        ):
            await retry_until_reachable(partial(self._put, ref, file, content, sha256), self._patience_s)

    async def fetch(self, adapter: AdapterRef) -> LoadAdapter:
        """From the cache, else from the store. Raises AdapterRejected for other bytes than the ref means."""
        return await retry_until_reachable(partial(self._fetch, adapter), self._patience_s)

    async def remove(self, adapter: AdapterRef) -> None:
        """Remove one version from both tiers."""
        names = [blob_name(adapter, file) for file in (CONFIG_FILE, WEIGHTS_FILE)]
        await retry_until_reachable(partial(delete_blobs, self._tiers, adapter.tag, names), self._patience_s)

    async def clear(self, tag: str) -> None:
        """Remove a run's tag from both tiers."""
        await retry_until_reachable(partial(delete_tags, self._tiers, (tag,)), self._patience_s)

    async def _fetch(self, adapter: AdapterRef) -> LoadAdapter:
        return LoadAdapter(
            adapter=adapter,
            config_json=await self._get(adapter, CONFIG_FILE, adapter.config_sha256),
            weights=await self._get(adapter, WEIGHTS_FILE, adapter.sha256),
        )

    async def _put(self, adapter: AdapterRef, file: str, content: bytes, sha256: str) -> None:
        name = blob_name(adapter, file)
        known = await self._tiers.store.stat(adapter.tag, name)
        if known is None or known.sha256 != sha256:
            await self._through.put(adapter.tag, name, content, BlobMeta(source=adapter.folder))

    async def _get(self, adapter: AdapterRef, file: str, sha256: str) -> bytes:
        store, cache = self._tiers
        name = blob_name(adapter, file)
        found = ""
        try:
            for past_the_cache in (False, True):
                load = partial(store.get, adapter.tag, name)
                content, _ = await cache.read_through(adapter.tag, name, load, past_the_cache)
                assert content is not None
                found = await anyio.to_thread.run_sync(sha256_hex, content)
                if found == sha256:
                    return content
        except (NoSuchBlob, BlobDamaged) as error:
            raise AdapterRejected(f"{adapter.name} cannot be fetched: {error}") from error
        raise AdapterRejected(
            f"{adapter.name}: {name!r} under {adapter.tag!r} has the SHA-256 {found}, expected {sha256}; "
            "resume the run: it puts the adapter again from its folder"
        )


@asynccontextmanager
async def open_adapter_store(settings: DataSettings) -> AsyncIterator[StoredAdapters]:
    """The adapters of this data plane. Raises BridgeDown if it does not come up in `PATIENCE_S`."""
    async with AsyncExitStack() as stack:
        tiers = await retry_until_reachable(
            lambda: stack.enter_async_context(open_tiers(settings)), PATIENCE_S
        )
        yield StoredAdapters(tiers)


async def retry_until_reachable(work: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Do what may be done twice, again while the bridge is away. Raises BridgeDown after `patience_s`.

    Each attempt waits for the bridge itself, as long as its client does.
    """
    deadline = anyio.current_time() + patience_s
    while True:
        try:
            return await work()
        except BridgeDown:
            if anyio.current_time() >= deadline:
                raise
        await anyio.sleep(PAUSE_S)  # a client that is closed says so at once


def blob_name(adapter: AdapterRef, file: str) -> str:
    """Under which name one of a version's files lies."""
    return f"{adapter.policy}/{version_name(adapter.version)}/{file}"
