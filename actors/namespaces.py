"""Storage namespaces: each attempt at a task works under tags of its own, and sees no others.

A namespace is the prefix of the attempt's tags in the store. The agent never sees it: `to_store` puts it
before every tag of a request, and `from_store` takes it off every tag of a result. Files are named from the
library, so that a task reads the same wherever the library lies.

Invariant: no request that went through `to_store` reads or changes a blob of another namespace.
"""

import glob
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..configs.data import DataRewards
from ..configs.errors import AgentFactoryError
from ..messages.base import Request
from ..messages.data import (
    ActionData,
    ActionError,
    Assimilate,
    BlobInfo,
    Destroy,
    Destroyed,
    IngestReport,
    ListBlobs,
    ListResult,
    Prune,
    Pruned,
    Query,
    QueryResult,
    Retrieve,
    Retrieved,
    StepResult,
)
from ..runtime.ref import Ref, ask_with_retry

ROOT: Final = "episode."
"""Prefix of every namespace."""
STALE_S: Final = 24 * 3600.0
"""A space that nothing was put into for so long belongs to a run that is no more."""
DEFAULT_TAG: Final = "default"
LIST_TIMEOUT_S: Final = 60.0


class NamespaceNotListed(AgentFactoryError):
    """The Retriever refused to list a space: our own pattern was wrong."""


class DataAccess(NamedTuple):
    """Actors that carry actions out on the data plane, with rewards and library."""

    ingestor: Ref
    retriever: Ref
    rewards: DataRewards
    library: str
    """The folder that `file::` and `folder::` begin at."""


@dataclass(frozen=True)
class Namespace:
    """One attempt's part of the store."""

    prefix: str
    library: str

    def to_store(self, request: Request[StepResult]) -> Request[StepResult]:
        """The request with tags and paths as the store and the disk have them."""
        prefix = self.prefix
        match request:
            case Assimilate(src=sources, dst=tag):
                return request.model_copy(
                    update={
                        "src": tuple(self._source(uri) for uri in sources),
                        "dst": prefix + (tag or DEFAULT_TAG),
                    }
                )
            case Query(tag_pattern=pattern) | ListBlobs(tag_pattern=pattern):
                return request.model_copy(update={"tag_pattern": glob.escape(prefix) + pattern})
            case Retrieve(tag=tag) | Prune(tag=tag):
                return request.model_copy(update={"tag": prefix + tag})
            case Destroy(tags=tags):
                return request.model_copy(update={"tags": tuple(prefix + tag for tag in tags)})
        raise TypeError(f"{type(request).__name__} is no action of the data plane")

    def from_store(self, result: StepResult) -> StepResult:
        """The result with tags and paths as the agent knows them."""
        seen = result.observation
        data = self._data(seen.data) if seen.data else None
        observation = seen.model_copy(update={"text": self._text(seen.text), "data": data})
        return result.model_copy(update={"observation": observation})

    def _source(self, uri: str) -> str:
        scheme, separator, rest = uri.partition("::")
        if scheme in ("file", "folder") and rest:
            return f"{scheme}::{self.library}/{rest}"
        return f"mem::{self.prefix}{rest}" if scheme == "mem" and separator else uri

    def _data(self, data: ActionData) -> ActionData:
        match data:
            case IngestReport(tag=tag) | Retrieved(tag=tag) | Pruned(tag=tag):
                return data.model_copy(update={"tag": self._tag(tag)})
            case QueryResult(matches=found):
                return QueryResult(
                    matches=tuple(m.model_copy(update={"tag": self._tag(m.tag)}) for m in found)
                )
            case ListResult(blobs=blobs):
                mine = tuple(blob.model_copy(update={"tag": self._tag(blob.tag)}) for blob in blobs)
                return data.model_copy(update={"blobs": mine})
            case Destroyed(tags=tags):
                return data.model_copy(update={"tags": tuple(self._tag(tag) for tag in tags)})
            case ActionError(reason=reason):
                return data.model_copy(update={"reason": self._text(reason)})

    def _tag(self, tag: str) -> str:
        return tag.removeprefix(self.prefix)

    def _text(self, text: str) -> str:
        if self.prefix:
            text = text.replace(self.prefix, "")
        return text.replace(f"{self.library}/", "").replace(self.library, "the library")


def new_namespace(run_id: str, episode_id: str) -> str:
    """A space that nobody has had before, not even an earlier attempt at the same episode."""
    return f"{run_prefix(run_id)}{episode_id}.{uuid.uuid4().hex[:8]}/"


def run_prefix(run_id: str) -> str:
    """Prefix of all namespaces of a run."""
    return f"{ROOT}{run_id}."


async def list_blobs_under(retriever: Ref, prefix: str) -> list[BlobInfo]:
    """All blobs of the store whose tag begins so. Raises what the data plane fails with."""
    found: list[BlobInfo] = []
    after = ""
    while True:
        request = ListBlobs(tag_pattern=glob.escape(prefix) + "*", after=after)
        result = await ask_with_retry(retriever, request, timeout_s=LIST_TIMEOUT_S)
        page = result.observation.data
        if not isinstance(page, ListResult):
            raise NamespaceNotListed(result.observation.text)
        found += page.blobs
        after = page.next
        if not after:
            return found


async def clear(data: DataAccess, spaces: Iterable[str]) -> None:
    """Destroy all that these spaces hold. Raises what the data plane fails with."""
    tags: set[str] = set()
    for space in filter(None, spaces):
        tags.update(blob.tag for blob in await list_blobs_under(data.retriever, space))
    await _destroy(data, tags)


async def sweep(data: DataAccess, run_id: str, stale_s: float = STALE_S) -> None:
    """Destroy what attempts left behind: all of this run's, and of other runs what is older than `stale_s`.

    Raises what the data plane fails with.
    """
    newest: dict[str, float] = defaultdict(float)
    for blob in await list_blobs_under(data.retriever, ROOT):
        newest[blob.tag] = max(newest[blob.tag], blob.stored_at)
    oldest = time.time() - stale_s
    await _destroy(
        data, {tag for tag, at in newest.items() if tag.startswith(run_prefix(run_id)) or at < oldest}
    )


async def _destroy(data: DataAccess, tags: set[str]) -> None:
    """Destroy tags; one that is gone already is no error."""
    if tags:
        request = Destroy(tags=tuple(sorted(tags)))
        await ask_with_retry(data.ingestor, request, timeout_s=LIST_TIMEOUT_S)
