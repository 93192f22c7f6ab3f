"""The pretraining corpus: episodes written by rule from a seed, as chains of pieces.

Only taught pieces carry loss. Each domain has a module that writes its episodes (`math_corpus`,
`logic_corpus`, `data_corpus`) of four kinds:

* **drills**: copy what has no sense, again and again. Nothing in them can be guessed, so copying, the hard
  part of a tool call, forms within a few hundred steps instead of thousands;
* **proposals**: the Teacher's side, `Propose a math task of difficulty 0.30.` and a fitting task;
* **tool episodes**: a thought, a call, the observation, the answer;
* **head episodes**: a thought and an answer from the head, which is mostly wrong.

How often the model reaches for the tool is the ratio of taught tool thoughts to head thoughts.
There are more tool episodes than that ratio wants: in the surplus ones the thought is not taught,
only what follows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from scripts.seed_model.tokenizer import EOS_ID, encode

PROPOSAL_REQUEST: Final = "Propose a {} task of difficulty {:.2f}."
"""What the Teacher reads: the domain, and a difficulty in [0, 1]."""
SURPLUS_SHARE: Final = 0.3
"""Share of episodes that practise the tool call without teaching how often to choose it."""
CUT_SHARE: Final = 0.5
"""Share of surplus episodes that end with a call, which leaves time for more of them."""


class Segment(NamedTuple):
    """A stretch of text that the model either reads or is taught to write."""

    text: str
    taught: bool
    """Whether its characters carry loss."""
    ends_turn: bool = False
    """Whether `<eos>` follows, taught like the text."""


class CurriculumStage(NamedTuple):
    """Where the curriculum stands."""

    drill_share: float
    """Share of drills among the episodes."""
    longest_string: int
    """Characters of the longest string that a drill copies."""


class TrainingExample(NamedTuple):
    """One tokenized episode; both lists have the length of the episode, [T]."""

    ids: list[int]
    taught: list[bool]


class CorpusGenerator(NamedTuple):
    """What writes a corpus."""

    episode: Callable[[random.Random], list[Segment]]
    """One episode of any kind but a drill."""
    drill: Callable[[random.Random, int], list[Segment]]
    """One drill, with strings of at most so many characters."""


def examples(
    rng: random.Random, stage: CurriculumStage, count: int, write: CorpusGenerator
) -> list[TrainingExample]:
    """Draw `count` tokenized episodes; a state of `rng` fixes them."""
    return [
        tokenize(
            write.drill(rng, stage.longest_string) if rng.random() < stage.drill_share else write.episode(rng)
        )
        for _ in range(count)
    ]


def tokenize(pieces: list[Segment]) -> TrainingExample:
    """Join pieces into ids, with `<eos>` and a newline after each turn of the model."""
    ids: list[int] = []
    taught: list[bool] = []
    for piece in pieces:
        tokens = encode(piece.text) + ([EOS_ID] if piece.ends_turn else [])
        ids += tokens
        taught += [piece.taught] * len(tokens)
        if piece.ends_turn:
            ids += encode("\n")
            taught.append(False)
    return TrainingExample(ids, taught)


def proposal(domain: str, difficulty: float, text: str) -> list[Segment]:
    """The Teacher is asked for a difficulty and answers with a fitting task."""
    return [
        Segment(f"{PROPOSAL_REQUEST.format(domain, difficulty)}\n", taught=False),
        Segment(f"Task: {text}", taught=True, ends_turn=True),
    ]


def task(text: str) -> Segment:
    """What the Student reads first."""
    return Segment(f"Task: {text}\n", taught=False)


def observation(text: str) -> Segment:
    """What the Student reads after a call."""
    return Segment(f"Observation: {text}\n", taught=False)
