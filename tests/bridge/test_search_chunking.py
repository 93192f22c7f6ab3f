"""Passages: bounded, whole, and cut where the author set a border."""

import itertools
import random

import pytest

from agentfactory.bridge.search.chunking import PassageSpan, split_passages

PROSE = "The first sentence is here. The second one follows it! Does a third? It does.\n\n" * 40
MARKDOWN = """\
Before any heading.

# Setup

Install it first, it takes a minute or two, then read on about the ports that it needs.

## Ports

The bridge listens on 5560, and the cache on 11211, unless the settings say otherwise.

```sh
# not a heading
run --port 5560
```

# Use

Ask it something, and wait for the answer, which comes with the name of the text behind it.
"""


def texts(text: str, size: int = 200, overlap: int = 40, markdown: bool = True) -> list[str]:
    return [text[s.start : s.end] for s in split_passages(text, size, overlap, markdown=markdown)]


def spans(text: str, size: int = 200, overlap: int = 40, markdown: bool = True) -> list[PassageSpan]:
    return list(split_passages(text, size, overlap, markdown=markdown))


@pytest.mark.parametrize("size", [100, 137, 800])
@pytest.mark.parametrize("seed", range(8))
def test_every_word_of_any_text_is_in_a_passage_and_none_is_too_long(size: int, seed: int) -> None:
    rng = random.Random(seed)
    pieces = ["word", " ", "\n", "\n\n", ". ", "# ", "## T\n", "```\n", "x" * 60, "é", "。", "\t", "~~~\n"]
    text = "".join(rng.choices(pieces, k=800))
    covered = [False] * len(text)
    last = -1
    for span in split_passages(text, size, size // 3, markdown=True):
        assert 0 < span.end - span.start <= size
        assert span.start > last
        last = span.start
        covered[span.start : span.end] = [True] * (span.end - span.start)
    assert all(seen or character.isspace() for seen, character in zip(covered, text, strict=True))


def test_a_passage_ends_where_a_sentence_does() -> None:
    assert all(passage[-1] in ".!?" for passage in texts(PROSE))


def test_a_passage_begins_where_a_sentence_does() -> None:
    assert all(passage.startswith(("The", "Does", "It")) for passage in texts(PROSE))


def test_passages_overlap_by_whole_sentences_within_the_limit() -> None:
    overlaps = [one.end - two.start for one, two in itertools.pairwise(spans(PROSE))]
    assert max(overlaps) > 0
    assert max(overlaps) <= 40


def test_without_overlap_no_character_is_in_two_passages() -> None:
    found = spans(PROSE, overlap=0)
    assert all(one.end <= two.start for one, two in itertools.pairwise(found))


def test_a_heading_opens_its_passage_and_none_overlaps_it() -> None:
    found = texts(MARKDOWN, size=180)
    assert any(passage.startswith("## Ports") for passage in found)
    assert any(passage.startswith("# Use") for passage in found)
    assert not any("# Use" in passage and not passage.startswith("# Use") for passage in found)


def test_a_passage_knows_the_headings_that_it_stands_under() -> None:
    headings = {MARKDOWN[s.start : s.end].splitlines()[0]: s.heading for s in spans(MARKDOWN, size=180)}
    assert headings["## Ports"] == "Setup > Ports"
    assert headings["# Use"] == "Use"
    assert headings["Before any heading."] == ""


def test_a_heading_that_is_code_is_none() -> None:
    assert not any("not a heading" in span.heading for span in spans(MARKDOWN, size=100))


def test_in_plain_text_a_hash_is_no_heading() -> None:
    assert {span.heading for span in spans(MARKDOWN, markdown=False)} == {""}


def test_what_continues_a_long_section_still_knows_its_heading() -> None:
    found = spans("# Top\n\n## Long\n\n" + PROSE)
    assert len(found) > 5
    assert {span.heading for span in found[1:]} == {"Top > Long"}


def test_a_text_without_any_border_is_cut_all_the_same() -> None:
    assert [len(passage) for passage in texts("x" * 1000, size=300)] == [300, 300, 300, 100]


@pytest.mark.parametrize("text", ["", " ", "\n\n\t\n"])
def test_nothing_makes_no_passage(text: str) -> None:
    assert texts(text) == []


def test_a_short_text_is_one_passage() -> None:
    assert texts("  Just this.  ") == ["Just this."]
