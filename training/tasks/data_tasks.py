"""Errands in the data plane: write them, read them back, value them, and keep an evaluation set apart.

    Load the folder samples as docs, then fetch setup_guide.md.

There are four kinds, from easy to hard: load a folder and count its files; load a file and fetch it; load
a folder and fetch one of its files; load two folders and fetch a file of one of them. This module is the
only one that reads their wording: everyone else has the goal and the answer.

Every file (and for counting, every folder) falls on one side of a hash split: one in four is held out.
What is held out is asked for in evaluation and nowhere else.
"""

import random
import re
from typing import Final, Literal, NamedTuple

from ...configs.errors import BadInput
from ...messages.tasks import ExpectedBlob, StoreSpec
from .documents import Library
from .held_out_split import stable_hash

HELD_OUT_ONE_IN: Final = 4
HELD_OUT_SPREAD: Final = (0.0, 0.75)
"""Lowest and highest difficulty of the evaluation set; two folders at once are left to training."""
TAGS: Final = (
    "docs", "notes", "kb", "data", "store", "work", "main", "alpha", "beta", "gamma", "north", "south",
    "red", "blue", "green", "box", "bag", "base", "core", "pile", "rack", "tray", "vault", "yard",
)  # fmt: skip
"""Tags that written tasks use; those that are read may be any words."""
KINDS: Final = ("count", "file", "folder", "both")
_HARDEST: Final = {"count": 0.2, "file": 0.45, "folder": 0.75, "both": 1.0}
"""Where on the scale of difficulty each kind ends."""
DIFFICULTY: Final = {"count": 0.1, "file": 0.3, "folder": 0.6, "both": 0.9}
"""Where on the scale each kind lies."""
_LOAD: Final = ("Load", "Store")
_FETCH: Final = ("fetch", "read")
_ATTEMPTS: Final = 10_000
_ATTEMPTS_BEFORE_HARDER: Final = 200

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_TAG: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}"
_PATH: Final = rf"{_NAME}(?:/{_NAME}){{0,7}}"
_COUNT: Final = re.compile(rf"(?:Load|Store) the folder ({_NAME}) as ({_TAG}), then count its files\.")
_FILE: Final = re.compile(
    rf"(?:Load|Store) the file ({_NAME})/({_PATH}) as ({_TAG}), then (?:fetch|read) it\."
)
_FOLDER: Final = re.compile(
    rf"(?:Load|Store) the folder ({_NAME}) as ({_TAG}), then (?:fetch|read) ({_PATH})\."
)
_BOTH: Final = re.compile(
    rf"(?:Load|Store) the folder ({_NAME}) as ({_TAG}) and the folder ({_NAME}) as ({_TAG}), "
    rf"then (?:fetch|read) ({_PATH}) of ({_TAG})\."
)

Kind = Literal["count", "file", "folder", "both"]


class FolderLoad(NamedTuple):
    """What is to be stored where."""

    tag: str
    folder: str
    file: str = ""
    """Empty for the whole folder."""


class DataTask(NamedTuple):
    """One task, taken apart."""

    kind: Kind
    loads: tuple[FolderLoad, ...]
    asked: tuple[str, str]
    """Folder and file whose first line is the answer; with no file, the number of the folder's files is."""
    tag: str
    """Where the answer is to be found."""

    @property
    def difficulty(self) -> float:
        """Where it lies on the scale, in [0, 1]."""
        return DIFFICULTY[self.kind]

    @property
    def is_held_out(self) -> bool:
        """Whether it belongs to the evaluation set."""
        return is_held_out(*self.asked)


class HeldOutDataTask(NamedTuple):
    """One task of the fixed evaluation set."""

    text: str
    errand: DataTask
    difficulty: float
    """What was asked for, in [0, 1]."""


def parse_data_task(text: str, library: Library) -> DataTask | None:
    """The errand that a text tells of; None unless it can be run with this library."""
    errand = _read(text.strip())
    if errand is None or len({load.tag for load in errand.loads}) < len(errand.loads):
        return None
    folder, file = errand.asked
    if any(load.folder not in library for load in errand.loads):
        return None
    known = not file or (file in library[folder] and library[folder][file].quote)
    return errand if known else None


def goal_of(errand: DataTask, library: Library) -> StoreSpec:
    """What the store must hold in the end."""
    return StoreSpec(
        blobs=tuple(
            ExpectedBlob(tag=load.tag, name=name, sha256=document.sha256)
            for load in errand.loads
            for name, document in sorted(library[load.folder].items())
            if load.file in ("", name)
        )
    )


def answer_of(errand: DataTask, library: Library) -> str:
    """The first line of the file that is asked for, or how many files there are."""
    folder, file = errand.asked
    return library[folder][file].quote if file else str(len(library[folder]))


def is_held_out(folder: str, file: str) -> bool:
    """Whether tasks that ask for this file (or, without one, count this folder) are for evaluation only."""
    return stable_hash(f"{folder}/{file}") % HELD_OUT_ONE_IN == 0


def sample_data_task(
    rng: random.Random, library: Library, difficulty: float, held_out: bool = False
) -> DataTask:
    """An errand of about this difficulty, on one side of the split. Raises BadInput if there is none."""
    wanted = next(kind for kind in KINDS if difficulty <= _HARDEST[kind])
    for _ in range(_ATTEMPTS):
        errand = _draw(rng, library, wanted)
        if errand is not None and errand.is_held_out == held_out:
            return errand
    raise BadInput(f"the library is too small: no errand of difficulty {difficulty:.2f} was found in it")


def format_data_task(rng: random.Random, errand: DataTask) -> str:
    """The errand in words."""
    load, fetch = rng.choice(_LOAD), rng.choice(_FETCH)
    first, file = errand.loads[0], errand.asked[1]
    match errand.kind:
        case "count":
            return f"{load} the folder {first.folder} as {first.tag}, then count its files."
        case "file":
            return f"{load} the file {first.folder}/{first.file} as {first.tag}, then {fetch} it."
        case "folder":
            return f"{load} the folder {first.folder} as {first.tag}, then {fetch} {file}."
        case "both":
            second = errand.loads[1]
            return (
                f"{load} the folder {first.folder} as {first.tag} and the folder {second.folder} as "
                f"{second.tag}, then {fetch} {file} of {errand.tag}."
            )


def held_out_data_tasks(
    library: Library, count: int, seed: int, spread: tuple[float, float] = HELD_OUT_SPREAD
) -> list[HeldOutDataTask]:
    """The fixed evaluation set: held-out tasks, distinct, their difficulties even over `spread`.

    Where a difficulty has too few left, harder ones fill its place. Raises BadInput if all are used up.
    """
    rng = random.Random(seed)
    lowest, highest = spread
    seen: set[DataTask] = set()
    tasks: list[HeldOutDataTask] = []
    for index in range(count):
        asked = lowest + (highest - lowest) * (index + 0.5) / count
        errand = _draw_new(rng, library, asked, seen)
        seen.add(errand)
        tasks.append(HeldOutDataTask(format_data_task(rng, errand), errand, asked))
    return tasks


def _draw_new(rng: random.Random, library: Library, difficulty: float, seen: set[DataTask]) -> DataTask:
    while difficulty <= 1.0:
        for _ in range(_ATTEMPTS_BEFORE_HARDER):
            errand = sample_data_task(rng, library, difficulty, held_out=True)
            if errand not in seen:
                return errand
        difficulty += 0.05
    raise BadInput(f"the library is too small for {len(seen) + 1} different held-out tasks")


def _draw(rng: random.Random, library: Library, kind: str) -> DataTask | None:
    folder, other = rng.choice(list(library)), rng.choice(list(library))
    tag, second = rng.sample(TAGS, 2)
    file = rng.choice(list(library[folder]))
    if kind == "count":
        return DataTask("count", (FolderLoad(tag, folder),), (folder, ""), tag)
    if not library[folder][file].quote or folder == other:
        return None
    if kind == "file":
        return DataTask("file", (FolderLoad(tag, folder, file),), (folder, file), tag)
    if kind == "folder":
        return DataTask("folder", (FolderLoad(tag, folder),), (folder, file), tag)
    loads = [FolderLoad(tag, folder), FolderLoad(second, other)]
    rng.shuffle(loads)
    return DataTask("both", tuple(loads), (folder, file), tag)


def _read(text: str) -> DataTask | None:
    if found := _COUNT.fullmatch(text):
        folder, tag = found.groups()
        return DataTask("count", (FolderLoad(tag, folder),), (folder, ""), tag)
    if found := _FILE.fullmatch(text):
        folder, file, tag = found.groups()
        return DataTask("file", (FolderLoad(tag, folder, file),), (folder, file), tag)
    if found := _FOLDER.fullmatch(text):
        folder, tag, file = found.groups()
        return DataTask("folder", (FolderLoad(tag, folder),), (folder, file), tag)
    if found := _BOTH.fullmatch(text):
        first, first_tag, second, second_tag, file, tag = found.groups()
        loads = (FolderLoad(first_tag, first), FolderLoad(second_tag, second))
        folder = next((load.folder for load in loads if load.tag == tag), "")
        return DataTask("both", loads, (folder, file), tag) if folder else None
    return None
