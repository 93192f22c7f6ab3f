"""Words, and how well passages fit a question by the words they share: Okapi BM25.

Source: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the
idf that is never negative: log(1 + (N − n + 0.5)/(n + 0.5)).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .base import Hit

K1: Final = 1.2
B: Final = 0.75
_UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_COMMON: Final = """\
a an and are as at be been but by can could did do does for from had has have how i if in into is it its me
my no not of on or our should so that the their them then there these they this those to was we were what
when where which while who whom whose why will with would you your"""
_STOP: Final = frozenset(_COMMON.split())
_MAX_WORD: Final = 64

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


def words(text: str) -> list[str]:
    """The words that count: folded in case, without the commonest, plurals as singulars.

    A name such as `max_bytes` counts as itself and as its parts; in scripts that part no words each
    character counts.

    >>> words("The ports, and max_bytes!")
    ['port', 'max_bytes', 'max', 'byt']
    """
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        parts = [part for part in word.split("_") if part]
        if len(parts) > 1:
            found.append(word[:_MAX_WORD])
        found.extend(_stem(part[:_MAX_WORD]) for part in parts if part not in _STOP)
    return found


def _stem(word: str) -> str:
    """One form for singular and plural: `query` and `queries`, `cache` and `caches`."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 4 and word.endswith("e"):
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word.endswith("y") else word


class Bm25:
    """An index of passages by their words. Immutable; `replaced` makes the next one.

    Postings are three arrays ordered by word: row, count, and for each word where its own begin. Memory:
    8 bytes for each different word of each passage.

    >>> Bm25.of(["red apple", "green pear"]).rank("pears?", 5)[0].row
    1
    """

    def __init__(self, vocabulary: dict[str, int], terms: Ints, rows: Ints, counts: Ints, n: int) -> None:
        order = np.argsort(terms, kind="stable")
        self._vocabulary = vocabulary
        self._terms = terms[order]
        self._rows = rows[order]
        self._counts = counts[order]
        self._begin = np.searchsorted(self._terms, np.arange(len(vocabulary) + 1))
        self._n = n
        lengths = np.bincount(rows, weights=counts, minlength=n)
        mean = float(lengths.mean()) if n else 0.0
        self._norms = K1 * (1 - B + B * lengths / max(mean, 1e-9))

    def __len__(self) -> int:
        return self._n

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Bm25":
        """Index these texts."""
        empty = np.zeros(0, dtype=np.int32)
        return cls({}, empty, empty, empty, 0).replaced(np.zeros(0, dtype=bool), texts)

    def replaced(self, keep: NDArray[np.bool_], texts: Iterable[str]) -> "Bm25":
        """An index of the rows that `keep` marks, in their order, followed by `texts`."""
        renumbered = np.cumsum(keep, dtype=np.int32) - 1
        kept = keep[self._rows]
        used, terms = np.unique(self._terms[kept], return_inverse=True)
        names = list(self._vocabulary)
        vocabulary = {names[term]: number for number, term in enumerate(used)}
        n = int(keep.sum())
        new: list[tuple[int, int, int]] = []
        for text in texts:
            for word, count in Counter(words(text)).items():
                new.append((vocabulary.setdefault(word, len(vocabulary)), n, count))
            n += 1
        added = np.array(new, dtype=np.int32).reshape(-1, 3)
        return Bm25(
            vocabulary,
            np.concatenate([terms.astype(np.int32), added[:, 0]]),
            np.concatenate([renumbered[self._rows[kept]], added[:, 1]]),
            np.concatenate([self._counts[kept], added[:, 2]]),
            n,
        )

    def rank(self, question: str, k: int, factors: Floats | None = None) -> Sequence[Hit]:
        """The best first, at most k, only such as share a word; `factors` `[rows]` weigh the rows' scores.

        The share of a hit is the idf of the question's words that it has, over that of all of them: small
        for a passage that shares only a word or two, among many that nobody here has used.
        """
        scores = np.zeros(self._n)
        held = np.zeros(self._n)
        total = 0.0
        for word, weight in Counter(words(question)).items():
            rows, counts = self._postings(word)
            idf = float(np.log1p((self._n - len(rows) + 0.5) / (len(rows) + 0.5)))
            total += idf
            held[rows] += idf
            scores[rows] += weight * idf * counts * (K1 + 1) / (counts + self._norms[rows])
        if factors is not None:
            scores *= factors
        best = np.argsort(-scores, kind="stable")[:k]
        return [
            Hit(int(row), float(scores[row]), float(held[row]) / total) for row in best if scores[row] > 0.0
        ]

    def _postings(self, word: str) -> tuple[Ints, Ints]:
        """The rows that have a word, and how often each."""
        term = self._vocabulary.get(word)
        begin, end = (0, 0) if term is None else self._begin[term : term + 2]
        return self._rows[begin:end], self._counts[begin:end]
