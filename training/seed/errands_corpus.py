"""Data episodes: errands in the data plane, run or guessed, and drills (`training.seed.corpus`).

The model loads what it is told to, fetches, and reads the answer off; or it makes an answer up at once,
which is wrong. All texts and most names are made up, so that all it can learn is to copy; the other names,
and its proposals as a Teacher, are from the library that ships with the project.

Invariant: no piece asks for a file of the library that is held out. (A folder that happens to be named like
one of the library is counted with a number that is made up.)
"""

from __future__ import annotations

import random
import string
from typing import Final, NamedTuple

from ...configs.data import LIBRARY
from ..tasks.errands import DIFFICULTY, TAGS, Errand, Load, draw_errand, write_errand
from ..tasks.library import Library, read_library
from .corpus import CUT_SHARE, SURPLUS_SHARE, Piece, observation, proposal, task

PROPOSAL_SHARE: Final = 0.3
"""Share of episodes in which the model is the Teacher."""
TOOL_CHOICE: Final = 0.33
"""How often the pretrained model sets out to do the errand."""
ERROR_SHARE: Final = 0.06
"""Share of errands in which the model fetches before it has loaded, and is told so."""
KINDS_TAUGHT: Final = {"count": 2, "file": 4, "folder": 4}
"""How often each kind of errand is met. Two folders at once are too long for so small a model."""
LIBRARY_SHARE: Final = 0.5
"""Share of errands about names from the library; all others are about made-up ones."""
HARDEST_PROPOSAL: Final = 0.75

DOING_THOUGHTS: Final = ("Load it.", "Load it first.", "Use the store.")
GUESSING_THOUGHTS: Final = ("I know this.", "Easy.", "Let me guess.")

_EXTENSIONS: Final = (".md", ".txt", ".txt", ".md", ".csv", ".rst", "")
_SYLLABLES: Final = tuple(a + b for a in "bcdfghjklmnprstvwyz" for b in "aeiouy")
_FOLDERS: Final = (
    "samples", "recipes", "garden", "travel", "music", "workshop", "office", "school", "boats", "lab",
    "bikes", "sky", "papers", "plans", "photos", "letters", "maps", "tools",
)  # fmt: skip
_WORDS: Final = (
    "guide", "setup", "list", "plan", "read", "me", "old", "new", "part", "one", "two", "log", "map", "key",
    "day", "red", "sun", "oil", "tea", "cut", "ask", "add", "at", "in", "of", "the", "to", "is", "low",
    "high",
)  # fmt: skip
_LIBRARY: list[Library] = []


class _Text(NamedTuple):
    """A made-up file's text."""

    line: str
    rest: str


def episode(rng: random.Random) -> list[Piece]:
    """Draw one episode of any kind but a drill."""
    kind = rng.random()
    if kind < PROPOSAL_SHARE:
        difficulty = round(rng.random(), 2)
        errand = draw_errand(rng, _shipped(), min(difficulty, HARDEST_PROPOSAL))
        return proposal("data", difficulty, write_errand(rng, errand))
    if kind < PROPOSAL_SHARE + SURPLUS_SHARE:
        return errand_episode(rng, teaches_choice=False)
    if rng.random() < TOOL_CHOICE:
        return errand_episode(rng, teaches_choice=True)
    return guess_episode(rng)


def guess_episode(rng: random.Random) -> list[Piece]:
    """The Student makes an answer up."""
    errand = _draw(rng)
    answer = _line(rng) if errand.asked[1] else str(rng.randint(1, 6))
    reply = f"Thought: {rng.choice(GUESSING_THOUGHTS)}\nAnswer: {answer}"
    return [task(write_errand(rng, errand)), Piece(reply, taught=True, ends_turn=True)]


def errand_episode(rng: random.Random, teaches_choice: bool) -> list[Piece]:
    """The Student does what it is told, step by step, and reads the answer off."""
    errand, text = _draw(rng), _text(rng)
    thought = Piece(f"Thought: {rng.choice(DOING_THOUGHTS)}\n", taught=teaches_choice)
    steps = [(_load_call(load), _stored(rng, load)) for load in errand.loads]
    answer = text.line
    if errand.asked[1]:
        steps.append((f"Action: retrieve\nInput: {errand.tag}/{errand.asked[1]}", text.line + text.rest))
    else:
        answer = steps[0][1].split()[1]
    pieces = [task(write_errand(rng, errand)), thought]
    if errand.asked[1] and rng.random() < ERROR_SHARE:
        complaint = f"Error: there is no blob {errand.asked[1]!r} under {errand.tag!r}"
        pieces += [Piece(steps[-1][0], taught=False, ends_turn=True), observation(complaint)]
    last = rng.randrange(len(steps)) if not teaches_choice and rng.random() < CUT_SHARE else len(steps)
    for place, (call, seen) in enumerate(steps):
        pieces.append(Piece(call, taught=True, ends_turn=True))
        if place == last:
            return pieces
        pieces.append(observation(seen))
    return [*pieces, Piece(f"Answer: {answer}", taught=True, ends_turn=True)]


def drill(rng: random.Random, longest: int) -> list[Piece]:
    """Copy three strings without sense, again and again; the letter that tells them apart is shown."""
    first = rng.sample(string.ascii_lowercase, 3)
    strings = [
        start + "".join(rng.choices(_ALPHABET, k=rng.randint(2, max(3, longest // 2)))) for start in first
    ]
    pieces = [Piece(f"Task: {' '.join(strings)}\n", taught=False)]
    for text in rng.choices(strings, k=4):
        pieces += [Piece(f"Input: {text[0]}", taught=False), Piece(text[1:], taught=True, ends_turn=True)]
    line = f"{rng.choice(strings)} {_line(rng)}"
    return [
        *pieces,
        Piece(f"Observation: {line}\nAnswer: ", taught=False),
        Piece(line, taught=True, ends_turn=True),
    ]


_ALPHABET: Final = string.ascii_lowercase * 2 + string.digits + "_-."


def _shipped() -> Library:
    if not _LIBRARY:
        _LIBRARY.append(read_library(LIBRARY))
    return _LIBRARY[0]


def _load_call(load: Load) -> str:
    source = f"file::{load.folder}/{load.file}" if load.file else f"folder::{load.folder}"
    return f"Action: assimilate\nInput: {source} as {load.tag}"


def _stored(rng: random.Random, load: Load) -> str:
    count = 1 if load.file else rng.randint(1, 6)
    plural = "" if count == 1 else "s"
    return f"stored {count} blob{plural} ({count * rng.randint(6, 40)} bytes) under {load.tag!r}"


def _draw(rng: random.Random) -> Errand:
    """An errand about files that do not exist, or about the library's, whose texts are made up too."""
    kind = rng.choices(list(KINDS_TAUGHT), list(KINDS_TAUGHT.values()))[0]
    if rng.random() < LIBRARY_SHARE:
        return draw_errand(rng, _shipped(), DIFFICULTY[kind])
    folder, tag = _name(rng, _FOLDERS), _name(rng, TAGS)
    file = "" if kind == "count" else _file(rng)
    if kind == "file":
        return Errand("file", (Load(tag, folder, file),), (folder, file), tag)
    return Errand("folder" if file else "count", (Load(tag, folder),), (folder, file), tag)


def _name(rng: random.Random, known: tuple[str, ...]) -> str:
    """A name, half of the time one of the known ones."""
    return rng.choice(known) if rng.random() < 0.5 else _word(rng)


def _word(rng: random.Random) -> str:
    if rng.random() < 0.4:
        return rng.choice(_WORDS)
    if rng.random() < 0.2:
        return "".join(rng.choices(string.ascii_lowercase + string.digits, k=rng.randint(2, 6)))
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) + rng.choice(("", "", "s", "n", "r"))


def _file(rng: random.Random) -> str:
    words = [_word(rng) for _ in range(rng.choice((1, 1, 2)))]
    return rng.choice("__-").join(words) + rng.choice(_EXTENSIONS)


def _line(rng: random.Random) -> str:
    """A short line, such as `Gate b7 at 61.`"""
    words = [
        str(rng.randint(1, 4000)) if rng.random() < 0.25 else _word(rng) for _ in range(rng.randint(1, 3))
    ]
    words[0] = words[0][:1].upper() + words[0][1:]
    if rng.random() < 0.15:
        words[-1] = words[-1].upper()
    return " ".join(words) + rng.choice((".", ".", "", "!"))


def _text(rng: random.Random) -> _Text:
    return _Text(_line(rng), f"\n{_line(rng)}" if rng.random() < 0.25 else "")
