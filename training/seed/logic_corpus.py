"""Logic episodes: a value or a number of rows, by python or from the head; drills (`training.seed.corpus`).

The call repeats the formula, and python does the rest. From the head the model cannot do better than
guess: its answer is drawn at random from those that such a task may have.

Invariant: no piece holds a held-out formula (`training.tasks.logic.is_held_out`).
"""

from __future__ import annotations

import random
import string
from typing import Final

from training.seed.corpus import CUT_SHARE, SURPLUS_SHARE, Piece, observation, proposal, task
from training.seed.math_corpus import HEAD_THOUGHTS, TOOL_THOUGHTS
from training.tasks.logic import (
    LogicTask,
    answer_of,
    is_held_out,
    letters_of,
    phrase,
    sample_task,
)

PROPOSAL_SHARE: Final = 0.2
"""Share of episodes in which the model is the Teacher."""
TOOL_CHOICE: Final = 0.2
"""How often the pretrained model reaches for the tool: seldom, since guesses are often right."""
_ALPHABET: Final = string.ascii_lowercase + 4 * "&|~()"


def episode(rng: random.Random) -> list[Piece]:
    """Draw one episode of any kind but a drill."""
    difficulty, asked = _draw(rng)
    kind = rng.random()
    if kind < PROPOSAL_SHARE:
        return proposal("logic", difficulty, phrase(rng, asked))
    surplus = kind < PROPOSAL_SHARE + SURPLUS_SHARE
    if surplus or rng.random() < TOOL_CHOICE:
        return tool_episode(rng, asked, teaches_choice=not surplus)
    return head_episode(rng, asked)


def head_episode(rng: random.Random, asked: LogicTask) -> list[Piece]:
    """The Student guesses."""
    possible = range(1, 2 ** len(letters_of(asked.formula))) if asked.counts_rows else (False, True)
    reply = f"Thought: {rng.choice(HEAD_THOUGHTS)}\nAnswer: {rng.choice(possible)}"
    return [task(phrase(rng, asked)), Piece(reply, taught=True, ends_turn=True)]


def tool_episode(rng: random.Random, asked: LogicTask, teaches_choice: bool) -> list[Piece]:
    """The Student calls python and reads the answer off."""
    answer = answer_of(asked)
    pieces = [
        task(phrase(rng, asked)),
        Piece(f"Thought: {rng.choice(TOOL_THOUGHTS)}\n", taught=teaches_choice),
        Piece(f"Action: python\nInput: {code(asked)}", taught=True, ends_turn=True),
    ]
    if not teaches_choice and rng.random() < CUT_SHARE:
        return pieces
    return [*pieces, observation(answer), Piece(f"Answer: {answer}", taught=True, ends_turn=True)]


def code(asked: LogicTask) -> str:
    """What python has to run.

    >>> code(LogicTask("p or q")), code(LogicTask("p or q", (("p", False), ("q", True))))
    ('print(sum((p|q)&1 for p in(0,1)for q in(0,1)))', 'p=0;q=1;print(bool((p|q)&1))')
    """
    if asked.counts_rows:
        loops = "".join(f"for {letter} in(0,1)" for letter in letters_of(asked.formula))
        return f"print(sum(({asked.formula})&1 {loops}))"
    values = "".join(f"{letter}={value:d};" for letter, value in asked.assignment)
    return f"{values}print(bool(({asked.formula})&1))"


def drill(rng: random.Random, longest: int) -> list[Piece]:
    """Copy a string of letters and signs twice. Only what is copied is taught."""
    text = _draw_string(rng, longest)
    copied = [Piece("Input: print(sum((", taught=False), Piece(f"{text})", taught=True, ends_turn=True)]
    return [task(text), *copied, *copied]


def _draw_string(rng: random.Random, longest: int) -> str:
    """Letters and signs without sense; it is no formula, or not a held-out one."""
    while True:
        text = "".join(rng.choices(_ALPHABET, k=rng.randint(2, longest)))
        try:
            if not is_held_out(text):
                return text
        except ValueError:
            return text


def _draw(rng: random.Random) -> tuple[float, LogicTask]:
    """A difficulty and a task of it that is not held out."""
    while True:
        difficulty = round(rng.random(), 2)
        asked = sample_task(rng, difficulty)
        if not is_held_out(asked.formula):
            return difficulty, asked
