"""The data plane's messages: blobs (named bytes under a tag), the six actions on them, and their results."""

import base64
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_serializer,
    field_validator,
)

from .base import Message, Request


class BlobMeta(Message):
    """What whoever stores a blob says of it."""

    content_type: str = "application/octet-stream"
    source: str = ""
    """The URI that it came from; empty if it was handed over as bytes."""
    dtype: str = ""
    """Of an array, as NumPy spells it; empty for anything else."""
    shape: tuple[int, ...] = ()
    original: str = ""
    """SHA-256 of the file that this was made from (`original_tag`); empty where these are its bytes."""


class BlobUpload(NamedTuple):
    """A small blob to be put with others."""

    name: str
    data: bytes
    meta: BlobMeta


class BlobInfo(Message):
    """What the store knows of a blob."""

    tag: str
    name: str
    size: int = Field(ge=0)
    """Bytes."""
    sha256: str
    """Hexadecimal digest of the bytes."""
    version: str
    """Names these bytes under this name: another put, even of the same bytes, has another one."""
    stored_at: float
    """Seconds since the epoch."""
    meta: BlobMeta = BlobMeta()


class BlobMatch(Message):
    """A blob of text that a store's own search found."""

    info: BlobInfo
    score: float
    """BM25 of its best chunk; more is better."""


class BlobPage(Message):
    """A part of a listing, ordered by tag and name."""

    blobs: tuple[BlobInfo, ...]
    next: str = ""
    """Give it as `after` to get what follows; empty at the end."""


def _from_base64(value: object) -> object:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


Content = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(lambda value: base64.b64encode(value).decode(), return_type=str, when_used="json"),
]
"""Bytes; base64 in JSON."""
Param = str | int | float | bool | tuple[str, ...] | None
Format = Literal["arrow", "binary", "text", "csv", "json", "markdown", "parquet"]
"""What is made of a blob's bytes; all but `arrow` keep them (see `bridge.ingest.conversion`)."""


class Action(Message):
    """What an agent wants done, as it said so: a name and parameters that nobody has checked yet."""

    name: str
    params: Annotated[tuple[tuple[str, Param], ...], WithJsonSchema({"type": "object"})] = ()
    """In order, by name. An object in JSON; a mapping is taken too."""

    @classmethod
    def of(cls, name: str, **params: Param) -> Self:
        """The action with these parameters."""
        return cls(name=name, params=tuple(params.items()))

    @field_validator("params", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        return tuple(value.items()) if isinstance(value, Mapping) else value

    @field_serializer("params", when_used="json")
    def _object(self, value: tuple[tuple[str, Param], ...]) -> dict[str, Param]:
        return dict(value)


class FailedBlob(Message):
    """A blob that was not stored."""

    name: str
    reason: str


class IngestReport(Message):
    """What became of the blobs that were to be stored."""

    kind: Literal["ingested"] = "ingested"
    tag: str
    stored: tuple[str, ...] = ()
    """Names of those that were sent and are there for good."""
    unchanged: tuple[str, ...] = ()
    """Names of those that were there already, byte for byte."""
    failed: tuple[FailedBlob, ...] = ()
    """The others. Doing it again completes it."""
    stored_bytes: int = Field(default=0, ge=0)

    @property
    def complete(self) -> bool:
        """Whether all is there."""
        return not self.failed


class CachedBlob(Message):
    """A blob that the cache holds."""

    tag: str
    blob_name: str
    size: int = Field(ge=0)
    """Bytes."""


class QueryResult(Message):
    """What the cache holds that fits the patterns."""

    kind: Literal["matches"] = "matches"
    matches: tuple[CachedBlob, ...]


class Retrieved(Message):
    """One blob."""

    kind: Literal["retrieved"] = "retrieved"
    tag: str
    blob_name: str
    size: int = Field(ge=0)
    """Bytes."""
    hit: bool
    """Whether the cache had it."""
    content: Content | None
    """None if it is larger than an answer may be: the bridge's client streams it."""


class Pruned(Message):
    """What the cache was told to forget; the store has it still."""

    kind: Literal["pruned"] = "pruned"
    tag: str
    blob_names: tuple[str, ...]


class Destroyed(Message):
    """What is gone for good, from the store and from the cache."""

    kind: Literal["destroyed"] = "destroyed"
    tags: tuple[str, ...]
    blobs: int = Field(ge=0)


class ListResult(Message):
    """What the store holds that fits the patterns, ordered by tag and name."""

    kind: Literal["listing"] = "listing"
    blobs: tuple[BlobInfo, ...]
    next: str = ""
    """Give it as `after` to get what follows; empty at the end."""


class ActionError(Message):
    """Why an action was not carried out."""

    kind: Literal["refused"] = "refused"
    error: str
    """Type of the error."""
    reason: str


ActionData = Annotated[
    IngestReport | QueryResult | Retrieved | Pruned | Destroyed | ListResult | ActionError,
    Field(discriminator="kind"),
]


class Observation(Message):
    """What there is to see after an action, in words and as data."""

    text: str
    data: ActionData | None = None


class StepResult(Message):
    """What an action led to."""

    observation: Observation
    reward: float
    done: bool = False

    @classmethod
    def refused(cls, error: str, reason: str, reward: float) -> Self:
        """An action that could not be carried out, for a reason that whoever asked can mend."""
        data = ActionError(error=error, reason=reason)
        return cls(observation=Observation(text=f"{error}: {reason}", data=data), reward=reward)


class Assimilate(Request[StepResult]):
    """Store what the URIs name, in the store and in the cache."""

    src: tuple[str, ...] = Field(min_length=1)
    """URIs."""
    dst: str = ""
    """The tag; empty for the Ingestor's own."""
    format: Format = "arrow"

    @field_validator("src", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class Query(Request[StepResult]):
    """What does the cache hold? The store is not asked."""

    tag_pattern: str
    """Glob."""
    blob_pattern: str = "*"


class Retrieve(Request[StepResult]):
    """Give me a blob: from the cache, else from the store, and then the cache has it again."""

    tag: str
    blob_name: str
    force: bool = False
    """Go past the cache."""


class Prune(Request[StepResult]):
    """Let the cache forget blobs. The store keeps them."""

    tag: str
    blob_names: tuple[str, ...] = Field(min_length=1)

    @field_validator("blob_names", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class Destroy(Request[StepResult]):
    """Remove tags and all their blobs, from the store and from the cache, for good."""

    tags: tuple[str, ...] = Field(min_length=1)

    @field_validator("tags", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class ListBlobs(Request[StepResult]):
    """What does the store hold?"""

    tag_pattern: str = "*"
    """Glob."""
    blob_pattern: str = "*"
    after: str = ""
    """`next` of the listing that this one goes on from."""
    limit: int = Field(default=1000, ge=1, le=10_000)


class TaskSpec(Message):
    """What an agent is to do with the data plane."""

    instruction: str
    max_steps: int | None = Field(default=None, ge=1)
    """The step after which it is over; None for no limit."""


class ActionStep(Message):
    """One step of an agent."""

    action: Action
    result: StepResult


class ActionTrajectory(Message):
    """What an agent did, from the last reset on."""

    steps: tuple[ActionStep, ...] = ()
    total_reward: float = 0.0
