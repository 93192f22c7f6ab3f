"""CURVE security: client authentication, and proof to clients that it is the right server.

Without keys the bridge listens on the loopback only: whoever reaches it may read and destroy all.
Secrets are read from a file that only its owner can read, or from the environment; they are never logged.
"""

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from ...configs.errors import BadInput
from ..frames import CURVE_ALLOW_ANY, AsyncioAuthenticator, zmq
from .settings import ServerSettings

LOOPBACK = {"127.0.0.1", "localhost", "[::1]", "::1"}


def server_secret(settings: ServerSettings) -> bytes:
    """The secret key (Z85, 40 characters); empty if none is set. Raises BadInput."""
    if settings.secret_file:
        text, where = _read_private(Path(settings.secret_file)), settings.secret_file
    else:
        text, where = os.environ.get(settings.secret_env, ""), f"the environment's {settings.secret_env}"
    secret = text.strip().encode()
    if secret and len(secret) != 40:
        raise BadInput(f"{where}: a secret CURVE key has 40 characters (Z85), this has {len(secret)}")
    return secret


def _read_private(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise BadInput(f"{path}: others can read the secret key: `chmod 600` it")
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: the secret key cannot be read ({error})") from error


def check_endpoint(endpoint: str, encrypted: bool) -> None:
    """Raises BadInput for an address that others can reach without keys."""
    parts = urlsplit(endpoint)
    if encrypted or parts.scheme in {"ipc", "inproc"}:
        return
    host = parts.netloc.rpartition(":")[0]
    if parts.scheme != "tcp" or host not in LOOPBACK:
        raise BadInput(
            f"{endpoint}: without a CURVE key the bridge listens on the loopback only; "
            "set `secret_file` (and the clients' `server_key`), or listen on 127.0.0.1"
        )


def configure_curve(
    context: "zmq.Context[zmq.Socket[bytes]]",
    socket: zmq.Socket[bytes],
    secret: bytes,
    allowed: tuple[str, ...],
) -> AsyncioAuthenticator:
    """Configure CURVE on a socket before it is bound. Raises BadInput."""
    if not zmq.has("curve"):
        raise BadInput("this build of pyzmq has no CURVE (libsodium): install one that has")
    authenticator = AsyncioAuthenticator(context)
    authenticator.start()
    if allowed:
        authenticator.configure_curve_callback(domain="*", credentials_provider=_KnownClients(allowed))
    else:
        authenticator.configure_curve(domain="*", location=CURVE_ALLOW_ANY)
    socket.curve_secretkey = secret
    socket.curve_publickey = zmq.curve_public(secret)
    socket.curve_server = True
    return authenticator


class _KnownClients:
    """The clients that may connect."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = frozenset(key.encode() for key in keys)

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether this public key (Z85) is allowed."""
        return key in self._keys
