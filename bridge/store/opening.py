"""Opening the store that the settings name."""

import logging
from pathlib import Path
from typing import Final, NamedTuple

from bridge.errors import StoreError
from bridge.store.blobs import CatalogStore
from bridge.store.embedded import open_embedded
from bridge.store.iowarp.runtime import installed
from bridge.store.iowarp.store import open_iowarp
from configs.data import StoreSettings

_LOG = logging.getLogger(__name__)
_MARK: Final = "kind"


class Opened(NamedTuple):
    """A store, and why it is this one."""

    store: CatalogStore
    reason: str


def open_store(settings: StoreSettings) -> CatalogStore:
    """Open the store that the settings name. Raises StoreError."""
    return choose_store(settings).store


def choose_store(settings: StoreSettings) -> Opened:
    """Open the store that the settings name, and say why it is this one.

    A folder stays of the kind that it was made as: `auto` follows it, another kind is refused, so
    blobs never seem to be gone because IOWarp was installed or removed meanwhile. Raises StoreError.
    """
    folder = Path(settings.folder)
    mark = folder / _MARK
    made_as = mark.read_text(encoding="ascii").strip() if mark.exists() else ""
    if made_as and settings.kind not in ("auto", made_as):
        raise StoreError(f"{folder}: was made as store.kind {made_as}; set that, or take another folder")
    opened = _open(folder, made_as or settings.kind, settings.max_gb)
    if made_as and settings.kind == "auto":
        opened = opened._replace(reason=f"the folder was made as {made_as}")
    if not made_as:
        mark.write_text(f"{opened.store.kind}\n", encoding="ascii")
    _LOG.info("store %s in %s: %s", opened.store.kind, folder, opened.reason)
    return opened


def _open(folder: Path, kind: str, max_gb: float) -> Opened:
    if kind == "embedded":
        return Opened(open_embedded(folder, max_gb), "store.kind is embedded")
    if kind == "iowarp":
        return Opened(open_iowarp(folder, max_gb), "store.kind is iowarp")
    if installed() is None:
        return Opened(open_embedded(folder, max_gb), "IOWarp is not installed for this Python")
    try:
        return Opened(open_iowarp(folder, max_gb), "IOWarp is installed and started")
    except StoreError as error:
        _LOG.warning("IOWarp is installed but cannot be used, the embedded store takes its place: %s", error)
        return Opened(open_embedded(folder, max_gb), f"IOWarp is installed but: {error}")
