"""`python -m benchmarks.data_plane.store_server SETTINGS_JSON`: the server over a store."""

import sys

from agentfactory.bridge.server.server import run
from agentfactory.bridge.server.settings import ServerSettings
from agentfactory.bridge.store.factory import open_store

if __name__ == "__main__":
    settings = ServerSettings.model_validate_json(sys.argv[1])
    store = open_store(settings.store)
    try:
        run(settings, store)
    finally:
        store.close()
