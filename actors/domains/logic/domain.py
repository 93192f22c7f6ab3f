"""What the `logic` domain is made of."""

from pathlib import Path
from typing import Final

from ..base import Domain
from .judge import LogicJudge
from .teacher import LogicTeacher

DOMAIN: Final = Domain(
    name="logic",
    about="propositional logic; values, tables, entailment and derivations are judged by a solver",
    folder=Path(__file__).parent / "prompts",
    make_teacher=LogicTeacher,
    make_judge=LogicJudge,
)
