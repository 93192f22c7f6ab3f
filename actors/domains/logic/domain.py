"""What the `logic` domain is made of."""

from pathlib import Path
from typing import Final

from actors.domains.base import Domain
from actors.domains.logic.judge import LogicJudge
from actors.domains.logic.teacher import LogicTeacher

DOMAIN: Final = Domain(
    name="logic",
    about="propositional logic; values, tables, entailment and derivations are judged by a solver",
    folder=Path(__file__).parent / "prompts",
    make_teacher=LogicTeacher,
    make_judge=LogicJudge,
)
