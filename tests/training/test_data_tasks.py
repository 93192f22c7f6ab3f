"""Errands in the data plane: written, read back, and never trained on where they are held out."""

import hashlib
import random
from pathlib import Path

import pytest

from agentfactory.configs.data import LIBRARY
from agentfactory.configs.errors import BadInput
from agentfactory.messages.tasks import ExpectedBlob
from agentfactory.training.tasks.data_tasks import (
    KINDS,
    answer_of,
    format_data_task,
    goal_of,
    held_out_data_tasks,
    is_held_out,
    parse_data_task,
    sample_data_task,
)
from agentfactory.training.tasks.documents import Library, read_library
from scripts.seed_model import data_corpus
from scripts.seed_model.corpus import CorpusGenerator, Segment, examples
from scripts.seed_model.corpus import CurriculumStage as DrillStage
from scripts.seed_model.mixture import WRITERS, CorpusName

GUIDE = "Load the folder samples as docs, then fetch setup_guide.md."


@pytest.fixture(scope="module")
def library() -> Library:
    return read_library(LIBRARY)


def folder_with(root: Path, **files: bytes) -> Path:
    (root / "papers").mkdir(parents=True)
    for name, data in files.items():
        (root / "papers" / name).write_bytes(data)
    return root


def test_what_is_written_is_read_back(library: Library) -> None:
    rng = random.Random(3)
    kinds = set()
    for _ in range(400):
        errand = sample_data_task(rng, library, rng.random())
        kinds.add(errand.kind)
        assert parse_data_task(format_data_task(rng, errand), library) == errand
    assert kinds == set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Load the folder samples.",
        "Load the folder nowhere as docs, then fetch setup_guide.md.",
        "Load the folder samples as docs, then fetch bread.md.",
        "Load the folder samples as docs and the folder lab as docs, then fetch ph.txt of docs.",
        "Load the folder samples as docs and the folder lab as x, then fetch ph.txt of y.",
        "Load the folder samples as docs and the folder lab as x, then fetch ph.txt of docs.",
        "Load the file samples/../lab/ph.txt as docs, then fetch it.",
        f"{GUIDE} And more.",
    ],
)
def test_what_cannot_be_run_is_no_errand(library: Library, text: str) -> None:
    assert parse_data_task(text, library) is None


def test_the_goal_is_every_file_of_what_was_loaded(library: Library) -> None:
    text = "Load the folder samples as a and the folder lab as b, then fetch ph.txt of b."
    errand = parse_data_task(text, library)
    assert errand is not None
    goal = goal_of(errand, library)
    files = [
        (tag, file) for tag, name in (("a", "samples"), ("b", "lab")) for file in (LIBRARY / name).iterdir()
    ]
    assert set(goal.blobs) == {
        ExpectedBlob(tag=tag, name=file.name, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        for tag, file in files
    }
    assert answer_of(errand, library) == "pH 7.2"
    count = parse_data_task("Load the folder samples as a, then count its files.", library)
    assert count is not None
    assert answer_of(count, library) == "4"


def test_a_file_alone_is_a_goal_of_one_blob(library: Library) -> None:
    errand = parse_data_task("Store the file lab/ph.txt as b, then read it.", library)
    assert errand is not None
    assert [(blob.tag, blob.name) for blob in goal_of(errand, library).blobs] == [("b", "ph.txt")]


def test_the_evaluation_set_is_fixed_distinct_and_held_out(library: Library) -> None:
    tasks = held_out_data_tasks(library, 240, seed=2026)
    assert tasks == held_out_data_tasks(library, 240, seed=2026)
    assert len({task.errand for task in tasks}) == 240
    assert all(task.errand.is_held_out for task in tasks)


def test_training_never_asks_for_what_is_held_out(library: Library) -> None:
    rng = random.Random(0)
    for _ in range(500):
        assert not is_held_out(*sample_data_task(rng, library, rng.random()).asked)


def test_a_library_that_is_too_small_says_so(tmp_path: Path) -> None:
    small = read_library(folder_with(tmp_path / "one", a=b"A."))
    with pytest.raises(BadInput, match="the library is too small"):
        held_out_data_tasks(small, 500, seed=0)
    with pytest.raises(BadInput, match="no folder with small files"):
        read_library(tmp_path / "one" / "papers")


def test_a_file_without_a_line_to_quote_is_stored_and_never_asked_for(tmp_path: Path) -> None:
    found = read_library(folder_with(tmp_path, a=b"A.\nB.", b=b"\xff\xfe", c=b"", d=b"x" * 500))
    assert {name: document.quote for name, document in found["papers"].items()} == {
        "a": "A.",
        "b": "",
        "c": "",
        "d": "",
    }
    assert parse_data_task("Load the folder papers as t, then fetch b.", found) is None
    errand = parse_data_task("Load the folder papers as t, then fetch a.", found)
    assert errand is not None
    assert len(goal_of(errand, found).blobs) == 4


# --- the corpus of the seed model


def draw(count: int) -> list[list[Segment]]:
    rng = random.Random(11)
    return [data_corpus.episode(rng) for _ in range(count)]


def test_no_proposal_of_the_corpus_asks_for_a_held_out_file(library: Library) -> None:
    proposals = [pieces for pieces in draw(2000) if pieces[0].text.startswith("Propose a data task")]
    assert proposals
    for _, task in proposals:
        errand = parse_data_task(task.text.removeprefix("Task: "), library)
        assert errand is not None
        assert not errand.is_held_out


def test_no_errand_of_the_corpus_asks_for_a_held_out_file_of_the_library(library: Library) -> None:
    found = [parse_data_task(pieces[0].text.removeprefix("Task: "), library) for pieces in draw(2000)]
    known = [errand for errand in found if errand is not None and errand.asked[1]]
    assert len(known) > 200
    assert not any(errand.is_held_out for errand in known)


def test_a_taught_answer_is_in_an_observation_or_made_up_at_once() -> None:
    for pieces in draw(500):
        if pieces[-1].text.startswith("Answer: "):
            seen = [piece.text for piece in pieces if piece.text.startswith("Observation: ")]
            assert pieces[-1].text.removeprefix("Answer: ") in seen[-1]
            assert not any(piece.taught for piece in pieces if piece.text.startswith("Observation: "))


def test_a_call_that_is_taught_copies_from_the_task() -> None:
    for pieces in draw(500):
        for piece in pieces:
            if piece.taught and "\nInput: " in piece.text:
                words = piece.text.partition("\nInput: ")[2].replace("folder::", "").replace("file::", "")
                for word in words.replace(" as ", "/").split("/"):
                    assert word in pieces[0].text


@pytest.mark.parametrize("corpus", sorted(WRITERS))
def test_the_same_seed_writes_the_same_corpus(corpus: CorpusName) -> None:
    writer: CorpusGenerator = WRITERS[corpus]
    stage = DrillStage(drill_share=0.5, longest_string=20)
    first, second = (examples(random.Random(5), stage, 30, writer) for _ in range(2))
    assert first == second
