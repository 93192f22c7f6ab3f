"""What the seed model can do before any reinforcement learning, measured by sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from statistics import fmean
from typing import Final, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from transformers import Qwen2ForCausalLM

from agentfactory.configs.data import LIBRARY
from agentfactory.training.tasks import arithmetic, data_tasks
from agentfactory.training.tasks import truth_tables as columns
from agentfactory.training.tasks.documents import Library, read_library
from scripts.seed_model.corpus import PROPOSAL_REQUEST
from scripts.seed_model.sampling import Rollout, complete, rollout
from scripts.seed_model.simulated_tools import Call, SimulatedStore, calculate
from scripts.seed_model.tokenizer import EOS_ID, decode, encode

TASK_PREFIX: Final = "Task: "


class Question(NamedTuple):
    """One held-out task."""

    text: str
    answer: str


class StudentReport(BaseModel):
    """How the model solves a domain's held-out tasks, sampled at temperature 1; shares lie in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    episodes: int
    pass_at_1: float
    """Answers that are right; what an errand leaves in the store is not looked at."""
    tool_share: float
    """Episodes that called a tool at least once."""
    tool_accuracy: float
    """Share of those that ended with the right answer."""
    head_accuracy: float
    """Share right of the episodes that never called a tool."""
    well_formed: float


class TeacherReport(BaseModel):
    """What the model proposes when it is asked for a domain and a difficulty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposals: int
    """Proposals for each difficulty asked for."""
    well_formed: float
    """Share in which one task of the domain is found."""
    distinct: float
    """Share of distinct tasks at difficulty 0.3."""
    difficulty: dict[float, float]
    """Mean measured difficulty, by the difficulty asked for."""


class DomainEvaluation(NamedTuple):
    """How one domain is examined."""

    questions: Callable[[int], list[Question]]
    """So many held-out tasks."""
    tools: Callable[[], Call]
    """The tools of one episode."""
    measure: Callable[[str], float | None]
    """The difficulty of a proposed task; None where it is not one."""


def evaluate_student(
    model: Qwen2ForCausalLM, domain: str, tasks: int = 240, samples: int = 2, seed: int = 0
) -> StudentReport:
    """Sample `samples` episodes for each of `tasks` held-out tasks of a domain."""
    generator = torch.Generator().manual_seed(seed)
    exam = EVALUATIONS[domain]
    chosen = exam.questions(tasks)
    pairs: list[tuple[Question, Rollout]] = []
    for _ in range(samples):
        played = rollout(model, [question.text for question in chosen], generator, exam.tools)
        pairs += zip(chosen, played, strict=True)
    used = [(question, played) for question, played in pairs if played.calls]
    from_head = [(question, played) for question, played in pairs if not played.calls]
    return StudentReport(
        episodes=len(pairs),
        pass_at_1=_accuracy(pairs),
        tool_share=len(used) / len(pairs),
        tool_accuracy=_accuracy(used),
        head_accuracy=_accuracy(from_head),
        well_formed=fmean(played.well_formed for _, played in pairs),
    )


def evaluate_teacher(
    model: Qwen2ForCausalLM,
    domain: str,
    asked: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    proposals: int = 100,
    seed: int = 0,
) -> TeacherReport:
    """Sample `proposals` tasks at each difficulty in `asked`; 0.3 must be among them."""
    generator = torch.Generator().manual_seed(seed)
    found = {level: _propose(model, domain, level, proposals, generator) for level in asked}
    measured = {
        level: [value for text in texts if (value := EVALUATIONS[domain].measure(text)) is not None]
        for level, texts in found.items()
    }
    good = [text for text in found[0.3] if EVALUATIONS[domain].measure(text) is not None]
    return TeacherReport(
        proposals=proposals,
        well_formed=sum(map(len, measured.values())) / (proposals * len(asked)),
        distinct=len(set(good)) / proposals,
        difficulty={level: fmean(values) for level, values in measured.items() if values},
    )


def _propose(
    model: Qwen2ForCausalLM, domain: str, difficulty: float, count: int, generator: torch.Generator
) -> list[str]:
    """The tasks proposed; empty where the reply has no end or is no task."""
    prompt = encode(PROPOSAL_REQUEST.format(domain, difficulty) + "\n")
    texts: list[str] = []
    for ids in complete(model, [prompt] * count, generator):
        text = decode(ids)
        whole = ids[-1] == EOS_ID and text.startswith(TASK_PREFIX)
        texts.append(text.removeprefix(TASK_PREFIX) if whole else "")
    return texts


def _accuracy(pairs: Sequence[tuple[Question, Rollout]]) -> float:
    return fmean(played.answer == question.answer for question, played in pairs) if pairs else 0.0


@cache
def _library() -> Library:
    return read_library(LIBRARY)


def _sums(count: int) -> list[Question]:
    return [Question(task.text, task.answer) for task in arithmetic.held_out_tasks(count, seed=0)]


def _formulas(count: int) -> list[Question]:
    return [Question(task.text, task.answer) for task in columns.held_out_tasks(count, seed=0)]


def _errands(count: int) -> list[Question]:
    tasks = data_tasks.held_out_data_tasks(_library(), count, seed=0)
    return [Question(task.text, data_tasks.answer_of(task.errand, _library())) for task in tasks]


def _measure_sum(text: str) -> float | None:
    expression = arithmetic.find_expression(text)
    return None if expression is None else arithmetic.estimate_difficulty(expression)


def _measure_formula(text: str) -> float | None:
    formula = columns.find_formula(text)
    return None if formula is None else columns.estimate_difficulty(formula)


def _measure_errand(text: str) -> float | None:
    errand = data_tasks.parse_data_task(text, _library())
    return None if errand is None else errand.difficulty


EVALUATIONS: Final = {
    "math": DomainEvaluation(_sums, lambda: calculate, _measure_sum),
    "logic": DomainEvaluation(_formulas, lambda: calculate, _measure_formula),
    "data": DomainEvaluation(_errands, partial(SimulatedStore, LIBRARY), _measure_errand),
}
"""By domain."""
