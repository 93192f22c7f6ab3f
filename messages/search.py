"""Passages of stored texts, and how to ask for them."""

from typing import Final

from pydantic import Field

from .base import Message, Request

MAX_PASSAGES: Final = 100
"""Of one answer."""


class PassageRef(Message):
    """Where a passage stands."""

    tag: str
    blob: str
    start: int = Field(ge=0)
    """Of the blob's text, in characters."""
    end: int = Field(ge=0)

    def __str__(self) -> str:
        return f"{self.tag}/{self.blob} ({self.start}-{self.end})"


class Passage(PassageRef):
    """A piece of a stored text."""

    text: str
    heading: str = ""
    """The headings that it stands under, from the outermost, as `Setup > Ports`."""
    score: float = 0.0
    """How well it fits: comparable within one result, and with nothing else."""

    @property
    def ref(self) -> PassageRef:
        """Where it stands, without what it says."""
        return PassageRef(tag=self.tag, blob=self.blob, start=self.start, end=self.end)


class SearchResult(Message):
    """Passages, the best first."""

    tag: str
    passages: tuple[Passage, ...]


class Search(Request[SearchResult]):
    """Which passages of the texts under a tag speak of this?"""

    tag: str
    question: str
    k: int = Field(default=5, ge=1, le=MAX_PASSAGES)
    """Passages, at most."""


class SamplePassages(Request[SearchResult]):
    """Any passages of the texts under a tag, each as likely as another."""

    tag: str
    count: int = Field(default=1, ge=1, le=1024)
    """Passages, fewer if the tag has fewer."""
    seed: int | None = None
    """Fixes the draw, for one state of the tag."""


class IndexReport(Message):
    """What bringing a tag's index up to date has changed, and what it covers now."""

    tag: str
    embedder: str
    blobs: int = Field(ge=0)
    """Texts that it covers."""
    passages: int = Field(ge=0)
    embedded: int = Field(default=0, ge=0)
    """Texts that were new or had changed."""
    removed: int = Field(default=0, ge=0)
    """Texts that are no more."""
    not_text: int = Field(default=0, ge=0)
    """Blobs left out: by their content type they are no text."""
    too_large: int = Field(default=0, ge=0)
    """Texts left out: they are over the limit."""
    rebuilt: bool = False
    """Whether an index was there that could not be used."""


class UpdateIndex(Request[IndexReport]):
    """Bring a tag's index up to date now; a search does it by itself."""

    tag: str
