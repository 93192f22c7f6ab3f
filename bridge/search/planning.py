"""What an update of an index has to do. Pure: decided from the manifest and the listing alone."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from ...configs.data import SearchSettings
from ...messages.blobs import BlobInfo
from .passages import cut
from .shelf import Covered, Manifest, Part, Recipe
from .table import Row

_TEXT_TYPES: Final = frozenset(
    {"javascript", "json", "sql", "toml", "x-ndjson", "x-python", "x-sh", "x-tex", "x-yaml", "xml", "yaml"}
)
"""Under `application/`."""
_MARKDOWN: Final = (".md", ".markdown", ".mdown")


class Plan(NamedTuple):
    """What there is to do."""

    texts: tuple[BlobInfo, ...]
    """New or changed: to be read and embedded."""
    removed: frozenset[str]
    """Texts that are covered and no more there."""
    not_text: tuple[Covered, ...]
    """All blobs that are no text, done with."""
    too_large: tuple[Covered, ...]

    def is_needed(self, manifest: Manifest) -> bool:
        """Whether the manifest says anything else."""
        skipped = (manifest.not_text, manifest.too_large)
        return bool(self.texts or self.removed or (self.not_text, self.too_large) != skipped)


def make_plan(manifest: Manifest, infos: Sequence[BlobInfo], max_bytes: int) -> Plan:
    """How to get from what the manifest covers to the blobs that are there."""
    texts = [info for info in infos if is_text(info)]
    fitting = {info.name: info for info in texts if info.size <= max_bytes}
    covered = {blob.name: blob.version for part in manifest.parts for blob in part.blobs}
    return Plan(
        texts=tuple(info for name, info in fitting.items() if covered.get(name) != info.version),
        removed=frozenset(covered.keys() - fitting.keys()),
        not_text=_as_covered(info for info in infos if not is_text(info)),
        too_large=_as_covered(info for info in texts if info.name not in fitting),
    )


def is_text(info: BlobInfo) -> bool:
    """Whether its content type says that it is text."""
    kind = info.meta.content_type.partition(";")[0].strip().lower()
    family, _, name = kind.partition("/")
    return family == "text" or (
        family == "application" and (name in _TEXT_TYPES or name.endswith(("+json", "+xml")))
    )


def rows_in(data: bytes, info: BlobInfo, settings: SearchSettings) -> list[Row] | None:
    """The passages of a text; None if these are not the bytes that were listed.

    Bytes that are no UTF-8 become U+FFFD. Blocks.
    """
    if hashlib.sha256(data).hexdigest() != info.sha256:
        return None
    text = data.decode("utf-8", errors="replace")
    markdown = "markdown" in info.meta.content_type or info.name.lower().endswith(_MARKDOWN)
    spans = cut(text, settings.passage_chars, settings.overlap_chars, markdown=markdown)
    return [Row(info.name, span.start, span.end, span.heading, text[span.start : span.end]) for span in spans]


def without(parts: Iterable[Part], gone: Collection[str]) -> tuple[Part, ...]:
    """The parts in which these blobs no longer count; a part in which none counts is left out."""
    left = (
        part.model_copy(update={"blobs": tuple(blob for blob in part.blobs if blob.name not in gone)})
        for part in parts
    )
    return tuple(part for part in left if part.blobs)


def difference(was: Recipe, wanted: Recipe) -> str:
    """What of two recipes is not the same, in words."""
    old, new = was.model_dump(), wanted.model_dump()
    changes = (f"{key} was {old[key]!r} and is {new[key]!r}" for key in old if old[key] != new[key])
    return ", ".join(changes)


def _as_covered(infos: Iterable[BlobInfo]) -> tuple[Covered, ...]:
    return tuple(Covered(name=info.name, version=info.version) for info in infos)
