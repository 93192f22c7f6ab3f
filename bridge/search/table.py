"""The passages of one tag in memory: rows, their vectors in FAISS, their words in BM25.

Immutable: an update makes another table, and who searches goes on in the one it has. Memory: for each
passage its text, 4 bytes a dimension (1.5 KB for all-MiniLM-L6-v2), and 12 bytes a different word;
twice the vectors while the next table is made.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from .base import Hit
from .embedding import Vectors
from .lexical import Bm25, Floats

if TYPE_CHECKING:
    import faiss

RRF: Final = 60
MIN_DEPTH: Final = 50
BLOB_WEIGHT: Final = 0.5
"""How much a passage's score by words grows, at most, with the score of its whole blob."""
_NAME_PARTS: Final = re.compile(r"[/_.\-]+")


class PassageRow(NamedTuple):
    """One passage."""

    blob: str
    start: int
    end: int
    heading: str
    text: str

    @property
    def indexed(self) -> str:
        """Text that is embedded and indexed: the passage, its blob's name, its headings."""
        return f"{_NAME_PARTS.sub(' ', self.blob)}: {self.heading}\n{self.text}"


class PassageTable:
    """Passages that can be searched. All of it blocks."""

    def __init__(self, rows: tuple[PassageRow, ...], index: "faiss.IndexFlatIP", words: Bm25) -> None:
        self.rows = rows
        self._index = index
        self._words = words

    @classmethod
    def empty(cls, dimensions: int) -> "PassageTable":
        """No passages yet."""
        import faiss

        return cls((), faiss.IndexFlatIP(dimensions), Bm25.of(()))

    def replaced(self, gone: Collection[str], rows: Sequence[PassageRow], vectors: Vectors) -> "PassageTable":
        """Without the passages of the blobs that are gone, and with these, whose vectors are given."""
        import faiss

        keep = np.array([row.blob not in gone for row in self.rows], dtype=bool)
        index = faiss.IndexFlatIP(self._index.d)
        if keep.any():
            old = self._index.reconstruct_n(0, len(self.rows))
            index.add(old if keep.all() else old[keep])
        if rows:
            index.add(vectors)
        kept = tuple(row for row, stays in zip(self.rows, keep, strict=True) if stays)
        words = self._words.replaced(keep, (row.indexed for row in rows))
        return PassageTable((*kept, *rows), index, words)

    def vectors_of(self, blobs: Collection[str]) -> tuple[list[PassageRow], Vectors]:
        """The passages of these blobs with their vectors."""
        numbers = [number for number, row in enumerate(self.rows) if row.blob in blobs]
        vectors = np.zeros((len(numbers), self._index.d), dtype=np.float32)
        for target, number in zip(vectors, numbers, strict=True):
            self._index.reconstruct(number, target)
        return [self.rows[number] for number in numbers], vectors

    def dense(self, vector: Vectors, k: int) -> list[Hit]:
        """The passages whose vectors are nearest to `vector` `[1, dimensions]`, at most k."""
        scores, rows = self._index.search(vector, min(k, len(self.rows)))
        return [Hit(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True)]

    def lexical(self, question: str, k: int) -> Sequence[Hit]:
        """The passages that share words with the question, at most k."""
        return self._words.rank(question, k)

    def search(
        self, question: str, vector: Vectors, k: int, blobs: Mapping[str, float] | None = None
    ) -> list[Hit]:
        """Both rankings, fused. `blobs`: how well whole blobs fit, where that is known."""
        if not self.rows:
            return []
        depth = max(MIN_DEPTH, 2 * k)
        lexical = self._words.rank(question, depth, self._factors(blobs) if blobs else None)
        return fuse_rankings((self.dense(vector, depth), lexical))[:k]

    def _factors(self, blobs: Mapping[str, float]) -> Floats:
        """`[rows]`: 1 + weight · (blob's score / the best blob's); 1 for a blob without a score.

        A weight and no filter: a store's search may know less than a passage shows (other words' forms,
        other scripts, other types of text).
        """
        best = max(blobs.values())
        scores = np.array([blobs.get(row.blob, 0.0) for row in self.rows])
        return 1.0 + BLOB_WEIGHT * scores / best


def fuse_rankings(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Reciprocal rank fusion: Σ share/(60 + rank) over the rankings that hold a row.

    Source: Cormack, Clarke & Büttcher, SIGIR 2009, where all shares are 1. Here a passage that shares few of
    the question's words does not push those down that are near to it in meaning.

    >>> [hit.row for hit in fused(([Hit(1, 9.0), Hit(2, 8.0)], [Hit(2, 0.5)]))]
    [2, 1]
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.row] = scores.get(hit.row, 0.0) + hit.share / (RRF + rank)
    return [Hit(row, score) for row, score in sorted(scores.items(), key=lambda item: (-item[1], item[0]))]
