"""Difficulty follows success."""

from agentfactory.actors.coordinator.curriculum import Curriculum
from agentfactory.configs.roles import CurriculumSettings


def curriculum(**changes: object) -> Curriculum:
    return Curriculum(CurriculumSettings.model_validate({"window": 4, **changes}))


def feed(subject: Curriculum, *successes: float) -> float:
    for success in successes:
        subject.observe(success)
    return subject.difficulty


def test_it_starts_at_three_tenths() -> None:
    assert curriculum().difficulty == 0.3


def test_success_above_the_band_makes_tasks_harder() -> None:
    assert feed(curriculum(), 1, 1, 1, 0) == 0.35


def test_success_below_the_band_makes_tasks_easier() -> None:
    assert feed(curriculum(), 0, 0, 0, 1) == 0.25


def test_success_within_the_band_changes_nothing() -> None:
    assert feed(curriculum(), 0.6, 0.6, 0.6, 0.6) == 0.3
    assert feed(curriculum(), 0.4, 0.4, 0.4, 0.4) == 0.3


def test_nothing_moves_before_the_window_is_full() -> None:
    assert feed(curriculum(), 1, 1, 1) == 0.3


def test_each_move_is_judged_by_tasks_of_its_own() -> None:
    subject = curriculum()
    assert feed(subject, 1, 1, 1, 1) == 0.35
    assert feed(subject, 1, 1, 1) == 0.35
    assert feed(subject, 1) == 0.4


def test_difficulty_stays_between_nothing_and_all() -> None:
    assert feed(curriculum(start_difficulty=1.0), 1, 1, 1, 1) == 1.0
    assert feed(curriculum(start_difficulty=0.0), 0, 0, 0, 0) == 0.0


def test_domains_take_turns() -> None:
    subject = curriculum(domains=("math", "logic"))
    assert [subject.next_domain() for _ in range(3)] == ["math", "logic", "math"]
