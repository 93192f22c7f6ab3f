"""Keys of the cache: `prefix:tag:blob`, readable where they can be.

Tag and blob are percent-encoded, the colon included, so that a key has one reading only, and holds
nothing that memcached forbids. One that would be longer than 250 bytes is `prefix:#` and the SHA-256
of itself. `#`, `!` (parts) and `@` (the index) never begin an encoded name.
"""

from hashlib import sha256
from urllib.parse import quote

MAX_KEY_BYTES = 250
READABLE = "/"
"""Kept as it is, beside letters, digits and `_.-~`."""


def key_of(prefix: str, tag: str, name: str) -> bytes:
    """The key of a blob."""
    key = f"{prefix}:{_encoded(tag)}:{_encoded(name)}".encode("ascii")
    if len(key) <= MAX_KEY_BYTES:
        return key
    return f"{prefix}:#{sha256(key).hexdigest()}".encode("ascii")


def _encoded(text: str) -> str:
    return quote(text, safe=READABLE, errors="surrogatepass")
