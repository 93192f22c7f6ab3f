"""`python -m benchmarks.data_plane`: all figures of the data plane.

Each part can be run by itself: `python -m benchmarks.data_plane.wire`, `.cache`, `.search`.
"""

import asyncio
import tempfile
from pathlib import Path

from agentfactory.bridge.server.settings import ServerSettings
from agentfactory.bridge.store.embedded import open_embedded
from agentfactory.configs.data import StoreSettings
from benchmarks.data_plane import cache, folders, wire
from benchmarks.figures import Figures

SERVER = "benchmarks.data_plane.store_server"


def main() -> int:
    """Run all; 1 if any target is missed."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        served = StoreSettings(kind="embedded", folder=str(Path(folder) / "served"), max_gb=4.0)
        settings = ServerSettings(endpoint="tcp://127.0.0.1:*", store=served)
        alone = open_embedded(Path(folder) / "alone", 4.0)
        try:
            for ratio in asyncio.run(wire.ratios([SERVER], settings, alone)):
                figures.add(ratio.name, ratio.value, "x", ">=", ratio.target)
        finally:
            alone.close()
    asyncio.run(cache.main(figures))
    asyncio.run(folders.main(figures))
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
