"""The episodes that the seed model is pretrained on, written by rule from a seed.

An episode is a chain of pieces; only taught pieces carry loss. Four kinds:

* **drills**: copy a meaningless string twice and a number once. Nothing in them can be guessed, and
  at first they are short, so that copying, the hard part of a tool call, forms within a few hundred
  steps instead of thousands;
* **proposals**: the Teacher's side, `Propose a math task of difficulty 0.30.` and a fitting task;
* **tool episodes**: a thought, python, the observation, the answer;
* **head episodes**: a thought and an answer from the head, which slips when the task is hard.

How often the model reaches for the tool is the ratio of taught tool thoughts to head thoughts.
There are more tool episodes than that ratio wants: in the surplus ones the thought is not taught,
only what follows it.

Invariant: no piece holds a held-out expression (`training.tasks.arithmetic.is_held_out`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from training.seed.tokenizer import EOS_ID, encode
from training.tasks.arithmetic import evaluate, is_held_out, phrase, sample_expression

PROPOSAL_REQUEST: Final = "Propose a math task of difficulty {:.2f}."
PROPOSAL_SHARE: Final = 0.15
"""Share of episodes in which the model is the Teacher."""
SURPLUS_SHARE: Final = 0.3
"""Share of episodes that practise the tool call without teaching how often to choose it."""
CUT_SHARE: Final = 0.5
"""Share of surplus episodes that end with the call, which leaves time for more of them."""
TOOL_CHOICE: Final = 0.28
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


class Piece(NamedTuple):
    """A stretch of text that the model either reads or is taught to write."""

    text: str
    taught: bool
    """Whether its characters carry loss."""
    ends_turn: bool = False
    """Whether `<eos>` follows, taught like the text."""


class Stage(NamedTuple):
    """Where the curriculum stands."""

    drill_share: float
    """Share of drills among the episodes."""
    longest_string: int
    """Characters of the longest string that a drill copies."""


class Example(NamedTuple):
    """One tokenized episode; both lists have the length of the episode, [T]."""

    ids: list[int]
    taught: list[bool]


class Writer(NamedTuple):
    """What writes a corpus."""

    episode: Callable[[random.Random], list[Piece]]
    """One episode of any kind but a drill."""
    drill: Callable[[random.Random, int], list[Piece]]
    """One drill, with strings of at most so many characters."""


def examples(rng: random.Random, stage: Stage, count: int, writer: Writer | None = None) -> list[Example]:
    """Draw `count` tokenized episodes, of arithmetic unless told; a state of `rng` fixes them."""
    write = writer or Writer(episode, drill)
    return [
        tokenize(
            write.drill(rng, stage.longest_string) if rng.random() < stage.drill_share else write.episode(rng)
        )
        for _ in range(count)
    ]


def tokenize(pieces: list[Piece]) -> Example:
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
    return Example(ids, taught)


def episode(rng: random.Random) -> list[Piece]:
    """Draw one episode of any kind but a drill."""
    kind = rng.random()
    if kind < PROPOSAL_SHARE:
        return proposal(rng)
    if kind < PROPOSAL_SHARE + SURPLUS_SHARE:
        return tool_episode(rng, teaches_choice=False)
    if rng.random() < TOOL_CHOICE:
        return tool_episode(rng, teaches_choice=True)
    return head_episode(rng)


def proposal(rng: random.Random) -> list[Piece]:
    """The Teacher is asked for a difficulty and answers with a fitting task."""
    difficulty, expression = _draw_expression(rng)
    request = PROPOSAL_REQUEST.format(difficulty)
    return [
        Piece(f"{request}\n", taught=False),
        Piece(f"Task: {phrase(rng, expression)}", taught=True, ends_turn=True),
    ]


def head_episode(rng: random.Random) -> list[Piece]:
    """The Student answers at once; the harder the task, the likelier a slip."""
    difficulty, expression = _draw_expression(rng)
    answer = _head_answer(rng, expression, difficulty)
    reply = f"Thought: {rng.choice(HEAD_THOUGHTS)}\nAnswer: {answer}"
    return [_task(rng, expression), Piece(reply, taught=True, ends_turn=True)]


def tool_episode(rng: random.Random, teaches_choice: bool) -> list[Piece]:
    """The Student calls python and reads the answer off; sometimes the call fails first."""
    expression = _draw_expression(rng)[1]
    result = str(evaluate(expression))
    thought = f"Thought: {rng.choice(TOOL_THOUGHTS)}\n"
    pieces = [_task(rng, expression), Piece(thought, taught=teaches_choice)]
    if rng.random() < ERROR_SHARE:
        pieces += _failed_call(rng, expression)
        if rng.random() < GIVE_UP_SHARE:
            guess = f"Thought: {rng.choice(GIVE_UP_THOUGHTS)}\nAnswer: {_slip(rng, result)}"
            return [*pieces, Piece(guess, taught=True, ends_turn=True)]
        pieces.append(Piece(f"Thought: {rng.choice(RETRY_THOUGHTS)}\n", taught=True))
    pieces.append(Piece(_call(expression), taught=True, ends_turn=True))
    if not teaches_choice and rng.random() < CUT_SHARE:
        return pieces
    closing = f"Thought: {CLOSING_THOUGHT}\n" if rng.random() < CLOSING_SHARE else ""
    return [
        *pieces,
        Piece(f"Observation: {result}\n", taught=False),
        Piece(f"{closing}Answer: {result}", taught=True, ends_turn=True),
    ]


def drill(rng: random.Random, longest: int) -> list[Piece]:
    """Copy a string without sense twice, then a number. Only what is copied is taught."""
    string = _draw_string(rng, longest)
    number = str(rng.randint(-(10 ** rng.randint(1, 5)), 10 ** rng.randint(1, 7)))
    copied = [
        Piece("Input: print(", taught=False),
        Piece(f"{string})", taught=True, ends_turn=True),
    ]
    return [
        _task(rng, string),
        *copied,
        *copied,
        Piece(f"Observation: {number}\nAnswer: ", taught=False),
        Piece(number, taught=True, ends_turn=True),
    ]


def _task(rng: random.Random, expression: str) -> Piece:
    return Piece(f"Task: {phrase(rng, expression)}\n", taught=False)


def _call(expression: str) -> str:
    return f"Action: python\nInput: print({expression})"


def _failed_call(rng: random.Random, expression: str) -> list[Piece]:
    """A call and an error. Half the calls hold a slip of the pen; those are not taught."""
    slipped = rng.random() < 0.5
    written = _drop_character(rng, expression) if slipped else expression
    return [
        Piece(_call(written), taught=not slipped, ends_turn=True),
        Piece(f"Observation: {rng.choice(ERRORS)}\n", taught=False),
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
        if not _parses_as_held_out(string):
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
