"""Which cluster this process is told to join. Imports nothing of Ray."""

import os


def cluster_address() -> str | None:
    """`RAY_ADDRESS`, which a Ray job has, too; None where Ray is to be started on this machine."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in {"", "local"} else address
