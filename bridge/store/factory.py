"""Factory of stores: choose the kind that a folder has or gets, and open it."""

import logging
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ...configs.data import StoreSettings
from ..errors import StoreError, WrongStore
from .catalog_store import CatalogStore
from .embedded import open_embedded
from .iowarp.runtime import installed
from .iowarp.store import open_iowarp

_LOG = logging.getLogger(__name__)
_MARK: Final = "kind"
_ID: Final = "id"
_GET_IOWARP: Final = "`pip install 'agentfactory[iowarp]'`"


class StoreChoice(NamedTuple):
    """A kind of store, and why this one."""

    kind: str
    """`iowarp` or `embedded`."""
    why: str


def choose_store(settings: StoreSettings) -> StoreChoice:
    """Choose the store that the folder has, or is to have. Opens nothing. Raises WrongStore.

    A folder stays of the kind that it was made as: `auto` follows it, another kind is refused, so
    blobs never seem to be gone because IOWarp was installed or removed meanwhile.
    """
    folder = Path(settings.folder)
    made_as = _made_as(folder)
    if made_as and settings.kind not in ("auto", made_as):
        raise WrongStore(f"{folder}: was made as store.kind {made_as}; set that, or take another folder")
    if "iowarp" in (made_as, settings.kind) and installed() is None:
        if made_as:
            raise WrongStore(
                f"{folder}: was made as store.kind iowarp, which is not installed: {_GET_IOWARP}"
            )
        raise WrongStore(
            f"the store iowarp needs the package iowarp-core: {_GET_IOWARP}, or choose --store embedded"
        )
    if made_as and settings.kind == "auto":
        return StoreChoice(made_as, f"the folder was made as {made_as}")
    if settings.kind != "auto":
        return StoreChoice(settings.kind, "asked for")
    return StoreChoice("embedded", "nobody asked for iowarp")


def open_store(settings: StoreSettings) -> CatalogStore:
    """Open the store that the folder has or is to have. Raises WrongStore, StoreError.

    An IOWarp that does not start is an error, not a reason to take the embedded store instead: the
    folder would stay with that for good.
    """
    kind, why = choose_store(settings)
    folder = Path(settings.folder)
    made_as = _made_as(folder)
    if kind == "embedded":
        store: CatalogStore = open_embedded(folder, settings.max_gb)
    else:
        try:
            store = open_iowarp(folder, settings.max_gb, settings.outage_s)
        except StoreError as error:
            if made_as:
                raise
            raise StoreError(f"{error}\nMend that, or choose another store: `--store embedded`") from error
    store.id = store_id(folder)
    if not made_as:
        (folder / _MARK).write_text(f"{kind}\n", encoding="ascii")
    _LOG.info("store %s in %s: %s", kind, folder, why)
    return store


def store_id(folder: Path) -> str:
    """Unique id of the folder's store: made once, and kept there. Raises StoreError."""
    path, draft = folder / _ID, folder / f".{_ID}-{os.getpid()}"
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(f"{uuid.uuid4().hex}\n", encoding="ascii")
            with suppress(FileExistsError):  # whoever was first
                os.link(draft, path)
            draft.unlink()
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise StoreError(f"{folder}: cannot be used for a store ({error.strerror})") from error


def _made_as(folder: Path) -> str:
    mark = folder / _MARK
    return mark.read_text(encoding="ascii").strip() if mark.exists() else ""
