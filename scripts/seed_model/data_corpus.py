"""Data episodes: errands in the data plane, run or guessed, and drills (`scripts.seed_model.corpus`).

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

from agentfactory.configs.data import LIBRARY
from agentfactory.training.tasks.data_tasks import (
    DIFFICULTY,
    TAGS,
    DataTask,
    FolderLoad,
    format_data_task,
    sample_data_task,
)
from agentfactory.training.tasks.documents import Library, read_library
from scripts.seed_model.corpus import CUT_SHARE, SURPLUS_SHARE, Segment, observation, proposal, task

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


def episode(rng: random.Random) -> list[Segment]:
    """Draw one episode of any kind but a drill."""
    kind = rng.random()
    if kind < PROPOSAL_SHARE:
        difficulty = round(rng.random(), 2)
        errand = sample_data_task(rng, _shipped(), min(difficulty, HARDEST_PROPOSAL))
        return proposal("data", difficulty, format_data_task(rng, errand))
    if kind < PROPOSAL_SHARE + SURPLUS_SHARE:
        return task_episode(rng, teaches_choice=False)
    if rng.random() < TOOL_CHOICE:
        return task_episode(rng, teaches_choice=True)
    return guess_episode(rng)


def guess_episode(rng: random.Random) -> list[Segment]:
    """The Student makes an answer up."""
    errand = _draw(rng)
    answer = _line(rng) if errand.asked[1] else str(rng.randint(1, 6))
    reply = f"Thought: {rng.choice(GUESSING_THOUGHTS)}\nAnswer: {answer}"
    return [task(format_data_task(rng, errand)), Segment(reply, taught=True, ends_turn=True)]


def task_episode(rng: random.Random, teaches_choice: bool) -> list[Segment]:
    """The Student does what it is told, step by step, and reads the answer off."""
    errand, text = _draw(rng), _text(rng)
    thought = Segment(f"Thought: {rng.choice(DOING_THOUGHTS)}\n", taught=teaches_choice)
    steps = [(_load_call(load), _stored(rng, load)) for load in errand.loads]
    answer = text.line
    if errand.asked[1]:
        steps.append((f"Action: retrieve\nInput: {errand.tag}/{errand.asked[1]}", text.line + text.rest))
    else:
        answer = steps[0][1].split()[1]
    pieces = [task(format_data_task(rng, errand)), thought]
    if errand.asked[1] and rng.random() < ERROR_SHARE:
        complaint = f"Error: there is no blob {errand.asked[1]!r} under {errand.tag!r}"
        pieces += [Segment(steps[-1][0], taught=False, ends_turn=True), observation(complaint)]
    last = rng.randrange(len(steps)) if not teaches_choice and rng.random() < CUT_SHARE else len(steps)
    for place, (call, seen) in enumerate(steps):
        pieces.append(Segment(call, taught=True, ends_turn=True))
        if place == last:
            return pieces
        pieces.append(observation(seen))
    return [*pieces, Segment(f"Answer: {answer}", taught=True, ends_turn=True)]


def exercise(rng: random.Random, longest: int) -> list[Segment]:
    """Copy three strings without sense, again and again; the letter that tells them apart is shown."""
    first = rng.sample(string.ascii_lowercase, 3)
    strings = [
        start + "".join(rng.choices(_ALPHABET, k=rng.randint(2, max(3, longest // 2)))) for start in first
    ]
    pieces = [Segment(f"Task: {' '.join(strings)}\n", taught=False)]
    for text in rng.choices(strings, k=4):
        pieces += [Segment(f"Input: {text[0]}", taught=False), Segment(text[1:], taught=True, ends_turn=True)]
    line = f"{rng.choice(strings)} {_line(rng)}"
    return [
        *pieces,
        Segment(f"Observation: {line}\nAnswer: ", taught=False),
        Segment(line, taught=True, ends_turn=True),
    ]


_ALPHABET: Final = string.ascii_lowercase * 2 + string.digits + "_-."


def _shipped() -> Library:
    if not _LIBRARY:
        _LIBRARY.append(read_library(LIBRARY))
    return _LIBRARY[0]


def _load_call(load: FolderLoad) -> str:
    source = f"file::{load.folder}/{load.file}" if load.file else f"folder::{load.folder}"
    return f"Action: assimilate\nInput: {source} as {load.tag}"


def _stored(rng: random.Random, load: FolderLoad) -> str:
    count = 1 if load.file else rng.randint(1, 6)
    plural = "" if count == 1 else "s"
    return f"stored {count} blob{plural} ({count * rng.randint(6, 40)} bytes) under {load.tag!r}"


def _draw(rng: random.Random) -> DataTask:
    """An errand about files that do not exist, or about the library's, whose texts are made up too."""
    kind = rng.choices(list(KINDS_TAUGHT), list(KINDS_TAUGHT.values()))[0]
    if rng.random() < LIBRARY_SHARE:
        return sample_data_task(rng, _shipped(), DIFFICULTY[kind])
    folder, tag = _name(rng, _FOLDERS), _name(rng, TAGS)
    file = "" if kind == "count" else _file(rng)
    if kind == "file":
        return DataTask("file", (FolderLoad(tag, folder, file),), (folder, file), tag)
    return DataTask("folder" if file else "count", (FolderLoad(tag, folder),), (folder, file), tag)


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
