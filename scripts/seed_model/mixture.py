"""The corpora by name, and the one that mixes all domains."""

from __future__ import annotations

import random
from typing import Final, Literal

from scripts.seed_model import data_corpus, logic_corpus, math_corpus
from scripts.seed_model.corpus import CorpusGenerator, Segment

CorpusName = Literal["math", "mixed"]

SHARES: Final = {"math": 0.3, "logic": 0.25, "data": 0.45}
"""Of the mixed episodes. A formula over columns is copied as a sum is; names take longer."""

_DOMAINS: Final = {
    "math": CorpusGenerator(math_corpus.episode, math_corpus.exercise),
    "logic": CorpusGenerator(logic_corpus.episode, logic_corpus.exercise),
    "data": CorpusGenerator(data_corpus.episode, data_corpus.exercise),
}


def _episode(rng: random.Random) -> list[Segment]:
    return _DOMAINS[_domain(rng)].episode(rng)


def _drill(rng: random.Random, longest: int) -> list[Segment]:
    return _DOMAINS[_domain(rng)].drill(rng, longest)


def _domain(rng: random.Random) -> str:
    return rng.choices(list(SHARES), list(SHARES.values()))[0]


WRITERS: Final[dict[CorpusName, CorpusGenerator]] = {
    "math": _DOMAINS["math"],
    "mixed": CorpusGenerator(_episode, _drill),
}
