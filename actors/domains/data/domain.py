"""What the `data` domain is made of."""

from pathlib import Path
from typing import Final

from ..base import Domain
from .judge import DataJudge
from .teacher import DataTeacher

DOMAIN: Final = Domain(
    name="data",
    about="errands in the data plane; judged by the answer and by what the store holds in the end",
    folder=Path(__file__).parent / "prompts",
    make_teacher=DataTeacher,
    make_judge=DataJudge.of,
)
