"""Router by similarity: a command goes where commands that mean the same would go.

A command that begins with a verb of the language is left to the rules. For any other the nearest example of
each action decides, by cosine similarity; names of files and tags are taken out first, since they say
nothing about what is to be done, and so is what all examples have in common.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from ....bridge.search.embedding import NGRAMS, Embedder, Vectors
from ....messages.conversations import AgentCard, ClarificationRequest, Routing
from .base import RouteReason, ask_which, capable_agents, resolve
from .rule_router import RuleRouter

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "assimilate": (
        "load a file as a tag",
        "ingest this folder into a tag",
        "import these documents",
        "upload the files and store them",
        "add a file to the collection",
        "read in the data set and keep it",
        "put a file into storage",
    ),
    "query": (
        "search all data",
        "find files whose name matches",
        "query a tag",
        "what do we have in the cache?",
        "look for documents",
        "which files are at hand?",
        "is there anything under a tag?",
    ),
    "retrieve": (
        "get a file from a tag",
        "retrieve the document",
        "fetch the contents of a file",
        "show me what a file says",
        "open a file and read it to me",
        "give me the text of a document",
        "print a file",
    ),
    "prune": (
        "prune a file from the cache",
        "evict a file from the cache",
        "free some cache memory",
        "forget the cached copy but keep the data",
        "clear the cache of a file",
    ),
    "destroy": (
        "destroy a tag",
        "delete a tag for good",
        "remove all data of a tag permanently",
        "erase everything under a tag",
        "wipe the collection",
        "throw a data set away",
    ),
    "list_blobs": (
        "list what the store holds",
        "list all blobs in persistent storage",
        "give me the inventory of the store",
        "show everything that is stored for good",
    ),
}
"""Example commands for each action."""

_NAME: Final = re.compile(
    r"""(?P<folder>\bfolder::\S+)|(?P<uri>\b\w+::\S+)|["'](?P<quoted>[^"']+)["']|\S*\w\.\w+\b"""
)


class SimilarityLimits(NamedTuple):
    """Similarity thresholds of an embedder."""

    floor: float
    """Below it a command is like none of the examples."""
    margin: float
    """Two agents whose similarities are nearer than this are both meant."""


OF_MEANING: Final = SimilarityLimits(floor=0.24, margin=0.03)
"""A sentence-transformers model."""
OF_SPELLING: Final = SimilarityLimits(floor=0.28, margin=0.03)
"""`ngrams`."""


class EmbeddingRouter:
    """Compares a command with examples of each action, and with what agents say of themselves."""

    def __init__(self, rules: RuleRouter, embedder: Callable[[], Embedder]) -> None:
        """`embedder` may take seconds; it is called in a thread, once, when there is something to route."""
        self._rules = rules
        self._open = embedder
        self._embedder: Embedder | None = None
        self._examples: list[tuple[str, str, Sequence[float]]] = []
        """Action, example, unit vector."""
        self._one_at_a_time = asyncio.Lock()

    async def route(self, command: str, cards: Sequence[AgentCard]) -> Routing:
        """See `Router`."""
        if self._rules.sure_of(command, cards):
            return self._rules.decide(command, cards)
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._decide, command, cards)

    def _decide(self, command: str, cards: Sequence[AgentCard]) -> Routing:
        embedder = self._ready()
        limits = OF_SPELLING if embedder.name == NGRAMS else OF_MEANING
        (vector,) = self._centred(embedder.embed([without_names(command)]))
        best: dict[str, tuple[float, str]] = {}
        for action, example, known in self._examples:
            best[action] = max(best.get(action, (-1.0, "")), (float(vector @ known), example))
        ranked = sorted(best, key=lambda action: best[action][0], reverse=True)
        action = ranked[0]
        score, example = best[action]
        why = RouteReason("embeddings", f"nearest to {example!r}: {action}", score)
        if score < limits.floor:
            doubt = f"it is like nothing that is known ({score:.2f}; nearest: {example!r})"
            return self._ask(command, cards, doubt)
        near = [other for other in ranked if best[other][0] > score - limits.margin]
        meant = tuple(dict.fromkeys(card for each in near for card in capable_agents(each, cards)))
        if len(meant) > 1:
            return ask_which(command, meant, why, f"{' and '.join(near)} are as near")
        return resolve(command, action, cards, why)

    def _ready(self) -> Embedder:
        if self._embedder is None:
            self._embedder = self._open()
            said = [(action, example) for action, examples in EXAMPLES.items() for example in examples]
            vectors = self._embedder.embed([example for _, example in said])
            self._mean = vectors.mean(axis=0)
            vectors = self._centred(vectors)
            self._examples = [(*each, vector) for each, vector in zip(said, vectors, strict=True)]
        return self._embedder

    def _centred(self, vectors: Vectors) -> Vectors:
        """Without what all commands have in common, and of length 1 again."""
        rest: Vectors = vectors - self._mean
        rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9)
        return rest

    @staticmethod
    def _ask(command: str, cards: Sequence[AgentCard], doubt: str) -> ClarificationRequest:
        return ask_which(command, cards, RouteReason("embeddings", ""), doubt)


def without_names(command: str) -> str:
    """The command with `a file`, `a folder` or `it` where names stood."""

    def plain(match: re.Match[str]) -> str:
        if match["folder"]:
            return "a folder"
        return "it" if match["quoted"] and "." not in match["quoted"] else "a file"

    return _NAME.sub(plain, command)
