"""What the `math` domain is made of."""

from pathlib import Path
from typing import Final

from ..base import Domain
from .judge import MathJudge
from .teacher import MathTeacher

DOMAIN: Final = Domain(
    name="math",
    about="mathematics; answers are compared exactly, numerically, as quantities and by computer algebra",
    folder=Path(__file__).parent / "prompts",
    make_teacher=MathTeacher,
    make_judge=MathJudge,
)
