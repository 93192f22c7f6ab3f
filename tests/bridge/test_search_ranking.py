"""Words, vectors, and the two rankings fused."""

import math
import subprocess
import sys

import numpy as np
import pytest

from agentfactory.bridge.search.base import Hit
from agentfactory.bridge.search.embedding import (
    MINILM,
    NgramEmbedder,
    SentenceEmbedder,
    find_local,
    local_embedder,
)
from agentfactory.bridge.search.index_store import (
    IndexDamaged,
    IndexedBlob,
    IndexPart,
    IndexSegment,
    pack,
    unpack,
)
from agentfactory.bridge.search.lexical import K1, B, Bm25, words
from agentfactory.bridge.search.table import PassageRow, PassageTable, fuse_rankings
from agentfactory.configs.errors import SettingsError

TEXTS = [
    "the cache holds small values",
    "the store holds large values, and the store keeps them",
    "request_timeout_ms is thirty seconds",
    "queries and caches",
]


def rows(*texts: str) -> list[PassageRow]:
    return [PassageRow(f"b{n}.md", 0, len(text), "", text) for n, text in enumerate(texts)]


def table(*texts: str) -> PassageTable:
    embedder = NgramEmbedder()
    made = rows(*texts)
    return PassageTable.empty(embedder.dimensions).replaced(
        (), made, embedder.embed([r.indexed for r in made])
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cache of a query", ["cach", "queri"]),
        ("QUERIES, caches; classes!", ["queri", "cach", "class"]),
        ("request_timeout_ms=30", ["request_timeout_ms", "request", "timeout", "ms", "30"]),
        ("what is this?", []),
        ("naïve ＡＢＣ", ["naïv", "abc"]),
        ("ポート5560", ["ポ", "ー", "ト", "5560"]),
        ("a" * 500, ["a" * 64]),
    ],
)
def test_words_are_folded_to_what_counts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_bm25_is_the_formula() -> None:
    index = Bm25.of(["red red apple", "green apple", "blue plum tree"])
    n, df, tf, length, mean = 3, 1, 2, 3, 8 / 3
    idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
    expected = idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / mean))
    (hit,) = index.rank("red", 5)
    assert hit.row == 0
    assert hit.score == pytest.approx(expected)


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    index = Bm25.of(["value apple", "value pear", "value plum", "apple value value"])
    assert index.rank("plum value", 1)[0].row == 2


def test_only_passages_that_share_a_word_are_ranked() -> None:
    index = Bm25.of(TEXTS)
    assert [hit.row for hit in index.rank("request timeout", 10)] == [2]
    assert list(index.rank("zebra", 10)) == []
    assert list(index.rank("the of and", 10)) == []


def test_a_replaced_index_ranks_as_one_made_anew() -> None:
    index = Bm25.of(TEXTS).replaced(np.array([True, False, True, False]), ["the store is full", "new apples"])
    fresh = Bm25.of([TEXTS[0], TEXTS[2], "the store is full", "new apples"])
    for question in ("cache values", "store", "timeout", "apple", "queries"):
        assert list(index.rank(question, 10)) == list(fresh.rank(question, 10))


def test_an_index_can_become_empty_and_fill_again() -> None:
    index = Bm25.of(TEXTS).replaced(np.zeros(4, dtype=bool), [])
    assert len(index) == 0
    assert list(index.rank("cache", 5)) == []
    assert index.replaced(np.zeros(0, dtype=bool), ["a cache"]).rank("caches", 5)[0].row == 0


def test_words_that_are_gone_take_no_memory() -> None:
    index = Bm25.of(["apple"])
    for number in range(50):
        index = index.replaced(np.zeros(len(index), dtype=bool), [f"word{number}"])
    assert len(index._vocabulary) == 1


def test_factors_weigh_scores_and_bring_nothing_in_that_shares_no_word() -> None:
    index = Bm25.of(["apple", "apple", "pear"])
    (first, second) = index.rank("apple", 5, np.array([1.0, 1.5, 9.0]))
    assert (first.row, second.row) == (1, 0)
    assert first.score == pytest.approx(1.5 * second.score)


def test_fusion_prefers_what_both_rankings_hold() -> None:
    both = fuse_rankings(([Hit(1, 9.0), Hit(2, 8.0)], [Hit(3, 5.0), Hit(2, 4.0)]))
    assert [hit.row for hit in both] == [2, 1, 3]
    assert both[0].score == pytest.approx(1 / 62 + 1 / 62)


def test_a_passage_that_shares_little_of_the_question_weighs_little() -> None:
    index = Bm25.of(["apple pie", "apple", "pear"])
    shares = {hit.row: hit.share for hit in index.rank("apple pie unheard", 5)}
    assert 0 < shares[1] < shares[0] < 1
    assert index.rank("pear", 1)[0].share == pytest.approx(1.0)
    near, alike = [Hit(n, 1.0) for n in range(9)], [Hit(7, 9.0, share=0.05)]
    assert fuse_rankings((near, alike))[0].row == 0
    assert fuse_rankings((near, [Hit(7, 9.0)]))[0].row == 7


def test_a_table_without_some_blobs_finds_the_others_and_the_new() -> None:
    embedder = NgramEmbedder()
    new = [PassageRow("new.md", 0, 6, "", "zebras")]
    after = table(*TEXTS).replaced({"b0.md", "b3.md"}, new, embedder.embed([r.indexed for r in new]))
    assert [row.blob for row in after.rows] == ["b1.md", "b2.md", "new.md"]
    for question, blob in (("zebras", "new.md"), ("large store", "b1.md"), ("timeout", "b2.md")):
        vector = embedder.embed([question])
        assert after.rows[after.search(question, vector, 1)[0].row].blob == blob
        assert {hit.row for hit in after.dense(vector, 99)} == {0, 1, 2}


def test_an_empty_table_finds_nothing() -> None:
    assert PassageTable.empty(512).search("anything", NgramEmbedder().embed(["anything"]), 5) == []


def test_a_part_comes_back_as_it_was_without_its_dead_rows() -> None:
    made = [
        PassageRow("a.md", 0, 4, "H > I", "tëxt"),
        PassageRow("b.md", 5, 9, "", "more"),
        PassageRow("a.md", 9, 12, "", "end"),
    ]
    vectors = NgramEmbedder().embed([row.text for row in made])
    part = IndexPart(name="part-1", blobs=(IndexedBlob(name="a.md", version="1", passages=2),), rows=3)
    back = unpack(pack(IndexSegment(made, vectors)), part, 512)
    assert back.rows == [made[0], made[2]]
    assert np.array_equal(back.vectors, vectors[[0, 2]])


def test_a_part_with_rows_missing_is_damaged() -> None:
    made = rows("one")
    data = pack(IndexSegment(made, NgramEmbedder().embed(["one"])))
    part = IndexPart(name="part-1", blobs=(IndexedBlob(name="b0.md", version="1", passages=2),), rows=2)
    with pytest.raises(IndexDamaged, match="1 rows that count, not 2"):
        unpack(data, part, 512)
    with pytest.raises(IndexDamaged, match="cannot be read"):
        unpack(data, part, 384)


def test_a_model_that_is_not_here_is_never_fetched() -> None:
    for name in ("nobody/nothing", "./no/such/folder"):
        with pytest.raises(SettingsError, match=f"'{name}' is not on this machine"):
            local_embedder(name)


def test_auto_takes_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentfactory.bridge.search.embedding.find_local", lambda name: "")
    assert local_embedder("auto").name == "ngrams"


@pytest.mark.slow
@pytest.mark.skipif(not find_local(MINILM), reason="all-MiniLM-L6-v2 is not on this machine")
def test_the_sentence_model_sees_meaning() -> None:
    embedder = local_embedder("auto")
    assert isinstance(embedder, SentenceEmbedder)
    assert (embedder.name, embedder.dimensions) == (MINILM, 384)
    one, like, unlike = embedder.embed(["A cat sleeps.", "A kitten is napping.", "Taxes are due in May."])
    assert one @ one == pytest.approx(1.0, abs=1e-5)
    assert one @ like > one @ unlike + 0.3


def test_importing_search_pulls_in_nothing_heavy() -> None:
    code = (
        "import sys, agentfactory.bridge.search.search, agentfactory.actors.searcher\n"
        "import agentfactory.runtime.tools.builtin.retrieve\n"
        "print(*{'torch', 'faiss', 'sentence_transformers', 'transformers', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""
