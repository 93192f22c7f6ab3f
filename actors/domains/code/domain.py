"""What the `code` domain is made of."""

from pathlib import Path
from typing import Final

from ..base import Domain
from .judge import CodeJudge
from .teacher import CodeTeacher

DOMAIN: Final = Domain(
    name="code",
    about="Python functions and programs; judged by hidden tests in the sandbox, and by how they are written",
    folder=Path(__file__).parent / "prompts",
    make_teacher=CodeTeacher,
    make_judge=CodeJudge,
)
