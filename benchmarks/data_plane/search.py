"""How often a search finds the passage that answers: recall@k by vectors, by words, and by both, with the
two rankings weighted equally (`plain`) and as a search does it (`fused`).

`python -m benchmarks.data_plane.search`. Both embedders are measured where both are there.
"""

import sys
import time
from collections.abc import Callable, Sequence

from agentfactory.bridge.search.base import Hit
from agentfactory.bridge.search.chunking import split_passages
from agentfactory.bridge.search.embedding import MINILM, NGRAMS, Embedder, find_local, local_embedder
from agentfactory.bridge.search.table import MIN_DEPTH, PassageRow, PassageTable, fuse_rankings
from benchmarks.data_plane.search_set import DOCUMENTS, IN_OWN_WORDS, QUESTIONS, Question
from benchmarks.figures import Figures

SIZE, OVERLAP = 300, 60
"""Smaller passages than by default, so that there are more of them than of texts: it is a small library."""
KS = (1, 3, 5)

Ranking = Callable[[Question], Sequence[Hit]]


def library() -> list[PassageRow]:
    """All passages of the documents."""
    return [
        PassageRow(name, span.start, span.end, span.heading, text[span.start : span.end])
        for name, text in DOCUMENTS.items()
        for span in split_passages(text, SIZE, OVERLAP, markdown=name.endswith(".md"))
    ]


def answers(row: PassageRow, question: Question) -> bool:
    """Whether a passage holds the words that answer."""
    return row.blob == question.blob and question.answer in " ".join(row.text.split())


def recall(table: PassageTable, ranking: Ranking, questions: Sequence[Question], k: int) -> float:
    """The share of questions with an answer among the first k passages."""
    found = [any(answers(table.rows[hit.row], q) for hit in ranking(q)[:k]) for q in questions]
    return sum(found) / len(found)


def measure(embedder: Embedder) -> dict[tuple[str, str, int], float]:
    """Recall by ranking, kind of question and k; prints a table and the times."""
    rows = library()
    began = time.perf_counter()
    vectors = embedder.embed([row.indexed for row in rows])
    embedded_s = time.perf_counter() - began
    table = PassageTable.empty(embedder.dimensions).replaced((), rows, vectors)
    asked = {question.text: embedder.embed([question.text]) for question in QUESTIONS}
    rankings: dict[str, Ranking] = {
        "dense": lambda q: table.dense(asked[q.text], max(KS)),
        "lexical": lambda q: table.lexical(q.text, max(KS)),
        "plain": lambda q: fuse_rankings(
            (
                table.dense(asked[q.text], MIN_DEPTH),
                [hit._replace(share=1.0) for hit in table.lexical(q.text, MIN_DEPTH)],
            )
        ),
        "fused": lambda q: table.search(q.text, asked[q.text], max(KS)),
    }
    kinds = {
        "own words": QUESTIONS[:IN_OWN_WORDS],
        "other words": QUESTIONS[IN_OWN_WORDS:],
        "all": QUESTIONS,
    }
    began = time.perf_counter()
    for question in QUESTIONS:
        rankings["fused"](question)
    search_ms = (time.perf_counter() - began) / len(QUESTIONS) * 1000
    print(
        f"\n{embedder.name}: {len(rows)} passages of {len(DOCUMENTS)} texts, {len(QUESTIONS)} questions; "
        f"{len(rows) / embedded_s:.0f} passages/s embedded, {search_ms:.2f} ms a ranking"
    )
    results = {
        (name, kind, k): recall(table, ranking, questions, k)
        for name, ranking in rankings.items()
        for kind, questions in kinds.items()
        for k in KS
    }
    print(f"{'':10}" + "".join(f"{kind + ' @' + str(k):>16}" for kind in kinds for k in KS))
    for name in rankings:
        print(f"{name:10}" + "".join(f"{results[name, kind, k]:16.2f}" for kind in kinds for k in KS))
    return results


def main() -> int:
    """Measure; 1 if the fused ranking is worse than its better half, or misses the library's own words."""
    figures = Figures()
    for name, short in ((NGRAMS, "ngrams"), (MINILM, "minilm")):
        if name == MINILM and not find_local(MINILM):
            print("\nall-MiniLM-L6-v2 is not on this machine: not measured")
            continue
        results = measure(local_embedder(name))
        better_half = max(results["dense", "all", 5], results["lexical", "all", 5])
        figures.add(f"search_{short}_recall_at_5", results["fused", "all", 5], "", ">=", better_half)
        figures.add(f"search_{short}_own_words_recall_at_3", results["fused", "own words", 3], "", ">=", 0.95)
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
