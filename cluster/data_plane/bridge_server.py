"""The bridge server of a data plane as a process.

`python -m agentfactory.cluster.data_plane.bridge_server FOLDER`

It owns the store, hosts the embedded cache where there is no memcached, and reads URIs for plain
clients through both tiers, so that what they bring in is never behind what the cache says.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from pydantic import TypeAdapter, ValidationError

from ...bridge.cache.embedded import EmbeddedCache
from ...bridge.client.tiered_store import WriteThroughStore, delete_tags
from ...bridge.ingest.ingest import Ingest
from ...bridge.ingest.resolver import UriResolver
from ...bridge.server.json_api import BundleResult
from ...bridge.server.server import run
from ...bridge.server.settings import ServerSettings
from ...bridge.store.factory import open_store
from ...configs.data import DataSettings
from ...configs.errors import AgentFactoryError, BadInput, boundary
from ...messages.data import Format
from .process_supervisor import PLAN, ServicePlan
from .tiers import open_tiers

_FORMATS: Final = TypeAdapter[Format](Format)


class TieredDataPlane:
    """Both tiers for clients of the JSON API: what they put and destroy goes through the cache too."""

    def __init__(self, settings: DataSettings) -> None:
        self._settings = settings

    async def destroy(self, tags: Sequence[str]) -> int:
        """Remove tags for good; how many blobs there were."""
        async with open_tiers(self._settings) as tiers:
            return await delete_tags(tiers, tags)

    async def assimilate(self, sources: Sequence[str], tag: str, form: str) -> BundleResult:
        """Store what URIs name. Raises BadInput, and whatever kept a blob from being stored."""
        uris = self._settings.uris
        async with open_tiers(self._settings) as tiers:
            blobs = await UriResolver(uris, tiers.store).resolve(sources)
            ingest = Ingest(WriteThroughStore(tiers), uris.concurrency, self._settings.cache.max_value_size)
            report = await ingest.put(tag, blobs, _format(form))
        if report.failed:
            first = report.failed[0]
            raise AgentFactoryError(
                f"{len(report.failed)} blobs were not stored: {first.name}: {first.reason}"
            )
        return BundleResult(tag=tag, stored=len(report.stored) + len(report.unchanged))


def _format(form: str) -> Format:
    try:
        return _FORMATS.validate_python(form.lower())
    except ValidationError:
        known = ", ".join(get_args(Format))
        raise BadInput(f"format: expected one of {known}; found {form!r}") from None


def main(folder: Path) -> int:
    """Serve until SIGTERM; returns the exit code."""
    try:
        plan = ServicePlan.model_validate_json((folder / PLAN).read_bytes())
        data, endpoint = plan.data, plan.state.endpoint
        here = data.bridge.model_copy(update={"endpoints": (endpoint,)})
        tiers = TieredDataPlane(data.model_copy(update={"bridge": here}))
        cache = EmbeddedCache(data.cache.memory_mb << 20) if data.cache.kind == "embedded" else None
        settings = ServerSettings(endpoint=endpoint, bridge=data.bridge, store=data.store)
        store = open_store(data.store)
        try:
            run(settings, store, tiers.assimilate, cache, tiers.destroy)
        finally:
            store.close()
    except Exception as error:
        end = boundary(error)
        print(end.sentence, file=sys.stderr)
        return end.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
