"""Has something like this been proposed before, in any round?

Texts become unit vectors, and FAISS finds the most similar one in an archive of all accepted tasks.
The archive is kept on disk as text, so that it survives restarts and a change of embedder.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ...bridge.search.embedding import NGRAMS, Embedder, NgramEmbedder, SentenceEmbedder, Vectors
from ...configs.roles import NoveltySettings


class NoveltyArchive:
    """All accepted tasks of a run, and how similar a new one is to them.

    >>> archive = NoveltyArchive(NoveltySettings(), file=None)
    >>> archive.admit(["Compute 1+1.", "Compute 1+1."])
    [1.0, None]
    """

    def __init__(self, settings: NoveltySettings, file: Path | None) -> None:
        import faiss

        self._settings = settings
        self._file = file
        self._embedder: Embedder = (
            NgramEmbedder() if settings.embedder == NGRAMS else SentenceEmbedder(settings.embedder)
        )
        self._index = faiss.IndexFlatIP(self._embedder.dimensions)
        if file is not None and file.exists():
            self._remember(_read(file))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def admit(self, texts: Sequence[str]) -> list[float | None]:
        """The novelty of each text, 0..1; None for a near-duplicate, which is not admitted.

        Texts are judged in order, each against the archive and those admitted before it.
        """
        novelties: list[float | None] = []
        admitted: list[str] = []
        for text, vector in zip(texts, self._embedder.embed(texts), strict=True):
            similarity = self._nearest(vector)
            if similarity >= self._settings.duplicate_similarity or len(self) >= self._settings.max_archive:
                novelties.append(None)
                continue
            self._index.add(vector[None, :])
            admitted.append(text)
            novelties.append(min(1.0, max(0.0, 1.0 - similarity)))
        self._append(admitted)
        return novelties

    def cluster_sizes(self, texts: Sequence[str]) -> list[int]:
        """How many of `texts` (itself included) are similar to each, by `cluster_similarity`."""
        if not texts:
            return []
        vectors = self._embedder.embed(texts)
        similar = vectors @ vectors.T >= self._settings.cluster_similarity
        return [int(count) for count in similar.sum(axis=1)]

    def _nearest(self, vector: Vectors) -> float:
        if not len(self):
            return 0.0
        similarities, _ = self._index.search(vector[None, :], 1)
        return float(similarities[0, 0])

    def _remember(self, texts: Sequence[str]) -> None:
        if texts:
            self._index.add(self._embedder.embed(texts))

    def _append(self, texts: Sequence[str]) -> None:
        if self._file is not None and texts:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(text) + "\n" for text in texts)


def _read(file: Path) -> list[str]:
    """The stored texts; a line torn by a crash is left out."""
    texts: list[str] = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            texts.append(str(json.loads(line)))
        except json.JSONDecodeError:
            continue
    return texts
