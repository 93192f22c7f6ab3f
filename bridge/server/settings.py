"""Settings of a bridge server."""

from pydantic import Field

from ...configs.base_config import BaseConfig
from ...configs.data import BridgeSettings, StoreSettings


class ServerSettings(BaseConfig):
    """One bridge server."""

    endpoint: str = "tcp://127.0.0.1:5560"
    """Where it listens. A port `*` is chosen by the system, and named in the readiness line."""
    bridge: BridgeSettings = BridgeSettings()
    store: StoreSettings = StoreSettings()
    threads: int = Field(default=40, ge=4, le=128)
    """Store calls at a time: puts that wait for the disk together share its sync."""
    buffer_mb: int = Field(default=256, ge=16)
    """Bytes of values on their way through, of all clients together."""
    lease_s: float = Field(default=10.0, gt=0.0)
    """A stream whose client is silent for this long is aborted."""
    drain_s: float = Field(default=5.0, ge=0.0)
    """At the end: how long what is under way may take."""
    secret_file: str = ""
    """A file of mode 0600 with the server's secret CURVE key (Z85)."""
    secret_env: str = "AGENTFACTORY_BRIDGE_SERVER_SECRET"
    """Or the environment variable that holds it."""
    allowed_clients: tuple[str, ...] = ()
    """Public CURVE keys (Z85) of those who may connect. Empty: whoever knows the server's key."""
