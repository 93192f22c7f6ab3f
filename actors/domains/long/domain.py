"""What the `long` domain is made of."""

from pathlib import Path
from typing import Final

from ..base import Domain
from .judge import LongJudge
from .teacher import LongTeacher

DOMAIN: Final = Domain(
    name="long",
    about="chains of subtasks over many turns; judged by the milestones that turn up, in their order",
    folder=Path(__file__).parent / "prompts",
    make_teacher=LongTeacher,
    make_judge=LongJudge,
)
