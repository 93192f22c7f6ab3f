"""Errors of the data plane."""

from typing import ClassVar

from ..configs.errors import AgentFactoryError, BadInput, CannotWrite


class StoreError(AgentFactoryError):
    """The store cannot do what was asked, for a reason of its own."""


class StoreFull(StoreError, CannotWrite):
    """The store takes no more bytes. What was acknowledged before is safe."""

    exit_code: ClassVar[int] = 2


class BlobDamaged(StoreError):
    """Bytes came back that are not the ones that were put (their SHA-256 differs)."""


class WrongStore(StoreError, BadInput):
    """The store that was asked for is not installed, or is not the one that the folder was made as."""

    exit_code: ClassVar[int] = 2


class NoSuchBlob(StoreError):
    """There is no blob of this name under this tag."""

    exit_code: ClassVar[int] = 2


class IndexFull(StoreError):
    """A tag has more text than its search index may hold."""

    exit_code: ClassVar[int] = 2


class BadName(BadInput):
    """A tag or a name that the data plane does not take."""


class BridgeError(AgentFactoryError):
    """The bridge answered with an error."""


class BridgeDown(BridgeError):
    """No bridge answers at any of the endpoints within the time."""


class URIResolveError(BadInput):
    """A URI that names nothing that can be read."""
