"""`python -m tests.bridge.memory_server SETTINGS_JSON`: the real server process over a store in memory."""

import sys

from agentfactory.bridge.server.process import run
from agentfactory.bridge.server.settings import ServerSettings
from tests.bridge.memory_store import MemoryStore

if __name__ == "__main__":
    run(ServerSettings.model_validate_json(sys.argv[1]), MemoryStore())
