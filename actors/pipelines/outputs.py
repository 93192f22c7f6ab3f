"""Outputs of a step's result that later steps may refer to: `${step.key}`."""

from collections.abc import Mapping
from typing import Final

from ...messages.data import (
    ActionData,
    ActionError,
    Destroyed,
    IngestReport,
    ListResult,
    Param,
    Pruned,
    QueryResult,
    Retrieved,
    StepResult,
)

_ALWAYS: Final = ("text", "reward")
_FOUND: Final = ("tag", "blob_name", "tags", "blob_names", "matches", "count")
OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "assimilate": (*_ALWAYS, "tag", "blob_name", "files", "stored", "unchanged", "stored_bytes"),
    "query": (*_ALWAYS, *_FOUND),
    "list_blobs": (*_ALWAYS, *_FOUND, "next"),
    "retrieve": (*_ALWAYS, "tag", "blob_name", "size", "hit", "content"),
    "prune": (*_ALWAYS, "tag", "blob_names"),
    "destroy": (*_ALWAYS, "tags", "blobs"),
}
"""The names of each action's outputs.

`text` is the observation in words. `tag` and `blob_name` are those of the first blob, None where there is
none. `files` are the names of all that were to be stored; `matches` are written `tag/name`; `content` is
text, None for bytes that are none.
"""


def outputs_of(result: StepResult) -> dict[str, Param]:
    """All outputs of a result, by the names in `OUTPUTS`."""
    common: dict[str, Param] = {"text": result.observation.text, "reward": result.reward}
    return common | _of_data(result.observation.data)


def failure_in(result: StepResult) -> str:
    """Failure that a result stands for; empty if it is a success."""
    seen = result.observation
    refused = isinstance(seen.data, ActionError)
    partial = isinstance(seen.data, IngestReport) and not seen.data.complete
    return seen.text if refused or partial else ""


def _of_data(data: ActionData | None) -> dict[str, Param]:
    match data:
        case IngestReport():
            files = (*data.stored, *data.unchanged)
            return {
                "tag": data.tag,
                "blob_name": files[0] if files else None,
                "files": files,
                "stored": data.stored,
                "unchanged": data.unchanged,
                "stored_bytes": data.stored_bytes,
            }
        case QueryResult(matches=found):
            return _of_found([(blob.tag, blob.blob_name) for blob in found])
        case ListResult(blobs=blobs):
            return _of_found([(blob.tag, blob.name) for blob in blobs]) | {"next": data.next}
        case Retrieved():
            shown = data.model_dump(include={"tag", "blob_name", "size", "hit"})
            return shown | {"content": _as_text(data.content)}
        case Pruned():
            return {"tag": data.tag, "blob_names": data.blob_names}
        case Destroyed():
            return {"tags": data.tags, "blobs": data.blobs}
        case _:
            return {}


def _of_found(found: list[tuple[str, str]]) -> dict[str, Param]:
    tag, name = found[0] if found else (None, None)
    return {
        "tag": tag,
        "blob_name": name,
        "tags": tuple(dict.fromkeys(tag for tag, _ in found)),
        "blob_names": tuple(name for _, name in found),
        "matches": tuple(f"{tag}/{name}" for tag, name in found),
        "count": len(found),
    }


def _as_text(content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return None
