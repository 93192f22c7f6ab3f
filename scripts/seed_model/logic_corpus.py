"""Logic episodes: the column of a formula, by python or from the head; drills (`scripts.seed_model.corpus`).

The call repeats the formula, and python does the rest. From the head the model cannot do better than
guess: its answer is drawn at random from the columns that such a formula may have.

Invariant: no piece holds a held-out formula (`training.tasks.truth_tables.is_held_out`).
"""

from __future__ import annotations

import random
import string
from typing import Final

from agentfactory.training.tasks.truth_tables import evaluate, is_held_out, phrase, sample_formula
from scripts.seed_model.corpus import CUT_SHARE, SURPLUS_SHARE, Segment, observation, proposal, task
from scripts.seed_model.math_corpus import HEAD_THOUGHTS, TOOL_THOUGHTS

PROPOSAL_SHARE: Final = 0.3
"""Share of episodes in which the model is the Teacher."""
TOOL_CHOICE: Final = 0.35
"""How often the pretrained model reaches for the tool."""
_ALPHABET: Final = string.digits + 2 * "&|^()"


def episode(rng: random.Random) -> list[Segment]:
    """Draw one episode of any kind but a drill."""
    difficulty, formula = _draw(rng)
    kind = rng.random()
    if kind < PROPOSAL_SHARE:
        return proposal("logic", difficulty, phrase(rng, formula))
    surplus = kind < PROPOSAL_SHARE + SURPLUS_SHARE
    if surplus or rng.random() < TOOL_CHOICE:
        return tool_episode(rng, formula, teaches_choice=not surplus)
    return head_episode(rng, formula)


def head_episode(rng: random.Random, formula: str) -> list[Segment]:
    """The Student guesses."""
    rows = 8 if any(int(column) > 15 for column in _columns(formula)) else 4
    reply = f"Thought: {rng.choice(HEAD_THOUGHTS)}\nAnswer: {rng.randrange(2**rows)}"
    return [task(phrase(rng, formula)), Segment(reply, taught=True, ends_turn=True)]


def tool_episode(rng: random.Random, formula: str, teaches_choice: bool) -> list[Segment]:
    """The Student calls python and reads the answer off."""
    answer = str(evaluate(formula))
    pieces = [
        task(phrase(rng, formula)),
        Segment(f"Thought: {rng.choice(TOOL_THOUGHTS)}\n", taught=teaches_choice),
        Segment(f"Action: python\nInput: print({formula})", taught=True, ends_turn=True),
    ]
    if not teaches_choice and rng.random() < CUT_SHARE:
        return pieces
    return [*pieces, observation(answer), Segment(f"Answer: {answer}", taught=True, ends_turn=True)]


def exercise(rng: random.Random, longest: int) -> list[Segment]:
    """Copy a string of digits and signs twice. Only what is copied is taught."""
    text = _draw_string(rng, longest)
    copied = [Segment("Input: print(", taught=False), Segment(f"{text})", taught=True, ends_turn=True)]
    return [task(phrase(rng, text)), *copied, *copied]


def _columns(formula: str) -> list[str]:
    return "".join(sign if sign.isdigit() else " " for sign in formula).split()


def _draw_string(rng: random.Random, longest: int) -> str:
    """Digits and signs without sense; it is no formula, or not a held-out one."""
    while True:
        text = "".join(rng.choices(_ALPHABET, k=rng.randint(2, longest)))
        if not any(map(_parses_as_held_out, (text, f"{text})"))):  # the call's bracket may close it
            return text


def _parses_as_held_out(text: str) -> bool:
    try:
        return is_held_out(text)
    except ValueError:
        return False


def _draw(rng: random.Random) -> tuple[float, str]:
    """A difficulty and a formula of it that is not held out."""
    while True:
        difficulty = round(rng.random(), 2)
        formula = sample_formula(rng, difficulty)
        if not is_held_out(formula):
            return difficulty, formula
