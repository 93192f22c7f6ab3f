"""Math episodes: sums by python or from the head, and drills (`scripts.seed_model.corpus`).

Invariant: no piece holds a held-out expression (`training.tasks.arithmetic.is_held_out`).
"""

from __future__ import annotations

import random
from typing import Final

from agentfactory.training.tasks.arithmetic import evaluate, is_held_out, phrase, sample_expression
from scripts.seed_model.corpus import CUT_SHARE, SURPLUS_SHARE, Segment, observation, proposal, task

PROPOSAL_SHARE: Final = 0.3
"""Share of episodes in which the model is the Teacher."""
TOOL_CHOICE: Final = 0.35
"""How often the pretrained model reaches for the tool."""
ERROR_SHARE: Final = 0.12
"""Share of tool episodes whose first observation is an error."""
GIVE_UP_SHARE: Final = 0.25
"""Share of failed calls after which the model answers by a guess instead of calling again."""
HEAD_IS_RIGHT: Final = 0.7
"""Chance that a head answer to the easiest task is right; it falls to zero at the hardest."""

TOOL_THOUGHTS: Final = ("Use python.", "I will use python.", "Run it.", "Let me compute it.")
HEAD_THOUGHTS: Final = ("Easy.", "In my head.", "I know this.", "Let me guess.")
RETRY_THOUGHTS: Final = ("Try again.", "Once more.")
GIVE_UP_THOUGHTS: Final = ("I must guess.", "No tool.")
CLOSING_THOUGHT: Final = "Done."
CLOSING_SHARE: Final = 0.2
ERRORS: Final = (
    "Error: SyntaxError",
    "Error: SyntaxError: invalid syntax",
    "Error: NameError: name 'x' is not defined",
    "Error: ZeroDivisionError: division by zero",
    "Error: the tool timed out",
    "Error: the tool failed",
    "Error: reply with an Action or an Answer",
    "Error: timeout",
    "Error",
    "(no output)",
)

_SHORTEST_STRING: Final = 2
_STRING_ALPHABET: Final = "0123456789+-*()"


def episode(rng: random.Random) -> list[Segment]:
    """Draw one episode of any kind but a drill."""
    kind = rng.random()
    if kind < PROPOSAL_SHARE:
        difficulty, expression = _draw_expression(rng)
        return proposal("math", difficulty, phrase(rng, expression))
    if kind < PROPOSAL_SHARE + SURPLUS_SHARE:
        return tool_episode(rng, teaches_choice=False)
    if rng.random() < TOOL_CHOICE:
        return tool_episode(rng, teaches_choice=True)
    return head_episode(rng)


def head_episode(rng: random.Random) -> list[Segment]:
    """The Student answers at once; the harder the task, the likelier a slip."""
    difficulty, expression = _draw_expression(rng)
    answer = _head_answer(rng, expression, difficulty)
    reply = f"Thought: {rng.choice(HEAD_THOUGHTS)}\nAnswer: {answer}"
    return [task(phrase(rng, expression)), Segment(reply, taught=True, ends_turn=True)]


def tool_episode(rng: random.Random, teaches_choice: bool) -> list[Segment]:
    """The Student calls python and reads the answer off; sometimes the call fails first."""
    expression = _draw_expression(rng)[1]
    result = str(evaluate(expression))
    thought = f"Thought: {rng.choice(TOOL_THOUGHTS)}\n"
    pieces = [task(phrase(rng, expression)), Segment(thought, taught=teaches_choice)]
    if rng.random() < ERROR_SHARE:
        pieces += _failed_call(rng, expression)
        if rng.random() < GIVE_UP_SHARE:
            guess = f"Thought: {rng.choice(GIVE_UP_THOUGHTS)}\nAnswer: {_slip(rng, result)}"
            return [*pieces, Segment(guess, taught=True, ends_turn=True)]
        pieces.append(Segment(f"Thought: {rng.choice(RETRY_THOUGHTS)}\n", taught=True))
    pieces.append(Segment(_call(expression), taught=True, ends_turn=True))
    if not teaches_choice and rng.random() < CUT_SHARE:
        return pieces
    closing = f"Thought: {CLOSING_THOUGHT}\n" if rng.random() < CLOSING_SHARE else ""
    return [
        *pieces,
        observation(result),
        Segment(f"{closing}Answer: {result}", taught=True, ends_turn=True),
    ]


def exercise(rng: random.Random, longest: int) -> list[Segment]:
    """Copy a string without sense twice, then a number. Only what is copied is taught."""
    string = _draw_string(rng, longest)
    number = str(rng.randint(-(10 ** rng.randint(1, 5)), 10 ** rng.randint(1, 7)))
    copied = [
        Segment("Input: print(", taught=False),
        Segment(f"{string})", taught=True, ends_turn=True),
    ]
    return [
        task(phrase(rng, string)),
        *copied,
        *copied,
        Segment(f"Observation: {number}\nAnswer: ", taught=False),
        Segment(number, taught=True, ends_turn=True),
    ]


def _call(expression: str) -> str:
    return f"Action: python\nInput: print({expression})"


def _failed_call(rng: random.Random, expression: str) -> list[Segment]:
    """A call and an error. Half the calls hold a slip of the pen; those are not taught."""
    slipped = rng.random() < 0.5
    written = _drop_character(rng, expression) if slipped else expression
    return [
        Segment(_call(written), taught=not slipped, ends_turn=True),
        observation(rng.choice(ERRORS)),
    ]


def _draw_expression(rng: random.Random) -> tuple[float, str]:
    """A difficulty and an expression of it that is not held out."""
    while True:
        difficulty = round(rng.random(), 2)
        expression = sample_expression(rng, difficulty)
        if not is_held_out(expression):
            return difficulty, expression


def _draw_string(rng: random.Random, longest: int) -> str:
    """Digits and signs without sense; it does not parse, or is not held out."""
    while True:
        string = "".join(rng.choices(_STRING_ALPHABET, k=rng.randint(_SHORTEST_STRING, longest)))
        if not any(map(_parses_as_held_out, (string, f"{string})"))):  # the call's bracket may close it
            return string


def _parses_as_held_out(string: str) -> bool:
    try:
        return is_held_out(string)
    except ValueError:
        return False


def _drop_character(rng: random.Random, expression: str) -> str:
    while True:
        at = rng.randrange(len(expression))
        shorter = expression[:at] + expression[at + 1 :]
        if not _parses_as_held_out(shorter):
            return shorter


def _head_answer(rng: random.Random, expression: str, difficulty: float) -> str:
    right = str(evaluate(expression))
    return right if rng.random() < HEAD_IS_RIGHT * (1.0 - difficulty) else _slip(rng, right)


def _slip(rng: random.Random, number: str) -> str:
    """The number with one digit replaced by another."""
    places = [place for place, character in enumerate(number) if character.isdigit()]
    place = rng.choice(places)
    digit = rng.choice([digit for digit in "123456789" if digit != number[place]])
    return number[:place] + digit + number[place + 1 :]
