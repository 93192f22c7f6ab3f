"""The corpora by name, and the one that mixes all domains."""

from __future__ import annotations

import random
from typing import Final, Literal

from . import errands_corpus, logic_corpus, math_corpus
from .corpus import Piece, Writer

CorpusName = Literal["math", "mixed"]

SHARES: Final = {"math": 0.3, "logic": 0.25, "data": 0.45}
"""Of the mixed episodes. A formula over columns is copied as a sum is; names take longer."""

_DOMAINS: Final = {
    "math": Writer(math_corpus.episode, math_corpus.drill),
    "logic": Writer(logic_corpus.episode, logic_corpus.drill),
    "data": Writer(errands_corpus.episode, errands_corpus.drill),
}


def _episode(rng: random.Random) -> list[Piece]:
    return _DOMAINS[_domain(rng)].episode(rng)


def _drill(rng: random.Random, longest: int) -> list[Piece]:
    return _DOMAINS[_domain(rng)].drill(rng, longest)


def _domain(rng: random.Random) -> str:
    return rng.choices(list(SHARES), list(SHARES.values()))[0]


WRITERS: Final[dict[CorpusName, Writer]] = {"math": _DOMAINS["math"], "mixed": Writer(_episode, _drill)}
