"""Grading that needs no process: exact arithmetic, text, and votes."""

import random

import pytest

from agentfactory.actors.domains.grading import Grade, canonical, clean, grade_exact, majority
from agentfactory.actors.domains.number_parser import read_number

TOLERANCE = 1e-6


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("408", "408"), ("408", " 408. "), ("408", "$408$"), ("408", "\\boxed{408}"), ("408", "+408"),
        ("1/2", "0.5"), ("0.5", "1/2"), ("1/2", "2/4"), ("1/2", "\\frac{1}{2}"), ("1/2", "\\dfrac12"),
        ("-1/2", "-\\frac{1}{2}"), ("1234", "1,234"), ("1234567", "1,234,567"), ("1000", "1e3"),
        ("3/2", "1 1/2"), ("-3/2", "-1\\frac{1}{2}"), ("5", "5.0"), (".5", "0.5"), ("-5", "−5"),
        ("1/3", "0.3333333"), ("0.3", "0.30000000000000004"), ("2", "1.9999999999"), ("0", "-0"),
        ("yes", "Yes"), ("x + 1", "x +  1"), ("10th", "10th"), ("5 cm", "5 cm"), ("7", "**7**"),
        ("1" * 150, "1" * 150),
    ],
)  # fmt: skip
def test_equal_numbers_and_equal_texts_are_right(reference: str, answer: str) -> None:
    grade = grade_exact(reference, answer, TOLERANCE)
    assert grade is not None
    assert grade.correct, grade
    assert grade.score == 1.0


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("408", "409"), ("408", "4080"), ("408", "-408"), ("1000000", "1000000.9"), ("1000000", "1000001"),
        ("1/3", "333333/1000000"), ("1/3", "0.333"), ("0.0000001", "0.0000002"), ("3/2", "11/2"),
        ("yes", "no"), ("yes", "sey"), ("no", "on"), ("408", ""), ("408", "$$"), ("408", "none"),
        ("0", "false"), ("1", "True"), ("pi", "yes"),
    ],
)  # fmt: skip
def test_other_numbers_and_words_are_wrong(reference: str, answer: str) -> None:
    grade = grade_exact(reference, answer, TOLERANCE)
    assert grade is not None
    assert not grade.correct
    assert grade.score == 0.0


@pytest.mark.parametrize(
    "text",
    ["10th", "5 cm", "1,23", "12,34", "50%", "1/0", "1//2", "", "--5", "1e9999", "1e-9999", "0x10", "1_000",
     "٣", "1.2.3", "9" * 300, "1 2", "nan", "inf", "1/2/3", "\\frac{1}{0}"],
)  # fmt: skip
def test_what_is_not_one_number_is_not_read_as_one(text: str) -> None:
    assert read_number(text) is None


def test_how_it_was_found_is_told() -> None:
    assert grade_exact("1/2", "0.5", TOLERANCE) == Grade(True, 1.0, "the same number", "exact")
    assert grade_exact("1/3", "0.3333333", TOLERANCE) == Grade(
        True, 1.0, "the same number within 1e-06", "numeric"
    )
    assert grade_exact("3", "4", TOLERANCE) == Grade(False, 0.0, "expected 3, got 4", "exact")


def test_what_takes_algebra_is_left_open() -> None:
    assert grade_exact("x^2", "x*x", TOLERANCE) is None
    assert grade_exact("10", "10th", TOLERANCE) is None


def test_any_rubbish_gets_a_grade_or_is_left_open() -> None:
    rng = random.Random(5)
    pieces = ["\\frac", "\\boxed{", "\\text{", "x", "²", "\x00", *"1/,.${}e- "]
    for _ in range(5000):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 30)))
        grade_exact("1/2", text, TOLERANCE)
        canonical(text)
        assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["1/2", "0.5", "3", None], ("1/2", 0.5)),
        (["3", "4", "4"], ("4", 2 / 3)),
        (["3", "4"], ("3", 0.5)),
        ([None, None, None, "7"], ("7", 0.25)),
        ([None, None], (None, 0.0)),
        (["", "$$", "1"], ("1", 1 / 3)),
        (["Yes", "yes ", "no"], ("Yes", 2 / 3)),
        (["None", None, None], ("None", 1 / 3)),
        ([], (None, 0.0)),
    ],
)
def test_the_majority_is_counted_by_meaning_over_all_answers(
    answers: list[str | None], expected: tuple[str | None, float]
) -> None:
    assert majority(answers) == expected
